import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { Hash } from "viem";

import { useConfig } from "../../api/config";
import { watchRequest } from "../../api/events";
import type { RequestView } from "../../api/types";
import { publicClient } from "../../chain/client";
import type { Reader } from "../../chain/logs";
import { type ChainRequest, readRequest } from "../../chain/requests";
import { identity, NoRpc } from "../../chain/wagmi";
import { type Facts, factsOf } from "./facts";

const PENDING_MS = 4_000;
const CALM_MS = 15_000;

export interface Watching {
  facts: Facts | null;
  view: RequestView | null;
  chain: ChainRequest | null;
  /** The API was asked and answered: here, or "I do not know it". */
  api: "loading" | "up" | "waiting" | "down";
  chainState: "loading" | "read" | "failed" | "no-rpc";
  refresh: () => void;
}

/** A request by everything that tells of it, for as long as the component stands; needs nothing but its id. */
export function useRequest(id: string): Watching {
  const { config, api } = useConfig();
  const [told, setTold] = useState<{ view: RequestView | null; api: Watching["api"] }>({ view: null, api: "loading" });

  useEffect(
    () =>
      watchRequest(api.base, id, {
        onRequest: (view) => setTold({ view, api: "up" }),
        onWaiting: () => setTold((last) => ({ ...last, api: "waiting" })),
        // What is known stays.
        onDown: () => setTold((last) => ({ ...last, api: "down" })),
      }),
    [api.base, id],
  );

  const hint = told.view?.block;
  const query = useQuery({
    queryKey: ["chain-request", identity(config), id],
    queryFn: ({ signal }) => readRequest(publicClient(config) as Reader, config, id as Hash, { hint, signal }),
    retry: false,
    refetchInterval: ({ state: { data, status } }) => intervalOf(status, data, config.confirmations),
    // A wallet that connects is a way to the chain.
    refetchOnWindowFocus: true,
  });
  const { refetch } = query;
  const status = told.view?.status;
  useEffect(() => {
    // The API is told of blocks before our own turn to ask comes.
    if (status) void refetch();
  }, [status, refetch]);

  const chain = query.data ?? null;
  return {
    facts: factsOf(id, told.view, chain, config.confirmations),
    view: told.view,
    chain,
    api: told.api,
    chainState: query.isError ? (isNoRpc(query.error) ? "no-rpc" : "failed") : chain ? "read" : "loading",
    refresh: () => void refetch(),
  };
}

function intervalOf(status: string, data: ChainRequest | undefined, confirmations: number): number | false {
  if (status === "error") return CALM_MS;
  if (data === undefined || data.status === "Pending" || data.status === "Unknown") return PENDING_MS;
  if (data.status === "CallbackFailed") return CALM_MS;
  // Until it is as deep as the oracle itself waits: a reorg may take it away.
  return data.settling && data.head.number - data.settling.block + 1 < confirmations ? PENDING_MS : false;
}

function isNoRpc(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) if (cause instanceof NoRpc) return true;
  return false;
}
