import { useCallback, useEffect, useState } from "react";
import type { Address } from "viem";

import { useConfig } from "../../api/config";
import { publicClient } from "../../chain/client";
import { type History, ScanFailed, scanRequests } from "../../chain/history";

const REFRESH_MS = 12_000;

export interface Reading {
  history: History | null;
  /** The first walk over the chain is under way. */
  reading: boolean;
  error: unknown;
  retry: () => void;
}

/** The account's history from the chain, read again every few seconds while the page is seen. */
export function useHistory(account: Address | null): Reading {
  const { config } = useConfig();
  const [attempt, setAttempt] = useState(0);
  const [state, setState] = useState<{ of: string; history: History | null; reading: boolean; error: unknown }>({
    of: "",
    history: null,
    reading: true,
    error: null,
  });
  const { chain_id, coordinator, start_block } = config;
  const client = publicClient(config);
  const of = [chain_id, coordinator, account].join(" ");

  useEffect(() => {
    if (!account) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let last: History | null = null;
    const later = () => {
      timer = setTimeout(() => {
        if (document.visibilityState === "visible") void scan();
        else later();
      }, REFRESH_MS);
    };
    const scan = async () => {
      const first = last === null;
      try {
        const place = { chain_id, coordinator, start_block };
        const seen = (history: History) => {
          // Only the first walk shows how it goes on; later ones would only flicker.
          if (first && !abort.signal.aborted) setState({ of, history, reading: !history.done, error: null });
        };
        last = await scanRequests(client, place, account, seen, { signal: abort.signal });
        if (!abort.signal.aborted) setState({ of, history: last, reading: false, error: null });
      } catch (error) {
        if (abort.signal.aborted) return;
        const failed = error instanceof ScanFailed ? error : null;
        const history = last ?? (failed && failed.history.to >= 0 ? failed.history : null);
        setState({ of, history, reading: false, error: failed?.cause ?? error });
      }
      if (!abort.signal.aborted) later();
    };
    void scan();
    return () => {
      abort.abort(new Error("left"));
      clearTimeout(timer);
    };
  }, [client, chain_id, coordinator, start_block, account, of, attempt]);

  const retry = useCallback(() => {
    setState((now) => ({ ...now, reading: true, error: null }));
    setAttempt((count) => count + 1);
  }, []);
  const current = state.of === of;
  return {
    history: current ? state.history : null,
    reading: current ? state.reading : account !== null,
    error: current ? state.error : null,
    retry,
  };
}
