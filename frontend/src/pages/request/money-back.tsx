import type { Hex } from "viem";
import { useConnection } from "wagmi";

import { useConfig } from "../../api/config";
import { type CoordinatorCall, calls, type TransactionState, useTransaction } from "../../chain/actions";
import { explain } from "../../chain/errors";
import { isStuck } from "../../chain/follow";
import type { ChainRequest } from "../../chain/requests";
import { useNow } from "../../parts/age";
import { Button } from "../../parts/button";
import { ErrorNote, StaleNote } from "../../parts/error-note";
import { useLanguage, useWords } from "../../words";
import { ago, duration } from "../../words/format";
import type { Facts } from "./facts";

/** What its requester or anyone can do about a request: cancel it, take the money back, call the contract again. */
export function MoneyBack({ facts, chain, onDone }: { facts: Facts; chain: ChainRequest | null; onDone: () => void }) {
  const words = useWords().request;
  const common = useWords().common;
  const { language } = useLanguage();
  const { config } = useConfig();
  const { address } = useConnection();
  const { state, running, run, reset } = useTransaction();
  const clock = useNow();
  // The contract goes by its blocks; a chain of tests may be far ahead of the clock.
  const now = Math.max(clock, facts.chainTime ?? 0);
  const asking = chain?.asking ?? null;
  const pending = chain ? chain.status === "Pending" : !["fulfilled", "rejected", "refunded", "cancelled"].includes(facts.status);
  const overdue = pending && facts.deadline !== null && now > facts.deadline;
  const left = asking && config.cancel_window > 0 ? asking.at + config.cancel_window - now : 0;
  const mine = address !== undefined && address.toLowerCase() === facts.requester?.toLowerCase();

  async function act(call: CoordinatorCall) {
    await run(call);
    onDone();
  }

  const button = (label: string, call: CoordinatorCall | null, primary = false) => (
    <div className="row">
      <Button
        kind={primary ? "primary" : "normal"}
        busy={running}
        disabled={address === undefined || call === null}
        onClick={() => call && void act(call)}
      >
        {running ? words.working[state.step as keyof typeof words.working] : label}
      </Button>
      {address === undefined && <span className="soft small">{words.needWallet}</span>}
    </div>
  );

  if (overdue) {
    return (
      <section className="request-act" aria-label={words.refundTitle}>
        <strong>{words.refundTitle}</strong>
        <p>{words.refundText}</p>
        {button(words.refund, calls.refund(facts.id as Hex), true)}
        <Told state={state} onReset={reset} />
      </section>
    );
  }
  if (chain?.status === "CallbackFailed") {
    return (
      <section className="request-act" aria-label={words.steps.callbackFailed}>
        <p>{words.retryText}</p>
        {button(words.retry, retryCall(chain))}
        <Told state={state} onReset={reset} />
      </section>
    );
  }
  if (pending && asking && left > 0 && mine) {
    return (
      <section className="request-act" aria-label={common.cancel}>
        <p>{words.cancelText}</p>
        {button(words.cancel(duration(left, language)), calls.cancel(termsOf(asking)))}
        <Told state={state} onReset={reset} />
      </section>
    );
  }
  return (
    <>
      {pending && facts.deadline !== null && (
        <p className="soft small">{words.refundable(ago(now - facts.deadline, language, common.now))}</p>
      )}
      <Told state={state} onReset={reset} />
    </>
  );
}

function Told({ state, onReset }: { state: TransactionState; onReset: () => void }) {
  const words = useWords();
  const { config } = useConfig();
  const said = words.request;
  if (state.step === "mining" && isStuck(state.note))
    return <StaleNote>{words.wallet.transaction.notes[state.note]}</StaleNote>;
  if (state.step === "cancelled" || state.step === "replaced")
    return <ErrorNote quiet text={said.replaced} action={<Button onClick={onReset}>{words.common.tryAgain}</Button>} />;
  if (state.step === "failed") {
    const { title, text, remedy, details, quiet } = explain(state.error, words, config.chain_name);
    return <ErrorNote quiet={quiet} title={title} text={text} remedy={remedy} details={details} />;
  }
  return null;
}

type Asking = NonNullable<ChainRequest["asking"]>;

function termsOf(asking: Asking) {
  return {
    nonce: asking.nonce,
    modelId: BigInt(asking.model),
    imageCid: asking.imageCidBytes,
    payment: asking.payment,
    callbackGas: asking.callbackGas,
    deadline: BigInt(asking.deadline),
    createdAt: BigInt(asking.at),
  };
}

function retryCall({ asking, settling }: ChainRequest): CoordinatorCall | null {
  if (!asking || !settling?.resultCidBytes || !settling.answer) return null;
  return {
    functionName: "retryCallback",
    args: [asking.requester, termsOf(asking), settling.resultCidBytes, settling.answer],
  };
}
