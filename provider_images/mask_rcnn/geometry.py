"""Boxes, anchors and crops, written once for numpy arrays and for the tensors of any Keras backend.

``xp`` is the module that computes: ``numpy`` or ``keras.ops``. A box is (y1, x1, y2, x2) in pixels of the padded
picture. ``edge`` tells where a box ends: 0 = the end lies outside, at the pixel's far border; 1 = Matterport's
convention, the end is the last pixel itself. Letters of shapes: n pictures, a anchors, b boxes, c channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DELTA_SCALE = np.array([0.1, 0.1, 0.2, 0.2], np.float32)  # what the networks' deltas are multiplied with
_AT_ONCE = 16  # boxes that numpy reads at a time
_MAX_GROWTH = 4.0  # log of how much larger than its anchor a box may get: no overflow from untrained weights


def anchors(
    height: int,
    width: int,
    strides: tuple[int, ...],
    sides: tuple[int, ...],
    ratios: tuple[float, ...],
    edge: int,
) -> NDArray[np.float32]:
    """Every anchor of a picture, (a, 4): by level, row, column and ratio (width by height)."""
    found = []
    for stride, side in zip(strides, sides, strict=True):
        half = np.array([[side / r**0.5, side * r**0.5] for r in ratios]) / 2  # (ratios, 2)
        # No half offset: a centre is the index times the stride, as Matterport has it.
        grid = np.mgrid[0 : -(-height // stride), 0 : -(-width // stride)] * float(stride)  # (2, h, w)
        centres = np.moveaxis(grid, 0, -1)[:, :, None]  # (h, w, 1, 2)
        found.append(np.concatenate([centres - half, centres + half - edge], axis=-1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


def decode(xp: Any, boxes: Any, deltas: Any) -> Any:
    """Move and stretch boxes (..., 4) by (dy, dx, log dh, log dw), already scaled."""
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + size * 0.5 + deltas[..., :2] * size
    half = size * xp.exp(xp.clip(deltas[..., 2:], -_MAX_GROWTH, _MAX_GROWTH)) * 0.5
    return xp.concatenate([centre - half, centre + half], axis=-1)


def encode(xp: Any, boxes: Any, targets: Any) -> Any:
    """The deltas that ``decode`` turns boxes into targets with; sides below a pixel count as one."""
    size = xp.maximum(boxes[..., 2:] - boxes[..., :2], 1.0)
    wanted = xp.maximum(targets[..., 2:] - targets[..., :2], 1.0)
    centre = (boxes[..., 2:] + boxes[..., :2]) * 0.5
    move = ((targets[..., 2:] + targets[..., :2]) * 0.5 - centre) / size
    return xp.concatenate([move, xp.log(wanted / size)], axis=-1)


def clip(xp: Any, boxes: Any, window: tuple[float, float, float, float]) -> Any:
    """Boxes (..., 4) cut at a window."""
    top, left, bottom, right = window
    y, x = xp.clip(boxes[..., 0::2], top, bottom), xp.clip(boxes[..., 1::2], left, right)
    return xp.stack([y[..., 0], x[..., 0], y[..., 1], x[..., 1]], axis=-1)


def overlap(xp: Any, first: Any, second: Any) -> Any:
    """Intersection over union of every pair: (..., b, 4) and (..., d, 4) give (..., b, d)."""
    a, b = first[..., :, None, :], second[..., None, :, :]
    sides = xp.maximum(xp.minimum(a[..., 2:], b[..., 2:]) - xp.maximum(a[..., :2], b[..., :2]), 0.0)
    shared = sides[..., 0] * sides[..., 1]
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    return shared / xp.maximum(areas[0] + areas[1] - shared, 1e-6)


def align(xp: Any, maps: list[Any], level: Any, boxes: Any, size: int, scales: tuple[float, ...], edge: int) -> Any:
    """ROIAlign: read each box of its level's map at ``size`` x ``size`` points, bilinear, borders continued.

    ``maps`` are (n, h, w, c) with ``scales`` cells a pixel, ``level`` (n, b) indexes them, ``boxes`` are (n, b, 4).
    With edge 0 the points are the middles of size x size equal parts and a cell's value stands in its middle; with
    edge 1 the first and the last point lie on the box's ends and a cell's value on its corner, as in crop_and_resize.
    Returns (n, b, size, size, c).
    """
    n, channels = maps[0].shape[0], maps[0].shape[-1]
    shapes = np.array([m.shape[1:3] for m in maps], np.int32)  # (levels, 2)
    cells = shapes[:, 0] * shapes[:, 1]
    starts = np.cumsum(cells) - cells
    # All levels as one row of cells, so that one gather serves every box.
    flat = xp.concatenate([xp.reshape(xp.array(m, dtype="float32"), (n, -1, channels)) for m in maps], axis=1)
    flat = xp.reshape(flat, (-1, channels))  # (n * all cells, c)
    steps = (np.arange(size) / max(1, size - 1) if edge else (np.arange(size) + 0.5) / size).astype(np.float32)
    scale = xp.take(xp.array(np.array(scales, np.float32)), level, axis=0)[..., None]  # (n, b, 1)
    shape = xp.take(xp.array(shapes), level, axis=0)  # (n, b, 2)
    first = xp.array((np.arange(n) * int(cells.sum())).astype(np.int32)[:, None])
    first = first + xp.take(xp.array(starts.astype(np.int32)), level, axis=0)  # (n, b): where a box's map begins

    def axis(k: int) -> list[tuple[Any, Any]]:
        """The two cells around each point along y (0) or x (1) and their weights: (n, b, size) each."""
        low, high = boxes[..., k : k + 1], boxes[..., k + 2 : k + 3]
        last = xp.array(shape[..., k : k + 1] - 1, dtype="float32")
        points = (low + (high - low) * steps) * scale - (0.0 if edge else 0.5)
        points = xp.minimum(xp.maximum(points, 0.0), last)
        below = xp.floor(points)
        above = xp.minimum(below + 1, last)
        part = points - below
        return [(xp.array(below, dtype="int32"), 1 - part), (xp.array(above, dtype="int32"), part)]

    rows, columns = axis(0), axis(1)
    width = shape[..., 1][..., None, None]  # (n, b, 1, 1)

    def read(some: slice) -> Any:
        total = None
        for row, down in rows:
            for column, right in columns:
                index = row[:, some, :, None] * width[:, some] + column[:, some, None, :]  # (n, some, size, size)
                weight = down[:, some, :, None] * right[:, some, None, :]
                part = xp.take(flat, first[:, some, None, None] + index, axis=0) * weight[..., None]
                total = part if total is None else total + part
        return total

    # Numpy reads so few at a time that they stay in the processor's cache: half the time.
    few = _AT_ONCE if xp is np else max(1, boxes.shape[1])
    return xp.concatenate([read(slice(i, i + few)) for i in range(0, max(1, boxes.shape[1]), few)], axis=1)


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], threshold: float, count: int
) -> NDArray[np.int64]:
    """Greedy NMS: indices of at most ``count`` boxes, best first, none overlapping a better one by more than this."""
    order = np.argsort(-scores, kind="stable")
    top, left, bottom, right = np.ascontiguousarray(boxes[order].T)
    areas = (bottom - top) * (right - left)
    gone = np.zeros(len(order), bool)
    kept: list[int] = []
    for i in range(len(order)):
        if len(kept) == count:
            break
        if gone[i]:
            continue
        kept.append(i)
        # What ``overlap`` computes, but coordinate by coordinate over those that are worse: a tenth of the time.
        rest = slice(i + 1, None)
        down = np.minimum(bottom[i], bottom[rest]) - np.maximum(top[i], top[rest])
        across = np.minimum(right[i], right[rest]) - np.maximum(left[i], left[rest])
        shared = np.maximum(down, 0) * np.maximum(across, 0)
        gone[rest] |= shared / np.maximum(areas[i] + areas[rest] - shared, 1e-6) > threshold
    return order[kept]


def survivors(ops: Any, boxes: Any, threshold: float) -> Any:
    """The same NMS for tensors: which of the boxes (n, b, 4), best first, are kept, (n, b) bool.

    A box is kept when no better kept box overlaps it. Starting from "all are kept" and applying that rule to all
    boxes at once, the first k are right after k rounds, and in practice a few rounds settle all of them: far fewer
    steps than one a box.
    """
    count = boxes.shape[1]
    better = np.triu(np.ones((count, count), bool), 1)  # (of, over)
    rivals = ops.logical_and(overlap(ops, boxes, boxes) > threshold, better)  # (n, b, b)
    kept = ops.ones_like(boxes[..., 0], dtype="bool")

    def changed(before: Any, now: Any) -> Any:
        return ops.any(ops.not_equal(before, now))

    def settle(_: Any, now: Any) -> tuple[Any, Any]:
        beaten = ops.any(ops.logical_and(rivals, now[..., :, None]), axis=1)
        return now, ops.logical_not(beaten)

    _, kept = ops.while_loop(changed, settle, (ops.logical_not(kept), kept), maximum_iterations=count)
    return kept
