import { useWidth } from "./frame";
import { scaleOver } from "./scale";

export interface Bar {
  at: number;
  count: number;
  /** When, in words. */
  when: string;
  label: string;
}

const HEIGHT = 200;
const LEFT = 36;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 26;

/** Counts over time, whole numbers. */
export function BarChart({
  bars,
  tick,
  label,
}: {
  bars: readonly Bar[];
  tick: (value: number) => string;
  label: string;
}) {
  const [attach, width] = useWidth(640);
  const y = scaleOver(bars.map((bar) => bar.count), HEIGHT - BOTTOM, TOP, false, 4);
  const step = (width - LEFT - RIGHT) / Math.max(1, bars.length);
  const thick = Math.min(48, Math.max(1, step - 2));
  const every = Math.max(1, Math.ceil(bars.length / Math.max(1, Math.floor(width / 100))));
  return (
    <div className="chart-plot" ref={attach}>
      <svg width={width} height={HEIGHT} role="img" aria-label={label}>
        {y.ticks.filter(Number.isInteger).map((value) => (
          <g key={value} transform={`translate(0 ${y(value)})`}>
            <line className="chart-line" x1={LEFT} x2={width - RIGHT} />
            <text className="chart-text" x={LEFT - 6} dy="0.32em" textAnchor="end">
              {tick(value)}
            </text>
          </g>
        ))}
        {bars.map((bar, i) => {
          const middle = LEFT + (i + 0.5) * step;
          return (
            <g key={bar.at}>
              <title>{bar.label}</title>
              <rect
                className="chart-bar"
                x={middle - thick / 2}
                width={thick}
                y={y(bar.count)}
                height={Math.max(0, HEIGHT - BOTTOM - y(bar.count))}
              />
              {i % every === 0 && (
                <text
                  className="chart-text"
                  x={Math.min(Math.max(middle, LEFT + 8), width - RIGHT - 24)}
                  y={HEIGHT - 8}
                  textAnchor={bars.length > 1 && i === 0 ? "start" : "middle"}
                >
                  {bar.when}
                </text>
              )}
            </g>
          );
        })}
      </svg>
    </div>
  );
}
