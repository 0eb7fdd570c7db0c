/** A manifest that passes every check, and CIDs of texts. For tests alone. */
import { toHex } from "viem";

import { cidOfBytes, sha256 } from "../../content/cid";
import { bytesOf } from "../../content/golden";

export const GOOD = {
  schema: "sibyl/model/1",
  version: "1",
  name: "animals",
  family: "keras-file",
  task: "classification",
  engine: "keras",
  description: "Tells animals apart.",
  licence: "MIT",
  resources: {},
  training: {},
  labels: ["cat", "dog"],
  input: { height: 32, width: 32, channels: 3, color: "rgb", fit: "crop", range: [0, 1] },
  output: { top_k: 2, shape: [2] },
  comparison: { class: "tolerance", epsilon: 0.001 },
  weights: { format: "keras" },
};

export async function digest(text: string): Promise<string> {
  return toHex(await sha256(bytesOf(text))).slice(2);
}

/** The CID of a file that is this text. */
export async function cidOf(text: string): Promise<string> {
  return cidOfBytes(Uint8Array.from([1, 0x55, 0x12, 0x20, ...(await sha256(bytesOf(text)))])).text;
}
