/** What a picture's bytes are. */
export type Format = "PNG" | "JPEG" | "WEBP" | "GIF";

/** What the bytes are by their first ones; null for anything else. */
export function sniff(head: Uint8Array): Format | null {
  const text = (from: number, to: number) => String.fromCharCode(...head.subarray(from, to));
  if (head[0] === 0x89 && text(1, 8) === "PNG\r\n\x1a\n") return "PNG";
  if (head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff) return "JPEG";
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return "WEBP";
  if (text(0, 6) === "GIF87a" || text(0, 6) === "GIF89a") return "GIF";
  return null;
}

/** The four letters that name a chunk. */
export function fourLetters(data: Uint8Array, at: number): string {
  return String.fromCharCode(...data.subarray(at, at + 4));
}
