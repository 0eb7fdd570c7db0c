import { isStuck } from "../../chain/follow";
import { isOutOfSight, type Pending, type usePending } from "../../chain/pending";
import { Button, Hash, Icon, Panel } from "../../parts";
import { href } from "../../router";
import { TransactionLine } from "../../wallet/transaction-line";
import { useWords } from "../../words";

/** What was paid on earlier visits and has not been seen to its end. */
export function EarlierPanel({ earlier }: { earlier: ReturnType<typeof usePending> }) {
  const { list, take, drop } = earlier;
  const words = useWords();
  if (list.length === 0) return null;
  return (
    <Panel title={words.ask.pay.earlier} className="ask-earlier">
      <ul className="stack">
        {list.map(({ watched, state }) => (
          <li key={watched.hash} className="row">
            <Line watched={watched} state={state} />
            {isOutOfSight(state) && <Button onClick={() => take(watched)}>{words.common.tryAgain}</Button>}
            {(state.step !== "mining" || isStuck(state.note)) && (
              <Button onClick={() => drop(watched.hash)}>{words.common.close}</Button>
            )}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function Line({ watched, state }: Pending) {
  const words = useWords();
  if (state.step !== "done") return <TransactionLine state={state} />;
  return (
    <>
      <p className="row" role="status">
        <Icon name="check" />
        <span>{words.ask.pay.resumed}</span>
        <Hash value={watched.hash} what={words.wallet.transaction.hash} />
      </p>
      <a className="button button-primary" href={href({ page: "request", id: state.id })}>
        {words.ask.pay.openRequest}
      </a>
    </>
  );
}
