import { useState } from "react";

import { useConfig } from "../../api/config";
import { type Models, useModels } from "../../api/models";
import type { Model } from "../../api/types";
import { isRunning, useAsk } from "../../chain/use-ask";
import { useWords } from "../../words";
import { EarlierPanel } from "./earlier-panel";
import { ModelPanel } from "./model-panel";
import { PayPanel } from "./pay-panel";
import { PicturePanel } from "./picture-panel";
import { ProviderPanel } from "./provider-panel";
import { usePicture } from "./use-picture";

import "./ask.css";

export default function AskPage() {
  const words = useWords().ask;
  const { api, config } = useConfig();
  const models = useModels();
  const picture = usePicture();
  const asking = useAsk();
  const [chosen, setChosen] = useState<Model | null>(null);
  const [provider, setProvider] = useState<string | null>(null);

  const model = chosen ? asItIsNow(chosen, models) : firstOf(models, config.default_model);
  const locked = isRunning(asking.state);

  return (
    <>
      <h1 className="ask-title">{words.title}</h1>
      <EarlierPanel earlier={asking.earlier} />
      <div className="ask">
        <PicturePanel picture={picture} locked={locked} />
        <div className="ask-choices">
          <ModelPanel
            models={models}
            chosen={model}
            locked={locked}
            onChoose={setChosen}
            onExample={(one) => {
              setChosen(one);
              picture.takeWork(async (signal) => {
                const blob = await api.example(one.id, signal);
                return new File([blob], words.picture.example(one.name), { type: blob.type });
              });
            }}
          />
          <ProviderPanel chosen={provider} onChoose={setProvider} locked={locked} />
          <PayPanel asking={asking} model={model} chosen={picture.chosen} provider={provider} />
        </div>
      </div>
    </>
  );
}

/** What is chosen before anybody has chosen: the default one, else the first, of those that can be run. */
function firstOf({ models }: Models, wanted: number | null): Model | null {
  const fit = models?.filter((model) => model.active && !model.problem) ?? [];
  return fit.find((model) => model.id === wanted) ?? fit[0] ?? null;
}

/** A choice stays until another is made. Where the API no longer names the model, it takes no requests. */
function asItIsNow(chosen: Model, { models, source }: Models): Model {
  const now = models?.find((model) => model.id === chosen.id);
  if (now) return now;
  return models && source === "api" ? { ...chosen, active: false } : chosen;
}
