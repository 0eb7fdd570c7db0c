"""Scenes to find things in: circles, squares, triangles, stars and real handwritten digits over textured grounds.

The same digits, seed and index give the same scene. An object's mask is what can be seen of it, and at least half of
each object can be seen. Only numpy and Pillow are needed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from provider_images.mask_rcnn.config import SHAPES as SHAPES
from provider_images.mask_rcnn.config import SMALL, SMALL_LABELS

Generator = np.random.Generator

SIDE = SMALL.side  # pixels
LABELS = SMALL_LABELS
OBJECTS = 6  # at most
SHAPE_SIZES, DIGIT_SIZES = (20, 58), (22, 46)  # pixels, the longer side

_VISIBLE = 0.5  # of each object, at least
_TRIES = 12  # places tried for one object
_LEAST = 12  # pixels of an object's ink: a digit worn thinner than that could not be seen
_FINE = 4  # supersampling of shapes
_MARGIN = 1  # pixels between an object and the frame
_SOLID = 128  # ink from which a pixel is the object's


class Scene(NamedTuple):
    """A picture and what is in it, back to front; unused places of ``boxes`` and ``classes`` are 0."""

    picture: NDArray[np.uint8]  # (SIDE, SIDE, 3), RGB
    owner: NDArray[np.uint8]  # (SIDE, SIDE): 0 where the ground is seen, i + 1 where object i is
    boxes: NDArray[np.float32]  # (OBJECTS, 4): y1, x1, y2, x2 in pixels around what can be seen, ends outside
    classes: NDArray[np.int32]  # (OBJECTS,)


def scene(digits: NDArray[np.uint8], labels: NDArray[np.int64], seed: int, index: int) -> Scene:
    """One scene with 1 to 6 objects; its digits are chosen from ``digits`` (n, 28, 28), light on black.

    Raises ValueError when too many of the digits are blank.
    """
    rng = np.random.default_rng([seed, index])
    picture = _ground(rng)
    owner = np.zeros((SIDE, SIDE), np.uint8)
    classes: list[int] = []
    areas: list[int] = []
    seen: list[int] = []
    for _ in range(int(rng.integers(1, OBJECTS + 1))):
        ink, label = _object(digits, labels, rng)
        size = ink.shape[0]
        solid = ink >= _SOLID
        for _ in range(_TRIES):
            top, left = rng.integers(_MARGIN, SIDE - size - _MARGIN + 1, 2)
            under = owner[top : top + size, left : left + size]
            hidden = np.bincount(under[solid], minlength=OBJECTS + 1)
            left_over = [count - int(hidden[i + 1]) for i, count in enumerate(seen)]
            if all(count >= _VISIBLE * area for count, area in zip(left_over, areas, strict=True)):
                _paint(picture[top : top + size, left : left + size], ink, rng)
                under[solid] = len(classes) + 1
                classes.append(label)
                areas.append(int(solid.sum()))
                seen = [*left_over, areas[-1]]
                break
    noise = rng.integers(-128, 128, picture.shape, np.int8)
    picture += noise * np.float32(rng.uniform(0, 0.16))
    boxes = np.zeros((OBJECTS, 4), np.float32)
    for i in range(len(classes)):
        boxes[i] = _around(owner == i + 1)
    padded = np.zeros(OBJECTS, np.int32)
    padded[: len(classes)] = classes
    return Scene(picture.clip(0, 255).astype(np.uint8), owner, boxes, padded)


def _object(digits: NDArray[np.uint8], labels: NDArray[np.int64], rng: Generator) -> tuple[NDArray[np.uint8], int]:
    """The ink and the class of a shape or of a digit that can be seen."""
    for _ in range(_TRIES):
        if rng.random() < 0.5:
            chosen = int(rng.integers(len(digits)))
            ink, label = _digit(digits[chosen], rng), len(SHAPES) + 1 + int(labels[chosen])
        else:
            kind = int(rng.integers(len(SHAPES)))
            ink, label = _shape(SHAPES[kind], rng), kind + 1
        if np.count_nonzero(ink >= _SOLID) >= _LEAST:
            return ink, label
    raise ValueError("the digits are blank")


def _around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


def _ground(rng: Generator) -> NDArray[np.float32]:
    """A texture: two layers of clouds, grain, stripes or checks over one colour, and light from one side."""
    picture = np.empty((SIDE, SIDE, 3), np.float32)
    picture[:] = rng.uniform(25, 230, 3)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE - np.float32(0.5)
    for strength in (rng.uniform(15, 75), rng.uniform(0, 30)):
        tint = (strength * rng.normal(0.6, 0.5, 3)).astype(np.float32)
        kind = int(rng.integers(4))
        if kind < 2:
            knots = int(rng.integers(3, 14) if kind == 0 else rng.integers(20, 64))
            field = _resize(rng.integers(0, 256, (knots, knots), np.uint8), SIDE) / np.float32(127.5) - 1
        else:
            angle, waves = rng.uniform(0, math.pi), rng.uniform(3, 16)
            c, s = math.cos(angle), math.sin(angle)
            field = np.sin(2 * math.pi * (waves * (c * x + s * y) + rng.random()))
            if kind == 3:
                field *= np.sin(2 * math.pi * (waves * (c * y - s * x) + rng.random()))
            if rng.random() < 0.5:
                field = np.sign(field)
        picture += field[..., None] * tint
    slope = rng.normal(0, 20, 2)
    picture += (slope[0] * y + slope[1] * x).astype(np.float32)[..., None]
    return picture.clip(0, 255)


def _resize(values: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _shape(kind: str, rng: Generator) -> NDArray[np.uint8]:
    """The ink of one shape, 0 to 255, in a square around it."""
    size = rng.uniform(*SHAPE_SIZES)
    turn = rng.uniform(0, 2 * math.pi)
    if kind == "circle":
        points = None
        reach = size / 2
    elif kind == "star":
        inner = rng.uniform(0.4, 0.55)
        points = [(turn + i * math.pi / 5, 1.0 if i % 2 == 0 else inner) for i in range(10)]
        reach = size * 0.55
    else:
        corners = 4 if kind == "square" else 3
        points = [(turn + i * 2 * math.pi / corners, 1.0) for i in range(corners)]
        reach = size * 0.6
    side = 2 * math.ceil(reach) + 2
    canvas = Image.new("L", (side * _FINE, side * _FINE))
    middle, radius = side * _FINE / 2, reach * _FINE
    pencil = ImageDraw.Draw(canvas)
    if points is None:
        pencil.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), fill=255)
    else:
        pencil.polygon([(middle + radius * r * math.cos(a), middle + radius * r * math.sin(a)) for a, r in points], 255)
    return np.asarray(canvas.reduce(_FINE))


def _digit(digit: NDArray[np.uint8], rng: Generator) -> NDArray[np.uint8]:
    """The ink of one digit, turned and leaning a little, in a square around it. MNIST's longer side is 20 pixels."""
    scale = rng.uniform(*DIGIT_SIZES) / 20
    angle, lean = rng.normal(0, 0.12), rng.normal(0, 0.1)
    side = math.ceil(28 * scale)
    # From a pixel of the canvas to where it is read in the digit.
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    a, b, d, e = c, s + lean / scale, -s, c
    centre = side / 2
    canvas = Image.fromarray(digit).transform(
        (side, side),
        Image.Transform.AFFINE,
        (a, b, 14 - (a + b) * centre, d, e, 14 - (d + e) * centre),
        Image.Resampling.BICUBIC,
    )
    ink = np.asarray(canvas)
    # Without its empty border a digit may stand at the edge of the picture too.
    inked = ink >= 32
    if not inked.any():
        return ink
    top, left, bottom, right = _around(inked)
    size = max(bottom - top, right - left)
    top, left = min(top, side - size), min(left, side - size)
    return ink[top : top + size, left : left + size]


def _paint(ground: NDArray[np.float32], ink: NDArray[np.uint8], rng: Generator) -> None:
    """Lay one colour, lighter on one side, over part of a picture, in place. It stands out from what it covers."""
    alpha = ink[..., None] * np.float32(1 / 255)
    behind = (ground * alpha).sum(axis=(0, 1)) / alpha.sum()
    colour = rng.uniform(0, 255, 3)
    while np.abs(colour - behind).max() < 90:
        colour = rng.uniform(0, 255, 3)
    size = ink.shape[0]
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    shade = ramp[:, None] * np.float32(rng.normal(0, 20)) + ramp * np.float32(rng.normal(0, 20))
    ground += alpha * (colour.astype(np.float32) + shade[..., None] - ground)


def contact_sheet(scenes: list[Scene], columns: int) -> Any:
    """Scenes side by side as a ``PIL.Image``, to look at."""
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for i, one in enumerate(scenes):
        sheet.paste(Image.fromarray(one.picture), (i % columns * SIDE, i // columns * SIDE))
    return sheet
