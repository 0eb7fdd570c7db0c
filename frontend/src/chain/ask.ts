import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState } from "react";
import {
  type Address,
  domainSeparator,
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
import { type Config as WagmiConfig, useConfig as useWagmi, useConnection } from "wagmi";

import type { ApiClient } from "../api/client";
import { useConfig } from "../api/config";
import type { Config, Model } from "../api/types";
import { parseCid } from "../content/cid";
import { storage } from "../storage";
import { coordinatorAbi, erc20Abi } from "./abi";
import { type Actor, type Call, followed, type Progress, transact, unlessAborted, walletOf } from "./actions";
import { publicClient } from "./client";
import { OtherAccount, troubleOf, Unfollowed } from "./errors";
import type { Note, Watched } from "./follow";
import { identity } from "./wagmi";

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
  | "approving"
  | "allowing"
  | "simulating"
  | "signing"
  | "mining";

export type AskState =
  | { step: "idle" }
  | { step: AskStep; steps: readonly AskStep[]; hash?: Hash; note?: Note }
  | { step: "done"; id: Hex; resumed: boolean }
  | { step: "cancelled" | "replaced"; hash: Hash }
  | { step: "failed"; at: AskStep; error: unknown };

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
  if (done.kind !== "mined") return done;
  return { kind: "asked", id: requestIn(done.receipt, config.coordinator, account) };

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
    const approval = await transact(
      asker,
      { address: token, abi: erc20Abi, functionName: "approve", args: [config.coordinator, payment] },
      {
        step: (step) => {
          if (step === "mining") at("allowing");
        },
        sent: () => undefined,
        note: (note) => progress.note(note),
      } satisfies Progress,
      signal,
    );
    if (approval.kind !== "mined") throw new Error("The approval was replaced in the wallet");
    return of("requestWithToken", [...terms, payment]);
  }
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

/** What another tab needs to go on following; money as text, since JSON knows no bigint. */
interface Kept {
  identity: string;
  hash: Hash;
  account: Address;
  to: Address;
  data: Hex;
  value: string;
  nonce: number;
  since: string;
}

const KEPT = "asking";

function keep(config: Config, { value, since, ...rest }: Watched): void {
  const kept: Kept = { identity: identity(config), value: value.toString(), since: since.toString(), ...rest };
  storage.set(KEPT, JSON.stringify(kept));
}

function keptFor(config: Config): Watched | null {
  const kept = storage.json(KEPT) as Partial<Kept> | null;
  if (kept?.identity !== identity(config) || !kept.hash || !kept.account || !kept.to || !kept.data) return null;
  try {
    return {
      hash: kept.hash,
      account: kept.account,
      to: kept.to,
      data: kept.data,
      nonce: Number(kept.nonce),
      value: BigInt(kept.value ?? 0),
      since: BigInt(kept.since ?? 0),
    };
  } catch {
    return null;
  }
}

const RUNNING: ReadonlySet<string> = new Set<AskStep>([
  "uploading",
  "wishing",
  "quoting",
  "permitting",
  "approving",
  "allowing",
  "simulating",
  "signing",
  "mining",
]);

export function isRunning(state: AskState): state is Extract<AskState, { steps: readonly AskStep[] }> {
  return RUNNING.has(state.step);
}

/**
 * Asking, as a state. A payment that was sent is followed even when the tab was closed in between; a change of account
 * stops everything that is not sent yet.
 */
export function useAsk(): { state: AskState; start: (order: Order) => void; reset: () => void } {
  const { config, api } = useConfig();
  const wagmi: WagmiConfig = useWagmi();
  const queries = useQueryClient();
  const { address } = useConnection();
  const [state, setState] = useState<AskState>({ step: "idle" });
  const current = useRef<AbortController | null>(null);
  const mining = useRef(false);
  /** A payment that was sent and is out of sight: it is looked for before anything is paid again. */
  const unfollowed = useRef<Watched | null>(null);
  const followedNow = useRef<Watched | null>(null);

  const begin = useCallback((work: (tools: Tools) => Promise<AskState>) => {
    current.current?.abort(new Error("started anew"));
    const controller = new AbortController();
    current.current = controller;
    mining.current = false;
    let at: AskStep = "quoting";
    const set: Tools["set"] = (next) => {
      if (current.current === controller) setState(next);
    };
    const tools: Tools = {
      signal: controller.signal,
      set,
      at: (step, steps) => {
        at = step;
        if (step === "mining") mining.current = true;
        set((last) => (isRunning(last) && last.step === step ? { ...last, steps } : { step, steps: [...steps] }));
      },
      note: (note) => set((last) => (isRunning(last) ? { ...last, note } : last)),
    };
    work(tools)
      .then((end) => {
        if (end.step !== "idle") storage.remove(KEPT);
        set(end);
      })
      .catch((error: unknown) => {
        // Leaving the page is no end: what was sent is taken up again on the next visit.
        if (error === LEFT) return;
        if (troubleOf(error).kind === "refused-in-block") storage.remove(KEPT);
        if (error instanceof Unfollowed && at === "mining" && current.current === controller) {
          unfollowed.current = followedNow.current;
        }
        set({ step: "failed", at, error });
      })
      .finally(() => {
        if (current.current === controller) mining.current = false;
      });
  }, []);

  const resume = useCallback(
    (watched: Watched) =>
      begin(async (tools) => {
        followedNow.current = watched;
        tools.at("mining", ["mining"]);
        tools.set((last) => (isRunning(last) ? { ...last, hash: watched.hash } : last));
        const done = await followed(publicClient(config), watched, { note: tools.note }, tools.signal);
        if (done.kind !== "mined") return { step: done.kind, hash: done.hash };
        return { step: "done", id: requestIn(done.receipt, config.coordinator, watched.account), resumed: true };
      }),
    [begin, config],
  );

  const start = useCallback(
    (order: Order) => {
      const before = unfollowed.current;
      unfollowed.current = null;
      if (before) {
        resume(before);
        return;
      }
      begin(async (tools) => {
        if (!address) throw new OtherAccount("No wallet is connected");
        const asker: Asker = { wagmi, client: publicClient(config), account: address, chainId: config.chain_id, config, api };
        try {
          const asked = await ask(
            asker,
            order,
            {
              step: tools.at,
              note: tools.note,
              sent: (watched) => {
                followedNow.current = watched;
                keep(config, watched);
                tools.at("mining", ["mining"]);
                tools.set((last) => (isRunning(last) ? { ...last, hash: watched.hash } : last));
              },
              late: (watched) => {
                keep(config, watched);
                resume(watched);
              },
            },
            tools.signal,
          );
          if (asked.kind !== "asked") return { step: asked.kind, hash: asked.hash };
          return { step: "done", id: asked.id, resumed: false };
        } catch (error) {
          if (error instanceof PriceRose) await queries.invalidateQueries();
          throw error;
        }
      });
    },
    [address, api, begin, config, queries, resume, wagmi],
  );

  const reset = useCallback(() => {
    current.current?.abort(LEFT);
    current.current = null;
    unfollowed.current = null;
    storage.remove(KEPT);
    setState({ step: "idle" });
  }, []);

  const taken = useRef(false);
  useEffect(() => {
    if (taken.current) return;
    taken.current = true;
    const watched = keptFor(config);
    if (watched) resume(watched);
  }, [config, resume]);

  useEffect(
    () => () => {
      if (!mining.current) current.current?.abort(new OtherAccount("The account in the wallet changed"));
    },
    [address],
  );
  useEffect(
    () => () => {
      current.current?.abort(LEFT);
      taken.current = false;
    },
    [],
  );

  return { state, start, reset };
}

const LEFT = new Error("left");

interface Tools {
  signal: AbortSignal;
  set: (next: AskState | ((last: AskState) => AskState)) => void;
  at: (step: AskStep, steps: readonly AskStep[]) => void;
  note: (note: Note) => void;
}
