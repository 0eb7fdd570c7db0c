import { crc32 } from "node:zlib";

import { describe, expect, test, vi } from "vitest";

import { sniff } from "./format";
import { readExif, tellsPlace, withoutHiddenData } from "./hidden";
import { BadPicture, browserStudio, fit, isAnimated, preparePicture, type Studio } from "./picture";

const LIMITS = { image_bytes: 1_000, image_pixels: 10_000, formats: ["PNG", "JPEG", "WEBP", "GIF"] };
const ascii = (text: string) => [...new TextEncoder().encode(text)];
const PNG_HEAD = [0x89, ...ascii("PNG\r\n\x1a\n")];
const png = (...chunks: [string, number[]][]) =>
  Uint8Array.from([
    ...PNG_HEAD,
    ...chunks.flatMap(([name, body]) => [0, 0, 0, body.length, ...ascii(name), ...body, 0, 0, 0, 0]),
  ]);
const STILL = png(["IHDR", [0]], ["IDAT", [1]]);

/** A JPEG's skeleton: the segments that are named, then a scan. */
const jpeg = (...segments: [number, number[]][]) =>
  Uint8Array.from([
    0xff,
    0xd8,
    ...segments.flatMap(([marker, body]) => [0xff, marker, 0, body.length + 2, ...body]),
    0xff,
    0xda,
    0,
    2,
    1,
    2,
    3,
    0xff,
    0xd9,
  ]);
const entry = (tag: number, type: number, value: number) => [tag >> 8, tag & 255, 0, type, 0, 0, 0, 1, 0, value, 0, 0];
const tiff = (...entries: number[][]) => [
  ...[0x4d, 0x4d, 0, 42, 0, 0, 0, 8, 0, entries.length],
  ...entries.flat(),
  ...[0, 0, 0, 0],
];
const exif = (...entries: number[][]) => [...ascii("Exif\0\0"), ...tiff(...entries)];
/** A WebP's container: each chunk is padded to an even length. */
const webp = (...chunks: [string, number[]][]) => {
  const body = chunks.flatMap(([name, data]) => [...ascii(name), data.length, 0, 0, 0, ...data, ...(data.length % 2 ? [0] : [])]);
  return Uint8Array.from([...ascii("RIFF"), body.length + 4, 0, 0, 0, ...ascii("WEBP"), ...body]);
};
const PLACE = entry(0x8825, 4, 26);
const TURNED = entry(0x0112, 3, 6);

const gif = (frames: number) =>
  Uint8Array.from([
    ...ascii("GIF89a"),
    ...[1, 0, 1, 0, 0, 0, 0],
    ...Array.from({ length: frames }, () => [0x21, 0xf9, 4, 0, 0, 0, 0, 0, 0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 1, 9, 0]).flat(),
    0x3b,
  ]);

/** A double of the browser: pictures of one size, whose encoding has as many bytes as `bytes` says. */
function studio(width: number, height: number, bytes: (type: string, width: number, quality: number) => number = () => 10) {
  const encoded: [number, number, string][] = [];
  const made: Studio = {
    decode: () => Promise.resolve({ width, height, source: {} as CanvasImageSource, close: () => undefined }),
    encode: (_, toWidth, toHeight, type, quality) => {
      encoded.push([toWidth, toHeight, type]);
      return Promise.resolve(new Blob([new Uint8Array(bytes(type, toWidth, quality))], { type }));
    },
  };
  return { studio: made, encoded };
}
const file = (data: Uint8Array, type = "image/png") => new File([data as Uint8Array<ArrayBuffer>], "my.png", { type });
const bytesOf = async (blob: Blob) => new Uint8Array(await blob.arrayBuffer());

describe("looking at a picture", () => {
  test("given each format's first bytes, when looked at, then it is known; a name does not count", () => {
    expect(sniff(STILL)).toBe("PNG");
    expect(sniff(jpeg())).toBe("JPEG");
    expect(sniff(gif(1))).toBe("GIF");
    expect(sniff(Uint8Array.from([...ascii("RIFF"), 0, 0, 0, 0, ...ascii("WEBPVP8 ")]))).toBe("WEBP");
    expect(sniff(Uint8Array.from(ascii("<svg onload=alert(1)>")))).toBeNull();
    expect(sniff(new Uint8Array())).toBeNull();
  });

  test("given animations, when looked at, then they are told from stills", () => {
    expect(isAnimated(gif(1), "GIF")).toBe(false);
    expect(isAnimated(gif(2), "GIF")).toBe(true);
    expect(isAnimated(STILL, "PNG")).toBe(false);
    expect(isAnimated(png(["IHDR", [0]], ["acTL", [0, 0, 0, 3, 0, 0, 0, 0]], ["IDAT", [1]]), "PNG")).toBe(true);
    const webp = [...ascii("RIFF"), 0, 0, 0, 0, ...ascii("WEBPVP8X"), 10, 0, 0, 0, 2, 0, 0, 0];
    expect(isAnimated(Uint8Array.from(webp), "WEBP")).toBe(true);
  });

  test("given files that are cut anywhere, when looked at, then nothing is thrown", () => {
    const pictures = [
      jpeg([0xe1, exif(TURNED, PLACE)]),
      gif(2),
      png(["IHDR", [0]], ["acTL", [0, 0, 0, 3]], ["eXIf", tiff(TURNED, PLACE)]),
      webp(["VP8X", [8, 0, 0, 0, 0, 0, 0, 0, 0, 0]], ["EXIF", tiff(TURNED, PLACE)]),
    ];
    for (const whole of pictures) {
      for (let length = 0; length <= whole.length; length += 1) {
        const cut = whole.slice(0, length);
        const format = sniff(cut);
        if (format && format !== "PNG") isAnimated(cut, format);
        if (format) withoutHiddenData(cut, format);
      }
    }
  });

  test("given a photo with place, comment and rotation, when the hidden data is left out, then only the rotation stays", () => {
    const photo = jpeg([0xe0, [7]], [0xe1, exif(TURNED, PLACE)], [0xfe, ascii("at home")], [0xdb, [9, 9]]);
    const clean = withoutHiddenData(photo, "JPEG");
    expect(readExif(photo, "JPEG")).toEqual({ orientation: 6, hasPlace: true });
    expect(readExif(clean, "JPEG")).toEqual({ orientation: 6, hasPlace: false });
    expect(new TextDecoder("latin1").decode(clean)).not.toContain("at home");
    const scan = (data: Uint8Array) => [...data.slice(data.length - 15)];
    expect(scan(clean)).toEqual(scan(photo));
  });
});

const XMP = ascii('<x exif:GPSLatitude="52,31N"/>');
const XMP_KEY = ascii("XML:com.adobe.xmp\0");
const IHDR: [string, number[]] = ["IHDR", new Array<number>(13).fill(1)];
const VP8X: [string, number[]] = ["VP8X", [0x1c, 0, 0, 0, 0, 0, 0, 0, 0, 0]];
const names = (data: Uint8Array) => new TextDecoder("latin1").decode(data);

describe("where it was taken", () => {
  test.each([
    ["a JPEG's XMP", "JPEG", jpeg([0xe1, [...ascii("http://ns.adobe.com/xap/1.0/\0"), ...XMP]])],
    ["a PNG's EXIF", "PNG", png(IHDR, ["IDAT", [1]], ["eXIf", tiff(PLACE)])],
    ["a PNG's XMP", "PNG", png(IHDR, ["iTXt", [...XMP_KEY, 0, 0, 0, 0, ...XMP]], ["IDAT", [1]])],
    ["a PNG's packed XMP", "PNG", png(IHDR, ["iTXt", [...XMP_KEY, 1, 0, 0, 0, 9, 9]], ["IDAT", [1]])],
    ["a PNG's profile", "PNG", png(IHDR, ["zTXt", [...ascii("Raw profile type exif\0"), 0, 9]], ["IDAT", [1]])],
    ["a WebP's EXIF", "WEBP", webp(VP8X, ["VP8 ", [1]], ["EXIF", tiff(PLACE)])],
    ["a WebP's EXIF with a JPEG's head", "WEBP", webp(VP8X, ["VP8 ", [1]], ["EXIF", exif(PLACE)])],
    ["a WebP's XMP", "WEBP", webp(VP8X, ["VP8 ", [1]], ["XMP ", XMP])],
  ] as const)("given %s that tells it, when prepared, then it is left out and said, and the picture is the same", async (_, format, data) => {
    expect(tellsPlace(data, format)).toBe(true);
    const { studio: made, encoded } = studio(28, 28);
    const prepared = await preparePicture(file(data), LIMITS, { studio: made });
    expect(prepared.changes).toEqual([{ kind: "place-removed" }]);
    const bare = await bytesOf(prepared.blob);
    expect(sniff(bare)).toBe(format);
    expect(tellsPlace(bare, format)).toBe(false);
    expect(names(bare)).not.toMatch(/GPS|EXIF|eXIf|XMP |iTXt|zTXt/);
    expect(names(bare)).toMatch({ JPEG: /\x01\x02\x03/, PNG: /IHDR.*IDAT/s, WEBP: /VP8 / }[format]);
    expect(encoded).toEqual([]);
  });

  test.each([
    ["PNG", png(IHDR, ["tEXt", ascii("Software\0x")], ["IDAT", [1]], ["eXIf", tiff(TURNED)])],
    ["WEBP", webp(VP8X, ["VP8 ", [1]], ["XMP ", ascii("<x/>")])],
    ["GIF", gif(1)],
  ] as const)("given a %s that tells no place, when prepared, then it stays byte for byte", async (_, data) => {
    const { studio: made } = studio(28, 28);
    const prepared = await preparePicture(file(data), LIMITS, { studio: made });
    expect(prepared.changes).toEqual([]);
    expect(await bytesOf(prepared.blob)).toEqual(data);
  });

  test("given a turned PNG and a turned WebP, when the rest is left out, then which way is up is kept, and the file is whole", () => {
    const bare = withoutHiddenData(png(IHDR, ["IDAT", [1]], ["eXIf", tiff(TURNED, PLACE)]), "PNG");
    expect(readExif(bare, "PNG")).toEqual({ orientation: 6, hasPlace: false });
    const at = names(bare).indexOf("eXIf");
    const length = new DataView(bare.buffer).getUint32(at - 4);
    expect(new DataView(bare.buffer).getUint32(at + 4 + length)).toBe(crc32(bare.subarray(at, at + 4 + length)));
    const web = withoutHiddenData(webp(VP8X, ["VP8 ", [1]], ["EXIF", tiff(TURNED, PLACE)], ["XMP ", XMP]), "WEBP");
    expect(readExif(web, "WEBP")).toEqual({ orientation: 6, hasPlace: false });
    expect(new DataView(web.buffer).getUint32(4, true)).toBe(web.length - 8);
    expect(web[20]).toBe(0x18); // still with alpha and EXIF, no longer with XMP
  });
});

test("given transparency, when drawn as JPEG, then it lies on white, and as PNG on nothing", async () => {
  const drawn: string[] = [];
  const context = {
    set fillStyle(colour: string) {
      drawn.push(colour);
    },
    fillRect: (...place: number[]) => drawn.push(`fill ${place.join()}`),
    drawImage: () => drawn.push("picture"),
  };
  vi.spyOn(HTMLCanvasElement.prototype, "getContext").mockReturnValue(context as never);
  vi.spyOn(HTMLCanvasElement.prototype, "toBlob").mockImplementation((done) => done(new Blob(["x"])));
  await browserStudio.encode({} as CanvasImageSource, 4, 3, "image/jpeg", 1);
  expect(drawn.splice(0)).toEqual(["#fff", "fill 0,0,4,3", "picture"]);
  await browserStudio.encode({} as CanvasImageSource, 4, 3, "image/png", 1);
  expect(drawn).toEqual(["picture"]);
});

describe("preparing a picture", () => {
  test("given one that fits, when prepared, then it stays byte for byte", async () => {
    const { studio: made, encoded } = studio(28, 28);
    const prepared = await preparePicture(file(STILL), LIMITS, { studio: made });
    expect(await bytesOf(prepared.blob)).toEqual(STILL);
    expect(prepared).toMatchObject({ format: "PNG", width: 28, height: 28, changes: [] });
    expect(encoded).toEqual([]);
  });

  test("given too many pixels, when prepared, then it is made smaller in the same shape, and that is told", async () => {
    const { studio: made } = studio(400, 100);
    const prepared = await preparePicture(file(STILL), LIMITS, { studio: made });
    expect([prepared.width, prepared.height]).toEqual([200, 50]);
    expect(prepared.changes[0]).toEqual({ kind: "resized", from: [400, 100], to: [200, 50] });
  });

  test("given too many bytes, when prepared, then first the quality goes and then the size, until it fits", async () => {
    const { studio: made, encoded } = studio(100, 100, (type, width) => (type === "image/jpeg" ? width * 15 : 5_000));
    const big = Uint8Array.from([...STILL, ...new Array<number>(2_000).fill(0)]);
    const prepared = await preparePicture(file(big), LIMITS, { studio: made });
    expect(prepared.blob.size).toBeLessThanOrEqual(LIMITS.image_bytes);
    expect(prepared.format).toBe("JPEG");
    expect(encoded.map(([width, , type]) => [width, type])).toEqual([
      [100, "image/png"],
      [100, "image/jpeg"],
      [100, "image/jpeg"],
      [75, "image/jpeg"],
      [56, "image/jpeg"],
    ]);
    expect(prepared.changes.map((change) => change.kind)).toEqual(["resized", "format", "compressed"]);
  });

  test("given one that never fits, when prepared, then it is refused after a bounded number of tries", async () => {
    const { studio: made, encoded } = studio(90, 90, () => 5_000);
    const big = Uint8Array.from([...STILL, ...new Array<number>(2_000).fill(0)]);
    await expect(preparePicture(file(big), LIMITS, { studio: made })).rejects.toMatchObject({ fault: "too-large" });
    expect(encoded.length).toBeLessThan(10);
  });

  test("given a photo that tells its place, when prepared, then the place is left out unless it is wanted", async () => {
    const photo = jpeg([0xe1, exif(PLACE)]);
    const { studio: made } = studio(28, 28);
    const prepared = await preparePicture(file(photo, "image/jpeg"), LIMITS, { studio: made });
    expect(prepared.changes).toEqual([{ kind: "place-removed" }]);
    expect(readExif(await bytesOf(prepared.blob), "JPEG")?.hasPlace ?? false).toBe(false);
    const kept = await preparePicture(file(photo, "image/jpeg"), LIMITS, { studio: made, keepHidden: true });
    expect(await bytesOf(kept.blob)).toEqual(photo);
  });

  test("given an animation or a format that is not accepted, when prepared, then it is written anew and that is told", async () => {
    const { studio: made } = studio(28, 28);
    const moving = await preparePicture(file(gif(2), "image/gif"), LIMITS, { studio: made });
    expect(moving).toMatchObject({ format: "PNG" });
    expect(moving.changes.map((change) => change.kind)).toContain("first-frame");
    const other = await preparePicture(new Blob(["BM......"], { type: "image/bmp" }), LIMITS, { studio: made });
    expect(other.changes).toContainEqual({ kind: "format", from: "BMP", to: "JPEG" });
  });

  test("given no picture, when prepared, then it says which fault it is", async () => {
    const { studio: made } = studio(1, 1);
    await expect(preparePicture(new Blob([]), LIMITS, { studio: made })).rejects.toMatchObject({ fault: "empty" });
    const broken: Studio = { ...made, decode: () => Promise.reject(new Error("no")) };
    const refused = preparePicture(file(STILL), LIMITS, { studio: broken });
    await expect(refused).rejects.toBeInstanceOf(BadPicture);
    await expect(refused).rejects.toMatchObject({ fault: "unreadable" });
  });

  test("given any size, when fitted, then it has no more pixels than allowed and at least one each way", () => {
    for (const [width, height] of [[1, 1_000_000], [6_000, 6_000], [101, 99], [3, 3]] as const) {
      const [toWidth, toHeight] = fit(width, height, 10_000);
      expect(toWidth * toHeight).toBeLessThanOrEqual(Math.max(10_000, height));
      expect(Math.min(toWidth, toHeight)).toBeGreaterThanOrEqual(1);
    }
  });
});
