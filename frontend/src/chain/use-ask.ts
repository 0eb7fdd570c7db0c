import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useEffect, useRef, useState } from "react";
import type { Hash, Hex } from "viem";
import { type Config as WagmiConfig, useConfig as useWagmi, useConnection } from "wagmi";

import { useConfig } from "../api/config";
import { ask, type Asked, type Asker, type AskStep, type Order, PriceRose } from "./ask";
import { publicClient } from "./client";
import { OtherAccount, Unfollowed } from "./errors";
import type { Note, Watched } from "./follow";
import { forget, isOutOfSight, keep, resumed, settling, usePending } from "./pending";

export type AskState =
  | { step: "idle" }
  | { step: AskStep; steps: readonly AskStep[]; hash?: Hash; note?: Note }
  | { step: "done"; id: Hex; resumed: boolean }
  | { step: "cancelled" | "replaced"; hash: Hash }
  | { step: "failed"; at: AskStep; error: unknown };

export function isRunning(state: AskState): state is Extract<AskState, { steps: readonly AskStep[] }> {
  return "steps" in state;
}

/** One order on its way. */
interface Run {
  controller: AbortController;
  /** The payment, once the wallet has sent it. */
  sent: Watched | null;
}

interface Tools {
  signal: AbortSignal;
  at: (step: AskStep, steps: readonly AskStep[]) => void;
  note: (note: Note) => void;
  sent: (watched: Watched) => void;
}

const LEFT = new Error("left");

/**
 * Asking, as a state. A change of account stops everything that is not sent yet. What was sent and is not known to have
 * ended is kept: after another visit, or when the wallet answers late, it is among `earlier`.
 */
export function useAsk(): {
  state: AskState;
  start: (order: Order) => void;
  reset: () => void;
  earlier: ReturnType<typeof usePending>;
} {
  const { config, api } = useConfig();
  const wagmi: WagmiConfig = useWagmi();
  const queries = useQueryClient();
  const { address } = useConnection();
  const earlier = usePending();
  const { list, take, leave } = earlier;
  const [state, setState] = useState<AskState>({ step: "idle" });
  const current = useRef<Run | null>(null);
  /** A payment that was sent and is out of sight: it is looked for before anything is paid again. */
  const unfollowed = useRef<Watched | null>(null);

  const begin = useCallback(
    (again: boolean, work: (tools: Tools) => Promise<Asked>) => {
      current.current?.controller.abort(new Error("started anew"));
      const run: Run = { controller: new AbortController(), sent: null };
      current.current = run;
      const { signal } = run.controller;
      let at: AskStep = "quoting";
      const set = (next: AskState | ((last: AskState) => AskState)) => {
        if (current.current === run) setState(next);
      };
      const tools: Tools = {
        signal,
        at: (step, steps) => {
          at = step;
          set((last) => (isRunning(last) && last.step === step ? { ...last, steps } : { step, steps: [...steps] }));
        },
        note: (note) => set((last) => (isRunning(last) ? { ...last, note } : last)),
        sent: (watched) => {
          run.sent = watched;
          keep(config, watched);
          tools.at("mining", ["mining"]);
          set((last) => (isRunning(last) ? { ...last, hash: watched.hash } : last));
        },
      };
      settling(work(tools), () => run.sent, signal)
        .then((end) =>
          set(
            end.kind === "asked"
              ? { step: "done", id: end.id, resumed: again }
              : { step: end.kind, hash: end.hash },
          ),
        )
        .catch((error: unknown) => {
          // Leaving the page is no end: what was sent is taken up again on the next visit.
          if (error === LEFT) return;
          if (error instanceof Unfollowed && current.current === run) unfollowed.current = run.sent;
          set({ step: "failed", at, error });
        });
    },
    [config],
  );

  const start = useCallback(
    (order: Order) => {
      const before = unfollowed.current ?? list.find(({ state }) => isOutOfSight(state))?.watched;
      unfollowed.current = null;
      if (before) {
        leave(before.hash);
        begin(true, (tools) => {
          tools.sent(before);
          return resumed(config, before, tools.note, tools.signal);
        });
        return;
      }
      begin(false, async (tools) => {
        if (!address) throw new OtherAccount("No wallet is connected");
        const asker: Asker = { wagmi, client: publicClient(config), account: address, chainId: config.chain_id, config, api };
        try {
          return await ask(
            asker,
            order,
            {
              step: tools.at,
              note: tools.note,
              sent: tools.sent,
              late: (watched) => {
                keep(config, watched);
                take(watched);
              },
            },
            tools.signal,
          );
        } catch (error) {
          if (error instanceof PriceRose) {
            const stale = ["cost", "models", "models on the chain"];
            await Promise.all(stale.map((what) => queries.invalidateQueries({ queryKey: [what] })));
          }
          throw error;
        }
      });
    },
    [address, api, begin, config, leave, list, queries, take, wagmi],
  );

  const reset = useCallback(() => {
    const sent = current.current?.sent;
    current.current?.controller.abort(LEFT);
    current.current = null;
    unfollowed.current = null;
    if (sent) forget(sent.hash);
    setState({ step: "idle" });
  }, []);

  useEffect(
    () => () => {
      if (!current.current?.sent) current.current?.controller.abort(new OtherAccount("The account in the wallet changed"));
    },
    [address],
  );
  useEffect(() => () => current.current?.controller.abort(LEFT), []);

  return { state, start, reset, earlier };
}
