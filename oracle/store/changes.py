"""What is written to the store. Every function runs inside the caller's write transaction and leaves the rules of the
schema true; ``at`` is the time of the change in Unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, update
from sqlalchemy.dialects.sqlite import insert

from oracle.domain import (
    TERMINAL,
    BlockRef,
    ChainEvent,
    FailureReason,
    ReportReceipt,
    RequestSeen,
    RequestSettled,
    RequestStatus,
    SignedReport,
)
from oracle.errors import IllegalTransition, StoreError
from oracle.ports import Move
from oracle.store.journal import SETTLED_AS, Step, remember_settlements, requeue, settle, take
from oracle.store.queries import REPORT_IS_OPEN, REQUEST_IS_SEEN, chunks
from oracle.store.tables import batches, blocks, checkpoint, report_items, reports, requests, settlements

HISTORY = 10_000
"""Blocks below the checkpoint whose hashes are kept; a deeper reorg makes the oracle scan from the start again."""

_LARGEST = 2**63 - 1
_CAN_EXPIRE = (
    RequestStatus.CONFIRMED,
    RequestStatus.READY,
    RequestStatus.COMPUTING,
    RequestStatus.COMPUTED,
    RequestStatus.FAILED,
)
_POSTING = frozenset({RequestStatus.POSTING})
_POSTABLE = frozenset({RequestStatus.COMPUTED, RequestStatus.FAILED})

# ---------------------------------------------------------------------------------------------------------------
# The chain as scanned
# ---------------------------------------------------------------------------------------------------------------


def commit_scan(
    connection: Connection,
    events: Sequence[ChainEvent],
    scanned: Sequence[BlockRef],
    reached: BlockRef,
    at: float,
    hold: float,
) -> None:
    """Blocks, checkpoint and logs of one scanned range. Requests are left alone for ``hold`` seconds at first."""
    _remember_blocks(connection, [*scanned, reached])
    statement = insert(checkpoint)
    values = {"number": reached.number, "hash": reached.hash, "timestamp": reached.timestamp}
    connection.execute(
        # A range committed again after a crash must not pull the checkpoint back.
        statement.values(id=1, **values).on_conflict_do_update(
            index_elements=["id"], set_=values, where=checkpoint.c.number < statement.excluded.number
        )
    )
    _remember_requests(connection, [event for event in events if isinstance(event, RequestSeen)], at, hold)
    remember_settlements(connection, [event for event in events if isinstance(event, RequestSettled)])
    # Both kinds of log: a request scanned late may find its settlement already remembered.
    settle(connection, dict.fromkeys(_id_of(event) for event in events), at, {})


def _id_of(event: ChainEvent) -> bytes:
    return event.request.request_id if isinstance(event, RequestSeen) else event.request_id


def _remember_blocks(connection: Connection, scanned: Sequence[BlockRef]) -> None:
    by_number = {block.number: block for block in scanned}
    for chunk in chunks(by_number):
        for known in connection.execute(select(blocks).where(blocks.c.number.in_(chunk))):
            if known.hash != by_number[known.number].hash:
                raise StoreError(
                    f"block {known.number} was scanned as 0x{known.hash.hex()} and is now "
                    f"0x{by_number[known.number].hash.hex()}: the chain was reorganised",
                    remedy="roll back to the fork, then scan again",
                )
    connection.execute(
        insert(blocks).on_conflict_do_nothing(),
        [{"number": b.number, "hash": b.hash, "timestamp": b.timestamp} for b in by_number.values()],
    )
    connection.execute(delete(blocks).where(blocks.c.number < max(by_number) - HISTORY))


def _remember_requests(connection: Connection, logs: Sequence[RequestSeen], at: float, hold: float) -> None:
    latest = {log.request.request_id: log for log in logs}
    known: dict[bytes, Any] = {}
    for chunk in chunks(latest):
        columns = (requests.c.request_id, requests.c.status, requests.c.block_hash, requests.c.log_index)
        for row in connection.execute(select(*columns).where(requests.c.request_id.in_(chunk))):
            known[row.request_id] = row
    added: list[dict[str, Any]] = []
    steps: list[Step] = []
    for request_id, log in latest.items():
        if request_id not in known:
            added.append(_new_request(log, hold))
            steps.append(Step(request_id, None, RequestStatus.SEEN, f"block {log.position.block.number}"))
            continue
        row = known[request_id]
        if row.status is RequestStatus.ORPHANED:
            again = {**_position(log), "attempts": 0, "not_before": _first_due(log, hold)}
            detail = f"mined again in block {log.position.block.number}"
            steps.append(Step(request_id, row.status, RequestStatus.SEEN, detail, again))
        elif (row.block_hash, row.log_index) != (log.position.block.hash, log.position.log_index):
            # An id is mined once on one chain, so the newer scan knows better.
            connection.execute(update(requests).where(requests.c.request_id == request_id).values(_position(log)))
    if added:
        connection.execute(requests.insert(), added)
    take(connection, steps, at)


def _new_request(log: RequestSeen, hold: float) -> dict[str, Any]:
    request = log.request
    numbers = {
        "model_id": request.model_id,
        "callback_gas": request.callback_gas,
        "deadline": request.deadline,
        "nonce": request.nonce,
        "created_at": request.created_at,
    }
    for name, value in numbers.items():
        if not 0 <= value <= _LARGEST:
            raise StoreError(
                f"request 0x{request.request_id.hex()} has {name} {value}, which no coordinator of ours emits",
                remedy="check the coordinator's address and the RPC endpoint",
            )
    return {
        "request_id": request.request_id,
        "status": RequestStatus.SEEN,
        "requester": request.requester,
        "image_cid": request.image_cid,
        "payment": request.payment,
        "attempts": 0,
        "not_before": _first_due(log, hold),
        "provider": "",
        "answer": b"",
        "failure": FailureReason.NONE,
        "detail": "",
        **numbers,
        **_position(log),
    }


def _first_due(log: RequestSeen, hold: float) -> float:
    return log.request.created_at + hold if hold else 0.0


def _position(log: RequestSeen) -> dict[str, Any]:
    return {
        "block": log.position.block.number,
        "block_hash": log.position.block.hash,
        "transaction_hash": log.position.transaction_hash,
        "log_index": log.position.log_index,
    }


def roll_back(connection: Connection, fork: BlockRef | None, at: float) -> list[bytes]:
    """Forget everything above the fork; the ids whose status changed."""
    floor = -1 if fork is None else fork.number
    _rewind_checkpoint(connection, fork, floor)
    reopened = _reopen_reports(connection, floor)
    unsettled = list(connection.execute(select(settlements.c.request_id).where(settlements.c.block > floor)).scalars())
    connection.execute(delete(settlements).where(settlements.c.block > floor))

    above = select(requests.c.request_id, requests.c.status).where(requests.c.block > floor)
    orphans = [
        Step(row.request_id, row.status, RequestStatus.ORPHANED, "its block was reorganised away")
        for row in connection.execute(above)
        if row.status is not RequestStatus.ORPHANED
    ]
    take(connection, orphans, at)
    touched = [step.request_id for step in orphans]
    touched += requeue(connection, unsettled, at, "its settlement was reorganised away", only=TERMINAL)
    touched += requeue(connection, reopened, at, "its report's receipt was reorganised away", only=_POSTABLE)
    return list(dict.fromkeys(touched))


def _rewind_checkpoint(connection: Connection, fork: BlockRef | None, floor: int) -> None:
    connection.execute(delete(blocks).where(blocks.c.number > floor))
    if fork is None:
        connection.execute(delete(checkpoint))
        return
    values = {"hash": fork.hash, "timestamp": fork.timestamp}
    connection.execute(
        insert(blocks)
        .values(number=fork.number, **values)
        .on_conflict_do_update(index_elements=["number"], set_=values)
    )
    connection.execute(update(checkpoint).where(checkpoint.c.number >= floor).values(number=fork.number, **values))


def _reopen_reports(connection: Connection, floor: int) -> list[bytes]:
    """Reports whose receipt is gone, and their siblings, may be mined yet; the ids they carry."""
    nonces = list(connection.execute(select(reports.c.nonce).where(reports.c.block > floor).distinct()).scalars())
    carried: list[bytes] = []
    for chunk in chunks(nonces):
        again = (reports.c.nonce.in_(chunk), reports.c.status != "abandoned")
        query = select(report_items.c.request_id).join(reports, reports.c.transaction_hash == report_items.c.report)
        carried += connection.execute(query.where(*again)).scalars()
        # Without a broadcast time the sender broadcasts them again: nodes may have dropped them.
        fresh = dict.fromkeys(("broadcast_at", "closed_at", "block", "gas_used", "gas_price"))
        connection.execute(update(reports).where(*again).values(status="open", detail="", **fresh))
    return carried


# ---------------------------------------------------------------------------------------------------------------
# The queue
# ---------------------------------------------------------------------------------------------------------------


def confirm(connection: Connection, through: int, at: float) -> int:
    """SEEN requests in blocks up to ``through`` become CONFIRMED; how many."""
    query = select(requests.c.request_id).where(REQUEST_IS_SEEN, requests.c.block <= through)
    steps = [
        Step(request_id, RequestStatus.SEEN, RequestStatus.CONFIRMED)
        for request_id in connection.execute(query).scalars()
    ]
    take(connection, steps, at)
    return len(steps)


def move(connection: Connection, wanted: Sequence[Move], expected: Iterable[RequestStatus], at: float) -> int:
    """Take the moves of those requests that still stand in one of ``expected``; how many."""
    allowed = frozenset(expected)
    standing: dict[bytes, RequestStatus] = {}
    for chunk in chunks({move.request_id for move in wanted}):
        query = select(requests.c.request_id, requests.c.status).where(requests.c.request_id.in_(chunk))
        standing.update((row.request_id, row.status) for row in connection.execute(query))
    steps: list[Step] = []
    named: set[bytes] = set()
    for move in wanted:
        if move.request_id in named:
            raise IllegalTransition(f"request 0x{move.request_id.hex()} is named twice in one call")
        named.add(move.request_id)
        origin = standing.get(move.request_id)
        if origin in allowed:
            steps.append(Step(move.request_id, origin, move.to, move.detail or "", _columns(move)))
    take(connection, steps, at)
    return len(steps)


def _columns(move: Move) -> dict[str, Any]:
    values: dict[str, Any] = {
        "attempts": move.attempts,
        "not_before": move.not_before,
        "failure": move.failure,
        "detail": move.detail,
        "result_cid": move.result_cid,
        "answer": move.answer,
        "provider": move.provider,
    }
    if move.image is not None:
        values |= {
            "image_format": move.image.format,
            "image_width": move.image.width,
            "image_height": move.image.height,
            "image_size": move.image.size,
        }
    return {name: value for name, value in values.items() if value is not None}


def expire(connection: Connection, now: float, at: float) -> int:
    """Requests whose deadline lies before ``now`` and that no open report carries become EXPIRED; how many."""
    carried = exists().where(
        report_items.c.request_id == requests.c.request_id,
        reports.c.transaction_hash == report_items.c.report,
        REPORT_IS_OPEN,
    )
    query = select(requests.c.request_id, requests.c.status).where(
        requests.c.status.in_(_CAN_EXPIRE), requests.c.deadline < now, ~carried
    )
    steps = [
        Step(row.request_id, row.status, RequestStatus.EXPIRED, "its deadline passed unanswered")
        for row in connection.execute(query)
    ]
    take(connection, steps, at)
    return len(steps)


def open_batch(connection: Connection, key: str, request_ids: Sequence[bytes], at: float) -> list[bytes]:
    """READY requests become COMPUTING members of a new batch; the ids that did, in the given order."""
    ready: set[bytes] = set()
    for chunk in chunks(request_ids):
        query = select(requests.c.request_id, requests.c.status).where(requests.c.request_id.in_(chunk))
        ready.update(row.request_id for row in connection.execute(query) if row.status is RequestStatus.READY)
    members = [request_id for request_id in dict.fromkeys(request_ids) if request_id in ready]
    if not members:
        return []
    if connection.execute(select(batches.c.key).where(batches.c.key == key)).first() is not None:
        raise StoreError(f"batch {key} exists already", remedy="give every batch a key of its own")
    connection.execute(insert(batches).values(key=key, opened_at=at, members=len(members)))
    detail = f"batch {key}"
    steps = [Step(i, RequestStatus.READY, RequestStatus.COMPUTING, detail, {"batch": key}) for i in members]
    take(connection, steps, at)
    return members


# ---------------------------------------------------------------------------------------------------------------
# Reports
# ---------------------------------------------------------------------------------------------------------------


def save_report(connection: Connection, report: SignedReport, replaces: bytes | None, at: float) -> None:
    """Save a signed report; its answered or failed requests become POSTING.

    The same report again changes nothing, but for one that was given up: the same items at the same nonce and fees
    sign to the same hash, and it is open again.
    """
    same = reports.c.transaction_hash == report.transaction_hash
    known = connection.execute(select(reports.c.status).where(same)).first()
    if known is not None and known.status != "abandoned":
        return
    _check_nonce(connection, report, replaces)
    if known is not None:
        again = {"status": "open", "saved_at": at, "broadcast_at": None, "closed_at": None, "replaces": replaces}
        connection.execute(update(reports).where(same).values(detail="", **again))
    else:
        connection.execute(
            reports.insert().values(
                transaction_hash=report.transaction_hash,
                status="open",
                nonce=report.nonce,
                raw=report.raw,
                max_fee=report.fees.max_fee,
                max_priority_fee=report.fees.max_priority_fee,
                gas_limit=report.gas_limit,
                replaces=replaces,
                saved_at=at,
                detail="",
            )
        )
        connection.execute(
            report_items.insert(),
            [
                {"report": report.transaction_hash, "position": position, "request_id": request_id}
                for position, request_id in enumerate(report.request_ids)
            ],
        )
    detail = f"transaction 0x{report.transaction_hash.hex()}, nonce {report.nonce}"
    requeue(connection, report.request_ids, at, detail, only=_POSTABLE)
    for chunk in chunks(report.request_ids):
        connection.execute(
            update(requests)
            .where(requests.c.request_id.in_(chunk), requests.c.status == RequestStatus.POSTING)
            .values(report=report.transaction_hash)
        )


def _check_nonce(connection: Connection, report: SignedReport, replaces: bytes | None) -> None:
    if not report.request_ids:
        raise StoreError(f"report 0x{report.transaction_hash.hex()} carries no request")
    query = select(reports.c.transaction_hash).where(reports.c.nonce == report.nonce, REPORT_IS_OPEN)
    siblings = list(connection.execute(query).scalars())
    if replaces is None and siblings:
        raise StoreError(
            f"nonce {report.nonce} already belongs to report 0x{siblings[0].hex()}",
            remedy="take the next nonce, or save it as the replacement of that report",
        )
    if replaces is not None and replaces not in siblings:
        raise StoreError(f"report 0x{replaces.hex()} is not open at nonce {report.nonce} and cannot be replaced")


def mark_broadcast(connection: Connection, transaction_hash: bytes, at: float) -> None:
    """The first time a node took the report; later broadcasts leave it, so that its age is known."""
    connection.execute(
        update(reports)
        .where(reports.c.transaction_hash == transaction_hash)
        .values(broadcast_at=func.coalesce(reports.c.broadcast_at, at))
    )


def close_report(connection: Connection, receipt: ReportReceipt, at: float) -> None:
    """Close a report by its receipt, and all others at its nonce as replaced."""
    mined = _report(connection, receipt.transaction_hash)
    same_nonce = reports.c.nonce == mined.nonce
    query = select(report_items.c.request_id).join(reports, reports.c.transaction_hash == report_items.c.report)
    carried = list(dict.fromkeys(connection.execute(query.where(same_nonce)).scalars()))
    connection.execute(
        update(reports)
        .where(same_nonce, reports.c.transaction_hash != mined.transaction_hash, reports.c.status != "abandoned")
        .values(status="replaced", closed_at=at, block=None)
    )
    connection.execute(
        update(reports)
        .where(reports.c.transaction_hash == mined.transaction_hash)
        .values(
            status="mined" if receipt.succeeded else "reverted",
            closed_at=at,
            block=receipt.block.number,
            gas_used=receipt.gas_used,
            gas_price=receipt.effective_gas_price,
        )
    )
    remember_settlements(connection, receipt.settled)
    _remember_skipped(connection, receipt)
    notes = dict.fromkeys(receipt.callback_failed, "the requester's callback failed; anyone can retry it")
    settle(connection, dict.fromkeys([*carried, *(event.request_id for event in receipt.settled)]), at, notes)
    for chunk in chunks(notes):
        connection.execute(
            update(requests)
            .where(requests.c.request_id.in_(chunk), requests.c.status == RequestStatus.FULFILLED)
            .values(detail="the requester's callback failed; anyone can retry it")
        )
    why = "was not carried by" if receipt.succeeded else "was in the reverted"
    detail = f"{why} transaction 0x{mined.transaction_hash.hex()}"
    requeue(connection, carried, at, detail, only=_POSTING)


def _remember_skipped(connection: Connection, receipt: ReportReceipt) -> None:
    # The log that settled them is no later than this receipt. If a reorg takes this block away, the scanner either has
    # that log below the fork already, and then its position stands here, or is yet to meet it.
    values = [
        {
            "request_id": request_id,
            "status": SETTLED_AS[status],
            "block": receipt.block.number,
            "block_hash": receipt.block.hash,
            "transaction_hash": receipt.transaction_hash,
            "reason": FailureReason.NONE,
            "answer": b"",
        }
        for request_id, status in receipt.skipped.items()
        if status in SETTLED_AS
    ]
    if values:
        connection.execute(insert(settlements).on_conflict_do_nothing(), values)


def abandon_report(connection: Connection, transaction_hash: bytes, detail: str, at: float) -> None:
    """Close a report that can never be mined; requests that no other open report carries go back to the queue."""
    report = _report(connection, transaction_hash)
    if report.status != "open":
        return
    connection.execute(
        update(reports)
        .where(reports.c.transaction_hash == transaction_hash)
        .values(status="abandoned", closed_at=at, detail=detail)
    )
    query = select(report_items.c.request_id).where(report_items.c.report == transaction_hash)
    requeue(connection, connection.execute(query).scalars().all(), at, detail, only=_POSTING)


def _report(connection: Connection, transaction_hash: bytes) -> Any:
    row = connection.execute(
        select(reports.c.transaction_hash, reports.c.nonce, reports.c.status).where(
            reports.c.transaction_hash == transaction_hash
        )
    ).first()
    if row is None:
        raise StoreError(f"report 0x{transaction_hash.hex()} was never saved")
    return row
