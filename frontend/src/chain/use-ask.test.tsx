import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, renderHook } from "@testing-library/react";
import type { ReactNode } from "react";
import type { Hash } from "viem";
import { expect, test, vi } from "vitest";
import { WagmiProvider } from "wagmi";
import { connect } from "wagmi/actions";
import { mock } from "wagmi/connectors";

import { ApiClient } from "../api/client";
import { ConfigProvider } from "../api/config";
import type { Config } from "../api/types";
import { followed, transact } from "./actions";
import { type Order, useAsk } from "./ask";
import { COORDINATOR, ME } from "./chain-double";
import { Unfollowed } from "./errors";
import type { Watched } from "./follow";
import { wagmiConfig } from "./wagmi";

vi.mock("./actions", async (original) => ({ ...(await original<object>()), transact: vi.fn(), followed: vi.fn() }));
vi.mock("./client", () => ({
  publicClient: () => ({ readContract: () => Promise.resolve(5n), getBlock: () => Promise.resolve({ timestamp: 1n }) }),
}));

const HASH: Hash = `0x${"1".repeat(64)}`;
const WATCHED: Watched = { hash: HASH, account: ME, to: COORDINATOR, data: "0xab", value: 5n, nonce: 4, since: 1n };
const ORDER = {
  model: { id: 1, token: null },
  picture: { kind: "cid", cid: "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG" },
  provider: null,
  fromBalance: false,
  price: 5n,
} as unknown as Order;

test("given a payment out of sight, when asked again, then it is looked for and not paid twice", async () => {
  const config = {
    chain_id: 31_337,
    chain_name: "Test chain of asking",
    currency: { symbol: "ETH", decimals: 18 },
    coordinator: COORDINATOR,
    cancel_window: 0,
    rpc_url: "http://rpc.test/",
  } as Config;
  const wagmi = wagmiConfig(config, [mock({ accounts: [ME] })]);
  const configured = { config, api: new ApiClient("http://api.test"), down: false };
  const wrapper = ({ children }: { children: ReactNode }) => (
    <QueryClientProvider client={new QueryClient()}>
      <ConfigProvider value={configured}>
        <WagmiProvider config={wagmi} reconnectOnMount={false}>
          {children}
        </WagmiProvider>
      </ConfigProvider>
    </QueryClientProvider>
  );
  vi.mocked(transact).mockImplementation((_actor, _call, progress) => {
    progress.sent(WATCHED);
    progress.step("mining");
    return Promise.reject(new Unfollowed("out of sight"));
  });
  vi.mocked(followed).mockResolvedValue({ kind: "cancelled", hash: HASH });
  const { result } = renderHook(() => useAsk(), { wrapper });
  const [connector] = wagmi.connectors;
  if (connector) await act(() => connect(wagmi, { connector }));

  act(() => result.current.start(ORDER));
  await vi.waitFor(() => expect(result.current.state).toMatchObject({ step: "failed", at: "mining" }));

  act(() => result.current.start(ORDER));
  await vi.waitFor(() => expect(result.current.state).toEqual({ step: "cancelled", hash: HASH }));
  expect(transact).toHaveBeenCalledTimes(1);
  expect(vi.mocked(followed).mock.lastCall?.[1]).toEqual(WATCHED);

  // What became of it is known: the next one is a payment of its own.
  act(() => result.current.start(ORDER));
  await vi.waitFor(() => expect(transact).toHaveBeenCalledTimes(2));
});
