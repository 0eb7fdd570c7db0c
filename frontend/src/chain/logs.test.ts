import { describe, expect, it } from "vitest";

import { COORDINATOR, FakeChain } from "./chain-double";
import { EVENTS, EventsNotFound, LogReader, type Piece, selectors } from "./logs";

const PLACE = { chain_id: 31337, coordinator: COORDINATOR, start_block: 0 };
const TOPICS = [selectors(EVENTS)];

async function all(pieces: AsyncGenerator<Piece>): Promise<Piece[]> {
  const found: Piece[] = [];
  for await (const piece of pieces) found.push(piece);
  return found;
}

function reader(chain: FakeChain, options: { step?: number; tries?: number; most?: number } = {}) {
  const waits: number[] = [];
  const sleep = (milliseconds: number) => Promise.resolve(void waits.push(milliseconds));
  return { waits, logs: new LogReader(chain, PLACE, { sleep, ...options }) };
}

function chainOf(blocks: number[], head: number): FakeChain {
  const chain = new FakeChain();
  for (const block of blocks) chain.ask(block, `at ${block}`);
  chain.head = head;
  return chain;
}

const http = (status?: number) => Object.assign(new Error("no"), { name: "HttpRequestError", ...(status && { status }) });

describe("reading a coordinator's events", () => {
  it.each(["downwards", "upwards"] as const)("given limits, when it walks %s, then each event comes once and in order", async (way) => {
    const chain = chainOf([3, 40, 41, 77, 99], 100);
    chain.largest = 7;
    const pieces = await all(reader(chain, { step: 64 }).logs[way](0, 100, TOPICS));
    const blocks = pieces.flatMap(({ told }) => told.map(({ blockNumber }) => Number(blockNumber)));
    expect(blocks.toSorted((a, b) => a - b)).toEqual([3, 40, 41, 77, 99]);
    const starts = pieces.map(({ from }) => (way === "upwards" ? from : -from));
    expect(starts).toEqual(starts.toSorted((a, b) => a - b));
    expect(pieces.reduce((sum, { from, to }) => sum + to - from + 1, 0)).toBe(101);
  });

  it("given a walk down, when its reader has enough, then no older range is asked for, however long the first was", async () => {
    const chain = chainOf([10, 990], 1_000);
    chain.largest = 50;
    for await (const { told } of reader(chain, { step: Infinity }).logs.downwards(0, 1_000, TOPICS)) if (told.length > 0) break;
    expect(Math.min(...chain.ranges.filter(([from, to]) => to - from < 50).map(([from]) => from))).toBeGreaterThan(900);
  });

  it("given an endpoint that knows no event, when single blocks are refused, then it is given up after bounded tries", async () => {
    const chain = chainOf([], 100);
    chain.largest = 0;
    await expect(all(reader(chain).logs.upwards(0, 100, TOPICS))).rejects.toBeInstanceOf(EventsNotFound);
    expect(chain.calls.length).toBeLessThan(15);
  });

  it("given a bound, when more ranges would be needed, then it is given up there", async () => {
    const chain = chainOf([], 100);
    await expect(all(reader(chain, { step: 1, most: 5 }).logs.upwards(0, 1e9, TOPICS))).rejects.toBeInstanceOf(EventsNotFound);
    expect(chain.calls.length).toBe(5);
  });

  it.each([
    ["is too busy", http(429), 3, true],
    ["breaks down", http(503), 3, true],
    ["does not answer in time", Object.assign(new Error("late"), { name: "TimeoutError" }), 3, true],
    ["is not there", http(), 3, false],
  ])("given an endpoint that %s, when it is asked, then it is waited for, but not for long", async (_, failure, waited, shorter) => {
    const chain = chainOf([], 100);
    chain.fail = () => failure;
    const { logs, waits } = reader(chain);
    await expect(all(logs.upwards(0, 100, TOPICS))).rejects.toBe(failure);
    expect(waits).toHaveLength(waited);
    expect(new Set(chain.ranges.map(([from, to]) => to - from)).size > 1).toBe(shorter);
  });

  it("given no endpoint at all, when it is asked through the wallet's wrapping, then nothing is tried twice", async () => {
    const chain = chainOf([], 100);
    const none = new Error("unknown", { cause: Object.assign(new Error("none"), { name: "NoRpc" }) });
    const logs = new LogReader({ request: () => (chain.calls.push({ method: "" }), Promise.reject(none)) }, PLACE);
    await expect(logs.request({ method: "eth_blockNumber" })).rejects.toBe(none);
    expect(chain.calls).toHaveLength(1);
  });
});
