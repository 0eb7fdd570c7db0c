import { describe, expect, it } from "vitest";

import { golden } from "./golden";
import { areaOf, decodeRuns, NotAMask, outlineOf, sumOf, within } from "./rle";

const masks = Object.entries(golden.masks).map(([name, mask]) => ({ name, ...mask }));
const small = masks.filter(({ name }) => name !== "long");

/** The pixels that a path of M, H, V and Z encloses, by the even-odd rule. */
function filled(path: string, width: number, height: number): boolean[] {
  const edges: [x: number, from: number, to: number][] = [];
  let [x, y, startY] = [0, 0, 0];
  for (const [, verb, first, second] of path.matchAll(/([MHVZ])(\d+)?(?: (\d+))?/g)) {
    if (verb === "M") [x, y, startY] = [Number(first), Number(second), Number(second)];
    else if (verb === "H") x = Number(first);
    else {
      const to = verb === "V" ? Number(first) : startY;
      if (to !== y) edges.push([x, Math.min(y, to), Math.max(y, to)]);
      y = to;
    }
  }
  return Array.from({ length: width * height }, (_, i) => {
    const column = Math.floor(i / height);
    const row = i % height;
    return edges.filter(([at, from, to]) => at <= column && from <= row && row < to).length % 2 === 1;
  });
}

describe("masks", () => {
  it.each(masks)("given the mask $name, when it is decoded, then the runs are the oracle's", (mask) => {
    const runs = decodeRuns(mask.counts);
    expect(runs).toEqual(mask.runs);
    expect(areaOf(runs)).toBe(mask.area);
    expect(sumOf(runs)).toBe(mask.width * mask.height);
  });

  it.each(["", "o", "P", "0P", "é0", "00", " 0", "oooooooo0", "5O"])(
    "given %j, which nobody encodes, when it is decoded, then it is refused",
    (text) => {
      expect(() => decodeRuns(text)).toThrow(NotAMask);
    },
  );

  it.each(small)("given the mask $name, when its outline is filled, then it covers exactly its pixels", (mask) => {
    const path = outlineOf(mask.runs, mask.height);
    const expected = mask.runs.flatMap((run, i) => Array.from({ length: run }, () => i % 2 === 1));
    expect(filled(path, mask.width, mask.height)).toEqual(expected);
  });

  it("given a full picture, when it is outlined, then it is one rectangle", () => {
    expect(outlineOf([0, 12], 3)).toMatch(/^M\d 0H\dV\dH\dZ$|^M0 0H4V3H0V0Z$/);
  });

  it("given a mask and a box, when a pixel lies outside, then it is told", () => {
    const { runs, height } = golden.masks.disc;
    expect(within(runs, [4, 5, 19, 20], height)).toBe(true);
    expect(within(runs, [5, 5, 19, 20], height)).toBe(false);
    expect(within(runs, [4, 5, 19, 19], height)).toBe(false);
  });
});
