import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Hex } from "viem";
import { mnemonicToAccount } from "viem/accounts";
import { toHex } from "viem";

import { picture } from "./pictures.js";
import { PROJECT, sibyl } from "./stack.js";
import type { Facts } from "./stack.js";

export interface Prepared {
  readonly id: Hex;
  readonly image: string;
  readonly result: string;
}

interface Answer {
  readonly request: Hex;
  readonly state: string;
  readonly image: string;
  readonly result: string;
}

/** Ask on the command line and wait: quicker than through the page, for tests of what comes afterwards. */
export async function askBeside(facts: Facts, path: string, model: string): Promise<Prepared> {
  const answer = (await sibyl(facts, "request", path, "--model", model, "--wait", "--timeout", "90")) as Answer;
  if (answer.state !== "fulfilled") throw new Error(`the request ended as ${answer.state}`);
  return { id: answer.request, image: answer.image, result: answer.result };
}

export interface AskedBefore {
  readonly digit: Prepared;
  readonly scene: Prepared;
}

/** One answered request of each kind, paid by the requester of the command line. */
export async function askBoth(facts: Facts, pictures: string): Promise<AskedBefore> {
  const [digit, scene] = [
    await askBeside(facts, picture(pictures, "digit-7"), "mnist-cnn"),
    await askBeside(facts, picture(pictures, "scene"), "mask-rcnn-shapes"),
  ];
  return { digit, scene };
}

/** A key of the development accounts: 2 publishes, 3 asks on the command line. */
export function developmentKey(index: number): Hex {
  const account = mnemonicToAccount("test test test test test test test test test test test junk", {
    addressIndex: index,
  });
  const key = account.getHdKey().privateKey;
  if (key === null) throw new Error("a derived account has its key");
  return toHex(key);
}

const DIGITS = join(PROJECT, "provider_images/mnist");

/** The weights of the digits' model. */
export const WEIGHTS = join(DIGITS, "weights.npz");

/** The manifest of the digits' model under another name and with other labels, in a file. */
export function manifestNamed(name: string, label: (shipped: string) => string = (shipped) => shipped): string {
  const shipped = JSON.parse(readFileSync(join(DIGITS, "manifest.json"), "utf8")) as { readonly labels: string[] };
  const path = join(mkdtempSync(join(tmpdir(), "sibyl-manifest-")), "manifest.json");
  writeFileSync(path, JSON.stringify({ ...shipped, name, labels: shipped.labels.map(label) }));
  return path;
}
