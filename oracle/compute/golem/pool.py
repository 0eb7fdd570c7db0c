"""Warm workers: agreements and loaded models that stay between tasks.

yapapi hands out *tasks*; ours are leases. One endless task is one worker that we keep: inside it the worker takes one
batch after the other from our own queue, so that which provider does what, and what a lost one costs, is ours to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yapapi
from yapapi import events
from yapapi.payload import vm
from yapapi.payload.package import Package
from yapapi.rest.activity import BatchError, BatchTimeoutError, CommandExecutionError
from yapapi.script import Script

from oracle.compute.book import TaskRecord
from oracle.compute.golem.market import Market, read_price, read_threads
from oracle.compute.golem.package import ImagePackage
from oracle.compute.golem.payments import Paymaster
from oracle.compute.golem.terms import GolemTerms, Image
from oracle.errors import StoreError
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
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between jobs that end without a worker


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


@dataclass(slots=True, eq=False)
class _Job:
    """A yapapi job: until when it makes agreements, the workers wanted of it so far, and their generators."""

    retire_at: float  # monotonic
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    outstanding: int = 0
    workers: set[Any] = field(default_factory=set)  # async generators
    leased: bool = False
    task: asyncio.Task[None] | None = None


class Desk(Protocol):
    """Where a worker gets its work and says what became of it."""

    async def next_task(self, image: Image, lease: Lease, *, idle_until: float, retire_at: float) -> TaskRecord | None:
        """Wait for a task that this worker may do; None ends the lease: there was none for long, or its time is up.

        Both times are monotonic.
        """

    def time_for(self, record: TaskRecord, lease: Lease) -> float:
        """Seconds that the task may take there: its deadline, the limit, and what its budget buys."""

    async def returned(self, record: TaskRecord, lease: Lease, remote: Job, document: bytes, started: float) -> None:
        """A result document came back for the job as the provider saw it."""

    async def failed(self, record: TaskRecord, lease: Lease, reason: str, started: float) -> None:
        """The worker was lost, or did not do it."""

    def abandoned(self, record: TaskRecord) -> None:
        """The worker was taken down with the task, by us or with its job."""

    def unsendable(self, record: TaskRecord, reason: str) -> None:
        """The task's files cannot be read here, which is no fault of the worker's."""


class Fleet:
    """The workers of one image, over one yapapi job after another; each is left before it is too old for agreements."""

    def __init__(
        self, golem: yapapi.Golem, image: Image, terms: GolemTerms, desk: Desk, market: Market, paymaster: Paymaster
    ) -> None:
        self._golem, self.image, self._terms = golem, image, terms
        self._desk, self._market, self._paymaster = desk, market, paymaster
        self.leases: set[Lease] = set()
        self.wanted = 0
        self.failures = 0  # workers in a row that did not come up
        self.last_failure = ""
        self._jobs: set[_Job] = set()
        self._job: _Job | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._not_before, self._pause = 0.0, _FIRST_PAUSE
        self._closing = False

    def want(self, workers: int) -> None:
        """How many workers there should be now. Those beyond it end by themselves when they have been idle."""
        if self._closing:
            return
        self.wanted = min(workers, self._terms.workers)
        self._rescore()
        now = time.monotonic()
        if self._job is not None and now >= self._job.retire_at:
            # In its last minutes providers make no agreement.
            self._job.changed.set()
            self._job = None
        if self._job is not None:
            if self.wanted > self._job.outstanding:
                self._job.changed.set()
        elif self.wanted and now >= self._not_before:
            self._job = job = _Job(now + self._terms.lifetime - _LAST_MINUTES)
            job.task = asyncio.create_task(self._run_job(job), name=f"golem {self.image.family}")
            self._jobs.add(job)

    def _rescore(self) -> None:
        """An offer is scored when it comes; by now its provider may be blocked, or be the one that a task names."""
        for job in self._golem._engine._jobs:
            offers = job.agreements_pool._offer_buffer
            for node_id, offer in list(offers.items()):
                provider = self._market.provider(node_id)
                score = self._market.score(provider) if provider is not None else -1.0
                if score < 0:
                    del offers[node_id]
                else:
                    offers[node_id] = offer._replace(score=score)

    async def close(self) -> None:
        """End every worker and agreement, within about ten seconds."""
        self._closing = True
        tasks = [job.task for job in self._jobs if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._background, return_exceptions=True)

    # -----------------------------------------------------------------------------------------------------------
    # Jobs
    # -----------------------------------------------------------------------------------------------------------

    async def _run_job(self, job: _Job) -> None:
        try:
            leases: Any = self._golem.execute_tasks(
                lambda context, tasks: self._worker(context, tasks, job),
                self._tokens(job),
                await self._package(),
                # More than are wanted: a failed worker's place is given free only seconds later.
                max_workers=self._terms.workers + _SPARE + 1,
                timeout=timedelta(seconds=self._terms.lifetime),
                implicit_init=False,
            )
            async for _ in leases:
                job.outstanding -= 1
        except Exception as error:  # noqa: BLE001 - whatever ended it, another begins
            self.last_failure = f"the job on the market ended: {str(getattr(error, 'body', '') or error)[:200]}"
            log.warning("%s: %s", self.image.family, self.last_failure)
        finally:
            self._ended(job)
            # yapapi leaves a cancelled worker's generator to the garbage collector, which comes when all else is gone.
            await asyncio.gather(*(worker.aclose() for worker in list(job.workers)), return_exceptions=True)
            self._jobs.discard(job)

    def _ended(self, job: _Job) -> None:
        """Yapapi swallows a job's time-out and whatever else ended it: one that ended is one to begin anew."""
        if self._job is not job:
            return
        self._job = None
        if job.leased:
            self._pause = _FIRST_PAUSE
        else:
            self.failures += 1
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _package(self) -> Package:
        if self.image.tag:
            return await vm.repo(image_tag=self.image.tag, min_mem_gib=self._terms.memory_gib, min_storage_gib=1.0)
        return ImagePackage(self.image, self._terms.memory_gib)

    async def _tokens(self, job: _Job) -> AsyncIterator[Any]:
        """One token for each worker that is wanted, as it comes to be wanted, until the job is left."""
        while (left := job.retire_at - time.monotonic()) > 0 and self._job is job:
            if job.outstanding < self.wanted:
                job.outstanding += 1
                yield yapapi.Task(data=None)
                continue
            job.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await job.changed.wait()

    # -----------------------------------------------------------------------------------------------------------
    # A worker
    # -----------------------------------------------------------------------------------------------------------

    def _worker(self, context: yapapi.WorkContext, tasks: Any, job: _Job) -> AsyncGenerator[Script, Any]:
        job.workers = {worker for worker in job.workers if worker.ag_frame is not None}
        worker = self._work(context, tasks, job)
        job.workers.add(worker)
        return worker

    async def _work(self, context: yapapi.WorkContext, tasks: Any, job: _Job) -> AsyncGenerator[Script, Any]:
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
                    job.leased = True
                while not refusal and (record := await self._next(lease, job)) is not None:
                    try:
                        script, remote, returned = self._begin(context, lease, record)
                    except (OSError, JobError) as error:
                        self._desk.unsendable(record, str(error))
                        lease.record = None
                        continue
                    yield script
                    document = returned[0] if returned else b""
                    lease.record = None
                    await self._desk.returned(record, lease, remote, document, lease.since)
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
        threads = read_threads(offered)
        assert price is not None, "an offer was scored without a price"
        assert threads is not None, "an offer was scored without its threads"
        return Lease(context.provider_id, context.provider_name or context.provider_id, agreement.id, price, threads)

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

    async def _next(self, lease: Lease, job: _Job) -> TaskRecord | None:
        idle_until = time.monotonic() + self._terms.idle_release
        record = await self._desk.next_task(self.image, lease, idle_until=idle_until, retire_at=job.retire_at)
        if record is not None:
            lease.record, lease.since = record, time.time()
        return record

    def _begin(self, context: yapapi.WorkContext, lease: Lease, record: TaskRecord) -> tuple[Script, Job, list[bytes]]:
        """The script of one task, the job as the provider sees it, and where its result document will be."""
        script = context.new_script(timeout=timedelta(seconds=self._desk.time_for(record, lease)))
        job, weights = _remote_job(record, self.image)
        task, result = f"{WORK}/{job.id}.tar", f"{WORK}/{job.id}.json"
        if weights is not None and weights not in lease.weights:
            script.upload_file(record.job.model.weights, job.model.weights)
            lease.weights.add(weights)
        script.upload_bytes(_pack(record, job), task)
        script.run(*RUNTIME, "run", task, result)
        returned: list[bytes] = []

        async def keep(data: bytes) -> None:
            returned.append(data)

        script.download_bytes(result, keep, MAX_RESULT_BYTES)
        return script, job, returned

    async def _lost(self, lease: Lease, error: BaseException) -> None:
        """A worker ends other than by our will."""
        if isinstance(error, BatchTimeoutError):
            reason = "it took longer than it may"
        elif isinstance(error, CommandExecutionError):
            reason = _last_line(error.stderr) or _last_line(str(error))
        elif isinstance(error, BatchError):
            reason = _last_line(str(error))
        else:
            reason = f"{type(error).__name__}: {str(getattr(error, 'body', error))[:200]}"
        record, lease.record = lease.record, None
        if isinstance(error, GeneratorExit | asyncio.CancelledError):
            # By our own will, or with its job: that says nothing of the provider.
            if record is not None:
                self._desk.abandoned(record)
            return
        self.last_failure = f"{lease.name}: {reason}"
        if record is not None:
            await self._desk.failed(record, lease, reason, lease.since)
        elif lease not in self.leases:
            self.failures += 1
            await self._market.judge(lease.node_id, Verdict.FAILED, f"it did not come up: {reason}")

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


class AgreementWatch:
    """yapapi's events on agreements, into the ledger: their time is what bounds a bill."""

    def __init__(self, terms: GolemTerms, paymaster: Paymaster, *, clock: Callable[[], float] = time.time) -> None:
        self._lifetime, self._paymaster, self._now = terms.lifetime, paymaster, clock
        self._writes: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue()

    def on_event(self, event: events.Event) -> None:
        """Called by yapapi for every event; must not wait."""
        if isinstance(event, events.AgreementCreated):
            opened = self._agreement(event.agreement, self._now())
            if opened is not None:
                self._writes.put_nowait(partial(self._paymaster.opened, opened))
        elif isinstance(event, events.AgreementTerminated | events.AgreementRejected):
            self._writes.put_nowait(partial(self._paymaster.closed, event.agreement.id, self._now()))
        elif isinstance(event, events.PaymentFailed):
            log.warning("a payment failed: %s", event.exc_info[1] if event.exc_info else "")

    async def write(self) -> None:
        """Write down what was seen, in order, for ever. Nothing is left out: without it a provider is not paid."""
        while True:
            work = await self._writes.get()
            pause = _FIRST_PAUSE
            while True:
                try:
                    await work()
                    break
                except StoreError as error:
                    log.error("an agreement is not written down yet: %s", error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
            self._writes.task_done()

    async def written(self) -> None:
        """Wait until all that was seen is written down."""
        await self._writes.join()

    def _agreement(self, agreement: Any, at: float) -> Agreement | None:
        details = agreement.details
        offered = details.provider_view.properties
        price, threads = read_price(offered), read_threads(offered)
        if price is None or threads is None:
            return None
        provider = details.raw_details.offer.provider_id
        return Agreement(agreement.id, provider, price, threads, opened_at=at, expires_at=at + self._lifetime)


def _remote_job(record: TaskRecord, image: Image) -> tuple[Job, str | None]:
    """The job as a provider sees it, and the sha256 of the weights that must be sent there, if any.

    Its ids are random: who could look the requests up on the chain would know which of the inputs are none.
    """
    job = record.job
    digest = str(job.model.manifest["weights"]["sha256"])
    inside = image.weights.get(digest)
    model = JobModel(job.model.manifest_cid, job.model.manifest, inside or f"{WORK}/weights/{digest}")
    inputs = []
    for place, item in enumerate(job.inputs):
        name = secrets.token_hex(16)
        inputs.append(JobInput(name, name, str(place), item.size))
    return Job(secrets.token_hex(16), model, tuple(inputs), job.max_pixels, job.max_seconds), None if inside else digest


def _pack(record: TaskRecord, job: Job) -> bytes:
    """One file for the whole task: every transfer costs a round trip."""
    files: dict[str, bytes | Path] = {JOB_FILE: job.to_json().encode()}
    for here, there in zip(record.job.inputs, job.inputs, strict=True):
        files[there.path] = Path(here.path)
    return pack_task(files)


def _last_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
