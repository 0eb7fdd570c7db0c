import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { getAddress, isAddress, parseEventLogs, zeroAddress } from "viem";

import { useConfig } from "../../api/config";
import { coordinatorAbi } from "../../chain/abi";
import { calls, useTransaction } from "../../chain/actions";
import { publicClient } from "../../chain/client";
import { parseCid } from "../../content/cid";
import { Button, Field, Money, Panel } from "../../parts";
import { href } from "../../router";
import { TransactionLine } from "../../wallet/transaction-line";
import { useWallet } from "../../wallet/use-wallet";
import { useLanguage, useWords } from "../../words";
import { percent } from "../../words/format";
import { ether, readToken } from "../../chain/tokens";
import type { Checked } from "./checks";
import { parsePrice, whyNot } from "./price";

/** Price, currency and payout account; then one transaction. */
export function PricePanel({ checked, published }: { checked: Checked | null; published: () => void }) {
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
  // The same manifest is not published again by a second press: that would be another model, for another fee.
  const [last, setLast] = useState<string | null>(null);
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
  const tokenAddress = inToken && isAddress(tokenText.trim(), { strict: false }) ? getAddress(tokenText.trim()) : null;
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
  const payoutRight = isAddress(payout.trim(), { strict: false });
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
    const bytes = checked && bytesOf(checked.manifestCid);
    if (!bytes || !("price" in priced) || !currency || tokenWrong || !payoutRight || !terms.data) return;
    const receipt = await run(
      calls.publishModel(bytes, priced.price, currency.address, getAddress(payout.trim()), terms.data.fee),
    );
    if (!receipt) return;
    setLast(checked.manifestCid);
    published();
  };
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
            error={tokenText !== "" && tokenWrong}
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
          <Button kind="primary" busy={running} disabled={!checked || checked.manifestCid === last} onClick={() => void publish()}>
            {said.publish}
          </Button>
        )}
        {!checked && wallet.right && <span className="soft">{said.notReady}</span>}
      </div>
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

/** The bytes of a CID as the contract takes them. */
function bytesOf(cid: string): `0x${string}` {
  const { bytes } = parseCid(cid);
  return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
