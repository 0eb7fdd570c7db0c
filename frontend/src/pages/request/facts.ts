/** What is known of a request, from the API and from the chain; where they differ the chain is right. */
import type { Move, RequestStatus, RequestView } from "../../api/types";
import { TERMINAL } from "../../api/types";
import type { ChainStatus } from "../../chain/abi";
import type { Callback, ChainRequest, PaidTo } from "../../chain/requests";

export interface Facts {
  readonly id: string;
  readonly status: RequestStatus;
  readonly model: number | null;
  readonly modelName: string;
  readonly requester: string | null;
  readonly imageCid: string | null;
  readonly payment: bigint | null;
  /** Null for ether; undefined while nobody said. */
  readonly token: string | null | undefined;
  readonly callbackGas: number;
  readonly deadline: number | null;
  readonly createdAt: number | null;
  readonly block: number | null;
  readonly transaction: string | null;
  readonly provider: string;
  readonly providerName: string;
  readonly reason: string | null;
  /** Where its money goes, or went, when it goes back; null where that may be either. */
  readonly paidTo: PaidTo | null;
  readonly settledBlock: number | null;
  readonly settledAt: number | null;
  readonly reportTransaction: string | null;
  readonly callback: Callback | null;
  readonly moves: readonly Move[];
  /** Unix seconds of the chain's newest block, null where the chain was not read. */
  readonly chainTime: number | null;
  readonly confirmed: boolean;
  /** The chain was read and has the request. */
  readonly onChain: boolean;
}

const FROM_CHAIN: Record<ChainStatus, RequestStatus> = {
  Unknown: "orphaned",
  Pending: "seen",
  Fulfilled: "fulfilled",
  CallbackFailed: "fulfilled",
  Failed: "rejected",
  Refunded: "refunded",
  Cancelled: "cancelled",
};

/** Join what both say; null while nobody knows the request. */
export function factsOf(
  id: string,
  view: RequestView | null,
  chain: ChainRequest | null,
  confirmations: number,
): Facts | null {
  const known = chain !== null && chain.status !== "Unknown" ? chain : null;
  if (view === null && known === null) return null;
  const asking = known?.asking ?? null;
  const settling = known?.settling ?? null;
  const status = statusOf(view, known);
  const over = TERMINAL.has(status);
  const moves = view?.timeline ?? [];
  const block = asking?.block ?? view?.block ?? null;
  const depth = known && block !== null ? known.head.number - block + 1 : 0;
  return {
    id,
    status,
    model: asking?.model ?? view?.model ?? null,
    modelName: view?.model_name ?? "",
    requester: asking?.requester ?? view?.requester ?? null,
    imageCid: asking?.imageCid ?? view?.image_cid ?? null,
    payment: asking?.payment ?? (view ? BigInt(view.payment) : null),
    token: view?.token,
    callbackGas: asking ? Number(asking.callbackGas) : (view?.callback_gas ?? 0),
    deadline: asking?.deadline ?? view?.deadline ?? null,
    createdAt: asking?.at ?? view?.created_at ?? null,
    block,
    transaction: asking?.transaction ?? view?.transaction ?? null,
    provider: view?.provider ?? "",
    providerName: view?.provider_name ?? "",
    reason: settling?.failure ?? (isAhead(view, known) ? null : view?.failure?.reason) ?? null,
    paidTo: settling?.paidTo ?? (view?.token ? "balance" : null),
    settledBlock: settling?.block ?? null,
    settledAt: settling?.at ?? (over ? moves : []).findLast((move) => TERMINAL.has(move.status))?.at ?? null,
    reportTransaction: settling?.transaction ?? view?.report_transaction ?? null,
    callback: known?.callback ?? null,
    moves,
    chainTime: chain?.head.timestamp ?? null,
    confirmed: depth >= confirmations || moves.some((move) => !["seen", "orphaned"].includes(move.status)),
    onChain: known !== null,
  };
}

/** The chain's word on how a request ended; the API's on how it gets there. */
function statusOf(view: RequestView | null, chain: ChainRequest | null): RequestStatus {
  if (chain && chain.status !== "Pending") return FROM_CHAIN[chain.status];
  if (view && !isAhead(view, chain)) return view.status;
  const late = chain?.asking && chain.head.timestamp > chain.asking.deadline;
  return late ? "expired" : "seen";
}

/** The API says that the money went back, and the chain that nothing has been decided: nobody has to believe it. */
function isAhead(view: RequestView | null, chain: ChainRequest | null): boolean {
  return view !== null && chain?.status === "Pending" && view.status !== "fulfilled" && TERMINAL.has(view.status);
}

export type StepName =
  | "signed"
  | "mined"
  | "confirmed"
  | "picked"
  | "computing"
  | "pinned"
  | "posted"
  | "callback"
  | "failed"
  | "expired"
  | "refunded"
  | "cancelled"
  | "orphaned";

export interface Step {
  readonly name: StepName;
  readonly state: "done" | "now" | "waiting" | "bad";
  readonly at: number | null;
  /** What the oracle noted, one line each: tries and their reasons. */
  readonly notes: readonly string[];
}

const ORDER = ["signed", "mined", "confirmed", "picked", "computing", "pinned", "posted", "callback"] as const;

/** The status in the oracle's queue after which a step is done, and the one that it stands for meanwhile. */
const REACHED: Record<RequestStatus, number> = {
  orphaned: 0,
  seen: 1,
  confirmed: 2,
  ready: 3,
  computing: 4,
  computed: 5,
  posting: 5,
  fulfilled: 6,
  failed: -1,
  rejected: -1,
  expired: -1,
  refunded: -1,
  cancelled: -1,
};

const MOVE_STEP: Partial<Record<RequestStatus, StepName>> = {
  seen: "mined",
  confirmed: "confirmed",
  ready: "picked",
  computing: "computing",
  computed: "pinned",
  posting: "posted",
  fulfilled: "posted",
  failed: "failed",
  rejected: "failed",
  expired: "expired",
  refunded: "refunded",
  cancelled: "cancelled",
  orphaned: "orphaned",
};

/** The timeline: what has happened, what happens now and what is still to come. */
export function stepsOf(facts: Facts): Step[] {
  const { status, moves } = facts;
  const times = new Map<StepName, number>();
  const notes = new Map<StepName, string[]>();
  for (const move of moves) {
    const step = MOVE_STEP[move.status];
    if (step === undefined) continue;
    if (move.status !== "posting" && !times.has(step)) times.set(step, move.at);
    if (move.detail !== "") notes.set(step, [...(notes.get(step) ?? []), move.detail]);
  }
  if (facts.createdAt !== null) times.set("mined", facts.createdAt);
  if (facts.settledAt !== null && status === "fulfilled") times.set("posted", facts.settledAt);
  const step = (name: StepName, state: Step["state"]): Step => ({
    name,
    state,
    at: times.get(name) ?? null,
    notes: notes.get(name) ?? [],
  });

  const reached = REACHED[status];
  if (reached < 0) {
    // It ended otherwise: only what happened stays, and then how it ended.
    const done = ORDER.slice(0, 6).filter((name) => name === "signed" || name === "mined" || times.has(name));
    const ending: Step[] = [];
    if (status === "failed" || status === "rejected") ending.push(step("failed", "bad"));
    if (status === "failed") ending.push(step("refunded", "now"));
    if (status === "rejected") ending.push({ ...step("refunded", "done"), at: facts.settledAt });
    if (status === "expired") ending.push({ ...step("expired", "bad"), at: facts.deadline });
    if (status === "refunded") {
      ending.push({ ...step("expired", "bad"), at: facts.deadline });
      ending.push({ ...step("refunded", "done"), at: facts.settledAt });
    }
    if (status === "cancelled") ending.push({ ...step("cancelled", "done"), at: facts.settledAt });
    // A computation that no answer came of.
    const state = (name: StepName) => (name === "computing" && !times.has("pinned") ? "bad" : "done");
    return [...done.map((name) => step(name, state(name))), ...ending];
  }
  if (status === "orphaned") return [step("signed", "done"), step("orphaned", "now")];
  // With the chain alone what the oracle does meanwhile is not known, but its depth is.
  const last = Math.max(reached, facts.confirmed ? 2 : 0);
  const names = ORDER.filter((name) => name !== "callback" || facts.callbackGas > 0);
  return names.map((name) => {
    const place = ORDER.indexOf(name);
    if (name === "callback") return { ...step(name, callbackState(facts)), at: callbackTime(facts) };
    if (name === "computing") return step(name, last > 4 ? "done" : last === 4 ? "now" : "waiting");
    return step(name, place <= last ? "done" : place === last + 1 && last !== 4 && last !== 3 ? "now" : "waiting");
  });
}

function callbackState(facts: Facts): Step["state"] {
  if (facts.status !== "fulfilled") return "waiting";
  if (facts.callback === "failed") return "bad";
  // The report calls back in its own transaction; only the chain says whether that went well.
  return facts.callback === null ? "now" : "done";
}

function callbackTime(facts: Facts): number | null {
  return facts.status === "fulfilled" && facts.callback === "delivered" ? facts.settledAt : null;
}
