"""What people ask the store for: one request with its history, pages of requests, figures over a span of time.

Read beside the running oracle, from connections of its own, which find a database that appears or is replaced.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Integer, Label, Row, Select, cast, func, select, text, tuple_

from oracle.domain import BlockRef, Cid, RequestStatus
from oracle.errors import StoreBusy, StoreError, StoreMismatch
from oracle.market import Provider
from oracle.store import queries
from oracle.store.database import Database
from oracle.store.ledger import read_providers
from oracle.store.tables import binding, checkpoint, moves, providers, requests
from oracle.views import Figures, ModelSpeed, Moved, Place, Point, RequestPage, RequestView

T = TypeVar("T")

MOST_QUICK = 1_000  # reads that wait for one request, each of which takes no time
MOST_PAGES = 64
MOST_SLOW = 16
RECENT = 50  # answers from which a model's usual time is told
HOUR = 3600
_ON_THEIR_WAY = (
    RequestStatus.SEEN,
    RequestStatus.CONFIRMED,
    RequestStatus.READY,
    RequestStatus.COMPUTING,
    RequestStatus.COMPUTED,
    RequestStatus.FAILED,
    RequestStatus.POSTING,
)
# Written out, because SQLite uses a partial index only when the query states the index's condition literally.
_FULFILLED = text("moves.to_status = 'fulfilled'")
# The plus keeps SQLite from beginning with every request that was ever answered: it walks the moves, the newest first.
_STANDS = text("+requests.status = 'fulfilled'")
_LAST_MOVE = "SELECT max(id) FROM moves WHERE request_id = ?"


def one(connection: Connection, request_id: bytes) -> RequestView | None:
    """One request with its history."""
    found = _views(connection, queries.REQUEST.where(requests.c.request_id == request_id))
    return found[0] if found else None


def page(
    connection: Connection,
    account: str | None,
    model: int | None,
    status: RequestStatus | None,
    after: Place | None,
    limit: int,
) -> RequestPage:
    """Requests newest first, of an account, a model, in a status, beyond a place."""
    place = (requests.c.block, requests.c.log_index, requests.c.request_id)
    query = queries.REQUEST.order_by(*(column.desc() for column in place)).limit(limit + 1)
    if account is not None:
        query = query.where(requests.c.requester == account)
    if model is not None:
        query = query.where(requests.c.model_id == model)
    if status is not None:
        query = query.where(requests.c.status == status)
    if after is not None:
        beyond = tuple_(after.block, after.log_index, after.request_id, types=[column.type for column in place])
        query = query.where(tuple_(*place) < beyond)
    found = _views(connection, query)
    return RequestPage(tuple(found[:limit]), found[limit - 1].place if len(found) > limit else None)


def named(connection: Connection, cids: Iterable[Cid]) -> frozenset[Cid]:
    """Which of these a request names as its picture."""
    found: set[Cid] = set()
    for chunk in queries.chunks(cids):
        query = select(requests.c.image_cid).where(requests.c.image_cid.in_(chunk)).distinct()
        found.update(connection.execute(query).scalars())
    return frozenset(found)


def figures(connection: Connection, since: float, points: int) -> Figures:
    """What was asked and answered since a time."""
    counted = select(requests.c.status, func.count()).where(requests.c.created_at >= since)
    counts = dict.fromkeys(RequestStatus, 0) | {
        row[0]: row[1] for row in connection.execute(counted.group_by(requests.c.status))
    }
    waiting = select(func.count()).where(requests.c.status.in_(_ON_THEIR_WAY))
    hour = cast(moves.c.at / float(HOUR), Integer)
    hours = (
        select((hour * HOUR).label("at"), func.count(func.distinct(moves.c.request_id)).label("answers"))
        .where(_FULFILLED, moves.c.at >= since)
        .group_by(hour)
        .order_by(hour)
    )
    answered = (
        select(
            requests.c.request_id, requests.c.model_id, requests.c.provider, requests.c.image_size,
            requests.c.image_width, requests.c.image_height, moves.c.at,
            _first(RequestStatus.SEEN), _first(RequestStatus.COMPUTING), _first(RequestStatus.COMPUTED),
        )
        .join(requests, requests.c.request_id == moves.c.request_id)
        .where(_FULFILLED, moves.c.at >= since, _STANDS)
        .order_by(moves.c.at.desc())
        .limit(points)
    )  # fmt: skip
    # A reorg may have had a request answered twice.
    latest: dict[bytes, Row[Any]] = {}
    for row in connection.execute(answered).all():
        latest.setdefault(row.request_id, row)
    return Figures(
        counts=counts,
        queue=int(connection.execute(waiting).scalar_one()),
        per_hour=tuple((float(row.at), int(row.answers)) for row in connection.execute(hours)),
        points=tuple(map(_point, latest.values())),
    )


def speeds(connection: Connection) -> dict[int, ModelSpeed]:
    """How many requests each model answered, and the median seconds of its newest."""
    answered = (
        select(requests.c.model_id, func.count())
        .where(requests.c.status == RequestStatus.FULFILLED)
        .group_by(requests.c.model_id)
    )
    found = {}
    for model_id, count in connection.execute(answered).all():
        newest = (
            select(requests.c.request_id)
            .where(requests.c.model_id == model_id, requests.c.status == RequestStatus.FULFILLED)
            .order_by(requests.c.block.desc(), requests.c.log_index.desc())
            .limit(RECENT)
        )
        times = queries.first_times(connection, connection.execute(newest).scalars().all())
        spans = [
            when[RequestStatus.FULFILLED] - when[RequestStatus.SEEN]
            for when in times.values()
            if RequestStatus.SEEN in when and RequestStatus.FULFILLED in when
        ]
        found[model_id] = ModelSpeed(count, statistics.median(spans) if spans else None)
    return found


def _first(status: RequestStatus) -> Label[float]:
    """When the request of a move came into a status first; Python would be many times as long over it."""
    move = moves.alias()
    when = select(func.min(move.c.at)).where(move.c.request_id == moves.c.request_id, move.c.to_status == status)
    return when.scalar_subquery().label(status.value)


def _point(row: Sequence[Any]) -> Point:
    request_id, model_id, provider, size, width, height, at, seen, computing, computed = row
    return Point(
        request_id=request_id,
        model_id=model_id,
        provider=provider,
        size=size or 0,
        pixels=(width or 0) * (height or 0),
        compute_seconds=max(0.0, computed - computing) if computing and computed else None,
        total_seconds=0.0 if seen is None else max(0.0, at - seen),
        at=at,
    )


def _views(connection: Connection, query: Select[Any]) -> list[RequestView]:
    records = connection.execute(query).all()
    history: dict[bytes, list[Moved]] = defaultdict(list)
    for chunk in queries.chunks(record.request_id for record in records):
        steps = select(moves.c.request_id, moves.c.to_status, moves.c.at, moves.c.detail)
        for move in connection.execute(steps.where(moves.c.request_id.in_(chunk)).order_by(moves.c.id)):
            history[move.request_id].append(Moved(move.to_status, move.at, move.detail))
    names = _names(connection, {record.provider for record in records} - {""})
    return [
        RequestView(
            row=queries.row_of(record, None),
            place=Place(record.block, record.log_index, record.request_id),
            asked_in=record.transaction_hash,
            provider_name=names.get(record.provider, ""),
            moves=tuple(history[record.request_id]),
        )
        for record in records
    ]


def _names(connection: Connection, node_ids: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk in queries.chunks(sorted(node_ids)):
        query = select(providers.c.node_id, providers.c.name).where(providers.c.node_id.in_(chunk))
        found |= {row.node_id: row.name for row in connection.execute(query)}
    return found


class _Lane:
    """One thread with one connection, opened anew when the file is another one. At most so many wait for it."""

    def __init__(self, path: Path, check: Callable[[Connection], None], name: str, most: int) -> None:
        self._path, self._check, self._most = path, check, most
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sibyl-read-{name}")
        self._database: Database | None = None
        self._file: tuple[int, int] | None = None

    async def read(self, work: Callable[[Connection], T]) -> T:
        if self._waiting >= self._most:
            raise StoreBusy("as many wait for the database as may", remedy="Try again in a moment.")
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(self._read, work))
        finally:
            self._waiting -= 1

    def _read(self, work: Callable[[Connection], T]) -> T:
        now = identity(self._path)
        if self._database is not None and now != self._file:
            self._drop()
        try:
            if self._database is None:
                self._database, self._file = Database(self._path, read_only=True), now
                self._database.transaction(self._check, write=False)
            return self._database.transaction(work, write=False)
        except StoreError:
            self._drop()
            raise

    def _drop(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            database.close()

    async def close(self) -> None:
        closed = self._thread.submit(self._drop)
        self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closed))


class SqliteReads:
    """Reads of the oracle's database for many who ask, beside the oracle that writes it.

    Nothing is opened before the first read; a file that is absent, of another schema, or another deployment's raises
    StoreError, and is looked at again at the next read. One request, pages and figures have a thread each, so that
    what takes long keeps nobody waiting who asks for less. Beyond the bounds of who waits: StoreBusy.
    """

    def __init__(self, path: Path, *, coordinator: str | None = None) -> None:
        self._path, self._coordinator = path, coordinator
        self._quick = _Lane(path, self._belongs, "one", MOST_QUICK)
        self._pages = _Lane(path, self._belongs, "page", MOST_PAGES)
        self._slow = _Lane(path, self._belongs, "figures", MOST_SLOW)
        self._watch: sqlite3.Connection | None = None
        self._watched: tuple[int, int] | None = None
        self._opened = 0

    def mark(self) -> object | None:
        """Something that differs from the last when the database may say something else; None while there is none.

        Microseconds: SQLite keeps the number of the last commit in memory that its users share.
        """
        now = identity(self._path)
        if now is None:
            self._unwatch()
            return None
        try:
            if self._watch is None or now != self._watched:
                self._unwatch()
                self._watch = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.05)
                self._watched, self._opened = now, self._opened + 1
            (version,) = self._watch.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            self._unwatch()
            return None
        return self._opened, version

    def last_move(self, request_id: bytes) -> object | None:
        """Something that differs from the last when the request has moved since; None where that cannot be told.

        Microseconds, from an index.
        """
        if self.mark() is None or self._watch is None:
            return None
        try:
            (number,) = self._watch.execute(_LAST_MOVE, ("0x" + request_id.hex(),)).fetchone()
        except sqlite3.Error:
            self._unwatch()
            return None
        return None if number is None else (self._opened, number)

    async def request(self, request_id: bytes) -> RequestView | None:
        """One request with its history, or None."""
        return await self._quick.read(lambda connection: one(connection, request_id))

    async def requests(
        self,
        *,
        account: str | None = None,
        model: int | None = None,
        status: RequestStatus | None = None,
        after: Place | None = None,
        limit: int = 20,
    ) -> RequestPage:
        """Requests of an account (checksum address), a model, in a status, newest first, beyond a place."""
        return await self._pages.read(lambda connection: page(connection, account, model, status, after, limit))

    async def figures(self, since: float, points: int) -> Figures:
        """What was asked and answered since a time (Unix seconds); at most so many ``points``."""
        return await self._slow.read(partial(figures, since=since, points=points))

    async def speeds(self) -> Mapping[int, ModelSpeed]:
        """How each model did."""
        return await self._slow.read(speeds)

    async def providers(self) -> Sequence[Provider]:
        """Every provider ever seen, the last seen first."""
        return await self._pages.read(read_providers)

    async def named(self, cids: Sequence[Cid]) -> frozenset[Cid]:
        """Which of these a request names as its picture."""
        return await self._slow.read(partial(named, cids=cids))

    async def scanned(self) -> BlockRef | None:
        """The last block that the oracle looked at."""

        def last(connection: Connection) -> BlockRef | None:
            row = connection.execute(select(checkpoint)).one_or_none()
            return None if row is None else BlockRef(row.number, row.hash, row.timestamp)

        return await self._quick.read(last)

    async def close(self) -> None:
        """Close every connection."""
        self._unwatch()
        for lane in (self._quick, self._pages, self._slow):
            await lane.close()

    def _belongs(self, connection: Connection) -> None:
        bound = connection.execute(select(binding)).one_or_none()
        if bound is None:
            raise StoreError(f"{self._path} belongs to no deployment yet", remedy="Start the oracle on it once.")
        if self._coordinator is not None and bound.coordinator.lower() != self._coordinator.lower():
            raise StoreMismatch(
                f"{self._path} belongs to the coordinator {bound.coordinator}, not {self._coordinator}",
                remedy="Choose the --data-dir of this deployment's oracle.",
            )

    def _unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()


def identity(path: Path) -> tuple[int, int] | None:
    """Which file lies there, whatever its name; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
