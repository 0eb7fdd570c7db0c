"""The gateway's books: API keys, of which only hashes are kept, and what was spent for whom.

A spending is written down before anything is sent, and counts from then on. So whatever is killed and whenever, money
may be counted that was not spent; none is spent that was not counted, and none twice for one idempotency key.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from eth_utils.currency import from_wei
from sqlalchemy import Column, Connection, Float, Integer, MetaData, Table, Text, insert, select, update

from oracle.domain import Cid
from oracle.errors import AskedOtherwise, DayLimitReached, StoreError
from oracle.store.database import Database
from oracle.store.migrations import Step
from oracle.store.tables import CidText, Hex, Valued, Wei

T = TypeVar("T")

DAY = 86_400.0
"""Seconds over which a limit counts; it slides."""

PREFIX = "sibyl_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_TOKEN = 200  # characters of a key that are looked at

_FIRST: Step = (
    """
CREATE TABLE keys (
    -- API keys. hash is the SHA-256 of the key itself, which is nowhere. per_day is wei in decimal.
    name TEXT NOT NULL PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    per_day TEXT NOT NULL,
    created_at REAL NOT NULL,
    revoked_at REAL
)
""",
    """
CREATE TABLE spendings (
    -- What the gateway pays for. Legal moves of state:
    --   reserved -> asked      the request is on-chain
    --   reserved -> released   nothing was sent, for certain
    -- A row that stays reserved counts as spent: its transaction may have been sent.
    id INTEGER PRIMARY KEY,
    -- Name of the key; empty for those without one.
    holder TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'asked', 'released')),
    -- Wei in decimal: what the request costs, and what is set aside for the network's fee. Both count.
    amount TEXT NOT NULL,
    fee TEXT NOT NULL,
    at REAL NOT NULL,
    -- What is asked; deadline is Unix seconds. Nothing older than block can be the request.
    model_id INTEGER NOT NULL,
    image_cid TEXT NOT NULL,
    deadline INTEGER NOT NULL,
    block INTEGER NOT NULL,
    -- SHA-256 of whose idempotency key it is and of the key.
    idempotency TEXT UNIQUE,
    request_id TEXT UNIQUE,
    transaction_hash TEXT,
    CHECK ((state = 'asked') = (request_id IS NOT NULL))
)
""",
    "CREATE INDEX spendings_by_time ON spendings (at)",
)
STEPS: Sequence[Step] = (_FIRST,)


class SpendingState(StrEnum):
    """How far a spending got."""

    RESERVED = "reserved"
    ASKED = "asked"
    RELEASED = "released"


metadata = MetaData()

_keys = Table(
    "keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("hash", Hex, nullable=False),
    Column("per_day", Wei, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

_spendings = Table(
    "spendings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("state", Valued(SpendingState), nullable=False),
    Column("amount", Wei, nullable=False),
    Column("fee", Wei, nullable=False),
    Column("at", Float, nullable=False),
    Column("model_id", Integer, nullable=False),
    Column("image_cid", CidText, nullable=False),
    Column("deadline", Integer, nullable=False),
    Column("block", Integer, nullable=False),
    Column("idempotency", Hex),
    Column("request_id", Hex),
    Column("transaction_hash", Hex),
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the books hold it. Wei; Unix seconds. ``spent`` in the last 24 hours."""

    name: str
    per_day: int
    created_at: float
    revoked_at: float | None = None
    spent: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants the gateway to ask: ``amount`` in wei, and ``fee`` set aside for the network; ``deadline`` in
    Unix seconds, ``block`` the head now.

    ``holder`` is the key's name, empty for those without one; ``idempotency`` from ``mark``, or None.
    """

    holder: str
    amount: int
    model_id: int
    image_cid: Cid
    deadline: int
    block: int
    idempotency: bytes | None = None
    fee: int = 0


@dataclass(frozen=True, slots=True)
class Spending:
    """A question in the books."""

    id: int
    state: SpendingState
    question: Question
    at: float
    request_id: bytes | None = None
    transaction_hash: bytes | None = None


def mark(scope: str, idempotency_key: str) -> bytes:
    """An idempotency key of one client as the books know it."""
    return hashlib.sha256(f"{scope}\n{idempotency_key}".encode()).digest()


class SqliteGatewayStore:
    """The gateway's books in a SQLite file, which several processes may write in turn.

    ``now`` gives Unix seconds. The constructor waits for the file to be open. It and every method raise StoreError with
    a remedy when SQLite fails.
    """

    def __init__(self, path: Path | str, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._name = str(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sibyl-gateway")
        try:
            self._database = self._thread.submit(Database, path, read_only=False, steps=STEPS, alone=False).result()
        except BaseException:
            self._thread.shutdown()
            raise
        self._closed = False

    async def add_key(self, name: str, per_day: int) -> str:
        """Make a key that may spend ``per_day`` wei in 24 hours. The key; it is not to be had again.

        Raises StoreError when the name is taken (a revoked key keeps its own), ValueError when it is none.
        """
        if not _NAME.fullmatch(name):
            raise ValueError("a key's name has 1 to 64 letters, digits, dots, hyphens or underscores")
        token = PREFIX + secrets.token_urlsafe(32)
        row = {"name": name, "hash": _hash(token), "per_day": per_day, "created_at": self._now()}

        def work(connection: Connection) -> None:
            if connection.execute(select(_keys.c.name).where(_keys.c.name == name)).first() is not None:
                raise StoreError(f"there is a key {name} already", remedy="Choose another name: `sibyl keys list`.")
            connection.execute(insert(_keys).values(row))

        await self._run(work)
        return token

    async def keys(self) -> Sequence[ApiKey]:
        """Every key, the oldest first, with what it spent in the last 24 hours."""
        since = self._now() - DAY

        def work(connection: Connection) -> list[ApiKey]:
            spent = _by_holder(_counted(connection, since))
            rows = connection.execute(select(_keys).order_by(_keys.c.created_at, _keys.c.name))
            return [_key(row, spent.get(row.name, 0)) for row in rows]

        return await self._run(work)

    async def revoke(self, name: str) -> None:
        """Have a key count no more. Raises StoreError when there is none of that name; twice is no error."""

        def work(connection: Connection) -> None:
            row = connection.execute(select(_keys).where(_keys.c.name == name)).one_or_none()
            if row is None:
                raise StoreError(f"there is no key {name}", remedy="See `sibyl keys list`.")
            if row.revoked_at is None:
                connection.execute(update(_keys).where(_keys.c.name == name).values(revoked_at=self._now()))

        await self._run(work)

    async def key(self, token: str) -> ApiKey | None:
        """The key that counts, or None."""
        if not token.startswith(PREFIX) or len(token) > _MOST_TOKEN:
            return None

        def work(connection: Connection) -> ApiKey | None:
            found = select(_keys).where(_keys.c.hash == _hash(token), _keys.c.revoked_at.is_(None))
            row = connection.execute(found).one_or_none()
            return None if row is None else _key(row, 0)

        return await self._run(work)

    async def begun(self, idempotency: bytes, model_id: int, image_cid: Cid) -> Spending | None:
        """What was begun under an idempotency key. Raises AskedOtherwise when it was another question."""
        return await self._run(lambda connection: _begun(connection, idempotency, model_id, image_cid))

    async def reserve(self, question: Question, *, holder_limit: int, total_limit: int) -> tuple[Spending, bool]:
        """Count an amount as spent before it is; the spending, and whether it is new.

        It is not when it was begun before under the same idempotency key. Limits in wei for 24 hours. Raises
        DayLimitReached, AskedOtherwise.
        """
        now = self._now()

        def work(connection: Connection) -> tuple[Spending, bool]:
            if question.idempotency is not None:
                known = _begun(connection, question.idempotency, question.model_id, question.image_cid)
                if known is not None:
                    return known, False
            _check_limits(connection, question.holder, question.amount + question.fee, holder_limit, total_limit, now)
            values: dict[str, Any] = {
                "holder": question.holder,
                "state": SpendingState.RESERVED,
                "amount": question.amount,
                "fee": question.fee,
                "at": now,
                "model_id": question.model_id,
                "image_cid": question.image_cid,
                "deadline": question.deadline,
                "block": question.block,
                "idempotency": question.idempotency,
            }
            (number,) = connection.execute(insert(_spendings).values(values)).inserted_primary_key or (0,)
            return Spending(int(number), SpendingState.RESERVED, question, now), True

        return await self._run(work)

    async def check(self, holder: str, amount: int, *, holder_limit: int, total_limit: int) -> None:
        """Whether an amount could be reserved now. Raises DayLimitReached."""
        now = self._now()
        await self._run(lambda connection: _check_limits(connection, holder, amount, holder_limit, total_limit, now))

    async def asked(self, spending: int, request_id: bytes, transaction_hash: bytes) -> None:
        """The request of a spending is on-chain."""
        values = {"state": SpendingState.ASKED, "request_id": request_id, "transaction_hash": transaction_hash}
        await self._settle(spending, values)

    async def release(self, spending: int) -> None:
        """Nothing was sent for a spending: it counts no more, and its idempotency key is free."""
        await self._settle(spending, {"state": SpendingState.RELEASED, "idempotency": None})

    async def burnt(self, spending: int) -> None:
        """Nothing but the network's fee was spent for it, which goes on counting; its idempotency key is free."""
        await self._settle(spending, {"amount": 0, "idempotency": None})

    async def known(self, request_ids: Iterable[bytes]) -> frozenset[bytes]:
        """Which of these requests belong to a spending."""
        wanted = list(request_ids)

        def work(connection: Connection) -> frozenset[bytes]:
            rows = connection.execute(select(_spendings.c.request_id).where(_spendings.c.request_id.in_(wanted)))
            return frozenset(rows.scalars())

        return await self._run(work)

    async def spending_of(self, request_id: bytes) -> Spending | None:
        """The spending that a request belongs to."""

        def work(connection: Connection) -> Spending | None:
            row = connection.execute(select(_spendings).where(_spendings.c.request_id == request_id)).one_or_none()
            return None if row is None else _spending(row)

        return await self._run(work)

    async def close(self) -> None:
        """Close the file; a second call does nothing."""
        if not self._closed:
            self._closed = True
            closed = self._thread.submit(self._database.close)
            self._thread.shutdown(wait=False)
            await asyncio.shield(asyncio.wrap_future(closed))

    async def _settle(self, spending: int, values: dict[str, Any]) -> None:
        def work(connection: Connection) -> None:
            reserved = (_spendings.c.id == spending, _spendings.c.state == SpendingState.RESERVED)
            connection.execute(update(_spendings).where(*reserved).values(values))

        await self._run(work)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if self._closed:
            raise StoreError(f"{self._name} is closed")
        return await asyncio.wrap_future(self._thread.submit(self._database.transaction, work, write=True))


def _hash(token: str) -> bytes:
    # A key is 256 random bits, so nothing slower is called for.
    return hashlib.sha256(token.encode()).digest()


def _key(row: Any, spent: int) -> ApiKey:
    return ApiKey(row.name, row.per_day, row.created_at, row.revoked_at, spent)


def _counted(connection: Connection, since: float) -> list[tuple[float, str, int]]:
    """Time, holder and amount of what counts, the oldest first."""
    columns = (_spendings.c.at, _spendings.c.holder, _spendings.c.amount, _spendings.c.fee)
    counts = (_spendings.c.at > since, _spendings.c.state != SpendingState.RELEASED)
    rows = connection.execute(select(*columns).where(*counts).order_by(_spendings.c.at, _spendings.c.id))
    return [(row.at, row.holder, row.amount + row.fee) for row in rows]


def _by_holder(counted: Iterable[tuple[float, str, int]]) -> dict[str, int]:
    spent: dict[str, int] = {}
    for _, holder, amount in counted:
        spent[holder] = spent.get(holder, 0) + amount
    return spent


def _check_limits(
    connection: Connection, holder: str, amount: int, holder_limit: int, total_limit: int, now: float
) -> None:
    counted = _counted(connection, now - DAY)
    own = [(at, spent) for at, whose, spent in counted if whose == holder]
    _check(own, amount, holder_limit, "this key" if holder else "users without a key", now)
    _check([(at, spent) for at, _, spent in counted], amount, total_limit, "all users together", now)


def _check(counted: Sequence[tuple[float, int]], amount: int, limit: int, whose: str, now: float) -> None:
    left = limit - sum(spent for _, spent in counted)
    if amount <= left:
        return
    wait = DAY
    for at, spent in counted if amount <= limit else ():
        left += spent
        if amount <= left:
            wait = at + DAY - now
            break
    raise DayLimitReached(
        f"{whose} may spend {from_wei(limit, 'ether'):f} ETH in 24 hours",
        retry_after=max(1, math.ceil(wait)),
        remedy="Wait as long as Retry-After says, pay with a wallet of your own, or ask the operator for more.",
    )


def _begun(connection: Connection, idempotency: bytes, model_id: int, image_cid: Cid) -> Spending | None:
    row = connection.execute(select(_spendings).where(_spendings.c.idempotency == idempotency)).one_or_none()
    if row is None:
        return None
    if (row.model_id, row.image_cid) != (model_id, image_cid):
        raise AskedOtherwise(
            "this Idempotency-Key was used for another model or picture",
            remedy="Use a new key for each new request.",
        )
    return _spending(row)


def _spending(row: Any) -> Spending:
    question = Question(
        row.holder, row.amount, row.model_id, row.image_cid, row.deadline, row.block, row.idempotency, row.fee
    )
    return Spending(row.id, row.state, question, row.at, row.request_id, row.transaction_hash)


__all__ = ["DAY", "ApiKey", "Question", "Spending", "SpendingState", "SqliteGatewayStore", "mark"]
