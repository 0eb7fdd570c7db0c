import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

/** A double of the handful of calls: values outlive the page's own memory. */
class FakeIndexedDB {
  tables = new Map<string, Map<string, unknown>>();
  closed = 0;
  works = true;

  open() {
    return this.answer(
      () => ({
        createObjectStore: (name: string) => this.tables.set(name, new Map()),
        transaction: (name: string) => ({ objectStore: () => this.table(name) }),
        close: () => (this.closed += 1),
      }),
      this.tables.size === 0,
    );
  }

  private table(name: string) {
    const table = this.tables.get(name);
    return {
      get: (key: string) => this.answer(() => table?.get(key)),
      put: (value: unknown, key: string) => this.answer(() => table?.set(key, value)),
    };
  }

  private answer(made: () => unknown, fresh = false) {
    const asked: { result?: unknown; error?: Error; onupgradeneeded?(): void; onsuccess?(): void; onerror?(): void } = {};
    setTimeout(() => {
      if (!this.works) return asked.onerror?.();
      asked.result = made();
      if (fresh) asked.onupgradeneeded?.();
      asked.onsuccess?.();
    });
    return asked;
  }
}

/** What the next visit to the page has at hand: nothing in memory. */
async function visit() {
  vi.resetModules();
  return import("./history-store");
}

const kept = {
  from: 3,
  anchor: 90,
  anchorHash: `0x${"ab".repeat(32)}` as const,
  entries: [{ payment: 10n ** 19n, callbackGas: 0n, nonce: 7n, refunded: 0n, deadline: 9 }] as never[],
  others: [{ amount: 10n ** 19n, at: 9 }] as never[],
};
let fake: FakeIndexedDB;

beforeEach(() => {
  fake = new FakeIndexedDB();
  vi.stubGlobal("indexedDB", fake);
});
afterEach(() => vi.unstubAllGlobals());

describe("what is kept of a history", () => {
  it("given one that was kept, when the page is visited again, then all of it is there, large numbers exact", async () => {
    const before = await visit();
    await before.writeKept(before.browserStore(), "mine", kept);
    await before.writeKept(before.browserStore(), "another's", { ...kept, anchor: 5 });
    const after = await visit();
    expect(await after.readKept(after.browserStore(), "mine")).toEqual(kept);
    expect(await after.readKept(after.browserStore(), "nobody's")).toBeNull();
    expect(fake.closed).toBe(4);
  });

  it("given a browser that keeps nothing, when it is kept, then it is there for this visit only", async () => {
    fake.works = false;
    const before = await visit();
    await before.writeKept(before.browserStore(), "mine", kept);
    expect(await before.readKept(before.browserStore(), "mine")).toEqual(kept);
    const after = await visit();
    expect(await after.readKept(after.browserStore(), "mine")).toBeNull();
  });

  it("given a browser that never answers, when it is asked, then nobody waits for long", async () => {
    const { browserStore, readKept } = await visit();
    vi.useFakeTimers();
    vi.stubGlobal("indexedDB", { open: () => ({}) });
    const reading = readKept(browserStore(), "mine");
    await vi.advanceTimersByTimeAsync(3_000);
    expect(await reading).toBeNull();
    vi.useRealTimers();
  });

  it.each(["{", "null", '{"from": 1}', '{"from": 1, "anchor": 2, "entries": {}}', '{"entries": [{"payment": "x"}]}'])(
    "given %s in its place, when it is read, then there is none",
    async (text) => {
      const { readKept } = await visit();
      expect(await readKept({ read: () => Promise.resolve(text), write: () => Promise.resolve() }, "mine")).toBeNull();
    },
  );
});
