"""Intake: a confirmed request's picture is fetched, verified, checked and spooled, or it fails for a reason."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Mapping

from oracle.domain import FailureReason, RequestStatus
from oracle.errors import PermanentFailure, Retryable
from oracle.pipeline.duty import Bell, backoff
from oracle.pipeline.models import ModelCatalogue
from oracle.ports import Clock, ContentStore, ImageInspector, Move, RequestRow, RequestStore, Spool
from oracle.telemetry import logger, short

log = logger("intake")

PAGE = 4  # rows read ahead, in multiples of the concurrency
LOOK = 0.05  # seconds until the next look while a place is free
FIRST_TIMEOUT = 5.0  # seconds for the first try of a fetch; each further try may take twice as long


class Intake:
    """CONFIRMED -> READY or FAILED, many at once; a slow picture never holds up the others.

    Requests that were tried before share half of the places, and the first try is short, so that a flood of CIDs which
    nobody has cannot keep the others waiting for long.
    """

    name = "intake"

    def __init__(
        self,
        *,
        store: RequestStore,
        content: ContentStore,
        inspector: ImageInspector,
        spool: Spool,
        models: ModelCatalogue,
        clock: Clock,
        bell: Bell,
        downstream: Bell,
        failures: Bell,
        concurrency: int,
        max_bytes: int,
        timeout: float,
        margin: float,
    ) -> None:
        self.bell = bell
        self._store, self._content, self._inspector, self._spool = store, content, inspector, spool
        self._models, self._clock, self._downstream, self._failures = models, clock, downstream, failures
        self._concurrency, self._max_bytes, self._timeout, self._margin = concurrency, max_bytes, timeout, margin
        self._running: dict[bytes, asyncio.Task[Move]] = {}
        self._waiting: deque[RequestRow] = deque()
        self.coming: Mapping[int, int] = {}  # requests of each model between CONFIRMED and READY, at the last look

    async def step(self) -> bool:
        """Start what there is room for, wait for the first to end, commit all that ended in one transaction."""
        if len(self._waiting) < self._concurrency:
            await self._look()
        while self._waiting and len(self._running) < self._concurrency:
            row = self._waiting.popleft()
            self._running[row.request_id] = asyncio.create_task(self._take(row))
        if not self._running:
            return False
        # While a place is free, new requests must not wait for a slow picture: look again soon.
        room = len(self._running) < self._concurrency
        done, _ = await asyncio.wait(
            self._running.values(), return_when=asyncio.FIRST_COMPLETED, timeout=LOOK if room else None
        )
        moves = [task.result() for task in done]
        if moves:
            await self._store.move(moves, expected=[RequestStatus.CONFIRMED])
            for move in moves:
                del self._running[move.request_id]
            self._downstream.ring()
            if any(move.to is RequestStatus.FAILED for move in moves):
                self._failures.ring()
        return True

    async def _look(self) -> None:
        now, states = self._clock.now(), [RequestStatus.CONFIRMED]
        fresh = await self._store.select(states, due=now, tried=False, limit=PAGE * self._concurrency)
        again = await self._store.select(states, due=now, tried=True, limit=max(1, self._concurrency // 2))
        self._waiting = deque(row for row in (*again, *fresh) if row.request_id not in self._running)
        # Only what comes for the first time is company worth waiting for.
        self.coming = Counter(row.request.model_id for row in fresh)

    async def close(self) -> None:
        """Stop what is running; its requests are still CONFIRMED and will be taken again."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()
        self._waiting.clear()

    async def _take(self, row: RequestRow) -> Move:
        blame = FailureReason.MODEL_UNAVAILABLE
        try:
            await self._models.resolve(row.request.model_id)
            blame = FailureReason.IMAGE_UNAVAILABLE
            slack = row.request.deadline - self._margin - self._clock.now()
            if slack <= 0:
                raise PermanentFailure("too little time was left before the deadline", reason=blame)
            cid = row.request.image_cid
            timeout = min(self._timeout, FIRST_TIMEOUT * 2.0**row.attempts, slack)
            data = await self._content.fetch(cid, limit=self._max_bytes, timeout=timeout)
            facts = await self._inspector.inspect(data)
            await self._spool.put(cid, data)
            return Move(row.request_id, RequestStatus.READY, image=facts, attempts=0, not_before=0.0)
        except PermanentFailure as error:
            log.info("request %s fails: %s", short(row.request_id), error)
            return _failed(row, error.reason, error)
        except Exception as error:
            # One request's trouble, foreseen (Retryable) or not, must not end the stage for the others.
            if not isinstance(error, Retryable):
                log.exception("request %s met an error of ours", short(row.request_id))
            attempts = row.attempts + 1
            again = self._clock.now() + backoff(attempts)
            if again >= row.request.deadline - self._margin:
                return _failed(row, blame, error)
            log.info("request %s waits for another try: %s", short(row.request_id), error)
            return Move(row.request_id, RequestStatus.CONFIRMED, attempts=attempts, not_before=again, detail=str(error))


def _failed(row: RequestRow, reason: FailureReason, error: Exception) -> Move:
    return Move(row.request_id, RequestStatus.FAILED, failure=reason, detail=str(error), attempts=0, not_before=0.0)
