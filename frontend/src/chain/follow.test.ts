import type { Hash, PublicClient } from "viem";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { follow, type Note, type Watched } from "./follow";

const ACCOUNT = "0x00000000000000000000000000000000000000a1";
const CONTRACT = "0x00000000000000000000000000000000000000c0";
const hash = (letter: string): Hash => `0x${letter.repeat(64)}`;
const WATCHED: Watched = {
  hash: hash("1"),
  account: ACCOUNT,
  to: CONTRACT,
  data: "0xabcd",
  value: 5n,
  nonce: 4,
  since: 10n,
};

interface Transaction {
  hash: Hash;
  from: string;
  to: string;
  nonce: number;
  input: string;
  value: bigint;
}
const ours: Transaction = { hash: hash("1"), from: ACCOUNT, to: CONTRACT, nonce: 4, input: "0xabcd", value: 5n };

/** A double of a node: transactions in its pool and in its blocks. */
class Node {
  pool: Transaction[] = [];
  blocks = new Map<bigint, Transaction[]>();
  head = 10n;
  latest = 4;
  pending = 5;
  down = 0;
  /** For how many of the newest blocks it knows the nonces. */
  remembers = Infinity;
  /** Blocks that it was asked for, and blocks at which a nonce was asked. */
  reads: bigint[] = [];
  counts: bigint[] = [];

  mine(...transactions: Transaction[]): void {
    this.head += 1n;
    this.blocks.set(this.head, transactions);
    this.latest += transactions.filter((one) => one.from === ACCOUNT).length;
    this.pool = [];
  }

  client(): PublicClient {
    const missing = (name: string) => Object.assign(new Error(name), { name });
    const answer = <T>(value: () => T): Promise<T> =>
      this.down-- > 0 ? Promise.reject(new Error("no connection")) : Promise.resolve().then(value);
    return {
      getTransactionReceipt: (one: { hash: Hash }) =>
        answer(() => {
          if (![...this.blocks.values()].flat().some((found) => found.hash === one.hash)) {
            throw missing("TransactionReceiptNotFoundError");
          }
          return { status: "success", transactionHash: one.hash };
        }),
      getTransaction: (one: { hash: Hash }) =>
        answer(() => {
          const found = this.pool.find((waiting) => waiting.hash === one.hash);
          if (!found) throw missing("TransactionNotFoundError");
          return found;
        }),
      getTransactionCount: (one: { blockTag?: string; blockNumber?: bigint }) =>
        answer(() => {
          if (one.blockNumber !== undefined) return this.countAt(one.blockNumber);
          return one.blockTag === "latest" ? this.latest : this.pending;
        }),
      getBlockNumber: () => answer(() => this.head),
      getBlock: (one: { blockNumber: bigint }) =>
        answer(() => {
          this.reads.push(one.blockNumber);
          return { transactions: this.blocks.get(one.blockNumber) ?? [] };
        }),
    } as unknown as PublicClient;
  }

  private countAt(number: bigint): number {
    this.counts.push(number);
    if (this.head - number >= this.remembers) throw new Error("missing trie node");
    const later = [...this.blocks].filter(([block]) => block > number).flatMap(([, transactions]) => transactions);
    return this.latest - later.filter((one) => one.from === ACCOUNT).length;
  }
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

async function watch(node: Node, during: () => Promise<unknown>, watched = WATCHED) {
  const notes: Note[] = [];
  const controller = new AbortController();
  const end = follow(node.client(), watched, (note) => notes.push(note), controller.signal);
  const settled = end.then(
    (outcome) => ({ outcome, error: null }),
    (error: unknown) => ({ outcome: null, error }),
  );
  await during();
  return { ...(await settled), notes };
}
const tick = (ms: number) => vi.advanceTimersByTimeAsync(ms);

describe("following a transaction", () => {
  test("given one that is mined, when followed, then its receipt is the end", async () => {
    const node = new Node();
    node.pool = [ours];
    const { outcome, notes } = await watch(node, async () => {
      await tick(1_500);
      node.mine(ours);
      await tick(2_000);
    });
    expect(outcome).toMatchObject({ kind: "mined", repriced: false, receipt: { transactionHash: hash("1") } });
    expect(new Set(notes)).toEqual(new Set(["waiting"]));
  });

  test("given one that was sped up before the first look, when followed, then the new one is found", async () => {
    const node = new Node();
    node.mine({ ...ours, hash: hash("2") });
    const { outcome, notes } = await watch(node, () => tick(1_500));
    expect(outcome).toMatchObject({ kind: "mined", repriced: true, receipt: { transactionHash: hash("2") } });
    expect(notes).toContain("repriced");
  });

  test("given one whose nonce went to nothing, when followed, then it was cancelled", async () => {
    const node = new Node();
    node.pool = [ours];
    const { outcome } = await watch(node, async () => {
      await tick(1_500);
      node.mine({ ...ours, hash: hash("3"), to: ACCOUNT, input: "0x", value: 0n });
      await tick(2_000);
    });
    expect(outcome).toEqual({ kind: "cancelled", hash: hash("3") });
  });

  test("given one whose nonce went to something else, when followed, then it was replaced", async () => {
    const node = new Node();
    node.mine({ ...ours, hash: hash("4"), to: CONTRACT, input: "0xffff" });
    const { outcome } = await watch(node, () => tick(1_500));
    expect(outcome).toEqual({ kind: "replaced", hash: hash("4") });
  });

  test("given a replacement far back, when followed, then its block is found by halving, and it alone is read", async () => {
    const node = new Node();
    node.head = 40_000n;
    node.mine({ ...ours, hash: hash("2") }, { ...ours, hash: hash("5"), from: CONTRACT });
    node.head = 50_000n;
    node.mine({ ...ours, hash: hash("6"), nonce: 5 });
    node.head = 100_000n;
    const { outcome } = await watch(node, () => tick(1_500));
    expect(outcome).toMatchObject({ kind: "mined", repriced: true, receipt: { transactionHash: hash("2") } });
    expect(node.reads).toEqual([40_001n]);
    expect(node.counts.length).toBeLessThan(20);
  });

  test.each([40, 0])(
    "given a node that knows the nonces of %i blocks, when a replacement is older, then some blocks are read from the newest",
    async (remembers) => {
      const node = new Node();
      node.remembers = remembers;
      node.head = 5_000n;
      node.mine({ ...ours, hash: hash("2") });
      node.head = 5_050n;
      const { outcome } = await watch(node, () => tick(1_500));
      expect(outcome).toMatchObject({ kind: "mined", receipt: { transactionHash: hash("2") } });
      expect(Math.max(...node.reads.map(Number)) - 5_001).toBe(node.reads.length - 1);
    },
  );

  test("given a replacement that the node has forgotten, when followed, then that is said, and only now and then looked for", async () => {
    const node = new Node();
    node.remembers = 0;
    node.head = 5_000n;
    node.mine({ ...ours, hash: hash("2") });
    node.head = 7_000n;
    const { outcome, notes } = await watch(node, async () => {
      await tick(9_000);
      expect(node.reads).toHaveLength(64);
      await tick(9_000);
      expect(node.reads).toHaveLength(128);
      node.remembers = Infinity;
      await tick(9_000);
    });
    expect(notes).toEqual(["taken", "repriced"]);
    expect(outcome).toMatchObject({ kind: "mined", receipt: { transactionHash: hash("2") } });
  });

  test("given another call that was mined while the wallet asked, when followed, then it did not take this one's place", async () => {
    const node = new Node();
    node.mine({ ...ours, hash: hash("4"), to: CONTRACT, input: "0xffff" });
    const { outcome } = await watch(
      node,
      async () => {
        await tick(1_500);
        node.mine({ ...ours, nonce: ours.nonce + 1 });
        await tick(2_000);
      },
      { ...WATCHED, before: WATCHED.nonce + 1 },
    );
    expect(outcome).toMatchObject({ kind: "mined", receipt: { transactionHash: hash("1") } });
  });

  test("given a nonce far ahead of what the node expects, when followed, then it is called stale", async () => {
    const node = new Node();
    node.pool = [{ ...ours, nonce: 11 }];
    const { notes } = await watch(node, async () => {
      await tick(1_500);
      node.mine(ours);
      node.latest = 12;
      await tick(2_000);
    });
    expect(notes[0]).toBe("stale");
  });

  test("given one that no node knows, when some time has passed, then it is called lost, and still followed", async () => {
    const node = new Node();
    const { notes, outcome } = await watch(node, async () => {
      await tick(25_000);
      node.mine(ours);
      await tick(5_000);
    });
    expect(notes.at(-1)).toBe("lost");
    expect(outcome).toMatchObject({ kind: "mined" });
  });

  test("given a node that fails a few times, when it is back, then nothing was missed; when it stays away, it is said", async () => {
    const node = new Node();
    node.mine(ours);
    node.down = 5;
    expect((await watch(node, () => tick(10_000))).outcome).toMatchObject({ kind: "mined" });
    node.down = 1_000;
    expect((await watch(node, () => tick(60_000))).error).toMatchObject({ message: "no connection" });
  });
});
