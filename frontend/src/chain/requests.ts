/**
 * One request as the chain alone tells of it: its state at the contract and its events.
 *
 * The events are looked for from a hint where there is one (the API says in which block a request is, and is believed
 * only when the request's own event is there), else from the newest block back, in halves where the endpoint refuses.
 */
import { decodeFunctionResult, encodeFunctionData, hexToNumber } from "viem";
import type { Address, Hash, Hex } from "viem";

import { cidText } from "../content/cid";
import { CHAIN_STATUSES, type ChainStatus, coordinatorAbi, FAILURE_REASONS, type FailureReason } from "./abi";
import { blockOf, EVENTS, EventsNotFound, LogReader, padded, type Place, type Reader, selectors, type Told } from "./logs";

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
  /** Where its money went, if it went back and the events tell that apart. */
  readonly paidTo: PaidTo | null;
}

/** Money goes back to the account, or to its balance at the contract. */
export type PaidTo = "account" | "balance";

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

const MOST_RANGES = 400;
const TOPICS = selectors(EVENTS);
const CREDITED = selectors(["Credited"]);

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
  // Whoever looks at it asks again by and by, so nothing is tried twice here.
  const logs = new LogReader(client, place, { step: Infinity, tries: 1, most: MOST_RANGES, signal: options.signal });
  let told: Told[] = [];
  try {
    told = await eventsOf(logs, place, id, status, head.number, options.hint);
  } catch (error) {
    if (!(error instanceof EventsNotFound)) throw error;
  }
  const asking = await askingOf(logs, told);
  const settling = await settlingOf(logs, told);
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

/** The manifest CID that the registry has for a model; it never changes. Null where it is of no known form. */
export async function manifestOf(client: Reader, place: Place, model: number): Promise<string | null> {
  const call = { abi: coordinatorAbi, functionName: "modelOf" } as const;
  const data = encodeFunctionData({ ...call, args: [BigInt(model)] });
  return cidText(decodeFunctionResult({ ...call, data: await ethCall(client, place, data) }).manifestCid);
}

/** Where the contract says that a request stands. */
export async function statusOf(client: Reader, place: Place, id: Hash): Promise<ChainStatus> {
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

// ------------------------------------------------------------------------------------------------------------------
// Events
// ------------------------------------------------------------------------------------------------------------------

async function eventsOf(
  logs: LogReader,
  place: Place,
  id: Hash,
  status: ChainStatus,
  head: number,
  hint: number | undefined,
): Promise<Told[]> {
  if (hint !== undefined && hint >= place.start_block && hint <= head) {
    const told: Told[] = [];
    for await (const piece of logs.upwards(hint, head, [TOPICS, id])) {
      told.push(...piece.told);
      if (isWhole(told, status)) break;
    }
    if (told.some(isAsking)) return told;
  }
  const told: Told[] = [];
  for await (const piece of logs.downwards(place.start_block, head, [TOPICS, id])) {
    told.unshift(...piece.told);
    if (told.some(isAsking)) return told;
  }
  throw new EventsNotFound();
}

function isAsking({ eventName }: Told): boolean {
  return eventName === "InferenceRequested";
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

// ------------------------------------------------------------------------------------------------------------------
// What they say
// ------------------------------------------------------------------------------------------------------------------

async function askingOf(logs: LogReader, told: readonly Told[]): Promise<Asking | null> {
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
    at: (await logs.timeOf(log)) ?? 0,
  };
}

async function settlingOf(logs: LogReader, told: readonly Told[]): Promise<Settling | null> {
  const failed = told.findLast(({ eventName }) => eventName === "InferenceFailed");
  const log = told.findLast(({ eventName }) =>
    ["InferenceFulfilled", "InferenceRefunded", "InferenceCancelled"].includes(eventName),
  );
  if (log === undefined) return null;
  const fulfilled = log.eventName === "InferenceFulfilled" ? log.args : null;
  return {
    block: Number(log.blockNumber),
    transaction: log.transactionHash,
    at: (await logs.timeOf(log)) ?? 0,
    resultCid: fulfilled && cidText(fulfilled.resultCid),
    resultCidBytes: fulfilled && fulfilled.resultCid,
    answer: fulfilled && fulfilled.answer,
    failure: failed?.eventName === "InferenceFailed" ? (FAILURE_REASONS[failed.args.reason] ?? null) : null,
    paidTo: fulfilled ? null : await paidToOf(logs, log),
  };
}

/** What is credited to a balance is told right behind the return that it is; of others in one report it says nothing. */
async function paidToOf(logs: LogReader, back: Told): Promise<PaidTo | null> {
  if (back.eventName !== "InferenceRefunded" && back.eventName !== "InferenceCancelled") return null;
  const block = Number(back.blockNumber);
  const credits: Told[] = [];
  try {
    for await (const { told } of logs.upwards(block, block, [CREDITED, null, padded(back.args.requester)]))
      credits.push(...told.filter(({ transactionHash }) => transactionHash === back.transactionHash));
  } catch (error) {
    if (error instanceof EventsNotFound) return null;
    throw error;
  }
  if (credits.some(({ logIndex }) => logIndex === back.logIndex + 1)) return "balance";
  return credits.length === 0 ? "account" : null;
}

function callbackOf(told: readonly Told[], asking: Asking | null, status: ChainStatus): Callback {
  if (status === "CallbackFailed") return "failed";
  if (status !== "Fulfilled" || asking === null || asking.callbackGas === 0n) return "none";
  return told.some(({ eventName }) => eventName === "CallbackRetried") ? "retried" : "delivered";
}
