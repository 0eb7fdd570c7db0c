import type { Address, Hash, Hex, PublicClient, Transaction, TransactionReceipt } from "viem";

/** A transaction as it was put to the wallet, and what the chain knew just before. */
export interface Watched {
  hash: Hash;
  account: Address;
  to: Address;
  data: Hex;
  value: bigint;
  /** The account's next nonce, pending ones counted, when the wallet was asked; what it used is read from the node. */
  nonce: number;
  /** Its next nonce in blocks once the wallet had answered: others of the account may have been mined meanwhile. */
  before?: number;
  /** Block at that time. */
  since: bigint;
}

/**
 * "repriced" is the same at higher fees; "stale" waits behind transactions that no node knows; "lost" is known to none;
 * "taken" has lost its nonce to something in a block that the node does not show.
 */
export type Note = "waiting" | "repriced" | "stale" | "lost" | "taken";

/** Whether waiting alone will hardly end it. */
export function isStuck(note: Note | undefined): note is "stale" | "lost" | "taken" {
  return note === "stale" || note === "lost" || note === "taken";
}

export type Outcome =
  | { kind: "mined"; receipt: TransactionReceipt; repriced: boolean }
  | { kind: "cancelled"; hash: Hash }
  | { kind: "replaced"; hash: Hash };

const POLL_MS = 1_000;
const SLOW_POLL_MS = 4_000;
const QUICK_FOR_MS = 60_000;
const LOST_AFTER_MS = 20_000;
const LONGEST_MS = 24 * 3_600_000;
const SEARCH_AGAIN_MS = 10_000;
/** Blocks read one by one where the node has forgotten the nonces at older ones. */
const LONGEST_READ = 64n;

/**
 * Waits until the transaction or whatever took its nonce is in a block. Speed-ups and cancellations are found by account
 * and nonce, so that also one that happened between two looks is followed. Rejects when `signal` is aborted or the node
 * fails ten times in a row.
 */
export async function follow(
  client: PublicClient,
  watched: Watched,
  report: (note: Note) => void,
  signal: AbortSignal,
): Promise<Outcome> {
  const start = Date.now();
  let { nonce } = watched;
  let failures = 0;
  let searches = 0;
  let searched = -Infinity;
  while (Date.now() - start < LONGEST_MS) {
    signal.throwIfAborted();
    try {
      const looked = await look();
      failures = 0;
      if (looked) return looked;
    } catch (error) {
      failures += 1;
      if (failures >= 10 || signal.aborted) throw error;
    }
    await pause(Date.now() - start < QUICK_FOR_MS ? POLL_MS : SLOW_POLL_MS, signal);
  }
  throw new Error("The transaction is still waiting after a day");

  async function look(): Promise<Outcome | null> {
    const receipt = await client.getTransactionReceipt({ hash: watched.hash }).catch(absent);
    if (receipt) return { kind: "mined", receipt, repriced: false };
    const transaction = await client.getTransaction({ hash: watched.hash }).catch(absent);
    if (transaction) nonce = transaction.nonce;
    const mined = await client.getTransactionCount({ address: watched.account, blockTag: "latest" });
    if (mined > nonce) return replacement(nonce);
    if (transaction) {
      const pending = await client.getTransactionCount({ address: watched.account, blockTag: "pending" });
      report(nonce > pending ? "stale" : "waiting");
    } else {
      report(Date.now() - start > LOST_AFTER_MS ? "lost" : "waiting");
    }
    return null;
  }

  /** Whether another call was mined while the wallet still asked, so that this one has a later nonce. */
  function cannotBe(found: { to: Address | null; value: bigint }, used: number): boolean {
    const cancels = found.to?.toLowerCase() === watched.account.toLowerCase() && found.value === 0n;
    return used < (watched.before ?? 0) && !cancels;
  }

  /** What is in a block at this nonce; null when it is the transaction itself, whose receipt is about to be there. */
  async function replacement(used: number): Promise<Outcome | null> {
    if (Date.now() - searched < SEARCH_AGAIN_MS) return null;
    const found = await taker(used);
    if (!found) {
      // Nodes behind one address may be a block apart: once alone says nothing.
      if (searches > 0) report("taken");
      searches += 1;
      searched = Date.now();
      return null;
    }
    if (found.hash === watched.hash) return null;
    if (found.to?.toLowerCase() === watched.to.toLowerCase() && found.input === watched.data) {
      report("repriced");
      const receipt = await client.getTransactionReceipt({ hash: found.hash });
      return { kind: "mined", receipt, repriced: true };
    }
    if (cannotBe(found, used)) {
      nonce = used + 1;
      return null;
    }
    const nothing = found.to?.toLowerCase() === watched.account.toLowerCase() && found.value === 0n;
    return { kind: nothing ? "cancelled" : "replaced", hash: found.hash };
  }

  /** The transaction that used the nonce, by halving; null when it is older than what the node remembers. */
  async function taker(used: number): Promise<Transaction | null> {
    let below = watched.since - 1n;
    let block = await client.getBlockNumber({ cacheTime: 0 });
    let forgotten = false;
    while (block - below > 1n) {
      signal.throwIfAborted();
      const middle = (below + block) / 2n;
      const count = await client
        .getTransactionCount({ address: watched.account, blockNumber: middle })
        .catch(() => null);
      forgotten ||= count === null;
      if (count !== null && count > used) block = middle;
      else below = middle;
    }
    const last = forgotten ? block - LONGEST_READ : block - 1n;
    for (; block > last && block >= watched.since; block -= 1n) {
      signal.throwIfAborted();
      const { transactions } = await client.getBlock({ blockNumber: block, includeTransactions: true });
      const found = transactions.find(
        (one) => one.nonce === used && one.from.toLowerCase() === watched.account.toLowerCase(),
      );
      if (found) return found;
    }
    return null;
  }
}

/** Null for "the node does not know it"; everything else is a failure of the look. */
function absent(error: unknown): null {
  const name = (error as { name?: unknown }).name;
  if (name === "TransactionReceiptNotFoundError" || name === "TransactionNotFoundError") return null;
  throw error;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(done, ms);
    function done() {
      signal.removeEventListener("abort", stop);
      resolve();
    }
    function stop() {
      clearTimeout(timer);
      reject(signal.reason as Error);
    }
    signal.addEventListener("abort", stop, { once: true });
  });
}
