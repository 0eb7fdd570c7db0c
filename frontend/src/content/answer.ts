/** The compact answer that travels on-chain, as Solidity's `ClassificationAnswer` and `SegmentationAnswer` read it. */
import type { PixelBox } from "./rle";

const VERSION = 1;
const KIND_CLASSIFICATION = 1;
const KIND_SEGMENTATION = 2;
const MAX_ENTRIES = 7;
export const MAX_INSTANCES = 31;
const WORD = 32;
const INSTANCE = 16;

/** Up to seven classes by falling confidence; confidence in basis points. Familiarity 0 means "not measured". */
export interface ClassificationAnswer {
  readonly kind: "classification";
  readonly familiarity: number;
  readonly entries: readonly { readonly index: number; readonly bps: number }[];
}

/** Up to 31 of the instances found, by falling score; boxes and areas in pixels. */
export interface SegmentationAnswer {
  readonly kind: "segmentation";
  readonly familiarity: number;
  readonly found: number;
  readonly width: number;
  readonly height: number;
  readonly instances: readonly {
    readonly index: number;
    readonly bps: number;
    readonly box: PixelBox;
    readonly area: number;
  }[];
}

export type Answer = ClassificationAnswer | SegmentationAnswer;

/** Bytes that are no answer of a form that this page knows. */
export class NotAnAnswer extends Error {
  override name = "NotAnAnswer";
}

/** Read what a report carried, bytes or hex. Throws NotAnAnswer. */
export function decodeAnswer(given: Uint8Array | string): Answer {
  const bytes = typeof given === "string" ? fromHex(given) : given;
  return bytes[1] === KIND_SEGMENTATION ? segmentation(bytes) : classification(bytes);
}

function classification(word: Uint8Array): ClassificationAnswer {
  if (word.length !== WORD) throw new NotAnAnswer(`an answer has ${WORD} bytes, not ${word.length}`);
  const view = viewOf(word);
  const count = view.getUint8(2);
  if (view.getUint8(0) !== VERSION || view.getUint8(1) !== KIND_CLASSIFICATION || count < 1 || count > MAX_ENTRIES)
    throw new NotAnAnswer(`not a classification answer: version ${word[0]}, kind ${word[1]}, count ${count}`);
  const end = 4 + 4 * count;
  if (word.subarray(end).some((byte) => byte !== 0)) throw new NotAnAnswer("bytes after the last class are not zero");
  const entries = Array.from({ length: count }, (_, i) => ({
    index: view.getUint16(4 + 4 * i),
    bps: view.getUint16(6 + 4 * i),
  }));
  let last = 10_000;
  for (const { bps } of entries) {
    if (bps > last) throw new NotAnAnswer("confidences are above one, or do not fall");
    last = bps;
  }
  return { kind: "classification", familiarity: view.getUint8(3), entries };
}

function segmentation(bytes: Uint8Array): SegmentationAnswer {
  if (bytes.length < WORD) throw new NotAnAnswer(`an answer has at least ${WORD} bytes, not ${bytes.length}`);
  const view = viewOf(bytes);
  if (view.getUint8(0) !== VERSION || bytes.subarray(10, WORD).some((byte) => byte !== 0))
    throw new NotAnAnswer(`not a segmentation answer: version ${bytes[0]}, kind ${bytes[1]}`);
  const listed = view.getUint8(2);
  if (bytes.length !== WORD + INSTANCE * listed) throw new NotAnAnswer(`${bytes.length} bytes for ${listed} instances`);
  const [found, width, height] = [view.getUint16(4), view.getUint16(6), view.getUint16(8)];
  if (listed > MAX_INSTANCES || listed > found || width < 1 || height < 1)
    throw new NotAnAnswer(`${listed} instances listed of ${found}, in ${width} x ${height} pixels`);
  let last = 10_000;
  const instances = Array.from({ length: listed }, (_, i) => {
    const at = WORD + INSTANCE * i;
    const [top, left, bottom, right] = [4, 6, 8, 10].map((offset) => view.getUint16(at + offset)) as [
      number,
      number,
      number,
      number,
    ];
    const bps = view.getUint16(at + 2);
    const area = view.getUint32(at + 12);
    const inside = top < bottom && bottom <= height && left < right && right <= width;
    if (!inside || bps > last || area > (bottom - top) * (right - left))
      throw new NotAnAnswer(`instance ${i} is out of range or out of order`);
    last = bps;
    return { index: view.getUint16(at), bps, box: [top, left, bottom, right] as const, area };
  });
  return { kind: "segmentation", familiarity: view.getUint8(3), found, width, height, instances };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function fromHex(text: string): Uint8Array {
  if (!/^0x([0-9a-fA-F]{2})*$/.test(text)) throw new NotAnAnswer("not hex");
  return Uint8Array.from(text.slice(2).match(/../g) ?? [], (pair) => parseInt(pair, 16));
}
