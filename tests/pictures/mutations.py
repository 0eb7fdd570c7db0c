"""Damaged pictures, each from a number alone: ``mutant(number, seeds)`` gives the same bytes on every run."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence

from tests.pictures.seeds import SIGNATURE, chunk

Chunk = tuple[bytes, bytes]
Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

_EDGES = (
    0,
    1,
    2,
    3,
    7,
    8,
    127,
    128,
    255,
    256,
    4095,
    16383,
    16384,
    32767,
    65535,
    2**24 - 1,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_KINDS = [b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"bKGD", b"sBIT"]
_KINDS += [b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT", b"prVt", b"CgBI"]


def _number(rng: random.Random, size: int) -> int:
    value = rng.choice((*_EDGES, rng.getrandbits(8 * size), rng.randrange(1, 300)))
    return value & (2 ** (8 * size) - 1)


# Any file


def bits(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A few bits turned over."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 30))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def head_bits(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Bytes of the headers replaced."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(min(len(changed), 100))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def numbers(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Numbers of two or four bytes replaced by those at which programs go wrong."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        size = rng.choice((2, 4))
        place = rng.randrange(len(changed))
        changed[place : place + size] = _number(rng, size).to_bytes(size, rng.choice(("big", "little")))
    return bytes(changed)


def run(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A run of bytes overwritten."""
    start, length = rng.randrange(len(data)), rng.randrange(1, 200)
    filling = rng.choice((b"\0", b"\xff", bytes((rng.randrange(256),)))) * length
    return data[:start] + rng.choice((filling, rng.randbytes(length))) + data[start + length :]


def cut(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The end missing."""
    return data[: rng.randrange(len(data))]


def hole(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A part left out, repeated or moved in from elsewhere."""
    start, length = rng.randrange(len(data)), rng.randrange(1, max(2, len(data) // 4))
    part = data[start : start + length]
    place = rng.randrange(len(data))
    return rng.choice((data[:start] + data[start + length :], data[:place] + part * rng.randrange(1, 6) + data[place:]))


def splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The beginning of one file and the end of another."""
    other = rng.choice(others)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


# PNG: every checksum is right again, so that the lie gets as far as it can


def _png_chunks(data: bytes) -> list[Chunk]:
    found, position = [], 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        found.append((data[position + 4 : position + 8], data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def _png_file(chunks: Sequence[Chunk]) -> bytes:
    return SIGNATURE + b"".join(chunk(kind, body) for kind, body in chunks)


def png_chunks(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Chunks doubled, left out, exchanged, renamed, cut short or cut in pieces."""
    chunks = _png_chunks(data)
    for _ in range(rng.randrange(1, 4)):
        i, j = rng.randrange(len(chunks)), rng.randrange(len(chunks))
        kind, body = chunks[i]
        match rng.randrange(6):
            case 0:
                chunks.insert(j, chunks[i])
            case 1 if len(chunks) > 1:
                del chunks[i]
            case 2:
                chunks[i], chunks[j] = chunks[j], chunks[i]
            case 3:
                chunks[i] = (rng.choice(_KINDS), body)
            case 4:
                chunks[i] = (kind, body[: rng.randrange(len(body) + 1)])
            case _:
                chunks[i : i + 1] = [(kind, bytes((byte,))) for byte in body[:300]] or [(kind, b"")] * 50
    return _png_file(chunks)


def png_header_lies(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Another size, depth, colour type or interlacing than the data has."""
    chunks = _png_chunks(data)
    header = bytearray(chunks[0][1].ljust(13, b"\0"))
    for _ in range(rng.randrange(1, 3)):
        match rng.randrange(4):
            case 0 | 1:
                place = rng.choice((0, 4))
                header[place : place + 4] = _number(rng, 4).to_bytes(4, "big")
            case 2:
                header[8], header[9] = rng.choice((1, 2, 4, 8, 16)), rng.choice((0, 2, 3, 4, 6))
            case _:
                header[rng.randrange(10, 13)] = rng.choice((0, 1, 2, 255))
    return _png_file([(b"IHDR", bytes(header)), *chunks[1:]])


def png_rows(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Rows with unknown filters, too few or too many of them, or a damaged stream."""
    chunks = _png_chunks(data)
    packed = b"".join(body for kind, body in chunks if kind == b"IDAT")
    try:
        rows = bytearray(zlib.decompress(packed))
    except zlib.error:
        rows = bytearray(packed)
    match rng.randrange(4):
        case 0:
            rows = rows[: rng.randrange(len(rows) + 1)]
        case 1:
            rows += rng.randbytes(rng.randrange(1, 5000))
        case 2 if rows:
            for _ in range(9):
                rows[rng.randrange(len(rows))] = rng.randrange(256)
        case _:
            rows = rows[::-1]
    again = bytearray(zlib.compress(bytes(rows), rng.choice((0, 1, 9))))
    if rng.random() < 0.3:
        again[rng.randrange(len(again))] ^= 1 << rng.randrange(8)
    rest = [one for one in chunks if one[0] != b"IDAT"]
    place = max(1, len(rest) - 1)
    return _png_file([*rest[:place], (b"IDAT", bytes(again)), *rest[place:]])


def png_extras(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Further chunks whose contents are wrong: transparency, palettes, profiles, texts, EXIF, animation."""
    chunks = _png_chunks(data)
    for _ in range(rng.randrange(1, 4)):
        kind = rng.choice((*_KINDS[4:], b"PLTE"))
        body = rng.randbytes(rng.choice((0, 1, 2, 3, 6, 7, 26, 256, 257, 768, 2000)))
        if kind in (b"zTXt", b"iCCP"):
            body = rng.choice((b"", b"key")) + b"\0" + rng.choice((b"\0", b"\1", b"")) + zlib.compress(body)
        elif kind == b"iTXt":
            body = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b'tiff:Orientation="%d"' % rng.randrange(10) + body)
        elif kind == b"tEXt":
            keys = (b"exif", b"xmp", b"transparency", b"Raw profile type exif", b"dpi", b"gamma")
            body = rng.choice(keys) + b"\0" + body
        elif kind == b"eXIf":
            body = tiff(rng)
        elif kind == b"acTL":
            body = _number(rng, 4).to_bytes(4, "big") + bytes(4)
        chunks.insert(rng.randrange(1, len(chunks) + 1), (kind, body))
    return _png_file(chunks)


# EXIF in any format


def tiff(rng: random.Random) -> bytes:
    """A directory of tags with any types, counts and offsets."""
    order = rng.choice("<>")
    count = rng.choice((0, 1, 3, 20, 500))
    tags = (0x0112, 0x0112, 0x8769, 0x8825, 0x011A, 0x0128, 0x010F, 0x927C)
    entries = b"".join(
        struct.pack(
            f"{order}HHLL",
            rng.choice((*tags, rng.randrange(65536))),
            rng.choice((1, 2, 3, 3, 4, 5, 7, 10, 12, 13, 16, rng.randrange(300))),
            rng.choice((1, 1, 2, 0, _number(rng, 4))),
            rng.choice((rng.randrange(10), rng.randrange(3000), _number(rng, 4))),
        )
        for _ in range(count)
    )
    said = rng.choice((count, count, count + 1, 65535))
    start = rng.choice((8, 8, 8, _number(rng, 4)))
    head = rng.choice((b"II*\0", b"MM\0*", b"II*\0" if order == "<" else b"MM\0*", rng.randbytes(4)))
    return head + struct.pack(f"{order}LH", start, said) + entries + struct.pack(f"{order}L", rng.choice((0, 8)))


def exif(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The picture with EXIF or XMP that makes no sense."""
    tags = tiff(rng)
    if data.startswith(b"\xff\xd8"):
        body = rng.choice((b"Exif\0\0" + tags, b"MPF\0" + tags, b"ICC_PROFILE\0" + rng.randbytes(9) + tags))
        if rng.random() < 0.2:
            body = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="%d"/>' % rng.randrange(10)
        marker = b"\xff\xe2" if body.startswith((b"MPF", b"ICC")) else b"\xff\xe1"
        return data[:2] + (marker + (len(body) + 2).to_bytes(2, "big") + body) * rng.choice((1, 1, 3)) + data[2:]
    if data.startswith(SIGNATURE):
        chunks = _png_chunks(data)
        return _png_file([chunks[0], (b"eXIf", rng.choice((tags, b"Exif\0\0" + tags))), *chunks[1:]])
    if data.startswith(b"RIFF"):
        chunks = [one for one in _riff_chunks(data) if one[0] not in (b"EXIF", b"VP8X")]
        return _riff_file([(b"VP8X", b"\x08\0\0\0\x24\0\0\x16\0\0"), *chunks, (b"EXIF", tags)])
    return data[:-1] + b"!\xff\x0bXMP DataXMP" + bytes((len(tags) % 255,)) + tags[: len(tags) % 255] + b"\0;"


# JPEG


def _segments(data: bytes) -> tuple[list[bytes], bytes]:
    """The segments before the first scan, each whole, and the rest of the file."""
    found, position = [], 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        found.append(data[position:end])
        position = end
    return found, data[position:]


def jpeg_segments(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Tables and headers doubled, left out, exchanged, renamed, damaged; scans doubled."""
    segments, scans = _segments(data)
    for _ in range(rng.randrange(1, 4)):
        i, j = rng.randrange(len(segments)), rng.randrange(len(segments))
        match rng.randrange(6):
            case 0:
                segments.insert(j, segments[i])
            case 1 if len(segments) > 1:
                del segments[i]
            case 2:
                segments[i], segments[j] = segments[j], segments[i]
            case 3:
                segments[i] = b"\xff" + bytes((rng.randrange(0xC0, 0x100),)) + segments[i][2:]
            case 4:
                changed = bytearray(segments[i])
                changed[rng.randrange(len(changed))] = rng.randrange(256)
                segments[i] = bytes(changed)
            case _:
                scans = scans[:-2] * rng.randrange(1, 20) + scans
    return b"\xff\xd8" + b"".join(segments) + scans


def jpeg_frame(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Another size, precision, number of components or sampling than the scans have."""
    segments, scans = _segments(data)
    for i, segment in enumerate(segments):
        if segment[1] in (0xC0, 0xC1, 0xC2) and len(segment) > 11:
            frame = bytearray(segment)
            for _ in range(rng.randrange(1, 4)):
                match rng.randrange(5):
                    case 0 | 1:
                        place = rng.choice((5, 7))
                        frame[place : place + 2] = _number(rng, 2).to_bytes(2, "big")
                    case 2:
                        frame[rng.choice((1, 4, 9))] = rng.choice((0, 1, 3, 4, 8, 12, 0xC0, 0xC1, 0xC2, 0xC9))
                    case _:
                        place = rng.randrange(10, len(frame))
                        frame[place] = rng.choice((0x11, 0x22, 0x41, 0x14, 0x44, rng.randrange(256)))
            segments[i] = bytes(frame)
    return b"\xff\xd8" + b"".join(segments) + scans


# WebP


def _riff_chunks(data: bytes) -> list[Chunk]:
    found, position = [], 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        found.append((data[position : position + 4], data[position + 8 : position + 8 + length]))
        position += 8 + length + (length & 1)
    return found


def _riff_file(chunks: Sequence[Chunk]) -> bytes:
    body = b"".join(
        kind + len(inner).to_bytes(4, "little") + inner + b"\0" * (len(inner) & 1) for kind, inner in chunks
    )
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def webp_chunks(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Chunks doubled, left out, exchanged, cut short, damaged; canvases and flags that lie."""
    chunks = _riff_chunks(data)
    for _ in range(rng.randrange(1, 4)):
        i, j = rng.randrange(len(chunks)), rng.randrange(len(chunks))
        kind, body = chunks[i]
        match rng.randrange(6):
            case 0:
                chunks.insert(j, chunks[i])
            case 1 if len(chunks) > 1:
                del chunks[i]
            case 2:
                chunks[i], chunks[j] = chunks[j], chunks[i]
            case 3:
                chunks[i] = (kind, body[: rng.randrange(len(body) + 1)])
            case 4 if body:
                changed = bytearray(body)
                changed[rng.randrange(min(len(changed), 12))] = rng.randrange(256)
                chunks[i] = (kind, bytes(changed))
            case _:
                sides = b"".join(_number(rng, 3).to_bytes(3, "little") for _ in range(2))
                chunks.insert(0, (b"VP8X", bytes((rng.choice((0, 2, 16, 18, 255)), 0, 0, 0)) + sides))
    return _riff_file(chunks)


# GIF


def gif_fields(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Canvases, frames' places, palettes, code sizes and blocks that lie."""
    changed = bytearray(data)
    frame = max(13, data.find(b",", 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)))
    for _ in range(rng.randrange(1, 4)):
        place = rng.choice((6, 8, frame + 1, frame + 3, frame + 5, frame + 7))
        match rng.randrange(4):
            case 0 | 1:
                changed[place : place + 2] = _number(rng, 2).to_bytes(2, "little")
            case 2:
                place = rng.choice((10, 11, frame + 9, frame + 10, frame + 11))
                changed[min(place, len(changed) - 1)] = rng.choice((0, 1, 2, 8, 9, 12, 13, 64, 128, 135, 255))
            case _:
                flags = bytes((rng.randrange(256), 0, 0, rng.randrange(256)))
                changed[frame:frame] = b"!\xf9\x04" + flags + b"\0"
    return bytes(changed)


_ANY: tuple[Mutation, ...] = (bits, head_bits, numbers, run, cut, hole, splice)
_OWN: Mapping[bytes, tuple[Mutation, ...]] = {
    SIGNATURE: (png_chunks, png_header_lies, png_rows, png_extras, exif),
    b"\xff\xd8\xff": (jpeg_segments, jpeg_frame, exif),
    b"RIFF": (webp_chunks, exif),
    b"GIF8": (gif_fields, exif),
}


def mutant(number: int, seeds: Sequence[bytes]) -> bytes:
    """The damaged picture of that number: ``seeds`` are taken in turn, their mutations drawn."""
    rng = random.Random(number)
    data = seeds[number % len(seeds)]
    start = next((start for start in _OWN if data.startswith(start)), b"")
    changed = _own(rng, data, start, seeds) if rng.random() < 0.6 else data
    for _ in range(rng.choice((0, 1)) if changed is not data else rng.choice((1, 1, 2))):
        changed = rng.choice(_ANY)(rng, changed, seeds) if changed else rng.randbytes(40)
    # What does not begin like a picture, or has a wrong checksum, is soon refused: a few such tell as much as many.
    if rng.random() < 0.05:
        return changed
    changed = start + changed[len(start) :]
    return _png_file(_png_chunks(changed)) if start == SIGNATURE and rng.random() < 0.8 else changed


def _own(rng: random.Random, data: bytes, start: bytes, seeds: Sequence[bytes]) -> bytes:
    try:
        return rng.choice(_OWN[start])(rng, data, seeds) if start else data
    except (IndexError, ValueError):
        return data  # a file that was broken before has not the parts that its format's mutations change
