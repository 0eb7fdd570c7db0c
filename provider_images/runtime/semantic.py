"""Anyone's semantic segmentation: a class for each pixel, brought back to the picture it was seen in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from provider_images.runtime.job import ItemFailure
from provider_images.runtime.model import Found, ModelError
from provider_images.runtime.pictures import PictureError, scale
from provider_images.runtime.spec import ModelSpec

Floats = NDArray[np.float32]

_SMOOTH = 2**27  # values of a picture's size times the classes, up to which they are interpolated
_BAND = 2**22  # of them at once
_ROUNDING = 1e-3  # how far a probability may be outside of 0 to 1


class SemanticSegmenter:
    """A model of one picture to the class, or to the values of every class, of each cell of a map.

    ``run`` takes a picture as the manifest's input declares it, (height, width, channels), to the output without batch.
    """

    def __init__(self, run: Callable[[Floats], NDArray[Any]], spec: ModelSpec, engine: str) -> None:
        """Answer a black picture, which plans memory and kernels. Raises ModelError when the shape is not declared."""
        self.engine, self._run, self._spec = engine, run, spec
        shape = run(np.zeros((spec.input.height, spec.input.width, spec.input.channels), np.float32)).shape
        if shape != spec.shape:
            raise ModelError(f"output.shape: {list(spec.shape)} in the manifest, {list(shape)} of the model")

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""
        return self._spec

    def segment(self, picture: NDArray[np.uint8]) -> Iterator[Found]:
        """What is of one class each, but for the background, by falling score, then by falling area.

        The score is the mean probability of its pixels, or one where the model says classes alone. Raises PictureError
        when the model's answer is not what its manifest declares.
        """
        height, width = picture.shape[:2]
        values = self._run(self._prepared(picture))
        if self._spec.values == "classes":
            found = _nearest(_whole(values, self._spec), None, self._spec.classes, height, width)
        elif height * width * self._spec.classes <= _SMOOTH:
            found = _smooth(_probabilities(values, self._spec), height, width)
        else:
            values = _probabilities(values, self._spec)
            found = _nearest(values.argmax(axis=2), values.max(axis=2), self._spec.classes, height, width)
        present = [int(i) for i in np.flatnonzero(found.areas) if i != self._spec.background]
        scores = {i: min(1.0, float(found.sums[i] / found.areas[i])) for i in present}
        for index in sorted(present, key=lambda i: (-round(scores[i], 6), -found.areas[i], i)):
            yield found.cut(index, scores[index])

    def _prepared(self, picture: NDArray[np.uint8]) -> Floats:
        size = self._spec.input
        image = Image.fromarray(picture)
        if size.color == "gray":
            image = image.convert("L")
        image = image.resize((size.width, size.height), Image.Resampling[size.resize.upper()])
        values: Floats = np.asarray(image, np.float32).reshape(size.height, size.width, size.channels)
        return np.ascontiguousarray(scale(values, size))


@dataclass(frozen=True, slots=True)
class _Map:
    """The class of each pixel of a picture (h, w), which is that of a cell of a map, perhaps a coarser one."""

    classes: NDArray[Any]
    rows: NDArray[np.int64]  # (h,): a pixel's row and column of cells
    columns: NDArray[np.int64]  # (w,)
    areas: NDArray[np.float64]  # (k,): pixels of each class, and the sums of their probabilities
    sums: NDArray[np.float64]

    def cut(self, index: int, score: float) -> Found:
        """All pixels of a class, of which there are some."""
        mask = self.classes == index
        down, across = mask.any(axis=1)[self.rows].nonzero()[0], mask.any(axis=0)[self.columns].nonzero()[0]
        top, bottom, left, right = int(down[0]), int(down[-1]) + 1, int(across[0]), int(across[-1]) + 1
        pixels = mask[self.rows[top:bottom]][:, self.columns[left:right]]
        return Found(index, score, (top, left, bottom, right), top, left, pixels)


def _nearest(classes: NDArray[Any], chances: Floats | None, count: int, height: int, width: int) -> _Map:
    """Each pixel takes the cell that its middle lies in; without chances, all are one."""
    sides = list(zip((height, width), classes.shape, strict=True))
    rows, columns = ((np.arange(side) * 2 + 1) * cells // (2 * side) for side, cells in sides)
    pixels = np.outer(np.bincount(rows, minlength=sides[0][1]), np.bincount(columns, minlength=sides[1][1])).ravel()
    areas: NDArray[np.float64] = np.bincount(classes.ravel(), pixels, count).astype(np.float64)
    if chances is None:
        return _Map(classes, rows, columns, areas, areas)
    sums = np.bincount(classes.ravel(), pixels * chances.ravel(), count)
    return _Map(classes, rows, columns, areas, sums.astype(np.float64))


def _smooth(values: Floats, height: int, width: int) -> _Map:
    """Each pixel takes the best class of a map of probabilities (h, w, k), read bilinearly at its middle."""
    count = values.shape[2]
    classes = np.empty((height, width), np.uint16)
    areas, sums = np.zeros(count), np.zeros(count)
    (above, below, down), (before, behind, across) = (
        _between(side, cells) for side, cells in zip((height, width), values.shape[:2], strict=True)
    )
    band = max(1, _BAND // (max(width, values.shape[1]) * count))
    for first in range(0, height, band):
        at = slice(first, first + band)
        part = down[at, None, None]
        lines = values[above[at]] * (1 - part) + values[below[at]] * part  # (band, w, k)
        part = across[:, None]
        lines = lines[:, before] * (1 - part) + lines[:, behind] * part  # (band, width, k)
        classes[at] = best = lines.argmax(axis=2)
        areas += np.bincount(best.ravel(), minlength=count)
        sums += np.bincount(best.ravel(), lines.max(axis=2).ravel(), count)
    return _Map(classes, np.arange(height), np.arange(width), areas, sums)


def _between(pixels: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For the middle of each pixel of a row: the cells before and behind it, and how far it is from one to the next."""
    places = ((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5).clip(0, cells - 1)
    before = places.astype(np.int64)
    return before, np.minimum(before + 1, cells - 1), (places - before).astype(np.float32)


def _whole(values: NDArray[Any], spec: ModelSpec) -> NDArray[Any]:
    """Classes (h, w) as integers. Raises PictureError."""
    with np.errstate(invalid="ignore"):  # what is not a number is no class
        found = values.astype(np.int64)
    if (found != values).any() or found.min() < 0 or found.max() >= spec.classes:
        raise PictureError(ItemFailure.FAILED, "the model's answer has a class that no label is for")
    return found


def _probabilities(values: NDArray[Any], spec: ModelSpec) -> Floats:
    """Values (h, w, k) as probabilities. Raises PictureError."""
    found = values.astype(np.float32, copy=False)
    if not np.isfinite(found).all():
        raise PictureError(ItemFailure.FAILED, "the model's answer is not a number")
    if spec.values == "logits":
        powers = np.exp(found - found.max(axis=2, keepdims=True))
        found = powers / powers.sum(axis=2, keepdims=True)
    if found.min() < -_ROUNDING or found.max() > 1 + _ROUNDING:
        raise PictureError(ItemFailure.FAILED, "the model's answer is no probability; are the values logits?")
    return found.clip(0, 1)
