import { useCallback, useEffect, useRef, useState } from "react";

import { useConfig } from "../../api/config";
import { formatCid, parseCid } from "../../content/cid";
import { BadPicture, type PictureFault, type Prepared, preparePicture } from "../../content/picture";

/** What stands in the picture's place. */
export type Chosen =
  | { kind: "none" }
  | { kind: "working"; what: "preparing" | "fetching" }
  | { kind: "file"; prepared: Prepared }
  | { kind: "cid"; cid: string }
  | { kind: "fault"; fault: PictureFault | "address" }
  | { kind: "failed"; error: unknown };

export interface Picture {
  chosen: Chosen;
  takeFile: (file: Blob) => void;
  /** Takes a CID or a web address. */
  takeText: (text: string) => void;
  /** Takes what the work brings, such as a model's example. */
  takeWork: (work: (signal: AbortSignal) => Promise<Blob>) => void;
  keepHidden: (keep: boolean) => void;
  clear: () => void;
}

export function usePicture(): Picture {
  const { api, config } = useConfig();
  const { limits } = config;
  const [chosen, setChosen] = useState<Chosen>({ kind: "none" });
  const current = useRef<AbortController | null>(null);

  useEffect(() => () => current.current?.abort(), []);

  /** The last wish wins: an earlier one that comes later changes nothing. */
  const take = useCallback(
    (what: "preparing" | "fetching", work: (signal: AbortSignal) => Promise<Chosen>) => {
      current.current?.abort();
      const controller = new AbortController();
      current.current = controller;
      setChosen({ kind: "working", what });
      work(controller.signal)
        .catch((error: unknown): Chosen =>
          error instanceof BadPicture ? { kind: "fault", fault: error.fault } : { kind: "failed", error },
        )
        .then((next) => {
          if (current.current === controller) setChosen(next);
        })
        .catch(() => undefined);
    },
    [],
  );

  const ready = useCallback(
    async (file: Blob, keepHidden = false): Promise<Chosen> => ({
      kind: "file",
      prepared: await preparePicture(file, limits, { keepHidden }),
    }),
    [limits],
  );

  const takeFile = useCallback((file: Blob) => take("preparing", () => ready(file)), [ready, take]);
  const takeWork = useCallback(
    (work: (signal: AbortSignal) => Promise<Blob>) => take("fetching", async (signal) => ready(await work(signal))),
    [ready, take],
  );
  const takeText = useCallback(
    (text: string) => {
      const cid = readCid(text);
      if (cid) {
        current.current?.abort();
        current.current = null;
        setChosen({ kind: "cid", cid });
        return;
      }
      const url = readUrl(text);
      if (!url) {
        setChosen({ kind: "fault", fault: "address" });
        return;
      }
      take("fetching", async (signal) => ({ kind: "cid", cid: (await api.uploadUrl(url, signal)).cid }));
    },
    [api, take],
  );
  const keepHidden = useCallback(
    (keep: boolean) => {
      if (chosen.kind === "file") take("preparing", () => ready(chosen.prepared.original, keep));
    },
    [chosen, ready, take],
  );
  const clear = useCallback(() => {
    current.current?.abort();
    current.current = null;
    setChosen({ kind: "none" });
  }, []);

  return { chosen, takeFile, takeText, takeWork, keepHidden, clear };
}

/** The CID in what was written or pasted, also where it is the path of a gateway's address. */
export function readCid(text: string): string | null {
  const path = /\/ipfs\/([A-Za-z0-9]+)\/?(?:[?#].*)?$/.exec(text.trim())?.[1];
  for (const one of [text, path]) {
    if (one === undefined) continue;
    try {
      return formatCid(parseCid(one));
    } catch {
      // Not one; perhaps a web address.
    }
  }
  return null;
}

export function readUrl(text: string): string | null {
  try {
    const url = new URL(text.trim());
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}
