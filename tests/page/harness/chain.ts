/** What a test does to the chain behind the page's back. */
import { createTestClient, defineChain, http, parseEther, publicActions, walletActions } from "viem";
import type { Address, Hex } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";

import type { Network } from "../wallet/core.js";
import type { Facts } from "./stack.js";

export function chainOf(facts: Pick<Facts, "rpc_url" | "chain_id">) {
  const chain = defineChain({
    id: facts.chain_id,
    name: "Local",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [facts.rpc_url] } },
  });
  return createTestClient({ chain, mode: "anvil", transport: http() }).extend(publicActions).extend(walletActions);
}

export type TestChain = ReturnType<typeof chainOf>;

export const networkOf = (facts: Pick<Facts, "rpc_url" | "chain_id">): Network => ({
  id: facts.chain_id,
  name: "Local chain",
  rpcUrl: facts.rpc_url,
});

/** A new key whose account holds `ether`, so that a test finds nothing of the others' in its history. */
export async function fundedKey(chain: TestChain, ether = "10"): Promise<Hex> {
  const key = generatePrivateKey();
  await chain.setBalance({ address: addressOf(key), value: parseEther(ether) });
  return key;
}

export const addressOf = (key: Hex): Address => privateKeyToAccount(key).address;
