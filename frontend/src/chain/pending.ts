/** Payments that were sent and whose end is not known yet: kept over a closed tab, followed each by itself. */
import { useCallback, useEffect, useRef, useState } from "react";
import type { Hash, Hex } from "viem";

import { useConfig } from "../api/config";
import type { Config } from "../api/types";
import { storage } from "../storage";
import { followed } from "./actions";
import { type Asked, askedBy } from "./ask";
import { publicClient } from "./client";
import { Unfollowed } from "./errors";
import type { Note, Watched } from "./follow";

/** Each is kept under a name of its own, so that two tabs do not write over each other's. */
const PREFIX = "asking.";
const MOST = 20;

/** Money as text, since JSON knows no bigint; the hash is in the name. */
interface Kept extends Omit<Watched, "hash" | "value" | "since"> {
  chain: string;
  at: number;
  value: string;
  since: string;
}

const chainOf = (config: Config) => `${config.chain_id}:${config.coordinator.toLowerCase()}`;

/** Keeps the payment, and of this chain and contract only the newest 20. */
export function keep(config: Config, { hash, value, since, ...rest }: Watched): void {
  const kept: Kept = {
    ...rest,
    chain: chainOf(config),
    at: Date.now(),
    value: value.toString(),
    since: since.toString(),
  };
  storage.set(PREFIX + hash, JSON.stringify(kept));
  for (const old of keptFor(config).slice(MOST)) forget(old.hash);
}

export function forget(hash: Hash): void {
  storage.remove(PREFIX + hash);
}

/** What is kept for this chain and contract, the newest first; what cannot be read is passed over. */
export function keptFor(config: Config): Watched[] {
  return storage
    .keys(PREFIX)
    .map((name) => ({ hash: name.slice(PREFIX.length), kept: storage.json(name) as Partial<Kept> | null }))
    .filter(({ kept }) => kept?.chain === chainOf(config))
    .sort((one, other) => (Number(other.kept?.at) || 0) - (Number(one.kept?.at) || 0))
    .flatMap(({ hash, kept }) => watchedOf(hash, kept ?? {}) ?? []);
}

const isHex = (text: unknown): text is Hex => typeof text === "string" && /^0x[0-9a-fA-F]*$/.test(text);
const isAmount = (text: unknown): text is string => typeof text === "string" && /^[0-9]+$/.test(text);
const isCount = (count: unknown): count is number => Number.isSafeInteger(count) && (count as number) >= 0;

function watchedOf(hash: string, { account, to, data, value, since, nonce, before }: Partial<Kept>): Watched | null {
  if (!isHex(hash) || !isHex(account) || !isHex(to) || !isHex(data)) return null;
  if (!isAmount(value) || !isAmount(since) || !isCount(nonce)) return null;
  const watched = { hash, account, to, data, nonce, value: BigInt(value), since: BigInt(since) };
  return isCount(before) ? { ...watched, before } : watched;
}

/** Forgets what `work` has sent once its end is known to whoever waits for it. */
export async function settling<T>(work: Promise<T>, sent: () => Watched | null, signal: AbortSignal): Promise<T> {
  let known = true;
  try {
    return await work;
  } catch (error) {
    known = !(error instanceof Unfollowed);
    throw error;
  } finally {
    const watched = sent();
    if (watched && known && !signal.aborted) forget(watched.hash);
  }
}

/** Takes up a payment that was sent before. */
export async function resumed(
  config: Config,
  watched: Watched,
  note: (note: Note) => void,
  signal: AbortSignal,
): Promise<Asked> {
  return askedBy(await followed(publicClient(config), watched, { note }, signal), config, watched.account);
}

export interface Pending {
  watched: Watched;
  state:
    | { step: "mining"; hash: Hash; note?: Note }
    | { step: "done"; id: Hex }
    | { step: "cancelled" | "replaced"; hash: Hash }
    | { step: "failed"; error: unknown };
}

/** Whether the chain could not be read for so long that nobody looks any more. */
export function isOutOfSight(state: Pending["state"]): boolean {
  return state.step === "failed" && state.error instanceof Unfollowed;
}

/** Payments of earlier visits, each followed until its end; they stay in the list until they are dropped. */
export function usePending(): {
  list: readonly Pending[];
  /** Follows this one too, or again. */
  take: (watched: Watched) => void;
  /** Leaves it to whoever follows it from now on. */
  leave: (hash: Hash) => void;
  drop: (hash: Hash) => void;
} {
  const { config } = useConfig();
  const [list, setList] = useState<readonly Pending[]>([]);
  const following = useRef<Map<Hash, AbortController> | null>(null);

  const take = useCallback(
    (watched: Watched) => {
      const { hash } = watched;
      if (!following.current || following.current.has(hash)) return;
      const controller = new AbortController();
      const { signal } = controller;
      following.current.set(hash, controller);
      const set = (state: Pending["state"]) => {
        if (signal.aborted) return;
        setList((all) => {
          const next = { watched, state };
          const known = all.some((one) => one.watched.hash === hash);
          return known ? all.map((one) => (one.watched.hash === hash ? next : one)) : [...all, next];
        });
      };
      set({ step: "mining", hash });
      settling(
        resumed(config, watched, (note) => set({ step: "mining", hash, note }), signal),
        () => watched,
        signal,
      )
        .then((end) => set(end.kind === "asked" ? { step: "done", id: end.id } : { step: end.kind, hash: end.hash }))
        .catch((error: unknown) => set({ step: "failed", error }))
        .finally(() => {
          if (!signal.aborted) following.current?.delete(hash);
        });
    },
    [config],
  );

  const leave = useCallback((hash: Hash) => {
    following.current?.get(hash)?.abort(new Error("left"));
    following.current?.delete(hash);
    setList((all) => all.filter((one) => one.watched.hash !== hash));
  }, []);

  const drop = useCallback(
    (hash: Hash) => {
      leave(hash);
      forget(hash);
    },
    [leave],
  );

  useEffect(() => {
    if (following.current) return;
    following.current = new Map();
    for (const watched of keptFor(config)) take(watched);
  }, [config, take]);
  useEffect(
    () =>
      storage.watch(PREFIX, (name) => {
        const paid = keptFor(config).find(({ hash }) => PREFIX + hash === name);
        if (paid) take(paid);
      }),
    [config, take],
  );
  useEffect(
    () => () => {
      for (const controller of following.current?.values() ?? []) controller.abort(new Error("left"));
      following.current = null;
    },
    [],
  );

  return { list, take, leave, drop };
}
