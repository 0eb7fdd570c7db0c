/** Maps values to pixels. `ticks` are values worth a line. */
export interface Scale {
  (value: number): number;
  ticks: number[];
  log: boolean;
}

const LOG_STEPS = [1, 2, 5];

/** Round steps of 1, 2 or 5 times a power of ten, about `wanted` of them, from at most `low` to at least `high`. */
export function linearTicks(low: number, high: number, wanted: number): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.floor(low / step);
  const last = Math.ceil(high / step);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** 1, 2 and 5 times powers of ten, or the powers alone where those are enough. */
export function logTicks(low: number, high: number, wanted: number): number[] {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const decades = Math.log10(high / low);
  const steps = decades * 3 <= wanted + 1 ? LOG_STEPS : [1];
  const every = Math.max(1, Math.ceil((decades * steps.length) / (wanted + 1)));
  const all: number[] = [];
  for (let power = first; power <= last; power += 1) {
    for (const step of steps) all.push(Number((step * 10 ** power).toPrecision(12)));
  }
  const within = all.filter((tick, i) => i % every === 0 && tick >= low / 1.0001 && tick <= high * 1.0001);
  return within.length > 1 ? within : [low, high];
}

/** Powers of two that are about `wanted`, such as 1 KiB, 8 KiB, 64 KiB. */
export function byteTicks(low: number, high: number, wanted: number): number[] {
  const [first, last] = [Math.log2(low), Math.log2(high)];
  const every = Math.max(1, Math.ceil((last - first) / Math.max(1, wanted)));
  const from = Math.ceil(first / every);
  const ticks = Array.from({ length: Math.max(0, Math.floor(last / every) - from + 1) }, (_, i) => 2 ** ((from + i) * every));
  return ticks.length > 0 ? ticks : [low];
}

/** Round steps of 1, 2, 4 ... 512 of a binary unit, from zero to at least `high`. */
export function linearByteTicks(high: number, wanted: number): number[] {
  const step = 2 ** Math.ceil(Math.log2(high / Math.max(1, wanted)));
  return Array.from({ length: Math.ceil(high / step) + 1 }, (_, i) => i * step);
}

/**
 * A scale over `values` onto `from`..`to` pixels. Logarithmic ones need values above zero: others are left out of the
 * span and end up at its lower end. `binary` is for bytes.
 */
export function scaleOver(
  values: readonly number[],
  from: number,
  to: number,
  log: boolean,
  wanted = 5,
  binary = false,
): Scale {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  let low = Math.min(...usable);
  let high = Math.max(...usable);
  if (usable.length === 0) [low, high] = log ? [0.1, 10] : [0, 1];
  if (log) {
    if (low === high) [low, high] = [low / 2, high * 2];
    const [a, b] = [Math.log10(low) - 0.05, Math.log10(high) + 0.05];
    const map = (value: number) => from + ((Math.log10(Math.max(value, 10 ** a)) - a) / (b - a)) * (to - from);
    return Object.assign(map, { ticks: (binary ? byteTicks : logTicks)(10 ** a, 10 ** b, wanted), log });
  }
  low = Math.min(0, low);
  if (low === high) high = low + 1;
  const ticks = binary ? linearByteTicks(high, wanted) : linearTicks(low, high, wanted);
  const top = ticks.at(-1) ?? high;
  const map = (value: number) => from + ((value - low) / (top - low)) * (to - from);
  return Object.assign(map, { ticks, log });
}

/** Counts by hour as at most `most` bars of the same length, gaps as zeros. `at` is a bar's beginning. */
export function bars(
  counts: readonly { at: number; count: number }[],
  most: number,
): { at: number; seconds: number; count: number }[] {
  if (counts.length === 0) return [];
  const HOUR = 3_600;
  const hour = (at: number) => Math.floor(at / HOUR);
  const hours = counts.map((one) => hour(one.at));
  const [first, last] = [Math.min(...hours), Math.max(...hours)];
  const span = last - first + 1;
  const each = [1, 2, 3, 6, 12, 24, 48, 168, 336, 720].find((size) => span / size <= most) ?? Math.ceil(span / most);
  const start = Math.floor(first / each) * each;
  const made = Array.from({ length: Math.floor((last - start) / each) + 1 }, (_, i) => ({
    at: (start + i * each) * HOUR,
    seconds: each * HOUR,
    count: 0,
  }));
  for (const one of counts) {
    const bar = made[Math.floor((hour(one.at) - start) / each)];
    if (bar) bar.count += one.count;
  }
  return made;
}
