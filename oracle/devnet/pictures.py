"""Pictures for the demo and the benchmark: real handwritten digits where they are at hand, else our own pen's."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

MANIFEST = Path(__file__).resolve().parents[2] / "provider_images" / "mnist" / "manifest.json"
IMAGES = "t10k-images-idx3-ubyte.gz"
DEMO_SEED = 3_000_000  # training draws from seeds below this
_SCENE = 37


@dataclass(frozen=True, slots=True)
class Digit:
    """A PNG of a handwritten digit and what it shows."""

    png: bytes
    value: int


@dataclass(frozen=True, slots=True)
class Digits:
    """Digits and where they come from."""

    source: str
    items: tuple[Digit, ...]


def data_folder() -> Path | None:
    """The folder of test data: SIBYL_TEST_DATA, else ``../shared/data`` beside the project; None without either."""
    named = os.environ.get("SIBYL_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


def digits(count: int, *, skip: int = 0) -> Digits:
    """``count`` digits, the classes in turn, none of which the shipped model was trained on.

    Real MNIST digits of the held-out part where the test data is there; else digits drawn by our own pen, from seeds
    that training does not use.
    """
    folder = data_folder()
    if folder is not None and (folder / "mnist" / IMAGES).exists():
        return _mnist(folder / "mnist", count, skip)
    return _drawn(count, skip)


@dataclass(frozen=True, slots=True)
class Scene:
    """A PNG of a scene of shapes and digits, and the names of what can be seen in it."""

    png: bytes
    things: tuple[str, ...]


def scene() -> Scene:
    """A scene that the shipped Mask R-CNN was not trained on, one of those that it gets wholly right (most).

    Its digits are real ones of the held-out part where the test data is there, else our own pen's.
    """
    # NumPy comes with it, which the oracle itself must not carry.
    import numpy as np

    from provider_images.mask_rcnn import scenes
    from provider_images.mnist.draw import draw_digit

    folder = data_folder()
    if folder is not None and (folder / "mnist" / IMAGES).exists():
        images, labels = _held_out(folder / "mnist")
    else:
        drawn = [draw_digit(number % 10, DEMO_SEED + number, style="mnist").convert("L") for number in range(40)]
        images, labels = np.stack([np.asarray(page) for page in drawn]), np.arange(40) % 10
    made = scenes.scene(images, labels, DEMO_SEED, _SCENE)
    things = tuple(scenes.LABELS[kind - 1] for kind in made.classes if kind)
    return Scene(_png(Image.fromarray(made.picture)), things)


def _held_out(folder: Path) -> Any:
    from provider_images.mnist.train import load_digits, split

    seed = json.loads(MANIFEST.read_text())["training"]["seed"]
    return split(load_digits(folder), seed)[2]


def _mnist(folder: Path, count: int, skip: int) -> Digits:
    images, labels = _held_out(folder)
    piles = [[index for index, label in enumerate(labels) if label == value] for value in range(10)]
    chosen = []
    for number in range(skip, skip + count):
        pile = piles[number % 10]
        index = pile[number // 10 % len(pile)]
        chosen.append(Digit(_png(Image.fromarray(images[index])), number % 10))
    return Digits("MNIST, digits held out from training", tuple(chosen))


def _drawn(count: int, skip: int) -> Digits:
    from provider_images.mnist.draw import draw_digit

    items = [
        Digit(_png(draw_digit(number % 10, DEMO_SEED + number, style="mnist")), number % 10)
        for number in range(skip, skip + count)
    ]
    return Digits("drawn by Sibyl's own pen (no MNIST data beside the project)", tuple(items))


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
