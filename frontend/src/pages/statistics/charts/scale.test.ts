import { describe, expect, it } from "vitest";

import { bars, byteTicks, linearByteTicks, linearTicks, logTicks, scaleOver } from "./scale";

describe("given values to draw", () => {
  it("when the scale is linear, then it begins at zero, ends on a round number, and is in order", () => {
    const scale = scaleOver([0.3, 1.7, 0.9], 0, 100, false);
    expect(scale.ticks).toEqual([0, 0.5, 1, 1.5, 2]);
    expect(scale(0)).toBe(0);
    expect(scale(2)).toBe(100);
    expect(scale(0.3)).toBeLessThan(scale(0.9));
  });

  it("when it is logarithmic, then tenfold is the same distance everywhere, and zero does not break it", () => {
    const scale = scaleOver([0, 1, 10, 100], 0, 100, true);
    expect(scale(10) - scale(1)).toBeCloseTo(scale(100) - scale(10));
    expect(scale(0)).toBeCloseTo(0);
  });

  it.each([
    { values: [], log: false },
    { values: [], log: true },
    { values: [5], log: false },
    { values: [5], log: true },
    { values: [0, 0], log: false },
    { values: [Number.NaN, 3], log: true },
  ])("when there is next to nothing ($values, log $log), then every pixel is still a number", ({ values, log }) => {
    const scale = scaleOver(values, 10, 90, log);
    for (const value of [...values.filter((one) => !Number.isNaN(one)), ...scale.ticks]) {
      expect(scale(value)).toBeGreaterThanOrEqual(9.99);
      expect(scale(value)).toBeLessThanOrEqual(90.01);
    }
  });
});

it("given spans of many sizes, when ticks are chosen, then they are few and rise", () => {
  for (const [low, high] of [[0, 0.004], [0, 7], [0, 123_456], [3, 9]] as const) {
    const ticks = linearTicks(low, high, 5);
    expect(ticks.length).toBeLessThanOrEqual(8);
    expect(ticks.every((tick, i) => i === 0 || tick > (ticks[i - 1] ?? 0))).toBe(true);
  }
  expect(logTicks(0.01, 1_000_000, 6).length).toBeLessThanOrEqual(8);
});

it("given sizes in bytes, when ticks are chosen, then they are whole binary units", () => {
  expect(byteTicks(200, 3_000_000, 5)).toEqual([512, 4_096, 32_768, 262_144, 2_097_152]);
  expect(linearByteTicks(3_000_000, 4)).toEqual([0, 1_048_576, 2_097_152, 3_145_728]);
});

it("given less than two decades, when ticks are chosen, then powers of ten alone would be too few", () => {
  expect(logTicks(0.03, 1.3, 5)).toEqual([0.05, 0.1, 0.2, 0.5, 1]);
});

describe("given counts by hour", () => {
  const HOUR = 3_600;
  it("when hours are missing, then they are bars of nothing", () => {
    expect(bars([{ at: 10 * HOUR, count: 2 }, { at: 13 * HOUR, count: 1 }], 24).map((bar) => bar.count)).toEqual([2, 0, 0, 1]);
  });

  it("when there are too many hours, then longer bars hold the same sum", () => {
    const counts = Array.from({ length: 500 }, (_, i) => ({ at: (1_000 + i) * HOUR, count: 1 }));
    const made = bars(counts, 48);
    expect(made.length).toBeLessThanOrEqual(49);
    expect(made.reduce((sum, bar) => sum + bar.count, 0)).toBe(500);
  });

  it("when there are none, then there is no bar", () => {
    expect(bars([], 48)).toEqual([]);
  });
});
