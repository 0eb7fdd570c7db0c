"""Builders that the store's tests share; ids, blocks and reports by small numbers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from sqlalchemy import MetaData

from oracle.domain import (
    BlockRef,
    Cid,
    FailureReason,
    Fees,
    ImageFacts,
    InferenceRequest,
    LogPosition,
    OnChainStatus,
    ReportReceipt,
    RequestSeen,
    RequestSettled,
    RequestStatus,
    SignedReport,
)
from oracle.ports import Move
from oracle.store import SqliteRequestStore

S = RequestStatus
IMAGE = Cid.parse("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
RESULT = Cid.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
OTHER_RESULT = Cid.parse("bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
ANSWER = b"\x01" + bytes(31)
FAR = 4_000_000_000
COORDINATOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


class ManualClock:
    """Seconds that only tests advance."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def columns_agree(file: Path, metadata: MetaData) -> bool:
    """Whether the tables in a file have the columns that Python says."""
    with closing(sqlite3.connect(file)) as raw:
        return all(
            [row[1] for row in raw.execute(f"PRAGMA table_info({table.name})")]
            == [column.name for column in table.columns]
            for table in metadata.tables.values()
        )


def rid(number: int) -> bytes:
    return number.to_bytes(32, "big")


def tx(number: int) -> bytes:
    return b"\xaa" + number.to_bytes(31, "big")


def block(number: int, branch: int = 0) -> BlockRef:
    return BlockRef(number, bytes([branch]) + number.to_bytes(31, "big"), 1_000 + number)


def seen(number: int, at: BlockRef, deadline: int = FAR) -> RequestSeen:
    request = InferenceRequest(
        rid(number), 1, COORDINATOR, IMAGE, 10**24 + number, 50_000, deadline, number, at.timestamp
    )
    return RequestSeen(request, LogPosition(at, tx(10_000 + number), number))


def settled(
    number: int, at: BlockRef, status: OnChainStatus = OnChainStatus.FULFILLED, by: int = 999
) -> RequestSettled:
    position = LogPosition(at, tx(by), 500 + number)
    if status is OnChainStatus.FULFILLED:
        return RequestSettled(rid(number), status, position, result_cid=OTHER_RESULT, answer=b"\x02")
    reason = FailureReason.IMAGE_UNREADABLE if status is OnChainStatus.FAILED else FailureReason.NONE
    return RequestSettled(rid(number), status, position, reason=reason)


def report(number: int, nonce: int, requests: Iterable[int]) -> SignedReport:
    return SignedReport(tx(number), b"raw", nonce, Fees(10**20, 1), 500_000, tuple(rid(n) for n in requests))


def receipt(
    number: int,
    at: BlockRef,
    fulfilled: Iterable[int] = (),
    failed: Iterable[int] = (),
    skipped: dict[int, OnChainStatus] | None = None,
    succeeded: bool = True,
    callback_failed: Iterable[int] = (),
) -> ReportReceipt:
    logs = [settled(n, at, by=number) for n in fulfilled]
    logs += [settled(n, at, OnChainStatus.FAILED, by=number) for n in failed]
    left_out = {rid(n): status for n, status in (skipped or {}).items()}
    return ReportReceipt(
        tx(number), at, succeeded, 21_000, 10**20, tuple(logs), left_out, frozenset(map(rid, callback_failed))
    )


async def see(store: SqliteRequestStore, numbers: Iterable[int], at: int = 5, deadline: int = FAR) -> None:
    await store.commit_scan([seen(n, block(at), deadline) for n in numbers], [block(at)], block(at))


async def bring(
    store: SqliteRequestStore,
    numbers: Iterable[int],
    to: RequestStatus,
    deadline: int = FAR,
    image: ImageFacts | None = None,
) -> None:
    """See new requests in block 5 and bring them to a status before posting, the way the pipeline does."""
    numbers = list(numbers)
    await see(store, numbers, deadline=deadline)
    if to is S.SEEN:
        return
    await store.confirm(5)
    if to is S.CONFIRMED:
        return
    if to is S.FAILED:
        moves = [Move(rid(n), S.FAILED, failure=FailureReason.IMAGE_TOO_LARGE, detail="too large") for n in numbers]
        await store.move(moves, expected=[S.CONFIRMED])
        return
    await store.move([Move(rid(n), S.READY, image=image) for n in numbers], expected=[S.CONFIRMED])
    if to is S.READY:
        return
    await store.open_batch(f"batch-{numbers[0]}", [rid(n) for n in numbers])
    if to is S.COMPUTING:
        return
    moves = [Move(rid(n), S.COMPUTED, result_cid=RESULT, answer=ANSWER, provider="p") for n in numbers]
    await store.move(moves, expected=[S.COMPUTING])


async def status(store: SqliteRequestStore, number: int) -> RequestStatus:
    row = await store.get(rid(number))
    assert row is not None
    return row.status
