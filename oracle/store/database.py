"""A SQLite file opened, locked, migrated and guarded: transactions in, ``StoreError`` with a remedy out."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TextIO, TypeVar

from sqlalchemy import Connection, StaticPool, create_engine
from sqlalchemy.exc import DBAPIError

from oracle.errors import IllegalTransition, StoreError, StoreTooNew
from oracle.store.migrations import APPLICATION_ID, MIGRATIONS, Step, migrate, version_of

MEMORY = ":memory:"
BUSY_TIMEOUT = 5_000
"""Milliseconds to wait for a lock that another process (the ``sqlite3`` shell) holds."""

T = TypeVar("T")


class Database:
    """One connection to one file. Everything, opening and closing too, must happen on the same thread.

    A writer holds a lock on ``<file>.lock`` for its lifetime: two oracles on one file would post from one key twice.
    With ``alone`` false it holds none, and several take turns. Raises StoreTooNew, StoreError.
    """

    def __init__(
        self, path: Path | str, *, read_only: bool, steps: Sequence[Step] = MIGRATIONS, alone: bool = True
    ) -> None:
        self._name = str(path)
        self._path = None if self._name == MEMORY else Path(path)
        self._alone = alone
        self._lock: TextIO | None = None
        raw: sqlite3.Connection | None = None
        try:
            raw = self._open_read_only(steps) if read_only else self._open_for_writing(steps)
            # StaticPool keeps this one connection; AUTOCOMMIT because transaction() writes out BEGIN and COMMIT itself.
            engine = create_engine(
                "sqlite://", creator=_return(raw), poolclass=StaticPool, isolation_level="AUTOCOMMIT"
            )
            self.connection: Connection = engine.connect()
        except (sqlite3.Error, DBAPIError, OSError) as error:
            self._release(raw)
            raise explain(error, self._name) from error
        except BaseException:
            self._release(raw)
            raise
        self._raw = raw

    def transaction(self, work: Callable[[Connection], T], *, write: bool) -> T:
        """Run ``work`` in one transaction; an exception rolls it back. Raises StoreError."""
        try:
            self._raw.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                outcome = work(self.connection)
                self._raw.execute("COMMIT")
                return outcome
            except BaseException:
                # SQLite has already rolled back by itself after some errors, a full disk among them.
                if self._raw.in_transaction:
                    self._raw.execute("ROLLBACK")
                raise
        except (sqlite3.Error, DBAPIError) as error:
            raise explain(error, self._name) from error

    def close(self) -> None:
        """Close the file and give the lock back."""
        engine = self.connection.engine
        self.connection.close()
        engine.dispose()
        self._release(self._raw)

    def _release(self, raw: sqlite3.Connection | None) -> None:
        if raw is not None:
            raw.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open_read_only(self, steps: Sequence[Step]) -> sqlite3.Connection:
        if self._path is None or not self._path.exists():
            raise StoreError(f"{self._name} does not exist", remedy="start the oracle once, or check --data-dir")
        raw = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        try:
            _set_pragmas(raw)
            version = self._checked_version(raw, steps)
        except BaseException:
            raw.close()
            raise
        if version < len(steps):
            raw.close()
            raise StoreError(
                f"{self._name} has schema version {version}, this Sibyl reads version {len(steps)}",
                remedy="start the oracle on it once; it keeps a backup and brings the file up to date",
            )
        return raw

    def _open_for_writing(self, steps: Sequence[Step]) -> sqlite3.Connection:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._alone:
                self._lock = _take_lock(self._path)
        raw = sqlite3.connect(self._name, isolation_level=None)
        try:
            _set_pragmas(raw)
            version = self._checked_version(raw, steps)
            raw.execute("PRAGMA journal_mode = WAL")
            # FULL: a report must be on the disk, not merely in the page cache, before it is broadcast.
            raw.execute("PRAGMA synchronous = FULL")
            # Marks a new file as ours, and finds out now, not at the first request, whether the file can be written.
            raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            if self._path is not None and 0 < version < len(steps):
                _back_up(raw, self._path.with_name(f"{self._path.name}.v{version}-backup"))
            migrate(raw, steps)
        except BaseException:
            raw.close()
            raise
        return raw

    def _checked_version(self, raw: sqlite3.Connection, steps: Sequence[Step]) -> int:
        version = version_of(raw)
        (application,) = raw.execute("PRAGMA application_id").fetchone()
        (objects,) = raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION_ID and (version or objects):
            raise StoreError(
                f"{self._name} is a SQLite database of another program", remedy="choose another --data-dir"
            )
        if version > len(steps):
            raise StoreTooNew(
                f"{self._name} has schema version {version}, this Sibyl knows up to {len(steps)}",
                remedy="upgrade Sibyl, choose another --data-dir, or restore the backup left beside it",
            )
        return version


class ThreadedDatabase:
    """A database for an event loop: a thread of its own opens it, does every transaction in turn, and closes it.

    The constructor waits for the file to be open; it takes, and raises, what ``Database`` does. Every method raises
    StoreError.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        thread: str,
        read_only: bool = False,
        steps: Sequence[Step] = MIGRATIONS,
        alone: bool = True,
    ) -> None:
        self._name = str(path)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=thread)
        opened = self._thread.submit(Database, path, read_only=read_only, steps=steps, alone=alone)
        try:
            self._database = opened.result()
        except BaseException:
            self._thread.shutdown()
            raise
        self._closed = False

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Look something up in one transaction."""
        return await self._run(work, write=False)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Change something in one transaction."""
        return await self._run(work, write=True)

    async def close(self) -> None:
        """Flush and close; a second call does nothing."""
        if not self._closed:
            self._closed = True
            closed = self._thread.submit(self._database.close)
            self._thread.shutdown(wait=False)
            # Shielded: the one who closes is often being cancelled, and the file must be closed all the same.
            await asyncio.shield(asyncio.wrap_future(closed))

    async def _run(self, work: Callable[[Connection], T], *, write: bool) -> T:
        if self._closed:
            raise StoreError(f"{self._name} is closed")
        # When the caller is cancelled, the transaction has not begun or runs to its end: it is whole either way.
        return await asyncio.wrap_future(self._thread.submit(self._database.transaction, work, write=write))


def explain(error: Exception, name: str) -> StoreError:
    """What a failure of SQLite or of the file system means for the reader."""
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    text = cause.lower()
    if "check constraint failed" in text:
        return IllegalTransition(f"a move breaks a rule of the schema: {cause}")
    if "foreign key constraint failed" in text:
        return StoreError(f"{name} does not know a request, batch or report that was named")
    if "not a database" in text or "malformed" in text:
        return StoreError(
            f"{name} is damaged: {cause}",
            remedy="move it and its -wal file away, then restore a backup or start afresh: requests are scanned again "
            "from the chain",
        )
    if "disk is full" in text:
        return StoreError(f"{name} cannot grow: {cause}", remedy="free some disk space; nothing was lost")
    if "locked" in text:
        return StoreError(f"{name} is busy: {cause}", remedy="end the other program that writes to it")
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text or "i/o error" in text:
        return StoreError(
            f"{name} cannot be read and written: {cause}",
            remedy="check that the file and its directory exist, belong to this user and can be written",
        )
    return StoreError(f"{name}: {cause}")


def _return(raw: sqlite3.Connection) -> Callable[[], sqlite3.Connection]:
    return lambda: raw


def _set_pragmas(raw: sqlite3.Connection) -> None:
    raw.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
    raw.execute("PRAGMA foreign_keys = ON")


def _take_lock(path: Path) -> TextIO:
    # A POSIX record lock, not flock: a forked worker does not inherit it, so it ends with this process.
    lock = path.with_name(path.name + ".lock").open("a+", encoding="ascii")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        owner = lock.read().strip() or "unknown"
        lock.close()
        raise StoreError(
            f"{path} is in use by another Sibyl (process {owner})",
            remedy="stop that one first, or give this one another --data-dir",
        ) from error
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _back_up(raw: sqlite3.Connection, target: Path) -> None:
    # Written beside and renamed, so that a backup is whole or absent.
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as copy:
        raw.backup(copy)
    partial.replace(target)
