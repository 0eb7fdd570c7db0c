import type { ReactNode } from "react";

import { Age } from "../../parts/age";
import { Panel } from "../../parts/panel";
import { Bone, Skeleton } from "../../parts/skeleton";
import type { Answer } from "../../content/answer";
import type { ClassificationResult, ResultDocument, SegmentationResult } from "../../content/document";
import { plain } from "../../content/plain";
import { href } from "../../router";
import { useLanguage, useWords } from "../../words";
import { duration, percent } from "../../words/format";
import type { Facts } from "./facts";

const MOST_BARS = 10;
const ODD = 0.25;
const FAR = 0.05;

/** What was answered: the words of the verified document, else what the chain alone says, else what to wait for. */
export function AnswerPanel({
  facts,
  document,
  onChain,
  verdict,
  usual,
  actions,
}: {
  facts: Facts;
  document: ResultDocument | null;
  /** The compact answer, shown where the document is not to be had. */
  onChain: Answer | null;
  verdict: ReactNode;
  usual: number | null;
  actions: ReactNode;
}) {
  const words = useWords().request;
  const { language } = useLanguage();
  const ended = facts.status === "rejected" || facts.status === "refunded" || facts.status === "cancelled";
  const reason = words.reasons[facts.reason as keyof typeof words.reasons] as string | undefined;
  return (
    <Panel title={words.answer} className="request-answer">
      {document?.kind === "classification" && <Labels result={document} />}
      {document?.kind === "segmentation" && <Tally result={document} />}
      {document && <Familiarity share={document.familiarity} />}
      {facts.status === "fulfilled" && !document && !onChain && !verdict && (
        <Skeleton>
          <Bone width="40%" height="2em" />
          <Bone />
          <Bone width="70%" />
        </Skeleton>
      )}
      {verdict}
      {!document && onChain && <OnChain answer={onChain} />}
      {(ended || facts.status === "expired" || facts.status === "failed") && (
        <div>
          <p className="request-headline">
            {words.ended[facts.status === "failed" ? "rejected" : (facts.status)]}
          </p>
          {reason && <p>{reason}</p>}
          {ended && (
            <p className="soft">
              {words.moneyBack[facts.paidTo ?? "either"]}{" "}
              {facts.paidTo !== "account" && <a href={href({ page: "history" })}>{words.withdraw}</a>}
            </p>
          )}
        </div>
      )}
      {!ended && !["fulfilled", "expired", "failed"].includes(facts.status) && (
        <div>
          <p className="request-headline">{words.pending}</p>
          <p className="soft">
            {words.pendingText} {usual !== null && words.usual(duration(usual, language))}
          </p>
          {facts.deadline !== null && (
            <p className="soft small">
              {words.deadline}: <Age at={facts.deadline} />
            </p>
          )}
        </div>
      )}
      {actions}
    </Panel>
  );
}

function Labels({ result: { labels } }: { result: ClassificationResult }) {
  const { language } = useLanguage();
  const best = labels[0];
  return (
    <>
      {best && (
        <p className="request-headline">
          {plain(best.label)} <span className="soft">{percent(best.probability, language)}</span>
        </p>
      )}
      <Bars rows={labels.slice(0, MOST_BARS).map(({ label, probability }) => [plain(label), probability])} />
    </>
  );
}

function Bars({ rows }: { rows: readonly (readonly [label: string, share: number])[] }) {
  const { language } = useLanguage();
  return (
    <ul className="request-bars">
      {rows.map(([label, share], place) => (
        <li key={place}>
          <span className="request-bar-label" title={label}>
            {label}
          </span>
          <span className="request-bar-rail" aria-hidden="true">
            <span className="request-bar" style={{ width: `${100 * share}%` }} />
          </span>
          <span className="request-bar-share">{percent(share, language)}</span>
        </li>
      ))}
    </ul>
  );
}

function Tally({ result: { segments, semantic, found } }: { result: SegmentationResult }) {
  const words = useWords().request;
  const counts = new Map<string, number>();
  for (const { label } of segments) counts.set(plain(label), (counts.get(plain(label)) ?? 0) + 1);
  const names = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  if (segments.length === 0) return <p className="request-headline">{words.nothing}</p>;
  return (
    <div>
      <p className="request-headline">{semantic ? words.classes(found) : words.things(found)}</p>
      <p>{names.map(([label, count]) => words.counted(count, label)).join(", ")}</p>
    </div>
  );
}

function Familiarity({ share }: { share: number | null }) {
  const words = useWords().request;
  const { language } = useLanguage();
  const kind = share === null || share === 0 ? "none" : share < FAR ? "far" : share < ODD ? "odd" : "close";
  const text = kind === "none" ? words.familiar.none : words.familiar[kind](percent(share ?? 0, language, 0));
  return (
    <p className={`request-familiar request-familiar-${kind}`}>
      <strong>{words.familiarity}</strong> <span>{text}</span>
    </p>
  );
}

function OnChain({ answer }: { answer: Answer }) {
  const words = useWords().request;
  return (
    <div className="stack">
      <div>
        <h3>{words.chainAnswer}</h3>
        <p className="soft small">{words.chainAnswerText}</p>
      </div>
      {answer.kind === "segmentation" && <p className="request-headline">{words.things(answer.found)}</p>}
      <Bars
        rows={(answer.kind === "classification" ? answer.entries : answer.instances).map(({ index, bps }) => [
          words.classNumber(index),
          bps / 10_000,
        ])}
      />
      {answer.familiarity > 0 && <Familiarity share={answer.familiarity / 255} />}
    </div>
  );
}
