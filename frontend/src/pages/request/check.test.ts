import { encodeFunctionResult, pad, zeroAddress } from "viem";
import { describe, expect, it } from "vitest";

import { coordinatorAbi } from "../../chain/abi";
import type { Reader } from "../../chain/logs";
import { type Bytes, cidOfBytes, sha256 } from "../../content/cid";
import { readResult } from "../../content/document";
import { bytesOf, golden } from "../../content/golden";
import { type Source, Unavailable } from "../../content/verify";
import { answerOf, check, type Claim, claimOf, ofModel } from "./check";
import { chainOf, hexOf, ID, viewOf } from "./fixtures";

const place = { chain_id: 1, coordinator: `0x${"c0".repeat(20)}`, start_block: 1 };
const vouches = (word: boolean): Reader => ({ request: () => Promise.resolve(pad(word ? "0x01" : "0x00", { size: 32 })) });
const silent: Reader = { request: () => Promise.reject(new Error("not to be asked")) };
const { cid, answer, text } = golden.documents.classification;
const claim: Claim = {
  resultCid: cid,
  answer: answer as `0x${string}`,
  imageCid: golden.imageCid,
  by: "event",
  apiDiffers: false,
};
const sends = (name: string, data: Bytes): Source => ({ name, block: () => Promise.resolve(data) });

describe("which result a request has", () => {
  it("given the chain's event, when the API names another result, then the chain's is taken and the API told on", async () => {
    const lying = viewOf("fulfilled", "classification", { result_cid: golden.imageCid });
    const claimed = await claimOf(lying, chainOf("Fulfilled"), silent, place);
    expect(claimed).toEqual({ kind: "claim", claim: { ...claim, apiDiffers: true } });
  });

  it.each([
    [true, "claim"],
    [false, "refuted"],
  ])("given no events, when the contract says %s of the API's word, then it is %s", async (word, kind) => {
    const bare = chainOf("Fulfilled", "classification", { asking: null, settling: null });
    const claimed = await claimOf(viewOf("fulfilled"), bare, vouches(word), place);
    expect(claimed.kind).toBe(kind);
    if (claimed.kind === "claim") expect(claimed.claim.by).toBe("contract");
  });

  it.each([
    ["no chain", null],
    ["a chain that is a block behind", chainOf("Pending")],
  ])("given %s, when only the API says it, then it is the API's word", async (_, chain) => {
    const claimed = await claimOf(viewOf("fulfilled"), chain, silent, place);
    expect(claimed).toMatchObject({ kind: "claim", claim: { by: "api" } });
  });

  it("given a request without an answer, when its result is looked for, then there is none", async () => {
    expect(await claimOf(viewOf("computing"), chainOf("Pending"), silent, place)).toEqual({ kind: "none" });
  });
});

describe("whether a result can be believed", () => {
  it("given the bytes that the CID names, when they are checked, then they are read", async () => {
    const checked = await check(ID, claim, [sends("a", bytesOf(text))]);
    expect(checked).toMatchObject({ kind: "document", liars: [], document: { kind: "classification" } });
  });

  it("given a gateway that swaps a label, when it is checked, then nothing of it comes through", async () => {
    const lie = bytesOf(text.replace("seven", "eight"));
    const checked = await check(ID, claim, [sends("liar", lie)]);
    expect(checked).toEqual({ kind: "wrong-bytes", liars: ["liar"] });
    expect(JSON.stringify(checked)).not.toContain("eight");
  });

  it("given a liar and an honest gateway, when it is checked, then it is read and the liar named", async () => {
    const checked = await check(ID, claim, [sends("liar", bytesOf("{}")), sends("honest", bytesOf(text))]);
    expect(checked).toMatchObject({ kind: "document", liars: ["liar"] });
  });

  it("given a whole document for another answer, when it is checked, then it disagrees and is not handed out", async () => {
    const other = golden.documents.instances;
    const checked = await check(ID, { ...claim, answer: other.answer as `0x${string}` }, [sends("a", bytesOf(text))]);
    expect(checked).toEqual({ kind: "disagrees" });
  });

  it("given nobody who has it, when it is checked, then it is unavailable", async () => {
    const none: Source = { name: "a", block: () => Promise.reject(new Unavailable("404")) };
    expect((await check(ID, claim, [none])).kind).toBe("unavailable");
  });

  it("given an answer of a form that this page does not know, when it is checked, then it is malformed, not shown", async () => {
    const strange = { ...claim, answer: "0x09" as const };
    expect((await check(ID, strange, [sends("a", bytesOf(text))])).kind).toBe("malformed");
    expect(answerOf(strange)).toBeNull();
  });
});

describe("whether a result is of the model that was asked", () => {
  const digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

  /** A result by a manifest with these labels, held to a registry that has it. */
  async function held(labels: string[], isThere = true) {
    const bytes = bytesOf(JSON.stringify({ labels }));
    const manifest = cidOfBytes(Uint8Array.from([1, 0x55, 0x12, 0x20, ...(await sha256(bytes))])).text;
    const read = readResult(bytesOf(text));
    const document = { ...read, model: { ...read.model, manifest } };
    const nobody = { publisher: zeroAddress, payout: zeroAddress, token: zeroAddress, active: true };
    const model = { ...nobody, price: 1n, publisherShare: 1n, manifestCid: hexOf(manifest) };
    const registry: Reader = {
      request: () => Promise.resolve(encodeFunctionResult({ abi: coordinatorAbi, functionName: "modelOf", result: model })),
    };
    const sources = isThere ? [sends("a", bytes)] : [];
    const checked = { kind: "document", document, bytes, liars: [] } as const;
    return (await ofModel(checked, 1, registry, place, sources, new AbortController().signal)).kind;
  }

  it("given its manifest, when each class is called as there, then it is, and otherwise not", async () => {
    expect(await held(digits)).toBe("document");
    expect(await held(digits.toSpliced(7, 1, "eight"))).toBe("other-model");
  });

  it("given a manifest that nobody delivers, when a result is held to the registry, then its CID alone decides", async () => {
    expect(await held([], false)).toBe("document");
  });

  it("given a registry that does not answer, when a result is held to it, then it is not called checked", async () => {
    const checked = { kind: "document", document: readResult(bytesOf(text)), bytes: bytesOf(text), liars: [] } as const;
    const held = await ofModel(checked, 1, silent, place, [], new AbortController().signal);
    expect(held.kind).toBe("unavailable");
  });
});
