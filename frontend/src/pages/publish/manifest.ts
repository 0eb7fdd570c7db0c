/**
 * A manifest of schema sibyl/model/1, looked at before it travels. The API looks again and knows every rule; what is
 * found here is found without sending anything.
 */
import type { Words } from "../../words";

export const SCHEMA = "sibyl/model/1";
export const MAX_MANIFEST = 256 * 1024;
export const MAX_WEIGHTS = 64 * 1024 * 1024;
const MAX_CLASSES = 65_536;
const MAX_SIDE = 4_096;
const MAX_TOP_K = 100;
const NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const SHA256 = /^[0-9a-f]{64}$/;

const TASKS = ["classification", "instance-segmentation", "semantic-segmentation"];
const ENGINES = ["keras", "tflite"];
const COLOURS = ["gray", "rgb"];
const FITS = ["stretch", "crop", "digit", "whole"];
const COMPARISONS = ["exact", "tolerance", "detection"];
const FORMATS = ["npz-float16", "hdf5", "safetensors", "keras", "tflite"];

export type Document = Record<string, unknown>;

/** A field that is not as it should be. */
export class FieldWrong extends Error {
  override readonly name = "FieldWrong";
  constructor(
    readonly field: string,
    readonly expected: string,
  ) {
    super(`${field}: ${expected}`);
  }
}

/** The manifest in a text. Throws SyntaxError, or FieldWrong when it is no object. */
export function readJson(text: string, said: Words["publish"]["expected"]): Document {
  const document: unknown = JSON.parse(text);
  return object(document, "manifest", said);
}

/** Check the fields beside labels and weights. Throws FieldWrong, which names the field. */
export function checkFields(manifest: Document, said: Words["publish"]["expected"]): void {
  if (manifest.schema !== SCHEMA) throw new FieldWrong("schema", said.schema(SCHEMA));
  for (const field of ["version", "description", "licence"]) text(manifest, field, field, said);
  for (const field of ["name", "family"]) {
    if (!NAME.test(text(manifest, field, field, said))) throw new FieldWrong(field, said.form);
  }
  choice(manifest, "task", "task", TASKS, said);
  choice(manifest, "engine", "engine", ENGINES, said);
  object(manifest.resources, "resources", said);
  object(manifest.training, "training", said);
  const input = object(manifest.input, "input", said);
  integer(input, "height", "input.height", 1, MAX_SIDE, said);
  integer(input, "width", "input.width", 1, MAX_SIDE, said);
  const channels = choice(input, "color", "input.color", COLOURS, said) === "gray" ? 1 : 3;
  integer(input, "channels", "input.channels", channels, channels, said);
  choice(input, "fit", "input.fit", FITS, said);
  if (input.mode === undefined || input.mode === "range") {
    const span = input.range;
    const fits = Array.isArray(span) && span.length === 2 && typeof span[0] === "number" && typeof span[1] === "number";
    if (!fits || !((span[0] as number) < (span[1] as number))) throw new FieldWrong("input.range", said.range);
  }
  const output = object(manifest.output, "output", said);
  integer(output, "top_k", "output.top_k", 1, MAX_TOP_K, said);
  const comparison = object(manifest.comparison, "comparison", said);
  choice(comparison, "class", "comparison.class", COMPARISONS, said);
  if (comparison.class !== "exact" && typeof comparison.epsilon !== "number") {
    throw new FieldWrong("comparison.epsilon", said.number);
  }
  const weights = object(manifest.weights, "weights", said);
  if (weights.format !== undefined) choice(weights, "format", "weights.format", FORMATS, said);
  if (weights.sha256 !== undefined && !(typeof weights.sha256 === "string" && SHA256.test(weights.sha256))) {
    throw new FieldWrong("weights.sha256", said.sha256);
  }
  if (weights.cid !== undefined) text(weights, "cid", "weights.cid", said);
  if (weights.bytes !== undefined) integer(weights, "bytes", "weights.bytes", 1, Number.MAX_SAFE_INTEGER, said);
}

/** Check a list of labels. Throws FieldWrong. */
export function checkLabels(labels: unknown, task: unknown, said: Words["publish"]["expected"]): string[] {
  const fewest = task === "classification" ? 2 : 1;
  if (!Array.isArray(labels) || labels.length < fewest || labels.length > MAX_CLASSES) {
    throw new FieldWrong("labels", said.labels(fewest, MAX_CLASSES));
  }
  return labels.map((label: unknown, i) => {
    if (typeof label !== "string" || label.length === 0 || label.length > 200) {
      throw new FieldWrong(`labels[${i}]`, said.label);
    }
    return label;
  });
}

/** Labels of a file: a JSON list, or one a line. */
export function readLabels(text: string): string[] {
  try {
    const list: unknown = JSON.parse(text);
    if (Array.isArray(list)) return list.map(String);
  } catch {
    // One a line.
  }
  const lines = text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/);
  while (lines.length > 0 && lines.at(-1)?.trim() === "") lines.pop();
  return lines.map((line) => line.trim());
}

export type Part = "manifest" | "weights" | "labels";

/** What a file is, by its name, and a .json by its first character; null for none of these. */
export async function partOf(file: File): Promise<Part | null> {
  const name = file.name.toLowerCase();
  if (/\.(npz|keras|tflite|safetensors)$/.test(name)) return "weights";
  if (/\.(txt|csv|labels|names)$/.test(name)) return "labels";
  if (!name.endsWith(".json")) return null;
  const begin = (await file.slice(0, 200).text()).trimStart();
  return begin.startsWith("[") ? "labels" : "manifest";
}

function object(value: unknown, field: string, said: Words["publish"]["expected"]): Document {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new FieldWrong(field, said.object);
  return value as Document;
}

function text(body: Document, key: string, field: string, said: Words["publish"]["expected"]): string {
  const value = body[key];
  if (typeof value !== "string" || value.length === 0 || value.length > 2_000) throw new FieldWrong(field, said.text);
  return value;
}

function choice(
  body: Document,
  key: string,
  field: string,
  choices: readonly string[],
  said: Words["publish"]["expected"],
): string {
  const value = body[key];
  if (typeof value !== "string" || !choices.includes(value)) throw new FieldWrong(field, said.oneOf(choices.join(", ")));
  return value;
}

function integer(
  body: Document,
  key: string,
  field: string,
  low: number,
  high: number,
  said: Words["publish"]["expected"],
): number {
  const value = body[key];
  if (typeof value !== "number" || !Number.isInteger(value) || value < low || value > high) {
    throw new FieldWrong(field, said.integer(low, high));
  }
  return value;
}
