import { createPublicClient, type PublicClient } from "viem";

import type { Config } from "../api/types";
import { chainOf, identity, transportOf, wagmiConfig } from "./wagmi";

const clients = new Map<string, PublicClient>();

/** Client to read this chain with. Kept apart from wagmi.ts, so that the first load does not carry every action. */
export function publicClient(config: Config): PublicClient {
  const key = identity(config);
  let client = clients.get(key);
  if (!client) {
    client = createPublicClient({
      chain: chainOf(config),
      transport: transportOf(config, () => wagmiConfig(config)),
      pollingInterval: 2_000,
    });
    clients.set(key, client);
  }
  return client;
}
