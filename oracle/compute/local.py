"""The compute backend on this machine: the provider runtime in worker processes that keep their models loaded."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from oracle.compute.book import MAX_PAYLOAD, Outcome, TaskBook, TaskRecord, job_model
from oracle.compute.compiling import ModelCompiler
from oracle.compute.worker import WorkerGone, WorkerProcess, runtime_command
from oracle.domain import (
    Capabilities,
    ComputeEvent,
    ComputeTask,
    ModelManifest,
    Quote,
    Receipt,
    ServableModel,
    TaskResult,
)
from oracle.errors import ConfigurationError, MalformedResult, ModelUnservable, TaskTimeout, WorkerLost
from oracle.manifests import TASKS
from provider_images.runtime.job import MAX_INPUTS, JobError, JobModel
from provider_images.runtime.spec import FAMILIES, FILES

_START_LIMIT = 120.0  # seconds for a worker to import its engine
_GRACE = 1.0  # seconds for an idle worker to end by itself
_QUIET = 1.0  # seconds between looks at whether there is nothing to do
_HOPELESS = 3  # failed starts in a row after which waiting tasks are told


class LocalBackend:
    """A ``ComputeBackend`` with ``workers`` processes, each of ``threads`` threads. Nothing is paid to anybody.

    ``directory`` holds one folder a task until it is settled, so results survive a restart of the oracle. A task that
    runs longer than ``run_limit`` seconds loses its worker. ``command`` replaces the worker's command line.

    Models that OpenVINO computes faster are compiled into the folder ``compiled`` when they are first used, while
    there is nothing else to do; ``compiler`` stands in for what does it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        threads: int = 1,
        models: int = 4,
        memory_mb: int = 4096,
        max_pixels: int = 40_000_000,
        run_limit: float = 60.0,
        backoff: float = 0.5,
        command: Sequence[str] | None = None,
        compiled: Path | None = None,
        compiler: ModelCompiler | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._names = [f"local-{i}" for i in range(workers)]
        self._run_limit = run_limit
        self._backoff = backoff
        self._custom = command is not None
        self._command = tuple(command or ()) or runtime_command(
            python=sys.executable, threads=threads, models=models, memory_mb=memory_mb, compiled=compiled
        )
        self._compiler = compiler or (ModelCompiler(compiled) if compiled else None)
        self._compiled: dict[str, JobModel] = {}  # in this run: workers may hold them as they were before
        # The worker has a watch of its own, should the oracle not be there.
        self._book = TaskBook(
            directory,
            backend="local",
            max_pixels=max_pixels,
            max_seconds=run_limit + 5,
            clock=clock,
            on_end=self._ended,
        )
        self._waiting: deque[TaskRecord] = deque()
        self._at: dict[TaskRecord, WorkerProcess] = {}
        self._arrived = asyncio.Event()
        self._prepared: dict[str, JobModel] = {}
        self._running: dict[str, WorkerProcess] = {}
        self._ready: set[str] = set()
        self._servers: list[asyncio.Task[None]] = []
        self._seconds = 0.05  # a running average of what a task takes

    # -----------------------------------------------------------------------------------------------------------
    # Life
    # -----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the workers and return at once; tasks may be submitted while they load their engine.

        Raises ConfigurationError when TensorFlow is not installed or the directory cannot be written.
        """
        if not self._custom and importlib.util.find_spec("tensorflow") is None:
            raise ConfigurationError(
                "the local backend needs TensorFlow, which is not installed",
                remedy="run `make setup`",
            )
        self._book.open()
        self._servers = [asyncio.create_task(self._serve(name), name=name) for name in self._names]
        if self._compiler:
            self._servers.append(asyncio.create_task(self._compile(self._compiler), name="compiler"))

    async def close(self) -> None:
        """Stop every worker, within about two seconds. Unfinished tasks end with WorkerLost."""
        for server in self._servers:
            server.cancel()
        await asyncio.gather(*self._servers, return_exceptions=True)
        # One whose server was cancelled while it closed it.
        for process in self._running.values():
            await process.close(0.0)
        self._running.clear()
        self._book.close()

    @property
    def processes(self) -> Mapping[str, int]:
        """Provider ids and process ids of the workers that run now."""
        return {name: process.pid for name, process in self._running.items()}

    @property
    def ready(self) -> int:
        """How many workers have their engine up."""
        return len(self._ready)

    def prepare(self, model: ServableModel) -> None:
        """Have idle workers load a model before its first task, now and after every restart of a worker."""
        self._prepared[model.manifest_cid.text] = job_model(model)
        self._arrived.set()
        if self._compiler:
            self._compiler.wish(job_model(model))

    # -----------------------------------------------------------------------------------------------------------
    # The port
    # -----------------------------------------------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        """What can run here, and how much at once."""
        return Capabilities(
            backend="local",
            tasks=TASKS,
            engines=frozenset({"keras", "tflite"}),
            slots=len(self._names),
            max_inputs=MAX_INPUTS,
            max_payload=MAX_PAYLOAD,
        )

    async def quotes(self, manifest: ModelManifest, inputs: int) -> Sequence[Quote]:
        """One offer, free of charge, for what can run here."""
        if self._unservable(manifest) or inputs > MAX_INPUTS:
            return []
        return [Quote(provider="local", price=0, seconds=self._seconds)]

    async def submit(self, task: ComputeTask) -> None:
        """Accept a task. The same key with the same content again is no error and no second run.

        Raises TaskConflict, PayloadTooLarge, ModelUnservable, and WorkerLost when the backend is closed.
        """
        record = self._book.admit(task, self._unservable)
        if record is not None and record.outcome is None:
            self._waiting.append(record)
            self._arrived.set()
            if self._compiler:
                self._compiler.wish(job_model(task.model))

    def events(self) -> AsyncIterator[ComputeEvent]:
        """Progress of every task from now on; a listener that falls far behind loses the oldest events."""
        return self._book.events()

    async def collect(self, key: str) -> TaskResult:
        """Wait for a task and return its schema-checked result; may be asked again until the task is settled.

        Raises UnknownTask, WorkerLost, TaskTimeout, TaskCancelled, MalformedResult, and ModelUnservable when the
        weights turn out to be another model's.
        """
        return await self._book.collect(key)

    async def cancel(self, key: str) -> None:
        """Stop a task; a finished or unknown one is left as it is.

        A worker already at it is let finish, and its result thrown away: that costs less than a new worker.
        """
        self._book.cancel(key)

    async def receipts(self, key: str) -> Sequence[Receipt]:  # noqa: ARG002 - the port's signature
        """Nothing is ever paid here."""
        return []

    async def settle(self, key: str, *, accepted: bool) -> None:  # noqa: ARG002 - nobody is paid either way
        """Forget a task and remove its folder; one still running is cancelled first."""
        self._book.forget(key)

    async def recover(self, keys: Sequence[str]) -> Sequence[str]:
        """The tasks of this run, and those an earlier run finished: their results lie in the directory."""
        return [key for key in keys if self._book.find(key) is not None]

    # -----------------------------------------------------------------------------------------------------------
    # Workers
    # -----------------------------------------------------------------------------------------------------------

    async def _serve(self, name: str) -> None:
        """Keep one worker alive and hand it tasks. Pauses between starts grow while it fails."""
        failures = 0
        while True:
            if failures > 1:
                await asyncio.sleep(min(30.0, self._backoff * 2 ** (failures - 2)))
            try:
                process = await WorkerProcess.spawn(self._command)
            except OSError as error:
                failures += 1
                self._despair(failures, f"a worker cannot be started: {error}")
                continue
            self._running[name] = process
            failures += 1
            try:
                async with asyncio.timeout(_START_LIMIT):
                    await process.hello()
                self._ready.add(name)
                await self._feed(name, process)
            except (WorkerGone, TimeoutError) as error:
                if process.replies:
                    failures = 0  # it was of use, so whatever ended it need not end the next one
                elif name not in self._ready:
                    self._despair(failures, f"a worker does not start: {error or 'it takes too long'}")
            finally:
                busy = name not in self._ready or process in self._at.values()
                self._ready.discard(name)
                await process.close(0.0 if busy else _GRACE)
                self._running.pop(name, None)

    def _despair(self, failures: int, reason: str) -> None:
        """When workers fail to start again and again, tell the tasks that wait, rather than let them wait for ever."""
        if failures >= _HOPELESS and not self._ready:
            for record in list(self._waiting):
                self._book.finish(record, WorkerLost(reason))

    async def _feed(self, name: str, process: WorkerProcess) -> None:
        """Give a ready worker one task after the other. Raises WorkerGone when it has to be replaced."""
        loaded: set[str] = set()
        current = set(self._compiled)
        ended = asyncio.create_task(process.wait())
        try:
            while True:
                if self._waiting:
                    await self._run(self._waiting.popleft(), name, process)
                elif unloaded := self._prepared.keys() - loaded:
                    cid = min(unloaded)
                    loaded.add(cid)
                    await self._load(process, self._prepared[cid])
                elif outdated := self._compiled.keys() - current:
                    cid = min(outdated)
                    current.add(cid)
                    await self._load(process, self._compiled[cid], anew=True)
                else:
                    self._arrived.clear()
                    arrived = asyncio.create_task(self._arrived.wait())
                    await asyncio.wait({arrived, ended}, return_when=asyncio.FIRST_COMPLETED)
                    arrived.cancel()
                    if ended.done():
                        raise WorkerGone("it ended while it had nothing to do")
        finally:
            ended.cancel()

    async def _load(self, process: WorkerProcess, model: JobModel, *, anew: bool = False) -> None:
        # A model that does not load says so again to the task that needs it.
        async with asyncio.timeout(self._run_limit):
            await process.ask({"op": "load", "model": model.to_dict(), "anew": anew})

    async def _compile(self, compiler: ModelCompiler) -> None:
        """Compile what is wished for, one model at a time, begun only while no task waits or runs."""
        while True:
            model = await compiler.next_wish()
            while True:
                await asyncio.sleep(_QUIET)
                if not self._waiting and not self._at:
                    break
            if await compiler.compile(model):
                self._compiled[model.manifest_cid] = model
                self._arrived.set()

    async def _run(self, record: TaskRecord, name: str, process: WorkerProcess) -> None:
        started = self._book.now()
        self._at[record] = process
        self._book.take_up(record, name)
        try:
            reply = await self._ask(record, name, process)
        finally:
            self._book.put_down(record)
            del self._at[record]
        if record.outcome is None:
            finished = self._book.now()
            self._seconds += 0.2 * (finished - started - self._seconds)
            outcome = await asyncio.to_thread(self._judge, record, reply, name, started, finished)
            if record.outcome is None:
                self._book.finish(record, outcome, provider=name)

    async def _ask(self, record: TaskRecord, name: str, process: WorkerProcess) -> Mapping[str, object]:
        try:
            async with asyncio.timeout(self._run_limit):
                return await process.ask({"op": "run", "folder": str(record.folder)})
        except TimeoutError as error:
            self._book.finish(record, WorkerLost(f"{name} took longer than {self._run_limit:g} s"), provider=name)
            raise WorkerGone("it hung") from error
        except WorkerGone as error:
            self._book.finish(record, WorkerLost(f"{name} was lost: {error}"), provider=name)
            raise

    def _judge(
        self, record: TaskRecord, reply: Mapping[str, object], name: str, started: float, finished: float
    ) -> Outcome:
        """What a worker's reply and its results.json come to."""
        if reply.get("ok") is not True:
            said = str(reply.get("error"))[:300]
            if reply.get("kind") == "model":
                return ModelUnservable(f"{name} cannot load the model: {said}")
            return MalformedResult(f"{name} did not do the task: {said}")
        try:
            return self._book.read_result(record, name, started, finished)
        except (JobError, OSError) as error:
            return MalformedResult(f"the result of {name} is malformed: {error}")

    # -----------------------------------------------------------------------------------------------------------
    # Records
    # -----------------------------------------------------------------------------------------------------------

    def _unservable(self, manifest: ModelManifest) -> str:
        """Why a model cannot run here, or nothing."""
        able = self.capabilities()
        family = manifest.document.get("family")
        if manifest.task not in able.tasks:
            return f"{manifest.name}: no worker here does {manifest.task}"
        if manifest.engine not in able.engines:
            return f"{manifest.name}: no worker here has the engine {manifest.engine}"
        if family not in FAMILIES and family not in FILES:
            return f"{manifest.name}: the family {family!r} is not built in"
        return ""

    def _ended(self, record: TaskRecord) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(record)
        if isinstance(record.outcome, TaskTimeout) and record in self._at:
            self._at[record].kill()
