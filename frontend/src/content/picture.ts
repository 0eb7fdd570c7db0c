/** A picture made ready to be sent: looked at, and made smaller only where it would not be accepted as it is. */
import { type Format, fourLetters, sniff } from "./format";
import { tellsPlace, withoutHiddenData } from "./hidden";

export interface Limits {
  image_bytes: number;
  image_pixels: number;
  /** Accepted formats, in the API's words: "PNG", "JPEG", "WEBP", "GIF". */
  formats: readonly string[];
}

export type Change =
  | { kind: "resized"; from: [number, number]; to: [number, number] }
  | { kind: "format"; from: string; to: string }
  | { kind: "compressed"; from: number; to: number }
  | { kind: "first-frame" }
  | { kind: "place-removed" };

export interface Prepared {
  blob: Blob;
  /** As it came. */
  original: Blob;
  name: string;
  format: string;
  width: number;
  height: number;
  changes: Change[];
}

export type PictureFault = "empty" | "unreadable" | "too-large";

export class BadPicture extends Error {
  override readonly name = "BadPicture";

  constructor(
    readonly fault: PictureFault,
    cause?: unknown,
  ) {
    super(fault, { cause });
  }
}

/** Larger files are not even read: no browser should be made to decode them. */
const READ_LIMIT = 256 * 1024 * 1024;
const TRIES = 8;

const MIME: Record<Format, string> = {
  PNG: "image/png",
  JPEG: "image/jpeg",
  WEBP: "image/webp",
  GIF: "image/gif",
};

/** Whether the file has more than one frame, as far as its headers say. */
export function isAnimated(data: Uint8Array, format: Format): boolean {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  if (format === "WEBP") {
    return data.length > 20 && fourLetters(data, 12) === "VP8X" && (view.getUint8(20) & 0x02) !== 0;
  }
  if (format === "PNG") {
    let at = 8;
    while (at + 12 <= data.length) {
      const name = fourLetters(data, at + 4);
      if (name === "acTL") return view.getUint32(at + 8) > 1;
      if (name === "IDAT") return false;
      at += 12 + view.getUint32(at);
    }
    return false;
  }
  return format === "GIF" && gifFrames(data) > 1;
}

/** Frames of a GIF, counted to two at most. */
function gifFrames(data: Uint8Array): number {
  const byte = (at: number) => data[at] ?? 0;
  const table = (flags: number) => ((flags & 0x80) !== 0 ? 3 * 2 ** ((flags & 0x07) + 1) : 0);
  let at = 13 + table(byte(10));
  let frames = 0;
  const skipBlocks = () => {
    while (at < data.length && byte(at) !== 0) at += byte(at) + 1;
    at += 1;
  };
  while (at < data.length && frames < 2) {
    const kind = byte(at);
    if (kind === 0x21) {
      at += 2;
      skipBlocks();
    } else if (kind === 0x2c) {
      frames += 1;
      at += 10 + table(byte(at + 9)) + 1;
      skipBlocks();
    } else {
      break;
    }
  }
  return frames;
}

/** The largest size of the same shape with at most so many pixels. */
export function fit(width: number, height: number, pixels: number): [number, number] {
  if (width * height <= pixels) return [width, height];
  const scale = Math.sqrt(pixels / (width * height));
  return [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
}

/** What the browser does for `preparePicture`; tests put their own in its place. */
export interface Studio {
  decode(blob: Blob): Promise<{ width: number; height: number; source: CanvasImageSource; close(): void }>;
  encode(source: CanvasImageSource, width: number, height: number, type: string, quality: number): Promise<Blob>;
}

export const browserStudio: Studio = {
  async decode(blob) {
    const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
    return { width: bitmap.width, height: bitmap.height, source: bitmap, close: () => bitmap.close() };
  },
  async encode(source, width, height, type, quality) {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    if (!context) throw new BadPicture("unreadable");
    if (type === MIME.JPEG) {
      // It knows no transparency and would show black; the oracle, too, puts white below.
      context.fillStyle = "#fff";
      context.fillRect(0, 0, width, height);
    }
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, width, height);
    return new Promise((resolve, reject) =>
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new BadPicture("unreadable"))), type, quality),
    );
  },
};

/**
 * Looks at a picture. What is accepted stays byte for byte, but for the place it was taken at, which would be public for
 * ever: that is left out, without touching a pixel, unless `keepHidden`. What is too large, animated or of another format
 * is drawn anew, and `changes` says so. Throws BadPicture.
 */
export async function preparePicture(
  file: Blob,
  limits: Limits,
  { keepHidden = false, studio = browserStudio }: { keepHidden?: boolean; studio?: Studio } = {},
): Promise<Prepared> {
  if (file.size === 0) throw new BadPicture("empty");
  if (file.size > READ_LIMIT) throw new BadPicture("too-large");
  const data = new Uint8Array(await file.arrayBuffer());
  const format = sniff(data);
  let decoded: Awaited<ReturnType<Studio["decode"]>>;
  try {
    decoded = await studio.decode(format ? new Blob([data], { type: MIME[format] }) : file);
  } catch (error) {
    throw new BadPicture("unreadable", error);
  }
  try {
    const { width, height } = decoded;
    const changes: Change[] = [];
    const name = file instanceof File && file.name ? file.name : "picture";
    const accepted = format !== null && limits.formats.some((one) => one.toUpperCase() === format);
    const animated = format !== null && isAnimated(data, format);
    if (animated) changes.push({ kind: "first-frame" });
    const fits = file.size <= limits.image_bytes && width * height <= limits.image_pixels;
    if (accepted && fits && !animated) {
      const told = { original: file, name, format, width, height };
      if (!keepHidden && tellsPlace(data, format)) {
        const blob = new Blob([withoutHiddenData(data, format)], { type: MIME[format] });
        return { ...told, blob, changes: [{ kind: "place-removed" }] };
      }
      return { ...told, blob: new Blob([data], { type: MIME[format] }), changes };
    }
    const size = fit(width, height, limits.image_pixels);
    const target: Format = format === "PNG" || format === "GIF" ? "PNG" : "JPEG";
    const [blob, [toWidth, toHeight], written] = await encodeWithin(decoded.source, size, target, limits, studio);
    if (toWidth !== width) changes.push({ kind: "resized", from: [width, height], to: [toWidth, toHeight] });
    if (written !== format) changes.push({ kind: "format", from: format ?? nameOfType(file.type), to: written });
    if (blob.size < file.size) changes.push({ kind: "compressed", from: file.size, to: blob.size });
    return { blob, original: file, name, format: written, width: toWidth, height: toHeight, changes };
  } finally {
    decoded.close();
  }
}

async function encodeWithin(
  source: CanvasImageSource,
  size: [number, number],
  target: Format,
  limits: Limits,
  studio: Studio,
): Promise<[Blob, [number, number], Format]> {
  let [width, height] = size;
  let format = target;
  let quality = 0.92;
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const blob = await studio.encode(source, width, height, MIME[format], quality);
    if (blob.size <= limits.image_bytes) return [blob, [width, height], format];
    if (format === "PNG") {
      format = "JPEG";
    } else if (quality > 0.8) {
      quality = 0.8;
    } else {
      width = Math.max(1, Math.floor(width * 0.75));
      height = Math.max(1, Math.floor(height * 0.75));
    }
  }
  throw new BadPicture("too-large");
}

function nameOfType(type: string): string {
  return type.replace(/^image\//, "").toUpperCase() || "?";
}
