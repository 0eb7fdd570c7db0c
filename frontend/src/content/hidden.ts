/** What a picture's file tells beside its pixels, and the same file without it, no pixel touched. */
import { type Format, fourLetters } from "./format";

interface Exif {
  orientation: number;
  hasPlace: boolean;
}

/** A part of the file that no pixel needs, with what it holds as far as that is known here. */
interface Hidden {
  at: number;
  end: number;
  exif?: Exif | null;
  text?: string;
  /** Packed in a way that is not opened here: it may tell anything. */
  packed?: boolean;
}

const EXIF_HEAD = "Exif\0\0";

/** Whether EXIF or XMP tell where it was taken, or could. */
export function tellsPlace(data: Uint8Array, format: Format): boolean {
  return hiddenParts(data, format).some(({ exif, text, packed }) => exif?.hasPlace || text?.includes("GPS") || packed);
}

/** What its EXIF says about which way is up and where it was taken; null without one. */
export function readExif(data: Uint8Array, format: Format): Exif | null {
  return hiddenParts(data, format).find(({ exif }) => exif)?.exif ?? null;
}

/** The same picture without EXIF, XMP, IPTC and other texts; which way is up is kept. */
export function withoutHiddenData(data: Uint8Array, format: Format): Uint8Array<ArrayBuffer> {
  const orientation = readExif(data, format)?.orientation ?? 1;
  const up = orientation === 1 ? null : tiffOf(orientation);
  const parts: Uint8Array[] = [];
  let kept = 0;
  for (const { at, end } of hiddenParts(data, format)) {
    parts.push(data.subarray(kept, at));
    kept = end;
  }
  parts.push(data.subarray(kept));
  const bare = joined(parts);
  if (format === "JPEG") return up ? joined([bare.subarray(0, 2), segmentOf(up), bare.subarray(2)]) : bare;
  if (format === "PNG") return up ? joined([bare.subarray(0, PNG_FIRST), pngChunk("eXIf", up), bare.subarray(PNG_FIRST)]) : bare;
  return format === "WEBP" ? webpOf(bare, up) : bare;
}

function hiddenParts(data: Uint8Array, format: Format): Hidden[] {
  if (format === "JPEG") return [...ofJpeg(data)];
  if (format === "PNG") return [...ofPng(data)];
  return format === "WEBP" ? [...ofWebp(data)] : [];
}

function* ofJpeg(data: Uint8Array): Generator<Hidden> {
  let at = 2;
  while (at + 4 <= data.length && data[at] === 0xff) {
    const marker = data[at + 1] ?? 0;
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return;
    const length = ((data[at + 2] ?? 0) << 8) | (data[at + 3] ?? 0);
    if (length < 2) return;
    const end = Math.min(at + 2 + length, data.length);
    const body = data.subarray(at + 4, end);
    if (marker === 0xe1) yield { at, end, ...appOne(body) };
    else if (marker === 0xed || marker === 0xfe) yield { at, end };
    at = end;
  }
}

function appOne(body: Uint8Array): Pick<Hidden, "exif" | "text"> {
  return startsWith(body, EXIF_HEAD) ? { exif: readTiff(body.subarray(6)) } : { text: latin(body) };
}

const PNG_FIRST = 33; // behind the signature and IHDR
const PNG_TEXTS: ReadonlySet<string> = new Set(["tEXt", "zTXt", "iTXt"]);

function* ofPng(data: Uint8Array): Generator<Hidden> {
  const view = viewOf(data);
  let at = 8;
  while (at + 12 <= data.length) {
    const name = fourLetters(data, at + 4);
    const end = at + 12 + view.getUint32(at);
    if (end > data.length || name === "IEND") return;
    const body = data.subarray(at + 8, end - 4);
    if (name === "eXIf") yield { at, end, exif: readTiff(body) };
    else if (PNG_TEXTS.has(name)) yield { at, end, ...pngText(name, body) };
    else if (name === "tIME") yield { at, end };
    at = end;
  }
}

function pngText(name: string, body: Uint8Array): Pick<Hidden, "text" | "packed"> {
  const text = latin(body);
  // ImageMagick writes EXIF and XMP as hexadecimal text.
  const packed = text.startsWith("Raw profile type") || (text.startsWith("XML:com.adobe.xmp\0") && text[18] === "\x01");
  return { text: name === "zTXt" ? "" : text, packed };
}

function* ofWebp(data: Uint8Array): Generator<Hidden> {
  const view = viewOf(data);
  let at = 12;
  while (at + 8 <= data.length) {
    const name = fourLetters(data, at);
    const size = view.getUint32(at + 4, true);
    const end = Math.min(at + 8 + size + (size & 1), data.length);
    const body = data.subarray(at + 8, at + 8 + size);
    // Some write the head that EXIF has in a JPEG.
    if (name === "EXIF") yield { at, end, exif: readTiff(startsWith(body, EXIF_HEAD) ? body.subarray(6) : body) };
    else if (name === "XMP ") yield { at, end, text: latin(body) };
    at = end;
  }
}

const [WEBP_EXIF, WEBP_XMP] = [0x08, 0x04];

/** A WebP whose head says what is in it, with an EXIF that says which way is up where one is given. */
function webpOf(bare: Uint8Array, up: Uint8Array | null): Uint8Array<ArrayBuffer> {
  const head = Uint8Array.from([...new TextEncoder().encode("EXIF"), up?.length ?? 0, 0, 0, 0]);
  const whole = up ? joined([bare, head, up]) : joined([bare]);
  viewOf(whole).setUint32(4, whole.length - 8, true);
  if (fourLetters(whole, 12) === "VP8X" && whole.length > 20) {
    whole[20] = ((whole[20] ?? 0) & ~(WEBP_EXIF | WEBP_XMP)) | (up ? WEBP_EXIF : 0);
  }
  return whole;
}

function readTiff(tiff: Uint8Array): Exif | null {
  const view = viewOf(tiff);
  const order = fourLetters(tiff, 0).slice(0, 2);
  if (order !== "II" && order !== "MM") return null;
  const little = order === "II";
  const found: Exif = { orientation: 1, hasPlace: false };
  try {
    const first = view.getUint32(4, little);
    const count = view.getUint16(first, little);
    for (let entry = 0; entry < Math.min(count, 512); entry += 1) {
      const at = first + 2 + entry * 12;
      const tag = view.getUint16(at, little);
      if (tag === 0x0112) {
        const orientation = view.getUint16(at + 8, little);
        if (orientation >= 1 && orientation <= 8) found.orientation = orientation;
      }
      if (tag === 0x8825) found.hasPlace = true;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return found;
}

/** EXIF that says nothing but which way is up; of an even length. */
function tiffOf(orientation: number): Uint8Array {
  const entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0];
  return Uint8Array.from([0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, 1, ...entry, 0, 0, 0, 0]);
}

function segmentOf(tiff: Uint8Array): Uint8Array {
  const body = [...new TextEncoder().encode(EXIF_HEAD), ...tiff];
  const length = body.length + 2;
  return Uint8Array.from([0xff, 0xe1, length >> 8, length & 0xff, ...body]);
}

function pngChunk(name: string, body: Uint8Array): Uint8Array {
  const named = Uint8Array.from([...new TextEncoder().encode(name), ...body]);
  const chunk = new Uint8Array(named.length + 8);
  chunk.set(named, 4);
  viewOf(chunk).setUint32(0, body.length);
  viewOf(chunk).setUint32(named.length + 4, crc32(named));
  return chunk;
}

function crc32(data: Uint8Array): number {
  let sum = 0xffffffff;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let to = 0;
  for (const part of parts) {
    whole.set(part, to);
    to += part.length;
  }
  return whole;
}

function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function startsWith(data: Uint8Array, text: string): boolean {
  return latin(data.subarray(0, text.length)) === text;
}

function latin(data: Uint8Array): string {
  return new TextDecoder("latin1").decode(data);
}
