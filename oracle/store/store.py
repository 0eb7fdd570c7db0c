"""``ports.RequestStore`` on SQLite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from oracle.domain import BlockRef, ChainEvent, Cid, ReportReceipt, RequestStatus, SignedReport
from oracle.errors import StoreMismatch
from oracle.ports import Move, RequestRow, StoredReport
from oracle.store import changes, queries
from oracle.store.books import ModelBooks, ProviderBooks, model_books, provider_books
from oracle.store.database import ThreadedDatabase
from oracle.store.ledger import SqliteLedger
from oracle.store.tables import binding, checkpoint


@dataclass(frozen=True, slots=True)
class Binding:
    """The deployment a database belongs to: chain id, coordinator address, hash of the chain's first block."""

    chain_id: int
    coordinator: str
    genesis: bytes


class SqliteRequestStore:
    """The requests in a SQLite file, or in memory with the path ``":memory:"``.

    Every transaction runs on one thread of the store's own, one after the other, so callers on an event loop never
    wait for the disk on it. Other processes may read the file meanwhile (``read_only=True``, the ``sqlite3`` shell);
    a second writer is refused. ``now`` gives the time of moves in Unix seconds. For ``hold`` seconds after its block a
    request is left alone (its requester may still take it back): its ``not_before`` says until when.

    The constructor waits for the file to be open and up to date; an older file is copied beside itself first. It and
    every method raise StoreError with a remedy when SQLite fails (damaged, full, locked or read-only file); the
    constructor also raises StoreTooNew.
    """

    def __init__(
        self, path: Path | str, *, now: Callable[[], float] = time.time, read_only: bool = False, hold: float = 0.0
    ) -> None:
        self._name = str(path)
        self._now = now
        self._hold = hold
        self._file = ThreadedDatabase(path, thread="sibyl-store", read_only=read_only)
        self._read, self._write, self.close = self._file.read, self._file.write, self._file.close
        self.ledger = SqliteLedger(self._read, self._write)
        """``ports.ProviderLedger`` in the same file."""

    async def bind(self, chain_id: int, coordinator: str, genesis: bytes) -> None:
        """Tie a new database to a deployment, or check that this one belongs to it. Raises StoreMismatch."""
        wanted = Binding(chain_id, coordinator, genesis)
        await self._write(lambda connection: _bind(connection, wanted, self._name))

    async def binding(self) -> Binding | None:
        """The deployment this database belongs to; None before ``bind``."""
        return await self._read(_binding)

    async def checkpoint(self) -> BlockRef | None:
        """The last block scanned."""
        return await self._read(_checkpoint)

    async def scanned_block(self, number: int) -> BlockRef | None:
        """The newest remembered block at or below ``number``."""
        return await self._read(lambda connection: queries.block_at_or_below(connection, number))

    async def commit_scan(self, events: Sequence[ChainEvent], blocks: Sequence[BlockRef], checkpoint: BlockRef) -> None:
        """Logs, block hashes and checkpoint in one transaction. A log already known changes nothing.

        Raises StoreError when a block was remembered with another hash: roll back first.
        """
        at = self._now()
        await self._write(
            lambda connection: changes.commit_scan(connection, events, blocks, checkpoint, at, self._hold)
        )

    async def roll_back(self, fork: BlockRef | None) -> Sequence[bytes]:
        """Forget everything above the fork (None: everything); the ids touched.

        Requests mined there become ORPHANED. Settlements mined there are undone, and our reports mined there are open
        again with no broadcast time: a request that an open report carries is POSTING, else COMPUTED or FAILED by what
        we hold, else SEEN (EXPIRED when its refund was undone after the deadline).
        """
        at = self._now()
        return await self._write(lambda connection: changes.roll_back(connection, fork, at))

    async def confirm(self, through: int) -> int:
        """Move SEEN requests in blocks up to ``through`` to CONFIRMED; how many."""
        at = self._now()
        return await self._write(lambda connection: changes.confirm(connection, through, at))

    async def get(self, request_id: bytes) -> RequestRow | None:
        """One request."""
        rows = await self._read(lambda connection: queries.by_id(connection, [request_id]))
        return rows[0] if rows else None

    async def select(
        self,
        statuses: Iterable[RequestStatus],
        *,
        due: float | None = None,
        tried: bool | None = None,
        after: float | None = None,
        limit: int | None = None,
    ) -> Sequence[RequestRow]:
        """Requests in these statuses, earliest deadline first; with ``due``, those whose ``not_before`` has passed;
        with ``tried``, those that were (longest due first), or were not, tried before; with ``after``, those whose
        deadline is later.
        """
        wanted = tuple(statuses)
        return await self._read(lambda connection: queries.in_status(connection, wanted, due, tried, after, limit))

    async def spent_images(self, request_ids: Iterable[bytes]) -> Sequence[Cid]:
        """The pictures of these requests that no CONFIRMED, READY or COMPUTING request needs any more."""
        ids = list(request_ids)
        return await self._read(lambda connection: queries.spent_images(connection, ids))

    async def recent(self, limit: int) -> Sequence[RequestRow]:
        """The newest requests on the chain, newest first."""
        return await self._read(lambda connection: queries.newest(connection, limit))

    async def counts(self) -> Mapping[RequestStatus, int]:
        """How many requests stand in each status, empty ones included."""
        return await self._read(queries.counts)

    async def stage_durations(self, limit: int) -> Mapping[RequestStatus, Sequence[float]]:
        """Seconds of every finished stay in each status, over the ``limit`` newest requests."""
        return await self._read(lambda connection: queries.stage_durations(connection, limit))

    async def move(self, moves: Sequence[Move], *, expected: Iterable[RequestStatus]) -> int:
        """Apply moves to the requests that still stand in one of ``expected``; how many moved.

        Raises IllegalTransition, and then no request has moved; a request named twice in one call raises it too.
        """
        allowed = tuple(expected)
        at = self._now()
        return await self._write(lambda connection: changes.move(connection, moves, allowed, at))

    async def expire(self, now: float) -> int:
        """Move requests whose deadline lies before ``now``, and that no open report carries, to EXPIRED; how many."""
        at = self._now()
        return await self._write(lambda connection: changes.expire(connection, now, at))

    async def open_batch(self, key: str, request_ids: Sequence[bytes]) -> Sequence[bytes]:
        """READY requests become COMPUTING members of a new batch; the ids that did. A used key raises StoreError."""
        at = self._now()
        return await self._write(lambda connection: changes.open_batch(connection, key, request_ids, at))

    async def open_batches(self) -> Mapping[str, Sequence[RequestRow]]:
        """Batches that still have COMPUTING members, with those."""
        return await self._read(queries.computing)

    async def save_report(self, report: SignedReport, *, replaces: bytes | None = None) -> None:
        """Save a signed report before it is broadcast; its COMPUTED and FAILED requests become POSTING.

        The same report again changes nothing. Raises StoreError when an open report holds the nonce and is not named by
        ``replaces``, or when the one named is not open at that nonce.
        """
        at = self._now()
        await self._write(lambda connection: changes.save_report(connection, report, replaces, at))

    async def mark_broadcast(self, transaction_hash: bytes) -> None:
        """Note when a node first took the report."""
        at = self._now()
        await self._write(lambda connection: changes.mark_broadcast(connection, transaction_hash, at))

    async def open_reports(self) -> Sequence[StoredReport]:
        """Reports whose fate is not final, by nonce, the oldest first at one nonce."""
        return await self._read(queries.open_reports)

    async def close_report(self, receipt: ReportReceipt) -> None:
        """A receipt is confirmed: settled requests become FULFILLED or REJECTED, skipped ones follow the chain.

        The rest go back to the queue, and every other report at that nonce is closed as replaced. Raises StoreError for
        a report that was never saved.
        """
        at = self._now()
        await self._write(lambda connection: changes.close_report(connection, receipt, at))

    async def abandon_report(self, transaction_hash: bytes, detail: str) -> None:
        """A report can never be mined: its requests go back to the queue unless another open report carries them."""
        at = self._now()
        await self._write(lambda connection: changes.abandon_report(connection, transaction_hash, detail, at))

    async def timeline(self, request_id: bytes) -> Sequence[tuple[RequestStatus, float, str]]:
        """Every move of a request with its time and detail; retries within a status are listed too."""
        return await self._read(lambda connection: queries.timeline(connection, request_id))

    async def books(self) -> tuple[Sequence[ModelBooks], ProviderBooks]:
        """Income, gas and what providers cost, as of one moment."""
        return await self._read(lambda connection: (model_books(connection), provider_books(connection)))


def _binding(connection: Connection) -> Binding | None:
    row = connection.execute(select(binding)).one_or_none()
    return None if row is None else Binding(row.chain_id, row.coordinator, row.genesis)


def _bind(connection: Connection, wanted: Binding, name: str) -> None:
    bound = _binding(connection)
    if bound is None:
        values = {"chain_id": wanted.chain_id, "coordinator": wanted.coordinator, "genesis": wanted.genesis}
        connection.execute(insert(binding).values(id=1, **values))
        return
    differences = []
    if bound.chain_id != wanted.chain_id:
        differences.append(f"chain id {bound.chain_id}, not {wanted.chain_id}")
    if bound.coordinator.lower() != wanted.coordinator.lower():
        differences.append(f"coordinator {bound.coordinator}, not {wanted.coordinator}")
    if bound.genesis != wanted.genesis:
        differences.append(f"a chain that began with block 0x{bound.genesis.hex()}, not 0x{wanted.genesis.hex()}")
    if differences:
        raise StoreMismatch(
            f"{name} belongs to {'; '.join(differences)}",
            remedy="choose another --data-dir for this deployment, or set the RPC endpoint and the coordinator back",
        )


def _checkpoint(connection: Connection) -> BlockRef | None:
    row = connection.execute(select(checkpoint)).one_or_none()
    return None if row is None else BlockRef(row.number, row.hash, row.timestamp)
