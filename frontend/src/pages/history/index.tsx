import { useQuery } from "@tanstack/react-query";
import { type SyntheticEvent, useMemo, useState, useSyncExternalStore } from "react";
import { type Address, getAddress, isAddress } from "viem";

import { useConfig } from "../../api/config";
import type { RequestStatus } from "../../api/types";
import type { History } from "../../chain/history";
import {
  Age,
  Bone,
  Button,
  Cid,
  Dot,
  Empty,
  ErrorNote,
  Field,
  Hash,
  LiveRegion,
  Panel,
  Skeleton,
  StaleNote,
  Status,
  type Tone,
} from "../../parts";
import { href } from "../../router";
import { useWallet } from "../../wallet/use-wallet";
import { useLanguage, useWords } from "../../words";
import { Balances } from "./balance";
import { download } from "./csv";
import { linkOf } from "./links";
import { ether } from "../../chain/tokens";
import { useModels } from "./models";
import { type Filter, filtered, GROUPS, type Group, nameOf, type Row, rowsToCsv, sums, toRow } from "./rows";
import { Others } from "./others";
import { Sum } from "./sum";
import { Thumbnail } from "./thumbnail";
import { useHistory } from "./use-history";

import "./history.css";

const PAGE = 50;
const NO_FILTER: Filter = { group: "", model: null, search: "" };

export default function HistoryPage() {
  const words = useWords();
  const said = words.history;
  const { address, returning, connect } = useWallet();
  const named = useNamedAccount();
  const own = address ? getAddress(address) : null;
  const account = named ?? own;
  return (
    <div className="stack">
      <header className="history-head">
        <div className="stack history-lead">
          <h1>{words.common.pages.history}</h1>
          <p className="soft">{said.lead}</p>
        </div>
        {account && <Whose account={account} own={own} />}
      </header>
      {account ? (
        <Requests key={account} account={account} isOwn={account === own} />
      ) : returning ? (
        <Loading />
      ) : (
        <Panel title={said.connect.title}>
          <p>{said.connect.text}</p>
          <div>
            <Button kind="primary" icon="wallet" onClick={connect}>
              {words.wallet.connect}
            </Button>
          </div>
          <AccountField />
        </Panel>
      )}
    </div>
  );
}

/** The account that the page's address names ("#/history?account=0x..."). */
function useNamedAccount(): Address | null {
  const hash = useSyncExternalStore(
    (changed) => {
      addEventListener("hashchange", changed);
      return () => removeEventListener("hashchange", changed);
    },
    () => location.hash,
  );
  const named = new URLSearchParams(hash.split("?")[1] ?? "").get("account");
  return named && isAddress(named, { strict: false }) ? getAddress(named) : null;
}

function Whose({ account, own }: { account: Address; own: Address | null }) {
  const said = useWords().history;
  return (
    <div className="stack history-whose">
      <p className="row">
        <span className="soft">{said.account}</span>
        <Hash value={account} what={said.account} />
      </p>
      {account !== own && own !== null && (
        <p className="row">
          <span className="soft">{said.viewing}</span>
          <a href={href({ page: "history" })}>{said.mine}</a>
        </p>
      )}
      <details>
        <summary>{said.other}</summary>
        <AccountField />
      </details>
    </div>
  );
}

function AccountField() {
  const said = useWords().history;
  const [text, setText] = useState("");
  const [wrong, setWrong] = useState(false);
  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    const given = text.trim();
    if (isAddress(given, { strict: false })) location.hash = `#/history?account=${getAddress(given)}`;
    else setWrong(true);
  };
  return (
    <form onSubmit={submit} className="history-account" noValidate>
      <Field label={said.address} hint={said.addressHint} error={wrong && said.addressWrong}>
        {(props) => (
          <input
            {...props}
            className="input mono"
            value={text}
            spellCheck={false}
            autoComplete="off"
            onChange={(event) => {
              setText(event.target.value);
              setWrong(false);
            }}
          />
        )}
      </Field>
      <Button type="submit">{said.show}</Button>
    </form>
  );
}

function Requests({ account, isOwn }: { account: Address; isOwn: boolean }) {
  const { api, config, down } = useConfig();
  const words = useWords();
  const said = words.history;
  const { language } = useLanguage();
  const { history, reading, error, retry } = useHistory(account);
  const [filter, setFilter] = useState<Filter>(NO_FILTER);
  const [most, setMost] = useState(PAGE);
  const minute = useMinute();

  const entries = useMemo(() => history?.entries ?? [], [history]);
  const others = useMemo(() => history?.others ?? [], [history]);
  const ids = useMemo(
    () => [...entries, ...others].map((entry) => entry.model).filter((model) => model !== null),
    [entries, others],
  );
  const models = useModels(ids);
  const rows = useMemo(
    () => entries.map((entry) => toRow(entry, models(entry.model), minute, said, language)),
    [entries, models, minute, said, language],
  );
  const shown = useMemo(() => filtered(rows, filter), [rows, filter]);
  const waiting = entries.some((entry) => entry.status === "pending");
  const live = useQuery({
    queryKey: ["requests of", api.base, account],
    queryFn: ({ signal }) => api.requests({ account, limit: 100 }, signal),
    enabled: waiting && !down,
    refetchInterval: 5_000,
  });
  const stages = useMemo(
    () => new Map((live.data?.items ?? []).map((item) => [item.id as string, item.status])),
    [live.data],
  );
  const tokens = useMemo(() => {
    const all = [ether(config), ...rows.map((row) => row.model.token)].filter((token) => token !== null);
    return [...new Map(all.map((token) => [token.address, token])).values()];
  }, [config, rows]);

  const tryAgain = (
    <Button icon="retry" busy={reading} onClick={retry}>
      {words.common.tryAgain}
    </Button>
  );
  return (
    <>
      {down && <StaleNote>{said.apiDown}</StaleNote>}
      {isOwn && <Balances account={account} tokens={tokens} />}
      {error !== null && history && <StaleNote action={tryAgain}>{said.partial}</StaleNote>}
      {error !== null && !history && <ErrorNote error={error} action={tryAgain} />}
      {reading && <Progress history={history} />}
      {!history && reading && <Loading />}
      {history && entries.length === 0 && !reading && error === null && (
        <Empty
          title={said.empty.title}
          action={
            <a className="button button-primary" href={href({ page: "ask" })}>
              {said.empty.action}
            </a>
          }
        >
          {said.empty.text}
        </Empty>
      )}
      {rows.length > 0 && (
        <>
          <Totals rows={shown} />
          <Panel
            title={said.requests}
            actions={
              <Button
                icon="download"
                onClick={() =>
                  download(nameOf("history", account), "text/csv;charset=utf-8", rowsToCsv(shown))
                }
              >
                {said.csv}
              </Button>
            }
          >
            <Filters filter={filter} rows={rows} setFilter={setFilter} />
            {shown.length === 0 ? (
              <p className="row">
                {said.nothing}
                <Button small onClick={() => setFilter(NO_FILTER)}>
                  {said.clear}
                </Button>
              </p>
            ) : (
              <ol className="history">
                {shown.slice(0, most).map((row) => (
                  <Entry key={row.entry.id} row={row} stage={stages.get(row.entry.id)} />
                ))}
              </ol>
            )}
            {shown.length > most && (
              <Button onClick={() => setMost((count) => count + PAGE)}>
                {said.more(Math.min(PAGE, shown.length - most))}
              </Button>
            )}
          </Panel>
        </>
      )}
      <Others account={account} entries={others} models={models} />
    </>
  );
}

function Progress({ history }: { history: History | null }) {
  const said = useWords().history;
  const { language } = useLanguage();
  const block = (number: number) => number.toLocaleString(language);
  const span = history ? Math.max(1, history.to - history.start + 1) : 1;
  const read = history ? Math.max(0, history.to - history.from + 1) : 0;
  const text = history ? said.reading(block(history.start), block(history.to)) : said.readingShort;
  return (
    <div className="history-progress">
      <p className="row soft">
        <span>{text}</span>
        {history && history.entries.length > 0 && <span>{said.found(history.entries.length)}</span>}
      </p>
      <progress value={read / span} max={1} aria-label={said.readingShort} />
      <LiveRegion>{history ? said.found(history.entries.length) : said.readingShort}</LiveRegion>
    </div>
  );
}

function Totals({ rows }: { rows: readonly Row[] }) {
  const said = useWords().history.totals;
  const { language } = useLanguage();
  const answered = rows.filter(({ entry }) => entry.status === "fulfilled" || entry.status === "callback_failed").length;
  const all = sums(rows);
  const money = (part: "paid" | "returned") =>
    all.map((sum) => (
      <Sum key={sum.key} value={sum[part]} token={sum.token} />
    ));
  return (
    <Panel label={said.title}>
      <dl className="history-totals">
        <div>
          <dt>{said.requests}</dt>
          <dd>{rows.length.toLocaleString(language)}</dd>
        </div>
        <div>
          <dt>{said.answered}</dt>
          <dd>{answered.toLocaleString(language)}</dd>
        </div>
        <div>
          <dt>{said.paid}</dt>
          <dd>{money("paid")}</dd>
        </div>
        <div>
          <dt>{said.returned}</dt>
          <dd>{money("returned")}</dd>
        </div>
      </dl>
    </Panel>
  );
}

function Filters({
  filter,
  rows,
  setFilter,
}: {
  filter: Filter;
  rows: readonly Row[];
  setFilter: (filter: Filter) => void;
}) {
  const said = useWords().history;
  const models = [...new Map(rows.map((row) => [row.entry.model, row.modelName]))].sort((a, b) => a[0] - b[0]);
  return (
    <div role="search" className="history-filters">
      <Field label={said.search}>
        {(props) => (
          <input
            {...props}
            type="search"
            className="input"
            placeholder={said.searchHint}
            value={filter.search}
            onChange={(event) => setFilter({ ...filter, search: event.target.value })}
          />
        )}
      </Field>
      <Field label={said.status}>
        {(props) => (
          <select
            {...props}
            className="input"
            value={filter.group}
            onChange={(event) => setFilter({ ...filter, group: event.target.value as Group | "" })}
          >
            <option value="">{said.everything}</option>
            {GROUPS.map((group) => (
              <option key={group} value={group}>
                {said.groups[group]}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label={said.model}>
        {(props) => (
          <select
            {...props}
            className="input"
            value={filter.model ?? ""}
            onChange={(event) =>
              setFilter({ ...filter, model: event.target.value === "" ? null : Number(event.target.value) })
            }
          >
            <option value="">{said.everything}</option>
            {models.map(([id, name]) => (
              <option key={id} value={id}>
                {name}
              </option>
            ))}
          </select>
        )}
      </Field>
    </div>
  );
}

const TONES: Record<Row["entry"]["status"] | "due", Tone> = {
  pending: "busy",
  due: "warning",
  fulfilled: "good",
  callback_failed: "warning",
  failed: "bad",
  refunded: "quiet",
  cancelled: "quiet",
};

function Entry({ row, stage }: { row: Row; stage: RequestStatus | undefined }) {
  const { config } = useConfig();
  const said = useWords().history;
  const { entry, model } = row;
  const standing = row.due ? "due" : entry.status;
  const reason = entry.failure ? said.failures[entry.failure] : "";
  const transaction = useWords().wallet.transaction.hash;
  return (
    <li className="history-entry">
      <a className="history-main" href={href({ page: "request", id: entry.id })} aria-label={said.open(entry.id.slice(0, 10))}>
        <Thumbnail cid={entry.imageCid} />
      </a>
      <div className="history-answer">
        <a href={href({ page: "request", id: entry.id })} className="history-title">
          {row.answer || reason || said.without[standing]}
        </a>
        <span className="soft small">{row.modelName}</span>
      </div>
      <div className="history-status">
        {stage && standing === "pending" ? (
          <Status value={stage} />
        ) : (
          <Dot tone={TONES[standing]}>{said.standings[standing]}</Dot>
        )}
      </div>
      <div className="history-cost">
        <Sum value={entry.payment} token={model.token} freeWord />
      </div>
      <div className="history-age soft">{entry.at !== null && <Age at={entry.at} />}</div>
      <details className="history-facts">
        <summary>{said.facts}</summary>
        <dl>
          <dt>{said.request}</dt>
          <dd>
            <Hash value={entry.id} what={said.request} />
          </dd>
          <dt>{said.picture}</dt>
          <dd>
            <Cid value={entry.imageCid} />
          </dd>
          {entry.resultCid && (
            <>
              <dt>{said.result}</dt>
              <dd>
                <Cid value={entry.resultCid} />
              </dd>
            </>
          )}
          <dt>{said.askedIn}</dt>
          <dd>
            {said.block(entry.block)}
            <Hash value={entry.transaction} what={transaction} {...linkOf(config.explorer_url, entry.transaction)} />
          </dd>
          {entry.settledTransaction && entry.settledBlock !== null && (
            <>
              <dt>{said.settledIn}</dt>
              <dd>
                {said.block(entry.settledBlock)}
                <Hash
                  value={entry.settledTransaction}
                  what={transaction}
                  {...linkOf(config.explorer_url, entry.settledTransaction)}
                />
              </dd>
            </>
          )}
          {entry.refunded > 0n && (
            <>
              <dt>{said.totals.returned}</dt>
              <dd>
                <Sum value={entry.refunded} token={model.token} />
              </dd>
            </>
          )}
        </dl>
      </details>
    </li>
  );
}

/** The time in Unix seconds, by the minute: every change works all rows out again. */
function useMinute(): number {
  return useSyncExternalStore(everyTenSeconds, () => Math.floor(Date.now() / 60_000) * 60);
}

function everyTenSeconds(tell: () => void): () => void {
  const timer = setInterval(tell, 10_000);
  return () => clearInterval(timer);
}

function Loading() {
  return (
    <Panel label={useWords().common.loading}>
      <Skeleton>
        {[0, 1, 2, 3].map((row) => (
          <div key={row} className="history-bones">
            <Bone width="56px" height="56px" />
            <div>
              <Bone width="10em" />
              <Bone width="6em" />
            </div>
            <Bone width="7em" />
          </div>
        ))}
      </Skeleton>
    </Panel>
  );
}
