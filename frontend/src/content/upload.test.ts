import { afterEach, describe, expect, it, vi } from "vitest";

import { ApiDown, OtherBytes } from "../api/client";
import type { Bytes } from "./cid";
import { bigBlocks, bigFile, bytesOf, golden } from "./golden";
import { checkedUpload } from "./upload";

afterEach(() => vi.unstubAllGlobals());

/** An API that delivers these blocks; what it was asked for. */
function deliver(blocks: Map<string, Bytes>): string[] {
  const asked: string[] = [];
  vi.stubGlobal("fetch", (url: string) => {
    const cid = /\/ipfs\/(\w+)\?format=raw$/.exec(url)?.[1] ?? "";
    asked.push(cid);
    const block = blocks.get(cid);
    return Promise.resolve(block ? new Response(block) : new Response(null, { status: 404 }));
  });
  return asked;
}
const upload = (cid: string, sent: Bytes) => checkedUpload("http://api.test", sent, () => Promise.resolve({ cid, more: 1 }));

describe("what was uploaded", () => {
  it("given a file of one block, when its CID is its hash, then it is believed without asking", async () => {
    const asked = deliver(new Map());
    expect(await upload(golden.imageCid, bytesOf("a picture"))).toEqual({ cid: golden.imageCid, more: 1 });
    await expect(upload(golden.imageCid, bytesOf("A picture"))).rejects.toThrow(OtherBytes);
    expect(asked).toEqual([]);
  });

  it.each(["0", "1"] as const)("given a file of several blocks of CID version %s, when it is the one, then it is believed", async (version) => {
    const { root, leaves } = golden.big[version];
    const asked = deliver(bigBlocks(version));
    expect((await upload(root, bigFile())).cid).toBe(root);
    // What is a hash of the bytes themselves need not be fetched.
    expect(asked).toEqual(version === "1" ? [root] : [root, ...leaves]);
  });

  it.each([
    ["one byte is another", (file: Bytes) => file.with(300_000, 99)],
    ["the last is missing", (file: Bytes) => file.subarray(0, -1)],
    ["one is too many", (file: Bytes) => Uint8Array.from([...file, 0])],
  ])("given a file of several blocks, when %s, then it is refused", async (_, change) => {
    deliver(bigBlocks("1"));
    await expect(upload(golden.big["1"].root, change(bigFile()))).rejects.toThrow(OtherBytes);
  });

  it("given a root that hashes to another CID, or none at all, when proven, then it is refused", async () => {
    const { root } = golden.big["1"];
    deliver(new Map([[root, bytesOf("anything")]]));
    await expect(upload(root, bigFile())).rejects.toThrow(OtherBytes);
    await expect(upload("no CID", bigFile())).rejects.toThrow(OtherBytes);
  });

  it("given an API that does not deliver what it pinned, when proven, then it counts as down", async () => {
    deliver(new Map());
    await expect(upload(golden.big["1"].root, bigFile())).rejects.toThrow(ApiDown);
  });
});
