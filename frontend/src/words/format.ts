import { formatUnits } from "viem";

import type { Language } from "./index";

/**
 * An amount of smallest parts as decimal text with the language's point, never in scientific notation. At most `digits`
 * digits that count after the point's leading zeros. It is rounded up, so that a price never looks lower than it is;
 * what somebody has is rounded "down", so that it never looks more.
 */
export function amount(
  value: bigint | string,
  decimals = 18,
  digits = 6,
  language: Language = "en",
  round: "up" | "down" = "up",
): string {
  return rounded(BigInt(value), decimals, digits, round).replace(".", pointOf(language));
}

function rounded(value: bigint, decimals: number, digits: number, round: "up" | "down"): string {
  const text = formatUnits(value, decimals);
  const negative = text.startsWith("-");
  const [whole = "0", fraction = ""] = text.replace("-", "").split(".");
  const zeros = whole === "0" ? /^0*/.exec(fraction)?.[0].length ?? 0 : 0;
  const kept = zeros + digits;
  if (fraction.length <= kept) return text;
  const more = round === "up" && /[1-9]/.test(fraction.slice(kept)) ? 1n : 0n;
  const near = BigInt(whole + fraction.slice(0, kept)) + more;
  return negative && near !== 0n ? `-${formatUnits(near, kept)}` : formatUnits(near, kept);
}

function pointOf(language: Language): string {
  return new Intl.NumberFormat(language).formatToParts(0.5).find(({ type }) => type === "decimal")?.value ?? ".";
}

/** A decimal amount of GLM with three digits that count, never in scientific notation. */
export function glm(text: string, language: Language): string {
  return Number(text).toLocaleString(language, { maximumSignificantDigits: 3 });
}

/** First `head` and last four characters, for hashes, addresses and CIDs. */
export function shorten(value: string, head = 6): string {
  return value.length <= head + 5 ? value : `${value.slice(0, head)}…${value.slice(-4)}`;
}

const STEPS: readonly (readonly [Intl.RelativeTimeFormatUnit, number])[] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

const SHORT: Partial<Record<Intl.RelativeTimeFormatUnit, string>> = { second: "s", minute: "min", hour: "h" };

/** "12 s ago", "in 3 min"; seconds are the distance into the past, below zero into the future. */
export function ago(seconds: number, language: Language, now: string): string {
  const size = Math.abs(seconds);
  const [unit, length] = STEPS.find(([, step]) => size >= step) ?? ["second", 1];
  const count = Math.floor(size / length);
  if (count === 0) return now;
  const short = SHORT[unit];
  if (short) {
    const distance = `${count} ${short}`;
    if (language === "de") return seconds < 0 ? `in ${distance}` : `vor ${distance}`;
    return seconds < 0 ? `in ${distance}` : `${distance} ago`;
  }
  return new Intl.RelativeTimeFormat(language).format(seconds < 0 ? count : -count, unit);
}

/** A length of time: "0.8 s", "12 s", "3 min", "2 h". */
export function duration(seconds: number, language: Language): string {
  const text = (value: number, places: number) => value.toLocaleString(language, { maximumFractionDigits: places });
  if (seconds < 10) return `${text(seconds, 1)} s`;
  if (seconds < 100) return `${text(seconds, 0)} s`;
  if (seconds < 5_400) return `${text(seconds / 60, 0)} min`;
  return `${text(seconds / 3_600, 1)} h`;
}

export function exactTime(at: number, language: Language): string {
  return new Date(at * 1000).toLocaleString(language, { dateStyle: "medium", timeStyle: "medium" });
}

const SIZES = ["B", "KiB", "MiB", "GiB"] as const;

/** "312 B", "1.4 MiB". */
export function byteSize(bytes: number, language: Language): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < SIZES.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const places = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toLocaleString(language, { maximumFractionDigits: places })} ${SIZES[unit] ?? "GiB"}`;
}

export function percent(share: number, language: Language, places = 1): string {
  return share.toLocaleString(language, { style: "percent", maximumFractionDigits: places });
}
