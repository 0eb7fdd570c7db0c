"""Whether two results for one picture say the same, by the comparison class that the model's manifest declares.

Processors do not agree to the last bit: in fp32 probabilities differ by about 1e-6. So a class is never compared by the
hash of its numbers, unless the model computes in integers and its manifest says ``exact``.
"""

from __future__ import annotations

from oracle.domain import FailureReason, ItemResult, ModelManifest

TIE = 2e-5
"""Two classes nearer than this may change places between two honest machines; a wrong label is further away."""


def agree(manifest: ModelManifest, left: ItemResult, right: ItemResult) -> bool:
    """Whether two outcomes for the same picture may both be honest.

    ``exact``: the same classes with the same numbers. ``tolerance``: the same first class, up to a tie, and every
    probability within the manifest's epsilon; a class that only one of them names must be about as small as the
    other's last one.
    """
    if FailureReason.NONE not in (left.failure, right.failure):
        return left.failure is right.failure
    if left.failure is not right.failure or not left.labels or not right.labels:
        return False
    if manifest.document["comparison"]["class"] == "exact":
        return [(s.index, s.probability) for s in left.labels] == [(s.index, s.probability) for s in right.labels]
    epsilon = float(manifest.document["comparison"]["epsilon"])
    return _first_alike(left, right) and _within(left, right, epsilon) and _within(right, left, epsilon)


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
