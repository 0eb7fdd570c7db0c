import { useState } from "react";

import { useConfig } from "../../api/config";
import { useModels } from "../../api/models";
import { isRunning, useAsk } from "../../chain/ask";
import { useWords } from "../../words";
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
  const [modelId, setModelId] = useState<number | null>(config.default_model);
  const [provider, setProvider] = useState<string | null>(null);

  const offered = models.models?.filter((model) => model.active) ?? [];
  const model = offered.find((one) => one.id === modelId) ?? offered[0] ?? null;
  const locked = isRunning(asking.state);

  return (
    <>
      <h1 className="ask-title">{words.title}</h1>
      <div className="ask">
        <PicturePanel picture={picture} locked={locked} />
        <div className="ask-choices">
          <ModelPanel
            models={models}
            chosen={model}
            locked={locked}
            onChoose={(one) => setModelId(one.id)}
            onExample={(one) => {
              setModelId(one.id);
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
