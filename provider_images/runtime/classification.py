"""Pictures to classes: decode and preprocess, classify, keep the best."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from provider_images.runtime.answers import Answers
from provider_images.runtime.job import ItemFailure, ItemOutput
from provider_images.runtime.model import Classifier
from provider_images.runtime.pictures import PictureError, prepare_all
from provider_images.runtime.sandbox import cpus

_DECODERS = 4  # pictures decoded at once; each may have max_pixels


def classify_all(model: Classifier, files: Mapping[str, bytes], *, max_pixels: int) -> Answers:
    """The outcome of each picture by the id of its input; a bad one fails alone."""
    began = time.perf_counter()
    prepared = prepare_all(
        list(files.values()), model.spec.input, max_pixels=max_pixels, threads=min(cpus(), _DECODERS)
    )
    decoded = time.perf_counter()
    answers = iter(_classify(model, [picture for picture in prepared if not isinstance(picture, PictureError)]))
    items = [
        ItemOutput(name, failure=picture.failure, detail=str(picture))
        if isinstance(picture, PictureError)
        else _output(name, next(answers))
        for name, picture in zip(files, prepared, strict=True)
    ]
    return Answers(items, decoded - began, time.perf_counter() - decoded)


def _classify(model: Classifier, pictures: list[np.ndarray]) -> list[list[tuple[int, float]]]:
    """The first ``top_k`` classes of each picture; a class's index decides between equals."""
    if not pictures:
        return []
    probabilities = model.classify(np.stack(pictures))
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, : model.spec.top_k]
    return [[(int(index), float(row[index])) for index in best] for row, best in zip(probabilities, order, strict=True)]


def _output(input_id: str, labels: list[tuple[int, float]]) -> ItemOutput:
    if not all(np.isfinite(probability) for _, probability in labels):
        return ItemOutput(input_id, failure=ItemFailure.FAILED, detail="the model's answer is not a number")
    return ItemOutput(input_id, labels=tuple(labels))
