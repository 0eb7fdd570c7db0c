"""Pictures to classes: decode and preprocess, classify, keep the best."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.answers import Answers
from provider_images.runtime.familiarity import Familiarity
from provider_images.runtime.job import ItemFailure, ItemOutput
from provider_images.runtime.model import Classifier, ModelError
from provider_images.runtime.pictures import PictureError, prepare_all
from provider_images.runtime.sandbox import cpus
from provider_images.runtime.spec import Declared, SpecError

_DECODERS = 4  # pictures decoded at once; large ones are decoded one at a time


def classify_all(model: Classifier, files: Mapping[str, bytes], *, max_pixels: int) -> Answers:
    """The outcome of each picture by the id of its input; a bad one fails alone.

    Later pictures are decoded while earlier ones are computed, so the time for decoding is that until the model had
    its first. Raises ModelError when the manifest declares a familiarity that is malformed.
    """
    began = time.perf_counter()
    failures: dict[str, ItemOutput] = {}
    usable: dict[str, int] = {}  # how familiar each is
    familiarity = _familiarity(model.spec.familiarity) if model.spec.familiarity else None

    def pictures() -> Iterator[NDArray[np.float32]]:
        threads = min(cpus(), _DECODERS)
        prepared = prepare_all(list(files.values()), model.spec.input, max_pixels=max_pixels, threads=threads)
        for name, picture in zip(files, prepared, strict=True):
            if isinstance(picture, PictureError):
                failures[name] = ItemOutput(name, failure=picture.failure, detail=str(picture))
            else:
                usable[name] = familiarity.score([picture])[0] if familiarity else 0
                yield picture

    coming = pictures()
    first = next(coming, None)
    decoded = time.perf_counter()
    rows = [] if first is None else _best(model.classify(chain([first], coming)), model.spec.top_k)
    outcomes = failures | {name: _output(name, row, usable[name]) for name, row in zip(usable, rows, strict=True)}
    return Answers([outcomes[name] for name in files], decoded - began, time.perf_counter() - decoded)


def _best(probabilities: NDArray[np.float32], top_k: int) -> list[list[tuple[int, float]]]:
    """The first ``top_k`` classes of each picture; a class's index decides between equals."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
    return [[(int(index), float(row[index])) for index in best] for row, best in zip(probabilities, order, strict=True)]


@lru_cache(maxsize=8)
def _familiarity(declared: Declared) -> Familiarity:
    try:
        return Familiarity.from_manifest(declared.body)
    except SpecError as error:
        raise ModelError(str(error)) from error


def _output(input_id: str, labels: list[tuple[int, float]], familiarity: int) -> ItemOutput:
    if not all(np.isfinite(probability) for _, probability in labels):
        return ItemOutput(input_id, failure=ItemFailure.FAILED, detail="the model's answer is not a number")
    return ItemOutput(input_id, labels=tuple(labels), familiarity=familiarity)
