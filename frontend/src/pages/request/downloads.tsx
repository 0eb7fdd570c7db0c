import { useState } from "react";

import { useConfig } from "../../api/config";
import { Button } from "../../parts/button";
import { Panel } from "../../parts/panel";
import type { Bytes } from "../../content/cid";
import type { Drawing, ResultDocument } from "../../content/document";
import { fetchVerified } from "../../content/verify";
import { useWords } from "../../words";
import { overlayPng } from "./drawing";
import { sourcesOf } from "./sources";
import type { Shape } from "./viewer";

const EXTENSIONS: Record<string, string> = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/gif": "gif",
  "image/webp": "webp",
  "image/bmp": "bmp",
};

/** Everything that belongs to a result as files, each hashed here before it is handed out. */
export function Downloads({
  id,
  picture,
  document,
  bytes,
  shapes,
}: {
  id: string;
  picture: Blob | null;
  document: ResultDocument | null;
  bytes: Bytes | null;
  shapes: readonly Shape[] | null;
}) {
  const words = useWords().request;
  const { api, config } = useConfig();
  const [busy, setBusy] = useState<string | null>(null);
  const [failed, setFailed] = useState(false);
  const name = `sibyl-${id.slice(2, 10)}`;

  async function save(what: string, make: () => Promise<Blob> | Blob, file: string) {
    setBusy(what);
    setFailed(false);
    try {
      hand(await make(), file);
    } catch {
      setFailed(true);
    } finally {
      setBusy(null);
    }
  }

  const drawing = (file: Drawing) => async () =>
    new Blob([await fetchVerified(file.cid, sourcesOf(api.base, config), file.bytes)], { type: "image/png" });
  const button = (what: keyof typeof words.download, make: () => Promise<Blob> | Blob, extension: string) => (
    <Button small icon="download" busy={busy === what} onClick={() => void save(what, make, `${name}-${what}.${extension}`)}>
      {words.download[what]}
    </Button>
  );
  const mask = document?.files.mask;
  const labels = document?.files.labels;
  return (
    <Panel title={words.downloads}>
      <div className="row">
        {picture && button("picture", () => picture, EXTENSIONS[picture.type] ?? "bin")}
        {mask && button("mask", drawing(mask), "png")}
        {picture && document?.kind === "segmentation" && shapes && button("overlay", () => overlayPng(picture, document, shapes), "png")}
        {labels && button("labels", drawing(labels), "png")}
        {bytes && button("json", () => new Blob([bytes], { type: "application/json" }), "json")}
      </div>
      {!document && <p className="soft small">{words.downloadsLater}</p>}
      {failed && <p role="alert">{words.downloadFailed}</p>}
    </Panel>
  );
}

function hand(blob: Blob, file: string): void {
  const url = URL.createObjectURL(blob);
  const link = window.document.createElement("a");
  link.href = url;
  link.download = file;
  link.click();
  // Browsers begin to read it a moment later.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
