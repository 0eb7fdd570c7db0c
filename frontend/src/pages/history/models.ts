/** What the history needs to know of models: from the API, and without it from the chain. */
import { useQueries, useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { getAddress } from "viem";

import { useConfig } from "../../api/config";
import { publicClient } from "../../chain/client";
import { ether, type Token, tokenOfModel } from "../../chain/tokens";
import { plain } from "../../content/plain";

export interface ModelFacts {
  id: number;
  /** Empty where only the chain is known. */
  name: string;
  token: Token;
  /** Null until the manifest is known. */
  labels: readonly string[] | null;
}

const FOREVER = { staleTime: Infinity, gcTime: Infinity } as const;

/** Facts of these models; `models(id)` answers at once with what is known so far. */
export function useModels(ids: readonly number[]): (id: number) => ModelFacts {
  const { api, config, down } = useConfig();
  const client = publicClient(config);
  const listed = useQuery({
    queryKey: ["models", api.base],
    queryFn: ({ signal }) => api.models(signal),
    staleTime: 60_000,
  });
  const order = useMemo(() => [...new Set(ids)].sort((a, b) => a - b), [ids]);
  const details = useQueries({
    queries: order.map((id) => ({
      queryKey: ["model", api.base, id],
      queryFn: ({ signal }: { signal: AbortSignal }) => api.model(id, signal),
      enabled: !down,
      retry: false,
      ...FOREVER,
    })),
  });
  const known = useMemo(() => new Map((listed.data?.items ?? []).map((model) => [model.id, model])), [listed.data]);
  // Only the chain knows the token of a model that the API does not tell of, and its decimals.
  const unknown = order.filter((id) => {
    const model = known.get(id);
    return model ? model.token !== null && typeof model.token_decimals !== "number" : !listed.isPending;
  });
  const onChain = useQueries({
    queries: unknown.map((id) => tokenOfModel(client, config, id)),
  });

  return useCallback(
    (id: number): ModelFacts => {
      const model = known.get(id);
      const detail = details[order.indexOf(id)]?.data;
      const labels = detail?.manifest.labels;
      const token =
        onChain[unknown.indexOf(id)]?.data ??
        (model?.token
          ? {
              address: getAddress(model.token),
              symbol: plain(model.token_symbol, 12),
              decimals: model.token_decimals ?? 18,
            }
          : model || listed.isPending
            ? ether(config)
            : { ...ether(config), symbol: "?" });
      return {
        id,
        name: plain(model?.name ?? detail?.name ?? "", 64),
        token,
        labels: Array.isArray(labels) ? labels.map((label) => plain(String(label), 80)) : null,
      };
    },
    [known, listed.isPending, details, order, onChain, unknown, config],
  );
}
