import { type Chain, custom, http, type Transport } from "viem";
import { type Config as WagmiConfig, type Connector, type CreateConnectorFn, createConfig, createStorage } from "wagmi";
import { getConnection } from "wagmi/actions";

import { rpcUrl } from "../api/config";
import type { Config } from "../api/types";
import type { Reader } from "./logs";

const RPC_MS = 15_000;

/** Neither an RPC endpoint nor a wallet on this chain is at hand to read it through. */
export class NoRpc extends Error {
  override readonly name = "NoRpc";
}

/** Whether this is NoRpc, or has it among its causes: what reads the chain wraps what its transport threw. */
export function isNoRpc(error: unknown): boolean {
  let cause = error;
  for (let depth = 0; cause instanceof Error && depth < 12; depth += 1) {
    if (cause instanceof NoRpc) return true;
    cause = cause.cause;
  }
  return false;
}

/** The chain as a wallet may be told of it: never with an endpoint that only the page's address names. */
export function chainOf(config: Config): Chain {
  const url = config.rpc_url;
  return {
    id: config.chain_id,
    name: config.chain_name,
    nativeCurrency: { name: config.currency.symbol, ...config.currency },
    rpcUrls: { default: { http: url ? [url] : [] } },
    ...(config.explorer_url
      ? { blockExplorers: { default: { name: config.chain_name, url: config.explorer_url } } }
      : {}),
  };
}

/** Reads go to the RPC endpoint; where none is known, through the connected wallet while it is on this very chain. */
export function transportOf(config: Config, wagmi: () => WagmiConfig): Transport {
  const url = rpcUrl(config);
  if (url) return http(url, { timeout: RPC_MS, retryCount: 2 });
  return custom(
    {
      async request(args: { method: string; params?: unknown }): Promise<unknown> {
        const { connector, chainId } = getConnection(wagmi());
        if (!connector) throw new NoRpc("No RPC endpoint is known and no wallet is connected");
        if (chainId !== config.chain_id) {
          throw new NoRpc(`No RPC endpoint is known and the wallet is on chain ${chainId}, not on ${config.chain_id}`);
        }
        return (await walletReader(connector, config)).request(args);
      },
    },
    { retryCount: 0 },
  );
}

/** The wallet's own way to the chain, whatever endpoint it has for that. */
export async function walletReader(connector: Connector, config: Config): Promise<Reader> {
  return (await connector.getProvider({ chainId: config.chain_id })) as Reader;
}

/** What makes two configurations name the same chain, contract and way to them. */
export function identity(config: Config): string {
  return JSON.stringify([config.chain_id, config.chain_name, config.coordinator, rpcUrl(config)]);
}

const made = new Map<string, WagmiConfig>();

/** Wagmi for this chain alone. Wallets are those that announce themselves by EIP-6963; nothing is guessed. */
export function wagmiConfig(config: Config, connectors: CreateConnectorFn[] = []): WagmiConfig {
  const known = made.get(identity(config));
  if (known) return known;
  const wagmi: WagmiConfig = createConfig({
    chains: [chainOf(config)],
    connectors,
    multiInjectedProviderDiscovery: true,
    storage: createStorage({ storage: safeStorage(), key: "sibyl.wallet" }),
    pollingInterval: 2_000,
    transports: { [config.chain_id]: transportOf(config, () => wagmi) },
  });
  made.set(identity(config), wagmi);
  return wagmi;
}

function safeStorage() {
  const memory = new Map<string, string>();
  return {
    getItem: (key: string) => {
      try {
        return localStorage.getItem(key);
      } catch {
        return memory.get(key) ?? null;
      }
    },
    setItem: (key: string, value: string) => {
      try {
        localStorage.setItem(key, value);
      } catch {
        memory.set(key, value);
      }
    },
    removeItem: (key: string) => {
      try {
        localStorage.removeItem(key);
      } catch {
        memory.delete(key);
      }
    },
  };
}
