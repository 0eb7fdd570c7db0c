"""The runner: closed batches go to the compute backend, their results are pinned, the answers wait for a report."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from oracle.domain import (
    Cid,
    ComputeTask,
    FailureReason,
    ItemResult,
    RequestStatus,
    ServableModel,
    TaskInput,
    TaskResult,
)
from oracle.errors import (
    BudgetExhausted,
    ComputeError,
    ContentError,
    MalformedResult,
    PermanentFailure,
    Retryable,
    SibylError,
)
from oracle.pipeline.batcher import BatchLimits, PlannedBatch, plan_batches
from oracle.pipeline.commit import commit
from oracle.pipeline.duty import Bell, backoff
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.results import compact_answer, outcome_of, result_document
from oracle.ports import Clock, ComputeBackend, ContentStore, Illustrator, Move, RequestRow, RequestStore, Spool, Wishes
from oracle.telemetry import logger, short

log = logger("runner")

MODEL_PAUSE = 2.0  # seconds before requests ask again for a model that is still being fetched
RECOVERY = 10.0  # seconds between two looks for batches that nobody follows
LONGEST_PAUSE = 30.0  # seconds between two tries to pin a result
WRITE_TRIES = 4
DRAWING = 20.0  # seconds for the drawings of a batch at most
READY = RequestStatus.READY

Work = Callable[[str, Sequence[RequestRow]], Awaitable[None]]


class Runner:
    """READY -> COMPUTING -> COMPUTED or FAILED, one asyncio task for each batch in flight."""

    name = "runner"

    def __init__(
        self,
        *,
        store: RequestStore,
        backend: ComputeBackend,
        content: ContentStore,
        illustrator: Illustrator | None,
        spool: Spool,
        models: ModelCatalogue,
        wishes: Wishes,
        clock: Clock,
        bell: Bell,
        downstream: Bell,
        upstream: Bell,
        coming: Callable[[], Mapping[int, int]],
        limits: BatchLimits,
        timeout: float,
        margin: float,
        max_attempts: int,
    ) -> None:
        self.bell = bell
        self._store, self._backend, self._content, self._spool = store, backend, content, spool
        self._models, self._clock, self._coming, self._limits = models, clock, coming, limits
        self._wishes, self._illustrator = wishes, illustrator
        self._downstream, self._upstream = downstream, upstream
        self._timeout, self._margin, self._max_attempts = timeout, margin, max_attempts
        self._running: dict[str, asyncio.Task[None]] = {}
        self._idle_since: float | None = None
        self._recovered = time.monotonic()

    async def recover(self) -> None:
        """At the start: follow what the backend still holds; the members of other batches go back to READY."""
        self._recovered = time.monotonic()
        batches = await self._strays()
        held = set(await self._backend.recover(list(batches))) if batches else set()
        for key, rows in batches.items():
            if key in held:
                self._follow_in_background(key, rows, self._resume)
            else:
                await self._send_back(rows, "its batch was interrupted", counted=False)

    async def _strays(self) -> dict[str, Sequence[RequestRow]]:
        batches = await self._store.open_batches()
        return {key: rows for key, rows in batches.items() if key not in self._running}

    async def _give_up_strays(self) -> None:
        """Batches that nobody follows although this process started them: an error of ours ended the following, and
        another kept its members from going back. They are not followed again, for the error might come again.
        """
        self._recovered = time.monotonic()
        for key, rows in (await self._strays()).items():
            await self._give_up(key, rows, "an error of the oracle's own interrupted its batch")

    async def step(self) -> bool:
        """Start the batches that the rules close now. One more than the slots, so that a worker never waits for us."""
        self._forget_ended()
        if time.monotonic() - self._recovered >= RECOVERY:
            await self._give_up_strays()
        slots = self._backend.capabilities().slots
        room = slots + 1 - len(self._running)
        if room <= 0:
            return False
        ready = await self._store.select([READY], due=self._clock.now(), limit=2 * self._limits.items * (slots + 1))
        idle = len(self._running) < slots
        if not ready or not idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()
        planned = plan_batches(
            ready,
            now=self._clock.now(),
            slots=room,
            idle=idle,
            coming=self._coming(),
            waited=0.0 if self._idle_since is None else time.monotonic() - self._idle_since,
            limits=self._limits,
        )
        for batch in planned:
            await self._start(batch)
        if planned:
            self._idle_since = None
        elif ready and idle:
            await asyncio.sleep(min(0.01, self._limits.linger))
            return True
        return bool(planned)

    def _forget_ended(self) -> None:
        for key in [key for key, task in self._running.items() if task.done()]:
            error = self._running.pop(key).exception()
            if error is not None:
                log.error("batch %s met an error of ours; it is given up soon", key[:8], exc_info=error)

    async def close(self) -> None:
        """Stop following; the batches stay COMPUTING in the store and are recovered at the next start."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()

    async def _start(self, batch: PlannedBatch) -> None:
        late = [row for row in batch.rows if self._slack(row) <= 0]
        await self._fail(late, FailureReason.COMPUTE_FAILED, "not run before its deadline came near", READY)
        lost = [row for row in batch.rows if row not in late and self._spool.path(row.request.image_cid) is None]
        if lost:
            back = [Move(row.request_id, RequestStatus.CONFIRMED, detail="spooled bytes are gone") for row in lost]
            await commit(self._store, back, expected=[READY])
            self._upstream.ring()
        kept = [row for row in batch.rows if row not in late and row not in lost]
        wanted = await self._wishes.of(row.request for row in kept)
        for row in [row for row in kept if row.request_id in wanted]:
            # Alone: its neighbours have no such wish.
            await self._open([row], "wish", wanted[row.request_id])
        await self._open([row for row in kept if row.request_id not in wanted], batch.cause, "")

    async def _open(self, kept: Sequence[RequestRow], cause: str, provider: str) -> None:
        key = uuid.uuid4().hex
        taken = set(await self._store.open_batch(key, [row.request_id for row in kept])) if kept else set()
        rows = [row for row in kept if row.request_id in taken]
        if rows:
            log.debug("batch %s closes", key[:8], extra={"items": len(rows), "cause": cause})
            self._follow_in_background(key, rows, partial(self._run, provider=provider))

    def _follow_in_background(self, key: str, rows: Sequence[RequestRow], work: Work) -> None:
        self._running[key] = asyncio.create_task(self._guard(key, rows, work))

    async def _guard(self, key: str, rows: Sequence[RequestRow], work: Work) -> None:
        try:
            await work(key, rows)
        except Exception as error:
            # It may be one member's doing, so they run alone from now on, and the error counts as an attempt.
            log.exception("batch %s met an error of ours", key[:8])
            await self._give_up(key, rows, f"an error of the oracle's own: {type(error).__name__}: {error}")
        finally:
            self.bell.ring()

    async def _give_up(self, key: str, rows: Sequence[RequestRow], detail: str) -> None:
        await self._send_back(rows, detail)
        await self._backend.cancel(key)
        await self._backend.settle(key, accepted=False)

    async def _run(self, key: str, rows: Sequence[RequestRow], *, provider: str) -> None:
        try:
            model = await self._models.resolve(rows[0].request.model_id)
        except PermanentFailure as error:
            await self._fail(rows, error.reason, str(error))
            return
        except Retryable as error:
            # A model that is still on its way is no fault of the requests.
            await self._send_back(rows, f"its model is not here yet: {error}", counted=False, pause=MODEL_PAUSE)
            return
        try:
            await self._backend.submit(self._task(key, rows, model, provider))
        except PermanentFailure as error:
            await self._fail(rows, error.reason, str(error))
        except BudgetExhausted as error:
            # Money that comes back with time is no fault of the requests.
            await self._send_back(rows, str(error), counted=False, pause=LONGEST_PAUSE)
        except SibylError as error:
            await self._send_back(rows, str(error))
        else:
            await self._follow(key, rows, model)

    async def _resume(self, key: str, rows: Sequence[RequestRow]) -> None:
        """Follow a batch of an earlier process; while its model cannot be resolved, the finished work is kept."""
        attempt = 0
        while True:
            try:
                model = await self._models.resolve(rows[0].request.model_id)
            except PermanentFailure as error:
                await self._fail(rows, error.reason, str(error))
                await self._backend.settle(key, accepted=False)
                return
            except Retryable as error:
                attempt += 1
                log.warning("batch %s waits for its model: %s", key[:8], error)
                rows = await self._wait(rows, attempt, f"its model was not to be had in time: {error}")
                if not rows:
                    await self._backend.settle(key, accepted=False)
                    return
            else:
                await self._follow(key, rows, model)
                return

    async def _follow(self, key: str, rows: Sequence[RequestRow], model: ServableModel) -> None:
        try:
            result = await self._backend.collect(key)
            await self._pin(rows, result, model)
        except PermanentFailure as error:
            await self._fail(rows, error.reason, str(error))
            await self._backend.settle(key, accepted=False)
        except (ComputeError, ContentError, Retryable) as error:
            await self._give_up(key, rows, str(error))
        else:
            await self._backend.settle(key, accepted=True)

    def _slack(self, row: RequestRow) -> float:
        return row.request.deadline - self._margin - self._clock.now()

    async def _wait(self, rows: Sequence[RequestRow], attempt: int, detail: str) -> Sequence[RequestRow]:
        """Back off before another try for these rows; those whose time is up fail, and the others are returned."""
        slack = max(self._slack(row) for row in rows)
        if slack > 0:
            await self._clock.sleep(min(backoff(attempt, longest=LONGEST_PAUSE), slack))
        late = [row for row in rows if self._slack(row) <= 0]
        await self._fail(late, FailureReason.COMPUTE_FAILED, detail)
        return [row for row in rows if row not in late]

    def _task(self, key: str, rows: Sequence[RequestRow], model: ServableModel, provider: str) -> ComputeTask:
        inputs = []
        for row in rows:
            path = self._spool.path(row.request.image_cid)
            if path is None or row.image is None:
                raise MalformedResult(f"the picture of {short(row.request_id)} left the spool")
            inputs.append(TaskInput(row.request_id, row.request.image_cid, path, row.image.size))
        # The time of the last: one member's near deadline must not cost its neighbours their results, nor a provider
        # its standing. What comes too late for the first is late for that one alone.
        left = max(self._slack(row) for row in rows)
        deadline = time.time() + min(self._timeout, max(1.0, left))
        return ComputeTask(key, model, tuple(inputs), deadline, provider=provider)

    async def _pin(self, rows: Sequence[RequestRow], result: TaskResult, model: ServableModel) -> None:
        items = {item.request_id: item for item in result.items}
        # A batch taken up after a restart may have lost members since; a result has one item for each that is left.
        if len(items) != len(result.items) or any(row.request_id not in items for row in rows):
            raise MalformedResult("the result's items are not the task's inputs")
        if any(
            row.image is not None and items[row.request_id].size not in (None, (row.image.width, row.image.height))
            for row in rows
        ):
            raise MalformedResult("a result speaks of a picture of another size")
        computed = [row for row in rows if items[row.request_id].failure is FailureReason.NONE]
        await self._commit(
            [
                _failed(row.request_id, items[row.request_id].failure, items[row.request_id].detail)
                for row in rows
                if row not in computed
            ]
        )
        drawn = await self._drawn(computed, items, model)
        answered: list[tuple[RequestRow, bytes, bytes]] = []
        odd: list[RequestRow] = []
        for row, files in zip(computed, drawn, strict=True):
            item = items[row.request_id]
            try:
                answered.append((row, result_document(item, _source(row), result, model, files), compact_answer(item)))
            except Exception:
                # What cannot be written down for one member must not take the others' results with it.
                log.exception("request %s: its result cannot be written down", short(row.request_id))
                odd.append(row)
        cids = await self._add([row for row, _, _ in answered], [document for _, document, _ in answered])
        moves = [
            Move(
                row.request_id,
                RequestStatus.COMPUTED,
                failure=FailureReason.NONE,
                result_cid=cid,
                answer=answer,
                provider=result.provider,
                attempts=0,
                not_before=0.0,
            )
            for (row, _, answer), cid in zip(answered, cids, strict=bool(cids))
        ]
        await self._commit(moves)
        if odd:
            await self._send_back(odd, "its result cannot be written down")

    async def _drawn(
        self, rows: Sequence[RequestRow], items: Mapping[bytes, ItemResult], model: ServableModel
    ) -> Sequence[Mapping[str, tuple[Cid, int]]]:
        """The drawings of each row's result, pinned: CID and bytes by name.

        They have one try and a share of the time that is left; results are posted without rather than late.
        """
        pinned: list[dict[str, tuple[Cid, int]]] = [{} for _ in rows]
        patience = min([DRAWING, *(self._slack(row) / 4 for row in rows)])
        try:
            async with asyncio.timeout(patience):
                tasks = [self._draw(row, items[row.request_id], model.manifest.task) for row in rows]
                drawings = await asyncio.gather(*tasks)
                names = [(place, name) for place, files in enumerate(drawings) for name in files]
                cids = await self._content.add([drawings[place][name] for place, name in names]) if names else ()
        except (TimeoutError, Retryable, ContentError) as error:
            log.warning("results are posted without drawings: %s", error or f"{patience:.0f} s were not enough")
            return pinned
        for (place, name), cid in zip(names, cids, strict=True):
            pinned[place][name] = cid, len(drawings[place][name])
        return pinned

    async def _draw(self, row: RequestRow, item: ItemResult, task: str) -> Mapping[str, bytes]:
        path = self._spool.path(row.request.image_cid)
        if self._illustrator is None or path is None:
            return {}
        try:
            picture = await asyncio.to_thread(path.read_bytes) if item.size else b""
        except OSError:
            return {}  # no longer needed, and gone
        return await self._illustrator.draw(outcome_of(item, task), picture)

    async def _add(self, rows: Sequence[RequestRow], documents: Sequence[bytes]) -> Sequence[Cid]:
        """Pin the results, for as long as one of the rows has time: they are paid for, and the content store's trouble
        is no failed attempt to compute them. Empty when every row's time was up.
        """
        attempt = 0
        while rows:
            try:
                return await self._content.add(documents)
            except Retryable as error:
                attempt += 1
                log.warning("results are not pinned yet: %s", error)
                rows = await self._wait(rows, attempt, f"its result could not be pinned in time: {error}")
        return ()

    async def _commit(self, moves: Sequence[Move], standing: RequestStatus = RequestStatus.COMPUTING) -> None:
        left = list(moves)
        for attempt in range(1, WRITE_TRIES + 1):
            if left and attempt > 1:
                await self._clock.sleep(backoff(attempt))  # a store in trouble must not cost finished work
            left = await commit(self._store, left, expected=[standing])
        if moves:
            self._downstream.ring()

    async def _fail(
        self,
        rows: Sequence[RequestRow],
        reason: FailureReason,
        detail: str,
        standing: RequestStatus = RequestStatus.COMPUTING,
    ) -> None:
        await self._commit([_failed(row.request_id, reason, detail) for row in rows], standing)

    async def _send_back(
        self, rows: Sequence[RequestRow], detail: str, *, counted: bool = True, pause: float = 0.0
    ) -> None:
        moves = []
        for row in rows:
            attempts = row.attempts + 1 if counted else row.attempts
            again = self._clock.now() + (backoff(attempts) if counted else pause)
            if attempts >= self._max_attempts or again >= row.request.deadline - self._margin:
                moves.append(_failed(row.request_id, FailureReason.COMPUTE_FAILED, detail))
            else:
                moves.append(
                    Move(row.request_id, RequestStatus.READY, attempts=attempts, not_before=again, detail=detail)
                )
        log.warning("%d requests go back: %s", len(rows), detail)
        await self._commit(moves)


def _source(row: RequestRow) -> TaskInput:
    """What a result says of its input; the picture itself is not needed any more, and may be gone."""
    return TaskInput(row.request_id, row.request.image_cid, Path(), row.image.size if row.image else 0)


def _failed(request_id: bytes, reason: FailureReason, detail: str) -> Move:
    return Move(request_id, RequestStatus.FAILED, failure=reason, detail=detail, attempts=0, not_before=0.0)
