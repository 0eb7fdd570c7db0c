import type { Hash } from "viem";
import { expect, test, vi } from "vitest";

import type { Config } from "../api/types";
import { COORDINATOR, ME, OTHER } from "./chain-double";
import type { Watched } from "./follow";
import { forget, keep, keptFor } from "./pending";

const CONFIG = { chain_id: 31_337, coordinator: COORDINATOR } as Config;
const hash = (number: number): Hash => `0x${number.toString(16).padStart(64, "0")}`;
const payment = (number: number): Watched => ({
  hash: hash(number),
  account: ME,
  to: COORDINATOR,
  data: "0xab",
  value: 10n ** 21n,
  nonce: number,
  since: 7n,
});

test("given payments, when they are kept, then they come back whole, and going by one leaves the others", () => {
  const overtaken = { ...payment(2), before: 4 };
  keep(CONFIG, payment(1));
  keep(CONFIG, payment(2));
  keep(CONFIG, overtaken);
  expect(new Set(keptFor(CONFIG))).toEqual(new Set([payment(1), overtaken]));
  forget(hash(1));
  expect(keptFor(CONFIG)).toEqual([overtaken]);
});

test("given more than can be kept, when another is, then the oldest goes, and other contracts' stay", () => {
  vi.useFakeTimers();
  try {
    const elsewhere = { ...CONFIG, coordinator: OTHER };
    const otherChain = { ...CONFIG, chain_id: 1 };
    keep(elsewhere, payment(100));
    keep(otherChain, payment(101));
    for (let number = 1; number <= 23; number += 1) {
      vi.advanceTimersByTime(1_000);
      keep(CONFIG, payment(number));
    }
    expect(keptFor(CONFIG).map((one) => one.nonce)).toEqual(Array.from({ length: 20 }, (_, i) => 23 - i));
    expect(keptFor(elsewhere)).toEqual([payment(100)]);
    expect(keptFor(otherChain)).toEqual([payment(101)]);
    expect(localStorage).toHaveLength(22);
  } finally {
    vi.useRealTimers();
  }
});

test.each([
  ["no JSON", "{"],
  ["nothing", "null"],
  ["a list", "[]"],
  ["a number", "5"],
  ["an amount that is none", { value: "1.5" }],
  ["an amount that is no text", { since: 7 }],
  ["no nonce", { nonce: null }],
  ["a nonce below nothing", { nonce: -1 }],
  ["an address that is none", { account: "me" }],
  ["data that are none", { data: "<b>" }],
])("given storage that holds %s, when it is read, then the rest is still there", (_, bad) => {
  keep(CONFIG, payment(1));
  const key = localStorage.key(0) ?? "";
  const text = localStorage.getItem(key) ?? "";
  const written = typeof bad === "string" ? bad : JSON.stringify({ ...(JSON.parse(text) as object), ...bad });
  localStorage.setItem(key.replace(hash(1), hash(2)), written);
  localStorage.setItem(key.replace(hash(1), "words"), text);
  expect(keptFor(CONFIG)).toEqual([payment(1)]);
});

test("given storage that is forbidden, when a payment is kept, then nothing is thrown", () => {
  const forbidden = vi.spyOn(globalThis, "localStorage", "get").mockImplementation(() => {
    throw new DOMException("denied", "SecurityError");
  });
  try {
    keep(CONFIG, payment(1));
    expect(keptFor(CONFIG)).toEqual([]);
    forget(hash(1));
  } finally {
    forbidden.mockRestore();
  }
});
