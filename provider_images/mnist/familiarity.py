"""The familiarity of the shipped model: fit it, write it into the manifest, measure it.

``python -m provider_images.mnist.familiarity --data DIR`` repeats what is shipped. DIR is a folder with ``mnist`` (the
IDX files) and, for photos, ``photos``, ``coco`` and ``imagenet``. It is fitted to the digits that the model was trained
on, MNIST's and drawn ones. Its percentiles are of digits held out; the figures are of other digits held out.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from provider_images.familiarity.chart import chart
from provider_images.familiarity.files import MAX_PIXELS, write_manifest
from provider_images.familiarity.fit import Pictures, auroc, fit
from provider_images.mnist.letters import ALIKE, LETTERS, NOISES, draw_letter, make_noise, print_letter
from provider_images.mnist.train import (
    DRAWN,
    DRAWN_HELD_OUT,
    DRAWN_HELD_OUT_SEED,
    DRAWN_SEED,
    HERE,
    SHARED,
    drawn_digits,
    load_digits,
    split,
)
from provider_images.runtime.familiarity import Familiarity
from provider_images.runtime.pictures import prepare, scale
from provider_images.runtime.spec import InputSpec

LETTER_SEED = 6_000_000
EACH_LETTER, EACH_PRINTED, EACH_NOISE = 40, 20, 125
PHOTOS = ("photos", "coco", "imagenet")
MANIFEST = HERE / "manifest.json"


def fitted(folder: Path, spec: InputSpec, seed: int) -> Pictures:
    """The digits that the model was trained on; ``seed`` is the one that split them for that."""
    training, _, _ = split(load_digits(folder / "mnist"), seed)
    return _scaled(np.concatenate([training[0], drawn_digits(DRAWN, DRAWN_SEED)[0]]), spec)


def held_out(folder: Path, spec: InputSpec, seed: int) -> tuple[Pictures, Pictures, Pictures]:
    """Digits never trained on: to calibrate on, and to measure with, MNIST's and drawn ones."""
    _, validation, rest = split(load_digits(folder / "mnist"), seed)
    order = np.random.default_rng(seed).permutation(len(rest[0]))
    calibration, measured = np.array_split(rest[0][order], 2)
    drawn, others = np.array_split(drawn_digits(DRAWN_HELD_OUT, DRAWN_HELD_OUT_SEED)[0], 2)
    first = np.concatenate([validation[0], calibration, drawn])
    return _scaled(first, spec), _scaled(measured, spec), _scaled(others, spec)


def scores(measure: Familiarity, spec: InputSpec, folder: Path, seed: int, *, share: float = 1.0) -> dict[str, Any]:
    """The bytes of each kind of picture; of letters and noise by kind. ``photos`` is None where there are none.

    ``share`` less than one measures so many of each kind only, for a test that must be quick.
    """

    def count(whole: int) -> int:
        return max(1, round(whole * share))

    def made(pictures: Iterable[Image.Image]) -> list[int]:
        return measure.score(prepare(png(picture), spec, max_pixels=MAX_PIXELS) for picture in pictures)

    _, digits, drawn = held_out(folder, spec, seed)
    photos = list(read_photos(folder, every=max(1, round(1 / share))))
    return {
        "digits": measure.score(digits[: count(len(digits))]),
        "drawn": measure.score(drawn[: count(len(drawn))]),
        "letters": {
            letter: made(
                draw_letter(letter, LETTER_SEED + i, style="mnist" if i % 2 else "paper")
                for i in range(count(EACH_LETTER))
            )
            for letter in LETTERS
        },
        "printed": {
            letter: made(print_letter(letter, LETTER_SEED + i) for i in range(count(EACH_PRINTED)))
            for letter in LETTERS
        },
        "noise": {kind: made(make_noise(kind, LETTER_SEED + i) for i in range(count(EACH_NOISE))) for kind in NOISES},
        "photos": made(photos) if photos else None,
    }


def figures(found: Mapping[str, Any]) -> dict[str, float | None]:
    """AUROC, from what ``scores`` gave: how often a digit held out is more familiar than a picture of another kind.

    ``auroc`` is of letters (all 26, drawn), noise and photos together, each kind weighing the same; None without
    photos. ``letters_told`` leaves out those letters that no reader could tell from a digit. ``letters_by_pen`` is of
    drawn digits against drawn letters: the same pen, so that nothing but the shape tells them apart.
    """
    digits, photos = found["digits"], found["photos"]
    letters, printed, noise = _flat(found["letters"]), _flat(found["printed"]), _flat(found["noise"])
    told = _flat({letter: values for letter, values in found["letters"].items() if letter not in ALIKE})
    apart = {
        "letters": auroc(digits, letters),
        "letters_told": auroc(digits, told),
        "letters_printed": auroc(digits, printed),
        "letters_by_pen": auroc(found["drawn"], letters),
        "noise": auroc(digits, noise),
        "photos": None if photos is None else auroc(digits, photos),
    }
    kinds = [apart["letters"], apart["noise"], apart["photos"]]
    pooled = None if photos is None else float(np.mean([kind for kind in kinds if kind is not None]))
    return {name: None if value is None else round(value, 4) for name, value in {"auroc": pooled, **apart}.items()}


def measure(folder: Path, *, share: float = 1.0) -> dict[str, float | None]:
    """Measure what is shipped on what its fitting never saw; see ``figures``. Raises OSError without ``mnist``."""
    document = json.loads(MANIFEST.read_text(encoding="utf-8"))
    spec = InputSpec.from_manifest(document["input"])
    shipped = Familiarity.from_manifest(document["familiarity"], channels=spec.channels)
    return figures(scores(shipped, spec, folder, document["training"]["seed"], share=share))


def read_photos(folder: Path, *, every: int = 1) -> Iterator[Image.Image]:
    """Each photo (or one of so many) as it is, as a thumbnail of 28 x 28, and two quarters of it."""
    paths = sorted(path for name in PHOTOS for path in (folder / name).glob("*"))
    for path in [path for path in paths if path.suffix.lower() in (".jpg", ".jpeg", ".png")][::every]:
        with Image.open(path) as file:
            photo = file.convert("RGB")
        width, height = photo.size
        yield photo
        yield photo.resize((28, 28))
        yield photo.crop((0, 0, width // 2, height // 2))
        yield photo.crop((width // 2, height // 2, width, height))


def png(picture: Image.Image) -> bytes:
    """A picture as a person sends it."""
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()


def _scaled(digits: NDArray[np.uint8], spec: InputSpec) -> Pictures:
    return scale(digits[..., None].astype(np.float32), spec)


def _flat(by_kind: Mapping[str, Sequence[int]]) -> list[int]:
    return [value for values in by_kind.values() for value in values]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, measure, and write ``familiarity`` into ``manifest.json``."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.mnist.familiarity", description=__doc__)
    parser.add_argument("--data", type=Path, default=SHARED.parent)
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    parser.add_argument("--chart", type=Path, help="write a picture of the distributions here, SVG")
    options = parser.parse_args(arguments)
    document = json.loads(options.manifest.read_text(encoding="utf-8"))
    spec, seed = InputSpec.from_manifest(document["input"]), document["training"]["seed"]
    training = fitted(options.data, spec, seed)
    calibration, digits, drawn = held_out(options.data, spec, seed)
    declared = fit(training, calibration, spec, seed=seed)
    found = scores(Familiarity.from_manifest(declared), spec, options.data, seed)
    mean = {name: round(float(np.mean(found[name])), 1) for name in ("digits", "drawn")}
    declared["training"] = {
        "command": "python -m provider_images.mnist.familiarity",
        "data": "The digits that the model was trained on; percentiles from its validation digits and half of the held "
        "out ones, MNIST's and drawn; figures from the other half, against letters and noise of "
        "provider_images/mnist/letters.py and photos",
        "seed": seed,
        "pictures": {
            "training": len(training),
            "calibration": len(calibration),
            "digits": len(digits),
            "drawn": len(drawn),
            "letters": EACH_LETTER * len(LETTERS),
            "noise": EACH_NOISE * len(NOISES),
            "photos": len(found["photos"] or ()),
        },
        "auroc": figures(found),
        "mean": mean,
    }
    document["familiarity"] = declared
    write_manifest(options.manifest, document)
    if options.chart:
        groups = {
            "digits held out": found["digits"],
            "letters": _flat(found["letters"]),
            "noise": _flat(found["noise"]),
        }
        options.chart.write_text(chart({**groups, "photos": found["photos"] or []}), encoding="utf-8")
    letters = {letter: round(auroc(found["digits"], values), 3) for letter, values in found["letters"].items()}
    print(json.dumps({"by_letter": letters, **declared["training"]["auroc"], "mean": mean}))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
