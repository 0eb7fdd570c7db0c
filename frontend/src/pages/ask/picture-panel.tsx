import { type DragEvent, type Ref, type SyntheticEvent, useEffect, useRef, useState } from "react";

import { useConfig } from "../../api/config";
import type { Change } from "../../content/picture";
import { BlobImage, Button, ErrorNote, Field, Hash, Icon, LiveRegion, Panel, Toggle } from "../../parts";
import { useLanguage, useWords, type Words } from "../../words";
import { byteSize } from "../../words/format";
import { usePicture } from "../request/use-result";
import { CameraDialog, hasCamera } from "./camera-dialog";
import type { Picture } from "./use-picture";

/** The picture: how it gets here, what it looks like, what was done to it. */
export function PicturePanel({ picture, locked }: { picture: Picture; locked: boolean }) {
  const words = useWords().ask.picture;
  const { language } = useLanguage();
  const { config } = useConfig();
  const [over, setOver] = useState(false);
  const file = useRef<HTMLInputElement>(null);
  const camera = useRef<HTMLInputElement>(null);
  const [filming, setFilming] = useState(false);
  const chooser = useRef<HTMLButtonElement>(null);
  const { chosen, takeFile, takeText } = picture;

  useEffect(() => {
    if (locked) return;
    function paste(event: ClipboardEvent) {
      const [pasted] = [...(event.clipboardData?.files ?? [])].filter((one) => one.type.startsWith("image/"));
      if (pasted) {
        event.preventDefault();
        takeFile(pasted);
      }
    }
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, [locked, takeFile]);

  function drop(event: DragEvent) {
    event.preventDefault();
    setOver(false);
    if (locked) return;
    const [dropped] = event.dataTransfer.files;
    if (dropped) takeFile(dropped);
    else if (event.dataTransfer.getData("text/uri-list")) takeText(event.dataTransfer.getData("text/uri-list"));
  }

  const filled = chosen.kind === "file" || chosen.kind === "cid";
  const formats = config.limits.formats.join(", ");
  return (
    <Panel title={words.title} className="ask-picture">
      {/* eslint-disable-next-line jsx-a11y/no-static-element-interactions -- dropping is beside the button that chooses */}
      <div
        className={over ? "ask-drop ask-drop-over" : filled ? "ask-drop ask-drop-filled" : "ask-drop"}
        onDragOver={(event) => {
          event.preventDefault();
          if (!locked) setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        <Shown picture={picture} />
        {!filled && chosen.kind !== "working" && (
          <div className="ask-invite">
            <Icon name="picture" size={36} />
            <strong>{over ? words.dropNow : words.drop}</strong>
            <span className="soft small">{words.formats(formats, byteSize(config.limits.image_bytes, language))}</span>
          </div>
        )}
        <div className="row ask-picture-buttons">
          <Button
            ref={chooser}
            kind={filled ? "normal" : "primary"}
            icon="upload"
            disabled={locked}
            onClick={() => file.current?.click()}
          >
            {filled ? words.another : words.choose}
          </Button>
          <Button className="ask-camera" icon="camera" disabled={locked} onClick={() => camera.current?.click()}>
            {words.camera}
          </Button>
          {hasCamera() && (
            <Button className="ask-webcam" icon="camera" disabled={locked} onClick={() => setFilming(true)}>
              {words.webcam}
            </Button>
          )}
          {filled && (
            <Button
              kind="plain"
              icon="cross"
              disabled={locked}
              onClick={() => {
                picture.clear();
                chooser.current?.focus(); // this button goes with the picture
              }}
            >
              {words.remove}
            </Button>
          )}
        </div>
        <FileInput ref={file} onFile={takeFile} />
        <FileInput ref={camera} camera onFile={takeFile} />
        {filming && !locked && <CameraDialog onPhoto={takeFile} onClose={() => setFilming(false)} />}
      </div>
      <Changes picture={picture} locked={locked} />
      <LinkForm onText={takeText} locked={locked} busy={chosen.kind === "working" && chosen.what === "fetching"} />
      <p className="soft small">{words.publicNote}</p>
      <LiveRegion>{chosen.kind === "working" ? words[chosen.what] : undefined}</LiveRegion>
    </Panel>
  );
}

function FileInput({
  ref,
  camera = false,
  onFile,
}: {
  ref: Ref<HTMLInputElement>;
  camera?: boolean;
  onFile: (file: Blob) => void;
}) {
  const words = useWords().ask.picture;
  return (
    <input
      ref={ref}
      type="file"
      hidden
      accept="image/*"
      aria-label={camera ? words.camera : words.choose}
      {...(camera ? { capture: "environment" } : {})}
      onChange={(event) => {
        const [picked] = event.target.files ?? [];
        if (picked) onFile(picked);
        // So that the same file can be chosen again after it was changed.
        event.target.value = "";
      }}
    />
  );
}

function Shown({ picture }: { picture: Picture }) {
  const words = useWords();
  const { language } = useLanguage();
  const { chosen } = picture;
  const of = words.ask.picture;
  switch (chosen.kind) {
    case "none":
      return null;
    case "working":
      return (
        <div className="ask-working">
          <span className="bone ask-bone" />
          <span className="soft">{of[chosen.what]} …</span>
        </div>
      );
    case "file": {
      const { prepared } = chosen;
      const small = prepared.width < 200 && prepared.height < 200;
      return (
        <figure className="ask-figure">
          <BlobImage
            blob={prepared.blob}
            className={small ? "ask-preview ask-preview-small" : "ask-preview"}
            alt={of.alt(prepared.name)}
          />
          <figcaption className="soft small">
            {of.facts(prepared.width, prepared.height, prepared.format, byteSize(prepared.blob.size, language))}
          </figcaption>
        </figure>
      );
    }
    case "cid":
      return <ByCid cid={chosen.cid} />;
    case "fault":
      return <ErrorNote {...of.faults[chosen.fault]} />;
    case "failed":
      return <ErrorNote error={chosen.error} />;
  }
}

/** A picture that is named by its CID. What is shown was hashed here first. */
function ByCid({ cid }: { cid: string }) {
  const words = useWords().ask.picture;
  const { state, blob } = usePicture(cid);
  const shown = blob?.type.startsWith("image/") ? blob : null;
  return (
    <figure className="ask-figure">
      {state === "loading" && <span className="bone ask-bone" />}
      {shown && <BlobImage blob={shown} className="ask-preview" alt={words.cid} />}
      {state !== "loading" && !shown && (
        <p className="soft">{state === "wrong" ? words.wrongBytes : words.noPreview}</p>
      )}
      <figcaption className="soft small">
        {words.cid} <Hash value={cid} what="CID" />
      </figcaption>
    </figure>
  );
}

function Changes({ picture, locked }: { picture: Picture; locked: boolean }) {
  const words = useWords();
  const { language } = useLanguage();
  const { chosen } = picture;
  const [kept, setKept] = useState<Blob | null>(null);
  if (chosen.kind !== "file") return null;
  const { changes, original } = chosen.prepared;
  const withPlace = changes.some((change) => change.kind === "place-removed") || kept === original;
  if (changes.length === 0 && !withPlace) return null;
  const resized = changes.some((change) => change.kind === "resized" || change.kind === "compressed");
  return (
    <div className="note note-quiet" role="status">
      <Icon name="info" />
      <div className="note-body">
        {changes.length > 0 && <strong>{words.ask.picture.changed}</strong>}
        <ul>
          {changes.map((change) => (
            <li key={change.kind}>{said(change, resized, words, language)}</li>
          ))}
        </ul>
        {withPlace && (
          <Toggle
            checked={kept === original}
            disabled={locked}
            onChange={(keep) => {
              setKept(keep ? original : null);
              picture.keepHidden(keep);
            }}
          >
            {words.ask.picture.keepHidden}
          </Toggle>
        )}
      </div>
    </div>
  );
}

function said(change: Change, resized: boolean, words: Words, language: "en" | "de"): string {
  const of = words.ask.picture.changes;
  switch (change.kind) {
    case "resized":
      return of.resized(change.from.join(" × "), change.to.join(" × "));
    case "format":
      return (resized ? of.formatSmaller : of.format)(change.from, change.to);
    case "compressed":
      return of.compressed(byteSize(change.from, language), byteSize(change.to, language));
    case "first-frame":
    case "place-removed":
      return of[change.kind];
  }
}

function LinkForm({ onText, locked, busy }: { onText: (text: string) => void; locked: boolean; busy: boolean }) {
  const words = useWords().ask.picture;
  const [text, setText] = useState("");
  function submit(event: SyntheticEvent) {
    event.preventDefault();
    if (text.trim() && !locked && !busy) onText(text.trim());
  }
  return (
    <form onSubmit={submit} noValidate>
      <Field label={words.link} hint={words.linkHint}>
        {(props) => (
          <span className="ask-link">
            <input
              {...props}
              className="input"
              value={text}
              disabled={locked}
              autoComplete="off"
              autoCapitalize="off"
              spellCheck={false}
              placeholder="https://… · bafy…"
              onChange={(event) => setText(event.target.value)}
            />
            <Button type="submit" busy={busy} disabled={locked || !text.trim()}>
              {words.use}
            </Button>
          </span>
        )}
      </Field>
    </form>
  );
}
