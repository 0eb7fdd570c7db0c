"""Warm workers: agreements and loaded models that stay between tasks.

yapapi hands out *tasks*; ours are leases. One endless task is one worker that we keep: inside it the worker takes one
batch after the other from our own queue, so that which provider does what, and what a lost one costs, is ours to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import yapapi
from yapapi import events
from yapapi.payload import vm
from yapapi.payload.package import Package
from yapapi.rest.activity import BatchError, BatchTimeoutError, CommandExecutionError
from yapapi.script import Script

from oracle.compute.book import TaskRecord
from oracle.compute.golem.market import Market, read_price
from oracle.compute.golem.package import ImagePackage
from oracle.compute.golem.payments import Paymaster
from oracle.compute.golem.terms import GolemTerms, Image
from oracle.market import Agreement, Price, Verdict
from oracle.telemetry import logger
from provider_images.runtime.job import JOB_FILE, MAX_RESULT_BYTES, Job, JobError, JobInput, JobModel
from provider_images.runtime.task import pack_task

log = logger("golem")

WORK = "/golem/work"
PYTHON = "/usr/bin/python3"
RUNTIME = (PYTHON, "-m", "provider_images.runtime")
_SPARE = 1  # workers wanted beyond those needed, for a failed one's place is given free late
_LAST_MINUTES = 330.0  # seconds before a job's end in which providers make no agreement
_MODEL_REFUSED = "model:"  # how the runtime begins when the model, not the provider, is at fault


@dataclass(slots=True, eq=False)
class Lease:
    """A worker that is ours for now: a provider's activity with the runtime up."""

    node_id: str
    name: str
    agreement_id: str
    price: Price
    threads: int
    weights: set[str] = field(default_factory=set)
    record: TaskRecord | None = None
    since: float = 0.0


class Desk(Protocol):
    """Where a worker gets its work and says what became of it."""

    async def next_task(self, image: Image, lease: Lease, until: float) -> TaskRecord | None:
        """Wait for a task that this worker may do, at most until a monotonic time; None ends the lease."""

    def time_for(self, record: TaskRecord, lease: Lease) -> float:
        """Seconds that the task may take there: its deadline, the limit, and what its budget buys."""

    async def returned(self, record: TaskRecord, lease: Lease, document: bytes, started: float) -> None:
        """A result document came back."""

    async def failed(self, record: TaskRecord, lease: Lease, reason: str, started: float) -> None:
        """The worker was lost, or did not do it."""

    def model_refused(self, record: TaskRecord, lease: Lease, reason: str) -> None:
        """The runtime cannot load the model."""

    def unsendable(self, record: TaskRecord, reason: str) -> None:
        """The task's files cannot be read here, which is no fault of the worker's."""


class Fleet:
    """The workers of one image, over one yapapi job after another; each is left before it is too old for agreements."""

    def __init__(
        self, golem: yapapi.Golem, image: Image, terms: GolemTerms, desk: Desk, market: Market, paymaster: Paymaster
    ) -> None:
        self._golem, self._image, self._terms = golem, image, terms
        self._desk, self._market, self._paymaster = desk, market, paymaster
        self.leases: set[Lease] = set()
        self.wanted = 0
        self.failures = 0  # workers in a row that did not come up
        self.last_failure = ""
        self._jobs: set[asyncio.Task[None]] = set()
        self._workers: weakref.WeakSet[AsyncGenerator[Script, Any]] = weakref.WeakSet()
        self._background: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._outstanding = 0
        self._retire_at = 0.0
        self._closing = False

    def want(self, workers: int) -> None:
        """How many workers there should be now. Those beyond it end by themselves when they have been idle."""
        if self._closing:
            return
        self.wanted = min(workers, self._terms.workers)
        if self.wanted > self._outstanding:
            self._changed.set()
            if time.monotonic() >= self._retire_at:
                self._begin_job()

    async def close(self) -> None:
        """End every worker and agreement, within about ten seconds."""
        self._closing = True
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
        # yapapi leaves a cancelled worker's generator to the garbage collector, which comes when all else is gone.
        await asyncio.gather(*(worker.aclose() for worker in list(self._workers)), return_exceptions=True)
        await asyncio.gather(*self._background, return_exceptions=True)

    # -----------------------------------------------------------------------------------------------------------
    # Jobs
    # -----------------------------------------------------------------------------------------------------------

    def _begin_job(self) -> None:
        self._retire_at = time.monotonic() + self._terms.lifetime - _LAST_MINUTES
        self._changed.set()
        self._changed = asyncio.Event()
        self._outstanding = 0
        job = asyncio.create_task(self._run_job(self._retire_at, self._changed), name=f"golem {self._image.family}")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _run_job(self, retire_at: float, changed: asyncio.Event) -> None:
        tokens = self._tokens(retire_at, changed)
        package = await self._package()
        leases: Any = self._golem.execute_tasks(
            lambda context, tasks: self._worker(context, tasks, retire_at),
            tokens,
            package,
            # More than are wanted: a failed worker's place is given free only seconds later.
            max_workers=self._terms.workers + _SPARE + 1,
            timeout=timedelta(seconds=self._terms.lifetime),
            implicit_init=False,
        )
        try:
            async for _ in leases:
                if retire_at == self._retire_at:
                    self._outstanding -= 1
        finally:
            # yapapi swallows a job's time-out and whatever else ended it: one that ended is one to begin anew.
            if retire_at == self._retire_at:
                self._retire_at = 0.0
                self._outstanding = 0
            with contextlib.suppress(Exception):
                await leases.aclose()

    async def _package(self) -> Package:
        if self._image.tag:
            return await vm.repo(image_tag=self._image.tag, min_mem_gib=self._terms.memory_gib, min_storage_gib=1.0)
        return ImagePackage(self._image, self._terms.memory_gib)

    async def _tokens(self, retire_at: float, changed: asyncio.Event) -> AsyncIterator[Any]:
        """One token for each worker that is wanted, as it comes to be wanted, until the job is left."""
        while (left := retire_at - time.monotonic()) > 0 and retire_at == self._retire_at:
            if self._outstanding < self.wanted:
                self._outstanding += 1
                yield yapapi.Task(data=None)
                continue
            changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await changed.wait()

    # -----------------------------------------------------------------------------------------------------------
    # A worker
    # -----------------------------------------------------------------------------------------------------------

    def _worker(self, context: yapapi.WorkContext, tasks: Any, retire_at: float) -> AsyncGenerator[Script, Any]:
        worker = self._work(context, tasks, retire_at)
        self._workers.add(worker)
        return worker

    async def _work(self, context: yapapi.WorkContext, tasks: Any, retire_at: float) -> AsyncGenerator[Script, Any]:
        """One worker's life, as yapapi runs it: scripts out, results in."""
        # In one generator, since an error is thrown in where the script was yielded.
        lease = await self._open(context)
        try:
            async for token in tasks:
                refusal = self._market.refusal(lease.node_id)
                if refusal:
                    # Its offer was scored before it was blocked.
                    log.info("provider %s gets no work: %s", lease.name, refusal)
                else:
                    yield self._init_script(context, lease)
                    self.leases.add(lease)
                    self.failures = 0
                while not refusal and (record := await self._next(lease, retire_at)) is not None:
                    try:
                        script, returned = self._begin(context, lease, record)
                    except (OSError, JobError) as error:
                        self._desk.unsendable(record, str(error))
                        lease.record = None
                        continue
                    try:
                        yield script
                    except CommandExecutionError as error:
                        reason = _last_line(error.stderr)
                        if not reason.startswith(_MODEL_REFUSED):
                            raise
                        self._desk.model_refused(record, lease, reason)
                    else:
                        document = returned[0] if returned else b""
                        await self._desk.returned(record, lease, document, lease.since)
                    lease.record = None
                    refusal = self._market.refusal(lease.node_id)
                token.accept_result()
                # Ends the agreement with the worker; else an idle one would be kept that its provider breaks.
                await tasks.aclose()
                return
        except BaseException as error:
            await self._lost(lease, error)
            if isinstance(error, GeneratorExit | asyncio.CancelledError):
                await tasks.aclose()
            raise
        finally:
            self.leases.discard(lease)

    async def _open(self, context: yapapi.WorkContext) -> Lease:
        agreement = context._agreement
        details = await agreement.get_details()
        offered = details.provider_view.properties
        price = read_price(offered)
        assert price is not None, "an offer was scored without a price"
        threads = offered.get("golem.inf.cpu.threads")
        return Lease(
            context.provider_id,
            context.provider_name or context.provider_id,
            agreement.id,
            price,
            threads if isinstance(threads, int) and threads > 0 else 1,
        )

    def _init_script(self, context: yapapi.WorkContext, lease: Lease) -> Script:
        script = context.new_script(timeout=timedelta(seconds=self._terms.init_timeout))
        script.deploy()
        script.start()
        started = script.run(*RUNTIME, "start")
        asyncio.ensure_future(started).add_done_callback(lambda done: self._greet(lease, done))
        return script

    def _greet(self, lease: Lease, done: asyncio.Future[Any]) -> None:
        """What the runtime measured of itself when it came up."""
        if done.cancelled() or done.exception() is not None:
            return
        try:
            facts = json.loads(done.result().stdout or "")
        except ValueError:
            facts = None
        if isinstance(facts, dict):
            self._in_background(self._market.warmed_up(lease.node_id, facts))

    async def _next(self, lease: Lease, retire_at: float) -> TaskRecord | None:
        idle_until = min(time.monotonic() + self._terms.idle_release, retire_at)
        record = await self._desk.next_task(self._image, lease, idle_until)
        if record is not None:
            lease.record, lease.since = record, time.time()
        return record

    def _begin(self, context: yapapi.WorkContext, lease: Lease, record: TaskRecord) -> tuple[Script, list[bytes]]:
        """The script of one task, and where its result document will be."""
        script = context.new_script(timeout=timedelta(seconds=self._desk.time_for(record, lease)))
        task = f"{WORK}/{record.job.id}.tar"
        result = f"{WORK}/{record.job.id}.json"
        job, weights = _remote_job(record, self._image)
        if weights is not None and weights not in lease.weights:
            script.upload_file(record.job.model.weights, job.model.weights)
            lease.weights.add(weights)
        script.upload_bytes(_pack(record, job), task)
        script.run(*RUNTIME, "run", task, result)
        returned: list[bytes] = []

        async def keep(data: bytes) -> None:
            returned.append(data)

        script.download_bytes(result, keep, MAX_RESULT_BYTES)
        return script, returned

    async def _lost(self, lease: Lease, error: BaseException) -> None:
        """A worker ends other than by our will."""
        if isinstance(error, GeneratorExit | asyncio.CancelledError):
            reason = "the worker was taken down"
        elif isinstance(error, BatchTimeoutError):
            reason = "it took longer than it may"
        elif isinstance(error, BatchError):
            reason = _last_line(str(error))
        else:
            reason = f"{type(error).__name__}: {str(getattr(error, 'body', error))[:200]}"
        if self._closing:
            return
        self.last_failure = f"{lease.name}: {reason}"
        if lease.record is not None:
            await self._desk.failed(lease.record, lease, reason, lease.since)
        elif lease not in self.leases and not isinstance(error, GeneratorExit | asyncio.CancelledError):
            self.failures += 1
            await self._market.judge(lease.node_id, Verdict.FAILED, f"it did not come up: {reason}")

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class AgreementWatch:
    """yapapi's events on agreements, into the ledger: their time is what bounds a bill."""

    def __init__(self, market: Market, paymaster: Paymaster, *, clock: Callable[[], float] = time.time) -> None:
        self._market, self._paymaster, self._now = market, paymaster, clock
        self._writes: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()

    def on_event(self, event: events.Event) -> None:
        """Called by yapapi for every event; must not wait."""
        if isinstance(event, events.AgreementCreated):
            self._writes.put_nowait(self._created(event.agreement, self._now()))
        elif isinstance(event, events.AgreementTerminated | events.AgreementRejected):
            self._writes.put_nowait(self._paymaster.closed(event.agreement.id))
        elif isinstance(event, events.PaymentFailed):
            log.warning("a payment failed: %s", event.exc_info[1] if event.exc_info else "")

    async def write(self) -> None:
        """Write down what was seen, in order, for ever."""
        while True:
            await (await self._writes.get())
            self._writes.task_done()

    async def written(self) -> None:
        """Wait until all that was seen is written down."""
        await self._writes.join()

    def close(self) -> None:
        """Forget what was not written."""
        while not self._writes.empty():
            self._writes.get_nowait().close()

    async def _created(self, agreement: Any, at: float) -> None:
        details = agreement.details
        offered = details.provider_view.properties
        price = read_price(offered)
        threads = offered.get("golem.inf.cpu.threads")
        if price is not None:
            known = Agreement(
                agreement.id,
                details.raw_details.offer.provider_id,
                price,
                threads if isinstance(threads, int) and threads > 0 else 1,
                opened_at=at,
            )
            await self._paymaster.opened(known)


def _remote_job(record: TaskRecord, image: Image) -> tuple[Job, str | None]:
    """The job as it stands in the container, and the sha256 of the weights that must be sent there, if any."""
    job = record.job
    digest = str(job.model.manifest["weights"]["sha256"])
    inside = image.weights.get(digest)
    model = JobModel(job.model.manifest_cid, job.model.manifest, inside or f"{WORK}/weights/{digest}")
    inputs = tuple(JobInput(item.id, item.cid, str(place), item.size) for place, item in enumerate(job.inputs))
    return Job(job.id, model, inputs, job.max_pixels, job.max_seconds), None if inside else digest


def _pack(record: TaskRecord, job: Job) -> bytes:
    """One file for the whole task: every transfer costs a round trip."""
    files: dict[str, bytes | Path] = {JOB_FILE: job.to_json().encode()}
    for here, there in zip(record.job.inputs, job.inputs, strict=True):
        files[there.path] = Path(here.path)
    return pack_task(files)


def _last_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
