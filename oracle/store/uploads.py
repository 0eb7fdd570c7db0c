"""The book of what was uploaded and nobody has asked about yet: how much of it there is, whose it is, and since when.

An upload is written down before it is pinned. So whatever is killed and whenever, nothing is pinned that is not here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sqlalchemy import Column, Connection, Float, Integer, MetaData, Table, Text, delete, func, insert, select

from oracle.domain import Cid
from oracle.errors import TooMuchUploaded, UploadsFull
from oracle.store.database import ThreadedDatabase
from oracle.store.migrations import Step
from oracle.store.queries import chunks
from oracle.store.tables import CidText
from oracle.views import Upload

DAY = 86_400.0
"""Seconds over which a client's limit counts; it slides."""
LEAST = 16 * 1024
"""Bytes that the smallest upload counts for: a pin and a row cost something, too."""

_MIB = 1024 * 1024
_FIRST: Step = (
    """
CREATE TABLE uploads (
    -- bytes is what counts, which is more than a small file has. at is when it last came.
    cid TEXT NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL,
    client TEXT NOT NULL,
    at REAL NOT NULL
)
""",
    "CREATE INDEX uploads_by_client ON uploads (client, at)",
)
STEPS: Sequence[Step] = (_FIRST,)

metadata = MetaData()

_uploads = Table(
    "uploads",
    metadata,
    Column("cid", CidText, primary_key=True),
    Column("bytes", Integer, nullable=False),
    Column("client", Text, nullable=False),
    Column("at", Float, nullable=False),
)


class SqliteUploadBook:
    """``api.ports.UploadBook`` in a SQLite file, which several processes may write in turn.

    ``now`` gives Unix seconds. The constructor waits for the file to be open. It and every method raise StoreError with
    a remedy when SQLite fails.
    """

    def __init__(self, path: Path | str, *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._file = ThreadedDatabase(path, thread="sibyl-uploads", steps=STEPS, alone=False)
        self._run, self.close = self._file.write, self._file.close

    async def note(self, cid: Cid, size: int, client: str, *, client_limit: int, total_limit: int) -> None:
        """Count an upload before it is pinned; one that is in here begins anew, and is counted once.

        Limits in bytes: for one client in 24 hours, and for all that is in here. Raises TooMuchUploaded, UploadsFull.
        """
        now = self._now()
        counted = max(size, LEAST)

        def work(connection: Connection) -> None:
            others = _uploads.c.cid != cid
            held = connection.execute(select(func.coalesce(func.sum(_uploads.c.bytes), 0)).where(others)).scalar_one()
            if held + counted > total_limit:
                raise UploadsFull(
                    f"uploads that nobody has asked about yet may take {total_limit // _MIB:,} MiB here",
                    remedy="Come back later: each is let go after a day. Or pin it on your own node and ask by CID.",
                )
            own = (others, _uploads.c.client == client, _uploads.c.at > now - DAY)
            rows = connection.execute(select(_uploads.c.at, _uploads.c.bytes).where(*own).order_by(_uploads.c.at))
            _check([(row.at, row.bytes) for row in rows], counted, client_limit, now)
            connection.execute(delete(_uploads).where(_uploads.c.cid == cid))
            connection.execute(insert(_uploads).values(cid=cid, bytes=counted, client=client, at=now))

        await self._run(work)

    async def page(self, after: Cid | None, limit: int) -> Sequence[Upload]:
        """What is in here, in the order of CIDs, beyond one."""
        query = select(_uploads.c.cid, _uploads.c.at).order_by(_uploads.c.cid).limit(limit)
        if after is not None:
            query = query.where(_uploads.c.cid > after)

        def work(connection: Connection) -> list[Upload]:
            return [Upload(row.cid, row.at) for row in connection.execute(query)]

        return await self._run(work)

    async def came(self, cid: Cid) -> float | None:
        """When an upload last came; None for what is not in here."""
        query = select(_uploads.c.at).where(_uploads.c.cid == cid)
        return await self._run(lambda connection: connection.execute(query).scalar_one_or_none())

    async def forget(self, cids: Iterable[Cid]) -> None:
        """Count these no more."""

        def work(connection: Connection) -> None:
            for chunk in chunks(cids):
                connection.execute(delete(_uploads).where(_uploads.c.cid.in_(chunk)))

        await self._run(work)


def _check(counted: Sequence[tuple[float, int]], size: int, limit: int, now: float) -> None:
    left = limit - sum(held for _, held in counted)
    if size <= left:
        return
    wait = DAY
    for at, held in counted if size <= limit else ():
        left += held
        if size <= left:
            wait = at + DAY - now
            break
    raise TooMuchUploaded(
        f"one client may upload {limit // _MIB:,} MiB in 24 hours that nobody has asked about yet",
        retry_after=max(1, math.ceil(wait)),
        remedy="Wait as long as Retry-After says, or pin it on your own node, and ask by its CID.",
    )


__all__ = ["DAY", "LEAST", "SqliteUploadBook"]
