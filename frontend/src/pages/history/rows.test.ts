import { zeroAddress } from "viem";
import { describe, expect, it } from "vitest";

import type { HistoryEntry } from "../../chain/history";
import { en } from "../../words/history";
import { answerText } from "./answer";
import { toCsv } from "./csv";
import type { ModelFacts } from "./models";
import { filtered, othersToCsv, rowsToCsv, sums, toRow } from "./rows";

const ETHER = { address: zeroAddress, symbol: "ETH", decimals: 18 };
const GLM = { address: "0x00000000000000000000000000000000000000aa", symbol: "GLM", decimals: 6 } as const;
const DIGITS: ModelFacts = { id: 1, name: "mnist", token: ETHER, labels: Array.from("0123456789") };
const THINGS: ModelFacts = { id: 2, name: "things", token: GLM, labels: ["background", "dog", "person"] };
/** One class: number 7 at 99.5 %. */
const SEVEN = `0x010101000007${(9_950).toString(16).padStart(4, "0")}${"00".repeat(24)}` as const;

function entry(id: number, more: Partial<HistoryEntry> = {}): HistoryEntry {
  return {
    id: `0x${id.toString(16).padStart(64, "0")}`,
    model: 1,
    requester: zeroAddress,
    imageCid: `bafkpicture${id}`,
    payment: 100_000_000_000_000_000n,
    callbackGas: 0n,
    deadline: 2_000,
    nonce: BigInt(id),
    block: id,
    logIndex: 0,
    transaction: `0x${"aa".repeat(32)}`,
    at: 1_000,
    status: "pending",
    settledBlock: null,
    settledTransaction: null,
    resultCid: null,
    answer: null,
    failure: null,
    refunded: 0n,
    ...more,
  };
}

const row = (one: HistoryEntry, model = DIGITS, now = 1_500) => toRow(one, model, now, en, "en");

describe("given answers on the chain", () => {
  it("when the labels are known, then the answer is in words, and without them by number", () => {
    expect(answerText(SEVEN, DIGITS.labels, en, "en")).toBe("7, 99.5%");
    expect(answerText(SEVEN, null, en, "en")).toBe("class 7, 99.5%");
  });

  it("when things were found, then they are counted by label", () => {
    const instance = (index: number) => `${index.toString(16).padStart(4, "0")}2000000000000004000400000010`;
    const head = `01020300000300080008`.padEnd(64, "0");
    expect(answerText(`0x${head}${instance(1)}${instance(2)}${instance(1)}`, THINGS.labels, en, "en")).toBe("2 × dog, 1 × person");
  });

  it("when the bytes are no answer, then it says so and nothing breaks", () => {
    expect(answerText("0x1234", DIGITS.labels, en, "en")).toBe(en.unreadable);
  });
});

describe("given rows of a history", () => {
  const rows = [
    row(entry(1, { status: "fulfilled", answer: SEVEN, resultCid: "bafkresult" })),
    row(entry(2)),
    row(entry(3, { status: "failed", failure: "image_unreadable", refunded: 100_000_000_000_000_000n })),
    row(entry(4, { model: 2, payment: 2_500_000n, status: "refunded", refunded: 2_500_000n }), THINGS),
  ];
  const found = (filter: Partial<Parameters<typeof filtered>[1]>) =>
    filtered(rows, { group: "", model: null, search: "", ...filter }).map((one) => Number(one.entry.nonce));

  it("when they are filtered, then only those of the group, the model and the words stay", () => {
    expect(found({})).toEqual([1, 2, 3, 4]);
    expect(found({ group: "waiting" })).toEqual([2]);
    expect(found({ group: "answered" })).toEqual([1]);
    expect(found({ group: "returned" })).toEqual([3, 4]);
    expect(found({ model: 2 })).toEqual([4]);
    expect(found({ search: "MNIST 99.5" })).toEqual([1]);
    expect(found({ search: "bafkpicture3" })).toEqual([3]);
    expect(found({ search: "0xaaaaaa", group: "waiting" })).toEqual([2]);
    expect(found({ search: "nothing of this" })).toEqual([]);
  });

  it("when they are summed, then each currency stands for itself", () => {
    expect(sums(rows).map((sum) => [sum.token?.symbol, sum.paid, sum.returned])).toEqual([
      ["ETH", 300_000_000_000_000_000n, 100_000_000_000_000_000n],
      ["GLM", 2_500_000n, 2_500_000n],
    ]);
  });

  it("when nobody has told a model's currency, then its amounts are of no other and stay smallest parts", () => {
    const more = [...rows, row(entry(5, { model: 3, payment: 7n, refunded: 2n }), { ...THINGS, id: 3, token: null })];
    expect(sums(more).map((sum) => [sum.token?.symbol, sum.paid, sum.returned])).toEqual([
      ["ETH", 300_000_000_000_000_000n, 100_000_000_000_000_000n],
      ["GLM", 2_500_000n, 2_500_000n],
      [undefined, 7n, 2n],
    ]);
    expect(rowsToCsv(more).split("\r\n")[5]).toContain(",7,2,smallest parts,");
  });

  it("when a deadline has passed unanswered, then a refund is due", () => {
    expect(row(entry(1, { deadline: 1_499 })).due).toBe(true);
    expect(row(entry(1)).due).toBe(false);
    expect(row(entry(1, { deadline: 1_499, status: "refunded" })).due).toBe(false);
  });

  it("when they are written as CSV, then amounts are exact and whole lines come back", () => {
    const lines = rowsToCsv(rows).split("\r\n");
    expect(lines).toHaveLength(6);
    expect(lines[1]).toContain('"7, 99.5%"');
    expect(lines[1]).toContain(",0.1,0,ETH,");
    expect(lines[4]).toContain(",2.5,2.5,GLM,");
  });
});

it("given other transactions, when they are written as CSV, then each has its kind, its exact amount and its receiver", () => {
  const { block, logIndex, transaction, at } = entry(9);
  const at9 = { block, logIndex, transaction, at };
  const csv = othersToCsv([
    { what: "", token: GLM, entry: { ...at9, kind: "withdrawn", token: GLM.address, model: null, amount: 2_500_000n, to: GLM.address } },
    { what: "", token: null, entry: { ...at9, kind: "earned", token: null, model: 3, amount: 7n, to: null } },
    { what: "", token: ETHER, entry: { ...at9, kind: "published", token: zeroAddress, model: 3, amount: 0n, to: null } },
  ]);
  const lines = csv.split("\r\n");
  expect(lines[1]).toMatch(new RegExp(`^withdrawn,1970-.*,9,0xaa.*,,2.5,GLM,${GLM.address}$`));
  expect(lines[2]).toMatch(/^earned,.*,3,7,smallest parts,$/);
  expect(lines[3]).toMatch(/^published,.*,3,,,$/);
});

describe("given fields that are awkward in CSV", () => {
  it("when they hold commas, quotes and line breaks, then they are quoted as RFC 4180 says", () => {
    expect(toCsv([["a,b", 'say "hi"', "two\nlines", "plain"]])).toBe('"a,b","say ""hi""","two\nlines",plain\r\n');
  });

  it.each(["=1+1", "+1", "-1", "@sum(a1)", "\tx", "\rx", "=cmd|' /C calc'!A0"])(
    "when a field would be a formula (%j), then a spreadsheet reads it as text",
    (text) => {
      expect(toCsv([[text]]).replace(/^"/, "").startsWith("'")).toBe(true);
    },
  );
});
