import { getAddress, zeroAddress } from "viem";
import { describe, expect, it } from "vitest";

import { COORDINATOR, FakeChain, ME, OTHER, STATUS } from "./chain-double";
import { type History, scanRequests, ScanFailed } from "./history";
import type { HistoryStore } from "./history-store";
import type { Reader } from "./logs";

const PLACE = { chain_id: 31337, coordinator: COORDINATOR, start_block: 3 };

/** A double of the browser's store. */
class FakeStore implements HistoryStore {
  kept = new Map<string, string>();
  read(key: string): Promise<string | null> {
    return Promise.resolve(this.kept.get(key) ?? null);
  }
  write(key: string, value: string): Promise<void> {
    this.kept.set(key, value);
    return Promise.resolve();
  }
}

const sleep = (): Promise<void> => Promise.resolve();

function scan(chain: FakeChain, more: { store?: HistoryStore; step?: number; depth?: number; signal?: AbortSignal } = {}, seen?: History[]) {
  return scanRequests(chain, PLACE, ME, (history) => seen?.push(history), { store: null, sleep, depth: 5, ...more });
}

describe("given an account with requests on the chain", () => {
  it("when they are read, then they are newest first, joined with what became of them, and nobody else's are there", async () => {
    const chain = new FakeChain();
    const first = chain.ask(4, "first");
    chain.ask(5, "another's", OTHER);
    const second = chain.ask(6, "second");
    const third = chain.ask(7, "third");
    const fourth = chain.ask(8, "fourth");
    const fifth = chain.ask(9, "fifth");
    chain.fulfil(10, first);
    chain.emit(10, "InferenceFailed", { requestId: second, reason: 3 });
    chain.emit(10, "InferenceRefunded", { requestId: second, requester: ME, amount: 100n });
    chain.emit(11, "InferenceRefunded", { requestId: third, requester: ME, amount: 100n });
    chain.emit(11, "InferenceCancelled", { requestId: fourth, requester: ME, amount: 100n });

    const history = await scan(chain);

    expect(history.entries.map((entry) => entry.id)).toEqual([fifth, fourth, third, second, first]);
    expect(history.entries.map((entry) => entry.status)).toEqual(["pending", "cancelled", "refunded", "failed", "fulfilled"]);
    expect(history.entries[3]).toMatchObject({ failure: "image_unreadable", refunded: 100n, settledBlock: 10 });
    expect(history.entries[4]).toMatchObject({ answer: "0x1234", at: 1_004, payment: 100n, refunded: 0n });
    expect(history.entries[4]?.resultCid).toMatch(/^Qm/);
    expect(history.done).toBe(true);
  });

  it("when it did other things there too, then each is told with its money, and nobody else's are there", async () => {
    const chain = new FakeChain();
    chain.emit(4, "Deposited", { token: zeroAddress, account: ME, amount: 5n });
    chain.emit(5, "ModelPublished", { modelId: 2n, payout: ME, token: OTHER, price: 1n, manifestCid: "0x12" });
    chain.emit(6, "Credited", { token: OTHER, account: ME, amount: 6n });
    chain.emit(6, "Withdrawn", { token: zeroAddress, account: ME, to: OTHER, amount: 7n });
    chain.emit(7, "EarningsWithdrawn", { modelId: 2n, to: ME, amount: 8n });
    chain.emit(8, "Withdrawn", { token: zeroAddress, account: OTHER, to: ME, amount: 9n });
    chain.ask(9, "a request");
    const store = new FakeStore();
    const { entries, others } = await scan(chain, { store, depth: 0 });
    expect(entries).toHaveLength(1);
    expect(others.map(({ kind, token, model, amount, at }) => [kind, token, model, amount, at])).toEqual([
      ["earned", null, 2, 8n, 1_007],
      ["withdrawn", zeroAddress, null, 7n, 1_006],
      ["credited", getAddress(OTHER), null, 6n, 1_006],
      ["published", getAddress(OTHER), 2, 0n, 1_005],
      ["deposited", zeroAddress, null, 5n, 1_004],
    ]);
    chain.calls = [];
    expect((await scan(chain, { store, depth: 0 })).others).toEqual(others);
    expect(chain.ranges).toEqual([]);
  });

  it("when the endpoint does not date its logs, then the blocks are asked", async () => {
    const chain = new FakeChain();
    chain.stamps = false;
    chain.ask(4, "first");
    const history = await scan(chain);
    expect(history.entries[0]?.at).toBe(1_004);
  });

  it("when a callback failed and was delivered later, then the request is told as answered", async () => {
    const chain = new FakeChain();
    const delivered = chain.ask(4, "delivered");
    const undelivered = chain.ask(5, "undelivered");
    for (const id of [delivered, undelivered]) {
      chain.fulfil(6, id);
      chain.emit(6, "CallbackFailed", { requestId: id });
      chain.status.set(id, STATUS.callback_failed);
    }
    chain.emit(40, "CallbackRetried", { requestId: delivered });
    chain.status.set(delivered, STATUS.fulfilled);
    const history = await scan(chain, { step: 8 });
    expect(Object.fromEntries(history.entries.map((entry) => [entry.id, entry.status]))).toEqual({
      [delivered]: "fulfilled",
      [undelivered]: "callback_failed",
    });
  });
});

describe("given an endpoint that lies", () => {
  it("when it sends what was not asked for, then no other account's requests are shown, and no other contract's", async () => {
    const chain = new FakeChain();
    const mine = chain.ask(4, "mine");
    chain.ask(5, "theirs", OTHER);
    const elsewhere = chain.ask(6, "elsewhere");
    chain.ask(2, "before the coordinator was there");
    const liar: Reader = {
      request: async (call) => {
        if (call.method !== "eth_getLogs") return chain.request(call);
        const all = { ...(call.params as [object])[0], topics: [], fromBlock: "0x0", toBlock: "0xff" };
        const logs = (await chain.request({ ...call, params: [all] })) as { topics: string[]; address: string }[];
        return logs.map((log) => (log.topics[1] === elsewhere ? { ...log, address: OTHER } : log));
      },
    };
    const history = await scanRequests(liar, PLACE, ME, undefined, { store: null, sleep });
    expect(history.entries.map(({ id }) => id)).toEqual([mine]);
  });

  it("when it sends another contract's end of a request, then the request is still open", async () => {
    const chain = new FakeChain();
    const mine = chain.ask(4, "mine");
    chain.fulfil(5, mine);
    const liar: Reader = {
      request: async (call) => {
        const answer = await chain.request(call);
        if (call.method !== "eth_getLogs") return answer;
        return (answer as { blockNumber: string }[]).map((log) => (log.blockNumber === "0x5" ? { ...log, address: OTHER } : log));
      },
    };
    const history = await scanRequests(liar, PLACE, ME, undefined, { store: null, sleep });
    expect(history.entries.map(({ status }) => status)).toEqual(["pending"]);
  });
});

describe("given an endpoint with limits", () => {
  it("when it refuses long ranges, then they halve until it answers and each request is found once", async () => {
    const chain = new FakeChain();
    const ids = [4, 50, 51, 99, 170].map((block) => chain.ask(block, `at ${block}`));
    chain.head = 200;
    chain.largest = 7;
    const history = await scan(chain, { step: 64 });
    expect(history.entries.map((entry) => entry.id)).toEqual([...ids].reverse());
    const taken = chain.ranges.filter(([from, to]) => to - from + 1 <= 7);
    expect(taken.length).toBeGreaterThan(10);
    expect(chain.ranges.length - taken.length).toBeLessThan(12);
  });

  it("when it takes ranges gladly, then they grow", async () => {
    const chain = new FakeChain();
    chain.ask(4, "first");
    chain.head = 100_000;
    await scan(chain, { step: 10 });
    expect(chain.ranges.length).toBeLessThan(30);
    expect(Math.max(...chain.ranges.map(([from, to]) => to - from))).toBeGreaterThan(10_000);
  });

  it("when it refuses for good, then the scan ends with what was found, after bounded tries", async () => {
    const chain = new FakeChain();
    const late = chain.ask(95, "late");
    chain.ask(10, "early");
    chain.fulfil(96, late);
    chain.head = 100;
    chain.fail = (from) => (from < 50 ? new Error("no") : null);
    const failure = await scan(chain, { step: 10 }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ScanFailed);
    expect((failure as ScanFailed).history.entries.map((entry) => entry.id)).toEqual([late]);
    expect((failure as ScanFailed).history.done).toBe(false);
    expect(chain.calls.length).toBeLessThan(60);
  });

  it("when nobody answers, then it is tried a few times and no shorter range is tried", async () => {
    const chain = new FakeChain();
    chain.down = true;
    await expect(scan(chain)).rejects.toBeInstanceOf(ScanFailed);
    expect(chain.calls).toHaveLength(4);
  });

  it("when requests wait, then no settlement of theirs is looked for to the chain's head", async () => {
    const chain = new FakeChain();
    chain.ask(4, "waiting");
    chain.head = 10_000;
    chain.largest = 100;
    await scan(chain, { step: 100 });
    // One walk down the chain, and one look for each walk's find.
    expect(chain.ranges.length).toBeLessThan(115);
  });
});

describe("given a visit before", () => {
  it("when the chain went on, then only the new and the last blocks are read, and news of old requests is seen", async () => {
    const chain = new FakeChain();
    const store = new FakeStore();
    const old = chain.ask(4, "old");
    chain.head = 1_000;
    await scan(chain, { store });
    chain.calls = [];
    chain.fulfil(1_001, old);
    const fresh = chain.ask(1_002, "new");
    const history = await scan(chain, { store });
    expect(history.entries.map((entry) => [entry.id, entry.status])).toEqual([
      [fresh, "pending"],
      [old, "fulfilled"],
    ]);
    expect(Math.min(...chain.ranges.map(([from]) => from))).toBe(996);
  });

  it("when a reorg took a request and a settlement of the last blocks, then they are gone", async () => {
    const chain = new FakeChain();
    const store = new FakeStore();
    const kept = chain.ask(4, "kept");
    chain.ask(98, "gone");
    chain.fulfil(99, kept);
    chain.head = 100;
    expect((await scan(chain, { store })).entries).toHaveLength(2);
    chain.logs = chain.logs.filter((log) => log.block < 98);
    chain.status.set(kept, STATUS.pending);
    chain.forkedFrom = 98;
    chain.head = 101;
    const history = await scan(chain, { store });
    expect(history.entries.map((entry) => [entry.id, entry.status, entry.settledBlock])).toEqual([[kept, "pending", null]]);
  });

  it("when the reorg went deeper than is read again, then everything is read anew", async () => {
    const chain = new FakeChain();
    const store = new FakeStore();
    chain.ask(50, "gone");
    chain.head = 100;
    await scan(chain, { store });
    chain.logs = [];
    chain.forkedFrom = 40;
    expect((await scan(chain, { store })).entries).toEqual([]);
  });

  it("when the local chain was started again, then nothing of the one before is shown", async () => {
    const chain = new FakeChain();
    const store = new FakeStore();
    chain.ask(4, "before");
    chain.head = 50;
    await scan(chain, { store });
    const again = new FakeChain();
    again.name = "two";
    again.head = 60;
    const seen: History[] = [];
    await scan(again, { store }, seen);
    expect(seen.flatMap((history) => history.entries)).toEqual([]);
  });

  it("when it was broken off, then the next goes on where it ended", async () => {
    const chain = new FakeChain();
    const store = new FakeStore();
    const ids = [10, 500, 900].map((block) => chain.ask(block, `at ${block}`));
    chain.head = 1_000;
    chain.largest = 100;
    chain.fail = (from) => (from < 400 ? new Error("no") : null);
    await expect(scan(chain, { store, step: 100 })).rejects.toBeInstanceOf(ScanFailed);
    chain.calls = [];
    chain.fail = null;
    const history = await scan(chain, { store, step: 100 });
    expect(history.entries.map((entry) => entry.id)).toEqual([...ids].reverse());
    expect(history.done).toBe(true);
    expect(chain.ranges.filter(([from, to]) => from > 500 && to < 990)).toEqual([]);
  });

  it("when what was kept is no history, then the chain is read", async () => {
    const chain = new FakeChain();
    const store: HistoryStore = { read: () => Promise.resolve("{"), write: () => Promise.reject(new Error("full")) };
    chain.ask(4, "first");
    chain.head = 50;
    expect((await scan(chain, { store })).entries).toHaveLength(1);
  });
});

it("given a scan, when it is aborted, then it ends with the signal's reason", async () => {
  const chain = new FakeChain();
  chain.ask(4, "first");
  chain.head = 1_000;
  const abort = new AbortController();
  const running = scanRequests(chain, PLACE, ME, () => abort.abort(new Error("left")), { store: null, sleep, step: 10, signal: abort.signal });
  await expect(running).rejects.toThrow("left");
});
