/* eslint-disable jsx-a11y/no-redundant-roles, jsx-a11y/no-interactive-element-to-noninteractive-role --
   on a narrow screen the rows are blocks, and a browser then forgets that they are a table */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { useConfig } from "../../api/config";
import type { Provider } from "../../api/types";
import { plain } from "../../content/plain";
import { Age, Bone, Button, Dot, Empty, ErrorNote, Hash, Panel, Skeleton, StaleNote, useNow } from "../../parts";
import { href } from "../../router";
import { useLanguage, useWords } from "../../words";
import { duration, exactTime, glm, percent } from "../../words/format";
import { type Order, ORDERS, sorted } from "./order";

import "./providers.css";

const REFRESH_MS = 15_000;

export default function ProvidersPage() {
  const { api, config } = useConfig();
  const words = useWords();
  const said = words.providers;
  const [order, setOrder] = useState<Order>("reputation");
  const query = useQuery({
    queryKey: ["providers", api.base],
    queryFn: ({ signal }) => api.providers(signal),
    refetchInterval: REFRESH_MS,
  });
  const providers = query.data?.items;

  return (
    <div className="stack">
      <header className="stack providers-head">
        <h1>{words.common.pages.providers}</h1>
        <p className="soft">{said.lead}</p>
      </header>
      {query.isError && providers && (
        <StaleNote action={<Button onClick={() => void query.refetch()}>{words.common.tryAgain}</Button>}>
          {said.stale}
        </StaleNote>
      )}
      {query.isPending && <Loading />}
      {query.isError && !providers && (
        <ErrorNote
          error={query.error}
          action={
            <Button icon="retry" busy={query.isFetching} onClick={() => void query.refetch()}>
              {words.common.tryAgain}
            </Button>
          }
        />
      )}
      {providers?.length === 0 && <Nobody local={config.backend !== "golem"} />}
      {providers && providers.length > 0 && (
        <Panel
          title={said.count(providers.length)}
          actions={
            <label className="row providers-sort">
              <span className="soft">{said.sort}</span>
              <select className="input" value={order} onChange={(event) => setOrder(event.target.value as Order)}>
                {ORDERS.map((one) => (
                  <option key={one} value={one}>
                    {said.sorts[one]}
                  </option>
                ))}
              </select>
            </label>
          }
        >
          <Table providers={sorted(providers, order)} />
        </Panel>
      )}
    </div>
  );
}

function Nobody({ local }: { local: boolean }) {
  const said = useWords().providers;
  const empty = local ? said.emptyLocal : said.emptyGolem;
  return (
    <Empty
      title={empty.title}
      icon="info"
      action={
        <a className="button button-normal" href={href({ page: "ask" })}>
          {said.ask}
        </a>
      }
    >
      {empty.text}
    </Empty>
  );
}

/** A table on a wide screen, a list of cards on a narrow one; the roles say that it is a table on both. */
function Table({ providers }: { providers: Provider[] }) {
  const said = useWords().providers;
  const columns = said.columns;
  return (
    <table className="providers" role="table">
      <caption className="visually-hidden">{said.caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {Object.entries(columns).map(([key, name]) => (
            <th key={key} role="columnheader" scope="col">
              {name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {providers.map((provider) => (
          <Row key={provider.id} provider={provider} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ provider }: { provider: Provider }) {
  const words = useWords();
  const said = words.providers;
  const { language } = useLanguage();
  const columns = said.columns;
  const rate = provider.images_per_second;
  return (
    <tr role="row">
      <th role="rowheader" scope="row" className="providers-who">
        <span className="providers-name">{plain(provider.name, 60) || said.columns.provider}</span>
        <Hash value={provider.id} what={said.columns.provider} />
        <Standing provider={provider} />
      </th>
      <td role="cell" data-label={columns.price}>
        <dl className="providers-price">
          <dt>{said.start}</dt>
          <dd>{glm(provider.price.start, language)}</dd>
          <dt>{said.second}</dt>
          <dd>{glm(provider.price.second, language)}</dd>
          <dt>{said.cpuSecond}</dt>
          <dd>{glm(provider.price.cpu_second, language)}</dd>
        </dl>
      </td>
      <td role="cell" data-label={columns.picture}>
        {provider.picture_glm === null ? (
          <span className="soft">{said.unmeasured}</span>
        ) : (
          <span title={`${provider.picture_glm} GLM`}>{said.expected(glm(provider.picture_glm, language))}</span>
        )}
      </td>
      <td role="cell" data-label={columns.speed}>
        {rate === null ? (
          <span className="soft">{said.unmeasured}</span>
        ) : (
          said.imagesPerSecond(rate.toLocaleString(language, { maximumSignificantDigits: 3 }))
        )}
        <span className="providers-more">
          {[
            provider.load_seconds !== null && said.loads(duration(provider.load_seconds, language)),
            provider.threads !== null && said.threads(provider.threads),
          ]
            .filter(Boolean)
            .join(", ")}
        </span>
      </td>
      <td role="cell" data-label={columns.reputation}>
        <Reputation provider={provider} />
      </td>
      <td role="cell" data-label={columns.seen}>
        {provider.last_seen === null ? said.never : <Age at={provider.last_seen} />}
      </td>
    </tr>
  );
}

function Standing({ provider }: { provider: Provider }) {
  const said = useWords().providers;
  const { language } = useLanguage();
  const now = useNow();
  if (provider.standing === "trusted") return <Dot tone="good">{said.standings.trusted}</Dot>;
  if (provider.standing === "banned") return <Dot tone="bad">{said.standings.banned}</Dot>;
  if (provider.blocked_until !== null && provider.blocked_until > now) {
    return (
      <span title={`${said.blockedFor} ${exactTime(provider.blocked_until, language)}`}>
        <Dot tone="warning">{said.standings.blocked}</Dot>
      </span>
    );
  }
  if (provider.good + provider.failed + provider.lied < 0.05) return <Dot tone="quiet">{said.newcomer}</Dot>;
  return null;
}

function Reputation({ provider }: { provider: Provider }) {
  const said = useWords().providers;
  const { language } = useLanguage();
  const share = Math.min(1, Math.max(0, provider.reputation));
  const count = (value: number) => value.toLocaleString(language, { maximumFractionDigits: 1 });
  const tone = share >= 0.7 ? "good" : share >= 0.4 ? "fair" : "poor";
  return (
    <div className="reputation">
      <div className="row reputation-line">
        <div
          className="reputation-bar"
          role="meter"
          aria-label={said.reputationOf(plain(provider.name, 60))}
          aria-valuemin={0}
          aria-valuemax={1}
          aria-valuenow={share}
          aria-valuetext={percent(share, language, 0)}
        >
          <span className={`reputation-fill reputation-${tone}`} style={{ width: `${share * 100}%` }} />
        </div>
        <span>{percent(share, language, 0)}</span>
      </div>
      <details className="reputation-why">
        <summary>{said.why}</summary>
        <ul>
          <li>{said.good(count(provider.good))}</li>
          <li>{said.failed(count(provider.failed))}</li>
          <li>{said.lied(count(provider.lied))}</li>
          {provider.reasons.map((reason) => (
            <li key={reason}>{plain(reason)}</li>
          ))}
        </ul>
        <p className="soft small">{said.decays}</p>
      </details>
    </div>
  );
}

function Loading() {
  return (
    <Panel label={useWords().common.loading}>
      <Skeleton>
        {[0, 1, 2].map((row) => (
          <div key={row} className="providers-bones">
            <Bone width="9em" />
            <Bone width="7em" />
            <Bone width="5em" />
            <Bone width="8em" />
          </div>
        ))}
      </Skeleton>
    </Panel>
  );
}
