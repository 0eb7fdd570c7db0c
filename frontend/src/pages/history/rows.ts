import { formatUnits } from "viem";

import type { HistoryEntry, OtherEntry } from "../../chain/history";
import type { Language, Words } from "../../words";
import { answerText } from "./answer";
import { toCsv } from "./csv";
import type { Token } from "../../chain/tokens";
import type { ModelFacts } from "./models";

/** A request as the page shows it. */
export interface Row {
  entry: HistoryEntry;
  model: ModelFacts;
  modelName: string;
  answer: string;
  /** Its deadline has passed and its money can be taken back. */
  due: boolean;
}

export const GROUPS = ["waiting", "answered", "returned"] as const;
export type Group = (typeof GROUPS)[number];

export interface Filter {
  group: Group | "";
  model: number | null;
  search: string;
}

export function toRow(
  entry: HistoryEntry,
  model: ModelFacts,
  now: number,
  words: Words["history"],
  language: Language,
): Row {
  return {
    entry,
    model,
    modelName: model.name || words.modelNumber(model.id),
    answer: answerText(entry.answer, model.labels, words, language),
    due: entry.status === "pending" && entry.deadline < now,
  };
}

export function groupOf(entry: HistoryEntry): Group {
  if (entry.status === "pending") return "waiting";
  return entry.status === "fulfilled" || entry.status === "callback_failed" ? "answered" : "returned";
}

/** Rows in this group, of this model, in which every word of the search occurs. */
export function filtered(rows: readonly Row[], filter: Filter): Row[] {
  const wanted = filter.search.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    if (filter.group && groupOf(row.entry) !== filter.group) return false;
    if (filter.model !== null && row.entry.model !== filter.model) return false;
    if (wanted.length === 0) return true;
    const { id, imageCid, resultCid, transaction, settledTransaction } = row.entry;
    const text = [id, imageCid, resultCid, transaction, settledTransaction, row.modelName, row.answer]
      .join("\n")
      .toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

export interface Sum {
  key: string;
  /** Null for a model that nobody has told the currency of. */
  token: Token | null;
  paid: bigint;
  returned: bigint;
}

/** What was paid and what came back, for each token; the coin of the chain first, what is not known yet last. */
export function sums(rows: readonly Row[]): Sum[] {
  const found = new Map<string, Sum>();
  for (const { entry, model } of rows) {
    const { token } = model;
    const key = token?.address ?? `model ${model.id}`;
    const sum = found.get(key) ?? { key, token, paid: 0n, returned: 0n };
    sum.paid += entry.payment;
    sum.returned += entry.refunded;
    found.set(key, sum);
  }
  return [...found.values()].sort((a, b) => a.key.localeCompare(b.key));
}

const COLUMNS = [
  "request_id",
  "asked_at",
  "block",
  "transaction",
  "model",
  "model_name",
  "image_cid",
  "status",
  "answer",
  "result_cid",
  "failure",
  "paid",
  "paid_back",
  "currency",
  "settled_block",
  "settled_transaction",
];

/** The rows for a spreadsheet; amounts exactly, in whole units where the currency is known and else in smallest parts. */
export function rowsToCsv(rows: readonly Row[]): string {
  const lines = rows.map(({ entry, model, modelName, answer }) => [
    entry.id,
    entry.at === null ? "" : new Date(entry.at * 1000).toISOString(),
    String(entry.block),
    entry.transaction,
    String(entry.model),
    modelName,
    entry.imageCid,
    entry.status,
    answer,
    entry.resultCid ?? "",
    entry.failure ?? "",
    formatUnits(entry.payment, model.token?.decimals ?? 0),
    formatUnits(entry.refunded, model.token?.decimals ?? 0),
    model.token?.symbol ?? "smallest parts",
    entry.settledBlock === null ? "" : String(entry.settledBlock),
    entry.settledTransaction ?? "",
  ]);
  return toCsv([COLUMNS, ...lines]);
}

/** A transaction beside the requests, as the page shows it. */
export interface Other {
  entry: OtherEntry;
  what: string;
  token: Token | null;
}

const OTHER_COLUMNS = ["kind", "at", "block", "transaction", "model", "amount", "currency", "to"];

/** Other transactions for a spreadsheet, with amounts as those of requests. */
export function othersToCsv(others: readonly Other[]): string {
  const lines = others.map(({ entry, token }) => {
    const moved = entry.kind !== "published";
    return [
      entry.kind,
      entry.at === null ? "" : new Date(entry.at * 1000).toISOString(),
      String(entry.block),
      entry.transaction,
      entry.model === null ? "" : String(entry.model),
      moved ? formatUnits(entry.amount, token?.decimals ?? 0) : "",
      moved ? (token?.symbol ?? "smallest parts") : "",
      entry.to ?? "",
    ];
  });
  return toCsv([OTHER_COLUMNS, ...lines]);
}

/** Name of a file about an account. */
export function nameOf(what: string, account: string): string {
  return `sibyl-${what}-${account.slice(0, 8)}-${new Date().toISOString().slice(0, 10)}.csv`;
}
