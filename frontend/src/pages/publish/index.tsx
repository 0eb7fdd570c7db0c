import { useEffect, useRef, useState } from "react";

import { useConfig } from "../../api/config";
import { Button, Icon, type IconName, LiveRegion, Panel, StaleNote } from "../../parts";
import { useLanguage, useWords } from "../../words";
import { type Check, type Checked, runChecks, UNTOUCHED } from "./checks";
import { type Chosen, FilesPanel } from "./files";
import { MyModels } from "./mine";
import { PricePanel } from "./price-panel";

import "./publish.css";

const NONE: Chosen = { manifest: null, weights: null, labels: null };

export default function PublishPage() {
  const { api, down } = useConfig();
  const words = useWords();
  const said = words.publish;
  const { language } = useLanguage();
  const [chosen, setChosen] = useState(NONE);
  const [checks, setChecks] = useState<Check[]>(UNTOUCHED);
  const [checked, setChecked] = useState<Checked | null>(null);
  const [running, setRunning] = useState(false);
  const current = useRef<AbortController | null>(null);
  useEffect(() => () => current.current?.abort(), []);

  const choose = (change: Partial<Chosen>) => {
    // What was checked were other files.
    current.current?.abort();
    current.current = null;
    setChosen((before) => ({ ...before, ...change }));
    setChecks(UNTOUCHED);
    setChecked(null);
    setRunning(false);
  };
  const { manifest, weights, labels } = chosen;
  const run = async () => {
    if (!manifest || !weights) return;
    const abort = new AbortController();
    current.current = abort;
    setRunning(true);
    setChecked(null);
    const result = await runChecks({ manifest, weights, labels }, api, words, language, setChecks, abort.signal);
    if (abort.signal.aborted) return;
    setChecked(result);
    setRunning(false);
  };
  const failed = checks.some((check) => check.state === "bad");

  return (
    <div className="stack">
      <header className="stack publish-head">
        <h1>{words.common.pages.publish}</h1>
        <p className="soft">{said.lead}</p>
      </header>
      {down && <StaleNote>{said.apiDown}</StaleNote>}
      <div className="publish">
        <div className="stack">
          <FilesPanel chosen={chosen} choose={choose} />
          <Panel title={said.checks.title}>
            <p className="soft">{said.checks.text}</p>
            <ol className="checks">
              {checks.map((check) => (
                <CheckLine key={check.name} check={check} />
              ))}
            </ol>
            <div className="row">
              <Button
                kind={checked ? "normal" : "primary"}
                busy={running}
                disabled={!manifest || !weights || down}
                onClick={() => void run()}
              >
                {running ? said.checks.running : checked || failed ? said.checks.again : said.checks.run}
              </Button>
              {checked && <span>{said.checks.ready}</span>}
              {failed && <span>{said.checks.stopped}</span>}
            </div>
            <LiveRegion>{checked ? said.checks.ready : failed ? said.checks.stopped : undefined}</LiveRegion>
          </Panel>
          <PricePanel checked={checked} />
        </div>
        <MyModels />
      </div>
    </div>
  );
}

const ICONS: Record<Check["state"], IconName> = { waiting: "clock", running: "clock", good: "check", bad: "alert" };

function CheckLine({ check }: { check: Check }) {
  const said = useWords().publish.checks;
  return (
    <li className={`check check-${check.state}`}>
      <Icon name={ICONS[check.state]} />
      <div>
        <span>{said.names[check.name]}</span>
        <span className="visually-hidden">: {said.states[check.state]}</span>
        {check.text && <p className="small check-text">{check.text}</p>}
      </div>
    </li>
  );
}
