import { afterEach, describe, expect, it, vi } from "vitest";

import { type Bytes, type Cid, cidOfBytes, parseCid, sha256 } from "./cid";
import { bigBlocks, bigFile, bytesOf, golden } from "./golden";
import { Malformed } from "./unixfs";
import { fetchVerified, gateway, type Source, TooLarge, Unavailable, WrongBytes } from "./verify";

afterEach(() => vi.unstubAllGlobals());

const LIMIT = 1_000_000;

function from(name: string, blocks: Map<string, Bytes>): Source & { asked: string[] } {
  const asked: string[] = [];
  return {
    name,
    asked,
    block(cid: Cid) {
      asked.push(cid.text);
      const data = blocks.get(cid.text);
      return data ? Promise.resolve(data) : Promise.reject(new Unavailable("404"));
    },
  };
}

async function named(data: Bytes): Promise<Cid> {
  return cidOfBytes(Uint8Array.from([1, 0x70, 0x12, 0x20, ...(await sha256(data))]));
}

describe("files by CID", () => {
  it.each(["0", "1"] as const)(
    "given the blocks of a file of CID version %s, when it is fetched, then it is whole and in order",
    async (version) => {
      const root = parseCid(golden.big[version].root);
      const data = await fetchVerified(root, [from("a", bigBlocks(version))], LIMIT);
      expect(data.length).toBe(golden.big.bytes);
      expect(Buffer.from(await sha256(data)).toString("hex")).toBe(golden.big.sha256);
    },
  );

  it("given a gateway that changes one byte of one leaf, when another is honest, then the file is right and the liar is named once", async () => {
    const blocks = bigBlocks("1");
    const { leaves, root } = golden.big["1"];
    for (const cid of leaves) {
      const leaf = Uint8Array.from(blocks.get(cid) ?? []);
      leaf[7] = (leaf[7] ?? 0) ^ 1;
      blocks.set(cid, leaf);
    }
    const wrong: string[] = [];
    const sources = [from("liar", blocks), from("honest", bigBlocks("1"))];
    const data = await fetchVerified(parseCid(root), sources, LIMIT, { onWrong: (name) => wrong.push(name) });
    expect(Buffer.compare(data, bigFile())).toBe(0);
    expect(wrong).toEqual(["liar"]);
  });

  it("given only gateways that lie, when a file is fetched, then nothing of it is handed out", async () => {
    const { root } = golden.big["1"];
    const lies = new Map([[root, bytesOf('{"label":"cat"}')]]);
    const fetched = fetchVerified(parseCid(root), [from("one", lies), from("two", lies)], LIMIT);
    await expect(fetched).rejects.toThrow(WrongBytes);
    await expect(fetched).rejects.toMatchObject({ liars: ["one", "two"] });
  });

  it("given nobody who has it, when a file is fetched, then it is said to be unavailable", async () => {
    const fetched = fetchVerified(parseCid(golden.big["1"].root), [from("one", new Map())], LIMIT);
    await expect(fetched).rejects.toThrow(Unavailable);
    await expect(fetchVerified(parseCid(golden.big["1"].root), [], LIMIT)).rejects.toThrow(Unavailable);
  });

  it("given a file over the limit, when it is fetched, then no leaf is asked for", async () => {
    const source = from("one", bigBlocks("1"));
    await expect(fetchVerified(parseCid(golden.big["1"].root), [source], 599_999)).rejects.toThrow(TooLarge);
    expect(source.asked).toHaveLength(1);
  });

  it("given a directory, when it is fetched, then it is no file", async () => {
    const directory = Uint8Array.from([0x0a, 2, 8, 1]);
    const cid = await named(directory);
    await expect(fetchVerified(cid, [from("one", new Map([[cid.text, directory]]))], LIMIT)).rejects.toThrow(Malformed);
  });

  it("given a node that declares other sizes than its children have, when it is fetched, then it is refused", async () => {
    const blocks = bigBlocks("1");
    const root = Uint8Array.from(blocks.get(golden.big["1"].root) ?? []);
    // The last child's size is the last varint.
    root[root.length - 1] = (root.at(-1) ?? 0) - 1;
    const cid = await named(root);
    blocks.set(cid.text, root);
    await expect(fetchVerified(cid, [from("one", blocks)], LIMIT)).rejects.toThrow(Malformed);
  });

  it("given a gateway of HTTP, when a block is asked for, then it is asked for raw and without credentials", async () => {
    const calls: [string, RequestInit][] = [];
    vi.stubGlobal("fetch", (url: string, init: RequestInit) => {
      calls.push([url, init]);
      return Promise.resolve(new Response(bytesOf("a picture")));
    });
    const cid = parseCid(golden.imageCid);
    const data = await fetchVerified(cid, [gateway("https://gate.example/")], LIMIT);
    expect(new TextDecoder().decode(data)).toBe("a picture");
    expect(calls[0]?.[0]).toBe(`https://gate.example/ipfs/${cid.text}?format=raw`);
    expect(calls[0]?.[1].credentials).toBe("omit");
  });

  it("given a gateway that sends without end, when a block is asked for, then it is stopped", async () => {
    let sent = 0;
    const endless = () =>
      new Response(
        new ReadableStream<Uint8Array>({
          pull(controller) {
            sent += 65_536;
            controller.enqueue(new Uint8Array(65_536));
          },
        }),
      );
    vi.stubGlobal("fetch", () => Promise.resolve(endless()));
    await expect(fetchVerified(parseCid(golden.imageCid), [gateway("https://gate.example")], LIMIT)).rejects.toThrow(WrongBytes);
    expect(sent).toBeLessThan(6 * 1024 * 1024);
  });

  it("given an abort, when it comes, then no other source is asked", async () => {
    const stop = new AbortController();
    const first: Source = {
      name: "slow",
      block: () => {
        stop.abort();
        return Promise.reject(new Error("aborted"));
      },
    };
    const second = from("second", bigBlocks("1"));
    const fetched = fetchVerified(parseCid(golden.big["1"].root), [first, second], LIMIT, { signal: stop.signal });
    await expect(fetched).rejects.toThrow();
    expect(second.asked).toEqual([]);
  });
});
