/** Content identifiers: what a CID is, how it is written, and whether bytes are the ones that it names. */
import { sha256 as hashSlowly } from "viem";

/** Bytes of memory that nobody shares: what the browser's own hash and blobs take. */
export type Bytes = Uint8Array<ArrayBuffer>;

export const CODEC_RAW = 0x55;
export const CODEC_DAG_PB = 0x70;
const BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** A content identifier of version 0 or 1, always sha2-256 of a raw or dag-pb block. */
export interface Cid {
  readonly version: 0 | 1;
  readonly codec: number;
  readonly bytes: Bytes;
  /** The 32 bytes of the block's sha2-256. */
  readonly digest: Bytes;
  /** Base58btc for version 0, lower-case base32 for version 1, as every IPFS tool prints them. */
  readonly text: string;
}

/** Text or bytes that are no CID of a form that Sibyl speaks. */
export class NotACid extends Error {
  override name = "NotACid";
}

/** The CID in these 34 or 36 bytes. Throws NotACid. */
export function cidOfBytes(given: Uint8Array): Cid {
  const bytes = new Uint8Array(given);
  const isV0 = bytes.length === 34 && bytes[0] === 0x12 && bytes[1] === 0x20;
  const isV1 =
    bytes.length === 36 &&
    bytes[0] === 1 &&
    (bytes[1] === CODEC_RAW || bytes[1] === CODEC_DAG_PB) &&
    bytes[2] === 0x12 &&
    bytes[3] === 0x20;
  if (!isV0 && !isV1) throw new NotACid("not a CID of version 0 or 1 with sha2-256 and the raw or dag-pb codec");
  return {
    version: isV0 ? 0 : 1,
    codec: isV0 ? CODEC_DAG_PB : (bytes[1] ?? 0),
    bytes,
    digest: bytes.slice(-32),
    text: isV0 ? toBase58(bytes) : "b" + toBase32(bytes),
  };
}

/** Read base58btc or base32 text, with or without `/ipfs/` or `ipfs://`. Throws NotACid. */
export function parseCid(text: string): Cid {
  const bare = text
    .trim()
    .replace(/^ipfs:\/\//, "")
    .replace(/^\/ipfs\//, "")
    .replace(/\/+$/, "");
  // Longer text is none, and base58 takes the square of its length.
  if (bare.length <= 64) {
    if (bare.startsWith("Qm") && bare.length === 46) return cidOfBytes(fromBase58(bare));
    if (bare.startsWith("z")) return cidOfBytes(fromBase58(bare.slice(1)));
    if (/^[bB]/.test(bare)) return cidOfBytes(fromBase32(bare.slice(1).toLowerCase()));
  }
  throw new NotACid("not a CID (base58 or base32 expected)");
}

/** The CID in hex of the chain's bytes, or null for empty bytes. Throws NotACid. */
export function cidOfHex(hex: string): Cid | null {
  const digits = hex.replace(/^0x/, "");
  if (digits === "") return null;
  if (!/^([0-9a-fA-F]{2})+$/.test(digits)) throw new NotACid("not hex");
  return cidOfBytes(Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16)));
}

/** The text of a CID in hex, or null where there is none, or none that this page reads. */
export function cidText(hex: string): string | null {
  try {
    return cidOfHex(hex)?.text ?? null;
  } catch {
    return null;
  }
}

/** As text for people and addresses. */
export function formatCid(cid: Cid): string {
  return cid.text;
}

/** Whether the bytes are the block that the CID names. */
export async function isNamed(cid: Cid, block: Bytes): Promise<boolean> {
  const digest = await sha256(block);
  return digest.length === cid.digest.length && digest.every((byte, i) => byte === cid.digest[i]);
}

/** The sha2-256 of the bytes, by the browser itself where it is willing: a page served without TLS has no `subtle`. */
export async function sha256(data: Bytes): Promise<Bytes> {
  const { subtle } = globalThis.crypto as { subtle?: SubtleCrypto };
  if (subtle === undefined) return new Uint8Array(hashSlowly(data, "bytes"));
  return new Uint8Array(await subtle.digest("SHA-256", data));
}

function toBase32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32[(held >> bits) & 31] ?? "";
    }
    held &= (1 << bits) - 1;
  }
  return bits > 0 ? text + (BASE32[(held << (5 - bits)) & 31] ?? "") : text;
}

function fromBase32(text: string): Bytes {
  const bytes: number[] = [];
  let bits = 0;
  let held = 0;
  for (const character of text) {
    const value = BASE32.indexOf(character);
    if (value < 0) throw new NotACid("not base32");
    held = (held << 5) | value;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((held >> bits) & 255);
      held &= (1 << bits) - 1;
    }
  }
  // One CID has one spelling: no more than padding may be left, and it is zero.
  if (bits >= 5 || held !== 0) throw new NotACid("base32 with bits left over");
  return Uint8Array.from(bytes);
}

function toBase58(bytes: Uint8Array): string {
  let value = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  let text = "";
  while (value > 0n) {
    text = (BASE58[Number(value % 58n)] ?? "") + text;
    value /= 58n;
  }
  for (const byte of bytes) {
    if (byte !== 0) break;
    text = "1" + text;
  }
  return text;
}

function fromBase58(text: string): Bytes {
  let value = 0n;
  for (const character of text) {
    const digit = BASE58.indexOf(character);
    if (digit < 0) throw new NotACid("not base58");
    value = value * 58n + BigInt(digit);
  }
  const bytes: number[] = [];
  while (value > 0n) {
    bytes.unshift(Number(value % 256n));
    value /= 256n;
  }
  for (const character of text) {
    if (character !== "1") break;
    bytes.unshift(0);
  }
  return Uint8Array.from(bytes);
}
