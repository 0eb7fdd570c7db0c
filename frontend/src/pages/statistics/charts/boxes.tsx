import { useWidth } from "./frame";
import type { Mark } from "./marks";
import { scaleOver } from "./scale";

export interface Box {
  key: number;
  name: string;
  /** Smallest, lower quartile, median, upper quartile, largest. */
  box: readonly [number, number, number, number, number];
  label: string;
}

const ROW = 52;
const TOP = 4;
const BOTTOM = 40;
const RIGHT = 16;

/** A row for each model: the box holds the middle half, the line in it is the median, the whiskers reach the ends. */
export function Boxes({
  boxes,
  marks,
  log,
  axis,
  tick,
  label,
}: {
  boxes: readonly Box[];
  marks: Map<number, Mark>;
  log: boolean;
  axis: string;
  tick: (value: number) => string;
  label: string;
}) {
  const [attach, width] = useWidth(640);
  const height = TOP + boxes.length * ROW + BOTTOM;
  const x = scaleOver(boxes.flatMap((one) => one.box), 12, width - RIGHT, log, Math.max(2, Math.floor(width / 110)));
  return (
    <div className="chart-plot" ref={attach}>
      <svg width={width} height={height} role="img" aria-label={label}>
        {x.ticks.map((value) => (
          <g key={value} transform={`translate(${x(value)} 0)`}>
            <line className="chart-line" y1={TOP} y2={height - BOTTOM} />
            <text className="chart-text" y={height - BOTTOM + 16} textAnchor="middle">
              {tick(value)}
            </text>
          </g>
        ))}
        <text className="chart-text chart-axis" x={width / 2} y={height - 6} textAnchor="middle">
          {axis}
        </text>
        {boxes.map((one, i) => {
          const [least, low, middle, high, most] = one.box.map(x) as [number, number, number, number, number];
          return (
            <g
              key={one.key}
              transform={`translate(0 ${TOP + i * ROW})`}
              className={`chart-box chart-colour-${marks.get(one.key)?.colour ?? 0}`}
            >
              <title>{one.label}</title>
              <text className="chart-text chart-name" x={12} y={15}>
                {one.name}
              </text>
              <line x1={least} x2={low} y1={33} y2={33} />
              <line x1={high} x2={most} y1={33} y2={33} />
              <line x1={least} x2={least} y1={28} y2={38} />
              <line x1={most} x2={most} y1={28} y2={38} />
              <rect x={low} width={Math.max(1, high - low)} y={24} height={18} rx={2} />
              <line className="chart-median" x1={middle} x2={middle} y1={22} y2={44} />
            </g>
          );
        })}
      </svg>
    </div>
  );
}
