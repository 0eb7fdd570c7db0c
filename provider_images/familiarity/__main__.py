"""Give a model's manifest a ``familiarity``, from pictures it was trained on and pictures held out from that.

``python -m provider_images.familiarity --manifest manifest.json --training DIR --held-out DIR --others DIR``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from provider_images.familiarity.files import read_pictures, write_manifest
from provider_images.familiarity.fit import auroc, fit
from provider_images.runtime.familiarity import Familiarity
from provider_images.runtime.spec import InputSpec, SpecError


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, measure where there are others, and write the manifest."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.familiarity", description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="the model's manifest.json; it is changed")
    parser.add_argument("--training", type=Path, required=True, help="folder of pictures that the model was trained on")
    parser.add_argument("--held-out", type=Path, required=True, help="folder of pictures like them, not trained on")
    parser.add_argument(
        "--others",
        type=Path,
        action="append",
        default=[],
        help="folder of pictures of other things: half of the held-out ones are measured against it",
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        document = json.loads(options.manifest.read_text(encoding="utf-8"))
        document["familiarity"] = familiarity = _made(document["input"], options)
        write_manifest(options.manifest, document)
    except (KeyError, OSError, TypeError, ValueError) as error:
        sys.exit(f"error: {f'the manifest has no {error}' if isinstance(error, KeyError) else error}")
    print(json.dumps(familiarity["training"]))  # noqa: T201 - the command's result


def _made(declared: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    spec = InputSpec.from_manifest(declared)
    if spec.fit == "whole":
        raise SpecError("input.fit: a model that takes the whole picture at any size has no familiarity yet")
    training, held_out = read_pictures(options.training, spec), read_pictures(options.held_out, spec)
    order = np.random.default_rng(options.seed).permutation(len(held_out))
    half = len(order) // 2 if options.others else 0
    measured, calibration = held_out[order[:half]], held_out[order[half:]]
    familiarity = fit(training, calibration, spec, seed=options.seed)
    measure = Familiarity.from_manifest(familiarity, channels=spec.channels)
    known = measure.score(measured)
    others = {folder.name: measure.score(read_pictures(folder, spec)) for folder in options.others}
    familiarity["training"] = {
        "command": f"python -m provider_images.familiarity --seed {options.seed}",
        "seed": options.seed,
        "pictures": {
            "training": len(training),
            "calibration": len(calibration),
            "measured": len(measured),
        },
        "auroc": {name: round(auroc(known, scores), 4) for name, scores in others.items()},
    }
    return familiarity


if __name__ == "__main__":
    main()
