import { useLanguage, useWords } from "../words";
import { amount } from "../words/format";

/** An amount of smallest parts with its unit; the exact amount on hover. */
export function Money({
  value,
  symbol,
  decimals = 18,
  digits = 6,
  freeWord = false,
  held = false,
}: {
  value: bigint | string;
  symbol: string;
  decimals?: number;
  digits?: number;
  /** Say "free" for zero. */
  freeWord?: boolean;
  /** What somebody has: never shown as more than it is. */
  held?: boolean;
}) {
  const words = useWords().common;
  const { language } = useLanguage();
  if (freeWord && BigInt(value) === 0n) return <span className="money">{words.free}</span>;
  return (
    <span className="money" title={`${amount(value, decimals, decimals, language)} ${symbol}`}>
      {amount(value, decimals, digits, language, held ? "down" : "up")}&nbsp;{symbol}
    </span>
  );
}
