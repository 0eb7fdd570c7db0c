import { useQuery } from "@tanstack/react-query";

import { useConfig } from "../../api/config";
import type { Models } from "../../api/models";
import type { Model } from "../../api/types";
import { publicClient } from "../../chain/client";
import { tokenOfModel } from "../../chain/tokens";
import { plain } from "../../content/plain";
import { BlobImage, Bone, Button, Empty, ErrorNote, Icon, Money, Panel, Skeleton, StaleNote } from "../../parts";
import { useLanguage, useWords } from "../../words";
import { duration, shorten } from "../../words/format";

/** Models by picture, task, price and the time they usually take. */
export function ModelPanel({
  models,
  chosen,
  onChoose,
  onExample,
  locked,
}: {
  models: Models;
  chosen: Model | null;
  onChoose: (model: Model) => void;
  onExample: (model: Model) => void;
  locked: boolean;
}) {
  const words = useWords();
  const of = words.ask.model;
  const offered = models.models?.filter((model) => model.active || model.id === chosen?.id);
  if (offered && chosen && !offered.some((model) => model.id === chosen.id)) offered.push(chosen);
  return (
    <Panel title={of.title}>
      {models.source === "chain" && <StaleNote>{of.fromChain}</StaleNote>}
      {models.error !== null && !offered && (
        <ErrorNote error={models.error} action={<Button onClick={models.retry}>{words.common.tryAgain}</Button>} />
      )}
      {models.loading && !offered && (
        <Skeleton>
          <div className="ask-models">
            <Bone height="124px" />
            <Bone height="124px" />
          </div>
        </Skeleton>
      )}
      {offered?.length === 0 && (
        <Empty
          title={of.none}
          action={
            <a className="button" href="#/publish">
              {of.publish}
            </a>
          }
        >
          {of.noneText}
        </Empty>
      )}
      {offered && offered.length > 0 && (
        <fieldset className="ask-models" disabled={locked}>
          <legend className="visually-hidden">{of.label}</legend>
          {offered.map((model) => (
            <Card
              key={model.id}
              model={model}
              chosen={model.id === chosen?.id}
              onChoose={() => onChoose(model)}
              onExample={() => onExample(model)}
            />
          ))}
        </fieldset>
      )}
    </Panel>
  );
}

function Card({
  model,
  chosen,
  onChoose,
  onExample,
}: {
  model: Model;
  chosen: boolean;
  onChoose: () => void;
  onExample: () => void;
}) {
  const of = useWords().ask.model;
  const { language } = useLanguage();
  const tasks: Partial<Record<string, string>> = of.tasks;
  const name = plain(model.name, 60);
  return (
    <div className={chosen ? "ask-model ask-model-chosen" : "ask-model"}>
      <label className="ask-model-label">
        <input type="radio" name="model" value={model.id} checked={chosen} onChange={onChoose} />
        <Example model={model} />
        <span className="ask-model-text">
          <strong>{name}</strong>
          <span className="small">{tasks[model.task] ?? plain(model.task, 40)}</span>
          <span className="small soft">
            <Price model={model} />
            {" · "}
            {model.usual_seconds === null ? of.noSeconds : of.seconds(duration(model.usual_seconds, language))}
          </span>
          {(!model.active || model.problem) && (
            <span className="small ask-model-problem">{model.active ? of.problem : of.retired}</span>
          )}
        </span>
      </label>
      {model.description && <p className="small soft ask-model-description">{plain(model.description, 160)}</p>}
      {model.example && (
        <Button small className="ask-model-example" aria-label={of.tryExampleOf(name)} onClick={onExample}>
          {of.tryExample}
        </Button>
      )}
    </div>
  );
}

function Example({ model }: { model: Model }) {
  const { api } = useConfig();
  const example = useQuery({
    queryKey: ["example", api.base, model.id, model.manifest_cid],
    queryFn: ({ signal }) => api.example(model.id, signal),
    enabled: model.example,
    staleTime: Infinity,
    retry: 0,
  });
  return (
    <span className="ask-model-picture">
      {example.data ? <BlobImage blob={example.data} alt="" width={72} height={72} /> : <Icon name="picture" size={28} />}
    </span>
  );
}

/** What an answer costs. A token that the API could not read in full is read from the chain, never taken for ether. */
function Price({ model }: { model: Model }) {
  const words = useWords();
  const { config } = useConfig();
  const stated = model.token === null ? config.currency.decimals : model.token_decimals;
  const read = useQuery({ ...tokenOfModel(publicClient(config), config, model.id), enabled: typeof stated !== "number" });
  if (typeof stated === "number") {
    const symbol = model.token === null ? config.currency.symbol : plain(model.token_symbol, 12);
    return <Money value={model.price} symbol={symbol} decimals={stated} freeWord />;
  }
  if (read.data) {
    return <Money value={model.price} symbol={read.data.symbol} decimals={read.data.decimals} freeWord />;
  }
  return <span>{words.request.parts(model.price, shorten(model.token ?? ""))}</span>;
}
