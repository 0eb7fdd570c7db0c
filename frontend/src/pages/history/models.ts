/** What the history needs to know of models: from the API, and without it from the chain. */
import { useQueries, useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { getAddress } from "viem";

import { useConfig } from "../../api/config";
import type { Config, Model, ModelDetail } from "../../api/types";
import { publicClient } from "../../chain/client";
import { ether, type Token, tokenOfModel } from "../../chain/tokens";
import { plain } from "../../content/plain";

export interface ModelFacts {
  id: number;
  /** Empty where only the chain is known. */
  name: string;
  /** What it is priced in; null while nobody has said. */
  token: Token | null;
  /** Null until the manifest is known. */
  labels: readonly string[] | null;
}

/** What has come of each; the same array while the same has come. */
export function dataOf<T>(results: readonly { data: T | undefined }[]): (T | undefined)[] {
  return results.map(({ data }) => data);
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
    combine: dataOf<ModelDetail>,
  });
  const known = useMemo(() => new Map((listed.data?.items ?? []).map((model) => [model.id, model])), [listed.data]);
  // Only the chain knows the token of a model that the API does not tell of, and its decimals.
  const unknown = useMemo(
    () =>
      order.filter((id) => {
        const model = known.get(id);
        return model ? toldToken(model, config) === null : down || !listed.isPending;
      }),
    [order, known, config, down, listed.isPending],
  );
  const onChain = useQueries({
    queries: unknown.map((id) => tokenOfModel(client, config, id)),
    combine: dataOf<Token>,
  });

  return useCallback(
    (id: number): ModelFacts => {
      const model = known.get(id);
      const detail = details[order.indexOf(id)];
      const labels = detail?.manifest.labels;
      return {
        id,
        name: plain(model?.name ?? detail?.name ?? "", 64),
        token: (model && toldToken(model, config)) ?? onChain[unknown.indexOf(id)] ?? null,
        labels: Array.isArray(labels) ? labels.map((label) => plain(String(label), 80)) : null,
      };
    },
    [known, details, order, onChain, unknown, config],
  );
}

/** The token as the API tells of it; null where it does not say how many parts one has. */
function toldToken({ token, token_symbol, token_decimals }: Model, config: Config): Token | null {
  if (token === null) return ether(config);
  if (typeof token_decimals !== "number") return null;
  return { address: getAddress(token), symbol: plain(token_symbol, 12), decimals: token_decimals };
}
