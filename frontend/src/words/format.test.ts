import { describe, expect, test } from "vitest";

import { ago, amount, byteSize, duration, glm, shorten } from "./format";

describe("amounts", () => {
  test.each([
    ["0", 18, 6, "0"],
    ["1", 18, 6, "0.000000000000000001"],
    ["1000000000000000000", 18, 6, "1"],
    ["2100000000000000", 18, 6, "0.0021"],
    ["1234567890123456789", 18, 6, "1.234568"],
    ["2061234567890123", 18, 4, "0.002062"],
    ["999999999999999999", 18, 4, "1"],
    ["1500000", 6, 6, "1.5"],
    ["-1000000000000000000", 18, 6, "-1"],
  ])("given %s smallest parts of %d decimals, when said in %d digits, then it is %s", (value, decimals, digits, said) => {
    expect(amount(value, decimals, digits)).toBe(said);
  });

  test("given a balance and a language, when said, then it never looks more than it is, and has the language's point", () => {
    expect(amount("9999999", 7, 6, "en", "down")).toBe("0.999999");
    expect(amount("9999999", 7, 6, "en")).toBe("1");
    expect(amount("1999999999999999999", 18, 6, "de", "down")).toBe("1,999999");
    expect(amount("2100000000000000", 18, 6, "de")).toBe("0,0021");
    expect(amount("0", 18, 6, "de", "down")).toBe("0");
  });

  test("given tiny amounts of GLM, when they are written, then never in scientific notation", () => {
    expect(glm("0.0000000123456", "en")).toBe("0.0000000123");
    expect(glm("1234.5678", "de")).toBe("1.230");
    expect(glm("0.00012", "de")).toBe("0,00012");
  });

  test("given any amount, when it is cut, then it never looks lower than it is, nor scientific", () => {
    for (let power = 0n; power < 30n; power += 1n) {
      const value = 10n ** power + 7n;
      const said = amount(value, 18, 3);
      expect(said).toMatch(/^\d+(\.\d+)?$/);
      const [whole = "0", fraction = ""] = said.split(".");
      expect(BigInt(whole + fraction.padEnd(18, "0")) >= value).toBe(true);
    }
  });
});

test("given a hash and a short text, when shortened, then six and four characters stay, and the short text whole", () => {
  expect(shorten("0x1234567890abcdef1234567890abcdef12345678")).toBe("0x1234…5678");
  expect(shorten("bafkqabc")).toBe("bafkqabc");
});

test.each([
  [0, "en", "just now"],
  [12, "en", "12 s ago"],
  [12, "de", "vor 12 s"],
  [-30, "en", "in 30 s"],
  [90, "en", "1 min ago"],
  [7200, "de", "vor 2 h"],
  [86_400 * 3, "en", "3 days ago"],
] as const)("given %d seconds in %s, when its age is said, then it is %s", (seconds, language, said) => {
  expect(ago(seconds, language, "just now")).toBe(said);
});

test("given times and sizes, when said, then they have a unit that fits and the language's comma", () => {
  expect(duration(0.84, "en")).toBe("0.8 s");
  expect(duration(0.84, "de")).toBe("0,8 s");
  expect(duration(600, "en")).toBe("10 min");
  expect(duration(7200, "en")).toBe("2 h");
  expect(byteSize(312, "en")).toBe("312 B");
  expect(byteSize(1.4 * 1024 * 1024, "de")).toBe("1,4 MiB");
});
