import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { readResult, type SegmentationResult } from "../../content/document";
import { bytesOf, golden } from "../../content/golden";
import { COLOURS, coloursOf } from "./palette";

const instances = readResult(bytesOf(golden.documents.instances.text)) as SegmentationResult;

describe("colours of instances", () => {
  it("given the tokens of the style sheet, when they are compared, then the palette begins with them", () => {
    const css = readFileSync("src/styles/tokens.css", "utf8");
    const tokens = [...css.matchAll(/--instance-(\d+): (#[0-9a-f]{6});/g)];
    expect(tokens.length).toBeGreaterThan(7);
    for (const [, place, colour] of tokens) expect(COLOURS[Number(place)]).toBe(colour);
    expect(new Set(COLOURS).size).toBe(COLOURS.length);
  });

  it("given instances, when they are coloured, then each has its own by its place", () => {
    expect(coloursOf(instances)).toEqual(COLOURS.slice(0, 3));
  });

  it("given classes, when they are coloured, then a class has the same in every picture unless two would share it", () => {
    const semantic = { ...instances, semantic: true };
    expect(coloursOf(semantic)).toEqual([COLOURS[2], COLOURS[0], COLOURS[1]]);
    const [first, ...others] = instances.segments;
    if (!first) throw new Error("no segment");
    const crowded = { ...semantic, segments: [{ ...first, index: COLOURS.length }, ...others] };
    expect(new Set(coloursOf(crowded)).size).toBe(3);
  });
});
