"""The one place where a status changes: checked against ``domain.TRANSITIONS``, then written down in ``moves``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects.sqlite import insert

from oracle.domain import (
    TERMINAL,
    TRANSITIONS,
    FailureReason,
    OnChainStatus,
    RequestSettled,
    RequestStatus,
)
from oracle.errors import IllegalTransition
from oracle.store.queries import REPORT_IS_OPEN, chunks
from oracle.store.tables import moves, report_items, reports, requests, settlements

SETTLED_AS: Mapping[OnChainStatus, RequestStatus] = {
    OnChainStatus.FULFILLED: RequestStatus.FULFILLED,
    OnChainStatus.CALLBACK_FAILED: RequestStatus.FULFILLED,
    OnChainStatus.FAILED: RequestStatus.REJECTED,
    OnChainStatus.REFUNDED: RequestStatus.REFUNDED,
    OnChainStatus.CANCELLED: RequestStatus.CANCELLED,
}
"""Where the chain's final statuses put a request."""


@dataclass(frozen=True, slots=True)
class Step:
    """A request's step from one status to another, the columns that change with it and the timeline's detail.

    ``origin`` None is the first step.
    """

    request_id: bytes
    origin: RequestStatus | None
    to: RequestStatus
    detail: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)


def take(connection: Connection, steps: Sequence[Step], at: float) -> None:
    """Take the steps. Raises IllegalTransition before anything is written."""
    if not steps:
        return
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for step in steps:
        _check(step)
        values = {**_implied(step.to), **step.columns, "status": step.to}
        alike[tuple(sorted(values))].append({"id": step.request_id, **{f"new_{k}": v for k, v in values.items()}})
    for names, parameters in alike.items():
        statement = update(requests).where(requests.c.request_id == bindparam("id"))
        connection.execute(statement.values({name: bindparam(f"new_{name}") for name in names}), parameters)
    connection.execute(
        moves.insert(),
        [
            {"request_id": s.request_id, "from_status": s.origin, "to_status": s.to, "at": at, "detail": s.detail}
            for s in steps
        ],
    )


def _check(step: Step) -> None:
    legal = step.to is RequestStatus.SEEN if step.origin is None else step.to in TRANSITIONS[step.origin]
    if not legal:
        raise IllegalTransition(f"request 0x{step.request_id.hex()} cannot move from {step.origin} to {step.to}")


def _implied(to: RequestStatus) -> Mapping[str, Any]:
    """An answer clears an older failure and a failure an older answer; neither is in a report yet."""
    if to is RequestStatus.COMPUTED:
        return {"failure": FailureReason.NONE, "report": None}
    if to is RequestStatus.FAILED:
        return {"result_cid": None, "answer": b"", "report": None}
    return {}


def remember_settlements(connection: Connection, events: Iterable[RequestSettled]) -> None:
    """Keep what the chain's logs say.

    A newer position of the same outcome wins; another outcome does not, since only a roll-back takes one away.
    """
    values = [
        {
            "request_id": event.request_id,
            "status": SETTLED_AS[event.status],
            "block": event.position.block.number,
            "block_hash": event.position.block.hash,
            "transaction_hash": event.position.transaction_hash,
            "log_index": event.position.log_index,
            "reason": event.reason,
            "result_cid": event.result_cid,
            "answer": event.answer,
        }
        for event in events
    ]
    if not values:
        return
    statement = insert(settlements)
    newer = {
        column.name: statement.excluded[column.name]
        for column in settlements.columns
        if column.name not in ("request_id", "status")
    }
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["request_id"], set_=newer, where=settlements.c.status == statement.excluded.status
        ),
        values,
    )


def settle(connection: Connection, request_ids: Iterable[bytes], at: float, notes: Mapping[bytes, str]) -> None:
    """Move requests to where their remembered settlements put them; an orphaned one waits for its log to come back."""
    steps: list[Step] = []
    for chunk in chunks(request_ids):
        query = (
            select(
                requests.c.request_id,
                requests.c.status,
                settlements.c.status.label("settled_as"),
                settlements.c.block,
                settlements.c.transaction_hash,
            )
            .join(settlements, settlements.c.request_id == requests.c.request_id)
            .where(requests.c.request_id.in_(chunk))
        )
        for row in connection.execute(query):
            if row.status in TERMINAL or row.status is RequestStatus.ORPHANED:
                continue
            where = f"block {row.block}, transaction 0x{row.transaction_hash.hex()}"
            note = notes.get(row.request_id)
            steps.append(Step(row.request_id, row.status, row.settled_as, f"{where}; {note}" if note else where))
    take(connection, steps, at)


def requeue(
    connection: Connection,
    request_ids: Iterable[bytes],
    at: float,
    detail: str,
    *,
    only: frozenset[RequestStatus],
) -> list[bytes]:
    """Put requests that stand in ``only`` back to where they wait for the chain: in the newest open report that carries
    them, else with the answer or failure held, else at the start. Those already there stay. Returns the ids moved.
    """
    steps: list[Step] = []
    for chunk in chunks(dict.fromkeys(request_ids)):
        carrier = (
            select(report_items.c.report)
            .join(reports, reports.c.transaction_hash == report_items.c.report)
            .where(report_items.c.request_id == requests.c.request_id, REPORT_IS_OPEN)
            .order_by(reports.c.seq.desc())
            .limit(1)
            .scalar_subquery()
        )
        query = select(
            requests.c.request_id,
            requests.c.status,
            requests.c.deadline,
            requests.c.result_cid,
            requests.c.failure,
            carrier.label("carrier"),
        ).where(requests.c.request_id.in_(chunk))
        for row in connection.execute(query):
            if row.status not in only:
                continue
            columns: dict[str, Any] = {}
            holds_something = row.result_cid is not None or row.failure is not FailureReason.NONE
            if row.carrier is not None and holds_something:
                to, columns = RequestStatus.POSTING, {"report": row.carrier}
            elif row.status is RequestStatus.REFUNDED and row.deadline < at:
                to = RequestStatus.EXPIRED
            elif row.result_cid is not None:
                to = RequestStatus.COMPUTED
            elif holds_something:
                to = RequestStatus.FAILED
            else:
                to = RequestStatus.SEEN
            if to is not row.status:
                steps.append(Step(row.request_id, row.status, to, detail, columns))
    take(connection, steps, at)
    return [step.request_id for step in steps]
