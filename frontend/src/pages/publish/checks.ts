/** The checks before publishing, one after the other; the first that fails ends them. */
import { toHex } from "viem";

import { type ApiClient, OtherBytes } from "../../api/client";
import { sha256 } from "../../content/cid";
import { plain } from "../../content/plain";
import { checkedUpload } from "../../content/upload";
import { tell } from "../../parts";
import type { Language, Words } from "../../words";
import { byteSize, shorten } from "../../words/format";
import { checkFields, checkLabels, type Document, FieldWrong, MAX_MANIFEST, MAX_WEIGHTS, readJson, readLabels } from "./manifest";

export const CHECKS = ["json", "fields", "labels", "weights", "pinWeights", "pinManifest"] as const;
export type CheckName = (typeof CHECKS)[number];

export interface Check {
  name: CheckName;
  state: "waiting" | "running" | "good" | "bad";
  text: string;
}

export interface Files {
  manifest: File;
  weights: File;
  labels: File | null;
}

export interface Checked {
  manifestCid: string;
  document: Document;
}

/** Said when a check fails. */
class Failed extends Error {}

export const UNTOUCHED: Check[] = CHECKS.map((name) => ({ name, state: "waiting", text: "" }));

/**
 * Check the files and pin them. `onChange` sees the list after each step; resolves with null when one failed.
 *
 * What the manifest leaves out of labels and weights is filled in; what it states must be so.
 */
export async function runChecks(
  files: Files,
  api: Pick<ApiClient, "base" | "weights" | "manifest">,
  words: Words,
  language: Language,
  onChange: (checks: Check[]) => void,
  signal: AbortSignal,
): Promise<Checked | null> {
  const said = words.publish;
  let checks = UNTOUCHED;
  const set = (name: CheckName, state: Check["state"], text = "") => {
    checks = checks.map((check) => (check.name === name ? { name, state, text } : check));
    if (!signal.aborted) onChange(checks);
  };
  async function step<T>(name: CheckName, work: () => Promise<[T, string]>): Promise<T> {
    set(name, "running");
    try {
      const [result, text] = await work();
      signal.throwIfAborted();
      set(name, "good", text);
      return result;
    } catch (error) {
      set(name, "bad", reason(error, words));
      throw error;
    }
  }

  try {
    const [source, document] = await step("json", async () => {
      if (files.manifest.size > MAX_MANIFEST) throw new Failed(said.told.tooLong(byteSize(MAX_MANIFEST, language)));
      const text = await files.manifest.text();
      return [[text, readJson(text, said.expected)] as const, files.manifest.name];
    });
    let changed = false;
    await step("fields", () => {
      checkFields(document, said.expected);
      return Promise.resolve([null, ""]);
    });
    await step("labels", async () => {
      const brought = files.labels ? readLabels(await files.labels.text()) : null;
      const stated = document.labels;
      const fill = brought !== null && (stated === undefined || (Array.isArray(stated) && stated.length === 0));
      if (brought && !fill && JSON.stringify(brought) !== JSON.stringify(stated)) {
        throw new Failed(said.told.labelsDiffer);
      }
      const labels = checkLabels(fill ? brought : stated, document.task, said.expected);
      if (fill) {
        document.labels = labels;
        changed = true;
      }
      return [null, (fill ? said.told.labelsFilled : said.told.labels)(labels.length)];
    });
    const weights = document.weights as Document;
    const bytes = await step("weights", async () => {
      if (files.weights.size > MAX_WEIGHTS) throw new Failed(said.told.tooLarge(byteSize(MAX_WEIGHTS, language)));
      const { size } = files.weights;
      const bytes = new Uint8Array(await files.weights.arrayBuffer());
      const hex = toHex(await sha256(bytes)).slice(2);
      if (weights.sha256 !== undefined && weights.sha256 !== hex) {
        throw new Failed(said.told.shaDiffers(shown(weights.sha256), hex));
      }
      if (weights.bytes !== undefined && weights.bytes !== size) {
        throw new Failed(said.told.bytesDiffer(shown(weights.bytes), String(size)));
      }
      const fill = weights.sha256 === undefined || weights.bytes === undefined;
      if (fill) {
        Object.assign(weights, { sha256: hex, bytes: size });
        changed = true;
      }
      return [bytes, (fill ? said.told.filled : said.told.sha)(shorten(hex, 10))];
    });
    await step("pinWeights", async () => {
      const upload = () => api.weights(files.weights, files.weights.name, signal);
      const pinned = await checkedUpload(api.base, bytes, upload, signal);
      if (weights.cid === undefined) {
        weights.cid = pinned.cid;
        changed = true;
      } else if (weights.cid !== pinned.cid) {
        throw new Failed(said.told.cidDiffers(shown(weights.cid), pinned.cid));
      }
      return [null, pinned.cid];
    });
    const manifestCid = await step("pinManifest", async () => {
      // Untouched, it is pinned as it was written: its CID is then the one that its author knows.
      const text = changed ? JSON.stringify(document) : source;
      const { cid } = await checkedUpload(api.base, new TextEncoder().encode(text), () => api.manifest(text, signal), signal);
      return [cid, cid];
    });
    return { manifestCid, document };
  } catch {
    return null;
  }
}

/** What a manifest states in a field, as text for people. */
function shown(value: unknown): string {
  return plain(typeof value === "string" ? value : JSON.stringify(value), 100);
}

function reason(error: unknown, words: Words): string {
  const said = words.publish.told;
  if (error instanceof Failed) return error.message;
  if (error instanceof FieldWrong) return said.field(error.field, error.expected);
  if (error instanceof OtherBytes) return said.changedOnTheWay;
  if (error instanceof SyntaxError) return `${said.notJson} (${error.message})`;
  const told = tell(error, words);
  return [told.title, told.text, told.remedy].filter(Boolean).join(" ");
}
