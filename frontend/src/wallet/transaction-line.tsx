import type { ReactNode } from "react";

import { useConfig } from "../api/config";
import type { TransactionState } from "../chain/actions";
import { explain } from "../chain/errors";
import { ErrorNote } from "../parts/error-note";
import { Hash } from "../parts/hash";
import { Icon } from "../parts/icon";
import { LiveRegion } from "../parts/live-region";
import { useWords } from "../words";

/** One line for one transaction: what is waited for, or how it ended. Empty while idle. */
export function TransactionLine({ state, done }: { state: TransactionState; done?: ReactNode }) {
  const words = useWords();
  const { config } = useConfig();
  const of = words.wallet.transaction;
  switch (state.step) {
    case "idle":
      return null;
    case "simulating":
    case "signing":
    case "mining": {
      const text = of[state.step];
      const note = state.note && state.note !== "waiting" ? of.notes[state.note] : null;
      return (
        <div className="stack">
          <p className="row">
            <Icon name="clock" />
            <span>{text}</span>
            {state.hash && <Hash value={state.hash} what={of.hash} />}
          </p>
          {note && <ErrorNote quiet text={note} />}
          <LiveRegion>{`${text}. ${note ?? ""}`}</LiveRegion>
        </div>
      );
    }
    case "done":
      return (
        <p className="row" role="status">
          <Icon name="check" />
          <span>{done ?? of.done(Number(state.receipt.blockNumber))}</span>
          <Hash value={state.receipt.transactionHash} what={of.hash} />
        </p>
      );
    case "cancelled":
    case "replaced":
      return <ErrorNote quiet title={of.ends[state.step].title} text={of.ends[state.step].text} />;
    case "failed":
      return <ErrorNote {...explain(state.error, words, config.chain_name)} />;
  }
}
