import { describe, expect, it } from "vitest";

import { decodeAnswer, NotAnAnswer } from "./answer";
import { fromHex, golden } from "./golden";

const { classification, segmentation } = golden.answers;

/** The answer with one byte set. */
function changed(hex: string, at: number, value: number): Uint8Array {
  const bytes = fromHex(hex);
  bytes[at] = value;
  return bytes;
}

describe("answers on-chain", () => {
  it("given a classification, when it is decoded, then it says what the oracle wrote", () => {
    expect(decodeAnswer(classification)).toEqual({
      kind: "classification",
      familiarity: 212,
      entries: [
        { index: 7, bps: 9312 },
        { index: 1, bps: 400 },
        { index: 9, bps: 288 },
      ],
    });
  });

  it("given a segmentation, when it is decoded, then it says what the oracle wrote", () => {
    expect(decodeAnswer(fromHex(segmentation))).toEqual({
      kind: "segmentation",
      familiarity: 0,
      found: 3,
      width: 30,
      height: 24,
      instances: [
        { index: 2, bps: 9876, box: [4, 5, 19, 20], area: 149 },
        { index: 0, bps: 5000, box: [0, 0, 3, 4], area: 12 },
      ],
    });
  });

  it.each([
    ["another version", changed(classification, 0, 2)],
    ["another kind", changed(classification, 1, 3)],
    ["no class", changed(classification, 2, 0)],
    ["eight classes", changed(classification, 2, 8)],
    ["something after the last class", changed(classification, 31, 1)],
    ["rising confidence", changed(classification, 10, 0xff)],
    ["a short word", fromHex(classification).subarray(1)],
    ["nothing", new Uint8Array()],
    ["a segmentation cut short", fromHex(segmentation).subarray(0, -1)],
    ["a segmentation with something in its head", changed(segmentation, 20, 1)],
    ["more instances than found", changed(segmentation, 5, 1)],
    ["a box outside of the picture", changed(segmentation, 41, 200)],
    ["an area larger than its box", changed(segmentation, 45, 255)],
    ["no width", changed(segmentation, 7, 0)],
  ])("given %s, when it is decoded, then it is refused", (_, bytes) => {
    expect(() => decodeAnswer(bytes)).toThrow(NotAnAnswer);
  });
});
