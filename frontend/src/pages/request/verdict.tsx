import type { ReactNode } from "react";

import { Button } from "../../parts/button";
import { Icon } from "../../parts/icon";
import { plain } from "../../content/plain";
import { useWords, type Words } from "../../words";
import type { Watching } from "./use-request";
import type { Result } from "./use-result";

export interface Judgement {
  tone: "good" | "busy" | "warning" | "bad";
  title: string;
  text: string;
  remedy?: string;
  details?: string;
}

/** What can be said of a result, in words. "Verified" needs the chain's own word and every byte hashed here. */
export function judge(
  words: Words["request"],
  { claim, refuted, missing, checked, testimony }: Omit<Result, "retry">,
  { chainState, through, isBound }: {
    chainState: Watching["chainState"];
    /** Host of the endpoint that the chain is read through. */
    through: string;
    /** The API's policy decides whom the page may ask. */
    isBound: boolean;
  },
): Judgement {
  const { notVerified, why } = words;
  if (refuted) return { tone: "bad", title: notVerified.refuted, text: why.refuted };
  if (missing) return { tone: "warning", title: notVerified[missing], text: why[missing] };
  if (testimony === "differs")
    return { tone: "bad", title: notVerified.endpoints, text: why.endpoints(through), remedy: why.endpointsHow };
  if (claim === null || checked === null) return { tone: "busy", title: words.checking, text: "" };
  switch (checked.kind) {
    case "wrong-bytes":
      return {
        tone: "bad",
        title: notVerified.wrong,
        text: why.wrong(checked.liars.map((name) => plain(name)).join(", ")),
        remedy: isBound ? why.wrongBound : why.wrongHow,
      };
    case "disagrees":
      return { tone: "bad", title: notVerified.disagrees, text: why.disagrees };
    case "other-model":
      return { tone: "bad", title: notVerified.otherModel, text: why.otherModel };
    case "malformed":
      return { tone: "bad", title: notVerified.malformed, text: why.malformed, details: plain(checked.why) };
    case "unavailable":
      return { tone: "warning", title: notVerified.unavailable, text: why.unavailable, details: plain(checked.why, 400) };
    case "document": {
      if (claim.by === "api") {
        const text = chainState === "no-rpc" ? why.noRpc : chainState === "failed" ? why.chainDown : why.lags;
        const remedy = chainState === "no-rpc" && !isBound ? { remedy: why.noRpcHow } : {};
        return { tone: "warning", title: notVerified.api, text, ...remedy };
      }
      if (testimony === "asking") return { tone: "busy", title: words.askingWallet, text: "" };
      if (testimony === "lags") return { tone: "warning", title: notVerified.walletLags, text: why.walletLags(through) };
      const liars = checked.liars.length > 0 ? ` ${words.liars(checked.liars.map((name) => plain(name)).join(", "))}` : "";
      const by = claim.by === "contract" ? ` ${words.verifiedByContract}` : "";
      const read = testimony === "agrees" ? words.readThroughTwo(through) : words.readThrough(through);
      return { tone: "good", title: words.verified, text: `${words.verifiedText} ${read}${by}${liars}` };
    }
  }
}

const ICONS = { good: "shield", busy: "clock", warning: "alert", bad: "alert" } as const;

export function Verdict({ judgement, onRetry }: { judgement: Judgement; onRetry?: (() => void) | undefined }) {
  const words = useWords().common;
  const { tone, title, text, remedy, details } = judgement;
  const body: ReactNode = (
    <>
      {text && <p className={tone === "good" ? "small soft" : undefined}>{text}</p>}
      {remedy && <p>{remedy}</p>}
      {details && (
        <details>
          <summary>{words.details}</summary>
          <p className="mono">{details}</p>
        </details>
      )}
      {onRetry && (tone === "bad" || tone === "warning") && (
        <div className="row">
          <Button small icon="retry" onClick={onRetry}>
            {words.tryAgain}
          </Button>
        </div>
      )}
    </>
  );
  return (
    <div className={`request-verdict request-verdict-${tone}`} role={tone === "bad" ? "alert" : undefined}>
      <Icon name={ICONS[tone]} />
      <div className="request-verdict-body">
        <strong>{title}</strong>
        {body}
      </div>
    </div>
  );
}
