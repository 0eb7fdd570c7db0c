/** Who shall compute a picture: the requester's own choice, so it is signed. That costs nothing and sends nothing. */
import { signTypedData } from "viem/actions";

import { ApiProblem } from "../api/client";
import { storage } from "../storage";
import { unlessAborted, walletOf } from "./actions";
import type { Asker } from "./ask";

const WISH = {
  Wish: [
    { name: "requester", type: "address" },
    { name: "image", type: "string" },
    { name: "provider", type: "string" },
    { name: "signedAt", type: "uint256" },
  ],
} as const;

/** What the API remembers of a choice. */
const LIFE_MS = 3_600_000;
const KEPT = "chosen";

/** Has the account sign that this provider computes its picture, or with null that the oracle chooses again; then says it. */
export async function choose(asker: Asker, image: string, provider: string | null, signal: AbortSignal): Promise<void> {
  const { account, config, api } = asker;
  const signedAt = Math.floor(Date.now() / 1000);
  const wish = { requester: account, image, provider: provider ?? "" };
  const wallet = await walletOf(asker);
  // As the wallet gives it: that of a contract is longer than a key's (ERC-1271).
  const signature = await unlessAborted(
    signTypedData(wallet, {
      account,
      domain: { name: "Sibyl", version: "1", chainId: config.chain_id, verifyingContract: config.coordinator },
      types: WISH,
      primaryType: "Wish",
      message: { ...wish, signedAt: BigInt(signedAt) },
    }),
    signal,
  );
  try {
    await api.wish({ requester: account, imageCid: image, provider: wish.provider, signedAt, signature }, signal);
  } catch (error) {
    // Without an answer it may have arrived all the same.
    if (provider !== null && !(error instanceof ApiProblem)) note(asker, image, true);
    throw error;
  }
  note(asker, image, provider !== null);
}

/** Whether a provider was chosen here within the hour for the account's picture: it stands until it is taken back. */
export function hasChosen(asker: Asker, image: string): boolean {
  return nameOf(asker, image) in chosen();
}

function note(asker: Asker, image: string, stands: boolean): void {
  const { [nameOf(asker, image)]: _, ...others } = chosen();
  storage.set(KEPT, JSON.stringify(stands ? { ...others, [nameOf(asker, image)]: Date.now() } : others));
}

function nameOf({ config, account }: Asker, image: string): string {
  return [config.chain_id, config.coordinator, account, image].join(" ");
}

/** When each choice was made, of those that may stand. */
function chosen(): Record<string, number> {
  const kept = Object.entries((storage.json(KEPT) as Record<string, unknown> | null) ?? {});
  const fresh = (at: unknown): at is number => typeof at === "number" && Date.now() - at < LIFE_MS;
  return Object.fromEntries(kept.filter((one): one is [string, number] => fresh(one[1])));
}
