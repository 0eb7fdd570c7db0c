import { useState } from "react";
import type { Hex } from "viem";
import { useConnection } from "wagmi";

import { useConfig } from "../../api/config";
import { TERMINAL } from "../../api/types";
import { type CoordinatorCall, calls, useTransaction } from "../../chain/actions";
import type { ChainRequest } from "../../chain/requests";
import { useNow } from "../../parts/age";
import { Button } from "../../parts/button";
import { TransactionLine } from "../../wallet/transaction-line";
import { WithWallet } from "../../wallet/with-wallet";
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
  const { state, running, run } = useTransaction();
  const [done, setDone] = useState<string>();
  const clock = useNow();
  // The contract goes by its blocks; a chain of tests may be far ahead of the clock.
  const now = Math.max(clock, facts.chainTime ?? 0);
  const asking = chain?.asking ?? null;
  const pending = chain ? chain.status === "Pending" : !TERMINAL.has(facts.status);
  const overdue = pending && facts.deadline !== null && now > facts.deadline;
  const left = asking && config.cancel_window > 0 ? asking.at + config.cancel_window - now : 0;
  const mine = address !== undefined && address.toLowerCase() === facts.requester?.toLowerCase();

  async function act(call: CoordinatorCall, ended: string) {
    setDone(ended);
    await run(call);
    onDone();
  }

  const button = (label: string, call: CoordinatorCall | null, ended: string, primary = false) => (
    <WithWallet>
      <div className="row">
        <Button
          kind={primary ? "primary" : "normal"}
          busy={running}
          disabled={call === null}
          onClick={() => call && void act(call, ended)}
        >
          {label}
        </Button>
      </div>
    </WithWallet>
  );

  return (
    <>
      {overdue ? (
        <section className="request-act" aria-label={words.refundTitle}>
          <strong>{words.refundTitle}</strong>
          <p>{words.refundText[facts.paidTo === "balance" ? "balance" : "either"]}</p>
          {button(words.refund, calls.refund(facts.id as Hex), words.given, true)}
        </section>
      ) : chain?.status === "CallbackFailed" ? (
        <section className="request-act" aria-label={words.steps.callbackFailed}>
          <p>{words.retryText}</p>
          {button(words.retry, retryCall(chain), words.called)}
        </section>
      ) : pending && asking && left > 0 && mine ? (
        <section className="request-act" aria-label={common.cancel}>
          <p>{words.cancelText}</p>
          {button(words.cancel(duration(left, language)), calls.cancel(termsOf(asking)), words.given)}
        </section>
      ) : (
        pending &&
        facts.deadline !== null && (
          <p className="soft small">{words.refundable(ago(now - facts.deadline, language, common.now))}</p>
        )
      )}
      <TransactionLine state={state} done={done} />
    </>
  );
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
