import type { Hex } from "viem";

import { decodeAnswer } from "../../content/answer";
import type { Language, Words } from "../../words";
import { percent } from "../../words/format";

/** The answer on the chain in one line: "7, 99 %" or "2 × dog, 1 × person". */
export function answerText(
  answer: Hex | null,
  labels: readonly string[] | null,
  words: Words["history"],
  language: Language,
): string {
  if (answer === null) return "";
  const label = (index: number) => labels?.[index] ?? words.classNumber(index);
  try {
    const read = decodeAnswer(answer);
    if (read.kind === "classification") {
      const [first] = read.entries;
      return first ? `${label(first.index)}, ${percent(first.bps / 10_000, language)}` : "";
    }
    if (read.found === 0) return words.nothingFound;
    const counts = new Map<number, number>();
    for (const { index } of read.instances) counts.set(index, (counts.get(index) ?? 0) + 1);
    const named = [...counts].sort((a, b) => b[1] - a[1]).map(([index, count]) => `${count} × ${label(index)}`);
    // The chain holds the first instances alone.
    return read.found > read.instances.length ? `${words.things(read.found)}: ${named.join(", ")} …` : named.join(", ");
  } catch {
    return words.unreadable;
  }
}
