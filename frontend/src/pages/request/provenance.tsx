import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";

import { useConfig } from "../../api/config";
import type { Model } from "../../api/types";
import { publicClient } from "../../chain/client";
import { ether, tokenOfModel } from "../../chain/tokens";
import { Cid, Hash } from "../../parts/hash";
import { Money } from "../../parts/money";
import { Panel } from "../../parts/panel";
import type { ResultDocument } from "../../content/document";
import { plain } from "../../content/plain";
import { type Language, useLanguage, useWords } from "../../words";
import { duration } from "../../words/format";
import { linkOf } from "../history/links";
import type { Facts } from "./facts";

/** Where an answer comes from: model, weights, provider, transactions, CIDs. */
export function Provenance({
  facts,
  document,
  resultCid,
  model,
}: {
  facts: Facts;
  document: ResultDocument | null;
  resultCid: string | null;
  model: Model | null;
}) {
  const words = useWords().request;
  const { language } = useLanguage();
  const { config, api } = useConfig();
  const content = (cid: string) => api.content(cid);
  const transaction = (hash: string) => linkOf(config.explorer_url, hash);
  const name = plain(document?.model.name ?? (facts.modelName || (model?.name ?? "")), 80);
  const manifest = document?.model.manifest ?? model?.manifest_cid ?? "";
  const weights = document?.model.weightsSha256 ?? model?.weights_sha256 ?? "";
  const provider = document?.provider.id ?? facts.provider;
  const providerName = plain(facts.providerName, 40);
  const rows: (readonly [string, ReactNode])[] = [];
  if (facts.model !== null)
    rows.push([words.model, name ? `${name} · ${words.modelNumber(facts.model)}` : words.modelNumber(facts.model)]);
  if (manifest) rows.push([words.manifest, <Cid key="m" value={manifest} what={words.manifest} href={content(manifest)} />]);
  if (weights) rows.push([words.weights, <Hash key="w" value={weights} what={words.weights} />]);
  if (provider || providerName)
    rows.push([
      words.provider,
      <span key="p" className="row">
        {providerName}
        {/^0x[0-9a-fA-F]+$/.test(provider) ? (
          <Hash value={provider} what={words.provider} />
        ) : (
          plain(provider, 40) !== providerName && plain(provider, 40)
        )}
      </span>,
    ]);
  if (document?.provider.engine) rows.push([words.engine, plain(document.provider.engine, 60)]);
  if (document?.seconds != null)
    rows.push([words.took, words.tookBatch(brief(document.seconds, language), document.batch ?? 1)]);
  if (facts.transaction)
    rows.push([words.asked, <Hash key="t" value={facts.transaction} what={words.asked} {...transaction(facts.transaction)} />]);
  if (facts.reportTransaction)
    rows.push([
      words.reported,
      <Hash key="r" value={facts.reportTransaction} what={words.reported} {...transaction(facts.reportTransaction)} />,
    ]);
  if (resultCid) rows.push([words.result, <Cid key="c" value={resultCid} what={words.result} href={content(resultCid)} />]);
  if (facts.imageCid)
    rows.push([words.pictureCid, <Cid key="i" value={facts.imageCid} what={words.pictureCid} href={content(facts.imageCid)} />]);
  if (facts.requester) rows.push([words.requester, <Hash key="a" value={facts.requester} what={words.requester} />]);
  if (facts.payment !== null) rows.push([words.paid, <Paid key="$" facts={facts} model={model} />]);
  if (facts.callbackGas > 0) rows.push([words.callbackGas, facts.callbackGas.toLocaleString(language)]);
  const registered = model && document && model.manifest_cid !== document.model.manifest;
  return (
    <Panel title={words.provenance}>
      <dl className="request-rows">
        {rows.map(([term, value]) => (
          <div key={term}>
            <dt className="soft">{term}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {registered && <p className="small request-warning">{words.manifestDiffers}</p>}
    </Panel>
  );
}

/** Digits take milliseconds, which "0 s" would not say. */
function brief(seconds: number, language: Language): string {
  return seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : duration(seconds, language);
}

function Paid({ facts: { payment, token, model: number }, model }: { facts: Facts; model: Model | null }) {
  const words = useWords().request;
  const { config } = useConfig();
  const priced = token === undefined ? model?.token : token;
  const told =
    priced === null
      ? ether(config)
      : typeof model?.token_decimals !== "number"
        ? undefined
        : { symbol: plain(model.token_symbol, 12), decimals: model.token_decimals };
  const read = useQuery({
    ...tokenOfModel(publicClient(config), config, number ?? 0),
    enabled: told === undefined && number !== null,
  });
  if (payment === null) return null;
  const currency = told ?? read.data;
  if (currency) return <Money value={payment} symbol={currency.symbol} decimals={currency.decimals} />;
  return <span>{words.parts(payment.toString(), priced ?? "?")}</span>;
}
