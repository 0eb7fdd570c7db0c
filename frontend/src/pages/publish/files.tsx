import { type DragEvent, useRef, useState } from "react";

import { Button, Icon, Panel } from "../../parts";
import { plain } from "../../content/plain";
import { useLanguage, useWords } from "../../words";
import { byteSize } from "../../words/format";
import { type Part, partOf } from "./manifest";

export type Chosen = Record<Part, File | null>;

const PARTS = ["manifest", "weights", "labels"] as const;

/** Takes manifest, weights and labels by drop or by choice, in any order. */
export function FilesPanel({ chosen, choose }: { chosen: Chosen; choose: (change: Partial<Chosen>) => void }) {
  const words = useWords();
  const said = words.publish.files;
  const { language } = useLanguage();
  const chooser = useRef<HTMLInputElement>(null);
  const [over, setOver] = useState(false);
  const [unknown, setUnknown] = useState<string[]>([]);

  const take = async (files: Iterable<File>) => {
    const found: Partial<Chosen> = {};
    const strange: string[] = [];
    for (const file of files) {
      const part = await partOf(file);
      if (part) found[part] = file;
      else strange.push(plain(file.name, 80));
    }
    setUnknown(strange);
    choose(found);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setOver(false);
    void take([...event.dataTransfer.files]);
  };

  return (
    <Panel title={said.title}>
      <p className="soft">{said.text}</p>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- the button inside does the same */}
      <div
        className="publish-drop"
        role="group"
        aria-label={said.title}
        data-over={over || undefined}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        <Icon name="upload" size={24} />
        <span>{said.drop}</span>
        <label className="button button-normal publish-choose">
          <input
            ref={chooser}
            type="file"
            multiple
            className="visually-hidden"
            accept=".json,.npz,.keras,.tflite,.safetensors,.txt,.csv,.labels,.names"
            onChange={(event) => {
              void take([...(event.target.files ?? [])]);
              event.target.value = ""; // the same file may be chosen again after it was changed
            }}
          />
          {said.choose}
        </label>
      </div>
      {unknown.map((name) => (
        <p key={name} className="publish-warning" role="status">
          {said.unknown(name)}
        </p>
      ))}
      <ul className="publish-files">
        {PARTS.map((part) => {
          const file = chosen[part];
          return (
            <li key={part}>
              <span className="publish-part">{said[part]}</span>
              {file ? (
                <>
                  <span className="publish-file">
                    {plain(file.name, 80)} <span className="soft">{byteSize(file.size, language)}</span>
                  </span>
                  <Button
                    kind="plain"
                    small
                    icon="cross"
                    aria-label={said.remove(plain(file.name, 80))}
                    onClick={() => {
                      choose({ [part]: null });
                      chooser.current?.focus(); // this button goes with the file
                    }}
                  />
                </>
              ) : (
                <span className="soft">{part === "labels" ? said.optional : said.missing}</span>
              )}
            </li>
          );
        })}
      </ul>
    </Panel>
  );
}
