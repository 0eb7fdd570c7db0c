"""The gateway's books: API keys, of which only hashes are kept, and what was spent for whom.

A spending is written down before anything is sent, and counts from then on; and so is each transaction. So whatever is
killed and whenever, money may be counted that was not spent; none is spent that was not counted, and none twice for one
idempotency key. What is older than ``RETENTION`` is forgotten.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_utils.currency import from_wei
from sqlalchemy import ColumnElement, Connection, Integer, delete, func, insert, literal_column, or_, select, update

from oracle.domain import Cid
from oracle.errors import AskedOtherwise, DayLimitReached, StoreError
from oracle.store.database import ThreadedDatabase
from oracle.store.gateway_tables import STEPS, SpendingState, binding, transactions
from oracle.store.gateway_tables import keys as _keys
from oracle.store.gateway_tables import spendings as _spendings

DAY = 86_400.0
"""Seconds over which a limit counts; it slides."""

RETENTION = 30 * DAY
"""Seconds after which a spending is forgotten, and its idempotency key with it."""
PAUSE = 60.0
"""Seconds between two looks at a spending that is open, at least."""

PREFIX = "sibyl_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST_TOKEN = 200  # characters of a key that are looked at
_MOST_FORGOTTEN = 100  # spendings that one call removes
_MOST_LOOKED_AT = 1_000  # spendings that are looked through for when a limit has room again

_HERE = _spendings.c.deployment == select(binding.c.deployment).scalar_subquery()
_RESERVED = _spendings.c.state == SpendingState.RESERVED


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
    Unix seconds.

    ``holder`` is the key's name, empty for those without one; ``idempotency`` from ``mark``, or None.
    """

    holder: str
    amount: int
    model_id: int
    image_cid: Cid
    deadline: int
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
        self._file = ThreadedDatabase(path, thread="sibyl-gateway", steps=STEPS, alone=False)
        self._run, self._read, self.close = self._file.write, self._file.read, self._file.close

    async def bind(self, chain_id: int, coordinator: str, genesis: bytes) -> None:
        """Have the books speak of this deployment: what was spent at others neither counts nor is found.

        They speak of one at a time. What was spent before they spoke of any is taken for this one's.
        """
        values = {"deployment": f"{chain_id} {coordinator.lower()} 0x{genesis.hex()}"}

        def work(connection: Connection) -> None:
            connection.execute(update(_spendings).where(_spendings.c.deployment == "").values(values))
            connection.execute(update(binding).values(values))

        await self._run(work)

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
            spent = _spent(connection, since)
            rows = connection.execute(select(_keys).order_by(_keys.c.created_at, _keys.c.name))
            return [_key(row, spent.get(row.name, 0)) for row in rows]

        return await self._read(work)

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

        return await self._read(work)

    async def begun(self, idempotency: bytes, model_id: int, image_cid: Cid) -> Spending | None:
        """What was begun under an idempotency key. Raises AskedOtherwise when it was another question."""
        return await self._read(lambda connection: _begun(connection, idempotency, model_id, image_cid))

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
            _forget(connection, now - RETENTION)
            values: dict[str, Any] = {
                "deployment": connection.execute(select(binding.c.deployment)).scalar_one(),
                "holder": question.holder,
                "state": SpendingState.RESERVED,
                "amount": question.amount,
                "fee": question.fee,
                "at": now,
                "due": now + PAUSE,
                "model_id": question.model_id,
                "image_cid": question.image_cid,
                "deadline": question.deadline,
                "idempotency": question.idempotency,
            }
            (number,) = connection.execute(insert(_spendings).values(values)).inserted_primary_key or (0,)
            return Spending(int(number), SpendingState.RESERVED, question, now), True

        return await self._run(work)

    async def check(self, holder: str, amount: int, *, holder_limit: int, total_limit: int) -> None:
        """Whether an amount could be reserved now. Raises DayLimitReached."""
        now = self._now()
        await self._read(lambda connection: _check_limits(connection, holder, amount, holder_limit, total_limit, now))

    async def on_their_way(self) -> int:
        """Wei of requests that are counted and may not be on-chain yet."""
        return await self._read(lambda connection: _sum(connection, "amount", (_HERE, _RESERVED)))

    async def in_flight(self) -> int:
        """How many spendings may have a transaction of theirs on its way."""
        sent = _spendings.c.id.in_(select(transactions.c.spending))
        wanted = select(func.count()).select_from(_spendings).where(_HERE, or_(_RESERVED, sent))
        return await self._read(lambda connection: int(connection.execute(wanted).scalar_one()))

    async def signed(self, spending: int, transaction_hash: bytes, nonce: int, raw: bytes) -> None:
        """Write down a transaction before it goes out. Raises StoreError when the spending has ended."""
        values = {"spending": spending, "hash": transaction_hash, "nonce": nonce, "raw": raw}

        def work(connection: Connection) -> None:
            wanted = (
                _spendings.c.id == spending,
                _spendings.c.state.in_((SpendingState.RESERVED, SpendingState.ASKED)),
            )
            if connection.execute(select(_spendings.c.id).where(*wanted)).first() is None:
                raise StoreError(f"spending {spending} has ended; nothing more is sent for it")
            connection.execute(insert(transactions).values(values))

        await self._run(work)

    async def transactions(self, spending: int) -> Sequence[bytes]:
        """What was signed for a spending that is open, the oldest first, as it goes out."""
        found = select(transactions.c.raw).where(transactions.c.spending == spending).order_by(transactions.c.id)
        return await self._read(lambda connection: list(connection.execute(found).scalars()))

    async def newest(self, spending: int) -> bytes | None:
        """Hash of the newest transaction that was signed for a spending that is open."""
        found = select(transactions.c.hash).where(transactions.c.spending == spending)
        last = found.order_by(transactions.c.id.desc()).limit(1)
        return await self._read(lambda connection: connection.execute(last).scalar_one_or_none())

    async def asked(
        self, spending: int, request_id: bytes, transaction_hash: bytes, due: float, *, amount: int | None = None
    ) -> None:
        """The request of a spending is on-chain; it is looked after again at ``due``, in Unix seconds.

        ``amount`` in wei is what was paid, where that is not what was counted.
        """
        values: dict[str, Any] = {"request_id": request_id, "transaction_hash": transaction_hash, "due": due}
        if amount is not None:
            values["amount"] = amount
        await self._settle(spending, SpendingState.RESERVED, {"state": SpendingState.ASKED} | values)

    async def release(self, spending: int) -> None:
        """Nothing was paid for a spending, nor will be: it counts no more, and its idempotency key is free."""
        values = {"state": SpendingState.RELEASED, "idempotency": None}
        await self._settle(spending, SpendingState.RESERVED, values)

    async def burnt(self, spending: int) -> None:
        """Nothing but the network's fee was spent for it, which goes on counting; its idempotency key is free."""
        values = {"state": SpendingState.BURNT, "amount": 0, "idempotency": None}
        await self._settle(spending, SpendingState.RESERVED, values)

    async def closed(self, spending: int) -> None:
        """The request of a spending has ended: answered, or its money came back."""
        await self._settle(spending, SpendingState.ASKED, {"state": SpendingState.CLOSED})

    async def refund_failed(self, spending: int) -> None:
        """The transaction that should refund it did not, nor will: another may be sent."""
        await self._settle(spending, SpendingState.ASKED, {"state": SpendingState.ASKED})

    async def due(self, limit: int) -> Sequence[Spending]:
        """Open spendings to be looked after now; each comes up again by itself, the older the rarer."""
        now = self._now()

        def work(connection: Connection) -> list[Spending]:
            is_open = _spendings.c.state.in_((SpendingState.RESERVED, SpendingState.ASKED))
            wanted = select(_spendings).where(_HERE, is_open, _spendings.c.due <= now)
            rows = connection.execute(wanted.order_by(_spendings.c.due).limit(limit)).all()
            for row in rows:
                again = now + max(PAUSE, now - row.at)
                connection.execute(update(_spendings).where(_spendings.c.id == row.id).values(due=again))
            return [_spending(row) for row in rows]

        return await self._run(work)

    async def spending_of(self, request_id: bytes) -> Spending | None:
        """The spending that a request belongs to."""

        def work(connection: Connection) -> Spending | None:
            row = connection.execute(
                select(_spendings).where(_HERE, _spendings.c.request_id == request_id)
            ).one_or_none()
            return None if row is None else _spending(row)

        return await self._read(work)

    async def _settle(self, spending: int, state: SpendingState, values: dict[str, Any]) -> None:
        """Move it on if it is in that state. What was signed for it has then been mined, or never will be."""

        def work(connection: Connection) -> None:
            wanted = (_spendings.c.id == spending, _spendings.c.state == state)
            if connection.execute(update(_spendings).where(*wanted).values(values)).rowcount:
                connection.execute(delete(transactions).where(transactions.c.spending == spending))

        await self._run(work)


def _hash(token: str) -> bytes:
    # A key is 256 random bits, so nothing slower is called for.
    return hashlib.sha256(token.encode()).digest()


def _key(row: Any, spent: int) -> ApiKey:
    return ApiKey(row.name, row.per_day, row.created_at, row.revoked_at, spent)


def _counting(since: float) -> tuple[ColumnElement[bool], ...]:
    return _HERE, _spendings.c.at > since, _spendings.c.state != SpendingState.RELEASED


def _exact(column: str) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """A column of wei summed in two halves, whole gwei and the rest: wei do not fit SQLite's 64-bit integers."""
    gwei, rest = f"substr({column}, 1, max(length({column}) - 9, 0))", f"substr({column}, -9)"
    return (
        literal_column(f"coalesce(sum(CAST({gwei} AS INTEGER)), 0)", Integer),
        literal_column(f"coalesce(sum(CAST({rest} AS INTEGER)), 0)", Integer),
    )


def _sum(connection: Connection, column: str, wanted: Sequence[ColumnElement[bool]]) -> int:
    gwei, rest = connection.execute(select(*_exact(column)).select_from(_spendings).where(*wanted)).one()
    return int(gwei * 10**9 + rest)


def _spent(connection: Connection, since: float) -> dict[str, int]:
    """What counts, by holder."""
    sums = select(_spendings.c.holder, *_exact("amount"), *_exact("fee"))
    rows = connection.execute(sums.where(*_counting(since)).group_by(_spendings.c.holder))
    return {holder: (a + b) * 10**9 + c + d for holder, a, c, b, d in rows}


def _check_limits(
    connection: Connection, holder: str, amount: int, holder_limit: int, total_limit: int, now: float
) -> None:
    spent = _spent(connection, now - DAY)
    whose = "this key" if holder else "users without a key"
    own = (*_counting(now - DAY), _spendings.c.holder == holder)
    for name, used, limit, wanted in (
        (whose, spent.get(holder, 0), holder_limit, own),
        ("all users together", sum(spent.values()), total_limit, _counting(now - DAY)),
    ):
        if used + amount <= limit:
            continue
        over = used + amount - limit
        wait = _wait(connection, over, wanted, now) if amount <= limit else DAY
        raise DayLimitReached(
            f"{name} may spend {from_wei(limit, 'ether'):f} ETH in 24 hours",
            retry_after=max(1, math.ceil(wait)),
            remedy="Wait as long as Retry-After says, pay with a wallet of your own, or ask the operator for more.",
        )


def _wait(connection: Connection, over: int, wanted: Sequence[ColumnElement[bool]], now: float) -> float:
    """Seconds until so much of what counts is a day old; fewer where that is many spendings."""
    at = now
    columns = select(_spendings.c.at, _spendings.c.amount, _spendings.c.fee).where(*wanted)
    for row in connection.execute(columns.order_by(_spendings.c.at).limit(_MOST_LOOKED_AT)):
        at, over = row.at, over - row.amount - row.fee
        if over <= 0:
            break
    return at + DAY - now


def _forget(connection: Connection, before: float) -> None:
    """Remove some of what is that old: nothing of this deployment that may still be on its way."""
    gone = select(_spendings.c.id).where(_spendings.c.at < before, or_(~_RESERVED, ~_HERE))
    wanted = gone.order_by(_spendings.c.at).limit(_MOST_FORGOTTEN)
    connection.execute(delete(_spendings).where(_spendings.c.id.in_(wanted)))


def _begun(connection: Connection, idempotency: bytes, model_id: int, image_cid: Cid) -> Spending | None:
    row = connection.execute(select(_spendings).where(_HERE, _spendings.c.idempotency == idempotency)).one_or_none()
    if row is None:
        return None
    if (row.model_id, row.image_cid) != (model_id, image_cid):
        raise AskedOtherwise(
            "this Idempotency-Key was used for another model or picture",
            remedy="Use a new key for each new request.",
        )
    return _spending(row)


def _spending(row: Any) -> Spending:
    question = Question(row.holder, row.amount, row.model_id, row.image_cid, row.deadline, row.idempotency, row.fee)
    return Spending(row.id, row.state, question, row.at, row.request_id, row.transaction_hash)


__all__ = ["DAY", "PAUSE", "RETENTION", "ApiKey", "Question", "Spending", "SpendingState", "SqliteGatewayStore", "mark"]
