"""The compute backend on this machine: the provider runtime in worker processes that keep their models loaded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import shutil
import sys
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oracle.compute.worker import WorkerGone, WorkerProcess, runtime_command
from oracle.domain import (
    Capabilities,
    ComputeEvent,
    ComputeTask,
    FailureReason,
    ItemResult,
    LabelScore,
    ModelManifest,
    Quote,
    Receipt,
    ServableModel,
    TaskPhase,
    TaskResult,
)
from oracle.errors import (
    ComputeError,
    ConfigurationError,
    MalformedResult,
    ManifestInvalid,
    ModelUnservable,
    PayloadTooLarge,
    TaskCancelled,
    TaskConflict,
    TaskTimeout,
    UnknownTask,
    WorkerLost,
)
from oracle.manifests import parse_manifest
from provider_images.runtime.job import (
    JOB_FILE,
    MAX_INPUTS,
    MAX_RESULT_BYTES,
    RESULT_FILE,
    ItemFailure,
    Job,
    JobError,
    JobInput,
    JobModel,
    JobResult,
)
from provider_images.runtime.spec import FAMILIES

MAX_PAYLOAD = 64 * 1024 * 1024
_START_LIMIT = 120.0  # seconds for a worker to import its engine
_GRACE = 1.0  # seconds for an idle worker to end by itself
_FORGET_AFTER = 86_400.0  # seconds after which a result that nobody recovered is swept
_UNREAD_EVENTS = 1024
_HOPELESS = 3  # failed starts in a row after which waiting tasks are told

_FAILURES: Final[Mapping[ItemFailure, FailureReason]] = {
    ItemFailure.UNREADABLE: FailureReason.IMAGE_UNREADABLE,
    ItemFailure.TOO_LARGE: FailureReason.IMAGE_TOO_LARGE,
    ItemFailure.UNSUPPORTED: FailureReason.IMAGE_UNSUPPORTED,
    ItemFailure.MISSING: FailureReason.COMPUTE_FAILED,  # the spool lost it, not the person who asked
    ItemFailure.FAILED: FailureReason.COMPUTE_FAILED,
}


@dataclass(slots=True, eq=False)
class _Record:
    """A task from submission to settlement."""

    key: str
    job: Job
    folder: Path
    outcome: TaskResult | ComputeError | ModelUnservable | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    worker: WorkerProcess | None = None
    timer: asyncio.TimerHandle | None = None


class LocalBackend:
    """A ``ComputeBackend`` with ``workers`` processes, each of ``threads`` threads. Nothing is paid to anybody.

    ``directory`` holds one folder a task until it is settled, so results survive a restart of the oracle. A task that
    runs longer than ``run_limit`` seconds loses its worker. ``command`` replaces the worker's command line.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        threads: int = 1,
        models: int = 4,
        memory_mb: int = 4096,
        max_pixels: int = 25_000_000,
        run_limit: float = 60.0,
        backoff: float = 0.5,
        command: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory.absolute()
        self._names = [f"local-{i}" for i in range(workers)]
        self._max_pixels = max_pixels
        self._run_limit = run_limit
        self._backoff = backoff
        self._custom = command is not None
        self._command = tuple(command or ()) or runtime_command(
            python=sys.executable, threads=threads, models=models, memory_mb=memory_mb
        )
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._waiting: deque[_Record] = deque()
        self._arrived = asyncio.Event()
        self._prepared: dict[str, JobModel] = {}
        self._listeners: weakref.WeakSet[asyncio.Queue[ComputeEvent | None]] = weakref.WeakSet()
        self._running: dict[str, WorkerProcess] = {}
        self._ready: set[str] = set()
        self._servers: list[asyncio.Task[None]] = []
        self._closed = False
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
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise ConfigurationError(
                f"the task directory {self._directory} cannot be used: {error}",
                remedy="choose a directory that this user may write to",
            ) from error
        self._servers = [asyncio.create_task(self._serve(name), name=name) for name in self._names]

    async def close(self) -> None:
        """Stop every worker, within about two seconds. Unfinished tasks end with WorkerLost."""
        self._closed = True
        for server in self._servers:
            server.cancel()
        await asyncio.gather(*self._servers, return_exceptions=True)
        # One whose server was cancelled while it closed it.
        for process in self._running.values():
            await process.close(0.0)
        self._running.clear()
        for record in list(self._records.values()):
            self._finish(record, WorkerLost("the local backend is closing"))
        for queue in self._listeners:
            self._put(queue, None)

    def _sweep(self) -> None:
        """Remove what an earlier run left unfinished, and old results that nobody came for."""
        for folder in self._directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if self._clock() - (folder / RESULT_FILE).stat().st_mtime < _FORGET_AFTER:
                    continue
            shutil.rmtree(folder, ignore_errors=True)

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
        self._prepared[model.manifest_cid.text] = _job_model(model)
        self._arrived.set()

    # -----------------------------------------------------------------------------------------------------------
    # The port
    # -----------------------------------------------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        """What can run here, and how much at once."""
        return Capabilities(
            backend="local",
            tasks=frozenset({"classification"}),
            engines=frozenset({"keras"}),
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
        if self._closed:
            raise WorkerLost("the local backend is closed")
        job = self._job(task)
        known = self._find(task.key)
        if known is not None:
            if _content(known.job) != _content(job):
                raise TaskConflict(f"task {task.key} is in use for other inputs or another model")
            return
        payload = sum(item.size for item in task.inputs)
        if len(task.inputs) > MAX_INPUTS or payload > MAX_PAYLOAD:
            raise PayloadTooLarge(
                f"{len(task.inputs)} inputs of {payload} bytes; a task carries {MAX_INPUTS} and {MAX_PAYLOAD} bytes"
            )
        if problem := self._unservable(task.model.manifest):
            raise ModelUnservable(problem)
        if not task.model.weights.is_file():
            raise ModelUnservable(f"the weights of {task.model.manifest.name} are not at {task.model.weights}")
        # A folder of its own: one of the same key may still be in the hands of a worker whose task was cancelled.
        record = _Record(task.key, job, self._directory / f"{job.id}-{time.time_ns():x}")
        record.folder.mkdir(parents=True)
        (record.folder / JOB_FILE).write_text(job.to_json(), encoding="utf-8")
        self._records[task.key] = record
        self._waiting.append(record)
        self._emit(record, TaskPhase.QUEUED)
        delay = max(0.0, task.deadline - self._clock())
        record.timer = asyncio.get_running_loop().call_later(delay, self._expire, record)
        self._arrived.set()

    def events(self) -> AsyncIterator[ComputeEvent]:
        """Progress of every task from now on; a listener that falls far behind loses the oldest events."""
        queue: asyncio.Queue[ComputeEvent | None] = asyncio.Queue(_UNREAD_EVENTS)
        if self._closed:
            queue.put_nowait(None)
        self._listeners.add(queue)
        return _stream(queue)

    async def collect(self, key: str) -> TaskResult:
        """Wait for a task and return its schema-checked result; may be asked again until the task is settled.

        Raises UnknownTask, WorkerLost, TaskTimeout, TaskCancelled, MalformedResult, and ModelUnservable when the
        weights turn out to be another model's.
        """
        record = self._find(key)
        if record is None:
            raise UnknownTask(f"no task {key} here")
        await record.done.wait()
        assert record.outcome is not None
        if isinstance(record.outcome, TaskResult):
            return record.outcome
        raise record.outcome.with_traceback(None)

    async def cancel(self, key: str) -> None:
        """Stop a task; a finished or unknown one is left as it is.

        A worker already at it is let finish, and its result thrown away: that costs less than a new worker.
        """
        record = self._records.get(key)
        if record is not None and record.outcome is None:
            self._finish(record, TaskCancelled(f"task {key} was cancelled"))

    async def receipts(self, key: str) -> Sequence[Receipt]:  # noqa: ARG002 - the port's signature
        """Nothing is ever paid here."""
        return []

    async def settle(self, key: str, *, accepted: bool) -> None:  # noqa: ARG002 - nobody is paid either way
        """Forget a task and remove its folder; one still running is cancelled first."""
        record = self._find(key)
        if record is None:
            return
        await self.cancel(key)
        self._records.pop(key, None)
        if record.worker is None:
            shutil.rmtree(record.folder, ignore_errors=True)
        else:
            # A worker that is still at it keeps its folder until it is done, but nobody finds the task there any more.
            (record.folder / JOB_FILE).unlink(missing_ok=True)

    async def recover(self, keys: Sequence[str]) -> Sequence[str]:
        """The tasks of this run, and those an earlier run finished: their results lie in the directory."""
        return [key for key in keys if self._find(key) is not None]

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
                busy = name not in self._ready or any(r.worker is process for r in self._records.values())
                self._ready.discard(name)
                await process.close(0.0 if busy else _GRACE)
                self._running.pop(name, None)

    def _despair(self, failures: int, reason: str) -> None:
        """When workers fail to start again and again, tell the tasks that wait, rather than let them wait for ever."""
        if failures >= _HOPELESS and not self._ready:
            for record in list(self._waiting):
                self._finish(record, WorkerLost(reason))

    async def _feed(self, name: str, process: WorkerProcess) -> None:
        """Give a ready worker one task after the other. Raises WorkerGone when it has to be replaced."""
        loaded: set[str] = set()
        ended = asyncio.create_task(process.wait())
        try:
            while True:
                if self._waiting:
                    await self._run(self._waiting.popleft(), name, process)
                elif unloaded := self._prepared.keys() - loaded:
                    cid = min(unloaded)
                    loaded.add(cid)
                    order = {"op": "load", "model": self._prepared[cid].to_dict()}
                    # A model that does not load says so again to the task that needs it.
                    async with asyncio.timeout(self._run_limit):
                        await process.ask(order)
                else:
                    self._arrived.clear()
                    arrived = asyncio.create_task(self._arrived.wait())
                    await asyncio.wait({arrived, ended}, return_when=asyncio.FIRST_COMPLETED)
                    arrived.cancel()
                    if ended.done():
                        raise WorkerGone("it ended while it had nothing to do")
        finally:
            ended.cancel()

    async def _run(self, record: _Record, name: str, process: WorkerProcess) -> None:
        record.worker = process
        started = self._clock()
        self._emit(record, TaskPhase.STARTED, provider=name)
        try:
            async with asyncio.timeout(self._run_limit):
                reply = await process.ask({"op": "run", "folder": str(record.folder)})
        except TimeoutError as error:
            self._finish(record, WorkerLost(f"{name} took longer than {self._run_limit:g} s"), provider=name)
            raise WorkerGone("it hung") from error
        except WorkerGone as error:
            self._finish(record, WorkerLost(f"{name} was lost: {error}"), provider=name)
            raise
        finally:
            record.worker = None
            if self._records.get(record.key) is not record:  # settled meanwhile
                shutil.rmtree(record.folder, ignore_errors=True)
        if record.outcome is None:
            finished = self._clock()
            self._seconds += 0.2 * (finished - started - self._seconds)
            self._finish(record, self._judge(record, reply, name, started, finished), provider=name)

    def _judge(
        self, record: _Record, reply: Mapping[str, object], name: str, started: float, finished: float
    ) -> TaskResult | ComputeError | ModelUnservable:
        """What a worker's reply and its results.json come to."""
        if reply.get("ok") is not True:
            said = str(reply.get("error"))[:300]
            if reply.get("kind") == "model":
                return ModelUnservable(f"{name} cannot load the model: {said}")
            return MalformedResult(f"{name} did not do the task: {said}")
        try:
            return _result(record.key, record.job, _read(record.folder, record.job), name, started, finished)
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
        if family not in FAMILIES:
            return f"{manifest.name}: the family {family!r} is not built in"
        return ""

    def _job(self, task: ComputeTask) -> Job:
        return Job(
            id=_digest(task.key),
            model=_job_model(task.model),
            inputs=tuple(
                JobInput(item.request_id.hex(), item.image_cid.text, str(item.path.absolute()), item.size)
                for item in task.inputs
            ),
            max_pixels=self._max_pixels,
            max_seconds=max(1, int(self._run_limit) + 5),  # the worker's own watch, should the oracle not be there
        )

    def _find(self, key: str) -> _Record | None:
        """A task of this run, or one whose result an earlier run left in the directory."""
        if key in self._records:
            return self._records[key]
        for folder in self._directory.glob(f"{_digest(key)}-*"):
            try:
                job = Job.from_json((folder / JOB_FILE).read_bytes())
                parse_manifest(job.model.manifest)
                result = _read(folder, job)
                finished = (folder / RESULT_FILE).stat().st_mtime
            except (JobError, ManifestInvalid, OSError):
                continue
            started = finished - result.decode_seconds - result.inference_seconds
            record = _Record(key, job, folder, _result(key, job, result, "local", started, finished))
            record.done.set()
            self._records[key] = record
            return record
        return None

    def _expire(self, record: _Record) -> None:
        self._finish(record, TaskTimeout(f"task {record.key} did not finish before its deadline"))
        if record.worker is not None:
            record.worker.kill()

    def _finish(
        self, record: _Record, outcome: TaskResult | ComputeError | ModelUnservable, *, provider: str = ""
    ) -> None:
        """Give a task its outcome; the first one stands."""
        if record.outcome is not None:
            return
        record.outcome = outcome
        record.done.set()
        if record.timer is not None:
            record.timer.cancel()
        with contextlib.suppress(ValueError):
            self._waiting.remove(record)
        if isinstance(outcome, TaskResult):
            self._emit(record, TaskPhase.FINISHED, provider=provider)
        else:
            phase = TaskPhase.CANCELLED if isinstance(outcome, TaskCancelled) else TaskPhase.LOST
            self._emit(record, phase, provider=provider, detail=str(outcome))

    def _emit(self, record: _Record, phase: TaskPhase, *, provider: str = "", detail: str = "") -> None:
        event = ComputeEvent(record.key, phase, self._clock(), provider, detail)
        for queue in self._listeners:
            self._put(queue, event)

    @staticmethod
    def _put(queue: asyncio.Queue[ComputeEvent | None], event: ComputeEvent | None) -> None:
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(event)


async def _stream(queue: asyncio.Queue[ComputeEvent | None]) -> AsyncIterator[ComputeEvent]:
    while (event := await queue.get()) is not None:
        yield event


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _job_model(model: ServableModel) -> JobModel:
    return JobModel(model.manifest_cid.text, model.manifest.document, str(model.weights.absolute()))


def _content(job: Job) -> tuple[object, ...]:
    """What makes two tasks the same: the model and the inputs, wherever they lie."""
    return (job.model.manifest_cid, *((item.id, item.cid) for item in job.inputs))


def _read(folder: Path, job: Job) -> JobResult:
    with (folder / RESULT_FILE).open("rb") as file:
        return JobResult.from_json(file.read(MAX_RESULT_BYTES + 1), job)


def _result(key: str, job: Job, result: JobResult, provider: str, started: float, finished: float) -> TaskResult:
    names: Sequence[str] = job.model.manifest["labels"]
    return TaskResult(
        key=key,
        provider=provider,
        items=tuple(
            ItemResult(
                request_id=bytes.fromhex(item.input),
                labels=tuple(LabelScore(index, names[index], probability) for index, probability in item.labels),
                failure=FailureReason.NONE if item.failure is None else _FAILURES[item.failure],
                detail=item.detail,
            )
            for item in result.items
        ),
        started=started,
        finished=finished,
        inference=result.inference_seconds,
        engine=result.engine,
    )
