import { encodeAbiParameters, encodeEventTopics, encodeFunctionResult, type Hex, numberToHex, pad, zeroAddress } from "viem";
import { describe, expect, it } from "vitest";

import { fromHex, golden } from "../content/golden";
import { parseCid } from "../content/cid";
import { CHAIN_STATUSES, type ChainStatus, coordinatorAbi } from "./abi";
import type { Reader } from "./logs";
import { readRequest, verifyResult } from "./requests";

const ID: Hex = `0x${"ab".repeat(32)}`;
const REQUESTER: Hex = `0x${"12".repeat(20)}`;
const place = { chain_id: 31337, coordinator: `0x${"c0".repeat(20)}`, start_block: 3 };
const hex = (bytes: Uint8Array): Hex => `0x${Buffer.from(bytes).toString("hex")}`;
const imageCid = hex(parseCid(golden.imageCid).bytes);
const resultCid = hex(parseCid(golden.documents.classification.cid).bytes);
const answer = golden.documents.classification.answer as Hex;

interface Event {
  block: number;
  name: string;
  indexed?: Record<string, unknown>;
  types?: string[];
  values?: unknown[];
}

const asked: Event = {
  block: 10,
  name: "InferenceRequested",
  indexed: { modelId: 1n, requester: REQUESTER },
  types: ["bytes", "uint256", "uint256", "uint256", "uint256"],
  values: [imageCid, 2_100n, 50_000n, 1_700_000_600n, 7n],
};
const fulfilled: Event = { block: 12, name: "InferenceFulfilled", types: ["bytes", "bytes"], values: [resultCid, answer] };

/** A chain of these events that takes so many blocks at once. */
class Chain implements Reader {
  calls: { method: string; from?: number; to?: number }[] = [];
  constructor(
    readonly status: ChainStatus,
    readonly events: Event[],
    readonly head = 1_000,
    readonly most = Infinity,
  ) {}

  request({ method, params }: { method: string; params?: unknown }): Promise<unknown> {
    const list = params as unknown[];
    if (method === "eth_getBlockByNumber") {
      const number = list[0] === "latest" ? this.head : Number(list[0]);
      this.calls.push({ method });
      return Promise.resolve({ number: numberToHex(number), timestamp: numberToHex(1_700_000_000 + number) });
    }
    if (method === "eth_call") {
      this.calls.push({ method });
      const known = {
        requester: REQUESTER,
        modelId: 1n,
        payment: 0n,
        callbackGas: 0n,
        deadline: 0n,
        status: CHAIN_STATUSES.indexOf(this.status),
        failure: 0,
      };
      return Promise.resolve(encodeFunctionResult({ abi: coordinatorAbi, functionName: "requestOf", result: known }));
    }
    const { fromBlock, toBlock } = list[0] as { fromBlock: Hex; toBlock: Hex };
    const [from, to] = [Number(fromBlock), Number(toBlock)];
    this.calls.push({ method, from, to });
    if (to - from + 1 > this.most) return Promise.reject(Object.assign(new Error("range too long"), { code: -32005 }));
    const isIn = ({ blockNumber }: { blockNumber: Hex }) => from <= Number(blockNumber) && Number(blockNumber) <= to;
    return Promise.resolve(this.events.map(rawLog).filter(isIn));
  }
}

function rawLog({ block, name, indexed, types, values }: Event, index: number) {
  return {
    address: place.coordinator,
    topics: encodeEventTopics({
      abi: coordinatorAbi,
      eventName: name as "InferenceRequested",
      args: { requestId: ID, ...indexed },
    }),
    data: types ? encodeAbiParameters(types.map((type) => ({ type })), values ?? []) : "0x",
    blockNumber: numberToHex(block),
    transactionHash: pad(numberToHex(block), { size: 32 }),
    transactionIndex: "0x0",
    blockHash: pad(numberToHex(block), { size: 32 }),
    logIndex: numberToHex(index),
    removed: false,
  };
}

const ranges = (chain: Chain) => chain.calls.filter(({ method }) => method === "eth_getLogs");

describe("a request on the chain", () => {
  it("given an answered request, when it is read, then its terms, its answer and their blocks are told", async () => {
    const read = await readRequest(new Chain("Fulfilled", [asked, fulfilled]), place, ID);
    expect(read).toMatchObject({
      status: "Fulfilled",
      head: { number: 1_000, timestamp: 1_700_001_000 },
      asking: {
        model: 1,
        requester: REQUESTER,
        imageCid: golden.imageCid,
        payment: 2_100n,
        deadline: 1_700_000_600,
        nonce: 7n,
        block: 10,
        at: 1_700_000_010,
      },
      settling: { block: 12, resultCid: golden.documents.classification.cid, answer, failure: null, at: 1_700_000_012 },
      callback: "delivered",
    });
    expect(fromHex(read.settling?.resultCidBytes ?? "")).toHaveLength(36);
  });

  it("given an id that was never made, when it is read, then no events are looked for", async () => {
    const chain = new Chain("Unknown", []);
    expect(await readRequest(chain, place, ID)).toMatchObject({ status: "Unknown", asking: null });
    expect(ranges(chain)).toEqual([]);
  });

  it("given an endpoint that takes few blocks, when a request is read, then ranges are halved until it is found", async () => {
    const chain = new Chain("Fulfilled", [asked, fulfilled], 1_000, 100);
    const read = await readRequest(chain, place, ID);
    expect(read.asking?.block).toBe(10);
    expect(read.settling?.block).toBe(12);
    const taken = ranges(chain).filter(({ from = 0, to = 0 }) => to - from + 1 <= 100);
    const blocks = taken.flatMap(({ from = 0, to = 0 }) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
    expect(new Set(blocks).size).toBe(blocks.length);
  });

  it("given a hint, when it is right, then only the blocks from it on are read, and no more than are needed", async () => {
    const chain = new Chain("Fulfilled", [asked, fulfilled], 1_000_000, 50);
    await readRequest(chain, place, ID, { hint: 10 });
    expect(ranges(chain).every(({ from = 0 }) => from >= 10)).toBe(true);
    expect(ranges(chain).filter(({ from = 0, to = 0 }) => to - from < 50)).toHaveLength(1);
  });

  it.each([500, 2_000, 0])("given a hint of block %d, which is wrong, when it is read, then it is found anyway", async (hint) => {
    const read = await readRequest(new Chain("Fulfilled", [asked, fulfilled]), place, ID, { hint });
    expect(read.asking?.block).toBe(10);
  });

  it("given an endpoint without events, when a request is read, then its status is told all the same", async () => {
    const read = await readRequest(new Chain("Fulfilled", [asked, fulfilled], 1_000, 0), place, ID);
    expect(read).toMatchObject({ status: "Fulfilled", asking: null, settling: null });
  });

  it("given an endpoint that is gone, when a request is read, then that is the error, at once", async () => {
    const chain = new Chain("Fulfilled", [asked]);
    const gone: Reader = {
      request: (call) =>
        call.method === "eth_getLogs"
          ? Promise.reject(Object.assign(new Error("no connection"), { name: "HttpRequestError" }))
          : chain.request(call),
    };
    await expect(readRequest(gone, place, ID)).rejects.toThrow("no connection");
  });

  it.each<[ChainStatus, Event[], string, string | null]>([
    ["CallbackFailed", [asked, fulfilled, { block: 12, name: "CallbackFailed" }], "failed", null],
    [
      "Fulfilled",
      [asked, fulfilled, { block: 12, name: "CallbackFailed" }, { block: 40, name: "CallbackRetried" }],
      "retried",
      null,
    ],
    [
      "Failed",
      [
        asked,
        { block: 12, name: "InferenceFailed", types: ["uint8"], values: [3] },
        { block: 12, name: "InferenceRefunded", indexed: { requester: REQUESTER }, types: ["uint256"], values: [2_100n] },
      ],
      "none",
      "image_unreadable",
    ],
    [
      "Refunded",
      [asked, { block: 12, name: "InferenceRefunded", indexed: { requester: REQUESTER }, types: ["uint256"], values: [2_100n] }],
      "none",
      null,
    ],
    ["Pending", [asked], "none", null],
  ])("given a request that is %s, when it is read, then callback and reason are told", async (status, events, callback, failure) => {
    const read = await readRequest(new Chain(status, events), place, ID, { hint: 10 });
    expect(read.callback).toBe(callback);
    expect(read.settling?.failure ?? null).toBe(failure);
    expect(read.settling === null).toBe(status === "Pending");
  });

  const back: Event = { block: 12, name: "InferenceRefunded", indexed: { requester: REQUESTER }, types: ["uint256"], values: [2_100n] };
  const credited: Event = {
    block: 12,
    name: "Credited",
    indexed: { token: zeroAddress, account: REQUESTER },
    types: ["uint256"],
    values: [2_100n],
  };
  const another: Event = { block: 12, name: "CallbackFailed" };

  it.each<[string, Event[], "account" | "balance" | null]>([
    ["nothing is credited", [back], "account"],
    ["it is credited", [back, credited], "balance"],
    ["somebody else is credited", [back, { ...credited, indexed: { token: zeroAddress, account: place.coordinator } }], "account"],
    ["the account is credited for this or for another", [back, another, credited], null],
  ])("given money that went back, when %s, then the way it went is told as far as that shows", async (_, events, paidTo) => {
    const read = await readRequest(new Chain("Refunded", [asked, ...events]), place, ID);
    expect(read.settling?.paidTo).toBe(paidTo);
  });

  it("given another contract's event of the same form, when a request is read, then it is not taken for ours", async () => {
    const chain = new Chain("Pending", [asked]);
    const mixed: Reader = {
      request: async (call) => {
        const answered = await chain.request(call);
        if (call.method !== "eth_getLogs") return answered;
        const forged = { ...rawLog(fulfilled, 9), address: `0x${"ee".repeat(20)}` };
        return [...(answered as unknown[]), forged];
      },
    };
    expect((await readRequest(mixed, place, ID)).settling).toBeNull();
  });

  it("given a result, when the contract is asked about it, then its word is returned", async () => {
    const says = (word: boolean): Reader => ({
      request: () => Promise.resolve(pad(word ? "0x01" : "0x00", { size: 32 })),
    });
    expect(await verifyResult(says(true), place, ID, resultCid, answer)).toBe(true);
    expect(await verifyResult(says(false), place, ID, resultCid, answer)).toBe(false);
  });
});
