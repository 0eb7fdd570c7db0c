"""Digits drawn with a pen of our own: splines through jittered control points, for demos, tests and training.

``python -m provider_images.mnist.draw --out DIR`` writes PNG files. The same digit, seed and style give the same
picture. Only Pillow is needed, so the oracle may draw too.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw

Point = tuple[float, float]
Hand = tuple[float, tuple[tuple[Point, ...], ...]]
"""One way to write a sign: how wide it is for its height, and its strokes."""
Style = Literal["mnist", "paper"]

_SCALE = 8  # supersampling of the 28-pixel canvas
_CANVAS = 28 * _SCALE

# Each digit has several hands; a hand is a list of strokes; a stroke is a spline through its points. x runs to the
# right and y down, both 0..1 in the digit's own box. A corner is where one stroke ends and the next begins.
_HANDS: dict[int, tuple[Hand, ...]] = {
    0: (
        (
            0.68,
            (
                (
                    (0.55, 0.0),
                    (0.18, 0.13),
                    (0.03, 0.5),
                    (0.18, 0.88),
                    (0.5, 1.0),
                    (0.83, 0.86),
                    (0.97, 0.5),
                    (0.84, 0.12),
                    (0.5, 0.0),
                    (0.4, 0.04),
                ),
            ),
        ),
        (
            0.6,
            (
                (
                    (0.3, 0.06),
                    (0.05, 0.4),
                    (0.12, 0.82),
                    (0.45, 1.0),
                    (0.85, 0.8),
                    (0.97, 0.4),
                    (0.75, 0.04),
                    (0.3, 0.06),
                ),
            ),
        ),
    ),
    1: (
        (0.3, (((0.5, 0.0), (0.5, 0.5), (0.5, 1.0)),)),
        (0.4, (((0.1, 0.28), (0.35, 0.16), (0.6, 0.0)), ((0.6, 0.0), (0.58, 0.5), (0.58, 1.0)))),
        (
            0.55,
            (
                ((0.15, 0.25), (0.5, 0.0)),
                ((0.5, 0.0), (0.5, 0.5), (0.5, 1.0)),
                ((0.05, 1.0), (0.5, 0.99), (0.95, 1.0)),
            ),
        ),
    ),
    2: (
        (
            0.68,
            (
                ((0.08, 0.25), (0.25, 0.05), (0.55, 0.0), (0.86, 0.2), (0.76, 0.5), (0.42, 0.8), (0.06, 0.98)),
                ((0.06, 0.98), (0.5, 0.95), (0.97, 0.98)),
            ),
        ),
        (
            0.75,
            (
                (
                    (0.1, 0.2),
                    (0.4, 0.0),
                    (0.8, 0.12),
                    (0.78, 0.42),
                    (0.42, 0.82),
                    (0.15, 0.98),
                    (0.04, 0.88),
                    (0.2, 0.79),
                    (0.5, 0.93),
                    (0.97, 0.95),
                ),
            ),
        ),
    ),
    3: (
        (
            0.62,
            (
                ((0.08, 0.12), (0.42, 0.0), (0.8, 0.16), (0.72, 0.4), (0.36, 0.48)),
                ((0.36, 0.48), (0.8, 0.56), (0.92, 0.8), (0.5, 1.0), (0.04, 0.88)),
            ),
        ),
        (
            0.66,
            (
                ((0.1, 0.03), (0.5, 0.02), (0.88, 0.02)),
                ((0.88, 0.02), (0.42, 0.4)),
                ((0.42, 0.4), (0.86, 0.52), (0.9, 0.82), (0.48, 1.0), (0.04, 0.9)),
            ),
        ),
    ),
    4: (
        (
            0.68,
            (
                ((0.15, 0.0), (0.12, 0.3), (0.06, 0.55)),
                ((0.06, 0.55), (0.5, 0.54), (0.97, 0.53)),
                ((0.72, 0.05), (0.7, 0.5), (0.68, 1.0)),
            ),
        ),
        (
            0.68,
            (
                ((0.66, 0.0), (0.36, 0.32), (0.04, 0.64)),
                ((0.04, 0.64), (0.5, 0.65), (0.97, 0.64)),
                ((0.66, 0.0), (0.66, 0.5), (0.64, 1.0)),
            ),
        ),
    ),
    5: (
        (
            0.65,
            (
                ((0.88, 0.02), (0.5, 0.02), (0.2, 0.03)),
                ((0.2, 0.03), (0.17, 0.22), (0.13, 0.43)),
                ((0.13, 0.43), (0.5, 0.36), (0.92, 0.6), (0.76, 0.92), (0.4, 1.0), (0.04, 0.9)),
            ),
        ),
        (
            0.6,
            (
                ((0.95, 0.0), (0.55, 0.03), (0.28, 0.06)),
                (
                    (0.28, 0.06),
                    (0.14, 0.3),
                    (0.3, 0.42),
                    (0.7, 0.5),
                    (0.85, 0.75),
                    (0.6, 0.97),
                    (0.25, 1.0),
                    (0.03, 0.88),
                ),
            ),
        ),
    ),
    6: (
        (
            0.6,
            (
                (
                    (0.78, 0.0),
                    (0.36, 0.22),
                    (0.08, 0.62),
                    (0.25, 0.96),
                    (0.68, 0.98),
                    (0.92, 0.74),
                    (0.66, 0.52),
                    (0.3, 0.6),
                    (0.12, 0.78),
                ),
            ),
        ),
        (
            0.55,
            (
                (
                    (0.5, 0.0),
                    (0.18, 0.35),
                    (0.06, 0.75),
                    (0.4, 1.0),
                    (0.85, 0.9),
                    (0.88, 0.62),
                    (0.5, 0.52),
                    (0.12, 0.72),
                ),
            ),
        ),
    ),
    7: (
        (0.65, (((0.04, 0.06), (0.5, 0.04), (0.95, 0.03)), ((0.95, 0.03), (0.6, 0.45), (0.38, 1.0)))),
        (
            0.68,
            (
                ((0.04, 0.06), (0.5, 0.04), (0.93, 0.03)),
                ((0.93, 0.03), (0.6, 0.45), (0.38, 1.0)),
                ((0.28, 0.5), (0.55, 0.49), (0.85, 0.48)),
            ),
        ),
        (
            0.62,
            (
                ((0.06, 0.2), (0.1, 0.04)),
                ((0.1, 0.04), (0.5, 0.06), (0.95, 0.0)),
                ((0.95, 0.0), (0.72, 0.35), (0.6, 1.0)),
            ),
        ),
    ),
    8: (
        (
            0.6,
            (
                (
                    (0.86, 0.14),
                    (0.5, 0.0),
                    (0.14, 0.2),
                    (0.45, 0.46),
                    (0.88, 0.75),
                    (0.5, 1.0),
                    (0.1, 0.78),
                    (0.5, 0.48),
                    (0.86, 0.22),
                    (0.74, 0.05),
                ),
            ),
        ),
        (
            0.6,
            (
                ((0.5, 0.46), (0.16, 0.25), (0.5, 0.0), (0.84, 0.22), (0.5, 0.46)),
                ((0.5, 0.46), (0.06, 0.74), (0.5, 1.0), (0.94, 0.74), (0.5, 0.46)),
            ),
        ),
    ),
    9: (
        (
            0.58,
            (
                ((0.86, 0.2), (0.5, 0.0), (0.1, 0.22), (0.36, 0.5), (0.78, 0.36), (0.88, 0.14)),
                ((0.88, 0.14), (0.84, 0.55), (0.76, 1.0)),
            ),
        ),
        (
            0.58,
            (
                (
                    (0.86, 0.22),
                    (0.5, 0.0),
                    (0.1, 0.2),
                    (0.32, 0.48),
                    (0.8, 0.34),
                    (0.9, 0.16),
                    (0.86, 0.6),
                    (0.6, 0.95),
                    (0.15, 0.94),
                ),
            ),
        ),
    ),
}


def draw_digit(digit: int, seed: int, *, style: Style = "mnist", size: int = 280) -> Image.Image:
    """One digit, 0 to 9, as a grey picture.

    ``mnist``: 28 x 28 pixels, light on black, the digit within 20 x 20 and centred by mass, as in MNIST.
    ``paper``: ``size`` x ``size`` pixels, dark ink somewhere near the middle of pale paper.
    """
    return draw_sign(_HANDS[digit], f"{seed}:{digit}", style=style, size=size)


def draw_sign(hands: Sequence[Hand], seed: str, *, style: Style, size: int = 280) -> Image.Image:
    """A sign in one of its hands, as ``draw_digit`` draws digits."""
    rng = random.Random(seed)  # noqa: S311 - a picture, not a secret
    ink = _write(hands, rng)
    if style == "mnist":
        return _as_mnist(ink)
    return _on_paper(ink, size, rng)


def _write(hands: Sequence[Hand], rng: random.Random) -> Image.Image:
    """The sign in white on black, (224, 224), cropped by nothing: slanted, turned and uneven as a hand does it."""
    aspect, strokes = rng.choice(hands)
    aspect *= rng.uniform(0.85, 1.25)
    slant, turn = rng.gauss(0.12, 0.13), rng.gauss(0.0, 0.07)
    height = _CANVAS * rng.uniform(0.6, 0.72)
    pen = height * rng.uniform(0.08, 0.16)
    image = Image.new("L", (_CANVAS, _CANVAS))
    pencil = ImageDraw.Draw(image)
    # A stroke that begins where another ended keeps doing so: equal points move alike.
    jitter = {p: (p[0] + rng.gauss(0, 0.03), p[1] + rng.gauss(0, 0.025)) for stroke in strokes for p in stroke}

    def place(point: Point) -> Point:
        x, y = (point[0] - 0.5) * aspect, point[1] - 0.5
        x -= slant * y
        x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        return _CANVAS / 2 + x * height, _CANVAS / 2 + y * height

    for stroke in strokes:
        path = [place(p) for p in _spline([jitter[p] for p in stroke])]
        width = round(pen * rng.uniform(0.9, 1.1))
        pencil.line(path, fill=255, width=width)
        radius = (width - 1) / 2
        for x, y in path:
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return image


def _spline(points: Sequence[Point], steps: int = 12) -> list[Point]:
    """A Catmull-Rom curve through the points, end points doubled."""
    padded = [points[0], *points, points[-1]]
    curve: list[Point] = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(steps):
            t = step / steps
            weights = (
                0.5 * (-t + 2 * t**2 - t**3),
                0.5 * (2 - 5 * t**2 + 3 * t**3),
                0.5 * (t + 4 * t**2 - 3 * t**3),
                0.5 * (t**3 - t**2),
            )
            x, y = (sum(w * p[axis] for w, p in zip(weights, (a, b, c, d), strict=True)) for axis in (0, 1))
            curve.append((x, y))
    return [*curve, points[-1]]


def _as_mnist(ink: Image.Image) -> Image.Image:
    digit = ink.crop(ink.getbbox())
    ratio = 20 / max(digit.size)
    digit = digit.resize(
        (max(1, round(digit.width * ratio)), max(1, round(digit.height * ratio))), Image.Resampling.BOX
    )
    picture = Image.new("L", (28, 28))
    left, top = (14 - _centre(digit, axis) for axis in (0, 1))
    picture.paste(digit, (round(left), round(top)))
    return picture


def _centre(image: Image.Image, axis: int) -> float:
    """The centre of mass along x (0) or y (1), in pixels."""
    line = image.resize((image.width, 1) if axis == 0 else (1, image.height), Image.Resampling.BOX).tobytes()
    return sum((i + 0.5) * mass for i, mass in enumerate(line)) / max(1, sum(line))


def _on_paper(ink: Image.Image, size: int, rng: random.Random) -> Image.Image:
    paper, pen = rng.randint(225, 255), rng.randint(0, 70)
    shift = (round(rng.uniform(-0.08, 0.08) * size), round(rng.uniform(-0.08, 0.08) * size))
    mask = ink.resize((size, size), Image.Resampling.BICUBIC).rotate(0, translate=shift)
    page = Image.new("L", (size, size), paper)
    page.paste(pen, (0, 0, size, size), mask)
    return page


def main(arguments: Sequence[str] | None = None) -> None:
    """Write ``count`` of each digit to a folder as DIGIT-SEED.png."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.mnist.draw", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1, help="pictures of each digit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=("mnist", "paper"), default="paper")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seed, options.seed + options.count):
        for digit in range(10):
            draw_digit(digit, seed, style=options.style).save(options.out / f"{digit}-{seed}.png")


if __name__ == "__main__":
    main()
