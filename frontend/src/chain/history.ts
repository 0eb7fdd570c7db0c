/**
 * An account's requests and its other transactions at the coordinator, rebuilt from the chain's events alone.
 *
 * The scan runs from the newest block to the coordinator's first one in ranges that grow while the endpoint takes them
 * and halve when it refuses. What was found is kept in the browser under the chain's first block hash, so a local chain
 * that was started again is another chain. The last blocks are read again each time, since a reorg may have changed them.
 */
import { hexToNumber, numberToHex } from "viem";
import type { Address, Hash, Hex } from "viem";

import { cidText } from "../content/cid";
import { FAILURE_REASONS, type FailureReason } from "./abi";
import { browserStore, type HistoryStore, type Kept, readKept, writeKept } from "./history-store";
import { blockOf, ENDS, LogReader, OTHERS, padded, type Place, type Reader, type ReadOptions, selectors, type Told, type Topics } from "./logs";
import { statusOf } from "./requests";

/** Where a request stands, by its events. */
export type Standing = "pending" | "fulfilled" | "callback_failed" | "failed" | "refunded" | "cancelled";

/** One request with what became of it. Money in the smallest part of the model's token, times in Unix seconds. */
export interface HistoryEntry {
  id: Hash;
  model: number;
  requester: Address;
  imageCid: string;
  payment: bigint;
  callbackGas: bigint;
  deadline: number;
  nonce: bigint;
  block: number;
  logIndex: number;
  transaction: Hash;
  at: number | null;
  status: Standing;
  settledBlock: number | null;
  settledTransaction: Hash | null;
  resultCid: string | null;
  answer: Hex | null;
  failure: FailureReason | null;
  /** What went back to the requester. */
  refunded: bigint;
}

/** What else the account did at the coordinator, or got there. */
export interface OtherEntry {
  kind: "deposited" | "credited" | "withdrawn" | "published" | "earned";
  /** Null where it is the model's. */
  token: Address | null;
  model: number | null;
  /** In the token's smallest part; zero for a publication. */
  amount: bigint;
  /** Where money was withdrawn to. */
  to: Address | null;
  block: number;
  logIndex: number;
  transaction: Hash;
  at: number | null;
}

export interface History {
  /** Newest first. */
  entries: HistoryEntry[];
  /** Newest first. */
  others: OtherEntry[];
  /** Blocks that were read, both ends included. */
  from: number;
  to: number;
  /** First block that matters: the scan is whole when `from` has reached it. */
  start: number;
  done: boolean;
}

export interface ScanOptions extends ReadOptions {
  store?: HistoryStore | null;
  /** Blocks at the head that are always read again. */
  depth?: number;
}

/** The endpoint could not be read; what was found before is in `history`. */
export class ScanFailed extends Error {
  constructor(
    cause: unknown,
    readonly history: History,
  ) {
    super("The chain could not be read to the end.", { cause });
    this.name = "ScanFailed";
  }
}

const DEPTH = 64;
const IDS = 50; // request ids in one filter
const ASKED = selectors(["InferenceRequested"]);
const ENDED = selectors(ENDS);
const BESIDE = selectors(OTHERS);

/**
 * All that `account` did at the coordinator, newest first; `onProgress` sees each step. Resolves with the whole.
 *
 * Raises ScanFailed when the endpoint refuses for good, and the signal's reason when it is aborted.
 */
export async function scanRequests(
  client: Reader,
  place: Place,
  account: Address,
  onProgress: (history: History) => void = () => undefined,
  options: ScanOptions = {},
): Promise<History> {
  const { store = browserStore(), signal, depth = DEPTH } = options;
  const logs = new LogReader(client, place, options);
  const found = new Map<Hash, HistoryEntry>();
  const beside = new Map<string, OtherEntry>();
  let from = Infinity;
  let to = -1;

  const view = (): History => {
    const entries = [...found.values()].map((entry) => ({ ...entry }));
    entries.sort(newestFirst);
    const others = [...beside.values()].sort(newestFirst);
    const low = Math.min(from, to + 1);
    return { entries, others, from: low, to, start: place.start_block, done: low <= place.start_block };
  };

  try {
    const head = hexToNumber((await logs.request({ method: "eth_blockNumber" })) as Hex);
    const genesis = await blockHash(logs, 0);
    const key = ["sibyl-history-2", place.chain_id, place.coordinator.toLowerCase(), genesis, account.toLowerCase()].join(":");
    const kept = await restore(store, key, logs, head);
    let fresh = place.start_block;
    if (kept) {
      for (const entry of kept.entries) found.set(entry.id, entry);
      for (const other of kept.others) beside.set(placeOf(other), other);
      from = kept.from;
      to = kept.anchor;
      fresh = kept.anchor + 1;
      onProgress(view());
      // They may have been settled in the blocks that are read again.
      await settle(logs, place, [...found.values()].filter(isOpen), fresh, head);
    }
    const take = async (told: readonly Told[], low: number): Promise<void> => {
      const entries: HistoryEntry[] = [];
      for (const one of told) {
        const entry = await toEntry(logs, one);
        if (entry) entries.push(entry);
        const other = await toOther(logs, one);
        if (other) beside.set(placeOf(other), other);
      }
      await settle(logs, place, entries, low, head);
      // A request that a reorg moved is found again where it stands now.
      for (const entry of entries) found.set(entry.id, entry);
    };
    const mine: Topics[] = [
      [ASKED, null, null, padded(account)],
      [BESIDE, null, padded(account)],
    ];
    const anchor = Math.max(head - depth, place.start_block - 1);
    const anchorHash = anchor >= 0 ? await blockHash(logs, anchor) : null;
    const save = async (): Promise<void> => {
      // Blocks above the anchor are read again next time, so a scan that has not come below it keeps nothing.
      if (store === null || anchorHash === null || from > anchor + 1) return;
      const entries = view().entries.filter((entry) => entry.block <= anchor);
      const others = view().others.filter((other) => other.block <= anchor);
      await writeKept(store, key, {
        from,
        anchor,
        anchorHash,
        entries: entries.map((entry) => openAbove(entry, anchor)),
        others,
      });
    };

    // First what is new since the last visit, then the rest of the past.
    if (kept) {
      for await (const { told, from: bottom } of logs.downwards(fresh, head, ...mine)) {
        await take(told, bottom);
        onProgress({ ...view(), done: false });
      }
      to = head;
      await save();
    } else {
      to = head;
      from = head + 1;
    }
    for await (const { told, from: bottom } of logs.downwards(place.start_block, from - 1, ...mine)) {
      await take(told, bottom);
      from = bottom;
      onProgress(view());
      await save();
    }
    from = Math.min(from, place.start_block);
    const whole = view();
    onProgress(whole);
    await save();
    return whole;
  } catch (error) {
    signal?.throwIfAborted();
    throw new ScanFailed(error, { ...view(), done: false });
  }
}

/** Entries as at `anchor`: what was settled above it is open again, since those blocks will be read again. */
function openAbove(entry: HistoryEntry, anchor: number): HistoryEntry {
  if (entry.settledBlock === null || entry.settledBlock <= anchor) return entry;
  return { ...entry, ...OPEN };
}

const OPEN = {
  status: "pending" as const,
  settledBlock: null,
  settledTransaction: null,
  resultCid: null,
  answer: null,
  failure: null,
  refunded: 0n,
};

/** Whether anything may still happen to a request. */
function isOpen(entry: HistoryEntry): boolean {
  return entry.status === "pending" || entry.status === "callback_failed";
}

// ------------------------------------------------------------------------------------------------------------------
// Joining what became of requests
// ------------------------------------------------------------------------------------------------------------------

/**
 * Look for the end of each entry from block `low` upwards, in place. What the first range does not tell is asked of the
 * contract, so nothing is looked for that cannot be there.
 */
async function settle(logs: LogReader, place: Place, entries: HistoryEntry[], low: number, head: number): Promise<void> {
  for (let at = 0; at < entries.length; at += IDS) {
    const open = new Map(entries.slice(at, at + IDS).map((entry) => [entry.id, entry]));
    for await (const { told, to } of logs.upwards(low, head, [ENDED, [...open.keys()]])) {
      for (const log of told) {
        const entry = "requestId" in log.args ? open.get(log.args.requestId) : undefined;
        if (entry) apply(entry, log);
      }
      for (const entry of [...open.values()]) if (!isOpen(entry)) open.delete(entry.id);
      if (to < head) await dropStill(logs, place, open);
      if (open.size === 0) break;
    }
  }
}

/** Leave only those that the contract knows as further than their events so far. */
async function dropStill(logs: LogReader, place: Place, open: Map<Hash, HistoryEntry>): Promise<void> {
  await Promise.all(
    [...open.values()].map(async (entry) => {
      const status = await statusOf(logs, place, entry.id);
      if (status === (entry.status === "pending" ? "Pending" : "CallbackFailed")) open.delete(entry.id);
    }),
  );
}

function apply(entry: HistoryEntry, log: Told): void {
  const settled = { settledBlock: Number(log.blockNumber), settledTransaction: log.transactionHash };
  switch (log.eventName) {
    case "InferenceFulfilled":
      Object.assign(entry, settled, { status: "fulfilled", resultCid: cidText(log.args.resultCid), answer: log.args.answer });
      break;
    case "InferenceFailed":
      Object.assign(entry, settled, { status: "failed", failure: FAILURE_REASONS[log.args.reason] ?? null });
      break;
    case "InferenceRefunded":
      // It accompanies a failure, and then tells of the money alone.
      Object.assign(entry, settled, { refunded: log.args.amount });
      if (entry.status !== "failed") entry.status = "refunded";
      break;
    case "InferenceCancelled":
      Object.assign(entry, settled, { status: "cancelled", refunded: log.args.amount });
      break;
    case "CallbackFailed":
      entry.status = "callback_failed";
      break;
    case "CallbackRetried":
      entry.status = "fulfilled";
      break;
  }
}

async function toEntry(logs: LogReader, log: Told): Promise<HistoryEntry | null> {
  if (log.eventName !== "InferenceRequested") return null;
  const imageCid = cidText(log.args.imageCid);
  if (imageCid === null) return null;
  return {
    id: log.args.requestId,
    model: Number(log.args.modelId),
    requester: log.args.requester,
    imageCid,
    payment: log.args.payment,
    callbackGas: log.args.callbackGas,
    deadline: Number(log.args.deadline),
    nonce: log.args.nonce,
    block: Number(log.blockNumber),
    logIndex: log.logIndex,
    transaction: log.transactionHash,
    at: await logs.timeOf(log),
    ...OPEN,
  };
}

async function toOther(logs: LogReader, log: Told): Promise<OtherEntry | null> {
  const said = saidBeside(log);
  if (said === null) return null;
  const { logIndex, transactionHash } = log;
  return { ...said, block: Number(log.blockNumber), logIndex, transaction: transactionHash, at: await logs.timeOf(log) };
}

function saidBeside(log: Told): Pick<OtherEntry, "kind" | "token" | "model" | "amount" | "to"> | null {
  switch (log.eventName) {
    case "Deposited":
      return { kind: "deposited", token: log.args.token, model: null, amount: log.args.amount, to: null };
    case "Credited":
      return { kind: "credited", token: log.args.token, model: null, amount: log.args.amount, to: null };
    case "Withdrawn":
      return { kind: "withdrawn", token: log.args.token, model: null, amount: log.args.amount, to: log.args.to };
    case "ModelPublished":
      return { kind: "published", token: log.args.token, model: Number(log.args.modelId), amount: 0n, to: null };
    case "EarningsWithdrawn":
      return { kind: "earned", token: null, model: Number(log.args.modelId), amount: log.args.amount, to: log.args.to };
    default:
      return null;
  }
}

interface Placed {
  block: number;
  logIndex: number;
}

function newestFirst(a: Placed, b: Placed): number {
  return b.block - a.block || b.logIndex - a.logIndex;
}

function placeOf({ block, logIndex }: Placed): string {
  return `${block}:${logIndex}`;
}

async function blockHash(logs: LogReader, number: number): Promise<Hash> {
  const block = await blockOf(logs, numberToHex(number));
  if (!block) throw new Error(`The endpoint does not know block ${number}.`);
  return block.hash;
}

/** What was found at the last visit, unless its last block is no longer the chain's. */
async function restore(store: HistoryStore | null, key: string, logs: LogReader, head: number): Promise<Kept | null> {
  const kept = store && (await readKept(store, key));
  // The same block at the same height, or everything is read anew.
  if (!kept || kept.anchor > head || (await blockHash(logs, kept.anchor)) !== kept.anchorHash) return null;
  return kept;
}
