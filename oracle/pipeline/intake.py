"""Intake: a confirmed request's picture is fetched, verified, checked and spooled, or it fails for a reason."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Mapping

from oracle.domain import FailureReason, RequestStatus
from oracle.errors import PermanentFailure, Retryable
from oracle.pipeline.commit import commit
from oracle.pipeline.duty import MOST_DOUBLINGS, Bell, backoff
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.worth import Worth
from oracle.ports import Clock, ContentStore, ImageInspector, Move, RequestRow, RequestStore, Spool
from oracle.telemetry import logger, short

log = logger("intake")

PAGE = 4  # untried rows read ahead, in multiples of the concurrency
TRIED_PAGE = 1024  # rows that are due again, read once a second
TRIED_LOOK = 1.0
LOOK = 0.05  # seconds until the next look while a place is free
FIRST_TIMEOUT = 5.0  # seconds for the first try of a fetch; each further try may take twice as long
REST = 30.0  # seconds that a request is left alone after an error of ours kept its move from the store
CONFIRMED = RequestStatus.CONFIRMED


class Intake:
    """CONFIRMED -> READY or FAILED, many at once; a slow picture never holds up the others. A request that was paid in
    a token without a price stays CONFIRMED until its deadline refunds it.

    Requests that were tried before share half of the places, one requester's a quarter, and the first try is short, so
    that a flood of CIDs which nobody has cannot keep the others waiting for long. ``concurrency`` places are used, or
    fewer where so many pictures of ``max_bytes`` would take more than ``budget`` bytes of memory.
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
        worth: Worth,
        clock: Clock,
        bell: Bell,
        downstream: Bell,
        failures: Bell,
        concurrency: int,
        max_bytes: int,
        timeout: float,
        margin: float,
        budget: int = 256 * 1024 * 1024,
    ) -> None:
        self.bell = bell
        self._store, self._content, self._inspector, self._spool = store, content, inspector, spool
        self._models, self._worth, self._clock = models, worth, clock
        self._downstream, self._failures = downstream, failures
        self._places = max(1, min(concurrency, budget // max_bytes))
        self._max_bytes, self._timeout, self._margin = max_bytes, timeout, margin
        self._running: dict[bytes, tuple[RequestRow, asyncio.Task[Move]]] = {}
        self._fresh: deque[RequestRow] = deque()
        self._tried: list[RequestRow] = []  # least recently due first
        self._looked: float | None = None  # when ``_tried`` was read
        self._resting: dict[bytes, float] = {}  # until when a request is left alone
        self.coming: Mapping[int, int] = {}  # requests of each model between CONFIRMED and READY, at the last look

    async def step(self) -> bool:
        """Start what there is room for, wait for the first to end, commit all that ended in one transaction."""
        await self._look()
        while len(self._running) < self._places and (row := self._next()) is not None:
            self._running[row.request_id] = (row, asyncio.create_task(self._take(row)))
        if not self._running:
            return False
        # While a place is free, new requests must not wait for a slow picture: look again soon.
        room = len(self._running) < self._places
        await asyncio.wait(
            [task for _, task in self._running.values()],
            return_when=asyncio.FIRST_COMPLETED,
            timeout=LOOK if room else None,
        )
        moves = self._ended()
        if moves:
            for move in await commit(self._store, moves, expected=[CONFIRMED]):
                self._rest(move.request_id)
            self._downstream.ring()
            if any(move.to is RequestStatus.FAILED for move in moves):
                self._failures.ring()
        return True

    def _ended(self) -> list[Move]:
        """The moves of the requests whose tasks ended; their places are free, whatever became of them."""
        moves = []
        for request_id in [key for key, (_, task) in self._running.items() if task.done()]:
            _, task = self._running.pop(request_id)
            try:
                moves.append(task.result())
            except (Exception, asyncio.CancelledError):
                log.exception("request %s met an error of ours", short(request_id))
                self._rest(request_id)
        return moves

    def _rest(self, request_id: bytes) -> None:
        self._resting[request_id] = self._clock.now() + REST

    def _next(self) -> RequestRow | None:
        """The row to start now: a tried one as long as they hold less than half of the places, else a new one."""
        tried = Counter(row.request.requester for row, _ in self._running.values() if row.attempts)
        if tried.total() < max(1, self._places // 2):
            share = max(2, self._places // 4)
            candidates = [row for row in self._tried if tried[row.request.requester] < share]
            # The requester who holds the fewest places comes first, then whoever has been due for longest.
            chosen = min(candidates, key=lambda row: tried[row.request.requester], default=None)
            if chosen is not None:
                self._tried.remove(chosen)
                return chosen
        return self._fresh.popleft() if self._fresh else None

    async def _look(self) -> None:
        now = self._clock.now()
        self._resting = {key: until for key, until in self._resting.items() if now < until <= now + REST}
        if not self._tried or self._looked is None or not 0 <= now - self._looked < TRIED_LOOK:
            self._looked = now
            due = self._idle(await self._store.select([CONFIRMED], due=now, tried=True, limit=TRIED_PAGE))
            self._tried = sorted(due, key=lambda row: row.not_before)
        if len(self._fresh) < self._places:
            limit = PAGE * self._places + len(self._resting)
            fresh = await self._store.select([CONFIRMED], due=now, tried=False, limit=limit)
            self._fresh = deque(self._idle(fresh))
            # Only what comes for the first time is company worth waiting for.
            self.coming = Counter(row.request.model_id for row in fresh if row.request_id not in self._resting)

    def _idle(self, rows: Iterable[RequestRow]) -> list[RequestRow]:
        return [row for row in rows if row.request_id not in self._running and row.request_id not in self._resting]

    async def close(self) -> None:
        """Stop what is running; its requests are still CONFIRMED and will be taken again."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()
        self._fresh.clear()
        self._tried.clear()

    async def _take(self, row: RequestRow) -> Move:
        blame = FailureReason.MODEL_UNAVAILABLE
        try:
            if await self._worth.of(row.request) is None:
                # Not due again before its deadline, when its money goes back.
                left = "paid in a token that has no price here (SIBYL_TOKEN_PRICES); left to its refund"
                return Move(row.request_id, CONFIRMED, not_before=float(row.request.deadline), detail=left)
            await self._models.resolve(row.request.model_id)
            blame = FailureReason.IMAGE_UNAVAILABLE
            slack = row.request.deadline - self._margin - self._clock.now()
            if slack <= 0:
                raise PermanentFailure(_late(row), reason=blame)
            cid = row.request.image_cid
            timeout = min(self._timeout, FIRST_TIMEOUT * 2.0 ** min(row.attempts, MOST_DOUBLINGS), slack)
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
            now, end = self._clock.now(), row.request.deadline - self._margin
            again = now + backoff(attempts)
            if again >= end:
                # The last try comes in time to end before the deadline, however long the backoff has grown.
                again = end - FIRST_TIMEOUT
                if again <= now:
                    return _failed(row, blame, error)
            log.info("request %s waits for another try: %s", short(row.request_id), error)
            return Move(row.request_id, CONFIRMED, attempts=attempts, not_before=again, detail=str(error))


def _late(row: RequestRow) -> str:
    if not row.attempts:
        return "not taken in before its deadline came near: the oracle's queue was too long, or it was asked too late"
    return f"not taken in before its deadline came near, after {row.attempts} tries; the last: {row.detail}"


def _failed(row: RequestRow, reason: FailureReason, error: Exception) -> Move:
    return Move(row.request_id, RequestStatus.FAILED, failure=reason, detail=str(error), attempts=0, not_before=0.0)
