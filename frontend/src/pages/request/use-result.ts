import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import type { Hash } from "viem";

import { useConfig } from "../../api/config";
import { publicClient } from "../../chain/client";
import type { Reader } from "../../chain/logs";
import { identity } from "../../chain/wagmi";
import { type Bytes, parseCid } from "../../content/cid";
import { fetchVerified, type Source, WrongBytes } from "../../content/verify";
import { check, type Checked, type Claim, claimOf, ofModel } from "./check";
import { sourcesOf } from "./sources";
import type { Watching } from "./use-request";
import { useTestimony } from "./witness";

const AGAIN_MS = 10_000;

export interface Result {
  claim: Claim | null;
  refuted: boolean;
  checked: Checked | null;
  /** Nobody here tells of the answer; or what the API says of it could not be held to the contract. */
  missing: "nowhere" | "unasked" | null;
  testimony: ReturnType<typeof useTestimony>["testimony"];
  retry: () => void;
}

/** The result of a request, as far as it has one and as far as it can be believed. */
export function useResult(id: Hash, { facts, view, chain, chainState, api: told, refresh }: Watching): Result {
  const { config, api } = useConfig();
  const sources = useMemo(() => sourcesOf(api.base, config), [api.base, config]);
  const settled = chain?.settling;
  const model = facts?.model ?? null;
  const claimed = useQuery({
    queryKey: [
      "claim",
      identity(config),
      id,
      view?.status,
      view?.result_cid,
      view?.answer,
      chain?.status,
      settled?.transaction,
      settled?.resultCid,
    ],
    queryFn: () => claimOf(view, chain, publicClient(config) as Reader, config),
    enabled: chainState !== "loading",
    retry: false,
    staleTime: Infinity,
    refetchInterval: ({ state: { status } }) => (status === "error" ? AGAIN_MS : false),
  });
  const claim = claimed.data?.kind === "claim" ? claimed.data.claim : null;
  const checking = useQuery({
    queryKey: ["result", api.base, identity(config), id, model, claim],
    queryFn: async ({ signal }) => {
      if (claim === null) throw new Error("there is no result yet");
      const checked = await check(id, claim, sources, signal);
      if (claim.by === "api") return checked;
      return ofModel(checked, model, publicClient(config), config, sources, signal);
    },
    enabled: claim !== null,
    retry: false,
    staleTime: Infinity,
    refetchInterval: ({ state: { data } }) => (data?.kind === "unavailable" ? AGAIN_MS : false),
  });
  const { testimony, again } = useTestimony(id, claim);
  return {
    claim,
    refuted: claimed.data?.kind === "refuted",
    checked: checking.data ?? null,
    missing: claimed.isError ? "unasked" : claimed.data?.kind === "none" && isSilent(told) ? "nowhere" : null,
    testimony,
    retry: () => {
      if (claim === null) {
        refresh();
        void claimed.refetch();
      } else void checking.refetch();
      again();
    },
  };
}

/** It was asked, and does not tell. */
function isSilent(api: Watching["api"]): boolean {
  return api === "down" || api === "waiting";
}

export interface Picture {
  state: "none" | "loading" | "here" | "missing" | "wrong";
  blob: Blob | null;
  liars: readonly string[];
}

/** The picture behind a CID, hashed here. */
export function usePicture(cid: string | null): Picture {
  const { config, api } = useConfig();
  const sources = useMemo(() => sourcesOf(api.base, config), [api.base, config]);
  const query = useQuery({
    queryKey: ["picture", api.base, cid],
    queryFn: async ({ signal }): Promise<Blob> => blobOf(await whole(cid, sources, config.limits.image_bytes, signal)),
    enabled: cid !== null,
    retry: false,
    staleTime: Infinity,
    refetchInterval: ({ state: { status, error } }) =>
      status === "error" && !(error instanceof WrongBytes) ? AGAIN_MS : false,
  });
  if (cid === null) return { state: "none", blob: null, liars: [] };
  if (query.data) return { state: "here", blob: query.data, liars: [] };
  if (query.error instanceof WrongBytes) return { state: "wrong", blob: null, liars: query.error.liars };
  return { state: query.isError ? "missing" : "loading", blob: null, liars: [] };
}

function whole(cid: string | null, sources: readonly Source[], limit: number, signal: AbortSignal): Promise<Bytes> {
  return fetchVerified(parseCid(cid ?? ""), sources, limit, { signal });
}

const SIGNATURES: readonly (readonly [type: string, at: number, bytes: string])[] = [
  ["image/png", 0, "\x89PNG\r\n\x1a\n"],
  ["image/jpeg", 0, "\xff\xd8\xff"],
  ["image/gif", 0, "GIF8"],
  ["image/webp", 8, "WEBP"],
  ["image/bmp", 0, "BM"],
];

/** Typed by its first bytes and by nothing else; what is no picture has no type that a browser would run. */
export function blobOf(bytes: Bytes): Blob {
  const head = String.fromCharCode(...bytes.subarray(0, 16));
  const type = SIGNATURES.find(([, at, magic]) => head.startsWith(magic, at))?.[0];
  return new Blob([bytes], { type: type ?? "application/octet-stream" });
}
