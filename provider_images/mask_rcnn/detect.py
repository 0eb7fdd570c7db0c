"""What a Mask R-CNN sees in one picture: the three networks, and plain numpy between and after them.

A picture is padded to a multiple of the coarsest stride, not to a square: Matterport's square costs a third more on a
photograph, and what is plain to see is found either way. The padding above and to the left is the square's, less whole
cells of every level; scores near the frame differ, since the networks see less grey beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from provider_images.mask_rcnn import geometry
from provider_images.mask_rcnn.config import BOX_CROP, MASK, Config, align, anchors

Array = NDArray[np.float32]

_BAND = 256  # rows of a mask that are computed at once


@dataclass(frozen=True, slots=True)
class Networks:
    """A Mask R-CNN with weights, whatever computes it: the three networks of ``model.py`` as functions of arrays."""

    config: Config
    trunk: Callable[[Array], Mapping[str, Any]]  # one picture (1, h, w, 3), normalised
    box_head: Callable[[Array], tuple[Array, Array]]
    mask_head: Callable[[Array], Array]


class Detections(NamedTuple):
    """Objects, best first, in pixels of the picture that was given; a box ends outside its last pixel."""

    boxes: Array  # (d, 4): y1, x1, y2, x2
    classes: NDArray[np.int64]  # (d,), never 0
    scores: Array  # (d,)
    masks: Array  # (d, 28, 28): probabilities across the box


@dataclass(frozen=True, slots=True)
class Framed:
    """A picture as the trunk takes it, and the way back."""

    values: Array  # (1, h, w, 3), normalised
    window: tuple[float, float, float, float]  # where the picture lies in it: y1, x1, y2, x2
    scale: tuple[float, float]  # pixels there for a pixel of the picture, down and across


def frame(config: Config, picture: NDArray[np.uint8], *, square: bool = False) -> Framed:
    """Scale and pad a picture (height, width, 3), RGB. ``square``: pad as Matterport does."""
    height, width = picture.shape[:2]
    scale = max(1.0, config.shorter / min(height, width))
    scale = min(scale, config.side / max(height, width))
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    if inner != (height, width):
        resized = Image.fromarray(picture).resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
        picture = np.asarray(resized)
    cell = config.strides[-1]
    pads, starts = [], []
    for length in inner:
        before = (config.side - length) // 2
        after = config.side - length - before
        if not square:
            before %= cell
            after = -(before + length) % cell
        pads.append((before, after))
        starts.append(before)
    padded = np.pad(picture.astype(np.float32), (*pads, (0, 0)))[None]
    top, left = starts
    return Framed(
        values=normalise(np, padded, config),
        window=(top, left, top + inner[0], left + inner[1]),
        scale=(inner[0] / height, inner[1] / width),
    )


def normalise(xp: Any, picture: Any, config: Config) -> Any:
    """RGB, 0 to 255, as the trunk takes it: float32."""
    mean = np.array(config.mean, np.float32)
    return (xp.array(picture, dtype="float32") - mean) / np.float32(config.spread)


def detect(
    networks: Networks, picture: NDArray[np.uint8], *, score: float | None = None, square: bool = False
) -> Detections:
    """Find the objects of a picture (height, width, 3), RGB; ``score`` replaces the configuration's least score."""
    config = networks.config
    framed = frame(config, picture, square=square)
    seen = networks.trunk(framed.values)
    height, width = framed.values.shape[1:3]
    regions = propose(config, seen["scores"][0], seen["deltas"][0], height, width)

    crops = align(config, np, seen["boxes"], regions[None], BOX_CROP)[0]  # (r, 7, 7, c)
    logits, deltas = networks.box_head(crops)
    boxes, classes, scores = choose(config, regions, logits, deltas, framed.window, score)
    if not len(boxes):
        return Detections(boxes, classes, scores, np.zeros((0, MASK, MASK), np.float32))

    crops = align(config, np, seen["masks"], boxes[None], config.mask_crop)[0]  # (d, crop, crop, c)
    masks = networks.mask_head(crops)[np.arange(len(boxes)), :, :, classes]  # (d, 28, 28)
    top, left = framed.window[:2]
    boxes = boxes + np.array([0, 0, config.edge, config.edge], np.float32)
    origin: Array = np.array([top, left, top, left], np.float32)
    scale: Array = np.array([*framed.scale, *framed.scale], np.float32)
    boxes = (boxes - origin) / scale
    return Detections(boxes, classes, scores, (1 / (1 + np.exp(-masks))).astype(np.float32))


_anchors = lru_cache(maxsize=8)(anchors)  # of the few sizes that pictures are padded to


def propose(config: Config, scores: Array, deltas: Array, height: int, width: int) -> Array:
    """The regions worth a second look, best first: (r, 4), of the trunk's scores (a, 2) and deltas (a, 4)."""
    preference = scores[:, 1] - scores[:, 0]
    best = np.argsort(-preference, kind="stable")[: config.candidates]
    boxes = geometry.decode(np, _anchors(config, height, width)[best], deltas[best] * geometry.DELTA_SCALE)
    boxes = geometry.clip(np, boxes, (0, 0, height - config.edge, width - config.edge))
    regions: Array = boxes[geometry.suppress(boxes, preference[best], config.proposal_overlap, config.proposals)]
    return regions


def choose(
    config: Config,
    regions: Array,
    logits: Array,
    deltas: Array,
    window: tuple[float, float, float, float],
    score: float | None,
) -> tuple[Array, NDArray[np.int64], Array]:
    """Final boxes (d, 4), classes and scores, best first: each region has one class, and no class has copies."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances = powers / powers.sum(axis=1, keepdims=True)  # (r, k)
    classes = chances.argmax(axis=1)
    scores = chances.max(axis=1)
    own = deltas[np.arange(len(regions)), classes] * geometry.DELTA_SCALE
    top, left, bottom, right = window
    boxes = geometry.decode(np, regions, own)
    boxes = geometry.clip(np, boxes, (top, left, bottom - config.edge, right - config.edge))
    least = config.score if score is None else score
    good = (classes > 0) & (scores >= least) & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes, classes, scores = boxes[good], classes[good], scores[good]
    # Classes moved apart never overlap, so one suppression serves them all.
    apart = boxes + (classes * 2.0 * config.side).astype(np.float32)[:, None]
    kept = geometry.suppress(apart, scores, config.detection_overlap, config.detections)
    return boxes[kept], classes[kept], scores[kept]


class Cut(NamedTuple):
    """The pixels of an object within its box: where their first row and column lie in the picture, and (h, w) bool."""

    top: int
    left: int
    pixels: NDArray[np.bool_]


def cut(mask: Array, box: Array, height: int, width: int) -> Cut:
    """A mask (28, 28) of probabilities across a box as the pixels of its object, within a picture (height, width)."""
    top, left = (max(0, math.floor(edge)) for edge in box[:2])
    bottom, right = (min(most, math.ceil(edge)) for edge, most in zip(box[2:], (height, width), strict=True))
    if bottom <= top or right <= left:
        return Cut(top, left, np.zeros((0, 0), bool))
    down = _reading(top, bottom, box[0], box[2], mask.shape[0])
    rows = mask @ _reading(left, right, box[1], box[3], mask.shape[1]).T  # (28, w)
    pixels = np.empty((bottom - top, right - left), bool)
    # Some rows at a time: as numbers, the pixels of a large picture would take four times their space.
    for first in range(0, len(pixels), _BAND):
        pixels[first : first + _BAND] = down[first : first + _BAND] @ rows >= 0.5
    return Cut(top, left, pixels)


def paste(mask: Array, box: Array, height: int, width: int) -> NDArray[np.bool_]:
    """The same as a whole picture (height, width)."""
    top, left, pixels = cut(mask, box, height, width)
    full = np.zeros((height, width), bool)
    full[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return full


def _reading(first: int, last: int, start: float, end: float, cells: int) -> Array:
    """Weights (pixels, cells) that read a row of cells between start and end at the middles of pixels, bilinear."""
    at = (np.arange(first, last) + 0.5 - start) / (end - start) * cells - 0.5
    at = at.clip(0, cells - 1)[:, None]
    weights: Array = np.maximum(0, 1 - np.abs(at - np.arange(cells))).astype(np.float32)
    return weights
