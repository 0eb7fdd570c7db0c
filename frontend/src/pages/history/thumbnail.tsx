import { useEffect, useRef, useState } from "react";

import { useConfig } from "../../api/config";
import type { Config } from "../../api/types";
import { parseCid } from "../../content/cid";
import { fetchVerified } from "../../content/verify";
import { Icon } from "../../parts";
import { sourcesOf } from "../request/sources";

const SIDE = 64;
const KEPT = 200;
const AT_ONCE = 3;

/** Small pictures by CID, of this visit. Null is one that could not be had. */
const made = new Map<string, Promise<Blob | null>>();
let running = 0;
const waiting: (() => void)[] = [];

/** A picture that is fetched, and checked against its CID, once it is about to be seen. It only decorates. */
export function Thumbnail({ cid }: { cid: string }) {
  const { api, config } = useConfig();
  const place = useRef<HTMLSpanElement>(null);
  const [url, setUrl] = useState<string | null>(null);
  const { base } = api;

  useEffect(() => {
    const element = place.current;
    if (!element || typeof IntersectionObserver === "undefined") return;
    let left = false;
    let address: string | null = null;
    const observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        observer.disconnect();
        void small(cid, base, config).then((blob) => {
          if (left || !blob) return;
          address = URL.createObjectURL(blob);
          setUrl(address);
        });
      },
      { rootMargin: "200px" },
    );
    observer.observe(element);
    return () => {
      left = true;
      observer.disconnect();
      if (address) URL.revokeObjectURL(address);
    };
  }, [cid, base, config]);

  return (
    <span className="thumbnail" ref={place}>
      {url ? <img src={url} alt="" width={SIDE} height={SIDE} /> : <Icon name="picture" size={24} />}
    </span>
  );
}

function small(cid: string, base: string, config: Config): Promise<Blob | null> {
  let picture = made.get(cid);
  if (!picture) {
    picture = turn(() => shrink(cid, base, config));
    made.set(cid, picture);
    if (made.size > KEPT) made.delete(made.keys().next().value ?? "");
    void picture.then((blob) => {
      // It may be there the next time.
      if (!blob) made.delete(cid);
    });
  }
  return picture;
}

async function shrink(cid: string, base: string, config: Config): Promise<Blob | null> {
  try {
    const bytes = await fetchVerified(parseCid(cid), sourcesOf(base, config), config.limits.image_bytes);
    // Of unknown type on purpose: the browser decodes pixels or nothing, and runs no SVG.
    const bitmap = await createImageBitmap(new Blob([bytes]), {
      resizeHeight: 2 * SIDE,
      resizeQuality: "medium",
    });
    const side = Math.min(bitmap.width, bitmap.height);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 2 * SIDE;
    const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
    canvas.getContext("2d")?.drawImage(bitmap, left, top, side, side, 0, 0, 2 * SIDE, 2 * SIDE);
    bitmap.close();
    return await new Promise((resolve) => canvas.toBlob(resolve));
  } catch {
    return null;
  }
}

async function turn<T>(work: () => Promise<T>): Promise<T> {
  while (running >= AT_ONCE) await new Promise<void>((go) => waiting.push(go));
  running += 1;
  try {
    return await work();
  } finally {
    running -= 1;
    waiting.shift()?.();
  }
}
