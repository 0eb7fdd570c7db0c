"""The process that decodes pictures: Pillow and the standard library, nothing of ours, under resource limits.

Protocol on its pipes: a frame is a 4-byte big-endian length and as many bytes. A picture comes in, one JSON object goes
out: ``format``, ``width`` and ``height`` in pixels, or ``reason`` (a name of ``FailureReason``) and ``message``. It
ends when its input does, so it never outlives its parent.

Arguments: most pixels, most address space in bytes, most processor seconds a picture.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
import warnings
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_ACCEPTED = "PNG, JPEG, WebP or GIF"

# What people send although we do not take it: how such files begin, so that the refusal can name them.
_FOREIGN = (
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "Windows icon"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"icns", "Apple icon"),
    (b"DDS ", "DDS"),
    (b"BLP", "BLP"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\x01\xda", "SGI"),
)
_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}


class Refused(Exception):
    """A picture we do not take."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _foreign_format(data: bytes) -> str | None:
    for start, name in _FOREIGN:
        if data.startswith(start):
            return name
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12])
    if b"<svg" in data[:4096].lower():
        return "SVG"
    return None


def examine(data: bytes, most_pixels: int) -> dict[str, object]:
    """Decode every pixel of a picture. Raises Refused."""
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        name = _foreign_format(data)
        if name == "SVG":
            raise Refused(
                "IMAGE_UNSUPPORTED", f"it is an SVG drawing, which has no pixels; export it as {_ACCEPTED}"
            ) from None
        if name is not None:
            raise Refused("IMAGE_UNSUPPORTED", f"it is a {name} file; send {_ACCEPTED}") from None
        raise Refused("IMAGE_UNREADABLE", f"it is not a {_ACCEPTED} picture, or its header is damaged") from None
    with image:
        width, height = image.size
        if width * height > most_pixels:
            raise _too_many_pixels(width, height, most_pixels)
        # A camera's MPO is a JPEG with further views behind it; every reader takes the first.
        name = "JPEG" if image.format == "MPO" else str(image.format)
        if name != "JPEG" and getattr(image, "is_animated", False):
            raise Refused("IMAGE_UNSUPPORTED", f"the {name} is animated; send a single frame")
        image.load()
    if name == "PNG":
        # Decoding skips checksums that other decoders, a provider's among them, insist on.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
            again.verify()
    return {"format": name, "width": width, "height": height}


def _too_many_pixels(width: int, height: int, most_pixels: int) -> Refused:
    return Refused(
        "IMAGE_TOO_LARGE",
        f"it has {width} x {height} = {width * height / 1e6:.1f} megapixels and {most_pixels / 1e6:g} are allowed",
    )


def _verdict(data: bytes, most_pixels: int) -> dict[str, object]:
    try:
        return examine(data, most_pixels)
    except Refused as error:
        return {"reason": error.reason, "message": str(error)}
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return {"reason": "IMAGE_TOO_LARGE", "message": f"it unpacks to too much: {error}"}
    except MemoryError:
        return {"reason": "IMAGE_TOO_LARGE", "message": "decoding it takes more memory than allowed"}
    except Exception as error:  # noqa: BLE001
        # Pillow's plugins raise whatever their parsing stumbles on: OSError, ValueError, SyntaxError, struct.error ...
        return {"reason": "IMAGE_UNREADABLE", "message": f"it cannot be decoded: {error or type(error).__name__}"}


def _read(stream: BinaryIO, count: int) -> bytes | None:
    data = stream.read(count)
    return data if len(data) == count else None


def serve(requests: BinaryIO, replies: BinaryIO, most_pixels: int, seconds: int) -> None:
    """Answer frames until the input ends."""
    while (header := _read(requests, 4)) is not None:
        data = _read(requests, struct.unpack(">I", header)[0])
        if data is None:
            return
        # The limit counts the process's whole life, and this process lives for many pictures.
        used = resource.getrusage(resource.RUSAGE_SELF)
        allowed = int(used.ru_utime + used.ru_stime) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))
        answer = json.dumps(_verdict(data, most_pixels)).encode()
        replies.write(struct.pack(">I", len(answer)) + answer)
        replies.flush()


def main() -> None:
    """Set the limits and serve."""
    most_pixels, memory, seconds = (int(argument) for argument in sys.argv[1:4])
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    # Pillow's own guard, for what is only found while decoding (a GIF's or WebP's inner frames).
    Image.MAX_IMAGE_PIXELS = most_pixels
    Image.preinit()
    from PIL import WebPImagePlugin  # noqa: F401  loaded before the memory is limited

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = sys.stdout.buffer
    # Nothing that a library prints may end up between the frames.
    sys.stdout = sys.stderr
    serve(sys.stdin.buffer, replies, most_pixels, seconds)


if __name__ == "__main__":
    main()
