import { useEffect, useRef, useState } from "react";

import { useConfig } from "../../api/config";
import type { Model } from "../../api/types";
import { ANSWER_SECONDS, type AskStep } from "../../chain/ask";
import { type Cost, useCost } from "../../chain/cost";
import { explain } from "../../chain/errors";
import { isStuck } from "../../chain/follow";
import { type AskState, isRunning, type useAsk } from "../../chain/use-ask";
import { Bone, Button, ErrorNote, Hash, Icon, LiveRegion, Panel, Skeleton, Toggle } from "../../parts";
import { go, href } from "../../router";
import { useWallet } from "../../wallet/use-wallet";
import { useLanguage, useWords } from "../../words";
import { amount, duration } from "../../words/format";
import type { Chosen } from "./use-picture";

/** Price, fee and total in one line; then the one next step. */
export function PayPanel({
  asking,
  model,
  chosen,
  provider,
}: {
  asking: ReturnType<typeof useAsk>;
  model: Model | null;
  chosen: Chosen;
  provider: string | null;
}) {
  const words = useWords();
  const of = words.ask.pay;
  const { language } = useLanguage();
  const { config, down } = useConfig();
  const wallet = useWallet();
  const [wantsBalance, setWantsBalance] = useState(false);
  const { state, start, reset } = asking;
  const priced = useCost(model, wallet.address, wantsBalance);
  const { cost } = priced;
  const fromBalance = wantsBalance && cost !== undefined && cost.balance >= cost.price && cost.price > 0n;
  const running = isRunning(state);

  useEffect(() => {
    if (state.step === "done" && !state.resumed) go({ page: "request", id: state.id });
  }, [state]);

  const picture =
    chosen.kind === "file"
      ? ({ kind: "file", blob: chosen.prepared.blob, name: chosen.prepared.name } as const)
      : chosen.kind === "cid"
        ? ({ kind: "cid", cid: chosen.cid } as const)
        : null;
  const missing = cost ? missingOf(cost) : null;
  const obstacle = !model
    ? of.noModel
    : !model.active
      ? of.retired
      : model.problem
        ? of.problem
        : !picture
          ? of.noPicture
          : down && picture.kind === "file"
            ? of.needsApi
            : null;

  function said(value: bigint, decimals: number, symbol: string, digits?: number): string {
    return `${amount(value, decimals, digits, language)} ${symbol}`;
  }

  function missingOf({ missing: lacks, price, symbol, decimals, fee, total }: Cost): string | null {
    if (lacks.token > 0n) {
      return of.missing(said(lacks.token, decimals, symbol), said(price, decimals, symbol));
    }
    if (lacks.ether === 0n) return null;
    const ether = (value: bigint) => said(value, config.currency.decimals, config.currency.symbol, 3);
    return of.missing(ether(lacks.ether), ether(total ?? fee ?? 0n));
  }

  // What was pressed goes away; the focus stays with what becomes of it.
  const news = useRef<HTMLDivElement>(null);
  function leave() {
    news.current?.focus();
    reset();
  }

  function pay() {
    if (!model || !picture || !cost) return;
    news.current?.focus();
    start({ model, picture, provider, fromBalance, price: cost.price });
  }

  return (
    <Panel title={of.title} className="ask-pay">
      {model && !cost && !priced.error && (
        <Skeleton>
          <Bone width="80%" height="1.4em" />
        </Skeleton>
      )}
      {model && !cost && priced.error !== null && (
        <ErrorNote error={priced.error} action={<Button onClick={priced.retry}>{words.common.tryAgain}</Button>} />
      )}
      {cost && <Line cost={cost} fromBalance={fromBalance} />}
      {cost && cost.balance >= cost.price && cost.balance > 0n && cost.price > 0n && (
        <Toggle checked={wantsBalance} disabled={running} onChange={setWantsBalance}>
          {of.fromBalance(`${amount(cost.balance, cost.decimals, 6, language, "down")} ${cost.symbol}`)}
        </Toggle>
      )}
      {missing && wallet.right && !running && <ErrorNote quiet text={missing} />}
      <div ref={news} className="ask-news" tabIndex={-1} role="group" aria-label={of.progress}>
        <Ended state={state} chose={provider !== null} onReset={leave} />
        {running && <Steps state={state} onStop={leave} />}
      </div>
      {!running && (
        <div className="ask-next">
          {!wallet.address ? (
            <Button kind="primary" icon="wallet" className="ask-button" busy={wallet.returning} onClick={wallet.connect}>
              {of.connect}
            </Button>
          ) : wallet.wrong ? (
            <Button kind="primary" className="ask-button" busy={wallet.mending} onClick={wallet.mend}>
              {words.wallet.switchTo(config.chain_name)}
            </Button>
          ) : (
            <Button
              kind="primary"
              className="ask-button"
              disabled={obstacle !== null || missing !== null || !cost || state.step === "done"}
              onClick={pay}
            >
              {cost ? of.button(owed(cost, fromBalance)) : of.loading}
            </Button>
          )}
          <p className="soft small">
            {!wallet.address
              ? of.connectText
              : (obstacle ?? of.deadline(duration(ANSWER_SECONDS + config.cancel_window, language)))}
          </p>
        </div>
      )}
    </Panel>
  );

  function owed({ price, symbol, decimals, total }: Cost, balance: boolean): string {
    if (total !== null && !balance) return said(total, decimals, symbol, 3);
    return said(price, decimals, symbol);
  }
}

function Line({ cost, fromBalance }: { cost: Cost; fromBalance: boolean }) {
  const words = useWords();
  const of = words.ask.pay;
  const { language } = useLanguage();
  const { config } = useConfig();
  const { symbol, decimals } = config.currency;
  const price =
    cost.price === 0n ? words.common.free : `${amount(cost.price, cost.decimals, 6, language)}\u00a0${cost.symbol}`;
  const fee = cost.fee === null ? null : amount(cost.fee, decimals, 2, language);
  if (fee === null) return <p className="ask-line">{of.feeUnknown(price)}</p>;
  if (cost.total !== null && !fromBalance) {
    // Said in one coin, the unit once at the end is enough.
    return <p className="ask-line">{of.line(price, fee, `${amount(cost.total, decimals, 3, language)}\u00a0${symbol}`)}</p>;
  }
  const line = fromBalance ? of.balanceLine : of.tokenLine;
  return <p className="ask-line">{line(price, `${fee}\u00a0${symbol}`)}</p>;
}

/** What is done, what is being done, what is to come. */
function Steps({ state, onStop }: { state: Extract<AskState, { steps: readonly AskStep[] }>; onStop: () => void }) {
  const words = useWords();
  const of = words.ask.pay;
  const now = state.steps.indexOf(state.step);
  const note = state.note && state.note !== "waiting" ? words.wallet.transaction.notes[state.note] : null;
  const stuck = isStuck(state.note);
  const mining = state.step === "mining";
  return (
    <div className="stack">
      <ol className="ask-steps" aria-label={of.progress}>
        {state.steps.map((step, index) => (
          <li
            key={step}
            className={index < now ? "ask-step-done" : index === now ? "ask-step-now" : undefined}
            aria-current={index === now ? "step" : undefined}
          >
            <span className="ask-step-mark" aria-hidden="true">
              {index < now && <Icon name="check" size={14} />}
            </span>
            <span>{of.steps[step]}</span>
            {index === now && state.hash && <Hash value={state.hash} what={words.wallet.transaction.hash} />}
          </li>
        ))}
      </ol>
      {note && <ErrorNote quiet={!stuck} text={note} />}
      <div className="row">
        {(!mining || stuck) && <Button onClick={onStop}>{stuck ? of.startOver : of.cancel}</Button>}
        {mining && <span className="soft small">{of.followed}</span>}
      </div>
      <LiveRegion>{`${of.steps[state.step]}. ${note ?? ""}`}</LiveRegion>
    </div>
  );
}

function Ended({ state, chose, onReset }: { state: AskState; chose: boolean; onReset: () => void }) {
  const words = useWords();
  const of = words.ask.pay;
  const { config } = useConfig();
  switch (state.step) {
    case "done":
      return state.resumed ? (
        <ErrorNote
          quiet
          title={of.resumed}
          action={
            <>
              <a className="button button-primary" href={href({ page: "request", id: state.id })}>
                {of.openRequest}
              </a>
              <Button onClick={onReset}>{words.common.close}</Button>
            </>
          }
        />
      ) : (
        <p role="status">{of.done}</p>
      );
    case "cancelled":
    case "replaced":
      return <ErrorNote quiet {...words.wallet.transaction.ends[state.step]} />;
    case "failed": {
      const told = explain(state.error, words, config.chain_name);
      return <ErrorNote {...told} {...(state.at === "choosing" && chose ? { remedy: of.orBest } : {})} />;
    }
    default:
      return null;
  }
}
