import { useQueries } from "@tanstack/react-query";
import { useCallback, useMemo, useState } from "react";
import { type Address, isAddressEqual, zeroAddress } from "viem";

import { useConfig } from "../../api/config";
import { publicClient } from "../../chain/client";
import type { OtherEntry } from "../../chain/history";
import { ether, readToken, type Token } from "../../chain/tokens";
import { Age, Button, Hash, Panel } from "../../parts";
import { useWords } from "../../words";
import { download } from "./csv";
import { linkOf } from "./links";
import { dataOf, type ModelFacts } from "./models";
import { nameOf, othersToCsv, type Other } from "./rows";
import { Sum } from "./sum";

const PAGE = 20;

/** What else the account did at the coordinator: its balance there, its models and what they earned. */
export function Others({
  account,
  entries,
  models,
}: {
  account: Address;
  entries: readonly OtherEntry[];
  models: (id: number) => ModelFacts;
}) {
  const words = useWords();
  const said = words.history;
  const { config } = useConfig();
  const [most, setMost] = useState(PAGE);
  const tokens = useTokens(entries);
  const others = useMemo(
    () =>
      entries.map((entry): Other => {
        const model = entry.model === null ? null : models(entry.model);
        return {
          entry,
          what: said.others.kinds[entry.kind](model?.name || said.modelNumber(model?.id ?? 0)),
          token: entry.token === null ? (model?.token ?? null) : tokens(entry.token),
        };
      }),
    [entries, models, tokens, said],
  );
  if (others.length === 0) return null;
  return (
    <Panel
      title={said.others.title}
      actions={
        <Button icon="download" onClick={() => download(nameOf("transactions", account), "text/csv;charset=utf-8", othersToCsv(others))}>
          {said.others.csv}
        </Button>
      }
    >
      {/* The table may be wider than a telephone, and a keyboard must get at its end. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="history-others" role="region" aria-label={said.others.title} tabIndex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">{said.others.what}</th>
              <th scope="col">{said.others.amount}</th>
              <th scope="col">{said.others.when}</th>
              <th scope="col">{words.wallet.transaction.hash}</th>
            </tr>
          </thead>
          <tbody>
            {others.slice(0, most).map(({ entry, what, token }) => (
              <tr key={`${entry.block}:${entry.logIndex}`}>
                <td>
                  {what}
                  {entry.to !== null && !isAddressEqual(entry.to, account) && <Hash value={entry.to} what={said.others.to} />}
                </td>
                <td>{entry.kind !== "published" && <Sum value={entry.amount} token={token} />}</td>
                <td className="soft">
                  {said.block(entry.block)} {entry.at !== null && <Age at={entry.at} />}
                </td>
                <td>
                  <Hash
                    value={entry.transaction}
                    what={words.wallet.transaction.hash}
                    {...linkOf(config.explorer_url, entry.transaction)}
                  />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {others.length > most && (
        <Button onClick={() => setMost((count) => count + PAGE)}>{said.more(Math.min(PAGE, others.length - most))}</Button>
      )}
    </Panel>
  );
}

/** The tokens of these entries as they say themselves; null while one has not. */
function useTokens(entries: readonly OtherEntry[]): (address: Address) => Token | null {
  const { config } = useConfig();
  const client = publicClient(config);
  const addresses = useMemo(
    () => [...new Set(entries.map(({ token }) => token ?? zeroAddress))].filter((token) => token !== zeroAddress),
    [entries],
  );
  const read = useQueries({
    queries: addresses.map((address) => ({
      queryKey: ["token", config.chain_id, address],
      queryFn: () => readToken(client, address),
      retry: 1,
      staleTime: Infinity,
    })),
    combine: dataOf<Token>,
  });
  return useCallback(
    (address) => (address === zeroAddress ? ether(config) : (read[addresses.indexOf(address)] ?? null)),
    [addresses, read, config],
  );
}
