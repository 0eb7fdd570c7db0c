"""What strangers upload: held within limits, and let go a day later when no request and no model names it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from oracle.api.desk import Desk
from oracle.api.ports import Writes
from oracle.domain import Cid
from oracle.errors import SibylError
from oracle.telemetry import logger

EVERY = 600.0  # seconds between two looks at all that is held
DAY = 86_400.0  # seconds for which an upload is held in any case
MOST = 1_000  # uploads that are let go at one look
_PAGE = 500

_log = logger("api")


class Holding:
    """Pins uploads and writes them down; looks at them from time to time. ``now`` gives Unix seconds."""

    def __init__(self, desk: Desk, writes: Writes, *, now: Callable[[], float] = time.time) -> None:
        self._desk, self._writes, self._now = desk, writes, now
        # What is let go must not come again meanwhile: its new pin would go with the old one.
        self._lock = asyncio.Lock()

    async def pin(self, content: bytes | Path, size: int, client: str) -> Cid:
        """Pin an upload of so many bytes; its CID.

        Raises TooMuchUploaded, UploadsFull, StoreError, ContentUnavailable, ContentCorrupt.
        """
        settings = self._desk.settings
        cid = await self._writes.pins.name(content)
        async with self._lock:
            await self._writes.book.note(
                cid, size, client, client_limit=settings.api_upload_day, total_limit=settings.api_upload_total
            )
        return await self._writes.pins.hold(content)

    async def watch(self) -> None:
        """Look every ten minutes, for ever. What fails is looked at again the next time."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                gone = await self.sweep()
            except SibylError as error:
                _log.warning("uploads were not looked through: %s", error)
            except Exception:  # noqa: BLE001 - an error of ours must not end the looks for good
                _log.exception("uploads were not looked through")
            else:
                if gone:
                    _log.info("uploads let go that nobody asked about", extra={"uploads": gone})

    async def sweep(self) -> int:
        """Take what a request or a model names out of the book, for it stays pinned; let go of the rest that is due.

        How many were let go. Raises StoreError, ChainError, ContentUnavailable.
        """
        world = self._desk.world
        scanned = await world.reads.scanned()
        if scanned is None:
            return 0
        # By the oracle's reading of the chain: what it has not read may name what came before.
        due = min(self._now(), scanned.timestamp) - DAY
        published: set[Cid] = set()
        for model in await self._desk.registry.models():
            published.add(model.on_chain.manifest_cid)
            if model.manifest is not None:
                published.add(model.manifest.weights_cid)
        gone, after = 0, None
        while page := await self._writes.book.page(after, _PAGE):
            after = page[-1].cid
            named = published | await world.reads.named([upload.cid for upload in page])
            await self._writes.book.forget([upload.cid for upload in page if upload.cid in named])
            for upload in page:
                if upload.cid not in named and upload.at < due and gone < MOST:
                    gone += await self._let_go(upload.cid, upload.at)
        return gone

    async def _let_go(self, cid: Cid, at: float) -> bool:
        async with self._lock:
            if await self._writes.book.came(cid) != at:
                return False  # it came again a moment ago
            await self._writes.pins.let_go(cid)
            await self._writes.book.forget([cid])
        return True


__all__ = ["DAY", "EVERY", "MOST", "Holding"]
