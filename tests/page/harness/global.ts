/** One stack for the whole run, where there is a browser to look at it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type {} from "vitest";
import type { TestProject } from "vitest/node";

import { findChromium } from "./chromium.js";
import { drawPictures } from "./pictures.js";
import { askBoth } from "./prepared.js";
import type { AskedBefore } from "./prepared.js";
import { startStack } from "./stack.js";
import type { Facts } from "./stack.js";

export interface Run {
  readonly facts: Facts;
  readonly pictures: string;
  readonly asked: AskedBefore;
}

declare module "vitest" {
  interface ProvidedContext {
    run: Run | null;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (findChromium() === null) {
    project.provide("run", null);
    return () => Promise.resolve();
  }
  const pictures = mkdtempSync(join(tmpdir(), "sibyl-pictures-"));
  const [stack] = await Promise.all([startStack(), drawPictures(pictures)]);
  try {
    project.provide("run", { facts: stack.facts, pictures, asked: await askBoth(stack.facts, pictures) });
  } catch (error) {
    await stack.stop();
    throw error;
  }
  return async () => {
    rmSync(pictures, { recursive: true });
    await stack.stop();
  };
}
