/** The test wallet as an unpacked extension. */
import { cpSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { build } from "vite";

const SOURCE = join(import.meta.dirname, "../wallet/extension");

/** Build it; the folder to load. */
export async function buildExtension(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "sibyl-wallet-"));
  for (const name of ["worker", "bridge", "injected"]) {
    await build({
      configFile: false,
      logLevel: "error",
      root: SOURCE,
      build: {
        outDir: folder,
        emptyOutDir: false,
        minify: false,
        target: "es2022",
        lib: {
          entry: join(SOURCE, `${name}.ts`),
          formats: ["iife"],
          name: `wallet_${name}`,
          fileName: () => `${name}.js`,
        },
      },
    });
  }
  cpSync(join(SOURCE, "manifest.json"), join(folder, "manifest.json"));
  return folder;
}
