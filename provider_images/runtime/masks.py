"""Masks as numpy arrays and as COCO's run-length encoding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.checks import JobError
from provider_images.runtime.segments import decode_runs, encode_runs


def encode_mask(mask: NDArray[np.bool_], top: int, left: int, height: int, width: int) -> str:
    """A mask (h, w) whose first pixel is at (top, left) of a picture (height, width), as COCO's text."""
    rows, columns = mask.shape
    # Along the columns, as COCO has it: where a pixel differs from the one before, a run begins.
    flat = np.zeros((columns, rows + 2), np.int8)
    flat[:, 1:-1] = mask.T
    column, row = np.nonzero(np.diff(flat, axis=1))  # by column, then row: starts and ends by turns
    places = (left + column).astype(np.int64) * height + top + row
    starts, ends = places[0::2], places[1::2]
    # A run that reaches a column's end goes on in the next column when that one begins with it.
    joined = starts[1:] == ends[:-1]
    starts = starts[np.concatenate([[True], ~joined])] if len(starts) else starts
    ends = ends[np.concatenate([~joined, [True]])] if len(ends) else ends
    edges = np.empty(2 * len(starts), np.int64)
    edges[0::2], edges[1::2] = starts, ends
    runs = np.diff(np.concatenate([[0], edges, [height * width]]))
    # The last run is of pixels outside; there is none when the last pixel is inside.
    counts: list[int] = runs.tolist()
    return encode_runs(counts if counts[-1] else counts[:-1])


def decode_mask(text: str, height: int, width: int) -> NDArray[np.bool_]:
    """COCO's text as a mask (height, width). Raises JobError when it is not one of a picture of this size."""
    runs = decode_runs(text, "mask")
    if sum(runs) != height * width:
        raise JobError(f"mask: {sum(runs)} pixels for a picture of {width} x {height}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T
