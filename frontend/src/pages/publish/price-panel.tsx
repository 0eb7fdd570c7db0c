import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { getAddress, isAddress, parseEventLogs, toHex, zeroAddress } from "viem";

import { useConfig } from "../../api/config";
import { coordinatorAbi } from "../../chain/abi";
import { calls, useTransaction } from "../../chain/actions";
import { publicClient } from "../../chain/client";
import { RefusedInBlock } from "../../chain/errors";
import { parseCid } from "../../content/cid";
import { Button, ErrorNote, Field, Money, Panel } from "../../parts";
import { href } from "../../router";
import { storage } from "../../storage";
import { TransactionLine } from "../../wallet/transaction-line";
import { useWallet } from "../../wallet/use-wallet";
import { useLanguage, useWords } from "../../words";
import { percent } from "../../words/format";
import { ether, readToken } from "../../chain/tokens";
import type { Checked } from "./checks";
import { MY_MODELS } from "./mine";
import { parsePrice, understood, whyNot } from "./price";

/** Price, currency and payout account; then one transaction. */
export function PricePanel({ checked }: { checked: Checked | null }) {
  const { config } = useConfig();
  const words = useWords();
  const said = words.publish.price;
  const { language } = useLanguage();
  const wallet = useWallet();
  const client = publicClient(config);
  const { state, running, run } = useTransaction();
  const [amount, setAmount] = useState("0.0001");
  const [inToken, setInToken] = useState(false);
  const [tokenText, setTokenText] = useState("");
  const [payoutText, setPayoutText] = useState<string | null>(null);
  const queries = useQueryClient();
  // The same manifest is not published again by a second press, nor after leaving: that would be another model, for
  // another fee.
  const key = `published.${config.chain_id}.${config.coordinator}`;
  const [last, setLast] = useState(() => storage.get(key));
  const remember = (cid: string | null) => {
    setLast(cid);
    if (cid === null) storage.remove(key);
    else storage.set(key, cid);
  };
  const [tried, setTried] = useState(false);

  const terms = useQuery({
    queryKey: ["publishing terms", config.chain_id, config.coordinator],
    queryFn: async () => {
      const of = { address: config.coordinator, abi: coordinatorAbi } as const;
      const [fee, share] = await Promise.all([
        client.readContract({ ...of, functionName: "publishingFee" }),
        client.readContract({ ...of, functionName: "publisherShare" }),
      ]);
      return { fee, share };
    },
    staleTime: 30_000,
  });
  const tokenAddress = inToken && isAddress(tokenText.trim()) ? getAddress(tokenText.trim()) : null;
  const token = useQuery({
    queryKey: ["token", config.chain_id, tokenAddress],
    queryFn: () => readToken(client, tokenAddress ?? zeroAddress),
    enabled: tokenAddress !== null,
    retry: 0,
    staleTime: Infinity,
  });
  const currency = inToken ? (tokenAddress ? token.data : undefined) : ether(config);
  const decimals = currency?.decimals ?? 18;
  const priced = parsePrice(amount, decimals);
  const payout = payoutText ?? wallet.address ?? "";
  const payoutRight = isAddress(payout.trim());
  const amountWrong = whyNot(priced, said, currency?.symbol ?? "");
  const tokenWrong = inToken
    ? tokenAddress === null
      ? said.addressWrong
      : token.isError || (token.data && token.data.decimals > 18)
        ? said.tokenWrong
        : null
    : null;

  const publish = async () => {
    setTried(true);
    if (!checked || !("price" in priced) || !currency || tokenWrong || !payoutRight || !terms.data) return;
    const { manifestCid } = checked;
    const manifest = toHex(parseCid(manifestCid).bytes);
    const receipt = await run(
      calls.publishModel(manifest, priced.price, currency.address, getAddress(payout.trim()), terms.data.fee),
      () => remember(manifestCid),
    );
    if (receipt) await queries.invalidateQueries({ queryKey: [MY_MODELS] });
  };
  const undone =
    state.step === "cancelled" ||
    state.step === "replaced" ||
    (state.step === "failed" && state.error instanceof RefusedInBlock);
  const sent = checked !== null && checked.manifestCid === last && !undone;
  const number =
    state.step === "done"
      ? parseEventLogs({ abi: coordinatorAbi, eventName: "ModelPublished", logs: state.receipt.logs }).find(
          (log) => log.address.toLowerCase() === config.coordinator.toLowerCase(),
        )?.args.modelId
      : undefined;

  return (
    <Panel title={said.title}>
      <div className="publish-price">
        <Field
          label={said.amount}
          hint={terms.data && said.amountHint(percent(Number(terms.data.share) / 10_000, language))}
          error={amountWrong}
        >
          {(props) => (
            <input
              {...props}
              className="input"
              inputMode="decimal"
              autoComplete="off"
              value={amount}
              onChange={(event) => setAmount(event.target.value)}
            />
          )}
        </Field>
        <Field label={said.currency}>
          {(props) => (
            <select
              {...props}
              className="input"
              value={inToken ? "token" : "coin"}
              onChange={(event) => setInToken(event.target.value === "token")}
            >
              <option value="coin">{config.currency.symbol}</option>
              <option value="token">{said.token}</option>
            </select>
          )}
        </Field>
        {inToken && (
          <Field
            label={said.tokenAddress}
            hint={token.data && `${token.data.symbol}, ${token.data.decimals}`}
            error={(tried || tokenText !== "") && tokenWrong}
          >
            {(props) => <AddressInput props={props} value={tokenText} change={setTokenText} />}
          </Field>
        )}
        <Field
          label={said.payout}
          hint={said.payoutHint}
          error={(tried || payoutText !== null) && !payoutRight && said.addressWrong}
        >
          {(props) => <AddressInput props={props} value={payout} change={setPayoutText} />}
        </Field>
      </div>
      <p className="soft">{said.permanent}</p>
      {terms.isError && !terms.data && (
        <ErrorNote
          error={terms.error}
          action={
            <Button icon="retry" busy={terms.isFetching} onClick={() => void terms.refetch()}>
              {words.common.tryAgain}
            </Button>
          }
        />
      )}
      {currency && <p>{understood(priced, said, currency, language)}</p>}
      {terms.data && (
        <p>
          {said.fee}:{" "}
          <Money value={terms.data.fee} symbol={config.currency.symbol} decimals={config.currency.decimals} freeWord />
        </p>
      )}
      <div className="row">
        {wallet.address === null ? (
          <Button kind="primary" icon="wallet" onClick={wallet.connect}>
            {said.connect}
          </Button>
        ) : wallet.wrong ? (
          <Button kind="primary" busy={wallet.mending} onClick={wallet.mend}>
            {words.wallet.switchTo(config.chain_name)}
          </Button>
        ) : (
          <Button
            kind="primary"
            busy={running || (tokenAddress !== null && token.isPending)}
            disabled={!checked || !terms.data || sent}
            onClick={() => void publish()}
          >
            {said.publish}
          </Button>
        )}
        {!checked && wallet.right && <span className="soft">{said.notReady}</span>}
      </div>
      {sent && !running && state.step !== "done" && (
        <ErrorNote quiet text={said.sent} action={<Button onClick={() => remember(null)}>{said.again}</Button>} />
      )}
      <TransactionLine state={state} {...(number === undefined ? {} : { done: said.done(String(number)) })} />
      {number !== undefined && (
        <p>
          <a href={href({ page: "ask" })}>{said.ask}</a>
        </p>
      )}
    </Panel>
  );
}

function AddressInput({
  props,
  value,
  change,
}: {
  props: { id: string; "aria-describedby": string | undefined; "aria-invalid": true | undefined };
  value: string;
  change: (value: string) => void;
}) {
  return (
    <input
      {...props}
      className="input mono"
      autoComplete="off"
      spellCheck={false}
      value={value}
      onChange={(event) => change(event.target.value)}
    />
  );
}
