import { useQuery } from "@tanstack/react-query";

import { useConfig } from "../../api/config";
import type { Provider } from "../../api/types";
import { plain } from "../../content/plain";
import { Panel, Skeleton } from "../../parts";
import { useLanguage, useWords } from "../../words";
import { glm, percent, shorten } from "../../words/format";

/** Who computes: the best, or one of a list. */
export function ProviderPanel({
  chosen,
  onChoose,
  locked,
}: {
  chosen: string | null;
  onChoose: (id: string | null) => void;
  locked: boolean;
}) {
  const words = useWords();
  const of = words.ask.provider;
  const { api, config } = useConfig();
  const providers = useQuery({
    queryKey: ["providers", api.base],
    queryFn: ({ signal }) => api.providers(signal),
    enabled: config.backend !== "local",
    refetchInterval: 30_000,
  });
  const silent = providers.isError || providers.failureCount > 0;
  const known = providers.data?.items ?? [];
  const wished = known.find(({ id }) => id === chosen);
  return (
    <Panel title={of.title}>
      <fieldset className="ask-providers" disabled={locked}>
        <legend className="visually-hidden">{of.title}</legend>
        <label className="ask-provider">
          <input type="radio" name="provider" checked={chosen === null} onChange={() => onChoose(null)} />
          <span>
            <strong>{of.best}</strong>
            <span className="small soft">{config.backend === "local" ? of.local : of.bestText}</span>
          </span>
        </label>
        {config.backend !== "local" && providers.isPending && !silent && <Skeleton lines={2} />}
        {silent && known.length === 0 && <p className="small soft">{of.failed}</p>}
        {providers.data && known.length === 0 && <p className="small soft">{of.none}</p>}
        {known.length > 0 && (
          <details className="ask-provider-list">
            <summary>
              <span>{of.more(known.length)}</span>
              {wished && <span className="soft"> · {nameOf(wished)}</span>}
            </summary>
            {known.map((provider) => (
              <Choice
                key={provider.id}
                provider={provider}
                chosen={chosen === provider.id}
                onChoose={() => onChoose(provider.id)}
              />
            ))}
          </details>
        )}
      </fieldset>
    </Panel>
  );
}

function Choice({ provider, chosen, onChoose }: { provider: Provider; chosen: boolean; onChoose: () => void }) {
  const of = useWords().ask.provider;
  const { language } = useLanguage();
  const blocked = provider.standing === "blocked";
  const facts = [
    provider.picture_glm !== null && of.price(glm(provider.picture_glm, language)),
    provider.images_per_second !== null &&
      of.speed(provider.images_per_second.toLocaleString(language, { maximumSignificantDigits: 3 })),
    of.reputation(percent(provider.reputation, language, 0)),
    blocked && of.blocked,
  ].filter((fact) => fact !== false);
  return (
    <label className="ask-provider">
      <input type="radio" name="provider" checked={chosen} disabled={blocked} onChange={onChoose} />
      <span>
        <strong>{nameOf(provider)}</strong>
        <span className="small soft">{facts.join(" · ")}</span>
      </span>
    </label>
  );
}

function nameOf(provider: Provider): string {
  return plain(provider.name, 40) || shorten(provider.id);
}
