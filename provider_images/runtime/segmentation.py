"""Pictures to segments: decode, find objects or classes, encode their pixels."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.answers import Answers
from provider_images.runtime.job import ItemFailure, ItemOutput
from provider_images.runtime.masks import encode_mask
from provider_images.runtime.model import Segmenter
from provider_images.runtime.pictures import PictureError, decode_picture
from provider_images.runtime.segments import MAX_MASKS, MAX_SIDE, Segment, bytes_of


def segment_all(model: Segmenter, files: Mapping[str, bytes], *, max_pixels: int) -> Answers:
    """The outcome of each picture by the id of its input, one picture after the other; a bad one fails alone."""
    items = []
    decoding = computing = 0.0
    for name, data in files.items():
        began = time.perf_counter()
        try:
            picture = np.asarray(decode_picture(data, max_pixels))
            if max(picture.shape) > MAX_SIDE:
                raise PictureError(ItemFailure.TOO_LARGE, f"a side of {max(picture.shape)} pixels; {MAX_SIDE} at most")
        except PictureError as error:
            items.append(ItemOutput(name, failure=error.failure, detail=str(error)))
            continue
        decoded = time.perf_counter()
        try:
            items.append(_outcome(name, model, picture))
        except PictureError as error:
            items.append(ItemOutput(name, failure=error.failure, detail=str(error)))
        decoding += decoded - began
        computing += time.perf_counter() - decoded
    return Answers(items, decoding, computing)


def _outcome(name: str, model: Segmenter, picture: NDArray[np.uint8]) -> ItemOutput:
    """The segments of one picture, as many as fit. Raises PictureError."""
    height, width = picture.shape[:2]
    segments: list[Segment] = []
    found, room = 0, MAX_MASKS
    for one in model.segment(picture):
        if not one.mask.any():
            continue
        if not np.isfinite([one.score, *one.box]).all():
            raise PictureError(ItemFailure.FAILED, "the model's answer is not a number")
        found += 1
        if len(segments) == model.spec.top_k or room < 0:
            continue
        counts = encode_mask(one.mask, one.top, one.left, height, width)
        room -= bytes_of(counts)
        # Once one does not fit, those after it are left out as well: the best stay.
        if room >= 0:
            segments.append(Segment(one.index, round(one.score, 6), one.box, int(one.mask.sum()), counts))
        elif sum(bytes_of(other.counts) for other in segments) < MAX_MASKS // 2:
            raise PictureError(ItemFailure.TOO_LARGE, f"a mask of {len(counts)} bytes is too intricate to be told")
    return ItemOutput(name, size=(width, height), segments=tuple(segments), found=found)
