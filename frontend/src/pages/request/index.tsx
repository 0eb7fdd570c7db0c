import { useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { isServedByApi, rpcUrl, useConfig } from "../../api/config";
import type { Hex } from "../../api/types";
import { Button } from "../../parts/button";
import { copy } from "../../parts/copy-button";
import { Empty } from "../../parts/empty";
import { ErrorNote, StaleNote } from "../../parts/error-note";
import { Hash } from "../../parts/hash";
import { LiveRegion } from "../../parts/live-region";
import { Panel } from "../../parts/panel";
import { Bone, Skeleton } from "../../parts/skeleton";
import { Status } from "../../parts/status";
import { plain } from "../../content/plain";
import { href } from "../../router";
import { useWords } from "../../words";
import { AnswerPanel } from "./answer";
import { answerOf } from "./check";
import { Downloads } from "./downloads";
import type { Facts } from "./facts";
import { Found, useShapes } from "./found";
import { MoneyBack } from "./money-back";
import { Provenance } from "./provenance";
import { Timeline } from "./timeline";
import { type Picture, usePicture, useResult } from "./use-result";
import { useRequest, type Watching } from "./use-request";
import { judge, Verdict } from "./verdict";
import { Viewer } from "./viewer";

import "./request.css";

const SHARED_MS = 3_000;

/** One request, from its id alone: what became of it, what was answered, and whether that can be believed. */
export default function RequestPage({ id }: { id: string }) {
  const watching = useRequest(id);
  return (
    <div className="stack request">
      <Heading id={id} facts={watching.facts} />
      <Notices watching={watching} />
      {watching.facts ? <Known id={id} facts={watching.facts} watching={watching} /> : <NotKnown watching={watching} />}
    </div>
  );
}

function Heading({ id, facts }: { id: string; facts: Facts | null }) {
  const words = useWords().request;
  const [shared, setShared] = useState(false);
  useEffect(() => {
    if (!shared) return;
    const timer = setTimeout(() => setShared(false), SHARED_MS);
    return () => clearTimeout(timer);
  }, [shared]);
  async function share() {
    const url = location.href;
    const touched = typeof navigator.share === "function" && matchMedia("(pointer: coarse)").matches;
    // Declining to share is no fault.
    if (touched) await navigator.share({ url }).catch(() => undefined);
    else setShared(await copy(url));
  }
  return (
    <header className="request-head">
      <h1>{words.title}</h1>
      <Hash value={id} what={words.id} />
      {facts && <Status value={facts.status} />}
      <span className="request-share">
        <Button small kind="plain" icon={shared ? "check" : "share"} onClick={() => void share()}>
          {shared ? words.shared : words.share}
        </Button>
        <LiveRegion>{shared ? words.shared : ""}</LiveRegion>
      </span>
    </header>
  );
}

/** Who does not answer, and who contradicts whom. */
function Notices({ watching: { facts, view, chain, api, chainState } }: { watching: Watching }) {
  const words = useWords().request;
  if (facts === null) return null;
  const asking = chain?.asking;
  const differs =
    view !== null &&
    asking != null &&
    (asking.model !== view.model || asking.imageCid !== view.image_cid || asking.payment.toString() !== view.payment);
  return (
    <>
      {api === "down" && chainState === "read" && !isOver(facts) && <StaleNote>{words.apiDown}</StaleNote>}
      {api === "down" && view === null && chainState === "read" && isOver(facts) && <StaleNote>{words.apiDown}</StaleNote>}
      {chainState === "failed" && <StaleNote>{words.chainDown}</StaleNote>}
      {chainState === "no-rpc" && !isOver(facts) && <StaleNote>{words.noRpc}</StaleNote>}
      {facts.status === "orphaned" && <StaleNote>{words.orphaned}</StaleNote>}
      {differs && <StaleNote>{words.differs}</StaleNote>}
    </>
  );
}

function isOver({ status }: Facts): boolean {
  return ["fulfilled", "rejected", "refunded", "cancelled"].includes(status);
}

function NotKnown({ watching: { api, chainState, refresh } }: { watching: Watching }) {
  const words = useWords();
  const said = words.request;
  const answered = api === "waiting" || chainState === "read";
  const asking = api === "loading" || chainState === "loading";
  // One of them may still know it, unless both have spoken.
  if (asking && !(chainState === "read" && api !== "loading")) return <Loading />;
  if (answered) {
    return (
      <Empty
        title={said.unknownTitle}
        icon="search"
        action={
          <div className="row">
            <a className="button" href={href({ page: "history" })}>
              {said.toHistory}
            </a>
          </div>
        }
      >
        <p>{chainState === "read" ? said.unknownText : said.unknownApiText}</p>
        <p>{said.unknownHow}</p>
      </Empty>
    );
  }
  return (
    <ErrorNote
      title={said.failedTitle}
      text={said.failedText}
      remedy={chainState === "no-rpc" ? words.common.noRpc : words.common.chainRemedy}
      action={
        <Button icon="retry" onClick={refresh}>
          {words.common.tryAgain}
        </Button>
      }
    />
  );
}

function Loading() {
  return (
    <div className="request-columns">
      <Panel label={useWords().request.picture}>
        <Skeleton>
          <Bone height="min(60vh, 420px)" />
        </Skeleton>
      </Panel>
      <div className="stack">
        <Panel label={useWords().request.answer}>
          <Skeleton lines={3} />
        </Panel>
        <Panel label={useWords().request.timeline}>
          <Skeleton lines={6} />
        </Panel>
      </div>
    </div>
  );
}

function Known({ id, facts, watching }: { id: string; facts: Facts; watching: Watching }) {
  const words = useWords().request;
  const { api, config } = useConfig();
  const said = useResult(id as Hex, watching);
  // Of what two endpoints contradict each other about, nothing is shown.
  const { claim, checked } = said.testimony === "differs" ? { claim: null, checked: null } : said;
  const picture = usePicture(facts.imageCid);
  const model = useQuery({
    queryKey: ["model", api.base, facts.model],
    queryFn: ({ signal }) => api.model(facts.model ?? 0, signal),
    enabled: facts.model !== null,
    staleTime: 60_000,
  });
  const [hidden, setHidden] = useState<ReadonlySet<number>>(new Set());
  const [active, setActive] = useState<number | null>(null);

  const untold = facts.imageCid === null && watching.api !== "loading" && watching.chainState !== "loading";
  const answered = facts.status === "fulfilled";
  const endpoint = rpcUrl(config);
  const through = endpoint ? new URL(endpoint).host : words.yourWallet;
  const document = checked?.kind === "document" ? checked.document : null;
  const bytes = checked?.kind === "document" ? checked.bytes : null;
  const result = document?.kind === "segmentation" ? document : null;
  const shapes = useShapes(result, hidden);
  const terms = { chainState: watching.chainState, through, isBound: isServedByApi(api.base) };
  const judgement = answered && (said.claim || said.refuted || said.missing) ? judge(words, said, terms) : null;
  // What the chain itself says stays true when nobody delivers the result, or a false one.
  const onChain = claim && claim.by !== "api" && checked && !document ? answerOf(claim) : null;
  const size = result ? { width: result.width, height: result.height } : (watching.view?.image ?? null);

  return (
    <div className="request-columns">
      <div className="stack">
        <Panel label={words.picture} className="request-picture">
          <Viewer
            picture={picture.blob}
            size={size}
            shapes={shapes}
            active={active}
            onActive={setActive}
            missing={<Missing state={untold ? "untold" : picture.state} liars={picture.liars} />}
          />
          {result && shapes && (
            <Found result={result} shapes={shapes} active={active} onActive={setActive} onHidden={setHidden} />
          )}
        </Panel>
      </div>
      <div className="stack">
        <AnswerPanel
          facts={facts}
          document={document}
          onChain={onChain}
          usual={model.data?.usual_seconds ?? null}
          verdict={
            judgement && (
              <>
                <Verdict judgement={judgement} onRetry={said.checked || said.missing ? said.retry : undefined} />
                {claim?.apiDiffers && <StaleNote>{words.differs}</StaleNote>}
              </>
            )
          }
          actions={<MoneyBack facts={facts} chain={watching.chain} onDone={watching.refresh} />}
        />
        <Timeline facts={facts} />
        <Provenance facts={facts} document={document} resultCid={claim?.resultCid ?? null} model={model.data ?? null} />
        <Downloads id={id} picture={picture.blob} document={document} bytes={bytes} shapes={shapes} />
        <LiveRegion>{judgement?.title}</LiveRegion>
      </div>
    </div>
  );
}

function Missing({ state, liars }: { state: Picture["state"] | "untold"; liars: readonly string[] }) {
  const words = useWords().request;
  if (state === "untold") return <Empty title={words.pictureUntold}>{words.pictureUntoldText}</Empty>;
  if (state === "missing") return <Empty title={words.pictureMissing}>{words.pictureMissingText}</Empty>;
  if (state === "wrong") {
    return (
      <Empty title={words.pictureWrong} icon="alert">
        {words.pictureWrongText(liars.map((name) => plain(name)).join(", "))}
      </Empty>
    );
  }
  return (
    <Skeleton>
      <Bone width="min(60vw, 320px)" height="200px" />
    </Skeleton>
  );
}
