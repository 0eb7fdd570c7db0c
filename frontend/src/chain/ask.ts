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
import { checkedUpload } from "../content/upload";
import { coordinatorAbi, erc20Abi } from "./abi";
import { type Actor, type Call, type Done, transact, unlessAborted, walletOf } from "./actions";
import { troubleOf } from "./errors";
import type { Note, Watched } from "./follow";
import { choose, hasChosen } from "./wish";

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
  | "quoting"
  | "choosing"
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
  const before = (...more: AskStep[]) => void steps.splice(steps.indexOf("simulating"), 0, ...more);
  if (order.provider !== null) before("choosing");
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
    if (known?.base === api.base) {
      text = known.cid;
    } else {
      const bytes = new Uint8Array(await blob.arrayBuffer());
      text = (await checkedUpload(api.base, bytes, () => api.upload(blob, name, signal), signal)).cid;
      uploaded.set(blob, { base: api.base, cid: text });
    }
  }
  const cid = parseCid(text);
  const takesBack = order.provider === null && hasChosen(asker, cid.text);
  if (takesBack) before("choosing");

  at("quoting");
  const payment = await client.readContract({
    address: config.coordinator,
    abi: coordinatorAbi,
    functionName: "quote",
    args: [BigInt(order.model.id), 0n],
  });
  if (payment > order.price) throw new PriceRose(order.price, payment);
  if (order.provider !== null || takesBack) {
    at("choosing");
    await choose(asker, cid.text, order.provider, signal);
  }

  const { functionName, more = [], value = 0n } = await paying();
  // Now, and no earlier: somebody may have thought long over a signature or a permission.
  const terms = [BigInt(order.model.id), toHex(cid.bytes), 0n, await deadline()];
  const call = { address: config.coordinator, abi: coordinatorAbi, functionName, args: [...terms, ...more], value };
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

  async function deadline(): Promise<bigint> {
    const { timestamp } = await client.getBlock();
    const now = BigInt(Math.floor(Date.now() / 1000));
    return (timestamp > now ? timestamp : now) + BigInt(ANSWER_SECONDS + config.cancel_window);
  }

  /** What pays, once it may: the function, what it takes after the request's terms, and the ether. */
  async function paying(): Promise<{ functionName: string; more?: readonly unknown[]; value?: bigint }> {
    if (order.fromBalance) return { functionName: "requestFromBalance", more: [payment] };
    const token = order.model.token;
    if (!token || token === zeroAddress) return { functionName: "request", value: payment };
    const approvals = await approvalsFor(client, config.coordinator, token, account, payment);
    const domain = approvals.length > 0 ? await permitDomain(client, token, config.chain_id) : null;
    if (domain) {
      before("permitting");
      at("permitting");
      const permit = await permitted(asker, token, domain, payment, await deadline(), signal);
      if (permit) return { functionName: "requestWithPermit", more: [payment, permit] };
      steps.splice(steps.indexOf("permitting"), 1);
    }
    before(...approvals.flatMap((approval) => stepsOf(approval)));
    for (const approval of approvals) await approve(approval);
    return { functionName: "requestWithToken", more: [payment] };
  }

  function stepsOf({ amount }: Approval) {
    return amount === 0n ? (["revoking", "clearing"] as const) : (["approving", "allowing"] as const);
  }

  async function approve(approval: Approval): Promise<void> {
    const [asking, waiting] = stepsOf(approval);
    at(asking);
    const done = await transact(
      asker,
      approval.call,
      {
        step: (step) => {
          if (step === "mining") at(waiting);
        },
        sent: () => undefined,
        note: (note) => progress.note(note),
      },
      signal,
    );
    if (done.kind !== "mined") throw new Error("The approval was replaced in the wallet");
  }
}

interface Approval {
  amount: bigint;
  call: Call;
}

/** Approvals that must be mined, in turn, before the coordinator may take this much of the token: none where it may. */
export async function approvalsFor(
  client: PublicClient,
  coordinator: Address,
  token: Address,
  account: Address,
  payment: bigint,
): Promise<Approval[]> {
  const contract = { address: token, abi: erc20Abi } as const;
  const allowance = await client.readContract({ ...contract, functionName: "allowance", args: [account, coordinator] });
  if (allowance >= payment) return [];
  const approval = (amount: bigint) => ({
    amount,
    call: { ...contract, functionName: "approve", args: [coordinator, amount] },
  });
  const wanted = approval(payment);
  // Some tokens change a permission only from nothing, so that nobody can spend the old and the new one.
  return allowance > 0n && (await refuses(client, account, wanted.call)) ? [approval(0n), wanted] : [wanted];
}

/** Whether the contract itself says no; a network that fails to answer is thrown. */
async function refuses(client: PublicClient, account: Address, call: Call): Promise<boolean> {
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
