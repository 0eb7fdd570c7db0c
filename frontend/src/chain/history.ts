/**
 * An account's requests, rebuilt from the chain's events alone.
 *
 * The scan runs from the newest block to the coordinator's first one in ranges that grow while the endpoint takes them
 * and halve when it refuses. What was found is kept in the browser under the chain's first block hash, so a local chain
 * that was started again is another chain. The last blocks are read again each time, since a reorg may have changed them.
 */
import {
  decodeFunctionResult,
  encodeFunctionData,
  formatLog,
  getAbiItem,
  hexToNumber,
  numberToHex,
  parseEventLogs,
  toEventSelector,
} from "viem";
import type { Address, Hash, Hex, Log, RpcLog } from "viem";

import { cidOfHex } from "../content/cid";
import { CHAIN_STATUSES, type ChainStatus, coordinatorAbi, FAILURE_REASONS, type FailureReason } from "./abi";

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

export interface History {
  /** Newest first. */
  entries: HistoryEntry[];
  /** Blocks that were read, both ends included. */
  from: number;
  to: number;
  /** First block that matters: the scan is whole when `from` has reached it. */
  start: number;
  done: boolean;
}

/** The part of an Ethereum client that the scan uses: viem's public client has it. */
export interface Reader {
  request(call: { method: string; params?: unknown }): Promise<unknown>;
}

export interface Place {
  chain_id: number;
  coordinator: string;
  start_block: number;
}

/** Where a history is kept between visits; a failing one is never an error. */
export interface HistoryStore {
  read(key: string): Promise<string | null>;
  write(key: string, value: string): Promise<void>;
}

export interface ScanOptions {
  store?: HistoryStore | null;
  signal?: AbortSignal;
  /** Blocks at the head that are always read again. */
  depth?: number;
  /** Blocks of the first range. */
  step?: number;
  /** Waits, replaced in tests. */
  sleep?: (milliseconds: number) => Promise<void>;
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
const STEP = 5_000;
const LARGEST_STEP = 200_000;
const CALM = 8; // successes after which a longer range is tried again, twice as many after each refusal
const TRIES = 4; // failures in a row, of ranges that cannot be halved any more
const IDS = 50; // request ids in one filter
const ENDS = [
  "InferenceFulfilled",
  "InferenceFailed",
  "InferenceRefunded",
  "InferenceCancelled",
  "CallbackFailed",
  "CallbackRetried",
] as const;
const ASKED = toEventSelector(getAbiItem({ abi: coordinatorAbi, name: "InferenceRequested" }));
const ENDED = ENDS.map((name) => toEventSelector(getAbiItem({ abi: coordinatorAbi, name })));

/**
 * All requests of `account` at the coordinator, newest first; `onProgress` sees each step. Resolves with the whole.
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
  const logs = new LogReader(client, place.coordinator as Address, options);
  const found = new Map<Hash, HistoryEntry>();
  let from = Infinity;
  let to = -1;

  const view = (): History => {
    const entries = [...found.values()].map((entry) => ({ ...entry }));
    entries.sort((a, b) => b.block - a.block || b.logIndex - a.logIndex);
    const low = Math.min(from, to + 1);
    return { entries, from: low, to, start: place.start_block, done: low <= place.start_block };
  };

  try {
    const head = hexToNumber((await logs.call("eth_blockNumber")) as Hex);
    const genesis = await blockHash(logs, 0);
    const key = ["sibyl-history", place.chain_id, place.coordinator.toLowerCase(), genesis, account.toLowerCase()].join(":");
    const kept = await restore(store, key, logs, head);
    let fresh = place.start_block;
    if (kept) {
      for (const entry of kept.entries) found.set(entry.id, entry);
      from = kept.from;
      to = kept.anchor;
      fresh = kept.anchor + 1;
      onProgress(view());
      // They may have been settled in the blocks that are read again.
      await settle(logs, place, [...found.values()].filter(isOpen), fresh, head);
    }
    const read = async (low: number, high: number): Promise<void> => {
      const asked = await logs.range(low, high, [ASKED, null, null, padded(account)]);
      const entries = asked.map(toEntry).filter((entry) => entry !== null);
      await date(logs, entries, asked);
      await settle(logs, place, entries, low, head);
      // A request that a reorg moved is found again where it stands now.
      for (const entry of entries) found.set(entry.id, entry);
    };
    const anchor = Math.max(head - depth, place.start_block - 1);
    const anchorHash = anchor >= 0 ? await blockHash(logs, anchor) : null;
    const save = async (): Promise<void> => {
      // Blocks above the anchor are read again next time, so a scan that has not come below it keeps nothing.
      if (store === null || anchorHash === null || from > anchor + 1) return;
      const entries = view().entries.filter((entry) => entry.block <= anchor);
      await keep(store, key, { from, anchor, anchorHash, entries: entries.map((entry) => openAbove(entry, anchor)) });
    };

    // First what is new since the last visit, then the rest of the past.
    if (kept) {
      for (const [bottom, top] of logs.downwards(fresh, head)) {
        await read(bottom, top);
        onProgress({ ...view(), done: false });
      }
      to = head;
      await save();
    } else {
      to = head;
      from = head + 1;
    }
    for (const [bottom, top] of logs.downwards(place.start_block, from - 1)) {
      await read(bottom, top);
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
    for (const [bottom, top] of logs.upwards(low, head)) {
      const told = await logs.range(bottom, top, [ENDED, [...open.keys()]]);
      const parsed = parseEnds(told);
      for (const log of parsed.sort((a, b) => Number(a.blockNumber - b.blockNumber) || a.logIndex - b.logIndex)) {
        const entry = open.get(log.args.requestId);
        if (entry) apply(entry, log);
      }
      for (const entry of [...open.values()]) if (!isOpen(entry)) open.delete(entry.id);
      if (top < head) await dropStill(logs, place, open);
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

function parseEnds(logs: RpcLog[]) {
  return parseEventLogs({ abi: coordinatorAbi, eventName: [...ENDS], logs: logs.map(toLog), strict: true });
}

type Told = ReturnType<typeof parseEnds>[number];

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

async function statusOf(logs: LogReader, place: Place, id: Hash): Promise<ChainStatus | undefined> {
  const call = { abi: coordinatorAbi, functionName: "requestOf" } as const;
  const data = encodeFunctionData({ ...call, args: [id] });
  const answer = (await logs.call("eth_call", [{ to: place.coordinator, data }, "latest"])) as Hex;
  return CHAIN_STATUSES[decodeFunctionResult({ ...call, data: answer }).status];
}

function toEntry(raw: RpcLog): HistoryEntry | null {
  const [log] = parseEventLogs({
    abi: coordinatorAbi,
    eventName: "InferenceRequested",
    logs: [toLog(raw)],
    strict: true,
  });
  if (!log) return null;
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
    at: null,
    ...OPEN,
  };
}

/** Fill in when each request was made: some endpoints say it with the log, of the others the block is asked. */
async function date(logs: LogReader, entries: HistoryEntry[], raw: RpcLog[]): Promise<void> {
  const times = new Map<number, number>();
  for (const log of raw) {
    const stamp = (log as { blockTimestamp?: Hex | null }).blockTimestamp;
    if (log.blockNumber && stamp) times.set(hexToNumber(log.blockNumber), hexToNumber(stamp));
  }
  for (const entry of entries) {
    if (!times.has(entry.block)) {
      const block = (await logs.call("eth_getBlockByNumber", [numberToHex(entry.block), false])) as { timestamp: Hex } | null;
      if (block) times.set(entry.block, hexToNumber(block.timestamp));
    }
    entry.at = times.get(entry.block) ?? null;
  }
}

// ------------------------------------------------------------------------------------------------------------------
// Reading logs
// ------------------------------------------------------------------------------------------------------------------

/** Reads logs in ranges whose length the endpoint's answers teach. */
class LogReader {
  private step: number;
  private ceiling = LARGEST_STEP;
  private good = 0;
  private calm = 0;
  private patience = CALM;
  private readonly signal: AbortSignal | undefined;
  private readonly sleep: (milliseconds: number) => Promise<void>;

  constructor(
    private readonly client: Reader,
    private readonly address: Address,
    options: ScanOptions,
  ) {
    this.step = options.step ?? STEP;
    this.signal = options.signal;
    this.sleep = options.sleep ?? ((milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)));
  }

  /** Ranges from `high` down to `low`. */
  *downwards(low: number, high: number): Generator<[number, number]> {
    for (let top = high; top >= low; ) {
      const bottom = Math.max(low, top - this.step + 1);
      yield [bottom, top];
      top = bottom - 1;
    }
  }

  /** Ranges from `low` up to `high`. */
  *upwards(low: number, high: number): Generator<[number, number]> {
    for (let bottom = low; bottom <= high; ) {
      const top = Math.min(high, bottom + this.step - 1);
      yield [bottom, top];
      bottom = top + 1;
    }
  }

  /** Logs of blocks `low` to `high`, each once, in order; halves a range that is refused. */
  async range(low: number, high: number, topics: unknown[]): Promise<RpcLog[]> {
    const logs = new Map<string, RpcLog>();
    for (let bottom = low, tries = 0; bottom <= high; ) {
      this.signal?.throwIfAborted();
      const top = Math.min(high, bottom + this.step - 1);
      const length = top - bottom + 1;
      try {
        const answer = await this.client.request({
          method: "eth_getLogs",
          params: [{ address: this.address, topics, fromBlock: numberToHex(bottom), toBlock: numberToHex(top) }],
        });
        for (const log of answer as RpcLog[]) {
          if (!log.removed && log.blockNumber !== null) logs.set(`${log.blockNumber}:${log.logIndex}`, log);
        }
        bottom = top + 1;
        tries = 0;
        this.grow(length);
      } catch (error) {
        if (length > 1 && !isUnreachable(error)) {
          this.shrink(length);
          if (isRateLimit(error)) await this.sleep(500);
          continue;
        }
        tries += 1;
        if (tries >= TRIES) throw error;
        await this.sleep(250 * 2 ** tries);
      }
    }
    return [...logs.values()];
  }

  /** One call, tried again a few times. */
  async call(method: string, params: unknown[] = []): Promise<unknown> {
    for (let tries = 1; ; tries += 1) {
      this.signal?.throwIfAborted();
      try {
        return await this.client.request({ method, params });
      } catch (error) {
        if (tries >= TRIES || isHopeless(error)) throw error;
        await this.sleep(250 * 2 ** tries);
      }
    }
  }

  private grow(length: number): void {
    this.good = Math.max(this.good, length);
    this.calm += 1;
    if (this.calm >= this.patience) {
      this.ceiling = Math.min(LARGEST_STEP, this.ceiling * 2);
      this.calm = 0;
    }
    this.step = Math.min(this.ceiling, this.step * 2);
  }

  /** Back to what went well before, or to half, and longer before the next attempt to grow. */
  private shrink(length: number): void {
    this.good = this.good < length ? this.good : 0;
    this.step = Math.max(this.good, Math.floor(length / 2));
    this.ceiling = this.step;
    this.calm = 0;
    this.patience = Math.min(this.patience * 2, 1_024);
  }
}

/** There is nobody to ask. */
function isHopeless(error: unknown): boolean {
  for (let at = error as Error | undefined, depth = 0; at && depth < 6; at = at.cause as Error | undefined, depth += 1) {
    if (at.name === "NoRpc") return true;
  }
  return false;
}

/** Nobody answered: a shorter range would not help. */
function isUnreachable(error: unknown): boolean {
  const seen = error as { name?: string; status?: number; code?: number } | null;
  if (seen?.code === 4900 || seen?.code === 4901) return true;
  return seen?.name === "HttpRequestError" && seen.status === undefined;
}

function isRateLimit(error: unknown): boolean {
  const seen = error as { status?: number; code?: number; message?: string } | null;
  return seen?.status === 429 || seen?.code === 429 || /rate|too many requests/i.test(seen?.message ?? "");
}

/** A log that is in a block: the filter leaves those out that are not. */
function toLog(raw: RpcLog): Log<bigint, number, false> {
  return formatLog(raw) as Log<bigint, number, false>;
}

function padded(account: Address): Hex {
  return `0x${account.slice(2).toLowerCase().padStart(64, "0")}`;
}

function cidText(bytes: Hex): string | null {
  try {
    return cidOfHex(bytes)?.text ?? null;
  } catch {
    return null;
  }
}

async function blockHash(logs: LogReader, number: number): Promise<Hash> {
  const block = (await logs.call("eth_getBlockByNumber", [numberToHex(number), false])) as { hash: Hash } | null;
  if (!block) throw new Error(`The endpoint does not know block ${number}.`);
  return block.hash;
}

// ------------------------------------------------------------------------------------------------------------------
// Between visits
// ------------------------------------------------------------------------------------------------------------------

interface Kept {
  from: number;
  anchor: number;
  anchorHash: Hash;
  entries: HistoryEntry[];
}

const BIG = new Set(["payment", "callbackGas", "nonce", "refunded"]);

async function restore(store: HistoryStore | null, key: string, logs: LogReader, head: number): Promise<Kept | null> {
  if (store === null) return null;
  let kept: Kept;
  try {
    const text = await store.read(key);
    if (text === null) return null;
    kept = JSON.parse(text, (name, value: unknown) => (BIG.has(name) ? BigInt(value as string) : value)) as Kept;
    if (!Number.isInteger(kept.from) || !Number.isInteger(kept.anchor)) return null;
  } catch {
    return null;
  }
  // The same block at the same height, or everything is read anew.
  if (kept.anchor > head || (await blockHash(logs, kept.anchor)) !== kept.anchorHash) return null;
  return kept;
}

async function keep(store: HistoryStore, key: string, kept: Kept): Promise<void> {
  const text = JSON.stringify(kept, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
  try {
    await store.write(key, text);
  } catch {
    // Without a place to keep it the next visit reads the chain again.
  }
}

const memory = new Map<string, string>();

/** IndexedDB where there is one that works, and this page's memory. */
export function browserStore(): HistoryStore {
  const open = (): Promise<IDBDatabase> =>
    new Promise((resolve, reject) => {
      const opening = indexedDB.open("sibyl", 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("history");
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error ?? new Error("IndexedDB"));
      opening.onblocked = () => reject(new Error("IndexedDB is blocked"));
    });
  const run = async <T>(mode: IDBTransactionMode, act: (table: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const database = await open();
    try {
      return await new Promise<T>((resolve, reject) => {
        const asked = act(database.transaction("history", mode).objectStore("history"));
        asked.onsuccess = () => resolve(asked.result);
        asked.onerror = () => reject(asked.error ?? new Error("IndexedDB"));
      });
    } finally {
      database.close();
    }
  };
  return {
    read: async (key) => {
      const kept = memory.get(key);
      if (kept !== undefined || typeof indexedDB === "undefined") return kept ?? null;
      return ((await run("readonly", (table) => table.get(key))) as string | undefined) ?? null;
    },
    write: async (key, value) => {
      memory.set(key, value);
      if (typeof indexedDB === "undefined") return;
      await run("readwrite", (table) => table.put(value, key));
    },
  };
}
