/** A page of the site over doubles of API, chain and wallet. */
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, render } from "@testing-library/react";
import type { ReactElement } from "react";
import type { Address } from "viem";
import { vi } from "vitest";
import { WagmiProvider } from "wagmi";
import { connect } from "wagmi/actions";
import { mock } from "wagmi/connectors";

import { ApiClient } from "../api/client";
import { ConfigProvider } from "../api/config";
import type { Config } from "../api/types";
import { COORDINATOR, type FakeChain } from "../chain/chain-double";
import { wagmiConfig } from "../chain/wagmi";
import { WalletProvider } from "../wallet/use-wallet";
import { WordsProvider } from "../words";

const API = "http://api.test";
const RPC = "http://rpc.test/";
let worlds = 0;

export interface World {
  /** Answers of the API by path without the query: JSON, or bytes as they are. A missing path is a 404. */
  api: Record<string, unknown>;
  chain: FakeChain;
  /** The API does not answer. */
  down?: boolean;
  backend?: string;
  /** The account of a connected wallet; whoever has it declines to sign typed data. */
  account?: Address;
}

/** Shows the page in this world, which may change while it stands; gives what it has asked so far. */
export async function show(page: ReactElement, world: World): Promise<QueryClient> {
  worlds += 1;
  const config: Config = {
    name: "sibyl",
    version: "1",
    chain_id: 31_337,
    chain_name: `Test chain ${worlds}`, // nothing of another test's chain is taken for this one's
    currency: { symbol: "ETH", decimals: 18 },
    coordinator: COORDINATOR,
    start_block: 0,
    default_model: 1,
    rpc_url: RPC,
    explorer_url: null,
    cancel_window: 0,
    confirmations: 1,
    backend: world.backend ?? "golem",
    gateway: { open: false, address: null },
    limits: { image_bytes: 1_000_000, image_pixels: 1_000_000, formats: ["PNG"] },
  };
  vi.stubGlobal("fetch", (input: string | URL | Request, init?: RequestInit) => answer(world, input, init));
  const wagmi = wagmiConfig(config, world.account ? [mock({ accounts: [world.account], features: { signTypedDataError: true } })] : []);
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false, networkMode: "always" } } });
  const configured = { config, api: new ApiClient(API), down: world.down ?? false };
  render(
    <WordsProvider>
      <QueryClientProvider client={queries}>
        <ConfigProvider value={configured}>
          <WagmiProvider config={wagmi} reconnectOnMount={false}>
            <WalletProvider>{page}</WalletProvider>
          </WagmiProvider>
        </ConfigProvider>
      </QueryClientProvider>
    </WordsProvider>,
  );
  const [connector] = wagmi.connectors;
  if (world.account && connector) await act(() => connect(wagmi, { connector }));
  return queries;
}

async function answer(world: World, input: string | URL | Request, init?: RequestInit): Promise<Response> {
  const request = input instanceof Request ? input : new Request(input, init);
  if (request.url === RPC) {
    const { id, method, params } = (await request.json()) as { id: number; method: string; params?: unknown };
    if (world.chain.down) throw new TypeError("Failed to fetch");
    try {
      return Response.json({ jsonrpc: "2.0", id, result: await world.chain.request({ method, params }) });
    } catch (error) {
      return Response.json({ jsonrpc: "2.0", id, error: { code: -32000, message: String(error) } });
    }
  }
  if (world.down) throw new TypeError("Failed to fetch");
  const found = world.api[new URL(request.url).pathname];
  if (found instanceof Uint8Array) return new Response(found as Uint8Array<ArrayBuffer>);
  if (found !== undefined) return Response.json(found);
  return Response.json(
    { type: "/problems/unknown", title: "Unknown", status: 404, detail: "There is none.", remedy: "" },
    { status: 404 },
  );
}
