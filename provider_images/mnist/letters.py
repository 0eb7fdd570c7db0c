"""What is not a digit: letters by our own pen and in print, and noise. The familiarity of the shipped model is measured
on them; nothing is ever fitted to them.
"""

from __future__ import annotations

import random
import string
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from provider_images.mnist.draw import Hand, Style, draw_sign

LETTERS = string.ascii_uppercase
ALIKE = "IO"
"""Letters that no reader could tell from a digit: a bar is also a one, and a ring a nought."""
NOISES = ("white", "grey", "blurred", "salt", "stripes", "squares", "dots", "scratches")

# How wide, and the strokes of each hand, as in ``draw.py``: points apart by spaces, strokes by slashes, hands by bars.
_STROKES = {
    "A": (0.8, "0,1 .48,0 / .48,0 1,1 / .2,.64 .82,.64 | 0,1 .2,.3 .5,0 .8,.3 1,1 / .06,.62 .94,.62"),
    "B": (0.65, "0,0 0,1 / 0,0 .6,.02 .85,.22 .6,.44 0,.48 / 0,.48 .7,.5 1,.74 .65,.98 0,1"),
    "C": (0.75, "1,.15 .6,0 .12,.22 0,.55 .2,.9 .6,1 1,.85"),
    "D": (0.75, "0,0 0,1 / 0,0 .55,.05 .95,.3 .95,.7 .55,.95 0,1"),
    "E": (
        0.65,
        "1,0 0,0 / 0,0 0,1 / 0,1 1,1 / 0,.5 .8,.5 | 1,.06 .4,0 .1,.2 .4,.46 .6,.47 / .6,.47 .2,.52 0,.78 .4,1 1,.9",
    ),
    "F": (0.62, "1,0 0,0 / 0,0 0,1 / 0,.48 .8,.48"),
    "G": (0.8, "1,.15 .6,0 .12,.22 0,.55 .2,.9 .6,1 1,.82 / 1,.82 1,.55 / .55,.55 1,.55"),
    "H": (0.75, "0,0 0,1 / 1,0 1,1 / 0,.5 1,.5"),
    "I": (0.5, ".5,0 .5,1 | 0,0 1,0 / .5,0 .5,1 / 0,1 1,1"),
    "J": (0.6, "1,0 1,.7 .7,1 .25,.95 0,.7 | .3,0 1,0 / .75,0 .75,.7 .5,1 .2,.97 0,.75"),
    "K": (0.7, "0,0 0,1 / .95,0 0,.58 / .25,.45 1,1"),
    "L": (0.6, "0,0 0,1 / 0,1 1,1"),
    "M": (0.95, "0,1 .1,0 / .1,0 .5,.65 / .5,.65 .9,0 / .9,0 1,1"),
    "N": (0.8, "0,1 0,0 / 0,0 1,1 / 1,1 1,0"),
    "O": (0.9, ".5,0 .15,.13 0,.5 .15,.87 .5,1 .85,.87 1,.5 .85,.13 .5,0"),
    "P": (0.6, "0,0 0,1 / 0,0 .7,.02 1,.27 .7,.52 0,.55"),
    "Q": (0.9, ".5,0 .15,.13 0,.48 .15,.83 .5,.95 .85,.83 1,.48 .85,.13 .5,0 / .6,.7 1.05,1.05"),
    "R": (0.68, "0,0 0,1 / 0,0 .7,.02 .95,.25 .7,.5 0,.53 / .4,.53 1,1"),
    "S": (0.65, ".95,.13 .5,0 .1,.22 .5,.5 .92,.76 .5,1 .02,.86"),
    "T": (0.8, "0,0 1,0 / .5,0 .5,1"),
    "U": (0.75, "0,0 .02,.65 .25,.97 .5,1 .75,.97 .98,.65 1,0"),
    "V": (0.8, "0,0 .5,1 / .5,1 1,0"),
    "W": (1.1, "0,0 .22,1 / .22,1 .5,.3 / .5,.3 .78,1 / .78,1 1,0"),
    "X": (0.8, "0,0 1,1 / 1,0 0,1"),
    "Y": (0.8, "0,0 .5,.5 / 1,0 .5,.5 / .5,.5 .5,1"),
    "Z": (0.75, "0,0 1,0 / 1,0 0,1 / 0,1 1,1 | 0,0 1,0 / 1,0 0,1 / 0,1 1,1 / .2,.52 .8,.48"),
}


def draw_letter(letter: str, seed: int, *, style: Style = "paper") -> Image.Image:
    """One capital letter from A to Z by the pen of ``draw_digit``, in its styles."""
    return draw_sign(_hands(letter), f"{seed}:{letter}", style=style)


def print_letter(letter: str, seed: int) -> Image.Image:
    """One capital letter in Pillow's built-in type, more or less bold, slanted and turned: 280 x 280, dark on pale."""
    rng = random.Random(f"{seed}:printed:{letter}")  # noqa: S311 - a picture, not a secret
    page = Image.new("L", (280, 280), 240)
    font = ImageFont.load_default(size=150)
    ImageDraw.Draw(page).text((140, 140), letter, fill=20, font=font, anchor="mm", stroke_width=rng.randint(0, 7))
    slant, turn = rng.gauss(0.1, 0.15), rng.gauss(0, 0.05)
    # Rows map a point of the new page to where it is read, about the page's middle.
    placed = (1, slant, -140 * slant, turn, 1, -140 * turn)
    return page.transform((280, 280), Image.Transform.AFFINE, placed, Image.Resampling.BILINEAR, fillcolor=240)


def _hands(letter: str) -> list[Hand]:
    aspect, text = _STROKES[letter]
    hands: list[Hand] = []
    for hand in text.split("|"):
        strokes = [tuple(tuple(map(float, point.split(","))) for point in stroke.split()) for stroke in hand.split("/")]
        hands.append((aspect, tuple(strokes)))  # type: ignore[arg-type]
    return hands


def make_noise(kind: str, seed: int) -> Image.Image:
    """A grey picture without meaning, 28 x 28 or 140 x 140; ``kind`` is one of ``NOISES``."""
    rng = np.random.default_rng([seed, NOISES.index(kind)])
    side = int(rng.choice([28, 140]))
    y, x = np.mgrid[0:side, 0:side]
    values: NDArray[Any]
    match kind:
        case "white":
            values = rng.integers(0, 256, (side, side))
        case "grey":
            values = rng.normal(128, 40, (side, side))
        case "blurred":
            page = Image.fromarray(rng.integers(0, 256, (side, side)).astype(np.uint8))
            soft = np.asarray(page.filter(ImageFilter.GaussianBlur(side / 28 * rng.uniform(0.7, 3)))).astype(float)
            values = (soft - soft.min()) * 255 / max(1.0, float(np.ptp(soft)))
        case "salt":
            values = 255 * (rng.random((side, side)) < rng.uniform(0.02, 0.3))
        case "stripes":
            angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 8)
            along = (x * np.cos(angle) + y * np.sin(angle)) * waves / side + rng.uniform()
            values = 255 * (along % 1 < 0.5)
        case "squares":
            width = int(rng.integers(2, 8)) * side // 28
            values = 255 * ((y // width + x // width) % 2)
        case _:
            return _scribble(kind, side, rng)
    return Image.fromarray(np.asarray(values).clip(0, 255).astype(np.uint8))


def _scribble(kind: str, side: int, rng: np.random.Generator) -> Image.Image:
    page = Image.new("L", (side, side))
    pencil = ImageDraw.Draw(page)
    if kind == "dots":
        for _ in range(int(rng.integers(3, 14))):
            (left, top), radius = rng.uniform(0, side, 2), rng.uniform(0.02, 0.08) * side
            pencil.ellipse((left - radius, top - radius, left + radius, top + radius), fill=255)
    else:
        for _ in range(int(rng.integers(4, 10))):
            pencil.line(tuple(rng.uniform(0, side, 4)), fill=255, width=max(1, side // 14))
    return page
