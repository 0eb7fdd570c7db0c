/**
 * One request as the chain alone tells of it: its state at the contract and its events.
 *
 * The events are looked for from a hint where there is one (the API says in which block a request is, and is believed
 * only when the request's own event is there), else from the newest block back, in halves where the endpoint refuses.
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
import type { Address, Hash, Hex, Log, ParseEventLogsReturnType, RpcLog } from "viem";

import { cidOfHex } from "../content/cid";
import { CHAIN_STATUSES, type ChainStatus, coordinatorAbi, FAILURE_REASONS, type FailureReason } from "./abi";
import type { Place, Reader } from "./history";

export interface ChainHead {
  readonly number: number;
  /** Unix seconds: what the contract takes for now. */
  readonly timestamp: number;
}

/** How a request was asked. Money in the smallest part of the model's token. */
export interface Asking {
  readonly model: number;
  readonly requester: Address;
  readonly imageCid: string | null;
  readonly imageCidBytes: Hex;
  readonly payment: bigint;
  readonly callbackGas: bigint;
  readonly deadline: number;
  readonly nonce: bigint;
  readonly block: number;
  readonly transaction: Hash;
  /** Unix seconds. */
  readonly at: number;
}

/** How it ended. */
export interface Settling {
  readonly block: number;
  readonly transaction: Hash;
  readonly at: number;
  readonly resultCid: string | null;
  readonly resultCidBytes: Hex | null;
  readonly answer: Hex | null;
  readonly failure: FailureReason | null;
}

export type Callback = "none" | "delivered" | "failed" | "retried";

export interface ChainRequest {
  readonly id: Hash;
  readonly status: ChainStatus;
  readonly head: ChainHead;
  /** Null where the events were not to be had: the contract alone keeps too little. */
  readonly asking: Asking | null;
  readonly settling: Settling | null;
  readonly callback: Callback;
}

/** The endpoint keeps no events, or takes too few blocks at once to find them. */
export class EventsNotFound extends Error {
  override name = "EventsNotFound";
}

const MOST_CALLS = 400;
const NAMES = [
  "InferenceRequested",
  "InferenceFulfilled",
  "InferenceFailed",
  "InferenceRefunded",
  "InferenceCancelled",
  "CallbackFailed",
  "CallbackRetried",
] as const;
const TOPICS = NAMES.map((name) => toEventSelector(getAbiItem({ abi: coordinatorAbi, name })));
type Told = ParseEventLogsReturnType<typeof coordinatorAbi, (typeof NAMES)[number][], true>[number];

/** Read a request. Throws what the endpoint's failure throws; events that cannot be found leave `asking` null. */
export async function readRequest(
  client: Reader,
  place: Place,
  id: Hash,
  options: { hint?: number | undefined; signal?: AbortSignal | undefined } = {},
): Promise<ChainRequest> {
  const [latest, status] = await Promise.all([blockOf(client, "latest"), statusOf(client, place, id)]);
  if (latest === null) throw new Error("the endpoint has no latest block");
  const head = { number: hexToNumber(latest.number), timestamp: hexToNumber(latest.timestamp) };
  if (status === "Unknown") return { id, status, head, asking: null, settling: null, callback: "none" };
  let told: Told[] = [];
  try {
    told = await eventsOf(client, place, id, status, head.number, options);
  } catch (error) {
    if (!(error instanceof EventsNotFound)) throw error;
  }
  const asking = await askingOf(client, told);
  const settling = await settlingOf(client, told);
  return { id, status, head, asking, settling, callback: callbackOf(told, asking, status) };
}

/** Whether the contract holds exactly this result and this answer for the request. */
export async function verifyResult(
  client: Reader,
  place: Place,
  id: Hash,
  resultCid: Hex,
  answer: Hex,
): Promise<boolean> {
  const call = { abi: coordinatorAbi, functionName: "verifyResult" } as const;
  const data = encodeFunctionData({ ...call, args: [id, resultCid, answer] });
  return decodeFunctionResult({ ...call, data: await ethCall(client, place, data) });
}

async function statusOf(client: Reader, place: Place, id: Hash): Promise<ChainStatus> {
  const call = { abi: coordinatorAbi, functionName: "requestOf" } as const;
  const data = encodeFunctionData({ ...call, args: [id] });
  const { status } = decodeFunctionResult({ ...call, data: await ethCall(client, place, data) });
  return CHAIN_STATUSES[status] ?? "Unknown";
}

async function ethCall(client: Reader, place: Place, data: Hex): Promise<Hex> {
  return (await client.request({
    method: "eth_call",
    params: [{ to: place.coordinator, data }, "latest"],
  })) as Hex;
}

interface RawBlock {
  readonly number: Hex;
  readonly timestamp: Hex;
}

async function blockOf(client: Reader, block: Hex | "latest"): Promise<RawBlock | null> {
  return (await client.request({ method: "eth_getBlockByNumber", params: [block, false] })) as RawBlock | null;
}

// ------------------------------------------------------------------------------------------------------------------
// Events
// ------------------------------------------------------------------------------------------------------------------

async function eventsOf(
  client: Reader,
  place: Place,
  id: Hash,
  status: ChainStatus,
  head: number,
  { hint, signal }: { hint?: number | undefined; signal?: AbortSignal | undefined },
): Promise<Told[]> {
  const finder = new Finder(client, place, id, signal);
  if (hint !== undefined && hint >= place.start_block && hint <= head) {
    const told = await finder.upwards(hint, head, (seen) => isWhole(seen, status));
    if (told.some(({ eventName }) => eventName === "InferenceRequested")) return told;
  }
  const told = await finder.downwards(place.start_block, head, (seen) =>
    seen.some(({ eventName }) => eventName === "InferenceRequested"),
  );
  if (!told.some(({ eventName }) => eventName === "InferenceRequested")) throw new EventsNotFound();
  return told;
}

/** Whether the events so far are all that the status stands for. */
function isWhole(told: readonly Told[], status: ChainStatus): boolean {
  const has = (name: Told["eventName"]) => told.some(({ eventName }) => eventName === name);
  if (!has("InferenceRequested")) return false;
  switch (status) {
    case "Unknown":
    case "Pending":
      return true;
    case "Fulfilled":
      return has("InferenceFulfilled") && (!has("CallbackFailed") || has("CallbackRetried"));
    case "CallbackFailed":
      return has("CallbackFailed");
    case "Failed":
      return has("InferenceFailed");
    case "Refunded":
      return has("InferenceRefunded");
    case "Cancelled":
      return has("InferenceCancelled");
  }
}

class Finder {
  private calls = 0;
  private step = Infinity;

  constructor(
    private readonly client: Reader,
    private readonly place: Place,
    private readonly id: Hash,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async upwards(low: number, high: number, enough: (told: Told[]) => boolean): Promise<Told[]> {
    const told: Told[] = [];
    for (let bottom = low; bottom <= high && !enough(told); ) {
      const top = Math.min(high, bottom + this.step - 1);
      const found = await this.range(bottom, top);
      if (found === null) continue;
      told.push(...found);
      bottom = top + 1;
    }
    return inOrder(told);
  }

  async downwards(low: number, high: number, enough: (told: Told[]) => boolean): Promise<Told[]> {
    const told: Told[] = [];
    for (let top = high; top >= low && !enough(told); ) {
      const bottom = Math.max(low, top - this.step + 1);
      const found = await this.range(bottom, top);
      if (found === null) continue;
      told.push(...found);
      top = bottom - 1;
    }
    return inOrder(told);
  }

  /** Null when the range was refused, and is shorter next time. */
  private async range(low: number, high: number): Promise<Told[] | null> {
    this.signal?.throwIfAborted();
    this.calls += 1;
    if (this.calls > MOST_CALLS) throw new EventsNotFound();
    const length = high - low + 1;
    try {
      const raw = (await this.client.request({
        method: "eth_getLogs",
        params: [
          {
            address: this.place.coordinator,
            topics: [TOPICS, this.id],
            fromBlock: numberToHex(low),
            toBlock: numberToHex(high),
          },
        ],
      })) as RpcLog[];
      const logs = raw.filter(({ removed, blockNumber }) => !removed && blockNumber !== null).map(toLog);
      const told = parseEventLogs({ abi: coordinatorAbi, eventName: [...NAMES], logs, strict: true });
      return told.filter(({ args, address }) => args.requestId === this.id && isSame(address, this.place.coordinator));
    } catch (error) {
      if (isUnreachable(error)) throw error;
      if (length === 1) throw new EventsNotFound(undefined, { cause: error });
      this.step = Math.floor(length / 2);
      return null;
    }
  }
}

function inOrder(told: Told[]): Told[] {
  return told.sort((a, b) => Number(a.blockNumber - b.blockNumber) || a.logIndex - b.logIndex);
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

/** Nobody answered: a shorter range would not help. */
function isUnreachable(error: unknown): boolean {
  const seen = error as { name?: string; status?: number; code?: number } | null;
  if (seen?.name === "TimeoutError" || seen?.name === "NoRpc" || seen?.code === 4900 || seen?.code === 4901) return true;
  return seen?.name === "HttpRequestError" && (seen.status === undefined || seen.status === 429 || seen.status >= 500);
}

/** A log in a block: the filter leaves those out that are not. Some endpoints say its time, too. */
function toLog(raw: RpcLog): Log<bigint, number, false> {
  return formatLog(raw) as Log<bigint, number, false>;
}

// ------------------------------------------------------------------------------------------------------------------
// What they say
// ------------------------------------------------------------------------------------------------------------------

async function askingOf(client: Reader, told: readonly Told[]): Promise<Asking | null> {
  // The last one: a reorg may have moved it while we read.
  const log = told.findLast(({ eventName }) => eventName === "InferenceRequested");
  if (log?.eventName !== "InferenceRequested") return null;
  const { modelId, requester, imageCid, payment, callbackGas, deadline, nonce } = log.args;
  return {
    model: Number(modelId),
    requester,
    imageCid: cidText(imageCid),
    imageCidBytes: imageCid,
    payment,
    callbackGas,
    deadline: Number(deadline),
    nonce,
    block: Number(log.blockNumber),
    transaction: log.transactionHash,
    at: await timeOf(client, log),
  };
}

async function settlingOf(client: Reader, told: readonly Told[]): Promise<Settling | null> {
  const failed = told.findLast(({ eventName }) => eventName === "InferenceFailed");
  const log = told.findLast(({ eventName }) =>
    ["InferenceFulfilled", "InferenceRefunded", "InferenceCancelled"].includes(eventName),
  );
  if (log === undefined) return null;
  const fulfilled = log.eventName === "InferenceFulfilled" ? log.args : null;
  return {
    block: Number(log.blockNumber),
    transaction: log.transactionHash,
    at: await timeOf(client, log),
    resultCid: fulfilled && cidText(fulfilled.resultCid),
    resultCidBytes: fulfilled && fulfilled.resultCid,
    answer: fulfilled && fulfilled.answer,
    failure: failed?.eventName === "InferenceFailed" ? (FAILURE_REASONS[failed.args.reason] ?? null) : null,
  };
}

function callbackOf(told: readonly Told[], asking: Asking | null, status: ChainStatus): Callback {
  if (status === "CallbackFailed") return "failed";
  if (status !== "Fulfilled" || asking === null || asking.callbackGas === 0n) return "none";
  return told.some(({ eventName }) => eventName === "CallbackRetried") ? "retried" : "delivered";
}

async function timeOf(client: Reader, log: Told): Promise<number> {
  const stamp = (log as { blockTimestamp?: bigint | null }).blockTimestamp;
  if (typeof stamp === "bigint") return Number(stamp);
  const block = await blockOf(client, numberToHex(log.blockNumber));
  return block === null ? 0 : hexToNumber(block.timestamp);
}

function cidText(bytes: Hex): string | null {
  try {
    return cidOfHex(bytes)?.text ?? null;
  } catch {
    return null;
  }
}
