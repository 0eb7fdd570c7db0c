import { useQuery } from "@tanstack/react-query";
import { zeroAddress } from "viem";

import { coordinatorAbi } from "../chain/abi";
import { publicClient } from "../chain/client";
import { cidText } from "../content/cid";
import { storage } from "../storage";
import { useConfig } from "./config";
import type { Config, Model } from "./types";

const MOST_FROM_CHAIN = 50;
const CALM_MS = 30_000;
const SOON_MS = 5_000;

export interface Models {
  models: Model[] | undefined;
  /** "chain": the API is down, prices are the chain's and the rest is what was last known. */
  source: "api" | "chain";
  loading: boolean;
  error: unknown;
  retry: () => void;
}

/**
 * Every model, from the API, or from the chain while the API is down. Asked more often while one of the `expected` is
 * missing: the oracle reads a new model a little after the chain has it.
 */
export function useModels(expected: readonly number[] = []): Models {
  const { api, config, down } = useConfig();
  const key = `models.${api.base}`;
  const told = useQuery({
    queryKey: ["models", api.base],
    queryFn: async ({ signal }) => {
      const page = await api.models(signal);
      storage.set(key, JSON.stringify(page.items));
      return page;
    },
    refetchInterval: ({ state: { data } }) =>
      expected.every((id) => data?.items.some((model) => model.id === id)) ? CALM_MS : SOON_MS,
  });
  const silent = down || told.failureCount > 0 || told.isError;
  const read = useQuery({
    queryKey: ["models on the chain", config.chain_id, config.coordinator],
    queryFn: () => modelsOnChain(config, (storage.json(key) as Model[] | null) ?? []),
    enabled: silent,
    refetchInterval: CALM_MS,
  });
  const fromChain = silent && read.data !== undefined;
  return {
    models: fromChain ? read.data : told.data?.items,
    source: fromChain ? "chain" : "api",
    loading: silent ? read.isPending : told.isPending,
    error: silent && read.isError ? (told.error ?? read.error) : null,
    retry: () => {
      void told.refetch();
      if (silent) void read.refetch();
    },
  };
}

async function modelsOnChain(config: Config, known: readonly Model[]): Promise<Model[]> {
  const client = publicClient(config);
  const contract = { address: config.coordinator, abi: coordinatorAbi } as const;
  const count = Number(await client.readContract({ ...contract, functionName: "modelCount" }));
  const ids = Array.from({ length: Math.min(count, MOST_FROM_CHAIN) }, (_, index) => index + 1);
  return Promise.all(
    ids.map(async (id) => {
      const model = await client.readContract({ ...contract, functionName: "modelOf", args: [BigInt(id)] });
      const manifest = cidText(model.manifestCid) ?? "";
      const last = known.find((one) => one.id === id && one.manifest_cid === manifest);
      return {
        ...(last ?? nameless(id, config)),
        price: model.price.toString(),
        token: model.token === zeroAddress ? null : model.token,
        active: model.active,
        payout: model.payout,
        share_bps: Number(model.publisherShare),
        manifest_cid: manifest,
        example: false,
      };
    }),
  );
}

function nameless(id: number, config: Config): Model {
  return {
    id,
    name: `#${id}`,
    task: "",
    engine: "",
    description: "",
    price: "0",
    token: null,
    token_symbol: config.currency.symbol,
    active: true,
    payout: zeroAddress,
    share_bps: 0,
    manifest_cid: "",
    weights_cid: null,
    weights_sha256: "",
    weights_bytes: null,
    classes: 0,
    licence: "",
    familiarity: false,
    comparison: "",
    usual_seconds: null,
    answered: 0,
    example: false,
    problem: "",
  };
}
