/** What models are priced in. */
import { type Address, type PublicClient, zeroAddress } from "viem";

import type { Config } from "../api/types";
import { plain } from "../content/plain";
import { coordinatorAbi, erc20Abi } from "./abi";

export interface Token {
  /** The zero address is ether. */
  address: Address;
  symbol: string;
  decimals: number;
}

export function ether(config: Config): Token {
  return { address: zeroAddress, ...config.currency };
}

/** Symbol and decimals of a token as it says itself; what it says is only text. */
export async function readToken(client: PublicClient, address: Address): Promise<Token> {
  const of = { address, abi: erc20Abi } as const;
  const [decimals, symbol] = await Promise.all([
    client.readContract({ ...of, functionName: "decimals" }),
    client.readContract({ ...of, functionName: "symbol" }).catch(() => ""),
  ]);
  return { address, symbol: plain(symbol, 12) || address.slice(0, 8), decimals };
}

/** The query of what a model is priced in, by the chain alone. It never changes. */
export function tokenOfModel(client: PublicClient, config: Config, model: number) {
  return {
    queryKey: ["token of model", config.chain_id, config.coordinator, model],
    queryFn: async (): Promise<Token> => {
      const { token } = await client.readContract({
        address: config.coordinator,
        abi: coordinatorAbi,
        functionName: "modelOf",
        args: [BigInt(model)],
      });
      return token === zeroAddress ? ether(config) : readToken(client, token);
    },
    retry: 1,
    staleTime: Infinity,
    gcTime: Infinity,
  } as const;
}
