"""When a batch closes. A pure function of what is waiting, so that every rule can be tested without a clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oracle.ports import RequestRow


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The rules: members and bytes a batch, seconds to wait for company, seconds kept before a deadline.

    A request with less than ``urgent`` seconds to its deadline runs alone while there is a place for each of these;
    ``urgent`` is at most ``slack``.
    """

    items: int = 16
    payload: int = 64 * 1024 * 1024
    linger: float = 0.05
    slack: float = 30.0
    urgent: float = 15.0


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """One model's requests to compute together, and why the batch closed (full, bytes, slack, idle, alone, urgent)."""

    model_id: int
    rows: tuple[RequestRow, ...]
    cause: str


def plan_batches(
    ready: Sequence[RequestRow],
    *,
    now: float,
    slots: int,
    idle: bool,
    coming: Mapping[int, int],
    waited: float,
    limits: BatchLimits,
) -> list[PlannedBatch]:
    """Which batches to start now, at most ``slots``, most urgent first.

    ``ready`` is in order of deadline. ``coming`` counts the requests of each model still in intake; ``waited`` is how
    long the backend has been idle beside waiting work. A partial batch closes when its oldest member's slack has run
    out, or the backend is idle and nothing of that model is coming (or has been waited for long enough). A request
    that was in a batch which failed is run alone, so that one bad picture cannot fail its neighbours twice, and so is
    one whose deadline is so near that the time it leaves for a batch could be too short for its neighbours. But when
    more are that near than there are places, they are batched like all others: one by one they would hold every place
    until those behind them are as near, and an oracle that was once late would stay late for ever.
    """
    groups: dict[int, list[RequestRow]] = defaultdict(list)
    planned: list[PlannedBatch] = []
    near = [row for row in ready if not row.attempts and row.request.deadline - now < limits.urgent]
    apart = {row.request_id for row in near} if len(near) <= slots else set()
    for row in ready:
        if row.attempts:
            planned.append(PlannedBatch(row.request.model_id, (row,), "alone"))
        elif row.request_id in apart:
            planned.append(PlannedBatch(row.request.model_id, (row,), "urgent"))
        else:
            groups[row.request.model_id].append(row)
    for model_id, rows in groups.items():
        for members, cause in _split(rows, limits):
            patient = bool(coming.get(model_id)) and waited < limits.linger
            if not cause and members[0].request.deadline - now <= limits.slack:
                cause = "slack"
            if not cause and idle and not patient:
                cause = "idle"
            if cause:
                planned.append(PlannedBatch(model_id, tuple(members), cause))
    planned.sort(key=lambda batch: min(row.request.deadline for row in batch.rows))
    return planned[:slots]


def _split(rows: Sequence[RequestRow], limits: BatchLimits) -> list[tuple[list[RequestRow], str]]:
    """Cut one model's queue at the limits; a cut batch carries its cause, the remainder an empty one."""
    batches: list[tuple[list[RequestRow], str]] = []
    members: list[RequestRow] = []
    payload = 0
    for row in rows:
        size = row.image.size if row.image else 0
        if members and payload + size > limits.payload:
            batches.append((members, "bytes"))
            members, payload = [], 0
        members.append(row)
        payload += size
        if len(members) == limits.items:
            batches.append((members, "full"))
            members, payload = [], 0
    if members:
        batches.append((members, ""))
    return batches
