"""What a picture may be, and how its bytes become pixels: Pillow and the standard library only.

The oracle's inspector runs this in a child process before anything is paid (``oracle/content/image_child.py``), a
provider runs it again before its model: one home, so that both come to the same verdict. Nothing here trusts the bytes:
formats, parts, frames, pixels, memory and repeated work are limited by what the headers say, before any is decoded.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from provider_images.runtime.job import ItemFailure
from provider_images.runtime.structure import TooManyParts, count_scans

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
NAMES = "PNG, JPEG, WebP or GIF"

MAX_SIDE = 65_535  # pixels; no format but PNG knows more, and its rows would not fit into memory either
# Bytes that a decoder may hold for each pixel of the limit: RGBA takes 4, a progressive JPEG up to 12, a WebP 16.
_MEMORY = 6
_MAX_TEXT = 8 * 1024 * 1024  # characters in a PNG, unpacked; each may take four bytes
_MAX_PASSES = 25  # times the limit of pixels, all scans of a JPEG together
_BAND = 1 << 20  # pixels that are converted at once

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(Exception):
    """One picture cannot be used; ``failure`` is the kind that the result carries."""

    def __init__(self, failure: ItemFailure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


class UnknownFormat(PictureError):
    """The bytes do not begin like any accepted format."""


class Picture:
    """A picture whose headers were read and found within the limits; its pixels were not touched yet."""

    def __init__(self, data: bytes, max_pixels: int) -> None:
        """Raises PictureError, and MemoryError when this process has no room. Call it within ``limits``."""
        with _verdicts():
            self._scans = count_scans(data)
            self._image: Image.Image = _identify(data)
            # A camera's MPO is a JPEG with further views behind it; every reader takes the first.
            self.format = "JPEG" if self._image.format == "MPO" else str(self._image.format)
            self._full = self._image.size
            self._least = (0, 0)
            self._check(max_pixels)

    @property
    def memory(self) -> int:
        """Bytes that decoding takes, beside those of the file and of what is made from the pixels."""
        image = self._image
        pixels = image.width * image.height
        if self.format == "WEBP":
            # Two canvases of the library, the bytes they are handed over in, and the picture.
            return 16 * pixels
        return 4 * pixels + self._coefficients

    @property
    def _coefficients(self) -> int:
        """Bytes in which a JPEG of several scans is held whole before it has pixels."""
        layers = getattr(self._image, "layer", [])
        if self._scans < 2 or not layers:
            return 0
        widest, highest = max(1, *(layer[1] for layer in layers)), max(1, *(layer[2] for layer in layers))
        width, height = self._full
        units = -(-width // (8 * widest)) * -(-height // (8 * highest))
        return int(units * 128 * sum(layer[1] * layer[2] for layer in layers))

    def shrink(self, mode: str, least: tuple[int, int]) -> None:
        """Have ``decode`` leave away what is not needed for a picture of at least this width and height."""
        with _verdicts():
            # JPEG can decode at a half, a quarter or an eighth of its size, which is much faster.
            self._image.draft(mode, least)
        self._least = least

    def decode(self, mode: str) -> Image.Image:
        """The pixels as ``L`` or ``RGB``, upright, white where the picture is transparent. Only once.

        Raises PictureError, and MemoryError when this process has no room.
        """
        with _verdicts():
            image = self._image
            image.load()
            turn = _turn(image)
            width, height = self._least
            factor = max(1, min(image.width // width, image.height // height)) if width and height else 1
            # From here on the decoder's own memory is free.
            del self._image
            image = _flatten(image, mode, factor)
            return image if turn is None else image.transpose(turn)

    def _check(self, max_pixels: int) -> None:
        width, height = self._full
        size = f"{width} x {height} = {width * height / 1e6:.1f} megapixels"
        if width * height > max_pixels:
            raise PictureError(ItemFailure.TOO_LARGE, f"it has {size} and {max_pixels / 1e6:g} are allowed")
        if max(width, height) > MAX_SIDE:
            raise PictureError(
                ItemFailure.TOO_LARGE, f"it has a side of {max(width, height):,} pixels; {MAX_SIDE:,} at most"
            )
        if self.format != "JPEG" and getattr(self._image, "is_animated", False):
            raise PictureError(ItemFailure.UNSUPPORTED, f"the {self.format} is animated; send a single frame")
        if self.memory > _MEMORY * max_pixels:
            kind, better = (
                ("WebP", "a PNG") if self.format == "WEBP" else ("progressive JPEG", "one that is not progressive")
            )
            raise PictureError(
                ItemFailure.TOO_LARGE,
                f"it has {size}, which as a {kind} take {self.memory / 1e6:.0f} MB of memory to decode and"
                f" {_MEMORY * max_pixels / 1e6:.0f} are allowed; send a smaller picture, or {better}",
            )
        if self._scans * width * height > _MAX_PASSES * max_pixels:
            raise PictureError(
                ItemFailure.UNSUPPORTED, f"the JPEG has {self._scans} scans of {size}, which is too much work"
            )


@contextlib.contextmanager
def limits(max_pixels: int) -> Iterator[None]:
    """Around whatever decodes: Pillow's own guards, for sizes that it meets before we do or on its way, and for texts.

    It changes settings of the whole process: one block around all threads.
    """
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_MEMORY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged metadata only warns, and so does a size of up to twice the limit
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_MEMORY = max_pixels, _MAX_TEXT
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_MEMORY = before


@contextlib.contextmanager
def _verdicts() -> Iterator[None]:
    """Pillow's plugins raise whatever their parsing stumbles on: OSError, ValueError, SyntaxError, struct.error ..."""
    try:
        yield
    except (PictureError, MemoryError):
        raise
    except TooManyParts as error:
        raise PictureError(ItemFailure.UNSUPPORTED, str(error)) from error
    except Image.DecompressionBombError as error:
        allowed = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise PictureError(
            ItemFailure.TOO_LARGE, f"it has more than twice the {allowed:g} megapixels that are allowed"
        ) from error
    except Exception as error:
        words = str(error) or type(error).__name__
        raise PictureError(ItemFailure.UNREADABLE, f"it cannot be decoded: {words}"[:300]) from error


def _identify(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnknownFormat(ItemFailure.UNREADABLE, f"it is not a {NAMES} picture, or its header is damaged") from None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What brings the picture upright, as EXIF says. Where that is damaged it says nothing, as to a browser."""
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001
        return None


def _flatten(image: Image.Image, mode: str, factor: int) -> Image.Image:
    """As ``mode``, white where it is transparent, each ``factor`` x ``factor`` pixels averaged to one."""
    if image.mode == mode and not image.has_transparency_data:
        # Without the plugin's object, which would keep its decoder.
        return image.reduce(factor) if factor > 1 else image.copy() if image.format == "WEBP" else image
    width, height = -(-image.width // factor), -(-image.height // factor)
    flat = Image.new(mode, (width, height))
    # By bands, for conversions need up to five copies of what they convert.
    rows = max(1, _BAND // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        band = _opaque(image.crop((0, top, image.width, min(top + rows, image.height)))).convert(mode)
        flat.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    return flat


def _opaque(image: Image.Image) -> Image.Image:
    """Eight bits a channel, and white where the picture is transparent."""
    if image.mode == "I;16":
        # Pillow's own conversion would clip every value above 255 to white.
        return Image.frombytes("L", image.size, image.tobytes()[1::2])
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
