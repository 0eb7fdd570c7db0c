/** What the history needs to know of models: from the API, and without it from the chain. */
import { useQueries, useQuery } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";
import { type Address, getAddress, type PublicClient, zeroAddress } from "viem";

import { useConfig } from "../../api/config";
import type { Config } from "../../api/types";
import { coordinatorAbi, erc20Abi } from "../../chain/abi";
import { publicClient } from "../../chain/client";
import { plain } from "../../content/plain";

export interface Token {
  /** The zero address is ether. */
  address: Address;
  symbol: string;
  decimals: number;
}

export interface ModelFacts {
  id: number;
  /** Empty where only the chain is known. */
  name: string;
  token: Token;
  /** Null until the manifest is known. */
  labels: readonly string[] | null;
}

const FOREVER = { staleTime: Infinity, gcTime: Infinity } as const;

/** Symbol and decimals of a token as it says itself; what it says is only text. */
export async function readToken(client: PublicClient, address: Address): Promise<Token> {
  const of = { address, abi: erc20Abi } as const;
  const [decimals, symbol] = await Promise.all([
    client.readContract({ ...of, functionName: "decimals" }),
    client.readContract({ ...of, functionName: "symbol" }).catch(() => ""),
  ]);
  return { address, symbol: plain(symbol, 12) || address.slice(0, 8), decimals };
}

export function ether(config: Config): Token {
  return { address: zeroAddress, ...config.currency };
}

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
    return model ? model.token !== null && model.token_decimals === undefined : !listed.isPending;
  });
  const onChain = useQueries({
    queries: unknown.map((id) => ({
      queryKey: ["token of model", config.chain_id, config.coordinator, id],
      queryFn: async (): Promise<Token> => {
        const { token } = await client.readContract({
          address: config.coordinator,
          abi: coordinatorAbi,
          functionName: "modelOf",
          args: [BigInt(id)],
        });
        return token === zeroAddress ? ether(config) : readToken(client, token);
      },
      retry: 1,
      ...FOREVER,
    })),
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
          : ether(config));
      return {
        id,
        name: plain(model?.name ?? detail?.name ?? "", 64),
        token,
        labels: Array.isArray(labels) ? labels.map((label) => plain(String(label), 80)) : null,
      };
    },
    [known, details, order, onChain, unknown, config],
  );
}
