import { createPublicClient } from "viem";
import { describe, expect, test } from "vitest";
import type { Config as WagmiConfig } from "wagmi";

import type { Config } from "../api/types";
import { tell } from "../parts";
import { catalogue } from "../words";
import { COORDINATOR, ME } from "./chain-double";
import { troubleOf } from "./errors";
import { chainOf, isNoRpc, transportOf } from "./wagmi";

const config = {
  chain_id: 31_337,
  chain_name: "Here",
  currency: { symbol: "ETH", decimals: 18 },
  coordinator: COORDINATOR,
  rpc_url: null,
} as Config;

/** Reads through a wallet that is connected on this chain, or through none. */
function reader(chainId: number | null) {
  const asked: string[] = [];
  const provider = {
    request: ({ method }: { method: string }) => {
      asked.push(method);
      return Promise.resolve("0x7");
    },
  };
  const connector = { getProvider: () => Promise.resolve(provider) };
  const connection = { accounts: [ME], chainId, connector };
  const state = {
    current: chainId === null ? null : "one",
    status: chainId === null ? "disconnected" : "connected",
    connections: new Map(chainId === null ? [] : [["one", connection]]),
  };
  const wagmi = { state, chains: [chainOf(config)] } as unknown as WagmiConfig;
  return { asked, client: createPublicClient({ chain: chainOf(config), transport: transportOf(config, () => wagmi) }) };
}

describe("given no RPC endpoint", () => {
  test("when the wallet is on this chain, then the chain is read through it", async () => {
    expect(await reader(31_337).client.getBlockNumber()).toBe(7n);
  });

  test.each([
    ["on another chain", 1],
    ["absent", null],
  ])("when the wallet is %s, then nothing is asked, and it is told as what it is", async (_, chainId) => {
    const { asked, client } = reader(chainId);
    const error: unknown = await client.getBlockNumber().catch((thrown: unknown) => thrown);
    expect(asked).toEqual([]);
    expect(isNoRpc(error)).toBe(true);
    expect(tell(error, catalogue.en).text).toBe(catalogue.en.common.noRpc);
    expect(troubleOf(error).kind).toBe("no-rpc");
  });
});

test("given an endpoint that the page's address names, when a wallet is told of the chain, then not of that one", () => {
  history.replaceState(null, "", "/?rpc=https://mine.test");
  expect(chainOf(config).rpcUrls.default.http).toEqual([]);
  expect(chainOf({ ...config, rpc_url: "https://rpc.test" }).rpcUrls.default.http).toEqual(["https://rpc.test"]);
  history.replaceState(null, "", "/");
});

test("given errors that are no lack of a way, when looked at, then they are not taken for it, and the look ends", () => {
  const round = new Error("round");
  round.cause = round;
  for (const error of [round, new Error("x"), "text", null]) expect(isNoRpc(error)).toBe(false);
});
