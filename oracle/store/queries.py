"""What is read from the store. Every function runs inside the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, func, select, text

from oracle.domain import (
    BlockRef,
    Cid,
    FailureReason,
    Fees,
    ImageFacts,
    InferenceRequest,
    RequestStatus,
    SignedReport,
)
from oracle.ports import RequestRow, StoredReport
from oracle.store.tables import blocks, moves, report_items, reports, requests, settlements

IN_LIST = 500
"""Most values in one IN list; SQLite itself takes 32,766."""

# Written out, because SQLite uses a partial index only when the query states the index's condition literally.
REPORT_IS_OPEN = text("reports.status = 'open'")
REQUEST_IS_SEEN = text("requests.status = 'seen'")
IMAGE_IS_NEEDED = text("needing.status IN ('confirmed', 'ready', 'computing')")

_SETTLED = (
    settlements.c.status.label("settled_as"),
    settlements.c.transaction_hash.label("settled_in"),
    settlements.c.reason.label("settled_reason"),
    settlements.c.result_cid.label("settled_cid"),
    settlements.c.answer.label("settled_answer"),
)
REQUEST = select(requests, *_SETTLED).select_from(
    requests.outerjoin(settlements, settlements.c.request_id == requests.c.request_id)
)

V = TypeVar("V")


def chunks(values: Iterable[V]) -> Iterator[list[V]]:
    """The values in lists that fit an IN list."""
    iterator = iter(values)
    while chunk := list(islice(iterator, IN_LIST)):
        yield chunk


def by_id(connection: Connection, request_ids: Iterable[bytes]) -> list[RequestRow]:
    """The requests with these ids, in no order; unknown ids are left out."""
    found: list[RequestRow] = []
    for chunk in chunks(request_ids):
        found += _rows(connection, connection.execute(REQUEST.where(requests.c.request_id.in_(chunk))).all())
    return found


def in_status(
    connection: Connection,
    statuses: Iterable[RequestStatus],
    due: float | None = None,
    tried: bool | None = None,
    after: float | None = None,
    limit: int | None = None,
) -> list[RequestRow]:
    """Requests in these statuses, earliest deadline first (tried ones: longest due first), then in chain order;
    without their ``times``.
    """
    found: list[Row[Any]] = []
    first = requests.c.not_before if tried else requests.c.deadline
    # One query a status: each walks the queue's index in order and stops at the limit, which IN (...) would not.
    for status in set(statuses):
        query = REQUEST.where(requests.c.status == status).order_by(first, requests.c.block, requests.c.log_index)
        if after is not None:
            query = query.where(requests.c.deadline > after)
        if due is not None:
            query = query.where(requests.c.not_before <= due)
        if tried is not None:
            query = query.where(requests.c.attempts > 0 if tried else requests.c.attempts == 0)
        found += connection.execute(query.limit(limit)).all()
    found.sort(key=lambda record: (record.not_before if tried else record.deadline, record.block, record.log_index))
    return [row_of(record, None) for record in found[:limit]]


def spent_images(connection: Connection, request_ids: Iterable[bytes]) -> list[Cid]:
    """The pictures of these requests that no request on its way to an answer needs any more."""
    spent: list[Cid] = []
    for chunk in chunks(request_ids):
        needing = requests.alias("needing")
        needed = select(needing).where(needing.c.image_cid == requests.c.image_cid).where(IMAGE_IS_NEEDED).exists()
        query = select(requests.c.image_cid).where(requests.c.request_id.in_(chunk)).where(~needed).distinct()
        spent += connection.execute(query).scalars()
    return spent


def newest(connection: Connection, limit: int) -> list[RequestRow]:
    """The newest requests, newest first."""
    query = REQUEST.order_by(requests.c.block.desc(), requests.c.log_index.desc()).limit(limit)
    return _rows(connection, connection.execute(query).all())


def counts(connection: Connection) -> dict[RequestStatus, int]:
    """How many requests stand in each status; 0 for an empty one."""
    query = select(requests.c.status, func.count()).group_by(requests.c.status)
    return dict.fromkeys(RequestStatus, 0) | {row[0]: row[1] for row in connection.execute(query)}


def timeline(connection: Connection, request_id: bytes) -> list[tuple[RequestStatus, float, str]]:
    """Every move of a request in order."""
    query = select(moves.c.to_status, moves.c.at, moves.c.detail).where(moves.c.request_id == request_id)
    return [(row.to_status, row.at, row.detail) for row in connection.execute(query.order_by(moves.c.id))]


def stage_durations(connection: Connection, limit: int) -> dict[RequestStatus, list[float]]:
    """Seconds spent at each stay in each status by the ``limit`` newest requests."""
    recent = select(requests.c.request_id).order_by(requests.c.block.desc(), requests.c.log_index.desc()).limit(limit)
    steps = (
        select(moves.c.request_id, moves.c.to_status, moves.c.at)
        .where(moves.c.request_id.in_(recent))
        .order_by(moves.c.request_id, moves.c.id)
    )
    durations: dict[RequestStatus, list[float]] = defaultdict(list)
    for before, after in pairwise(connection.execute(steps)):
        if before.request_id == after.request_id:
            durations[before.to_status].append(after.at - before.at)
    return dict(durations)


def block_at_or_below(connection: Connection, number: int) -> BlockRef | None:
    """The newest remembered block at or below a height."""
    query = select(blocks).where(blocks.c.number <= number).order_by(blocks.c.number.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else BlockRef(row.number, row.hash, row.timestamp)


def computing(connection: Connection) -> dict[str, list[RequestRow]]:
    """The batches that have members at a backend, with those members."""
    found: dict[str, list[RequestRow]] = defaultdict(list)
    for row in in_status(connection, [RequestStatus.COMPUTING]):
        if row.batch is not None:
            found[row.batch].append(row)
    return dict(found)


def open_reports(connection: Connection) -> list[StoredReport]:
    """Reports whose fate is not final, by nonce and then by age."""
    rows = connection.execute(select(reports).where(REPORT_IS_OPEN).order_by(reports.c.nonce, reports.c.seq)).all()
    items: dict[bytes, list[bytes]] = defaultdict(list)
    for chunk in chunks(row.transaction_hash for row in rows):
        query = select(report_items).where(report_items.c.report.in_(chunk))
        for item in connection.execute(query.order_by(report_items.c.report, report_items.c.position)):
            items[item.report].append(item.request_id)
    return [_report(row, items[row.transaction_hash]) for row in rows]


def _rows(connection: Connection, records: Sequence[Row[Any]]) -> list[RequestRow]:
    times = first_times(connection, [record.request_id for record in records])
    return [row_of(record, times[record.request_id]) for record in records]


def first_times(connection: Connection, request_ids: Sequence[bytes]) -> Mapping[bytes, dict[RequestStatus, float]]:
    """The first move into each status, by request."""
    times: dict[bytes, dict[RequestStatus, float]] = defaultdict(dict)
    for chunk in chunks(request_ids):
        query = (
            select(moves.c.request_id, moves.c.to_status, func.min(moves.c.at).label("at"))
            .where(moves.c.request_id.in_(chunk))
            .group_by(moves.c.request_id, moves.c.to_status)
        )
        for row in connection.execute(query):
            times[row.request_id][row.to_status] = row.at
    return times


def row_of(record: Row[Any], times: Mapping[RequestStatus, float] | None) -> RequestRow:
    """A record of ``REQUEST`` as the row that it is."""
    # A settled request shows what the chain holds, which may be another operator's work and not ours.
    settled = record.settled_as is not None and record.settled_as == record.status
    result_cid, answer, failure = record.result_cid, record.answer, record.failure
    if settled and record.status is RequestStatus.FULFILLED:
        result_cid, answer, failure = record.settled_cid, record.settled_answer, FailureReason.NONE
    elif settled and record.status is RequestStatus.REJECTED:
        result_cid, answer, failure = None, b"", record.settled_reason
    image = None
    if record.image_format is not None:
        image = ImageFacts(record.image_format, record.image_width, record.image_height, record.image_size)
    return RequestRow(
        request=InferenceRequest(
            request_id=record.request_id,
            model_id=record.model_id,
            requester=record.requester,
            image_cid=record.image_cid,
            payment=record.payment,
            callback_gas=record.callback_gas,
            deadline=record.deadline,
            nonce=record.nonce,
            created_at=record.created_at,
        ),
        status=record.status,
        block=record.block,
        attempts=record.attempts,
        not_before=record.not_before,
        image=image,
        batch=record.batch,
        failure=failure,
        detail=record.detail,
        result_cid=result_cid,
        answer=answer,
        provider=record.provider,
        transaction_hash=record.settled_in if settled else record.report,
        times=times,
    )


def _report(row: Row[Any], request_ids: Sequence[bytes]) -> StoredReport:
    return StoredReport(
        report=SignedReport(
            transaction_hash=row.transaction_hash,
            raw=row.raw,
            nonce=row.nonce,
            fees=Fees(row.max_fee, row.max_priority_fee),
            gas_limit=row.gas_limit,
            request_ids=tuple(request_ids),
        ),
        saved_at=row.saved_at,
        broadcast_at=row.broadcast_at,
        replaces=row.replaces,
    )
