"""Small valid pictures of every accepted kind, the same on every run: what mutations start from."""

from __future__ import annotations

import io
import os
import random
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
WIDTH, HEIGHT = 37, 23
# Bits a pixel: (colour type, depth) of every PNG there is.
PNG_KINDS = {
    (colour, depth): channels * depth
    for colour, channels, depths in (
        (0, 1, (1, 2, 4, 8, 16)),
        (2, 3, (8, 16)),
        (3, 1, (1, 2, 4, 8)),
        (4, 2, (8, 16)),
        (6, 4, (8, 16)),
    )
    for depth in depths
}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its right checksum."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_header(width: int, height: int, depth: int, colour: int, interlace: int = 0) -> bytes:
    """An IHDR chunk."""
    return chunk(
        b"IHDR", width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((depth, colour, 0, 0, interlace))
    )


def png_rows(width: int, height: int, bits: int, interlace: bool, rng: random.Random) -> bytes:
    """Rows of noise, each with a filter, as they are before compression."""
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    rows = bytearray()
    for left, top, step_x, step_y in passes:
        columns, lines = -(-(width - left) // step_x), -(-(height - top) // step_y)
        if columns > 0:
            for _ in range(lines):
                rows += bytes((rng.randrange(5),)) + rng.randbytes(-(-columns * bits // 8))
    return bytes(rows)


def png(
    colour: int, depth: int, *, interlace: bool = False, extra: bytes = b"", size: tuple[int, int] = (WIDTH, HEIGHT)
) -> bytes:
    """A valid PNG of noise; ``extra`` are chunks before its data."""
    rng = random.Random(colour * 100 + depth * 2 + interlace)
    palette = chunk(b"PLTE", rng.randbytes(3 << depth)) if colour == 3 else b""
    rows = png_rows(*size, PNG_KINDS[colour, depth], interlace, rng)
    data = chunk(b"IDAT", zlib.compress(rows))
    return SIGNATURE + png_header(*size, depth, colour, interlace) + palette + extra + data + chunk(b"IEND", b"")


def noise(mode: str, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A picture of coarse noise."""
    channels = Image.new(mode, (1, 1)).getbands()
    small = (max(1, size[0] // 4), max(1, size[1] // 4))
    rng = random.Random(seed)
    bands = [Image.frombytes("L", small, rng.randbytes(small[0] * small[1])).resize(size) for _ in channels]
    return Image.merge(mode, bands) if len(bands) > 1 else bands[0]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file that Pillow writes."""
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF that says how a picture lies."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x010F] = "maker"
    return tags


def _pngs() -> Iterator[tuple[str, bytes]]:
    for colour, depth in PNG_KINDS:
        for interlace in (False, True):
            yield (
                f"png {colour} {depth} {'interlaced' if interlace else 'plain'}",
                png(colour, depth, interlace=interlace),
            )
    for (colour, depth), alpha in {
        (0, 1): bytes(2),
        (0, 8): b"\0\x80",
        (0, 16): b"\x80\0",
        (2, 8): bytes(6),
        (2, 16): b"\xff" * 6,
        (3, 4): bytes(range(0, 256, 16)),
        (3, 8): b"\xff\0\xff",
    }.items():
        yield f"png {colour} {depth} transparent", png(colour, depth, extra=chunk(b"tRNS", alpha))
    texts = (
        chunk(b"tEXt", b"Title\0word")
        + chunk(b"zTXt", b"More\0\0" + zlib.compress(b"words" * 99))
        + chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b'<x tiff:Orientation="6"/>'))
        + chunk(b"gAMA", b"\0\0\xb1\x8f")
        + chunk(b"pHYs", b"\0\0\x0b\x13\0\0\x0b\x13\1")
    )
    yield "png with texts", png(2, 8, extra=texts)
    yield "png with exif", encoded(noise("RGB"), "PNG", exif=exif(8))
    frames = [noise("RGBA", seed) for seed in range(3)]
    yield "apng", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])


def _jpegs() -> Iterator[tuple[str, bytes]]:
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            name = f"jpeg {mode} {'progressive' if progressive else 'baseline'}"
            yield name, encoded(noise(mode), "JPEG", progressive=progressive)
    for subsampling in (0, 1, 2):
        yield f"jpeg sampling {subsampling}", encoded(noise("RGB"), "JPEG", subsampling=subsampling, quality=95)
    for orientation in range(1, 9):
        yield f"jpeg turned {orientation}", encoded(noise("RGB"), "JPEG", exif=exif(orientation))
    yield "jpeg with restarts", encoded(noise("RGB"), "JPEG", restart_marker_blocks=1)
    yield "jpeg with a profile", encoded(noise("RGB"), "JPEG", icc_profile=bytes(range(256)) * 4, comment=b"word")
    yield "mpo", encoded(noise("RGB"), "MPO", save_all=True, append_images=[noise("RGB", 1)])


def _webps() -> Iterator[tuple[str, bytes]]:
    yield "webp lossy", encoded(noise("RGB"), "WEBP", quality=60)
    yield "webp lossless", encoded(noise("RGB"), "WEBP", lossless=True)
    yield "webp lossy alpha", encoded(noise("RGBA"), "WEBP", quality=60)
    yield "webp lossless alpha", encoded(noise("RGBA"), "WEBP", lossless=True, exact=True)
    yield "webp turned", encoded(noise("RGB"), "WEBP", exif=exif(6), icc_profile=bytes(200), xmp=b"<x/>")
    frames = [noise("RGB", seed) for seed in range(3)]
    yield "webp animated", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


def _gifs() -> Iterator[tuple[str, bytes]]:
    coloured = noise("RGB").quantize(32)
    yield "gif", encoded(coloured, "GIF", interlace=0)
    yield "gif interlaced", encoded(coloured, "GIF", interlace=1)
    yield "gif transparent", encoded(coloured, "GIF", transparency=3, comment=b"word")
    yield "gif grey", encoded(noise("L"), "GIF")
    frames = [noise("RGB", seed).quantize(16) for seed in range(4)]
    yield "gif animated", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)


@cache
def seeds() -> dict[str, bytes]:
    """Every valid picture by its name."""
    return dict([*_pngs(), *_jpegs(), *_webps(), *_gifs()])


def corpus(*folders: str) -> dict[str, bytes]:
    """Files of the test data by name, or nothing where the data is not on this machine."""
    root = Path(os.environ.get("SIBYL_TEST_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
    files = [path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file()]
    return {path.name: path.read_bytes() for path in files}


def sown() -> list[bytes]:
    """Seeds for mutations: ours and those of the test data, the formats in turn and each as often as the others."""
    every = [*seeds().values(), *corpus("bad_images", "photos").values()]
    starts = (SIGNATURE, b"\xff\xd8\xff", b"RIFF", b"GIF8")
    formats = [[data for data in every if data.startswith(start)] for start in starts]
    return [found[i % len(found)] for i in range(max(map(len, formats))) for found in formats]
