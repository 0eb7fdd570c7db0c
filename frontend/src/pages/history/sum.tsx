import { Money } from "../../parts";
import type { Token } from "../../chain/tokens";
import { useLanguage, useWords } from "../../words";

/** An amount of a currency that may not be known yet. */
export function Sum({ value, token, freeWord = false }: { value: bigint; token: Token | null; freeWord?: boolean }) {
  const said = useWords().history;
  const { language } = useLanguage();
  if (token) return <Money value={value} symbol={token.symbol} decimals={token.decimals} freeWord={freeWord} />;
  return <span className="money">{said.parts(value.toLocaleString(language))}</span>;
}
