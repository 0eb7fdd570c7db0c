/**
 * The coordinator's events: read in ranges whose length the endpoint's answers teach, and held to what was asked for.
 */
import { formatLog, getAbiItem, hexToNumber, numberToHex, parseEventLogs, toEventSelector } from "viem";
import type { Address, Hash, Hex, Log, ParseEventLogsReturnType, RpcLog } from "viem";

import { coordinatorAbi } from "./abi";

/** The part of an Ethereum client that reading needs: viem's public client and every wallet have it. */
export interface Reader {
  request(call: { method: string; params?: unknown }): Promise<unknown>;
}

export interface Place {
  chain_id: number;
  coordinator: string;
  start_block: number;
}

/** The events that end a request, or follow its end. */
export const ENDS = [
  "InferenceFulfilled",
  "InferenceFailed",
  "InferenceRefunded",
  "InferenceCancelled",
  "CallbackFailed",
  "CallbackRetried",
] as const;
export const EVENTS = ["InferenceRequested", ...ENDS] as const;
/** What else an account does at the coordinator, or gets there. Each has the account as its second indexed field. */
export const OTHERS = ["Deposited", "Credited", "Withdrawn", "ModelPublished", "EarningsWithdrawn"] as const;
export type EventName = (typeof EVENTS)[number] | (typeof OTHERS)[number];
/** An event as it was told. */
export type Told = ParseEventLogsReturnType<typeof coordinatorAbi, EventName[], true>[number];
export type Topics = readonly (Hex | readonly Hex[] | null)[];

/** The first topics of these events. */
export function selectors(names: readonly EventName[]): Hex[] {
  return names.map((name) => toEventSelector(getAbiItem({ abi: coordinatorAbi, name })));
}

/** An account as a topic. */
export function padded(account: Address): Hex {
  return `0x${account.slice(2).toLowerCase().padStart(64, "0")}`;
}

/** Events of some blocks, in order, each once. */
export interface Piece {
  readonly from: number;
  readonly to: number;
  readonly told: Told[];
}

/** The endpoint refuses even single blocks, or takes too few at once to come to an end. */
export class EventsNotFound extends Error {
  override name = "EventsNotFound";
}

export interface ReadOptions {
  signal?: AbortSignal | undefined;
  /** Blocks of the first range. */
  step?: number;
  /** Failures in a row before a call is given up. */
  tries?: number;
  /** Ranges that are asked for at most. */
  most?: number;
  /** Waits, replaced in tests. */
  sleep?: (milliseconds: number) => Promise<void>;
}

const STEP = 5_000;
const LARGEST_STEP = 200_000;
const CALM = 8; // successes after which a longer range is tried again, twice as many after each refusal
const TRIES = 4;

/** Reads one coordinator's events. As a `Reader` it tries again what nobody answered. */
export class LogReader implements Reader {
  private step: number;
  private ceiling: number;
  private good = 0;
  private calm = 0;
  private patience = CALM;
  private asked = 0;
  private readonly times = new Map<bigint, number | null>();
  private readonly signal: AbortSignal | undefined;
  private readonly tries: number;
  private readonly most: number;
  private readonly sleep: (milliseconds: number) => Promise<void>;

  constructor(
    private readonly client: Reader,
    private readonly place: Place,
    options: ReadOptions = {},
  ) {
    this.step = options.step ?? STEP;
    this.ceiling = Math.max(LARGEST_STEP, this.step);
    this.signal = options.signal;
    this.tries = options.tries ?? TRIES;
    this.most = options.most ?? Infinity;
    this.sleep = options.sleep ?? ((milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)));
  }

  /** Events of blocks `low` to `high` that have the topics of one of the filters, from the newest piece to the oldest. */
  downwards(low: number, high: number, ...filters: Topics[]): AsyncGenerator<Piece> {
    return this.walk(low, high, filters, true);
  }

  /** Events of blocks `low` to `high` that have the topics of one of the filters, from the oldest piece to the newest. */
  upwards(low: number, high: number, ...filters: Topics[]): AsyncGenerator<Piece> {
    return this.walk(low, high, filters, false);
  }

  private async *walk(low: number, high: number, filters: readonly Topics[], down: boolean): AsyncGenerator<Piece> {
    for (let tries = 0; low <= high; ) {
      this.signal?.throwIfAborted();
      const length = Math.min(this.step, high - low + 1);
      const [from, to] = down ? [high - length + 1, high] : [low, low + length - 1];
      let told: Told[];
      try {
        told = await this.range(from, to, filters);
      } catch (error) {
        if (error instanceof EventsNotFound) throw error;
        const away = isUnreachable(error);
        if (length > 1 && !away) {
          this.shrink(length);
          if (!isBusy(error)) continue;
        }
        tries += 1;
        if (tries >= this.tries) throw away || isBusy(error) ? error : new EventsNotFound(undefined, { cause: error });
        await this.sleep(250 * 2 ** tries);
        continue;
      }
      tries = 0;
      this.grow(length);
      yield { from, to, told };
      if (down) high = from - 1;
      else low = to + 1;
    }
  }

  private async range(from: number, to: number, filters: readonly Topics[]): Promise<Told[]> {
    this.asked += 1;
    if (this.asked > this.most) throw new EventsNotFound();
    const blocks = { address: this.place.coordinator, fromBlock: numberToHex(from), toBlock: numberToHex(to) };
    const logs = new Map<string, Log<bigint, number, false>>();
    for (const topics of filters) {
      const answer = (await this.client.request({ method: "eth_getLogs", params: [{ ...blocks, topics }] })) as RpcLog[];
      for (const raw of answer) {
        if (raw.removed || raw.blockNumber === null || !this.isAsked(raw, from, to, topics)) continue;
        logs.set(`${raw.blockNumber}:${raw.logIndex}`, formatLog(raw) as Log<bigint, number, false>);
      }
    }
    const told = parseEventLogs({ abi: coordinatorAbi, eventName: [...EVENTS, ...OTHERS], logs: [...logs.values()], strict: true });
    return told.sort((a, b) => Number(a.blockNumber - b.blockNumber) || a.logIndex - b.logIndex);
  }

  /** Whether a log is one of those asked for: an endpoint that lies may send others, of other contracts and people. */
  private isAsked(log: RpcLog, from: number, to: number, topics: Topics): boolean {
    const block = Number(log.blockNumber);
    if (!(block >= from && block <= to) || !isSame(log.address, this.place.coordinator)) return false;
    return topics.every((wanted, i) => wanted === null || [wanted].flat().some((one) => isSame(one, log.topics[i] ?? "")));
  }

  /** When it was told: some endpoints say it with the event, of the others the block is asked. */
  async timeOf(told: Told): Promise<number | null> {
    const stamp = (told as { blockTimestamp?: bigint | null }).blockTimestamp;
    if (typeof stamp === "bigint") return Number(stamp);
    const known = this.times.get(told.blockNumber);
    if (known !== undefined) return known;
    const block = await blockOf(this, numberToHex(told.blockNumber));
    const time = block && hexToNumber(block.timestamp);
    this.times.set(told.blockNumber, time);
    return time;
  }

  async request(call: { method: string; params?: unknown }): Promise<unknown> {
    for (let tries = 1; ; tries += 1) {
      this.signal?.throwIfAborted();
      try {
        return await this.client.request(call);
      } catch (error) {
        if (tries >= this.tries || isHopeless(error)) throw error;
        await this.sleep(250 * 2 ** tries);
      }
    }
  }

  private grow(length: number): void {
    this.good = Math.max(this.good, length);
    this.calm += 1;
    if (this.calm >= this.patience) {
      this.ceiling = Math.max(this.ceiling, Math.min(LARGEST_STEP, this.ceiling * 2));
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

interface Failure {
  name?: string;
  status?: number;
  code?: number;
  message?: string;
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
  const { name, status, code } = (error ?? {}) as Failure;
  return isHopeless(error) || code === 4900 || code === 4901 || (name === "HttpRequestError" && status === undefined);
}

/** Too much to do for now: a shorter range may help, and time. */
function isBusy(error: unknown): boolean {
  const { name, status, code, message } = (error ?? {}) as Failure;
  if (name === "TimeoutError" || code === 429) return true;
  if (name === "HttpRequestError" && status !== undefined && (status === 429 || status >= 500)) return true;
  return /rate limit|too many requests/i.test(message ?? "");
}

interface RawBlock {
  readonly number: Hex;
  readonly hash: Hash;
  readonly timestamp: Hex;
}

export async function blockOf(client: Reader, block: Hex | "latest"): Promise<RawBlock | null> {
  return (await client.request({ method: "eth_getBlockByNumber", params: [block, false] })) as RawBlock | null;
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
