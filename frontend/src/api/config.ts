import { useQuery } from "@tanstack/react-query";
import { createContext, use, useMemo } from "react";

import { storage } from "../storage";
import { ApiClient } from "./client";
import type { Config } from "./types";

/**
 * Where the API is: what the meta element sibyl-api says; where it says nothing "?api=" in the page's address, else the
 * folder that the page came from. Without a slash at the end.
 */
export function apiBase(place: Location = location, page: Document = document): string {
  const asked = new URLSearchParams(place.search).get("api");
  const written = page.querySelector<HTMLMetaElement>('meta[name="sibyl-api"]')?.content;
  const named = written?.trim() || asked?.trim() || ".";
  const url = URL.canParse(named, place.href) ? new URL(named, place.href) : null;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") return new URL(".", place.href).href.replace(/\/$/, "");
  return (url.origin + url.pathname).replace(/\/+$/, "");
}

/** The host that the page's address alone chose for the API: whoever made the link chose the contract. */
export function foreignApi(place: Location = location, page: Document = document): string | null {
  const written = page.querySelector<HTMLMetaElement>('meta[name="sibyl-api"]')?.content;
  if (written?.trim() || !new URLSearchParams(place.search).has("api")) return null;
  const { origin, host } = new URL(apiBase(place, page));
  return origin === place.origin ? null : host;
}

/** The API serves this page itself, so its policy decides whom the page may ask: nobody else can be named here. */
export function isServedByApi(base: string, place: Location = location): boolean {
  return new URL(base).origin === place.origin;
}

/** RPC endpoint to read through: the one that "?rpc=" names, before the one that the API gives. No wallet gets it. */
export function rpcUrl(config: Config): string | null {
  const asked = new URLSearchParams(location.search).get("rpc");
  const url = asked !== null && URL.canParse(asked) ? new URL(asked) : null;
  return url && (url.protocol === "http:" || url.protocol === "https:") ? url.href : config.rpc_url;
}

/** The host of an endpoint that the page's address alone named: whoever made the link chose who tells of the chain. */
export function foreignRpc(config: Config): string | null {
  const url = rpcUrl(config);
  return url === null || (config.rpc_url !== null && new URL(config.rpc_url).href === new URL(url).href) ? null : new URL(url).host;
}

export interface Configured {
  config: Config;
  api: ApiClient;
  /** The API does not answer now; `config` is the last good one. */
  down: boolean;
}

const ConfigContext = createContext<Configured | null>(null);
export const ConfigProvider = ConfigContext.Provider;

/** What the API says of itself and its chain. Only below `ConfigProvider`, which renders nothing without it. */
export function useConfig(): Configured {
  const configured = use(ConfigContext);
  if (!configured) throw new Error("useConfig is used outside of ConfigProvider");
  return configured;
}

const RECHECK_MS = 15_000;

/** Loads the configuration; the last good one of this API is kept, so that the page lives on while the API is down. */
export function useLoadConfig(): { configured: Configured | null; loading: boolean; error: unknown; retry: () => void } {
  const api = useMemo(() => new ApiClient(apiBase()), []);
  const key = `config.${api.base}`;
  const kept = useMemo(() => {
    const config = storage.json(key);
    return isConfig(config) ? config : null;
  }, [key]);
  const query = useQuery({
    queryKey: ["config", api.base],
    queryFn: async ({ signal }) => {
      const config = await api.config(signal);
      if (!isConfig(config)) throw new Error("This address answers, but not as Sibyl's API");
      storage.set(key, JSON.stringify(config));
      return config;
    },
    refetchInterval: RECHECK_MS,
    refetchOnWindowFocus: true,
    retry: 1,
  });
  const config = query.data ?? kept;
  const down = query.failureCount > 0 || query.isError;
  const configured = useMemo(() => (config ? { config, api, down } : null), [config, api, down]);
  return {
    configured,
    loading: query.isPending,
    error: query.error,
    retry: () => void query.refetch(),
  };
}

type Check = (value: unknown) => boolean;

const isText: Check = (value) => typeof value === "string";
const isFlag: Check = (value) => typeof value === "boolean";
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isAddress: Check = (value) => typeof value === "string" && /^0x[0-9a-fA-F]{40}$/.test(value);
/** An address that a link or a request of this page may have. */
const isWeb: Check = (value) => typeof value === "string" && /^https?:\/\//i.test(value) && URL.canParse(value);
const orNull = (check: Check): Check => (value) => value === null || check(value);
const isListOf = (check: Check): Check => (value) => Array.isArray(value) && value.every(check);
const isOf = <T>(fields: { [K in keyof Required<T>]: Check }): Check => (value) =>
  typeof value === "object" &&
  value !== null &&
  Object.entries<Check>(fields).every(([name, check]) => check((value as Record<string, unknown>)[name]));

const looksRight = isOf<Config>({
  name: isText,
  version: isText,
  chain_id: (value) => isCount(value) && value !== 0,
  chain_name: isText,
  currency: isOf<Config["currency"]>({ symbol: isText, decimals: (value) => isCount(value) && Number(value) <= 77 }),
  coordinator: isAddress,
  start_block: isCount,
  default_model: orNull(isCount),
  rpc_url: orNull(isWeb),
  explorer_url: orNull(isWeb),
  cancel_window: isCount,
  confirmations: isCount,
  backend: isText,
  gateway: isOf<Config["gateway"]>({ open: isFlag, address: orNull(isAddress) }),
  gateways: (value) => value === undefined || isListOf(isWeb)(value),
  limits: isOf<Config["limits"]>({ image_bytes: isCount, image_pixels: isCount, formats: isListOf(isText) }),
});

/** Whether the page can live on this: what an API, or an older page in this browser, left may be anything. */
export function isConfig(value: unknown): value is Config {
  return looksRight(value);
}
