import { type KeyboardEvent, memo, useMemo, useRef, useState } from "react";

import { useWidth } from "./frame";
import type { Mark } from "./marks";
import { scaleOver } from "./scale";

export interface ScatterPoint {
  id: string;
  x: number;
  y: number;
  group: number;
  href: string;
  /** All that is known of it, in one line. */
  label: string;
}

const HEIGHT = 340;
const LEFT = 52;
const RIGHT = 26;
const TOP = 12;
const BOTTOM = 44;

/**
 * One point a request. Pointing at one, or going to it with the arrow keys, says what it is; Enter or a click opens it.
 */
export function Scatter({
  points,
  marks,
  log,
  xLabel,
  yLabel,
  xTick,
  yTick,
  bytes,
  label,
}: {
  points: readonly ScatterPoint[];
  marks: Map<number, Mark>;
  log: boolean;
  xLabel: string;
  yLabel: string;
  xTick: (value: number) => string;
  yTick: (value: number) => string;
  /** The horizontal axis counts bytes. */
  bytes: boolean;
  label: string;
}) {
  const [attach, width] = useWidth(640);
  const [active, setActive] = useState<string | null>(null);
  const svg = useRef<SVGSVGElement>(null);
  const shown = useMemo(
    () => points.filter((point) => !log || (point.x > 0 && point.y > 0)).sort((a, b) => a.x - b.x || a.y - b.y),
    [points, log],
  );
  const x = useMemo(
    () =>
      scaleOver(
        shown.map((point) => point.x),
        LEFT,
        width - RIGHT,
        log,
        Math.max(2, Math.floor(width / 110)),
        bytes,
      ),
    [shown, width, log, bytes],
  );
  const y = useMemo(() => scaleOver(shown.map((point) => point.y), HEIGHT - BOTTOM, TOP, log), [shown, log]);
  const current = shown.find((point) => point.id === active);
  // One stop of the tabulator for all points: the arrow keys go from one to the next.
  const stop = current?.id ?? shown[0]?.id;

  const move = (event: KeyboardEvent) => {
    const at = shown.findIndex((point) => point.id === active);
    const steps: Record<string, number> = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 };
    const next = shown[Math.max(0, steps[event.key] ?? -1)];
    if (!(event.key in steps) || !next) return;
    event.preventDefault();
    setActive(next.id);
    svg.current?.querySelector<SVGAElement>(`[data-point="${next.id}"]`)?.focus();
  };

  return (
    <div className="chart-plot" ref={attach}>
      <svg ref={svg} width={width} height={HEIGHT} role="group" aria-label={label} onKeyDown={move}>
        {x.ticks.map((tick) => (
          <g key={`x${tick}`} transform={`translate(${x(tick)} 0)`} aria-hidden="true">
            <line className="chart-line" y1={TOP} y2={HEIGHT - BOTTOM} />
            <text className="chart-text" y={HEIGHT - BOTTOM + 16} textAnchor="middle">
              {xTick(tick)}
            </text>
          </g>
        ))}
        {y.ticks.map((tick) => (
          <g key={`y${tick}`} transform={`translate(0 ${y(tick)})`} aria-hidden="true">
            <line className="chart-line" x1={LEFT} x2={width - RIGHT} />
            <text className="chart-text" x={LEFT - 6} dy="0.32em" textAnchor="end">
              {yTick(tick)}
            </text>
          </g>
        ))}
        <text className="chart-text chart-axis" x={(LEFT + width - RIGHT) / 2} y={HEIGHT - 8} textAnchor="middle" aria-hidden="true">
          {xLabel}
        </text>
        <text
          className="chart-text chart-axis"
          transform={`translate(12 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`}
          textAnchor="middle"
          aria-hidden="true"
        >
          {yLabel}
        </text>
        {shown.map((point) => (
          <Point
            key={point.id}
            point={point}
            mark={marks.get(point.group)}
            at={`translate(${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)})`}
            stop={point.id === stop}
            active={point.id === active}
            choose={setActive}
          />
        ))}
      </svg>
      {current && (
        <div
          className="chart-tip"
          aria-hidden="true"
          style={{
            left: Math.min(Math.max(x(current.x), 110), width - 110),
            top: y(current.y),
          }}
          data-below={y(current.y) < 90 || undefined}
        >
          {current.label}
        </div>
      )}
    </div>
  );
}

const Point = memo(function Point({
  point,
  mark,
  at,
  stop,
  active,
  choose,
}: {
  point: ScatterPoint;
  mark: Mark | undefined;
  at: string;
  stop: boolean;
  active: boolean;
  choose: (id: string | null) => void;
}) {
  return (
    <a
      href={point.href}
      aria-label={point.label}
      className={`chart-point chart-colour-${mark?.colour ?? 0}`}
      data-point={point.id}
      data-active={active || undefined}
      tabIndex={stop ? 0 : -1}
      onFocus={() => choose(point.id)}
      onBlur={() => choose(null)}
      onMouseEnter={() => choose(point.id)}
      onMouseLeave={() => choose(null)}
    >
      <path d={mark?.path} transform={at} />
    </a>
  );
});
