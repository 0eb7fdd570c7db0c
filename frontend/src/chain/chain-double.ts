import {
  decodeFunctionData,
  encodeAbiParameters,
  encodeEventTopics,
  keccak256,
  numberToHex,
  toHex,
  zeroAddress,
} from "viem";
import type { Abi, AbiEvent, AbiFunction, Address, ContractEventName, Hash, Hex } from "viem";

import { coordinatorAbi } from "./abi";
import type { Reader } from "./logs";

export const COORDINATOR: Address = "0x00000000000000000000000000000000000000c0";
export const ME: Address = "0x00000000000000000000000000000000000000a1";
export const OTHER: Address = "0x00000000000000000000000000000000000000a2";
export const CID: Hex = `0x1220${"ab".repeat(32)}`;
export const STATUS = { pending: 1, fulfilled: 2, callback_failed: 3, failed: 4, refunded: 5, cancelled: 6 };


type EventName = ContractEventName<typeof coordinatorAbi>;

interface FakeLog {
  block: number;
  logIndex: number;
  transaction: Hash;
  topics: Hex[];
  data: Hex;
}

/** A double of an endpoint: logs in blocks, and limits of its own. */
export class FakeChain implements Reader {
  logs: FakeLog[] = [];
  status = new Map<Hash, number>();
  head = 0;
  /** Name of the chain: another one has other block hashes. */
  name = "one";
  /** From which block on the hashes are those of another branch. */
  forkedFrom = Infinity;
  largest = Infinity;
  down = false;
  stamps = true;
  /** What every account has at the contract, and every model has earned. */
  balances = 0n;
  /** Manifest CID of every model. */
  manifest = CID;
  /** What every account has in ether. */
  ether = 10n ** 18n;
  calls: { method: string; from?: number; to?: number }[] = [];
  fail: ((from: number, to: number) => Error | null) | null = null;

  hash(block: number): Hash {
    return keccak256(toHex(`${this.name}:${block}:${block >= this.forkedFrom ? "fork" : ""}`));
  }

  emit(block: number, eventName: EventName, args: Record<string, unknown>): void {
    const item = (coordinatorAbi as Abi).find((one): one is AbiEvent => one.type === "event" && one.name === eventName);
    const topics = encodeEventTopics({ abi: coordinatorAbi, eventName, args }) as Hex[];
    const plain = (item?.inputs ?? []).filter((input) => !input.indexed);
    const data = encodeAbiParameters(plain, plain.map((input) => args[input.name ?? ""]) as never);
    const logIndex = this.logs.filter((log) => log.block === block).length;
    this.logs.push({ block, logIndex, transaction: keccak256(toHex(`tx${block}:${logIndex}`)), topics, data });
    this.head = Math.max(this.head, block);
  }

  ask(block: number, name: string, requester: Address = ME, payment = 100n): Hash {
    const requestId = keccak256(toHex(name));
    this.emit(block, "InferenceRequested", {
      requestId, modelId: 1n, requester, imageCid: CID, payment, callbackGas: 0n, deadline: 9_999n, nonce: 0n,
    });
    this.status.set(requestId, STATUS.pending);
    return requestId;
  }

  fulfil(block: number, requestId: Hash): void {
    this.emit(block, "InferenceFulfilled", { requestId, resultCid: CID, answer: "0x1234" });
    this.status.set(requestId, STATUS.fulfilled);
  }

  async request({ method, params }: { method: string; params?: unknown }): Promise<unknown> {
    await Promise.resolve();
    return this.answer(method, (params ?? []) as unknown[]);
  }

  private answer(method: string, params: unknown[]): unknown {
    const call: { method: string; from?: number; to?: number } = { method };
    this.calls.push(call);
    if (this.down) throw Object.assign(new Error("fetch failed"), { name: "HttpRequestError" });
    if (method === "eth_blockNumber") return numberToHex(this.head);
    if (method === "eth_getBlockByNumber") {
      const block = Number(params[0]);
      return block > this.head ? null : { hash: this.hash(block), timestamp: numberToHex(1_000 + block) };
    }
    if (method === "eth_chainId") return numberToHex(31_337);
    if (method === "eth_getBalance") return numberToHex(this.ether);
    if (method === "eth_call") {
      const { functionName, args } = decodeFunctionData({ abi: coordinatorAbi, data: (params[0] as { data: Hex }).data });
      const [item] = coordinatorAbi.filter((one) => one.type === "function" && one.name === functionName);
      const outputs = (item as AbiFunction | undefined)?.outputs ?? [];
      return encodeAbiParameters(outputs, [this.read(functionName, args)]);
    }
    if (method === "eth_getLogs") {
      const filter = params[0] as { fromBlock: Hex; toBlock: Hex; address: Address; topics: (null | Hex | Hex[])[] };
      const from = Number(filter.fromBlock);
      const to = Number(filter.toBlock);
      Object.assign(call, { from, to });
      const refusal = this.fail?.(from, to);
      if (refusal) throw refusal;
      if (to - from + 1 > this.largest) throw Object.assign(new Error("query exceeds max block range"), { code: -32005 });
      return this.logs
        .filter((log) => log.block >= from && log.block <= to)
        .filter((log) => filter.topics.every((wanted, i) => wanted === null || [wanted].flat().includes(log.topics[i] ?? "0x")))
        .map((log) => ({
          address: COORDINATOR,
          topics: log.topics,
          data: log.data,
          blockNumber: numberToHex(log.block),
          blockHash: this.hash(log.block),
          logIndex: numberToHex(log.logIndex),
          transactionHash: log.transaction,
          transactionIndex: "0x0",
          removed: false,
          ...(this.stamps ? { blockTimestamp: numberToHex(1_000 + log.block) } : {}),
        }));
    }
    throw new Error(`unexpected ${method}`);
  }

  private read(functionName: string, args: readonly unknown[]): unknown {
    switch (functionName) {
      case "requestOf": {
        const status = this.status.get(args[0] as Hash) ?? 0;
        return { requester: ME, modelId: 1n, payment: 100n, callbackGas: 0n, deadline: 0n, status, failure: 0 };
      }
      case "modelCount":
        return 1n;
      case "modelOf":
        return {
          publisher: ME,
          payout: ME,
          token: zeroAddress,
          active: true,
          price: 10n ** 14n,
          publisherShare: 7_000n,
          manifestCid: this.manifest,
        };
      case "publisherShare":
        return 7_000n;
      case "publishingFee":
        return 10n ** 15n;
      default:
        return this.balances;
    }
  }

  /** Each range once, by however many filters it was asked for. */
  get ranges(): [number, number][] {
    return this.calls
      .filter(({ from, to }, i) => from !== this.calls[i - 1]?.from || to !== this.calls[i - 1]?.to)
      .flatMap(({ from, to }) => (from === undefined || to === undefined ? [] : [[from, to] as [number, number]]));
  }
}
