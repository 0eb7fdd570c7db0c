"""The process that decodes pictures under resource limits, exactly as a provider will.

A frame (``frames.py``) with a picture comes in, one with a JSON object goes out: ``format``, ``width`` and ``height``
in pixels as the picture is to be shown, or ``reason`` (a name of ``FailureReason``) and ``message``.

Arguments: most pixels, most address space in bytes, most processor seconds a picture.
"""

from __future__ import annotations

import io
import json
import resource
import sys

from PIL import Image

from oracle.content.frames import serve
from provider_images.runtime.decoding import NAMES, Picture, PictureError, UnknownFormat, limits

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
    """What a picture is, after all of it was decoded. Raises PictureError, MemoryError, and as ``verify`` does."""
    picture = Picture(data, most_pixels)
    width, height = picture.decode("RGB").size
    if picture.format == "PNG":
        # Decoding skips checksums that other decoders, a provider's among them, insist on.
        with Image.open(io.BytesIO(data), formats=("PNG",)) as again:
            again.verify()
    return {"format": picture.format, "width": width, "height": height}


def _unknown(data: bytes, message: str) -> dict[str, object]:
    name = _foreign_format(data)
    if name == "SVG":
        message = f"it is an SVG drawing, which has no pixels; export it as {NAMES}"
    elif name is not None:
        message = f"it is a {name} file; send {NAMES}"
    return {"reason": "IMAGE_UNSUPPORTED" if name is not None else "IMAGE_UNREADABLE", "message": message}


def _verdict(data: bytes, most_pixels: int) -> dict[str, object]:
    try:
        with limits(most_pixels):
            return examine(data, most_pixels)
    except UnknownFormat as error:
        return _unknown(data, str(error))
    except PictureError as error:
        return {"reason": f"IMAGE_{error.failure.name}", "message": str(error)}
    except MemoryError:
        return {"reason": "IMAGE_TOO_LARGE", "message": "decoding it takes more memory than allowed"}
    except Exception as error:  # noqa: BLE001
        return {"reason": "IMAGE_UNREADABLE", "message": f"it is damaged: {error or type(error).__name__}"}


def main() -> None:
    """Set the limits and serve."""
    most_pixels, memory, seconds = (int(argument) for argument in sys.argv[1:4])
    Image.preinit()
    # Loaded before the memory is limited.
    from PIL import MpoImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    serve(lambda data: json.dumps(_verdict(data, most_pixels)).encode(), seconds)


if __name__ == "__main__":
    main()
