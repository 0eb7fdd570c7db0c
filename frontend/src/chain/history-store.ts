/** An account's history between visits: 5,000 requests are 3.7 MB of text, too much for localStorage and its 5 MB. */
import type { Hash } from "viem";

import type { HistoryEntry, OtherEntry } from "./history";

/** Where a history is kept between visits; a failing one is never an error. */
export interface HistoryStore {
  read(key: string): Promise<string | null>;
  write(key: string, value: string): Promise<void>;
}

/** What was found in blocks `from` to `anchor`. */
export interface Kept {
  from: number;
  anchor: number;
  anchorHash: Hash;
  entries: HistoryEntry[];
  others: OtherEntry[];
}

const BIG = new Set(["payment", "callbackGas", "nonce", "refunded", "amount"]);

export async function readKept(store: HistoryStore, key: string): Promise<Kept | null> {
  try {
    const text = await store.read(key);
    if (text === null) return null;
    const revive = (name: string, value: unknown) => (BIG.has(name) ? BigInt(value as string) : value);
    const kept = JSON.parse(text, revive) as Kept;
    const isWhole = Number.isInteger(kept.from) && Number.isInteger(kept.anchor);
    return isWhole && Array.isArray(kept.entries) && Array.isArray(kept.others) ? kept : null;
  } catch {
    return null;
  }
}

export async function writeKept(store: HistoryStore, key: string, kept: Kept): Promise<void> {
  const text = JSON.stringify(kept, (_, value: unknown) => (typeof value === "bigint" ? value.toString() : value));
  try {
    await store.write(key, text);
  } catch {
    // Without a place to keep it the next visit reads the chain again.
  }
}

const PATIENCE_MS = 3_000;
const memory = new Map<string, string>();

/** IndexedDB where there is one that works, and this page's memory. */
export function browserStore(): HistoryStore {
  return {
    read: async (key) => {
      const kept = memory.get(key);
      if (kept !== undefined || typeof indexedDB === "undefined") return kept ?? null;
      const found: unknown = await run("readonly", (table) => table.get(key));
      return typeof found === "string" ? found : null;
    },
    write: async (key, value) => {
      memory.set(key, value);
      if (typeof indexedDB === "undefined") return;
      await run("readwrite", (table) => table.put(value, key));
    },
  };
}

async function run<T>(mode: IDBTransactionMode, act: (table: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const opening = indexedDB.open("sibyl", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("history");
  const database = await settled(opening);
  try {
    return await settled(act(database.transaction("history", mode).objectStore("history")));
  } finally {
    database.close();
  }
}

/** Some browsers never answer, so nobody waits for long. */
function settled<T>(asked: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("IndexedDB does not answer")), PATIENCE_MS);
    asked.onsuccess = () => {
      clearTimeout(late);
      resolve(asked.result);
    };
    asked.onerror = () => {
      clearTimeout(late);
      reject(asked.error ?? new Error("IndexedDB"));
    };
  });
}
