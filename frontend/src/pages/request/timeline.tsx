import { useMemo } from "react";

import { Age } from "../../parts/age";
import { Icon } from "../../parts/icon";
import { LiveRegion } from "../../parts/live-region";
import { Panel } from "../../parts/panel";
import { plain } from "../../content/plain";
import { useLanguage, useWords, type Words } from "../../words";
import { shorten } from "../../words/format";
import { type Facts, type Step, stepsOf } from "./facts";

/** Everything that happened to a request and what is still to come; what is new is read aloud. */
export function Timeline({ facts }: { facts: Facts }) {
  const words = useWords().request;
  const { language } = useLanguage();
  const steps = useMemo(() => stepsOf(facts), [facts]);
  const latest = steps.findLast(({ state }) => state === "now") ?? steps.findLast(({ state }) => state !== "waiting");
  return (
    <Panel title={words.timeline}>
      <ol className="request-steps" aria-label={words.timeline}>
        {steps.map((step) => (
          <li key={step.name} className={`request-step request-step-${step.state}`} aria-current={step.state === "now" ? "step" : undefined}>
            <span className="request-step-mark" aria-hidden="true">
              {step.state === "done" && <Icon name="check" size={12} />}
              {step.state === "bad" && <Icon name="cross" size={12} />}
            </span>
            <span className="request-step-words">
              <span>{titleOf(step, facts, words, language)}</span>
              <span className="visually-hidden">, {words.states[step.state]}</span>
              {step.at !== null && (
                <span className="soft small">
                  {" "}
                  <Age at={step.at} />
                </span>
              )}
              {step.notes.length > 0 && (
                <details className="small soft">
                  <summary>{words.notes}</summary>
                  {step.notes.map((note, i) => (
                    <p key={i}>{plain(note, 400)}</p>
                  ))}
                </details>
              )}
            </span>
          </li>
        ))}
      </ol>
      <LiveRegion>{latest ? titleOf(latest, facts, words, language) : ""}</LiveRegion>
    </Panel>
  );
}

function titleOf(step: Step, facts: Facts, { steps }: Words["request"], language: string): string {
  const block = (number: number | null) => (number === null ? null : number.toLocaleString(language, { useGrouping: false }));
  const provider = plain(facts.providerName, 40) || (facts.provider && shorten(facts.provider));
  switch (step.name) {
    case "mined": {
      const number = block(facts.block);
      return number === null ? steps.mined : steps.minedIn(number);
    }
    case "computing":
      if (step.state === "done") return provider ? steps.computedAt(provider) : steps.computed;
      return provider && step.state !== "waiting" ? steps.computingAt(provider) : steps.computing;
    case "posted": {
      const number = step.state === "done" ? block(facts.settledBlock) : null;
      return number === null ? steps.posted : steps.postedIn(number);
    }
    case "callback":
      if (step.state === "bad") return steps.callbackFailed;
      if (step.state !== "done") return steps.callbackWaiting;
      return facts.callback === "retried" ? steps.callbackRetried : steps.callback;
    case "refunded":
      return step.state === "now" ? steps.refunding : steps.refunded;
    default:
      return steps[step.name];
  }
}
