/** Values that the oracle's own Python gives: CIDs, blocks, masks, answers and documents. For tests alone. */
import type { Bytes } from "../cid";
import content from "./content.json";

export const golden = content;

export function fromHex(hex: string): Bytes {
  return Uint8Array.from(hex.replace(/^0x/, "").match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function bytesOf(text: string): Bytes {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** The file of three chunks that `golden.big` describes. */
export function bigFile(): Bytes {
  return Uint8Array.from({ length: golden.big.bytes }, (_, i) => (i * 7 + Math.floor(i / 256)) % 256);
}

/** Its blocks by CID. */
export function bigBlocks(version: "0" | "1"): Map<string, Bytes> {
  const { root, rootHex, leaves, around } = golden.big[version];
  const whole = bigFile();
  const blocks = new Map([[root, fromHex(rootHex)]]);
  leaves.forEach((cid, i) => {
    const [before = "", after = ""] = around[i] ?? [];
    const payload = whole.subarray(i * 262_144, (i + 1) * 262_144);
    blocks.set(cid, Uint8Array.from([...fromHex(before), ...payload, ...fromHex(after)]));
  });
  return blocks;
}
