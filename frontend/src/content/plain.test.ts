import { describe, expect, it } from "vitest";

import { plain } from "./plain";

describe("text of unknown origin", () => {
  it.each([
    ["bidirectional marks", "cat\u202Egod\u2066", "catgod"],
    ["controls and line breaks", "a\u0000b\r\nc\u2028d", "ab c d"],
    ["invisible characters", "ca\u200Bt\uFEFF\u{E0041}", "cat"],
    ["a tower of marks", "a" + "\u0301".repeat(50), "a\u0301\u0301\u0301"],
    ["markup", '<img src=x onerror="1">', '<img src=x onerror="1">'],
    ["words of other scripts", "  猫 — кошка é ", "猫 — кошка é"],
  ])("given %s, when it is shown, then only what can be seen is left", (_, given, shown) => {
    expect(plain(given)).toBe(shown);
  });

  it("given a long text, when it is shown, then it is cut and says so", () => {
    expect(plain("a".repeat(300), 10)).toBe("aaaaaaaaa…");
  });
});
