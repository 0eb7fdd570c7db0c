"""The 1000 classes of ImageNet's classification challenge: WordNet's identifiers and names, in the models' order.

``classes.txt`` has a line a class: the identifier of a synset, a space, and the first of its names in WordNet 3.0 with
underscores for spaces. WordNet's licence allows any use; the order and the names were written from the synset and lemma
lists of timm (Apache-2.0). The index file that keras.applications fetches agrees with them entry by entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def classes() -> tuple[tuple[str, str], ...]:
    """(WordNet id, name) by class index."""
    lines = Path(__file__).with_name("classes.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" ", 1) for line in lines)
    return tuple((identifier, name) for identifier, name in pairs)


def labels() -> list[str]:
    """The names as people write them, by class index; a few things share a name."""
    return [name.replace("_", " ") for _, name in classes()]


def decode_predictions(probabilities: NDArray[Any], top: int = 5) -> list[list[tuple[str, str, float]]]:
    """(WordNet id, name, probability) of the ``top`` best classes of each row (n, 1000), best first.

    As keras.applications.imagenet_utils.decode_predictions, without its download. Raises ValueError on another shape.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes()):
        raise ValueError(f"(n, {len(classes())}) expected, not {probabilities.shape}")
    return [[(*classes()[i], float(row[i])) for i in _best(row, top)] for row in probabilities]


def _best(row: NDArray[Any], top: int) -> Sequence[int]:
    # The sort and the order among equals are those of Keras.
    found: list[int] = np.argsort(row)[-top:][::-1].tolist()
    return sorted(found, key=lambda index: float(row[index]), reverse=True)
