"""A loaded model, as whatever engine gives it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.job import MAX_INPUTS
from provider_images.runtime.spec import ModelSpec

BATCH = MAX_INPUTS


class ModelError(Exception):
    """The model of a job cannot be used here: its manifest, its family or its weights are wrong."""


@runtime_checkable
class Classifier(Protocol):
    """A model that names what a picture shows."""

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""

    @property
    def engine(self) -> str:
        """Names and versions of what computes it."""

    def classify(self, pictures: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Probabilities (n, classes) of pictures (height, width, channels), n from 1 to ``BATCH``.

        Pictures are taken as they come, so that one can be computed while the next is decoded.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """One object, or all that is of one class, in pixels of the picture; a box ends outside its last pixel.

    The mask covers the box in whole pixels, and the box's edges are hundredths of a pixel at the finest, as a result
    states them.
    """

    index: int
    score: float
    box: tuple[float, float, float, float]  # y1, x1, y2, x2
    top: int  # where the mask's first row and column lie
    left: int
    mask: NDArray[np.bool_]  # (h, w)


@runtime_checkable
class Segmenter(Protocol):
    """A model that says where in a picture something is."""

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""

    @property
    def engine(self) -> str:
        """Names and versions of what computes it."""

    def segment(self, picture: NDArray[np.uint8]) -> Iterator[Found]:
        """What a picture (h, w, 3), RGB, shows, by falling score; masks come one at a time, since they are large."""
