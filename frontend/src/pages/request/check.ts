/** Whether a result can be believed: its bytes against the CID, the CID against the chain, its words against the answer. */
import { bytesToHex, type Hash, type Hex } from "viem";

import type { RequestView } from "../../api/types";
import { type ChainRequest, manifestOf, verifyResult } from "../../chain/requests";
import type { Place, Reader } from "../../chain/logs";
import { type Answer, decodeAnswer, NotAnAnswer } from "../../content/answer";
import { type Bytes, parseCid } from "../../content/cid";
import { agrees, BadDocument, isLabelledBy, readResult, RESULT_LIMIT, type ResultDocument } from "../../content/document";
import { Malformed } from "../../content/unixfs";
import { fetchVerified, type Source, TooLarge, WrongBytes } from "../../content/verify";

const MANIFEST_LIMIT = 256 * 1024;
const MANIFEST_MS = 5_000;

/** Which result a request has, and who says so. */
export interface Claim {
  readonly resultCid: string;
  readonly answer: Hex;
  readonly imageCid: string;
  /** An event of the chain; the contract, asked about what the API says; or the API alone. */
  readonly by: "event" | "contract" | "api";
  /** The API says something else than the chain does. */
  readonly apiDiffers: boolean;
}

export type Claimed = { readonly kind: "claim"; readonly claim: Claim } | { readonly kind: "refuted" } | { readonly kind: "none" };

/** What the chain says of the result, else what the API says of it. */
export async function claimOf(
  view: RequestView | null,
  chain: ChainRequest | null,
  client: Reader,
  place: Place,
): Promise<Claimed> {
  const { settling, asking } = chain ?? { settling: null, asking: null };
  if (settling?.resultCid && settling.answer && asking?.imageCid) {
    const { resultCid, answer } = settling;
    const apiDiffers =
      (view?.result_cid != null && view.result_cid !== resultCid) ||
      (view?.answer != null && view.answer.toLowerCase() !== answer.toLowerCase());
    return { kind: "claim", claim: { resultCid, answer, imageCid: asking.imageCid, by: "event", apiDiffers } };
  }
  if (view?.result_cid == null || view.answer == null || view.status !== "fulfilled") return { kind: "none" };
  const claim = { resultCid: view.result_cid, answer: view.answer, imageCid: view.image_cid, apiDiffers: false };
  if (chain === null) return { kind: "claim", claim: { ...claim, by: "api" } };
  // Not settled there yet: the endpoint may be a block behind the API's.
  if (chain.status !== "Fulfilled" && chain.status !== "CallbackFailed") return { kind: "claim", claim: { ...claim, by: "api" } };
  const held = await isHeld(client, place, chain.id, claim);
  return held ? { kind: "claim", claim: { ...claim, by: "contract" } } : { kind: "refuted" };
}

/** Whether the contract, as this endpoint has it, holds exactly this result and answer. */
export function isHeld(client: Reader, place: Place, id: Hash, claim: Pick<Claim, "resultCid" | "answer">): Promise<boolean> {
  return verifyResult(client, place, id, bytesToHex(parseCid(claim.resultCid).bytes), claim.answer);
}

/** What became of checking a claim. Only "document" has anything that may be shown of the result. */
export type Checked =
  | {
      readonly kind: "document";
      readonly document: ResultDocument;
      readonly bytes: Bytes;
      /** Places that sent other bytes before another sent these. */
      readonly liars: readonly string[];
    }
  | { readonly kind: "wrong-bytes"; readonly liars: readonly string[] }
  | { readonly kind: "unavailable"; readonly why: string }
  | { readonly kind: "malformed"; readonly why: string }
  | { readonly kind: "disagrees" }
  /** It names another model than the registry has, or a class otherwise than the model's manifest. */
  | { readonly kind: "other-model" };

/** Fetch the result, hash every block of it here, read it and hold it to the answer. Throws only for an abort. */
export async function check(
  id: string,
  claim: Claim,
  sources: readonly Source[],
  signal?: AbortSignal,
): Promise<Checked> {
  const liars: string[] = [];
  try {
    const bytes = await fetchVerified(parseCid(claim.resultCid), sources, RESULT_LIMIT, {
      ...(signal && { signal }),
      onWrong: (name) => liars.push(name),
    });
    const document = readResult(bytes);
    if (!agrees(document, decodeAnswer(claim.answer), { id, imageCid: claim.imageCid })) return { kind: "disagrees" };
    return { kind: "document", document, bytes, liars };
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof WrongBytes) return { kind: "wrong-bytes", liars: error.liars };
    const why = error instanceof Error ? error.message : String(error);
    if ([BadDocument, Malformed, TooLarge, NotAnAnswer].some((kind) => error instanceof kind))
      return { kind: "malformed", why };
    return { kind: "unavailable", why };
  }
}

/** Hold what was checked to the model that was asked, as the registry on the chain has it. Throws only for an abort. */
export async function ofModel(
  checked: Checked,
  model: number | null,
  client: Reader,
  place: Place,
  sources: readonly Source[],
  signal: AbortSignal,
): Promise<Checked> {
  if (checked.kind !== "document" || model === null) return checked;
  let registered: string | null;
  try {
    registered = await manifestOf(client, place, model);
  } catch (error) {
    signal.throwIfAborted();
    return { kind: "unavailable", why: error instanceof Error ? error.message : String(error) };
  }
  if (checked.document.model.manifest !== registered) return { kind: "other-model" };
  const labels = await labelsOf(registered, sources, signal);
  return labels === null || isLabelledBy(checked.document, labels) ? checked : { kind: "other-model" };
}

/** The labels of a manifest; null where it is not to be had soon. */
async function labelsOf(manifest: string, sources: readonly Source[], signal: AbortSignal): Promise<unknown[] | null> {
  const soon = AbortSignal.any([signal, AbortSignal.timeout(MANIFEST_MS)]);
  try {
    const bytes = await fetchVerified(parseCid(manifest), sources, MANIFEST_LIMIT, { signal: soon });
    const { labels } = JSON.parse(new TextDecoder().decode(bytes)) as { labels?: unknown };
    return Array.isArray(labels) ? labels : null;
  } catch {
    signal.throwIfAborted();
    return null;
  }
}

/** The answer as the chain has it, or null where it cannot be read. */
export function answerOf(claim: Claim | null): Answer | null {
  if (claim === null) return null;
  try {
    return decodeAnswer(claim.answer);
  } catch {
    return null;
  }
}
