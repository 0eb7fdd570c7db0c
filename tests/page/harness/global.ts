/** One stack for the whole run, where there is a browser to look at it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type {} from "vitest";
import type { TestProject } from "vitest/node";

import { findChromium } from "./chromium.js";
import { drawPictures } from "./pictures.js";
import { startStack } from "./stack.js";
import type { Facts } from "./stack.js";

declare module "vitest" {
  interface ProvidedContext {
    facts: Facts | null;
    pictures: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const pictures = mkdtempSync(join(tmpdir(), "sibyl-pictures-"));
  project.provide("pictures", pictures);
  if (findChromium() === null) {
    project.provide("facts", null);
    return () => Promise.resolve(rmSync(pictures, { recursive: true }));
  }
  const [stack] = await Promise.all([startStack(), drawPictures(pictures)]);
  project.provide("facts", stack.facts);
  return async () => {
    rmSync(pictures, { recursive: true });
    await stack.stop();
  };
}
