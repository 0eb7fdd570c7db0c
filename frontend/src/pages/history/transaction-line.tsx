import { useConfig } from "../../api/config";
import type { TransactionState } from "../../chain/actions";
import { explain } from "../../chain/errors";
import { Dot, ErrorNote, Hash } from "../../parts";
import { useWords } from "../../words";

import "./transaction-line.css";

/** How one transaction stands, in one line; a failure as a note. Nothing while there is none. */
export function TransactionLine({ state, done }: { state: TransactionState; done?: string }) {
  const { config } = useConfig();
  const words = useWords();
  if (state.step === "idle") return null;
  if (state.step === "failed") {
    const { quiet, ...told } = explain(state.error, words, config.chain_name);
    return <ErrorNote quiet={quiet} {...told} />;
  }
  return (
    <p className="row transaction-line" role="status">
      <Line state={state} done={done} />
    </p>
  );
}

function Line({ state, done }: { state: TransactionState; done: string | undefined }) {
  const { config } = useConfig();
  const said = useWords().history.transaction;
  switch (state.step) {
    case "idle":
    case "failed":
      return null;
    case "simulating":
    case "signing":
      return <Dot tone="busy">{said[state.step]}</Dot>;
    case "mining": {
      const note = { stale: said.slow, lost: said.lost, repriced: said.repriced, waiting: said.mining };
      const tone = state.note === "stale" || state.note === "lost" ? "warning" : "busy";
      return (
        <>
          <Dot tone={tone}>{note[state.note ?? "waiting"]}</Dot>
          {state.hash && <Hash value={state.hash} what={said.hash} {...linkOf(config.explorer_url, state.hash)} />}
        </>
      );
    }
    case "done":
      return (
        <>
          <Dot tone="good">{[done, said.done(String(state.receipt.blockNumber))].filter(Boolean).join(" ")}</Dot>
          <Hash
            value={state.receipt.transactionHash}
            what={said.hash}
            {...linkOf(config.explorer_url, state.receipt.transactionHash)}
          />
        </>
      );
    case "cancelled":
    case "replaced":
      return <Dot tone="quiet">{said[state.step]}</Dot>;
  }
}

/** Where an explorer shows a transaction, when one is known. */
export function linkOf(explorer: string | null, hash: string): { href?: string } {
  if (!explorer || !/^https?:\/\//.test(explorer)) return {};
  return { href: `${explorer.replace(/\/+$/, "")}/tx/${hash}` };
}
