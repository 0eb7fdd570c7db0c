/** A second endpoint for what the chain says: that of the reader's own wallet, which the API's operator did not choose. */
import { useQuery } from "@tanstack/react-query";
import { AbiDecodingZeroDataError, type Hash, hexToNumber, type Hex } from "viem";
import { useConnection } from "wagmi";

import { rpcUrl, useConfig } from "../../api/config";
import type { Place, Reader } from "../../chain/logs";
import { statusOf } from "../../chain/requests";
import { identity, walletReader } from "../../chain/wagmi";
import { type Claim, isHeld } from "./check";

const PATIENCE_MS = 6_000;
const AGAIN_MS = 4_000;

/**
 * "lags": it has no end of the request, maybe not yet. "differs": it has another, or no such contract. "silent": it
 * cannot tell.
 */
export type Testimony = "agrees" | "differs" | "lags" | "silent";

/** What the wallet's endpoint says of a result. Never throws, never waits for long. */
export async function testimonyOf(wallet: Promise<Reader>, place: Place, id: Hash, claim: Claim): Promise<Testimony> {
  let late: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<Testimony>((resolve) => {
    late = setTimeout(() => resolve("silent"), PATIENCE_MS);
  });
  try {
    return await Promise.race([patience, ask(wallet, place, id, claim)]);
  } catch {
    return "silent";
  } finally {
    clearTimeout(late);
  }
}

async function ask(wallet: Promise<Reader>, place: Place, id: Hash, claim: Claim): Promise<Testimony> {
  const reader = await wallet;
  if (hexToNumber((await reader.request({ method: "eth_chainId" })) as Hex) !== place.chain_id) return "silent";
  try {
    if (await isHeld(reader, place, id, claim)) return "agrees";
    const status = await statusOf(reader, place, id);
    return status === "Pending" || status === "Unknown" ? "lags" : "differs";
  } catch (error) {
    if (error instanceof AbiDecodingZeroDataError) return "differs";
    throw error;
  }
}

/** "none": no wallet is on this chain, or it is all there is to read by. */
type Asked = { testimony: Testimony | "asking" | "none"; again: () => void };

/** What the connected wallet's endpoint says, asked again while it lags. */
export function useTestimony(id: Hash, claim: Claim | null): Asked {
  const { config } = useConfig();
  const { connector, status, chainId } = useConnection();
  const isHere = status === "connected" && chainId === config.chain_id;
  const asked = isHere && claim !== null && claim.by !== "api" && rpcUrl(config) !== null;
  const query = useQuery({
    queryKey: ["testimony", identity(config), id, connector?.uid, claim?.resultCid, claim?.answer],
    queryFn: () => (connector && claim ? testimonyOf(walletReader(connector, config), config, id, claim) : "silent"),
    enabled: asked,
    retry: false,
    staleTime: Infinity,
    refetchInterval: ({ state: { data } }) => (data === "lags" ? AGAIN_MS : false),
  });
  const again = () => void (asked && query.refetch());
  return { testimony: asked ? (query.data ?? "asking") : "none", again };
}
