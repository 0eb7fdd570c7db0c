import { describe, expect, it } from "vitest";

import type { Provider } from "../../api/types";
import { sorted } from "./order";

function provider(name: string, more: Partial<Provider>): Provider {
  return {
    id: `0x${name}`,
    name,
    price: { start: "0", second: "0", cpu_second: "0" },
    picture_glm: null,
    threads: null,
    images_per_second: null,
    load_seconds: null,
    good: 0,
    failed: 0,
    lied: 0,
    reputation: 0.5,
    reasons: [],
    standing: "",
    blocked_until: null,
    first_seen: null,
    last_seen: null,
    ...more,
  };
}

describe("given providers", () => {
  const all = [
    provider("dear", { picture_glm: "0.5", images_per_second: 30, reputation: 0.9, last_seen: 1 }),
    provider("new", {}),
    provider("cheap", { picture_glm: "0.00001", images_per_second: 2, reputation: 0.2, last_seen: 9 }),
  ];
  it.each([
    ["reputation", ["dear", "new", "cheap"]],
    ["picture", ["cheap", "dear", "new"]],
    ["speed", ["dear", "cheap", "new"]],
    ["seen", ["cheap", "dear", "new"]],
    ["name", ["cheap", "dear", "new"]],
  ] as const)("when they are sorted by %s, then the best is first and the unknown last", (order, names) => {
    expect(sorted(all, order).map((one) => one.name)).toEqual(names);
  });
});
