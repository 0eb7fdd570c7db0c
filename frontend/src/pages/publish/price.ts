import { formatUnits, parseUnits } from "viem";

import type { Token } from "../../chain/tokens";
import type { Language, Words } from "../../words";
import { amount } from "../../words/format";

const UNIT_DECIMALS = 9;
const MAX_UNITS = 10n ** 12n; // ModelRegistry.MAX_MODEL_PRICE

export type Priced = { price: bigint } | { wrong: "form" } | { wrong: "thousands" } | { wrong: "high" } | { wrong: "fine"; unit: string };

/** A price as typed, in smallest parts; the contract takes whole units alone, of nine decimals at most. */
export function parsePrice(text: string, decimals: number): Priced {
  // In one language it is a thousand, in another one and nothing more.
  if (/^[1-9]\d{0,2},\d{3}$/.test(text.trim())) return { wrong: "thousands" };
  const typed = text.trim().replace(",", ".");
  if (!/^(\d+(\.\d*)?|\.\d+)$/.test(typed) || typed.length > 40) return { wrong: "form" };
  const finest = Math.min(decimals, UNIT_DECIMALS);
  const fraction = (typed.split(".")[1] ?? "").replace(/0+$/, "");
  if (fraction.length > finest) return { wrong: "fine", unit: formatUnits(1n, finest) };
  const price = parseUnits(typed, decimals);
  if (price / 10n ** BigInt(decimals - finest) > MAX_UNITS) return { wrong: "high" };
  return { price };
}

/** Why it is no price, in words; null for one that is. */
export function whyNot(priced: Priced, said: Words["publish"]["price"], symbol: string): string | null {
  if ("price" in priced) return null;
  switch (priced.wrong) {
    case "form":
      return said.amountWrong;
    case "thousands":
      return said.amountThousands;
    case "high":
      return said.amountHigh;
    case "fine":
      return said.amountFine(`${priced.unit} ${symbol}`);
  }
}

/** The price as it was understood, in full and in words, for whoever is about to sign it. */
export function understood(
  priced: Priced,
  said: Words["publish"]["price"],
  { symbol, decimals }: Pick<Token, "symbol" | "decimals">,
  language: Language,
): string | null {
  return "price" in priced ? said.understood(`${amount(priced.price, decimals, decimals, language)} ${symbol}`) : null;
}
