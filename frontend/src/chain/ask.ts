import {
  type Address,
  BaseError,
  ContractFunctionRevertedError,
  domainSeparator,
  ExecutionRevertedError,
  type Hash,
  type Hex,
  parseEventLogs,
  parseSignature,
  type PublicClient,
  toHex,
  type TransactionReceipt,
  type TypedDataDomain,
  zeroAddress,
} from "viem";
import { signTypedData } from "viem/actions";

import type { ApiClient } from "../api/client";
import type { Config, Model } from "../api/types";
import { parseCid } from "../content/cid";
import { coordinatorAbi, erc20Abi } from "./abi";
import { type Actor, type Call, type Done, transact, unlessAborted, walletOf } from "./actions";
import { troubleOf } from "./errors";
import type { Note, Watched } from "./follow";

/** Seconds for the answer, beside the window in which nobody begins. */
export const ANSWER_SECONDS = 600;

export interface Order {
  model: Model;
  picture: { kind: "file"; blob: Blob; name: string } | { kind: "cid"; cid: string };
  /** Id of the provider that is preferred; null for the best. */
  provider: string | null;
  /** Pay from the balance at the contract. */
  fromBalance: boolean;
  /** What was shown as the price, in the token's smallest part; more is never paid. */
  price: bigint;
}

/** What is done in turn; an order leaves out what it does not need. */
export type AskStep =
  | "uploading"
  | "wishing"
  | "quoting"
  | "permitting"
  | "revoking"
  | "clearing"
  | "approving"
  | "allowing"
  | "simulating"
  | "signing"
  | "mining";

/** The contract asks for more than was shown. It reads as the contract's own refusal would. */
export class PriceRose extends Error {
  override readonly name = "PriceRose";
  readonly errorName = "PaymentTooLow";
  readonly args: readonly unknown[];

  constructor(shown: bigint, asked: bigint) {
    super("The price has gone up");
    this.args = [shown, asked];
  }
}

export interface Asker extends Actor {
  config: Config;
  api: ApiClient;
}

export interface AskProgress {
  step(step: AskStep, steps: readonly AskStep[]): void;
  sent(watched: Watched): void;
  note(note: Note): void;
  late(watched: Watched): void;
}

export type Asked = { kind: "asked"; id: Hex } | { kind: "cancelled" | "replaced"; hash: Hash };

const uploaded = new WeakMap<Blob, { base: string; cid: string }>();

/** The whole of asking. Rejects with what was thrown at the step that was reported last. */
export async function ask(asker: Asker, order: Order, progress: AskProgress, signal: AbortSignal): Promise<Asked> {
  const { client, account, config, api } = asker;
  const steps: AskStep[] = ["quoting", "simulating", "signing", "mining"];
  if (order.provider) steps.unshift("wishing");
  if (order.picture.kind === "file") steps.unshift("uploading");
  const at = (step: AskStep) => {
    signal.throwIfAborted();
    progress.step(step, steps);
  };

  let text: string;
  if (order.picture.kind === "cid") {
    text = order.picture.cid;
  } else {
    at("uploading");
    const { blob, name } = order.picture;
    const known = uploaded.get(blob);
    text = known?.base === api.base ? known.cid : (await api.upload(blob, name, signal)).cid;
    uploaded.set(blob, { base: api.base, cid: text });
  }
  const cid = parseCid(text);
  if (order.provider) {
    at("wishing");
    await api.wish({ requester: account, imageCid: cid.text, provider: order.provider }, signal);
  }

  at("quoting");
  const [payment, block] = await Promise.all([
    client.readContract({
      address: config.coordinator,
      abi: coordinatorAbi,
      functionName: "quote",
      args: [BigInt(order.model.id), 0n],
    }),
    client.getBlock(),
  ]);
  if (payment > order.price) throw new PriceRose(order.price, payment);
  const now = BigInt(Math.floor(Date.now() / 1000));
  const from = block.timestamp > now ? block.timestamp : now;
  const deadline = from + BigInt(ANSWER_SECONDS + config.cancel_window);
  const terms = [BigInt(order.model.id), toHex(cid.bytes), 0n, deadline] as const;

  const call = await paying();
  const done = await transact(
    asker,
    call,
    {
      step: at,
      sent: (watched) => progress.sent(watched),
      note: (note) => progress.note(note),
      late: (watched) => progress.late(watched),
    },
    signal,
  );
  return askedBy(done, config, account);

  async function paying(): Promise<Call> {
    const of = (functionName: string, args: readonly unknown[], value = 0n): Call => ({
      address: config.coordinator,
      abi: coordinatorAbi,
      functionName,
      args,
      value,
    });
    if (order.fromBalance) return of("requestFromBalance", [...terms, payment]);
    const token = order.model.token;
    if (!token || token === zeroAddress) return of("request", terms, payment);
    const allowance = await client.readContract({
      address: token,
      abi: erc20Abi,
      functionName: "allowance",
      args: [account, config.coordinator],
    });
    if (allowance >= payment) return of("requestWithToken", [...terms, payment]);

    const domain = await permitDomain(client, token, config.chain_id);
    if (domain) {
      steps.splice(steps.indexOf("simulating"), 0, "permitting");
      at("permitting");
      const permit = await permitted(asker, token, domain, payment, deadline, signal);
      if (permit) return of("requestWithPermit", [...terms, payment, permit]);
      steps.splice(steps.indexOf("permitting"), 1);
    }
    steps.splice(steps.indexOf("simulating"), 0, "approving", "allowing");
    at("approving");
    if (allowance > 0n && (await refuses(asker, approvalOf(token, payment)))) {
      // Some tokens change a permission only from nothing, so that nobody can spend the old and the new one.
      steps.splice(steps.indexOf("approving"), 0, "revoking", "clearing");
      await approve(token, 0n, "revoking", "clearing");
    }
    await approve(token, payment, "approving", "allowing");
    return of("requestWithToken", [...terms, payment]);
  }

  function approvalOf(token: Address, amount: bigint): Call {
    return { address: token, abi: erc20Abi, functionName: "approve", args: [config.coordinator, amount] };
  }

  async function approve(token: Address, amount: bigint, asking: AskStep, waiting: AskStep): Promise<void> {
    at(asking);
    const approval = await transact(
      asker,
      approvalOf(token, amount),
      {
        step: (step) => {
          if (step === "mining") at(waiting);
        },
        sent: () => undefined,
        note: (note) => progress.note(note),
      },
      signal,
    );
    if (approval.kind !== "mined") throw new Error("The approval was replaced in the wallet");
  }
}

/** Whether the contract itself says no; a network that fails to answer is thrown. */
async function refuses({ client, account }: Asker, call: Call): Promise<boolean> {
  try {
    await client.simulateContract({ ...call, account });
    return false;
  } catch (error) {
    const reverts = (one: unknown) => one instanceof ContractFunctionRevertedError || one instanceof ExecutionRevertedError;
    if (error instanceof BaseError && error.walk(reverts)) return true;
    throw error;
  }
}

/** What a payment's end is for whoever asked. */
export function askedBy(done: Done, config: Config, account: Address): Asked {
  if (done.kind !== "mined") return done;
  return { kind: "asked", id: requestIn(done.receipt, config.coordinator, account) };
}

/** The id that a mined request got. */
export function requestIn(receipt: TransactionReceipt, coordinator: Address, account: Address): Hex {
  const [event] = parseEventLogs({ abi: coordinatorAbi, logs: receipt.logs, eventName: "InferenceRequested" }).filter(
    (log) =>
      log.address.toLowerCase() === coordinator.toLowerCase() &&
      log.args.requester.toLowerCase() === account.toLowerCase(),
  );
  if (!event) throw new Error(`Transaction ${receipt.transactionHash} made no request`);
  return event.args.requestId;
}

/** The EIP-712 domain of a token's permits, proven by the separator that the token states; null where it has none. */
async function permitDomain(client: PublicClient, token: Address, chainId: number): Promise<TypedDataDomain | null> {
  const read = (functionName: "DOMAIN_SEPARATOR" | "name" | "version") =>
    client.readContract({ address: token, abi: erc20Abi, functionName }).catch(() => null);
  const [separator, name, version] = await Promise.all([read("DOMAIN_SEPARATOR"), read("name"), read("version")]);
  if (separator === null || name === null) return null;
  for (const candidate of new Set([version ?? "1", "1", "2"])) {
    const domain = { name, version: candidate, chainId, verifyingContract: token };
    if (domainSeparator({ domain }) === separator) return domain;
  }
  return null;
}

const PERMIT = {
  Permit: [
    { name: "owner", type: "address" },
    { name: "spender", type: "address" },
    { name: "value", type: "uint256" },
    { name: "nonce", type: "uint256" },
    { name: "deadline", type: "uint256" },
  ],
} as const;

/** A signed permit; null when this wallet cannot sign one that a token takes, so that an approval must do. */
async function permitted(
  asker: Asker,
  token: Address,
  domain: TypedDataDomain,
  value: bigint,
  deadline: bigint,
  signal: AbortSignal,
): Promise<{ deadline: bigint; v: number; r: Hex; s: Hex } | null> {
  const { client, account, config } = asker;
  const nonce = await client.readContract({
    address: token,
    abi: erc20Abi,
    functionName: "nonces",
    args: [account],
  });
  const wallet = await walletOf(asker);
  let signature: Hex;
  try {
    signature = await unlessAborted(
      signTypedData(wallet, {
        account,
        domain,
        types: PERMIT,
        primaryType: "Permit",
        message: { owner: account, spender: config.coordinator, value, nonce, deadline },
      }),
      signal,
    );
  } catch (error) {
    const { kind } = troubleOf(error);
    if (kind === "other") return null;
    throw error;
  }
  if (signature.length !== 132) return null;
  const { r, s, yParity } = parseSignature(signature);
  return { deadline, v: 27 + yParity, r, s };
}
