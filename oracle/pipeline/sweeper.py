"""The duty that clears the spools of what was left behind: pictures of requests that ended, weights nobody asks for."""

from __future__ import annotations

import time

from oracle.domain import RequestStatus
from oracle.pipeline.duty import Bell
from oracle.pipeline.models import ModelCatalogue
from oracle.ports import RequestStore, Spool
from oracle.telemetry import logger

log = logger("sweeper")

EVERY = 300.0  # seconds between two sweeps of the pictures
YOUNG = 600.0  # seconds that a picture stays at least: it is spooled before its request is known to need it
DAY = 86_400.0  # seconds after which weights that nobody asks for go

NEEDING = (RequestStatus.CONFIRMED, RequestStatus.READY, RequestStatus.COMPUTING)


class Sweeper:
    """Settled requests' pictures go at once; this is for requests that expired, were orphaned or ended elsewhere."""

    name = "sweeper"

    def __init__(self, *, store: RequestStore, spool: Spool, models: ModelCatalogue) -> None:
        self.bell = Bell()
        self._store, self._spool, self._models = store, spool, models
        self._models_swept = time.monotonic()

    async def step(self) -> bool:
        """One sweep."""
        # First what lies there, then who needs it: a picture that comes meanwhile is not on the list.
        lying = await self._spool.cids(older_than=YOUNG)
        if lying:
            needed = {row.request.image_cid for row in await self._store.select(NEEDING)}
            spent = [cid for cid in lying if cid not in needed]
            await self._spool.discard(spent)
            if spent:
                log.info("%d files that no request needs were removed from the spool", len(spent))
        if time.monotonic() - self._models_swept >= DAY:
            self._models_swept = time.monotonic()
            await self._models.sweep(older_than=DAY)
        return False
