"""Whether two results for one picture say the same, by the comparison class that the model's manifest declares.

Processors do not agree to the last bit: in fp32 probabilities differ by about 1e-6. So a class is never compared by the
hash of its numbers, unless the model computes in integers and its manifest says ``exact``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from oracle.domain import FailureReason, ItemResult, ModelManifest, SegmentScore
from oracle.manifests import INSTANCES
from provider_images.runtime.segments import decode_runs

TIE = 2e-5
"""Two classes nearer than this may change places between two honest machines; a wrong label is further away."""
FAMILIARITY = 2
"""Steps of 255 by which two honest machines may round the familiarity of a picture apart."""
SPECK = 1e-3
"""Share of a picture's pixels below which a class of a semantic segmentation may be there or not."""


Box = tuple[float, float, float, float]


def agree(manifest: ModelManifest, left: ItemResult, right: ItemResult) -> bool:
    """Whether two outcomes for the same picture may both be honest.

    ``exact``: the same classes, or segments, with the same numbers. ``tolerance``: the same first class, up to a tie,
    and every probability within the manifest's epsilon; a class that only one of them names must be about as small as
    the other's last one. ``detection``: see ``_same_instances`` and ``_same_regions``.
    """
    if FailureReason.NONE not in (left.failure, right.failure):
        return left.failure is right.failure
    if left.failure is not right.failure or left.size != right.size:
        return False
    if abs(left.familiarity - right.familiarity) > FAMILIARITY:
        return False
    comparison = manifest.document["comparison"]
    if left.size is not None:
        if comparison["class"] == "exact":
            return _segments(left) == _segments(right)
        same = _same_instances if manifest.task == INSTANCES else _same_regions
        return same(left, right, comparison)
    if not left.labels or not right.labels:
        return False
    if comparison["class"] == "exact":
        return [(s.index, s.probability) for s in left.labels] == [(s.index, s.probability) for s in right.labels]
    epsilon = float(comparison["epsilon"])
    return _first_alike(left, right) and _within(left, right, epsilon) and _within(right, left, epsilon)


# ---------------------------------------------------------------------------------------------------------------
# Classification
# ---------------------------------------------------------------------------------------------------------------


def _first_alike(left: ItemResult, right: ItemResult) -> bool:
    mine, others = left.labels[0].index, right.labels[0].index
    if mine == others:
        return True
    here = {score.index: score.probability for score in left.labels}
    there = {score.index: score.probability for score in right.labels}
    # A class that is not named has at most the probability of the last one named: where all of those tie, so may it.
    return (
        here[mine] - here.get(others, left.labels[-1].probability) <= TIE
        and there[others] - there.get(mine, right.labels[-1].probability) <= TIE
    )


def _within(left: ItemResult, right: ItemResult, epsilon: float) -> bool:
    known = {score.index: score.probability for score in right.labels}
    last = right.labels[-1].probability
    for score in left.labels:
        if score.index in known:
            if abs(score.probability - known[score.index]) > epsilon:
                return False
        elif score.probability > last + epsilon:
            return False
    return True


# ---------------------------------------------------------------------------------------------------------------
# Segmentation
# ---------------------------------------------------------------------------------------------------------------


def _segments(item: ItemResult) -> list[tuple[Any, ...]]:
    return [(one.index, one.score, one.box, one.mask) for one in item.segments]


def _same_instances(left: ItemResult, right: ItemResult, comparison: Mapping[str, Any]) -> bool:
    """Whether each instance has its like on the other side: class, pixels and box (IoU) and score (epsilon).

    One may be missing there whose score is within epsilon of the lowest that is reported: of the manifest's, or, where
    a list was cut, of the list's own end.
    """
    iou, epsilon = float(comparison["iou"]), float(comparison["epsilon"])
    least = float(comparison["score"])
    pairs = [(one, _runs(one)) for one in right.segments]
    for one in left.segments:
        runs = _runs(one)
        like = next(
            (
                i
                for i, (other, its) in enumerate(pairs)
                if other.index == one.index
                and abs(other.score - one.score) <= epsilon
                and _box_overlap(one.box, other.box) >= iou
                and overlap(runs, its) >= iou
            ),
            None,
        )
        if like is not None:
            del pairs[like]
        elif one.score > _end(right, least) + epsilon:
            return False
    return all(other.score <= _end(left, least) + epsilon for other, _ in pairs)


def _end(item: ItemResult, least: float) -> float:
    cut = item.found > len(item.segments) and item.segments
    return item.segments[-1].score if cut else least


def _same_regions(left: ItemResult, right: ItemResult, comparison: Mapping[str, Any]) -> bool:
    """Whether each class has the same pixels (IoU) with the same score (epsilon) on both sides, but for specks."""
    assert left.size is not None
    pixels = left.size[0] * left.size[1]
    here, there = ({one.index: one for one in item.segments} for item in (left, right))
    for index in here.keys() | there.keys():
        one, other = here.get(index), there.get(index)
        if max(found.area for found in (one, other) if found) <= SPECK * pixels:
            continue
        if one is None or other is None or abs(one.score - other.score) > float(comparison["epsilon"]):
            return False
        if overlap(_runs(one), _runs(other)) < float(comparison["iou"]):
            return False
    return True


def _runs(segment: SegmentScore) -> list[int]:
    return decode_runs(segment.mask, "mask")


def _box_overlap(left: Box, right: Box) -> float:
    height = min(left[2], right[2]) - max(left[0], right[0])
    width = min(left[3], right[3]) - max(left[1], right[1])
    shared = max(0.0, height) * max(0.0, width)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (left, right))
    return shared / (areas - shared)


def overlap(left: Sequence[int], right: Sequence[int]) -> float:
    """Intersection over union of two masks of one picture, given as runs of pixels, outside first."""
    a, b = list(accumulate(left)), list(accumulate(right))
    shared = i = j = 0
    # Runs of odd number are inside: [a[i], a[i + 1]) for even i.
    while i + 1 < len(a) and j + 1 < len(b):
        shared += max(0, min(a[i + 1], b[j + 1]) - max(a[i], b[j]))
        if a[i + 1] <= b[j + 1]:
            i += 2
        else:
            j += 2
    union = sum(left[1::2]) + sum(right[1::2]) - shared
    return shared / union if union else 1.0
