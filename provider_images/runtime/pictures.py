"""From a picture's bytes to the array a model takes, as the manifest's ``input`` declares it.

``decoding`` says what a picture may be; large ones are decoded one at a time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from provider_images.runtime.decoding import FORMATS as FORMATS
from provider_images.runtime.decoding import Picture, limits
from provider_images.runtime.decoding import PictureError as PictureError
from provider_images.runtime.job import ItemFailure
from provider_images.runtime.spec import InputSpec

# ImageNet's, channel by channel in the order RGB, as keras.applications.imagenet_utils has them.
_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE_MEAN = np.array([123.68, 116.779, 103.939], np.float32)
_WORKING_SIDE = 256  # pixels; more detail than this does not survive in a 28-pixel digit
# A picture that takes more bytes than this is decoded alone: beside a model there is no room for several.
_SMALL = 16 * 1024 * 1024


class _Large(Exception):
    """Not to be decoded beside others."""


def prepare_all(
    pictures: Sequence[bytes], spec: InputSpec, *, max_pixels: int, threads: int
) -> Iterator[NDArray[np.float32] | PictureError]:
    """``prepare`` for many, with some at once and the first given while others are under way.

    Where one cannot be used, its PictureError stands in its place.
    """

    def attempt(data: bytes, most: float = _SMALL) -> NDArray[np.float32] | PictureError | None:
        try:
            return _prepare(data, spec, max_pixels, most)
        except PictureError as error:
            return error
        except _Large:
            return None

    # One block around all threads: what it changes belongs to the whole process.
    with limits(max_pixels), ThreadPoolExecutor(threads) as pool:
        for data, prepared in zip(pictures, pool.map(attempt, pictures), strict=True):
            # In this thread, one by one: each thread of the pool would keep the room of the largest that it has had.
            picture = attempt(data, math.inf) if prepared is None else prepared
            assert picture is not None
            yield picture


def prepare(data: bytes, spec: InputSpec, *, max_pixels: int) -> NDArray[np.float32]:
    """Decode and preprocess one picture: (height, width, channels), float32, as the model's input is declared.

    Raises PictureError when the bytes are not a picture of an accepted format, or too large.
    """
    with limits(max_pixels):
        return _prepare(data, spec, max_pixels, math.inf)


def decode_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Decode one picture at its full size: RGB, upright. Raises PictureError as ``prepare`` does."""
    with limits(max_pixels), _room_is_ours():
        return Picture(data, max_pixels).decode("RGB")


@contextlib.contextmanager
def _room_is_ours() -> Iterator[None]:
    """The oracle decoded the picture in less room than this: where there is none, it is not the picture's fault."""
    try:
        yield
    except MemoryError as error:
        raise PictureError(ItemFailure.FAILED, "this worker has no memory left to decode it") from error


def _prepare(data: bytes, spec: InputSpec, max_pixels: int, most: float) -> NDArray[np.float32]:
    """Raises _Large when decoding takes more than that many bytes."""
    with _room_is_ours():
        source = Picture(data, max_pixels)
        mode = "L" if spec.color == "gray" else "RGB"
        source.shrink(mode, (4 * max(spec.width, _WORKING_SIDE), 4 * max(spec.height, _WORKING_SIDE)))
        if source.memory > most:
            raise _Large
        return _fit(source.decode(mode), spec)


def _fit(picture: Image.Image, spec: InputSpec) -> NDArray[np.float32]:
    """The pixels that the model sees, in its own scale."""
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
