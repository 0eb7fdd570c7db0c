import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, renderHook } from "@testing-library/react";
import { type ReactNode, StrictMode } from "react";
import { type Hash, keccak256, toHex } from "viem";
import { beforeEach, expect, test, vi } from "vitest";
import { WagmiProvider } from "wagmi";
import { connect } from "wagmi/actions";
import { mock } from "wagmi/connectors";

import { ApiClient } from "../api/client";
import { ConfigProvider } from "../api/config";
import type { Config } from "../api/types";
import { type Done, followed, type Progress, transact } from "./actions";
import type { Order } from "./ask";
import { COORDINATOR, FakeChain, ME } from "./chain-double";
import { Unfollowed } from "./errors";
import type { Watched } from "./follow";
import { keep, keptFor } from "./pending";
import { useAsk } from "./use-ask";
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

const config = {
  chain_id: 31_337,
  chain_name: "Test chain of asking",
  currency: { symbol: "ETH", decimals: 18 },
  coordinator: COORDINATOR,
  cancel_window: 0,
  rpc_url: "http://rpc.test/",
} as Config;
const configured = { config, api: new ApiClient("http://api.test"), down: false };
let visits = 0;

async function opened() {
  visits += 1;
  const wagmi = wagmiConfig({ ...config, chain_name: `${config.chain_name} ${visits}` }, [mock({ accounts: [ME] })]);
  const queries = new QueryClient();
  const wrapper = ({ children }: { children: ReactNode }) => (
    <StrictMode>
      <QueryClientProvider client={queries}>
        <ConfigProvider value={configured}>
          <WagmiProvider config={wagmi} reconnectOnMount={false}>
            {children}
          </WagmiProvider>
        </ConfigProvider>
      </QueryClientProvider>
    </StrictMode>
  );
  const hook = renderHook(() => useAsk(), { wrapper });
  const [connector] = wagmi.connectors;
  if (connector) await act(() => connect(wagmi, { connector }));
  return { ...hook, queries };
}

/** What follows a payment, by its hash; it never ends where none is set. */
let ends: Map<Hash, Promise<Done>>;
const other = (letter: string): Watched => ({ ...WATCHED, hash: `0x${letter.repeat(64)}` });

function minedAs(letter: string): Done {
  const chain = new FakeChain();
  chain.ask(1, letter);
  const logs = chain.logs.map((log) => ({ ...log, address: COORDINATOR }));
  return { kind: "mined", receipt: { status: "success", logs } as never, repriced: false };
}

beforeEach(() => {
  ends = new Map();
  vi.mocked(transact).mockReset();
  vi.mocked(followed).mockReset();
  vi.mocked(followed).mockImplementation(
    (_client, { hash }, _progress, signal) =>
      ends.get(hash) ??
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error))),
  );
});

test("given a payment out of sight, when asked again, then it is looked for and not paid twice", async () => {
  vi.mocked(transact).mockImplementation((_actor, _call, progress) => {
    progress.sent(WATCHED);
    progress.step("mining");
    return Promise.reject(new Unfollowed("out of sight"));
  });
  vi.mocked(followed).mockResolvedValue({ kind: "cancelled", hash: HASH });
  const { result } = await opened();

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

test("given payments of earlier visits, when the page is opened, then each is followed and kept until its end", async () => {
  keep(config, other("a"));
  keep(config, other("b"));
  keep(config, other("c"));
  ends.set(other("a").hash, Promise.resolve({ kind: "cancelled", hash: HASH }));
  ends.set(other("c").hash, Promise.resolve(minedAs("c")));
  const { result, unmount } = await opened();
  const said = () => new Map(result.current.earlier.list.map(({ watched, state }) => [watched.hash, state]));
  await vi.waitFor(() => expect(said().get(other("a").hash)).toEqual({ step: "cancelled", hash: HASH }));
  expect(said().get(other("c").hash)).toEqual({ step: "done", id: keccak256(toHex("c")) });
  expect(said().get(other("b").hash)).toEqual({ step: "mining", hash: other("b").hash });
  expect(result.current.state).toEqual({ step: "idle" });
  expect(keptFor(config)).toEqual([other("b")]);

  unmount();
  const again = await opened();
  expect(again.result.current.earlier.list.map((one) => one.watched)).toEqual([other("b")]);
  act(() => again.result.current.earlier.drop(other("b").hash));
  expect(again.result.current.earlier.list).toEqual([]);
  expect(keptFor(config)).toEqual([]);
});

test("given an earlier payment that waits, when another is paid, then each is kept for itself, and only the ended one let go", async () => {
  keep(config, other("a"));
  let finish: (done: Done) => void = () => undefined;
  vi.mocked(transact).mockImplementation((_actor, _call, progress) => {
    progress.sent(WATCHED);
    progress.step("mining");
    return new Promise((resolve) => (finish = resolve));
  });
  const { result } = await opened();
  act(() => result.current.start(ORDER));
  await vi.waitFor(() => expect(result.current.state).toMatchObject({ step: "mining", hash: HASH }));
  expect(new Set(keptFor(config))).toEqual(new Set([WATCHED, other("a")]));
  act(() => finish(minedAs("mine")));
  await vi.waitFor(() =>
    expect(result.current.state).toEqual({ step: "done", id: keccak256(toHex("mine")), resumed: false }),
  );
  expect(keptFor(config)).toEqual([other("a")]);
  expect(result.current.earlier.list).toHaveLength(1);
});

test("given a wallet that answers after it was stopped, when another order is on its way, then both are followed", async () => {
  const asked: Progress[] = [];
  vi.mocked(transact).mockImplementation((_actor, _call, progress, signal) => {
    asked.push(progress);
    progress.step("signing");
    return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason as Error)));
  });
  const { result } = await opened();
  act(() => result.current.start(ORDER));
  await vi.waitFor(() => expect(asked).toHaveLength(1));
  act(() => result.current.reset());
  act(() => result.current.start(ORDER));
  await vi.waitFor(() => expect(asked).toHaveLength(2));
  act(() => asked[0]?.late?.(other("d")));
  expect(result.current.earlier.list.map((one) => one.watched)).toEqual([other("d")]);
  expect(result.current.state).toMatchObject({ step: "signing" });
  expect(keptFor(config)).toEqual([other("d")]);
});

test("given a payment that another tab sends, when it is written down there, then it is followed here too, once", async () => {
  const { result } = await opened();
  for (const letter of ["f", "9"]) {
    keep(config, other(letter));
    const key = `sibyl.asking.${other(letter).hash}`;
    const newValue = localStorage.getItem(key);
    for (let times = 0; times < 2; times += 1) act(() => void window.dispatchEvent(new StorageEvent("storage", { key, newValue })));
    act(() => void window.dispatchEvent(new StorageEvent("storage", { key, newValue: null })));
  }
  expect(result.current.earlier.list.map((one) => one.watched)).toEqual([other("f"), other("9")]);
  expect(vi.mocked(followed).mock.calls.map(([, { hash }]) => hash)).toEqual([other("f").hash, other("9").hash]);
});

test("given a price that rose, when asked, then prices and models are read anew, and nothing else", async () => {
  const { result, queries } = await opened();
  const keys = [["cost", 1], ["models", "api"], ["models on the chain", 1], ["providers", "api"]];
  for (const key of keys) queries.setQueryData(key, 1);
  act(() => result.current.start({ ...ORDER, price: 4n }));
  await vi.waitFor(() => expect(result.current.state).toMatchObject({ step: "failed", at: "quoting" }));
  expect(keys.map((key) => queries.getQueryState(key)?.isInvalidated)).toEqual([true, true, true, false]);
});

test("given an earlier payment that went out of sight, when something is asked, then it is looked for first", async () => {
  keep(config, other("e"));
  ends.set(other("e").hash, Promise.reject(new Unfollowed("out of sight")));
  const { result } = await opened();
  await vi.waitFor(() => expect(result.current.earlier.list[0]?.state.step).toBe("failed"));
  expect(keptFor(config)).toEqual([other("e")]);
  ends.set(other("e").hash, Promise.resolve(minedAs("e")));
  act(() => result.current.start(ORDER));
  await vi.waitFor(() =>
    expect(result.current.state).toEqual({ step: "done", id: keccak256(toHex("e")), resumed: true }),
  );
  expect(transact).not.toHaveBeenCalled();
  expect(result.current.earlier.list).toEqual([]);
  expect(keptFor(config)).toEqual([]);
});
