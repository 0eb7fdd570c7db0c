import { useWords } from "../words";
import { amount } from "../words/format";

/** An amount of smallest parts with its unit; the exact amount on hover. */
export function Money({
  value,
  symbol,
  decimals = 18,
  digits = 6,
  freeWord = false,
}: {
  value: bigint | string;
  symbol: string;
  decimals?: number;
  digits?: number;
  /** Say "free" for zero. */
  freeWord?: boolean;
}) {
  const words = useWords().common;
  if (freeWord && BigInt(value) === 0n) return <span className="money">{words.free}</span>;
  return (
    <span className="money" title={`${amount(value, decimals, decimals)} ${symbol}`}>
      {amount(value, decimals, digits)}&nbsp;{symbol}
    </span>
  );
}
