import { useQuery } from "@tanstack/react-query";
import type { Address } from "viem";

import { useConfig } from "../../api/config";
import { coordinatorAbi } from "../../chain/abi";
import { calls, useTransaction } from "../../chain/actions";
import { publicClient } from "../../chain/client";
import { Button, Money, Panel, StaleNote } from "../../parts";
import { TransactionLine } from "../../wallet/transaction-line";
import { WithWallet } from "../../wallet/with-wallet";
import { useWords } from "../../words";
import { amount } from "../../words/format";
import type { Token } from "../../chain/tokens";

/** What the account has at the contract, and a way to take it; nothing where there is nothing. */
export function Balances({ account, tokens }: { account: Address; tokens: readonly Token[] }) {
  const { config } = useConfig();
  const { common, history } = useWords();
  const said = history.balance;
  const client = publicClient(config);
  const { state, running, run } = useTransaction();
  const query = useQuery({
    queryKey: ["balances", config.chain_id, config.coordinator, account, tokens.map((token) => token.address)],
    queryFn: () =>
      Promise.all(
        tokens.map(async (token) => ({
          token,
          value: await client.readContract({
            address: config.coordinator,
            abi: coordinatorAbi,
            functionName: "balanceOf",
            args: [token.address, account],
          }),
        })),
      ),
    refetchInterval: 15_000,
  });
  const held = (query.data ?? []).filter((balance) => balance.value > 0n);
  if (query.isError && query.data === undefined) {
    return (
      <StaleNote
        action={
          <Button icon="retry" busy={query.isFetching} onClick={() => void query.refetch()}>
            {common.tryAgain}
          </Button>
        }
      >
        {said.error}
      </StaleNote>
    );
  }
  if (held.length === 0 && state.step === "idle") return null;
  return (
    <Panel title={said.title}>
      <p className="soft">{said.text}</p>
      <ul className="stack balances">
        {held.map(({ token, value }) => (
          <li key={token.address} className="row">
            <strong>
              <Money value={value} symbol={token.symbol} decimals={token.decimals} />
            </strong>
            <WithWallet>
              <Button
                busy={running}
                onClick={() => void run(calls.withdraw(token.address, account, value)).then(() => query.refetch())}
              >
                {said.withdraw(`${amount(value, token.decimals)} ${token.symbol}`)}
              </Button>
            </WithWallet>
          </li>
        ))}
      </ul>
      <TransactionLine state={state} done={said.done} />
    </Panel>
  );
}
