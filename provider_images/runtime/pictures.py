"""From a picture's bytes to the array a model takes, as the manifest's ``input`` declares it.

Nothing here trusts the bytes: formats, pixels and frames are limited before anything is decoded.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from provider_images.runtime.job import ItemFailure
from provider_images.runtime.spec import InputSpec

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
# ImageNet's, channel by channel in the order RGB, as keras.applications.imagenet_utils has them.
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE_MEAN = np.array([123.68, 116.779, 103.939], np.float32)
_WORKING_SIDE = 256  # pixels; more detail than this does not survive in a 28-pixel digit


class PictureError(Exception):
    """One picture cannot be used; ``failure`` is the kind that the result carries."""

    def __init__(self, failure: ItemFailure, detail: str) -> None:
        super().__init__(detail)
        self.failure = failure


def prepare_all(
    pictures: Sequence[bytes], spec: InputSpec, *, max_pixels: int, threads: int
) -> list[NDArray[np.float32] | PictureError]:
    """``prepare`` for many, with some at once; where one cannot be used, its PictureError stands in its place."""

    def attempt(data: bytes) -> NDArray[np.float32] | PictureError:
        try:
            return _prepare(data, spec, max_pixels)
        except PictureError as error:
            return error

    # One block around all threads: what it changes belongs to the whole process.
    with _quiet(), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(attempt, pictures))


def prepare(data: bytes, spec: InputSpec, *, max_pixels: int) -> NDArray[np.float32]:
    """Decode and preprocess one picture: (height, width, channels), float32, as the model's input is declared.

    Raises PictureError when the bytes are not a picture of an accepted format, or too large.
    """
    with _quiet():
        return _prepare(data, spec, max_pixels)


def decode_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Decode one picture at its full size: RGB, upright. Raises PictureError as ``prepare`` does."""
    with _quiet():
        return _decode(data, "RGB", None, max_pixels)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Damaged metadata only warns, and the pixel limit is ours: neither belongs on a log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _prepare(data: bytes, spec: InputSpec, max_pixels: int) -> NDArray[np.float32]:
    picture = _decode(data, "L" if spec.color == "gray" else "RGB", spec, max_pixels)
    if spec.fit == "digit":
        values = centre_digit(np.asarray(picture), size=spec.width, box=spec.box)
    else:
        part = _middle(picture, spec) if spec.fit == "crop" else picture
        values = np.asarray(part.resize((spec.width, spec.height), Image.Resampling[spec.resize.upper()]))
    return _scale_bytes(values.reshape(spec.height, spec.width, spec.channels), spec)


def _scale_bytes(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """``scale`` by looking up: a third of the time, and the same numbers, since a byte has but 256 values."""
    answer = np.empty(pixels.shape, np.float32)
    for channel, table in enumerate(_tables(spec)):
        source = spec.channels - 1 - channel if spec.order == "bgr" else channel
        answer[..., channel] = table[pixels[..., source]]
    return answer


@lru_cache(maxsize=16)
def _tables(spec: InputSpec) -> NDArray[np.float32]:
    """What each value of a byte becomes: (channels, 256), channels as the model takes them."""
    levels = np.repeat(np.arange(256, dtype=np.float32)[:, np.newaxis], spec.channels, axis=1)
    return np.ascontiguousarray(scale(levels, spec).T)


def scale(pixels: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Pixels (.., channels) from 0 to 255, RGB or grey, as the model takes them: its mode, then its order."""
    match spec.mode:
        case "tf":
            scaled = pixels / np.float32(127.5) - np.float32(1)
        case "torch":
            scaled = (pixels / np.float32(255) - _TORCH_MEAN) / _TORCH_DEVIATION
        case "caffe":
            scaled = pixels - _CAFFE_MEAN
        case _:
            low, high = spec.range
            scaled = pixels * np.float32((high - low) / 255) + np.float32(low)
    return scaled[..., ::-1] if spec.order == "bgr" else scaled


def _middle(picture: Image.Image, spec: InputSpec) -> Image.Image:
    """The largest part in the middle with the model's proportions, ``crop`` times as long and wide; whole pixels."""
    unit = min(picture.width / spec.width, picture.height / spec.height) * spec.crop
    width, height = max(1, round(unit * spec.width)), max(1, round(unit * spec.height))
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _decode(data: bytes, mode: str, spec: InputSpec | None, max_pixels: int) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise PictureError(
                ItemFailure.TOO_LARGE, f"{image.width} x {image.height} pixels; the limit is {max_pixels}"
            )
        # A camera's MPO is a JPEG with further views behind it; its first is the picture.
        if image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False):
            raise PictureError(ItemFailure.UNSUPPORTED, "animated pictures are not accepted")
        # JPEG can decode at a half, a quarter or an eighth of its size, which is much faster.
        if spec is not None:
            image.draft(mode, (4 * max(spec.width, _WORKING_SIDE), 4 * max(spec.height, _WORKING_SIDE)))
        ImageOps.exif_transpose(image, in_place=True)
        image = _flatten(image)
        return image if image.mode == mode else image.convert(mode)
    except PictureError:
        raise
    except Exception as error:  # decoders of hostile bytes raise whatever they like
        raise PictureError(ItemFailure.UNREADABLE, f"{type(error).__name__}: {error}"[:200]) from error


def _flatten(image: Image.Image) -> Image.Image:
    """Eight bits a channel, and white where the picture is transparent."""
    if image.mode.startswith("I;16") or image.mode == "I":
        # 16-bit grey: Pillow's own conversion would clip every value above 255 to white.
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def centre_digit(gray: NDArray[np.uint8], *, size: int, box: int) -> NDArray[np.uint8]:
    """Bring a digit on any even ground to MNIST's convention: (size, size), ink light on black, within ``box`` pixels,
    centred by mass. A (size, size) picture with a dark border already follows it and comes back unchanged.

    The steps: shrink to 256 pixels, take the ground (a plane through the border, so light may fall unevenly) away,
    choose the polarity with more ink, cut noise off by Otsu's threshold, crop, thicken a thin pen, scale, centre.
    ``gray`` is (h, w), uint8. A picture without ink comes back black.
    """
    if gray.shape == (size, size) and np.median(_border(gray)) < 128:
        return gray
    ink = _ink(gray)
    mask = ink > 0.5
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    page = np.zeros((size, size), np.uint8)
    if not rows.size:
        return page
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    digit = Image.fromarray(np.round(ink * 255).astype(np.uint8))
    digit = _thicken(digit, mask, longest=max(ink.shape), box=box)
    ratio = box / max(digit.size)
    shape = (max(1, round(digit.width * ratio)), max(1, round(digit.height * ratio)))
    small = np.asarray(digit.resize(shape, Image.Resampling.BILINEAR))
    top, left = (_offset(small, axis, size) for axis in (0, 1))
    page[top : top + small.shape[0], left : left + small.shape[1]] = small
    return page


def _border(gray: NDArray[Any]) -> NDArray[Any]:
    """The outermost pixels, in one row."""
    return np.concatenate([gray[0], gray[-1], gray[1:-1, 0], gray[1:-1, -1]])


def _ink(gray: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How much ink lies where: (h, w), 0 to 1, h and w at most 256."""
    image = Image.fromarray(gray)
    longest = max(image.size)
    if longest > _WORKING_SIDE:
        shape = (max(1, image.width * _WORKING_SIDE // longest), max(1, image.height * _WORKING_SIDE // longest))
        image = image.resize(shape, Image.Resampling.BOX)
    if min(image.size) >= 56:
        image = image.filter(ImageFilter.MedianFilter(3))
    values = np.asarray(image).astype(np.float64)
    height, width = values.shape
    y, x = np.mgrid[0:height, 0:width]
    terms = np.stack([np.ones_like(values), y / height, x / width])  # (3, h, w)
    at_border = np.stack([_border(term) for term in terms], axis=1)  # (border pixels, 3)
    plane = np.linalg.lstsq(at_border, _border(values), rcond=None)[0]
    relief = values - np.tensordot(plane, terms, axes=1)
    if np.square(relief.clip(None, 0)).sum() > np.square(relief.clip(0, None)).sum():
        relief = -relief
    relief = relief.clip(0, None)
    # At least one level: on spotless paper of two tones every threshold parts them equally well, zero included, and
    # the plane leaves traces of rounding above zero everywhere.
    threshold = max(1.0, _otsu(relief))
    above = relief[relief > threshold]
    # Less contrast than this is paper, shadow or noise.
    if not above.size or above.mean() < 16:
        return np.zeros_like(relief)
    ink: NDArray[np.float64] = ((relief - threshold / 2) / (above.mean() - threshold / 2)).clip(0, 1)
    return ink


def _otsu(values: NDArray[np.float64]) -> float:
    """The threshold that parts values (0 to 255) into the two most distinct groups."""
    counts = np.bincount(values.astype(np.int64).ravel().clip(0, 255), minlength=256).astype(np.float64)
    levels = np.arange(256)
    below, mass = np.cumsum(counts), np.cumsum(counts * levels)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * np.square(mass / below - (mass[-1] - mass) / above)
    return float(np.argmax(np.nan_to_num(between)))


def _thicken(digit: Image.Image, mask: NDArray[np.bool_], *, longest: int, box: int) -> Image.Image:
    """Widen a pen stroke that would fade away in ``box`` pixels to about a ninth of the digit's longest side."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    # A stroke of width w and length l covers w * l pixels, of which about 2 * l are its edge.
    edge = int(mask.sum() - inside.sum())
    width = 2 * float(mask.sum()) / max(1, edge)
    missing = longest * 2.2 / box - width
    radius = int(missing / 2)
    if radius < 1:
        return digit
    wide = ImageOps.expand(digit, radius)
    return wide.filter(ImageFilter.MaxFilter(2 * radius + 1))


def _offset(small: NDArray[np.uint8], axis: int, size: int) -> int:
    """Where the digit begins along an axis so that its centre of mass is the page's centre, kept on the page."""
    mass = small.sum(axis=1 - axis, dtype=np.float64)
    centre = float((mass * (np.arange(mass.size) + 0.5)).sum() / max(1.0, mass.sum()))
    room: int = size - small.shape[axis]
    return min(max(0, round(size / 2 - centre)), room)
