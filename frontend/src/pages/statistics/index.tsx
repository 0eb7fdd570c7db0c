import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";

import { useConfig } from "../../api/config";
import type { Stats } from "../../api/types";
import { plain } from "../../content/plain";
import { Bone, Button, Dot, Empty, ErrorNote, Hash, Icon, Panel, Skeleton, StaleNote, Toggle, useNow } from "../../parts";
import { href } from "../../router";
import { useLanguage, useWords } from "../../words";
import { ago, byteSize, duration, exactTime, percent } from "../../words/format";
import { BarChart } from "./charts/bar-chart";
import { Boxes } from "./charts/boxes";
import { Figure, NumberTable } from "./charts/frame";
import { marksOf } from "./charts/marks";
import { bars } from "./charts/scale";
import { Scatter } from "./charts/scatter";

import "./statistics.css";

const REFRESH_MS = 5_000;
const RANGES = { hour: 3_600, day: 86_400, week: 604_800, year: 366 * 86_400 };
type Range = keyof typeof RANGES;
const MOST_BARS = 48;
const MOST_ROWS = 200;

export default function StatisticsPage() {
  const { api } = useConfig();
  const words = useWords();
  const said = words.statistics;
  const [range, setRange] = useState<Range>("day");
  const query = useQuery({
    queryKey: ["stats", api.base, range],
    queryFn: ({ signal }) => api.stats(RANGES[range], signal),
    placeholderData: keepPreviousData,
    refetchInterval: REFRESH_MS, // of a hidden page nothing is fetched
  });
  const stats = query.data;
  const total = stats ? Object.values(stats.requests).reduce((sum, count) => sum + count, 0) : 0;

  return (
    <div className="stack">
      <header className="statistics-head">
        <div className="stack statistics-lead">
          <h1>{words.common.pages.statistics}</h1>
          <p className="soft">{said.lead}</p>
        </div>
        <div className="row">
          <fieldset className="statistics-ranges">
            <legend className="visually-hidden">{said.range}</legend>
            {(Object.keys(RANGES) as Range[]).map((one) => (
              <label key={one}>
                <input
                  type="radio"
                  name="range"
                  className="visually-hidden"
                  checked={range === one}
                  onChange={() => setRange(one)}
                />
                <span>{said.ranges[one]}</span>
              </label>
            ))}
          </fieldset>
          <a className="button button-normal" href={api.statsCsv(RANGES[range])} title={said.csvHint} download>
            <Icon name="download" />
            {said.csv}
          </a>
        </div>
      </header>
      {query.isError && stats && (
        <StaleNote action={<Button onClick={() => void query.refetch()}>{words.common.tryAgain}</Button>}>
          <Since at={query.dataUpdatedAt / 1000} />
        </StaleNote>
      )}
      {query.isPending && <Loading />}
      {query.isError && !stats && (
        <ErrorNote
          error={query.error}
          action={
            <Button icon="retry" busy={query.isFetching} onClick={() => void query.refetch()}>
              {words.common.tryAgain}
            </Button>
          }
        />
      )}
      {stats && (
        <>
          <Tiles stats={stats} total={total} live={!query.isError} />
          {total === 0 && stats.points.length === 0 ? (
            <Empty
              title={said.empty.title}
              icon="clock"
              action={
                range === "year" ? (
                  <a className="button button-primary" href={href({ page: "ask" })}>
                    {said.empty.action}
                  </a>
                ) : (
                  <Button onClick={() => setRange("year")}>{said.empty.year}</Button>
                )
              }
            >
              {said.empty.text}
            </Empty>
          ) : (
            <Charts stats={stats} />
          )}
        </>
      )}
    </div>
  );
}

/** How old the numbers are. Apart, so that each second draws this line anew and not the charts. */
function Since({ at }: { at: number }) {
  const words = useWords();
  const { language } = useLanguage();
  return words.statistics.stale(ago(useNow() - at, language, words.common.now));
}

function Tiles({ stats, total, live }: { stats: Stats; total: number; live: boolean }) {
  const words = useWords();
  const said = words.statistics;
  const { language } = useLanguage();
  const rest = (Object.entries(stats.requests) as [keyof Stats["requests"], number][]).filter(([, count]) => count > 0);
  const usual = median(stats.points.flatMap((point) => (point.total_s === null ? [] : [point.total_s])));
  return (
    <Panel label={said.tiles.requests}>
      <dl className="statistics-tiles">
        <div>
          <dt>{said.tiles.requests}</dt>
          <dd>{total.toLocaleString(language)}</dd>
        </div>
        <div>
          <dt>{said.tiles.success}</dt>
          <dd>{stats.success_rate === null ? "–" : percent(stats.success_rate, language)}</dd>
        </div>
        <div>
          <dt>{said.tiles.queue}</dt>
          <dd>{stats.queue.toLocaleString(language)}</dd>
        </div>
        <div>
          <dt>{said.tiles.median}</dt>
          <dd>{usual === null ? "–" : duration(usual, language)}</dd>
        </div>
      </dl>
      <p className="row small soft statistics-rest">
        {live && <Dot tone="good">{said.live}</Dot>}
        {rest.map(([status, count]) => (
          <span key={status}>
            {words.common.statuses[status]}: {count.toLocaleString(language)}
          </span>
        ))}
      </p>
    </Panel>
  );
}

function Charts({ stats }: { stats: Stats }) {
  const marks = useMemo(
    () => marksOf([...stats.by_model.map((one) => one.model), ...stats.points.map((point) => point.model)]),
    [stats],
  );
  const names = useMemo(() => new Map(stats.by_model.map((one) => [one.model, plain(one.name, 60)])), [stats]);
  return (
    <>
      <Sizes stats={stats} marks={marks} names={names} />
      <div className="statistics-two">
        {stats.by_model.length > 0 && <ByModel stats={stats} marks={marks} />}
        {stats.throughput_per_hour.length > 0 && <Throughput stats={stats} />}
      </div>
    </>
  );
}

type Marks = ReturnType<typeof marksOf>;

function Sizes({ stats, marks, names }: { stats: Stats; marks: Marks; names: Map<number, string> }) {
  const said = useWords().statistics;
  const { language } = useLanguage();
  const [x, setX] = useState<"bytes" | "pixels">("bytes");
  const [y, setY] = useState<"compute" | "total">("compute");
  const [log, setLog] = useState(true);
  const points = useMemo(() => {
    const size = (value: number) =>
      x === "bytes" ? byteSize(value, language) : `${value.toLocaleString(language)} ${said.x.pixels}`;
    return stats.points.flatMap((point) => {
      const seconds = y === "compute" ? point.compute_s : point.total_s;
      if (seconds === null) return [];
      const name = names.get(point.model) ?? said.model(point.model);
      return [
        {
          id: point.id,
          x: point[x],
          y: seconds,
          group: point.model,
          href: href({ page: "request", id: point.id }),
          label: `${name}\n${size(point[x])}, ${duration(seconds, language)}`,
        },
      ];
    });
  }, [stats, x, y, names, language, said]);
  const groups = [...new Set(points.map((point) => point.group))].sort((a, b) => a - b);
  const compact = (value: number) => value.toLocaleString(language, { notation: "compact", maximumFractionDigits: 1 });
  const columns = said.columns;
  return (
    <Panel
      title={said.scatter.title}
      actions={
        <>
          <Choice label={said.x.label} value={x} choose={setX} options={{ bytes: said.x.bytes, pixels: said.x.pixels }} />
          <Choice label={said.y.label} value={y} choose={setY} options={{ compute: said.y.compute, total: said.y.total }} />
          <Toggle checked={log} onChange={setLog}>
            {said.log}
          </Toggle>
        </>
      }
    >
      <Figure
        caption={said.scatter.caption}
        tableLabel={said.scatter.table}
        table={
          <NumberTable
            label={said.scatter.title}
            columns={[columns.request, columns.model, columns.provider, columns.bytes, columns.pixels, columns.compute, columns.total, columns.at]}
            rows={stats.points.slice(0, MOST_ROWS).map((point) => ({
              key: point.id,
              cells: [
                <Hash key="id" value={point.id} what={columns.request} href={href({ page: "request", id: point.id })} copy={false} />,
                names.get(point.model) ?? said.model(point.model),
                plain(point.provider, 40),
                byteSize(point.bytes, language),
                point.pixels.toLocaleString(language),
                point.compute_s === null ? "–" : duration(point.compute_s, language),
                point.total_s === null ? "–" : duration(point.total_s, language),
                exactTime(point.at, language),
              ],
            }))}
          />
        }
      >
        <ul className="chart-legend">
          {groups.map((group) => (
            <li key={group} className={`chart-key chart-colour-${marks.get(group)?.colour ?? 0}`}>
              <svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">
                <path d={marks.get(group)?.path} />
              </svg>
              {names.get(group) ?? said.model(group)}
            </li>
          ))}
        </ul>
        <Scatter
          points={points}
          marks={marks}
          log={log}
          bytes={x === "bytes"}
          xLabel={x === "bytes" ? said.x.bytes : said.x.pixels}
          yLabel={y === "compute" ? said.y.compute : said.y.total}
          xTick={(value) => (x === "bytes" ? byteSize(value, language) : compact(value))}
          yTick={(value) => `${value.toLocaleString(language, { maximumSignificantDigits: 2 })} s`}
          label={said.scatter.label(points.length)}
        />
      </Figure>
    </Panel>
  );
}

function ByModel({ stats, marks }: { stats: Stats; marks: Marks }) {
  const said = useWords().statistics;
  const { language } = useLanguage();
  const [log, setLog] = useState(false);
  const columns = said.columns;
  const boxes = stats.by_model.map((one) => {
    const name = plain(one.name, 60) || said.model(one.model);
    return { key: one.model, name, box: one.box, label: said.boxes.row(name, duration(one.median_s, language), one.count) };
  });
  return (
    <Panel
      title={said.boxes.title}
      actions={
        <Toggle checked={log} onChange={setLog}>
          {said.log}
        </Toggle>
      }
    >
      <Figure
        caption={said.boxes.caption}
        tableLabel={said.boxes.table}
        table={
          <NumberTable
            label={said.boxes.title}
            columns={[columns.model, columns.count, columns.least, columns.lower, columns.median, columns.upper, columns.p90, columns.most]}
            rows={stats.by_model.map((one) => ({
              key: String(one.model),
              cells: [
                plain(one.name, 60),
                one.count.toLocaleString(language),
                ...[one.box[0], one.box[1], one.median_s, one.box[3], one.p90_s, one.box[4]].map((value) => duration(value, language)),
              ],
            }))}
          />
        }
      >
        <Boxes
          boxes={boxes}
          marks={marks}
          log={log}
          axis={said.seconds}
          tick={(value) => value.toLocaleString(language, { maximumSignificantDigits: 2 })}
          label={`${said.boxes.label(boxes.length)}. ${boxes.map((box) => box.label).join("; ")}`}
        />
      </Figure>
    </Panel>
  );
}

function Throughput({ stats }: { stats: Stats }) {
  const said = useWords().statistics;
  const { language } = useLanguage();
  const made = bars(stats.throughput_per_hour, MOST_BARS);
  const hours = (made[0]?.seconds ?? 3_600) / 3_600;
  const days = made.length > 0 && (made.at(-1)?.at ?? 0) - (made[0]?.at ?? 0) > 2 * 86_400;
  const when = (at: number) =>
    new Date(at * 1000).toLocaleString(
      language,
      days ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    );
  const drawn = made.map((bar) => ({
    at: bar.at,
    count: bar.count,
    when: when(bar.at),
    label: said.bars.row(exactTime(bar.at, language), bar.count),
  }));
  return (
    <Panel title={said.bars.title}>
      <Figure
        caption={said.bars.caption(hours)}
        tableLabel={said.bars.table}
        table={
          <NumberTable
            label={said.bars.title}
            columns={[said.columns.at, said.columns.count]}
            rows={made.map((bar) => ({
              key: String(bar.at),
              cells: [exactTime(bar.at, language), bar.count.toLocaleString(language)],
            }))}
          />
        }
      >
        <BarChart bars={drawn} tick={(value) => value.toLocaleString(language)} label={said.bars.label} />
      </Figure>
    </Panel>
  );
}

function Choice<T extends string>({
  label,
  value,
  choose,
  options,
}: {
  label: string;
  value: T;
  choose: (value: T) => void;
  options: Record<T, string>;
}) {
  return (
    <label className="row statistics-choice">
      <span className="soft small">{label}</span>
      <select className="input" value={value} onChange={(event) => choose(event.target.value as T)}>
        {(Object.entries(options) as [T, string][]).map(([one, name]) => (
          <option key={one} value={one}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function Loading() {
  return (
    <Skeleton>
      <div className="panel">
        <div className="statistics-tiles">
          {[0, 1, 2, 3].map((tile) => (
            <Bone key={tile} height="3em" />
          ))}
        </div>
      </div>
      <div className="panel statistics-bone">
        <Bone width="14em" />
        <Bone height="300px" />
      </div>
    </Skeleton>
  );
}

function median(values: number[]): number | null {
  const order = values.sort((a, b) => a - b);
  const middle = Math.floor(order.length / 2);
  const upper = order[middle];
  if (upper === undefined) return null;
  return order.length % 2 === 1 ? upper : ((order[middle - 1] ?? upper) + upper) / 2;
}
