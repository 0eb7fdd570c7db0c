import { describe, expect, it } from "vitest";

import { ApiProblem } from "../../api/client";
import "../../test/files";
import { catalogue } from "../../words";
import { type Check, type Files, runChecks } from "./checks";
import { cidOf, digest, GOOD } from "./fixtures";
import { partOf, readLabels } from "./manifest";

const WEIGHTS = "weights, as bytes";
const SHA = "b1ca4ba4b9ca6dcf62d83f4bf9d1ae9b5e2f7ad0a9a1ff0c6bd47e7b9c7a0000";

function files(manifest: unknown, labels?: string): Files {
  const text = typeof manifest === "string" ? manifest : JSON.stringify(manifest, null, 2);
  return {
    manifest: new File([text], "manifest.json"),
    weights: new File([WEIGHTS], "animals.keras"),
    labels: labels === undefined ? null : new File([labels], "labels.txt"),
  };
}

/** A double of the API that pins everything, and remembers what. */
function api(more: { swapWeights?: string; swapManifest?: string; refuse?: Error } = {}) {
  const pinned: string[] = [];
  return {
    pinned,
    base: "http://api.test",
    weights: async () => ({
      cid: await cidOf(more.swapWeights ?? WEIGHTS),
      bytes: WEIGHTS.length,
      sha256: await digest(WEIGHTS),
    }),
    manifest: async (text: Blob | string) => {
      if (more.refuse) throw more.refuse;
      pinned.push(text as string);
      return { cid: await cidOf(more.swapManifest ?? (text as string)) };
    },
  };
}

async function check(given: Files, double = api()) {
  let checks: Check[] = [];
  const result = await runChecks(given, double, catalogue.en, "en", (seen) => (checks = seen), new AbortController().signal);
  const bad = checks.find((one) => one.state === "bad");
  return { result, checks, bad, pinned: double.pinned };
}

describe("given a manifest and weights", () => {
  it("when what it may leave out is missing, then it is filled in and pinned", async () => {
    const { result, checks, pinned } = await check(files(GOOD));
    expect(checks.map((one) => one.state)).toEqual(Array(6).fill("good"));
    expect(result?.manifestCid).toBe(await cidOf(pinned[0] ?? ""));
    const sent = JSON.parse(pinned[0] ?? "") as typeof GOOD;
    expect(sent.weights).toEqual({ format: "keras", sha256: await digest(WEIGHTS), bytes: 17, cid: await cidOf(WEIGHTS) });
  });

  it("when it states everything, then exactly its own bytes are pinned", async () => {
    const weights = { ...GOOD.weights, sha256: await digest(WEIGHTS), bytes: 17, cid: await cidOf(WEIGHTS) };
    const given = files({ ...GOOD, weights });
    const { pinned } = await check(given);
    expect(pinned).toEqual([await given.manifest.text()]);
  });

  it("when its labels are in a file of their own, then they are filled in", async () => {
    const without: Partial<typeof GOOD> = { ...GOOD };
    delete without.labels;
    const { pinned } = await check(files(without, "cat\r\ndog\r\n"));
    expect((JSON.parse(pinned[0] ?? "") as typeof GOOD).labels).toEqual(["cat", "dog"]);
  });

  it.each([
    ["no JSON", "{", "json", "not JSON"],
    ["a list", [], "json", "object"],
    ["another schema", { ...GOOD, schema: "x" }, "fields", "schema"],
    ["no licence", { ...GOOD, licence: "" }, "fields", "licence"],
    ["a name of another form", { ...GOOD, name: "Ünïcode" }, "fields", "name"],
    ["wrong channels", { ...GOOD, input: { ...GOOD.input, channels: 1 } }, "fields", "input.channels"],
    ["a range the wrong way", { ...GOOD, input: { ...GOOD.input, range: [1, 0] } }, "fields", "input.range"],
    ["one label", { ...GOOD, labels: ["cat"] }, "labels", "labels"],
    ["a label that is no text", { ...GOOD, labels: ["cat", 1] }, "labels", "labels[1]"],
    ["another digest", { ...GOOD, weights: { sha256: SHA } }, "weights", SHA],
    ["another size", { ...GOOD, weights: { bytes: 18 } }, "weights", "18"],
    ["another CID", { ...GOOD, weights: { cid: "bafkother" } }, "pinWeights", "bafkother"],
  ])("when it has %s, then that check fails, names it, and nothing later runs", async (_, manifest, name, text) => {
    const { result, bad, checks, pinned } = await check(files(manifest));
    expect(result).toBeNull();
    expect(bad?.name).toBe(name);
    expect(bad?.text).toContain(text);
    expect(checks.slice(checks.findIndex((one) => one.state === "bad") + 1).every((one) => one.state === "waiting")).toBe(true);
    expect(pinned).toEqual([]);
  });

  it("when labels of file and manifest differ, then neither is preferred", async () => {
    expect((await check(files(GOOD, "dog\ncat"))).bad?.name).toBe("labels");
  });

  it.each([
    ["pinWeights", { swapWeights: "others" }],
    ["pinManifest", { swapManifest: "{}" }],
  ])("when the API names other bytes than it was sent at %s, then it stops there", async (name, swap) => {
    const { result, bad } = await check(files(GOOD), api(swap));
    expect(result).toBeNull();
    expect(bad).toMatchObject({ name, text: catalogue.en.publish.told.changedOnTheWay });
  });

  it("when the API refuses the manifest, then its words are shown", async () => {
    const refuse = new ApiProblem(422, "Manifest invalid", "comparison.epsilon: at least 2e-05 expected", "Mend it.", "x");
    const { bad } = await check(files(GOOD), api({ refuse }));
    expect(bad?.text).toContain("at least 2e-05");
  });
});

it("given files of many names, when they are sorted, then each finds its part", async () => {
  const part = (name: string, text = "") => partOf(new File([text], name));
  expect(await part("m.json", "{}")).toBe("manifest");
  expect(await part("labels.json", ' ["a"]')).toBe("labels");
  expect(await part("names.TXT")).toBe("labels");
  expect(await part("w.Safetensors")).toBe("weights");
  expect(await part("evil.exe")).toBeNull();
});

it("given labels, when they are one a line or a list, then they are the same", () => {
  expect(readLabels('["a", "b"]')).toEqual(["a", "b"]);
  expect(readLabels("\uFEFFa\r\nb\n\n")).toEqual(["a", "b"]);
});
