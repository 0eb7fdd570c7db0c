import { useQuery } from "@tanstack/react-query";
import { type Address, zeroAddress } from "viem";

import { useConfig } from "../api/config";
import type { Model } from "../api/types";
import { coordinatorAbi, erc20Abi } from "./abi";
import { approvalsFor } from "./ask";
import { publicClient } from "./client";
import { readToken } from "./tokens";
import { identity } from "./wagmi";

/** Gas of asking, rounded up from docs/gas.md; by a token with what each approval costs before, or a permit. */
const GAS = { ether: 65_000n, token: 95_000n, approval: 50_000n, balance: 70_000n };

export interface Cost {
  /** In the token's smallest part. */
  price: bigint;
  symbol: string;
  decimals: number;
  /** About what the network takes, in wei; null when the chain does not say. */
  fee: bigint | null;
  /** Price and fee together where both are ether. */
  total: bigint | null;
  /** What of each the account lacks: ether in wei, or the token. */
  missing: { ether: bigint; token: bigint };
  holds: { ether: bigint | null; token: bigint | null };
  /** What the account has at the contract in the model's token. */
  balance: bigint;
}

/** What asking costs now, and whether the account has it. Undefined until the chain has answered. */
export function useCost(
  model: Model | null,
  account: Address | null,
  fromBalance: boolean,
): { cost: Cost | undefined; error: unknown; retry: () => void } {
  const { config } = useConfig();
  const query = useQuery({
    queryKey: ["cost", identity(config), model?.id, model?.token, model?.price, account],
    queryFn: () => (model ? readCost(model) : null),
    enabled: model !== null,
    refetchInterval: 12_000,
    placeholderData: (last) => last,
    retry: 1,
  });

  async function readCost(asked: Model) {
    const client = publicClient(config);
    const token = asked.token && asked.token !== zeroAddress ? asked.token : null;
    const coordinator = { address: config.coordinator, abi: coordinatorAbi } as const;
    const [price, gasPrice, ether, balance, held, { symbol, decimals }] = await Promise.all([
      client.readContract({ ...coordinator, functionName: "quote", args: [BigInt(asked.id), 0n] }),
      client.getGasPrice().catch(() => null),
      account ? client.getBalance({ address: account }) : null,
      account
        ? client.readContract({ ...coordinator, functionName: "balanceOf", args: [token ?? zeroAddress, account] })
        : 0n,
      token && account
        ? client.readContract({ address: token, abi: erc20Abi, functionName: "balanceOf", args: [account] })
        : null,
      token ? readToken(client, token) : config.currency,
    ]);
    const approvals =
      token && account ? (await approvalsFor(client, config.coordinator, token, account, price)).length : 1;
    return { model: asked.id, account, token, price, approvals, gasPrice, ether, balance, held, symbol, decimals };
  }

  const read = query.data;
  const cost = read && read.model === model?.id && read.account === account ? summed(read, fromBalance) : undefined;
  return { cost, error: query.error, retry: () => void query.refetch() };
}

interface Read {
  token: Address | null;
  price: bigint;
  /** How often the token must be asked for permission first. */
  approvals: number;
  gasPrice: bigint | null;
  ether: bigint | null;
  balance: bigint;
  held: bigint | null;
  symbol: string;
  decimals: number;
}

export function summed(read: Read, fromBalance: boolean): Cost {
  const { token, price, gasPrice, ether, balance, held } = read;
  const gas = fromBalance ? GAS.balance : token ? GAS.token + GAS.approval * BigInt(read.approvals) : GAS.ether;
  const fee = gasPrice === null ? null : gasPrice * gas;
  const paidInEther = token || fromBalance ? 0n : price;
  const needed = paidInEther + (fee ?? 0n);
  const lacking = (need: bigint, have: bigint | null) => (have === null || have >= need ? 0n : need - have);
  return {
    price,
    symbol: read.symbol,
    decimals: read.decimals,
    fee,
    total: token || fromBalance || fee === null ? null : price + fee,
    missing: {
      ether: lacking(needed, ether),
      token: fromBalance ? lacking(price, balance) : token ? lacking(price, held) : 0n,
    },
    holds: { ether, token: held },
    balance,
  };
}
