"""Whether two results for one picture say the same, by the comparison class that the model's manifest declares.

Processors do not agree to the last bit: in fp32 probabilities differ by about 1e-6. So a class is never compared by the
hash of its numbers, unless the model computes in integers and its manifest says ``exact``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from oracle.domain import FailureReason, ItemResult, ModelManifest, SegmentScore
from oracle.manifests import INSTANCES
from provider_images.runtime.job import Expected
from provider_images.runtime.segments import decode_runs

TIE = 2e-5
"""Two classes nearer than this may change places between two honest machines; a wrong label is further away."""
FAMILIARITY = 2
"""Steps of 255 by which two honest machines may round the familiarity of a picture apart."""
SPECK = 1e-4
"""Share of a picture's pixels up to which a class of a semantic segmentation may be there or not."""
EXCUSED = 2
"""Segments that two honest results may not have in common: such as are at the edge of being reported at all."""
LOOKS = 4
"""Pairs of masks that are held against each other for each segment; honest segments seldom resemble two."""


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
        return (_same_instances if manifest.task == INSTANCES else _same_regions)(manifest, left, right)
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


def _same_instances(manifest: ModelManifest, left: ItemResult, right: ItemResult) -> bool:
    """Whether each instance has its like on the other side: class, pixels and box (IoU) and score (epsilon).

    Up to ``EXCUSED`` may have none whose score is within epsilon of the lowest that is reported: of the manifest's, or,
    where a list had no room for more, of the list's own end.
    """
    comparison = manifest.document["comparison"]
    iou, epsilon, least = (float(comparison[name]) for name in ("iou", "epsilon", "score"))
    expected = Expected.of(manifest.document)
    ends = [_end(item, least, expected) + epsilon for item in (left, right)]
    others = [_Shape(one) for one in right.segments]
    looks = LOOKS * (len(left.segments) + len(right.segments))
    alone = 0
    for one in map(_Shape, left.segments):
        like = None
        for i, other in enumerate(others):
            if not one.resembles(other, iou, epsilon):
                continue
            looks -= 1
            if one.overlap(other) >= iou:
                like = i
                break
            if looks < 0:
                return False
        if like is not None:
            del others[like]
        elif one.segment.score > ends[1]:
            return False
        else:
            alone += 1
    if any(other.segment.score > ends[0] for other in others):
        return False
    alone += len(others)
    return alone <= EXCUSED and abs(left.found - right.found) <= EXCUSED


def _end(item: ItemResult, least: float, expected: Expected) -> float:
    """The least score that a list can hold."""
    cut = item.segments and expected.is_cut([one.mask for one in item.segments])
    return item.segments[-1].score if cut else least


def _same_regions(manifest: ModelManifest, left: ItemResult, right: ItemResult) -> bool:
    """Whether each class has the same pixels (IoU) with the same score (epsilon) on both sides.

    Up to ``EXCUSED`` classes may be on one side alone: specks, and the last of a list that had no room for more.
    """
    assert left.size is not None
    comparison = manifest.document["comparison"]
    expected = Expected.of(manifest.document)
    speck = SPECK * left.size[0] * left.size[1]
    here, there = ({one.index: one for one in item.segments} for item in (left, right))
    ends = [_end(item, 0.0, expected) + float(comparison["epsilon"]) for item in (left, right)]
    alone = 0
    for index in here.keys() | there.keys():
        one, other = here.get(index), there.get(index)
        if one is not None and other is not None:
            if abs(one.score - other.score) > float(comparison["epsilon"]):
                return False
            if max(one.area, other.area) > speck and _Shape(one).overlap(_Shape(other)) < float(comparison["iou"]):
                return False
            continue
        only, end = (one, ends[1]) if one is not None else (other, ends[0])
        assert only is not None
        if only.area > speck and only.score > end:
            return False
        alone += 1
    return alone <= EXCUSED and abs(left.found - right.found) <= EXCUSED


class _Shape:
    """A segment whose mask is decoded once, when it is first needed."""

    def __init__(self, segment: SegmentScore) -> None:
        self.segment = segment
        self._ends: list[int] | None = None

    @property
    def ends(self) -> list[int]:
        """Where its runs end, outside first."""
        if self._ends is None:
            self._ends = list(accumulate(decode_runs(self.segment.mask, "mask")))
        return self._ends

    def resembles(self, other: _Shape, iou: float, epsilon: float) -> bool:
        """Whether class, score, area and box leave it possible that both are one."""
        mine, its = self.segment, other.segment
        return (
            mine.index == its.index
            and abs(mine.score - its.score) <= epsilon
            and min(mine.area, its.area) >= iou * max(mine.area, its.area)
            and _box_overlap(mine.box, its.box) >= iou
        )

    def overlap(self, other: _Shape) -> float:
        """Intersection over union of both masks."""
        if self.segment.mask == other.segment.mask:
            return 1.0
        shared = intersection(self.ends, other.ends)
        return shared / (self.segment.area + other.segment.area - shared)


def _box_overlap(left: Box, right: Box) -> float:
    height = min(left[2], right[2]) - max(left[0], right[0])
    width = min(left[3], right[3]) - max(left[1], right[1])
    shared = max(0.0, height) * max(0.0, width)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (left, right))
    return shared / (areas - shared)


def intersection(a: Sequence[int], b: Sequence[int]) -> int:
    """Pixels that two masks of one picture share, given where their runs end, outside first."""
    shared = i = j = 0
    # [a[i], a[i + 1]) is inside for even i.
    while i + 1 < len(a) and j + 1 < len(b):
        shared += max(0, min(a[i + 1], b[j + 1]) - max(a[i], b[j]))
        if a[i + 1] <= b[j + 1]:
            i += 2
        else:
            j += 2
    return shared
