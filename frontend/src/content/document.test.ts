import { describe, expect, it } from "vitest";

import { decodeAnswer } from "./answer";
import { agrees, BadDocument, isLabelledBy, readResult } from "./document";
import { bytesOf, golden } from "./golden";

type Json = Record<string, never>;
const request = { id: golden.requestId, imageCid: golden.imageCid };

/** A golden document with something done to it. */
function edited(kind: keyof typeof golden.documents, edit: (document: never) => void): Uint8Array {
  const document = JSON.parse(golden.documents[kind].text) as never;
  edit(document);
  return bytesOf(JSON.stringify(document));
}

describe("result documents", () => {
  it.each(["classification", "instances"] as const)(
    "given the oracle's own %s, when it is read, then it agrees with the oracle's answer",
    (kind) => {
      const { text, answer } = golden.documents[kind];
      const document = readResult(bytesOf(text));
      expect(agrees(document, decodeAnswer(answer), request)).toBe(true);
    },
  );

  it("given a segmentation, when it is read, then masks are runs and boxes COCO's", () => {
    const document = readResult(bytesOf(golden.documents.instances.text));
    expect(document).toMatchObject({ kind: "segmentation", semantic: false, width: 30, height: 24, found: 5 });
    expect(document.kind === "segmentation" && document.segments.map(({ label, bbox }) => [label, bbox[0]])).toEqual([
      ["circle", 5],
      ["star", 18],
      ["square", 23],
    ]);
    expect(Object.keys(document.files)).toEqual(["mask", "overlay"]);
  });

  it.each<[string, (document: { labels: { index: number; probability: number }[] } & Json) => void]>([
    ["another class", (d) => d.labels.forEach((one) => (one.index += 1))],
    ["a higher probability", (d) => d.labels.forEach((one) => (one.probability = 0.99))],
    ["fewer labels", (d) => d.labels.splice(1)],
    ["another familiarity", (d) => Object.assign(d, { familiarity: 0.1 })],
    ["another request", (d) => Object.assign(d, { request: `0x${"11".repeat(32)}` })],
    ["another picture", (d) => Object.assign(d, { input: { cid: golden.small[0]?.cid } })],
  ])("given a document with %s than the chain's, when they are compared, then they disagree", (_, edit) => {
    const document = readResult(edited("classification", edit));
    expect(agrees(document, decodeAnswer(golden.documents.classification.answer), request)).toBe(false);
  });

  it.each<[string, (document: { segments: { index: number; score: number; label: string }[] } & Json) => void]>([
    ["another class", (d) => d.segments.forEach((one) => (one.index += 1))],
    ["fewer segments", (d) => d.segments.pop()],
    ["another score", (d) => d.segments.forEach((one) => (one.score = 0.2))],
    ["another count", (d) => Object.assign(d, { found: 6 })],
  ])("given a segmentation with %s than the chain's, when they are compared, then they disagree", (_, edit) => {
    const document = readResult(edited("instances", edit));
    expect(agrees(document, decodeAnswer(golden.documents.instances.answer), request)).toBe(false);
  });

  it.each<[string, (document: never) => void]>([
    ["another schema", (d: Json) => Object.assign(d, { schema: "sibyl/result/2" })],
    ["no labels", (d: Json) => Object.assign(d, { labels: [] })],
    ["a label of control characters", (d: { labels: { label: string }[] }) => d.labels.forEach((one) => (one.label = "a\u0007"))],
    ["a very long label", (d: { labels: { label: string }[] }) => d.labels.forEach((one) => (one.label = "a".repeat(201)))],
    ["a probability above one", (d: { labels: { probability: number }[] }) => d.labels.forEach((one) => (one.probability = 2))],
    ["segments besides", (d: Json) => Object.assign(d, { segments: [] })],
    ["files that are no drawings", (d: Json) => Object.assign(d, { files: { page: { type: "text/html" } } })],
    ["a familiarity of two", (d: Json) => Object.assign(d, { familiarity: 2 })],
    ["no picture", (d: Json) => Object.assign(d, { input: {} })],
  ])("given a classification with %s, when it is read, then it is refused", (_, edit) => {
    expect(() => readResult(edited("classification", edit))).toThrow(BadDocument);
  });

  type Segments = { segments: { area: number; bbox: number[]; segmentation: { counts: string; size: number[] } }[] };
  it.each<[string, (document: Segments & Json) => void]>([
    ["a mask of other pixels", (d) => d.segments.forEach((one) => (one.area += 1))],
    ["a mask of another picture", (d) => d.segments.forEach((one) => one.segmentation.size.reverse())],
    ["a mask that is none", (d) => d.segments.forEach((one) => (one.segmentation.counts = "<svg>"))],
    ["a box that does not hold the mask", (d) => d.segments.forEach((one) => (one.bbox = [0, 0, 1, 1]))],
    ["a box outside of the picture", (d) => d.segments.forEach((one) => (one.bbox = [0, 0, 99, 99]))],
    ["labels besides", (d) => Object.assign(d, { labels: [] })],
    ["no size", (d) => Object.assign(d, { image: { width: 0, height: 24 } })],
  ])("given a segmentation with %s, when it is read, then it is refused", (_, edit) => {
    expect(() => readResult(edited("instances", edit))).toThrow(BadDocument);
  });

  it.each(["", "[]", "null", "{", "<html>"])("given %j, when it is read, then it is refused", (text) => {
    expect(() => readResult(bytesOf(text))).toThrow(BadDocument);
  });
});

it("given a checked document, when a class is called otherwise than the manifest calls it, then it is not by that manifest", () => {
  const labels: string[] = [];
  const document = readResult(bytesOf(golden.documents.classification.text));
  const named = document.kind === "classification" ? document.labels : [];
  for (const { index, label } of named) labels[index] = label;
  expect(isLabelledBy(document, labels)).toBe(true);
  expect(isLabelledBy(document, labels.toSpliced(7, 1, "eight"))).toBe(false);
  expect(isLabelledBy(document, [])).toBe(false);
});
