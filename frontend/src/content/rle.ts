/**
 * Masks as COCO's compressed run-length encoding: runs along the columns, of pixels outside and inside by turns, outside
 * first; each from the fourth on less the one two before; five bits a character from "0" on, the lowest first.
 */

/** Text that is no run-length encoding, or one of other pixels than it should be of. */
export class NotAMask extends Error {
  override name = "NotAMask";
}

/** A box in whole pixels: y1, x1, y2, x2; the last two outside. */
export type PixelBox = readonly [top: number, left: number, bottom: number, right: number];

/** Runs of pixels, outside first. Throws NotAMask. */
export function decodeRuns(text: string): number[] {
  const runs: number[] = [];
  let value = 0;
  let factor = 1;
  let length = 0;
  for (let at = 0; at < text.length; at++) {
    const bits = text.charCodeAt(at) - 48;
    if (bits < 0 || bits > 63) throw new NotAMask("not a run-length encoding");
    value += (bits & 31) * factor;
    factor *= 32;
    length += 1;
    if (length > 7) throw new NotAMask("a run of more pixels than any picture has");
    if (bits & 32) continue;
    // The highest bit of the last five is the sign.
    if (bits & 16) value -= factor;
    const i = runs.length;
    const run = i > 2 ? value + (runs[i - 2] ?? 0) : value;
    // Only the first run may be empty: where the first pixel is inside.
    if (run < 0 || (run === 0 && i > 0)) throw new NotAMask(`a run of ${run} pixels`);
    runs.push(run);
    value = length = 0;
    factor = 1;
  }
  if (length > 0 || runs.length === 0) throw new NotAMask("a run-length encoding that is cut short");
  return runs;
}

/** Pixels inside. */
export function areaOf(runs: readonly number[]): number {
  let area = 0;
  for (let i = 1; i < runs.length; i += 2) area += runs[i] ?? 0;
  return area;
}

/** All pixels. */
export function sumOf(runs: readonly number[]): number {
  return runs.reduce((sum, run) => sum + run, 0);
}

/** What is inside, cut at the columns' ends: `visit(column, first row, row after the last)`, column by column. */
export function eachStretch(
  runs: readonly number[],
  height: number,
  visit: (column: number, from: number, to: number) => void,
): void {
  let place = 0;
  for (let i = 0; i < runs.length; i++) {
    const end = place + (runs[i] ?? 0);
    if (i % 2 === 1) {
      let at = place;
      while (at < end) {
        const column = Math.floor(at / height);
        const stop = Math.min(end, (column + 1) * height);
        visit(column, at - column * height, stop - column * height);
        at = stop;
      }
    }
    place = end;
  }
}

/** Whether all pixels inside lie in a box of whole pixels. */
export function within(runs: readonly number[], box: PixelBox, height: number): boolean {
  const [top, left, bottom, right] = box;
  let inside = true;
  eachStretch(runs, height, (column, from, to) => {
    inside &&= left <= column && column < right && top <= from && to <= bottom;
  });
  return inside;
}

/**
 * The outline as the data of an SVG path in pixels: closed, clockwise around what is inside, so that both fill rules
 * paint exactly the mask's pixels.
 */
export function outlineOf(runs: readonly number[], height: number): string {
  const columns = new Map<number, [number, number][]>();
  eachStretch(runs, height, (column, from, to) => {
    const there = columns.get(column);
    const last = there?.at(-1);
    if (there === undefined) columns.set(column, [[from, to]]);
    else if (last !== undefined && last[1] === from) last[1] = to;
    else there.push([from, to]);
  });
  const rows = height + 1;
  const next = new Map<number, number[]>();
  const edge = (fromX: number, fromY: number, toX: number, toY: number) => {
    const start = fromX * rows + fromY;
    const there = next.get(start);
    if (there === undefined) next.set(start, [toX * rows + toY]);
    else there.push(toX * rows + toY);
  };
  for (const [x, stretches] of columns) {
    for (const [from, to] of stretches) {
      edge(x, from, x + 1, from);
      edge(x + 1, to, x, to);
    }
    for (const [from, to] of minus(stretches, columns.get(x - 1))) edge(x, to, x, from);
    for (const [from, to] of minus(stretches, columns.get(x + 1))) edge(x + 1, from, x + 1, to);
  }
  let path = "";
  for (const [start, ends] of next) {
    while (ends.length > 0) {
      path += loop(start, next, rows);
    }
  }
  return path;
}

function loop(start: number, next: Map<number, number[]>, rows: number): string {
  let path = `M${Math.floor(start / rows)} ${start % rows}`;
  let at = start;
  let pending = "";
  let axis = "";
  do {
    const to = next.get(at)?.pop();
    if (to === undefined) break;
    const x = Math.floor(to / rows);
    const turned = x === Math.floor(at / rows) ? "V" : "H";
    // Edges in one line are one stroke.
    if (turned !== axis) path += pending;
    axis = turned;
    pending = turned === "V" ? `V${to % rows}` : `H${x}`;
    at = to;
  } while (at !== start);
  return `${path}${pending}Z`;
}

/** The parts of stretches that no stretch of the other column covers; both rise. */
function minus(
  stretches: readonly (readonly [number, number])[],
  covers: readonly (readonly [number, number])[] | undefined,
): [number, number][] {
  const left: [number, number][] = [];
  let c = 0;
  for (const [from, to] of stretches) {
    let at = from;
    while (covers !== undefined && c < covers.length && (covers[c]?.[1] ?? 0) <= at) c += 1;
    for (let i = c; covers !== undefined && i < covers.length; i++) {
      const [coverFrom, coverTo] = covers[i] ?? [0, 0];
      if (coverFrom >= to) break;
      if (coverFrom > at) left.push([at, coverFrom]);
      at = Math.max(at, coverTo);
    }
    if (at < to) left.push([at, to]);
  }
  return left;
}
