import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** The browser: what CHROMIUM names, else the first of the usual names on the PATH; null where there is none. */
export function findChromium(): string | null {
  const named = process.env["CHROMIUM"];
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const candidates =
    named !== undefined && named !== ""
      ? [named]
      : ["chromium", "chromium-browser"].flatMap((name) => folders.map((folder) => join(folder, name)));
  return candidates.find(executable) ?? null;
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
