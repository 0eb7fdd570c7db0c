import { useCallback, useEffect, useRef, useState } from "react";
import { type Abi, type Address, encodeFunctionData, type Hash, type PublicClient, type TransactionReceipt } from "viem";
import { writeContract } from "viem/actions";
import { type Config as WagmiConfig, useConfig as useWagmi, useConnection } from "wagmi";
import { getConnection, getConnectorClient } from "wagmi/actions";

import { useConfig } from "../api/config";
import type { Hex } from "../api/types";
import { coordinatorAbi } from "./abi";
import { publicClient } from "./client";
import { OtherAccount, RefusedInBlock, Unfollowed } from "./errors";
import { follow, type Note, type Watched } from "./follow";

/** A call that changes the chain. */
export interface Call {
  address: Address;
  abi: Abi;
  functionName: string;
  args: readonly unknown[];
  value?: bigint;
}

export type TransactionStep = "simulating" | "signing" | "mining";

export interface Progress {
  step(step: TransactionStep): void;
  /** The wallet has sent it; keep what is needed to follow it from another tab. */
  sent(watched: Watched): void;
  note(note: Note): void;
  /** The wallet has sent it after all, when nobody waited any more. */
  late?(watched: Watched): void;
}

export type Done =
  | { kind: "mined"; receipt: TransactionReceipt; repriced: boolean }
  | { kind: "cancelled" | "replaced"; hash: Hash };

export interface Actor {
  wagmi: WagmiConfig;
  client: PublicClient;
  account: Address;
  chainId: number;
}

/**
 * One transaction from start to end: simulated, so that a refusal costs nothing and says why; put to the wallet; followed
 * until it or its replacement is in a block. Rejects with what was thrown; see `troubleOf`.
 */
export async function transact(actor: Actor, call: Call, progress: Progress, signal: AbortSignal): Promise<Done> {
  const { client, account } = actor;
  progress.step("simulating");
  const value = call.value ?? 0n;
  const data = encodeFunctionData({ abi: call.abi, functionName: call.functionName, args: call.args });
  const [since, nonce] = await Promise.all([
    client.getBlockNumber({ cacheTime: 0 }),
    client.getTransactionCount({ address: account, blockTag: "pending" }),
    client.simulateContract({
      address: call.address,
      abi: call.abi,
      functionName: call.functionName,
      args: call.args,
      account,
      value,
    }),
  ]);
  signal.throwIfAborted();
  progress.step("signing");
  const wallet = await walletOf(actor);
  const watch = (hash: Hash): Watched => ({ hash, account, to: call.address, data, value, nonce, since });
  const asked = writeContract(wallet, {
    address: call.address,
    abi: call.abi,
    functionName: call.functionName,
    args: call.args,
    account,
    value,
    chain: wallet.chain,
  });
  asked.then(
    (hash) => {
      if (signal.aborted) progress.late?.(watch(hash));
    },
    () => undefined,
  );
  let watched = watch(await unlessAborted(asked, signal));
  progress.sent(watched);
  progress.step("mining");
  // While the wallet asked, others of the account may have been mined: they are not what took this one's place. What
  // took it may have been mined by now as well, so this alone decides nothing.
  const used = await client.getTransactionCount({ address: account, blockTag: "latest" }).catch(() => nonce);
  if (used > nonce) {
    watched = { ...watched, before: used };
    progress.sent(watched);
  }
  return followed(client, watched, progress, signal);
}

/** Takes up a transaction that was sent before. Rejects with Unfollowed when the chain cannot be read any more. */
export async function followed(
  client: PublicClient,
  watched: Watched,
  progress: Pick<Progress, "note">,
  signal: AbortSignal,
): Promise<Done> {
  const outcome = await follow(client, watched, (note) => progress.note(note), signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw new Unfollowed(`Transaction ${watched.hash} is out of sight`, { cause: error });
  });
  if (outcome.kind === "mined" && outcome.receipt.status === "reverted") {
    throw new RefusedInBlock(`Transaction ${outcome.receipt.transactionHash} was refused in its block`);
  }
  return outcome;
}

/** The wallet, when it still stands for this account on this chain. */
export async function walletOf({ wagmi, account, chainId }: Actor) {
  if (getConnection(wagmi).address?.toLowerCase() !== account.toLowerCase()) {
    throw new OtherAccount("The account in the wallet is another one now");
  }
  return getConnectorClient(wagmi, { account, chainId });
}

/** A wallet's question may stay open for ever; the page must not wait for it once nobody wants it answered. */
export function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason as Error);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

export type TransactionState =
  | { step: "idle" }
  | { step: TransactionStep; hash?: Hash; note?: Note }
  | { step: "done"; receipt: TransactionReceipt }
  | { step: "cancelled" | "replaced"; hash: Hash }
  | { step: "failed"; error: unknown };

/** Calls of the coordinator that people make beside asking, ready for `useTransaction().run`. */
export const calls = {
  refund: (id: Hex) => ({ functionName: "refund", args: [id] }),
  cancel: (terms: {
    nonce: bigint;
    modelId: bigint;
    imageCid: Hex;
    payment: bigint;
    callbackGas: bigint;
    deadline: bigint;
    createdAt: bigint;
  }) => ({ functionName: "cancel", args: [terms] }),
  withdraw: (token: Address, to: Address, amount: bigint) => ({ functionName: "withdraw", args: [token, to, amount] }),
  withdrawEarnings: (model: number, to: Address) => ({ functionName: "withdrawEarnings", args: [BigInt(model), to] }),
  publishModel: (manifestCid: Hex, price: bigint, token: Address, payout: Address, fee: bigint) => ({
    functionName: "publishModel",
    args: [manifestCid, price, token, payout],
    value: fee,
  }),
  setModelPrice: (model: number, price: bigint) => ({ functionName: "setModelPrice", args: [BigInt(model), price] }),
  setModelActive: (model: number, active: boolean) => ({
    functionName: "setModelActive",
    args: [BigInt(model), active],
  }),
} as const;

export interface CoordinatorCall {
  functionName: string;
  args: readonly unknown[];
  value?: bigint;
}

/**
 * One transaction on the coordinator by the connected account. `run` gives its receipt, or null when it did not come to
 * that; the state says why. It tells `sent` once the wallet has sent it, even when nobody waits any more. The state goes
 * back to idle when the account changes.
 */
export function useTransaction(): {
  state: TransactionState;
  running: boolean;
  run: (call: CoordinatorCall, sent?: () => void) => Promise<TransactionReceipt | null>;
  reset: () => void;
} {
  const { config } = useConfig();
  const wagmi = useWagmi();
  const { address } = useConnection();
  const [state, setState] = useState<TransactionState>({ step: "idle" });
  const current = useRef<AbortController | null>(null);

  const reset = useCallback(() => {
    current.current?.abort(new Error("stopped"));
    current.current = null;
    setState({ step: "idle" });
  }, []);

  useEffect(() => () => current.current?.abort(new Error("left")), []);
  useEffect(() => reset, [address, reset]);

  const run = useCallback(
    async (call: CoordinatorCall, sent?: () => void) => {
      current.current?.abort(new Error("started anew"));
      const controller = new AbortController();
      current.current = controller;
      const alive = () => current.current === controller && !controller.signal.aborted;
      const set = (next: TransactionState | ((last: TransactionState) => TransactionState)) => {
        if (alive()) setState(next);
      };
      try {
        if (!address) throw new OtherAccount("No wallet is connected");
        const done = await transact(
          { wagmi, client: publicClient(config), account: address, chainId: config.chain_id },
          { address: config.coordinator, abi: coordinatorAbi, ...call },
          {
            step: (step) => set((last) => (step === "mining" && last.step === "mining" ? last : { step })),
            sent: ({ hash }) => {
              sent?.();
              set({ step: "mining", hash });
            },
            late: () => sent?.(),
            note: (note) => set((last) => (last.step === "mining" ? { ...last, note } : last)),
          },
          controller.signal,
        );
        if (done.kind === "mined") {
          set({ step: "done", receipt: done.receipt });
          return done.receipt;
        }
        set({ step: done.kind, hash: done.hash });
      } catch (error) {
        set({ step: "failed", error });
      }
      return null;
    },
    [address, config, wagmi],
  );

  const running = state.step === "simulating" || state.step === "signing" || state.step === "mining";
  return { state, running, run, reset };
}
