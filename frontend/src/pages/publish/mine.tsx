import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { type Address, formatUnits, type PublicClient, zeroAddress } from "viem";

import { useConfig } from "../../api/config";
import { useModels } from "../../api/models";
import type { Config } from "../../api/types";
import { coordinatorAbi } from "../../chain/abi";
import { calls, type CoordinatorCall, useTransaction } from "../../chain/actions";
import { publicClient } from "../../chain/client";
import { identity } from "../../chain/wagmi";
import { cidText } from "../../content/cid";
import { plain } from "../../content/plain";
import { Button, Cid, Dot, Empty, ErrorNote, Field, Money, Panel, Skeleton, StaleNote } from "../../parts";
import { TransactionLine } from "../../wallet/transaction-line";
import { useWallet } from "../../wallet/use-wallet";
import { useLanguage, useWords } from "../../words";
import { percent } from "../../words/format";
import { ether, readToken, type Token } from "../../chain/tokens";
import { parsePrice, understood, whyNot } from "./price";

const AT_ONCE = 10;
const MOST = 1_000; // newest models that are looked through

interface Mine {
  id: number;
  publisher: Address;
  payout: Address;
  token: Token;
  active: boolean;
  price: bigint;
  share: number;
  manifestCid: string | null;
  earned: bigint;
}

interface Found {
  /** How many models the contract has; those of them that are the account's, the newest first. */
  count: number;
  models: Mine[];
}

/**
 * Models that the account published or earns from, as the contract knows them. Neither changes, so each model is looked
 * through once: what was found `before` is read anew, and of the others only those that came since.
 */
export async function readMine(client: PublicClient, config: Config, account: Address, before?: Found): Promise<Found> {
  const of = { address: config.coordinator, abi: coordinatorAbi } as const;
  const count = Number(await client.readContract({ ...of, functionName: "modelCount" }));
  // Fewer than before: a local chain was started anew.
  const known = before && before.count <= count ? before : { count: 0, models: [] };
  const fresh = Array.from({ length: Math.min(count - known.count, MOST) }, (_, i) => count - i);
  const ids = [...fresh, ...known.models.map(({ id }) => id)];
  const same = (other: Address) => other.toLowerCase() === account.toLowerCase();
  const tokens = new Map<Address, Promise<Token>>();
  const models: Mine[] = [];
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const read = await Promise.all(
      ids.slice(at, at + AT_ONCE).map(async (id): Promise<Mine | null> => {
        const model = await client.readContract({ ...of, functionName: "modelOf", args: [BigInt(id)] });
        if (!same(model.publisher) && !same(model.payout)) return null;
        const token =
          tokens.get(model.token) ??
          (model.token === zeroAddress ? Promise.resolve(ether(config)) : readToken(client, model.token));
        tokens.set(model.token, token);
        return {
          id,
          publisher: model.publisher,
          payout: model.payout,
          token: await token,
          active: model.active,
          price: model.price,
          share: Number(model.publisherShare) / 10_000,
          manifestCid: cidText(model.manifestCid),
          earned: await client.readContract({ ...of, functionName: "earningsOf", args: [BigInt(id)] }),
        };
      }),
    );
    models.push(...read.filter((one) => one !== null));
  }
  return { count, models };
}

/** Begins the key of every query of somebody's models. */
export const MY_MODELS = "my models";

export function MyModels() {
  const { config } = useConfig();
  const words = useWords();
  const said = words.publish.mine;
  const { language } = useLanguage();
  const wallet = useWallet();
  const client = publicClient(config);
  const account = wallet.address;
  const queries = useQueryClient();
  const key = [MY_MODELS, identity(config), account];
  const query = useQuery({
    queryKey: key,
    queryFn: () => readMine(client, config, account ?? zeroAddress, queries.getQueryData<Found>(key)),
    enabled: account !== null,
    refetchInterval: 20_000,
  });
  const mine = query.data?.models;
  const listed = useModels(mine?.map(({ id }) => id));
  const names = new Map((listed.models ?? []).map((model) => [model.id, plain(model.name, 64)]));
  const tryAgain = (
    <Button icon="retry" busy={query.isFetching} onClick={() => void query.refetch()}>
      {words.common.tryAgain}
    </Button>
  );
  return (
    <Panel title={said.title}>
      {account === null && (
        <div className="stack">
          <p className="soft">{said.connect}</p>
          <div>
            <Button icon="wallet" busy={wallet.returning} onClick={wallet.connect}>
              {words.wallet.connect}
            </Button>
          </div>
        </div>
      )}
      {account !== null && query.isPending && <Skeleton lines={3} />}
      {query.isError && !query.data && <ErrorNote error={query.error} action={tryAgain} />}
      {query.isError && query.data && <StaleNote action={tryAgain}>{said.error}</StaleNote>}
      {query.data && query.data.count > MOST && <StaleNote>{said.cut(MOST.toLocaleString(language))}</StaleNote>}
      {mine?.length === 0 && (
        <Empty title={said.empty} icon="share">
          {said.emptyText}
        </Empty>
      )}
      {account && mine && mine.length > 0 && (
        <ul className="mine">
          {mine.map((model) => (
            <MyModel
              key={model.id}
              model={model}
              account={account}
              name={names.get(model.id) ?? ""}
              changed={() => void query.refetch()}
            />
          ))}
        </ul>
      )}
    </Panel>
  );
}

function MyModel({
  model,
  account,
  name,
  changed,
}: {
  model: Mine;
  account: Address;
  name: string;
  changed: () => void;
}) {
  const words = useWords();
  const said = words.publish.mine;
  const { language } = useLanguage();
  const { state, running, run } = useTransaction();
  const [done, setDone] = useState("");
  const [price, setPrice] = useState("");
  const same = (other: Address) => other.toLowerCase() === account.toLowerCase();
  const [isPublisher, isPayout] = [same(model.publisher), same(model.payout)];
  const { token } = model;
  const priced = parsePrice(price, token.decimals);
  const act = (call: CoordinatorCall, text: string) => {
    setDone(text);
    void run(call).then((receipt) => {
      if (receipt) changed();
    });
  };
  const wrong = price === "" ? null : whyNot(priced, words.publish.price, token.symbol);
  return (
    <li className="stack mine-model">
      <div className="row mine-head">
        <h3>{name || said.model(model.id)}</h3>
        {name && <span className="soft">{said.model(model.id)}</span>}
        <Dot tone={model.active ? "good" : "quiet"}>{model.active ? said.active : said.inactive}</Dot>
      </div>
      <dl className="mine-facts">
        <div>
          <dt>{said.earned}</dt>
          <dd className="mine-earned">
            <Money value={model.earned} symbol={token.symbol} decimals={token.decimals} held />
          </dd>
        </div>
        <div>
          <dt>{said.price}</dt>
          <dd>
            <Money value={model.price} symbol={token.symbol} decimals={token.decimals} freeWord />
          </dd>
        </div>
        <div>
          <dt>{said.share}</dt>
          <dd>{percent(model.share, language)}</dd>
        </div>
        {model.manifestCid && (
          <div>
            <dt>{words.publish.files.manifest}</dt>
            <dd>
              <Cid value={model.manifestCid} />
            </dd>
          </div>
        )}
      </dl>
      <div className="row mine-actions">
        {isPayout ? (
          <Button
            kind={model.earned > 0n ? "primary" : "normal"}
            disabled={model.earned === 0n}
            busy={running}
            onClick={() => act(calls.withdrawEarnings(model.id, account), said.withdrawn)}
          >
            {said.withdraw}
          </Button>
        ) : (
          <span className="soft">{said.onlyPayout}</span>
        )}
        {isPublisher ? (
          <Button busy={running} onClick={() => act(calls.setModelActive(model.id, !model.active), said.switched)}>
            {model.active ? said.retire : said.revive}
          </Button>
        ) : (
          <span className="soft">{said.onlyPublisher}</span>
        )}
      </div>
      {isPublisher && (
        <form
          className="mine-price"
          noValidate
          onSubmit={(event) => {
            event.preventDefault();
            if ("price" in priced) act(calls.setModelPrice(model.id, priced.price), said.repriced);
          }}
        >
          <Field
            label={`${said.newPrice} (${token.symbol})`}
            hint={understood(priced, words.publish.price, token, language)}
            error={wrong}
          >
            {(props) => (
              <input
                {...props}
                className="input"
                inputMode="decimal"
                autoComplete="off"
                placeholder={formatUnits(model.price, token.decimals)}
                value={price}
                onChange={(event) => setPrice(event.target.value)}
              />
            )}
          </Field>
          <Button type="submit" busy={running} disabled={!("price" in priced)}>
            {said.setPrice}
          </Button>
        </form>
      )}
      <TransactionLine state={state} done={done} />
    </li>
  );
}
