/** The result document behind a result CID: every field checked before anything is shown, then held to the chain. */
import { MAX_INSTANCES, type Answer, type ClassificationAnswer, type SegmentationAnswer } from "./answer";
import { parseCid, type Cid } from "./cid";
import { areaOf, decodeRuns, sumOf, within, type PixelBox } from "./rle";

const SCHEMA = "sibyl/result/1";
const MOST_FILE_BYTES = 16 * 1024 * 1024;
const MOST_FILES = 8;
const MOST_LABELS = 100;
const LONGEST_LABEL = 200;
const MAX_SEGMENTS = 100;
const MAX_SIDE = 65_535;

/** The most bytes that a result document has. */
export const RESULT_LIMIT = 8 * 1024 * 1024;

export interface Label {
  readonly index: number;
  readonly label: string;
  readonly probability: number;
}

export interface Segment {
  readonly index: number;
  readonly label: string;
  readonly score: number;
  /** COCO's: x, y, width, height in pixels of the upright picture. */
  readonly bbox: readonly [x: number, y: number, width: number, height: number];
  readonly area: number;
  readonly runs: readonly number[];
}

export interface Drawing {
  readonly cid: Cid;
  readonly bytes: number;
}

interface Common {
  readonly request: string;
  readonly inputCid: Cid;
  readonly files: Readonly<Record<string, Drawing>>;
  /** 0 to 1; null where it was not measured. */
  readonly familiarity: number | null;
  readonly model: { readonly name: string; readonly manifest: string; readonly weightsSha256: string };
  readonly provider: { readonly id: string; readonly engine: string };
  /** Seconds that the batch took, and how many pictures it had. */
  readonly seconds: number | null;
  readonly batch: number | null;
}

export interface ClassificationResult extends Common {
  readonly kind: "classification";
  readonly labels: readonly Label[];
}

export interface SegmentationResult extends Common {
  readonly kind: "segmentation";
  /** Whether a segment is all that is of one class, rather than one object. */
  readonly semantic: boolean;
  readonly width: number;
  readonly height: number;
  readonly found: number;
  readonly segments: readonly Segment[];
}

export type ResultDocument = ClassificationResult | SegmentationResult;

/** A document that breaks its own form; nothing of it can be shown. */
export class BadDocument extends Error {
  override name = "BadDocument";
}

type Fields = Readonly<Record<string, unknown>>;

/** Decode and check a result document. Throws BadDocument, which names the field. */
export function readResult(data: Uint8Array): ResultDocument {
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch {
    throw new BadDocument("it is not JSON");
  }
  if (!isFields(document) || document.schema !== SCHEMA) throw new BadDocument(`its schema is not ${SCHEMA}`);
  const input = document.input;
  if (!isFields(input)) throw new BadDocument("input.cid is missing");
  if (typeof document.request !== "string") throw new BadDocument("request is missing");
  const familiarity = document.familiarity ?? null;
  if (familiarity !== null && !isShare(familiarity)) throw new BadDocument("familiarity is not a number from 0 to 1");
  const model = isFields(document.model) ? document.model : {};
  const provider = isFields(document.provider) ? document.provider : {};
  const timings = isFields(document.timings) ? document.timings : {};
  const common: Common = {
    request: document.request,
    inputCid: cidAt(input.cid, "input.cid"),
    files: readFiles(document.files ?? {}),
    familiarity,
    model: {
      name: textAt(model.name),
      manifest: textAt(model.manifest),
      weightsSha256: textAt(model.weights_sha256),
    },
    provider: { id: textAt(provider.id), engine: textAt(provider.engine) },
    seconds: numberAt(timings.batch_inference_seconds),
    batch: numberAt(timings.batch_items),
  };
  const semantic = document.task === "semantic-segmentation";
  if (semantic || document.task === "instance-segmentation") {
    if ("labels" in document) throw new BadDocument("a segmentation has no labels");
    return { kind: "segmentation", semantic, ...common, ...readSegments(document) };
  }
  if ("segments" in document) throw new BadDocument("segments are not for this task");
  const labels = document.labels;
  if (!Array.isArray(labels) || labels.length < 1 || labels.length > MOST_LABELS)
    throw new BadDocument(`labels are not a list of 1 to ${MOST_LABELS}`);
  return {
    kind: "classification",
    ...common,
    labels: labels.map((one: unknown, i) => {
      const { index, label, share } = readLabel(one, `labels[${i}]`, "probability");
      return { index, label, probability: share };
    }),
  };
}

/** Whether the document says what the chain says: same request, same picture, same classes, scores, boxes and areas. */
export function agrees(document: ResultDocument, answer: Answer, request: { id: string; imageCid: string }): boolean {
  return (
    document.request.toLowerCase() === request.id.toLowerCase() &&
    document.inputCid.text === request.imageCid &&
    Math.round((document.familiarity ?? 0) * 255) === answer.familiarity &&
    (document.kind === "classification"
      ? answer.kind === "classification" && sameClasses(document, answer)
      : answer.kind === "segmentation" && sameInstances(document, answer))
  );
}

/** Whether each class is called as the model's manifest calls it. */
export function isLabelledBy(document: ResultDocument, labels: readonly unknown[]): boolean {
  const named = document.kind === "classification" ? document.labels : document.segments;
  return named.every(({ index, label }) => labels[index] === label);
}

function sameClasses({ labels }: ClassificationResult, { entries }: ClassificationAnswer): boolean {
  return (
    labels.length >= entries.length &&
    entries.every(({ index, bps }, i) => labels[i]?.index === index && near(labels[i].probability, bps))
  );
}

function sameInstances(document: SegmentationResult, answer: SegmentationAnswer): boolean {
  const { width, height, found, segments } = document;
  return (
    width === answer.width &&
    height === answer.height &&
    found === answer.found &&
    answer.instances.length === Math.min(segments.length, MAX_INSTANCES) &&
    answer.instances.every((one, i) => {
      const segment = segments[i];
      return (
        segment !== undefined &&
        segment.index === one.index &&
        segment.area === one.area &&
        pixelBox(segment.bbox, width, height).every((side, at) => side === one.box[at]) &&
        near(segment.score, one.bps)
      );
    })
  );
}

function near(share: number, bps: number): boolean {
  return Math.abs(share * 10_000 - bps) <= 1;
}

/** A COCO box in whole pixels, none of its own left out. */
export function pixelBox(bbox: Segment["bbox"], width: number, height: number): PixelBox {
  const [x, y, across, down] = bbox;
  // Sums of hundredths miss by less than this.
  const bottom = Math.ceil(y + down - 1e-6);
  const right = Math.ceil(x + across - 1e-6);
  return [Math.floor(y), Math.floor(x), Math.min(height, bottom), Math.min(width, right)];
}

function readFiles(files: unknown): Record<string, Drawing> {
  if (!isFields(files) || Object.keys(files).length > MOST_FILES)
    throw new BadDocument(`files are not an object of at most ${MOST_FILES}`);
  const read: Record<string, Drawing> = {};
  for (const [name, file] of Object.entries(files)) {
    if (!/^[a-z]{1,20}$/.test(name) || !isFields(file) || file.type !== "image/png")
      throw new BadDocument("files hold something that is no drawing");
    if (!isWhole(file.bytes) || file.bytes < 1 || file.bytes > MOST_FILE_BYTES)
      throw new BadDocument(`files.${name}.bytes is not a number up to ${MOST_FILE_BYTES}`);
    read[name] = { cid: cidAt(file.cid, `files.${name}.cid`), bytes: file.bytes };
  }
  return read;
}

function readSegments(document: Fields): Pick<SegmentationResult, "width" | "height" | "found" | "segments"> {
  const { image, segments, found } = document;
  const { width, height } = isFields(image) ? image : {};
  if (!isSide(width) || !isSide(height)) throw new BadDocument("image is not a width and a height in pixels");
  if (!Array.isArray(segments) || segments.length > MAX_SEGMENTS)
    throw new BadDocument(`segments are not a list of at most ${MAX_SEGMENTS}`);
  if (!isWhole(found) || found < segments.length) throw new BadDocument("found is fewer than segments");
  return {
    width,
    height,
    found,
    segments: segments.map((one: unknown, i) => readSegment(one, `segments[${i}]`, width, height)),
  };
}

function readSegment(given: unknown, field: string, width: number, height: number): Segment {
  const { index, label, share } = readLabel(given, field, "score");
  const { bbox, area, segmentation: mask } = given as Fields;
  if (!Array.isArray(bbox) || bbox.length !== 4 || !bbox.every((edge) => typeof edge === "number"))
    throw new BadDocument(`${field}.bbox is not a box`);
  const box = bbox as [number, number, number, number];
  const [x, y, across, down] = box;
  // The sums of two decimals may end a hair beyond the picture.
  const held = x >= 0 && y >= 0 && across > 0 && down > 0 && x + across < width + 0.1 && y + down < height + 0.1;
  if (!held) throw new BadDocument(`${field}.bbox is not within the picture`);
  const size = isFields(mask) ? mask.size : null;
  if (!isFields(mask) || !Array.isArray(size) || size.length !== 2 || size[0] !== height || size[1] !== width)
    throw new BadDocument(`${field}.segmentation is not a mask of the picture`);
  if (typeof mask.counts !== "string") throw new BadDocument(`${field}.segmentation is not a mask of the picture`);
  let runs: number[];
  try {
    runs = decodeRuns(mask.counts);
  } catch (error) {
    throw new BadDocument(`${field}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (sumOf(runs) !== width * height || areaOf(runs) !== area)
    throw new BadDocument(`${field}.segmentation has other pixels than the picture, or than it says`);
  if (!within(runs, pixelBox(box, width, height), height))
    throw new BadDocument(`${field}.segmentation has pixels outside of its box`);
  return { index, label, score: share, bbox: box, area: areaOf(runs), runs };
}

function readLabel(given: unknown, field: string, share: string): { index: number; label: string; share: number } {
  if (!isFields(given)) throw new BadDocument(`${field} is not an object`);
  const { index, label } = given;
  if (!isWhole(index) || index < 0 || index > 0xffff) throw new BadDocument(`${field}.index is not a class`);
  if (typeof label !== "string" || label === "" || Array.from(label).length > LONGEST_LABEL)
    throw new BadDocument(`${field}.label is not a text of 1 to ${LONGEST_LABEL} characters`);
  if (/[\p{Cc}\p{Cs}]/u.test(label)) throw new BadDocument(`${field}.label holds control characters`);
  const part = given[share];
  if (!isShare(part)) throw new BadDocument(`${field}.${share} is not a number from 0 to 1`);
  return { index, label, share: part };
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

function isSide(value: unknown): value is number {
  return isWhole(value) && value > 0 && value <= MAX_SIDE;
}

function isShare(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= 1;
}

function cidAt(value: unknown, field: string): Cid {
  try {
    return parseCid(String(value));
  } catch {
    throw new BadDocument(`${field} is none`);
  }
}

function textAt(value: unknown): string {
  return typeof value === "string" ? value.slice(0, 400) : "";
}

function numberAt(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null;
}
