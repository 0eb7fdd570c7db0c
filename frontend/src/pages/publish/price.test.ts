import { describe, expect, it } from "vitest";

import { catalogue } from "../../words";
import { parsePrice, understood } from "./price";

describe("given a price as typed", () => {
  it.each([
    ["0.0001", 18, 100_000_000_000_000n],
    ["0,5", 18, 500_000_000_000_000_000n],
    ["0,001", 18, 1_000_000_000_000_000n],
    ["1,50", 18, 1_500_000_000_000_000_000n],
    [".5", 6, 500_000n],
    ["0", 18, 0n],
    ["2", 0, 2n],
    ["1.100000000000", 18, 1_100_000_000_000_000_000n],
  ] as const)("when it is %s of %i decimals, then it is exact", (text, decimals, price) => {
    expect(parsePrice(text, decimals)).toEqual({ price });
  });

  it.each([
    ["", 18, "form"],
    ["1e-3", 18, "form"],
    ["-1", 18, "form"],
    ["0x10", 18, "form"],
    ["1.2.3", 18, "form"],
    ["1,000", 18, "thousands"],
    ["12,500", 6, "thousands"],
    ["1,000,000", 18, "form"],
    ["0.0000000001", 18, "fine"],
    ["0.0000001", 6, "fine"],
    ["0.5", 0, "fine"],
    ["1001", 18, "high"],
    ["1000000000001", 0, "high"],
  ] as const)("when it is %j of %i decimals, then it is refused as %s", (text, decimals, wrong) => {
    expect(parsePrice(text, decimals)).toMatchObject({ wrong });
  });
});

it("given a price that was understood, when it is said, then in full and in the language's own way", () => {
  const said = (text: string, language: "en" | "de") =>
    understood(parsePrice(text, 18), catalogue[language].publish.price, { symbol: "ETH", decimals: 18 }, language);
  expect(said("0.000000001", "en")).toBe("One answer costs 0.000000001 ETH.");
  expect(said("1.000", "de")).toBe("Eine Antwort kostet 1 ETH.");
  expect(said("0,25", "de")).toBe("Eine Antwort kostet 0,25 ETH.");
  expect(said("1,000", "en")).toBeNull();
});
