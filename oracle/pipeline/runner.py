"""The runner: closed batches go to the compute backend, their results are pinned, the answers wait for a report."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from oracle.domain import Cid, ComputeTask, FailureReason, RequestStatus, ServableModel, TaskInput, TaskResult
from oracle.errors import ComputeError, ContentError, MalformedResult, PermanentFailure, Retryable, SibylError
from oracle.pipeline.batcher import BatchLimits, PlannedBatch, plan_batches
from oracle.pipeline.duty import Bell, backoff
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.results import compact_answer, result_document
from oracle.ports import Clock, ComputeBackend, ContentStore, Move, RequestRow, RequestStore, Spool
from oracle.telemetry import logger, short

log = logger("runner")

PIN_TRIES = 5
RECOVERY = 10.0  # seconds between two looks for batches that nobody follows


class Runner:
    """READY -> COMPUTING -> COMPUTED or FAILED, one asyncio task for each batch in flight."""

    name = "runner"

    def __init__(
        self,
        *,
        store: RequestStore,
        backend: ComputeBackend,
        content: ContentStore,
        spool: Spool,
        models: ModelCatalogue,
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
        self._downstream, self._upstream = downstream, upstream
        self._timeout, self._margin, self._max_attempts = timeout, margin, max_attempts
        self._running: dict[str, asyncio.Task[None]] = {}
        self._idle_since: float | None = None
        self._recovered = time.monotonic()

    async def recover(self) -> None:
        """Take up batches that nobody here follows: after a start, or when following one ended in an error of ours.

        What the backend still holds is followed; the members of the others go back to READY.
        """
        self._recovered = time.monotonic()
        batches = {k: rows for k, rows in (await self._store.open_batches()).items() if k not in self._running}
        held = set(await self._backend.recover(list(batches))) if batches else set()
        for key, rows in batches.items():
            if key in held:
                self._running[key] = asyncio.create_task(self._follow(key, rows))
            else:
                await self._send_back(rows, "its batch was interrupted", counted=False)

    async def step(self) -> bool:
        """Start the batches that the rules close now. One more than the slots, so that a worker never waits for us."""
        self._forget_ended()
        if time.monotonic() - self._recovered >= RECOVERY:
            await self.recover()
        slots = self._backend.capabilities().slots
        room = slots + 1 - len(self._running)
        if room <= 0:
            return False
        ready = await self._store.select(
            [RequestStatus.READY], due=self._clock.now(), limit=2 * self._limits.items * (slots + 1)
        )
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
                log.error("batch %s met an error of ours; it is taken up again", key[:8], exc_info=error)

    async def close(self) -> None:
        """Stop following; the batches stay COMPUTING in the store and are recovered at the next start."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()

    async def _start(self, batch: PlannedBatch) -> None:
        lost = [row for row in batch.rows if self._spool.path(row.request.image_cid) is None]
        if lost:
            await self._store.move(
                [Move(row.request_id, RequestStatus.CONFIRMED, detail="spooled bytes are gone") for row in lost],
                expected=[RequestStatus.READY],
            )
            self._upstream.ring()
        key = uuid.uuid4().hex
        taken = set(await self._store.open_batch(key, [row.request_id for row in batch.rows if row not in lost]))
        rows = [row for row in batch.rows if row.request_id in taken]
        if rows:
            log.debug("batch %s closes", key[:8], extra={"items": len(rows), "cause": batch.cause})
            self._running[key] = asyncio.create_task(self._run(key, rows))

    async def _run(self, key: str, rows: Sequence[RequestRow]) -> None:
        try:
            model = await self._models.resolve(rows[0].request.model_id)
            task = self._task(key, rows, model)
            await self._backend.submit(task)
        except PermanentFailure as error:
            await self._fail(rows, error.reason, str(error))
            self.bell.ring()
        except SibylError as error:
            await self._send_back(rows, str(error))
        else:
            await self._follow(key, rows)

    async def _follow(self, key: str, rows: Sequence[RequestRow]) -> None:
        try:
            model = await self._models.resolve(rows[0].request.model_id)
            result = await self._backend.collect(key)
            await self._pin(rows, result, model)
        except PermanentFailure as error:
            await self._fail(rows, error.reason, str(error))
            await self._backend.settle(key, accepted=False)
        except (ComputeError, ContentError, Retryable) as error:
            await self._send_back(rows, str(error))
            await self._backend.cancel(key)
            await self._backend.settle(key, accepted=False)
        else:
            await self._backend.settle(key, accepted=True)
        finally:
            self.bell.ring()

    def _task(self, key: str, rows: Sequence[RequestRow], model: ServableModel) -> ComputeTask:
        inputs = []
        for row in rows:
            path = self._spool.path(row.request.image_cid)
            if path is None or row.image is None:
                raise MalformedResult(f"the picture of {short(row.request_id)} left the spool")
            inputs.append(TaskInput(row.request_id, row.request.image_cid, path, row.image.size))
        urgent = min(row.request.deadline for row in rows) - self._margin - self._clock.now()
        return ComputeTask(key, model, tuple(inputs), deadline=time.time() + min(self._timeout, max(1.0, urgent)))

    async def _pin(self, rows: Sequence[RequestRow], result: TaskResult, model: ServableModel) -> None:
        if [item.request_id for item in result.items] != [row.request_id for row in rows]:
            raise MalformedResult("the result's items are not the task's inputs")
        inputs = self._task(result.key, rows, model).inputs
        answered = [
            (item, source)
            for item, source in zip(result.items, inputs, strict=True)
            if item.failure is FailureReason.NONE
        ]
        documents = [result_document(item, source, result, model) for item, source in answered]
        cids = iter(await self._add(documents) if documents else ())
        moves = []
        for item in result.items:
            if item.failure is FailureReason.NONE:
                moves.append(
                    Move(
                        item.request_id,
                        RequestStatus.COMPUTED,
                        failure=FailureReason.NONE,
                        result_cid=next(cids),
                        answer=compact_answer(item),
                        provider=result.provider,
                        attempts=0,
                        not_before=0.0,
                    )
                )
            else:
                moves.append(_failed(item.request_id, item.failure, item.detail))
        await self._store.move(moves, expected=[RequestStatus.COMPUTING])
        self._downstream.ring()

    async def _add(self, documents: Sequence[bytes]) -> Sequence[Cid]:
        for attempt in range(1, PIN_TRIES):
            try:
                return await self._content.add(documents)
            except Retryable as error:
                log.warning("results are not pinned yet: %s", error)
                await self._clock.sleep(backoff(attempt))
        return await self._content.add(documents)

    async def _fail(self, rows: Sequence[RequestRow], reason: FailureReason, detail: str) -> None:
        await self._store.move(
            [_failed(row.request_id, reason, detail) for row in rows],
            expected=[RequestStatus.COMPUTING],
        )
        self._downstream.ring()

    async def _send_back(self, rows: Sequence[RequestRow], detail: str, *, counted: bool = True) -> None:
        moves = []
        for row in rows:
            attempts = row.attempts + 1 if counted else row.attempts
            again = self._clock.now() + (backoff(attempts) if counted else 0.0)
            if attempts >= self._max_attempts or again >= row.request.deadline - self._margin:
                moves.append(_failed(row.request_id, FailureReason.COMPUTE_FAILED, detail))
            else:
                moves.append(
                    Move(row.request_id, RequestStatus.READY, attempts=attempts, not_before=again, detail=detail)
                )
        log.warning("%d requests go back: %s", len(rows), detail)
        await self._store.move(moves, expected=[RequestStatus.COMPUTING])
        self._downstream.ring()


def _failed(request_id: bytes, reason: FailureReason, detail: str) -> Move:
    return Move(request_id, RequestStatus.FAILED, failure=reason, detail=detail, attempts=0, not_before=0.0)
