"""Pictures made to exhaust a decoder: few bytes that mean many pixels, much memory or long work.

Each is made when it is asked for, so that they need not lie in memory together.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

from PIL import Image

from tests.pictures.seeds import PNG_KINDS, SIGNATURE, chunk, encoded, exif, noise, png_header, seeds

LARGEST = 16 * 1024 * 1024  # bytes that the oracle takes
MEGA = 1_000_000


def _zeros(count: int) -> bytes:
    """That many zeros under zlib, without having them all in memory."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(MEGA)) for _ in range(count // MEGA)]
    return b"".join((*parts, packer.compress(bytes(count % MEGA)), packer.flush()))


def _png(*chunks: bytes, size: tuple[int, int] = (1, 1), depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    header = png_header(*size, depth, colour)
    return (
        SIGNATURE + header + b"".join(chunks) + (data or chunk(b"IDAT", zlib.compress(b"\0\0"))) + chunk(b"IEND", b"")
    )


def blank_png(width: int, height: int, colour: int = 0, depth: int = 8, interlace: int = 0) -> bytes:
    """A valid PNG without anything on it: a thousandth of its pixels in bytes."""
    row = 1 + -(-width * PNG_KINDS[colour, depth] // 8)
    # Interlaced rows are shorter but more; a few zeros too many do no harm.
    data = chunk(b"IDAT", _zeros(row * height + (9 * height if interlace else 0)))
    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256)) if colour == 3 else b""
    return SIGNATURE + png_header(width, height, depth, colour, interlace) + palette + data + chunk(b"IEND", b"")


def _texts(kind: bytes, count: int, size: int) -> bytes:
    packed = _zeros(size)
    middle = {b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0", b"iCCP": b"\0\0"}[kind]
    return b"".join(chunk(kind, b"k%d" % i + middle + packed) for i in range(count))


def _tags(count: int, size: int, total: int) -> bytes:
    """EXIF whose every tag points to the same ``size`` bytes."""
    entries = b"".join(struct.pack("<HHLL", 1000 + i, 7, size, 8) for i in range(count))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4)).ljust(total, b"\0")


def _broken_texts(count: int) -> bytes:
    """Texts that unpack to most of a megabyte before they turn out to be damaged, and so are not counted."""
    packed = _zeros(MEGA - 1000)
    body = b"key\0\0" + packed[:-8] + b"\xff" * 8
    return chunk(b"zTXt", body) * count


# JPEG


def _jpeg_parts(width: int, height: int, *, progressive: bool, mode: str = "L") -> tuple[bytes, bytes]:
    """The tables and frame of a JPEG of that size, and the scans of a small one."""
    data = encoded(Image.new(mode, (16, 16)), "JPEG", progressive=progressive, subsampling=0)
    frame = data.find(b"\xff\xc2" if progressive else b"\xff\xc0")
    scan = data.find(b"\xff\xda")
    sides = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return data[: frame + 5] + sides + data[frame + 9 : scan], data[scan:-2]


def jpeg_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose first scan is followed by many that each refine every block by nothing."""
    head, first = _jpeg_parts(width, height, progressive=True)
    first = first[: first.find(b"\xff\xda", 2)] if b"\xff\xda" in first[2:] else first
    # Coefficients 1 to 63, one bit of precision less each time: runs of blocks without a change.
    table = b"\xff\xc4" + (2 + 17 + 1).to_bytes(2, "big") + b"\x10" + bytes((1, *[0] * 15)) + b"\xe0"
    begin = b"\xff\xda\0\x08\1\1\0\1\x3f\x01"
    again = b"\xff\xda\0\x08\1\1\0\1\x3f\x10"
    run = b"\x00\x3f" * (width * height // 64 // 16384 + 1)
    return head + first + table + begin + run + (again + run) * scans + b"\xff\xd9"


def jpeg_short(width: int, height: int, mode: str = "L", *, progressive: bool = False) -> bytes:
    """Many pixels, of which the data holds a few."""
    head, scans = _jpeg_parts(width, height, progressive=progressive, mode=mode)
    return head + scans + b"\xff\xd9"


def jpeg_segments(marker: int, body: bytes, count: int) -> bytes:
    """A small JPEG behind that many segments of metadata."""
    data = seeds()["jpeg RGB baseline"]
    return data[:2] + (bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body) * count + data[2:]


# GIF


def gif(
    width: int, height: int, blocks: bytes, *, frame: tuple[int, int, int, int] | None = None, before: bytes = b""
) -> bytes:
    """A GIF of two grey levels with that data."""
    place = struct.pack("<4H", *(frame or (0, 0, width, height)))
    screen = b"GIF89a" + struct.pack("<2H", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return screen + before + b"," + place + b"\0\2" + blocks + b"\0;"


def _lzw_run(pixels: int) -> bytes:
    """One colour as LZW codes that each stand for one pixel more than the one before, in blocks of a byte each."""
    codes, width, following, left = [(4, 3)], 3, 6, pixels
    codes.append((0, 3))
    left -= 1
    length = 2
    while left > 0:
        codes.append((following, width))
        left -= length
        length += 1
        following += 1
        if following == 1 << width and width < 12:
            width += 1
        if following >= 4095:
            codes.append((4, width))
            width, following, length = 3, 6, 2
            codes.append((0, 3))
            left -= 1
    codes.append((5, width))
    value = held = 0
    out = bytearray()
    for code, size in codes:
        value |= code << held
        held += size
        while held >= 8:
            out.append(value & 255)
            value >>= 8
            held -= 8
    out.append(value & 255)
    return b"".join(bytes((len(out[i : i + 255]),)) + out[i : i + 255] for i in range(0, len(out), 255))


# WebP


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks."""
    body = b"".join(kind + struct.pack("<L", len(inner)) + inner + b"\0" * (len(inner) & 1) for kind, inner in chunks)
    return b"RIFF" + struct.pack("<L", len(body) + 4) + b"WEBP" + body


def _canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes((flags, 0, 0, 0)) + sides


def _bitstream(name: str) -> tuple[bytes, bytes]:
    data = seeds()[name]
    size = int.from_bytes(data[16:20], "little")
    return data[12:16], data[20 : 20 + size]


def _claims(width: int, height: int) -> tuple[bytes, bytes]:
    """A lossless picture of that size whose data is that of a small one."""
    kind, data = _bitstream("webp lossless")
    said = (width - 1) | (height - 1) << 14
    return kind, data[:1] + struct.pack("<L", said) + data[5:]


def _webp_frames(count: int) -> bytes:
    kind, data = _bitstream("webp lossless")
    inner = kind + struct.pack("<L", len(data)) + data + b"\0" * (len(data) & 1)
    frame = b"ANMF", bytes(6) + b"\x24\0\0\x16\0\0" + b"\x0a\0\0\0" + inner
    return riff(_canvas(37, 23, 2), (b"ANIM", bytes(6)), *[frame] * count)


def _zip(first: bytes) -> bytes:
    target = io.BytesIO(first)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20 * MEGA))
    return target.getvalue()


def _jpeg_in(first: bytes) -> bytes:
    return first + seeds()["jpeg RGB baseline"]


BOMBS: Mapping[str, Callable[[], bytes]] = {
    # Few bytes, many pixels: up to the limit they are pictures like any other.
    **{
        f"png of 40 megapixels, colour type {colour}, {depth} bits": lambda c=colour, d=depth: blank_png(
            8000, 5000, c, d
        )  # type: ignore[misc]
        for colour, depth in ((0, 1), (0, 16), (2, 8), (2, 16), (3, 8), (4, 8), (6, 8), (6, 16))
    },
    "png of 40 megapixels, interlaced": lambda: blank_png(8000, 5000, 6, 8, 1),
    "png of 41 megapixels": lambda: blank_png(8000, 5126, 0, 1),
    "png of 65535 x 1": lambda: blank_png(65535, 1, 6, 8),
    "png of 1 x 65535": lambda: blank_png(1, 65535, 6, 8),
    "png of 40,000,000 x 1": lambda: blank_png(40 * MEGA, 1, 6, 8),
    "png of 1 x 40,000,000": lambda: blank_png(1, 40 * MEGA, 0, 1),
    "png of 1 x 1": lambda: blank_png(1, 1, 2, 8),
    "png of 2147483647 x 2147483647": lambda: _png(size=(2**31 - 1, 2**31 - 1)),
    "png of 4294967295 x 1": lambda: _png(size=(2**32 - 1, 1)),
    "png of 0 x 5": lambda: _png(size=(0, 5)),
    "jpeg of 40 megapixels, grey": lambda: jpeg_short(8000, 5000),
    "jpeg of 40 megapixels, colour": lambda: jpeg_short(8000, 5000, "RGB"),
    "jpeg of 40 megapixels, progressive": lambda: jpeg_short(8000, 5000, "RGB", progressive=True),
    "jpeg of 40 megapixels, progressive, cmyk": lambda: jpeg_short(8000, 5000, "CMYK", progressive=True),
    "jpeg of 19 megapixels, progressive, cmyk, turned": lambda: encoded(
        Image.new("CMYK", (4400, 4400)), "JPEG", progressive=True, subsampling=0, exif=exif(6)
    ),
    "jpeg of 65500 x 65500": lambda: jpeg_short(65500, 65500),
    "jpeg of 65535 x 1": lambda: encoded(Image.new("RGB", (65500, 1)), "JPEG"),
    "gif of 40 megapixels": lambda: gif(8000, 5000, _lzw_run(40 * MEGA)),
    "gif of 65535 x 65535": lambda: gif(65535, 65535, _lzw_run(MEGA)),
    "gif with a frame beyond its canvas": lambda: gif(10, 10, _lzw_run(MEGA), frame=(65535, 65535, 65535, 65535)),
    "gif with a frame that makes 40 megapixels": lambda: gif(10, 10, _lzw_run(MEGA), frame=(7900, 4900, 100, 100)),
    "gif of 65535 x 1": lambda: gif(65535, 1, _lzw_run(65535)),
    "webp of 16 megapixels, lossless": lambda: encoded(Image.new("RGBA", (4000, 4000)), "WEBP", lossless=True),
    "webp of 15 megapixels, lossless, turned": lambda: encoded(
        Image.new("RGBA", (4000, 3700)), "WEBP", lossless=True, exif=exif(6)
    ),
    "webp of 4 megapixels, lossless noise": lambda: encoded(
        noise("RGBA", 1, (2000, 2000)),
        "WEBP",
        lossless=True,
        method=0,
        quality=0,
    ),
    "webp of 40 megapixels, lossy": lambda: encoded(Image.new("RGB", (8000, 5000)), "WEBP", method=0),
    "webp of 16383 x 16383": lambda: riff(_claims(16383, 16383)),
    "webp of 16777216 x 16777216": lambda: riff(_canvas(2**24, 2**24), _bitstream("webp lossless")),
    "webp with a small picture on a large canvas": lambda: riff(_canvas(6300, 6300), _bitstream("webp lossless")),
    "webp with a large picture on a small canvas": lambda: riff(_canvas(10, 10), _claims(6000, 6000)),
    # More in the stream than the header says.
    "png with a gigabyte behind one pixel": lambda: _png(data=chunk(b"IDAT", _zeros(1000 * MEGA))),
    "png with a gigabyte in 16,000 pieces": lambda: _png(data=_pieces(_zeros(1000 * MEGA), 64)),
    "gif with 40 megapixels in one": lambda: gif(1, 1, _lzw_run(40 * MEGA)),
    # Metadata.
    "png with a text of a gigabyte": lambda: _png(_texts(b"zTXt", 1, 1000 * MEGA)),
    "png with 70 texts of a megabyte": lambda: _png(_texts(b"zTXt", 70, MEGA)),
    "png with 6 texts of a megabyte": lambda: _png(_texts(b"iTXt", 6, MEGA)),
    "png with 60 texts of wide letters": lambda: _png(
        chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress("\U0001f600".encode() + b"a" * (MEGA - 9))) * 60
    ),
    "png with 10,000 profiles of a megabyte": lambda: _png(_texts(b"iCCP", 10_000, MEGA)),
    "png with 40,000 texts": lambda: _png(_texts(b"zTXt", 40_000, 1000)),
    "png with 12,000 texts that break off": lambda: _png(_broken_texts(12_000)),
    "png with a million empty chunks": lambda: _png(chunk(b"prVt", b"") * 1_300_000),
    "png with a million pieces of data": lambda: _png(data=_pieces(zlib.compress(bytes(10 * MEGA), 0)[:1_200_000], 1)),
    "png with 65,535 tags of exif": lambda: _png(chunk(b"eXIf", _tags(60_000, 10 * MEGA, 15 * MEGA))),
    "png with tags of exif that overlap": lambda: _png(chunk(b"eXIf", _tags(60_000, 200, 15 * MEGA))),
    "png with 15 MB of exif in hexadecimal": lambda: _png(
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  9\n" + _tags(9, 9, 7 * MEGA).hex().encode())
    ),
    "jpeg with 15 MB of exif": lambda: jpeg_segments(0xE1, b"Exif\0\0" + _tags(5000, 60_000, 65_000), 230),
    "jpeg with four million comments": lambda: jpeg_segments(0xFE, b"", 4_000_000),
    "jpeg with a million notes": lambda: jpeg_segments(0xED, b"Photoshop 3.0\0", 900_000),
    "jpeg with many profiles": lambda: jpeg_segments(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(10), 590_000),
    "jpeg with tables over and over": lambda: jpeg_segments(0xDB, bytes(65), 240_000),
    "jpeg with 15 MB between its segments": lambda: seeds()["jpeg RGB baseline"].replace(
        b"\xff\xdb", bytes(15 * MEGA) + b"\xff\xdb", 1
    ),
    "jpeg with 15 MB of fillings": lambda: seeds()["jpeg RGB baseline"].replace(
        b"\xff\xdb", b"\xff" * 15 * MEGA + b"\xff\xdb", 1
    ),
    "jpeg with 7 million restarts": lambda: seeds()["jpeg RGB baseline"][:-2] + b"\xff\xd0" * 7 * MEGA + b"\xff\xd9",
    "jpeg with 15 MB of escapes": lambda: seeds()["jpeg RGB baseline"][:-2] + b"\xff\0" * 7 * MEGA + b"\xff\xd9",
    "jpeg with 15 MB of ends": lambda: seeds()["jpeg RGB baseline"] + b"\xff\xd9" * 7 * MEGA,
    "mpo that promises many views": lambda: jpeg_segments(
        0xE2,
        b"MPF\0II*\0\x08\0\0\0\2\0" + struct.pack("<HHLLHHLL", 0xB001, 4, 1, 2**31, 0xB002, 7, 16, 8) + bytes(40),
        1,
    ),
    "gif with a million comments": lambda: gif(1, 1, b"\2\x44\1", before=b"!\xfe\1x\0" * 3_000_000),
    "gif with 8 million blocks of one byte": lambda: gif(1, 1, b"\2\x44\1" + b"\1\0" * 8_000_000),
    "gif with 15 MB before its frame": lambda: gif(1, 1, b"\2\x44\1", before=bytes(15 * MEGA)),
    "gif with 15 MB behind its frame": lambda: gif(1, 1, b"\2\x44\1\0" + bytes(15 * MEGA)),
    "gif with a comment of 15 MB": lambda: gif(
        1, 1, b"\2\x44\1", before=b"!\xfe" + (b"\xff" + bytes(255)) * 60_000 + b"\0"
    ),
    "webp with a profile of 15 MB": lambda: riff(
        _canvas(37, 23, 0x20), (b"ICCP", bytes(15 * MEGA)), _bitstream("webp lossless")
    ),
    "webp with a million chunks": lambda: riff(
        _canvas(37, 23), _bitstream("webp lossless"), *[(b"ABCD", b"")] * 1_900_000
    ),
    # The same work again and again.
    "jpeg of 40 megapixels with 20 scans": lambda: jpeg_scans(8000, 5000, 20),
    "jpeg of 40 megapixels with 20,000 scans": lambda: jpeg_scans(8000, 5000, 20_000),
    "jpeg of one block with 90 scans": lambda: jpeg_scans(8, 8, 90),
    "jpeg of one block with 400,000 scans": lambda: jpeg_scans(8, 8, 400_000),
    "jpeg with 500,000 scans that are no scans": lambda: jpeg_segments(0xDA, b"\1\1\0\0\x3f\0", 500_000),
    "gif of 100,000 frames": lambda: gif(1, 1, b"\2\x44\1\0" + b",\0\0\0\0\1\0\1\0\0\2\2\x44\1\0" * 100_000),
    "webp of 9,000 frames": lambda: _webp_frames(9_000),
    "png of 4,000,000,000 frames": lambda: _png(chunk(b"acTL", b"\xee\xff\xff\xff\0\0\0\0")),
    # Two files in one.
    "gif with a jpeg behind": lambda: _jpeg_in(seeds()["gif"]),
    "png with a jpeg behind": lambda: _jpeg_in(seeds()["png 2 8 plain"]),
    "pdf with a jpeg behind": lambda: _jpeg_in(b"%PDF-1.4\n"),
    "svg with a jpeg behind": lambda: _jpeg_in(b"<svg xmlns='http://www.w3.org/2000/svg'>"),
    "page with a gif in it": lambda: b"<html>" + seeds()["gif"],
    "png with an archive behind": lambda: _zip(seeds()["png 2 8 plain"]),
    "jpeg with an archive behind": lambda: _zip(seeds()["jpeg RGB baseline"]),
    "riff of sound": lambda: seeds()["webp lossy"].replace(b"WEBP", b"WAVE", 1),
}


def _pieces(data: bytes, size: int) -> bytes:
    return b"".join(chunk(b"IDAT", data[i : i + size]) for i in range(0, len(data), size))
