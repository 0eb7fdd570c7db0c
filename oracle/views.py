"""What is read of the store for people: requests with their history, pages of them, figures over many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oracle.domain import Cid, RequestStatus
from oracle.ports import RequestRow


@dataclass(frozen=True, slots=True)
class Upload:
    """What was uploaded, and when it last came (Unix seconds)."""

    cid: Cid
    at: float


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a request stands on the chain; pages go from the newest to the oldest.

    After a reorganisation an orphaned request and another one can share a block's number and a log's index, so the id
    belongs to it.
    """

    block: int
    log_index: int
    request_id: bytes


@dataclass(frozen=True, slots=True)
class Moved:
    """One move of a request: into which status, when (Unix seconds), and what was noted."""

    status: RequestStatus
    at: float
    detail: str


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as people see it. ``asked_in`` is the hash of the transaction that asked; ``provider_name`` is empty
    for one that is not known.
    """

    row: RequestRow
    place: Place
    asked_in: bytes
    provider_name: str
    moves: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Some requests, newest first, and the place after which the next page begins; None at the end."""

    items: tuple[RequestView, ...]
    next: Place | None


@dataclass(frozen=True, slots=True)
class ModelSpeed:
    """How a model did: requests answered in all, and the median seconds from seen to fulfilled of recent ones."""

    answered: int
    usual_seconds: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """One answered request for a scatter plot: picture and times. Seconds; ``at`` is when it was fulfilled."""

    request_id: bytes
    model_id: int
    provider: str
    size: int
    pixels: int
    compute_seconds: float | None
    total_seconds: float
    at: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a span of time came to. ``points``: its newest answered requests; ``per_hour``: answers by the hour that
    begins at a time; ``queue``: requests on their way now.
    """

    counts: Mapping[RequestStatus, int]
    queue: int
    per_hour: tuple[tuple[float, int], ...]
    points: tuple[Point, ...]
