/** Blocks of files, read strictly: dag-pb and UnixFS as the oracle reads them, so that one CID means one file. */
import { CODEC_RAW, cidOfBytes, type Bytes, type Cid } from "./cid";

/** No node that we read may have more links; the widest layouts in use have 8,192 at most. */
export const MAX_NODE_LINKS = 65_536;

const TYPE_RAW = 0;
const TYPE_FILE = 2;
const MAX_VARINT_BYTES = 9;

/** A block that hashes to its CID and is no part of a file. */
export class Malformed extends Error {
  override name = "Malformed";
}

/** One verified block: its own bytes, then its children in order with the bytes that each must hold. */
export interface FileNode {
  readonly payload: Bytes;
  readonly children: readonly { readonly cid: Cid; readonly size: number }[];
  readonly size: number;
}

type Field = readonly [number: number, value: number | Bytes];

/** Decode a block that is already known to hash to `cid`. Throws Malformed and nothing else. */
export function readBlock(cid: Cid, data: Bytes): FileNode {
  if (cid.codec === CODEC_RAW) return { payload: data, children: [], size: data.length };
  try {
    return readNode(data);
  } catch (error) {
    throw new Malformed(error instanceof Error ? error.message : String(error));
  }
}

function readNode(data: Bytes): FileNode {
  const links: Cid[] = [];
  let unixfs: Bytes | null = null;
  let previous = 0;
  for (const [number, value] of fieldsOf(data)) {
    if (typeof value === "number") throw new Malformed(`dag-pb field ${number} is a number`);
    if (number === 2) {
      // Links may stand before or after the data (old writers), never around it.
      if (links.length > 0 && previous !== 2) throw new Malformed("dag-pb links stand around the data");
      if (links.length === MAX_NODE_LINKS) throw new Malformed(`more than ${MAX_NODE_LINKS} links in one node`);
      links.push(readLink(value));
    } else if (number === 1) {
      if (unixfs !== null) throw new Malformed("dag-pb data appears twice");
      unixfs = value;
    } else {
      throw new Malformed(`dag-pb has no field ${number}`);
    }
    previous = number;
  }
  if (unixfs === null) throw new Malformed("the node holds no UnixFS data");
  return readUnixfs(unixfs, links);
}

function readLink(data: Bytes): Cid {
  let target: Bytes | null = null;
  let previous = 0;
  for (const [number, value] of fieldsOf(data)) {
    if (number <= previous) throw new Malformed("a dag-pb link's fields are repeated or out of order");
    previous = number;
    if (number === 1 && typeof value !== "number") target = value;
    else if (!(number === 2 && typeof value !== "number") && !(number === 3 && typeof value === "number"))
      throw new Malformed(`a dag-pb link has an unknown field ${number}`);
  }
  if (target === null) throw new Malformed("a dag-pb link has no hash");
  return cidOfBytes(target);
}

function readUnixfs(data: Bytes, links: readonly Cid[]): FileNode {
  let kind: number | null = null;
  let payload: Bytes | null = null;
  let size: number | null = null;
  const sizes: number[] = [];
  for (const [number, value] of fieldsOf(data)) {
    if (number === 4) {
      // Protobuf allows a packed spelling of repeated numbers.
      for (const one of typeof value === "number" ? [value] : packed(value)) sizes.push(one);
      if (sizes.length > links.length) throw new Malformed(`${links.length} links but at least ${sizes.length} sizes`);
    } else if (number === 1 && typeof value === "number" && kind === null) kind = value;
    else if (number === 2 && typeof value !== "number" && payload === null) payload = value;
    else if (number === 3 && typeof value === "number" && size === null) size = value;
    // Mode and modification time say nothing about the bytes.
    else if (number !== 7 && number !== 8)
      throw new Malformed(`UnixFS field ${number} is repeated, unknown or of the wrong type`);
  }
  if (kind !== TYPE_RAW && kind !== TYPE_FILE) throw new Malformed("it is a directory, a link or a node of no known type");
  if (sizes.length !== links.length) throw new Malformed(`${links.length} links but ${sizes.length} sizes`);
  const own: Bytes = payload ?? new Uint8Array();
  const held = sizes.reduce((sum, one) => sum + one, own.length);
  if (size !== null && size !== held) throw new Malformed(`it declares ${size} bytes and holds ${held}`);
  if (sizes.includes(0)) throw new Malformed("a child holds no bytes");
  return { payload: own, children: links.map((cid, i) => ({ cid, size: sizes[i] ?? 0 })), size: held };
}

function packed(data: Bytes): number[] {
  const values: number[] = [];
  let offset = 0;
  while (offset < data.length) {
    const [value, next] = readVarint(data, offset);
    values.push(value);
    offset = next;
  }
  return values;
}

function* fieldsOf(data: Bytes): Generator<Field> {
  let offset = 0;
  while (offset < data.length) {
    const [key, afterKey] = readVarint(data, offset);
    const number = Math.floor(key / 8);
    const wire = key % 8;
    const [value, afterValue] = readVarint(data, afterKey);
    offset = afterValue;
    if (wire === 0) {
      yield [number, value];
    } else if (wire === 2) {
      if (value > data.length - offset) throw new Malformed("a field reaches past the end of the block");
      yield [number, data.subarray(offset, offset + value)];
      offset += value;
    } else {
      throw new Malformed(`wire type ${wire} has no place here`);
    }
  }
}

/** A varint and the offset after it: shortest form only, or one file could have many names. */
export function readVarint(data: Uint8Array, offset: number): [value: number, next: number] {
  let value = 0;
  let factor = 1;
  for (let at = offset; at < Math.min(data.length, offset + MAX_VARINT_BYTES); at++) {
    const byte = data[at] ?? 0;
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) {
      if (byte === 0 && factor > 1) throw new Malformed("varint is not in its shortest form");
      if (!Number.isSafeInteger(value)) throw new Malformed("varint is larger than any file");
      return [value, at + 1];
    }
    factor *= 128;
  }
  throw new Malformed("varint is cut off or longer than nine bytes");
}
