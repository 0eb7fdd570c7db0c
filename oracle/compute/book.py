"""The tasks that a backend holds, from submission to settlement, on disk and in memory: what all backends share.

A task has a folder: ``job.json`` says what was asked, ``results.json`` what came back, ``source.json`` who did it and
when. Results thus survive a restart of the oracle until they are settled.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from oracle.domain import (
    ComputeEvent,
    ComputeTask,
    FailureReason,
    ItemResult,
    LabelScore,
    ModelManifest,
    SegmentScore,
    ServableModel,
    TaskPhase,
    TaskResult,
)
from oracle.errors import (
    ComputeError,
    ConfigurationError,
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
    ItemOutput,
    Job,
    JobError,
    JobInput,
    JobModel,
    JobResult,
)

MAX_PAYLOAD = 64 * 1024 * 1024
SOURCE_FILE = "source.json"
_FORGET_AFTER = 86_400.0  # seconds after which a result that nobody recovered is swept
_UNREAD_EVENTS = 1024

_FAILURES: Final[Mapping[ItemFailure, FailureReason]] = {
    ItemFailure.UNREADABLE: FailureReason.IMAGE_UNREADABLE,
    ItemFailure.TOO_LARGE: FailureReason.IMAGE_TOO_LARGE,
    ItemFailure.UNSUPPORTED: FailureReason.IMAGE_UNSUPPORTED,
    ItemFailure.MISSING: FailureReason.COMPUTE_FAILED,  # the spool lost it, not the person who asked
    ItemFailure.FAILED: FailureReason.COMPUTE_FAILED,
}

Outcome = TaskResult | ComputeError | ModelUnservable


@dataclass(slots=True, eq=False)
class TaskRecord:
    """A task from submission to settlement. ``task`` is None for one that an earlier run finished."""

    key: str
    job: Job
    folder: Path
    task: ComputeTask | None = None
    outcome: Outcome | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    hands: int = 0  # workers that are at it now, and need its folder
    timer: asyncio.TimerHandle | None = None


class TaskBook:
    """The records of one backend. ``on_end`` is called with each record that gets its outcome.

    ``max_seconds`` bounds what a worker may take for a job. Results without a source were done by ``backend``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        backend: str,
        max_pixels: int,
        max_seconds: float,
        clock: Callable[[], float] = time.time,
        on_end: Callable[[TaskRecord], None] = lambda _: None,
    ) -> None:
        self._directory = directory.absolute()
        self._backend = backend
        self._max_pixels, self._max_seconds = max_pixels, max_seconds
        self.now = clock
        self._on_end = on_end
        self._records: dict[str, TaskRecord] = {}
        self._listeners: weakref.WeakSet[asyncio.Queue[ComputeEvent | None]] = weakref.WeakSet()
        self._closed = False

    def open(self) -> None:
        """Make the directory and sweep it. Raises ConfigurationError when it cannot be written."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise ConfigurationError(
                f"the task directory {self._directory} cannot be used: {error}",
                remedy="choose a directory that this user may write to",
            ) from error

    def close(self) -> None:
        """Unfinished tasks end with WorkerLost, listeners end."""
        self._closed = True
        for record in list(self._records.values()):
            self.finish(record, WorkerLost(f"the {self._backend} backend is closing"))
        for queue in self._listeners:
            _put(queue, None)

    def _sweep(self) -> None:
        """Remove what an earlier run left unfinished, and old results that nobody came for."""
        for folder in self._directory.glob("*/"):
            with contextlib.suppress(FileNotFoundError):
                if self.now() - (folder / RESULT_FILE).stat().st_mtime < _FORGET_AFTER:
                    continue
            shutil.rmtree(folder, ignore_errors=True)

    def check_open(self) -> None:
        """Raises WorkerLost when the book is closed."""
        if self._closed:
            raise WorkerLost(f"the {self._backend} backend is closed")

    def admit(self, task: ComputeTask, unservable: Callable[[ModelManifest], str]) -> TaskRecord | None:
        """Take a task into the book; None for one that is there already.

        ``unservable`` says why a model cannot run here. Raises TaskConflict, PayloadTooLarge, ModelUnservable, and
        WorkerLost when the book is closed.
        """
        self.check_open()
        job = self._job(task)
        known = self.find(task.key)
        if known is not None:
            if _content(known.job) != _content(job):
                raise TaskConflict(f"task {task.key} is in use for other inputs or another model")
            return None
        payload = sum(item.size for item in task.inputs)
        if len(task.inputs) > MAX_INPUTS or payload > MAX_PAYLOAD:
            raise PayloadTooLarge(
                f"{len(task.inputs)} inputs of {payload} bytes; a task carries {MAX_INPUTS} and {MAX_PAYLOAD} bytes"
            )
        if problem := unservable(task.model.manifest):
            raise ModelUnservable(problem)
        if not task.model.weights.is_file():
            raise ModelUnservable(f"the weights of {task.model.manifest.name} are not at {task.model.weights}")
        # A folder of its own: one of the same key may still be in the hands of a worker whose task was cancelled.
        record = TaskRecord(task.key, job, self._directory / f"{job.id}-{time.time_ns():x}", task)
        record.folder.mkdir(parents=True)
        (record.folder / JOB_FILE).write_text(job.to_json(), encoding="utf-8")
        self._records[task.key] = record
        self.emit(record, TaskPhase.QUEUED)
        delay = max(0.0, task.deadline - self.now())
        record.timer = asyncio.get_running_loop().call_later(delay, self._expire, record)
        return record

    def find(self, key: str) -> TaskRecord | None:
        """A task of this run, or one whose result an earlier run left in the directory."""
        if key in self._records:
            return self._records[key]
        for folder in self._directory.glob(f"{_digest(key)}-*"):
            try:
                job = Job.from_json((folder / JOB_FILE).read_bytes())
                parse_manifest(job.model.manifest)
                result = _read(folder, job)
                provider, started, finished = self._source(folder, result)
            except (JobError, ManifestInvalid, OSError, ValueError, KeyError, TypeError):
                continue
            record = TaskRecord(key, job, folder, outcome=_result(key, job, result, provider, started, finished))
            record.done.set()
            self._records[key] = record
            return record
        return None

    def held(self, record: TaskRecord) -> bool:
        """Whether the book still holds this very record."""
        return self._records.get(record.key) is record

    async def collect(self, key: str) -> TaskResult:
        """Wait for a task's outcome. Raises UnknownTask, or the error that the task came to."""
        record = self.find(key)
        if record is None:
            raise UnknownTask(f"no task {key} here")
        await record.done.wait()
        assert record.outcome is not None
        if isinstance(record.outcome, TaskResult):
            return record.outcome
        raise record.outcome.with_traceback(None)

    def cancel(self, key: str) -> None:
        """Give a task that has no outcome the outcome TaskCancelled."""
        record = self._records.get(key)
        if record is not None and record.outcome is None:
            self.finish(record, TaskCancelled(f"task {key} was cancelled"))

    def forget(self, key: str) -> None:
        """Cancel a task if it must be, and remove it with its folder; unknown ones are ignored."""
        record = self.find(key)
        if record is None:
            return
        self.cancel(key)
        self._records.pop(key, None)
        if record.hands == 0:
            shutil.rmtree(record.folder, ignore_errors=True)
        else:
            # A worker that is still at it keeps its folder until it is done, but nobody finds the task there any more.
            (record.folder / JOB_FILE).unlink(missing_ok=True)

    def take_up(self, record: TaskRecord, provider: str) -> None:
        """A worker is at a task: its folder stays, whatever becomes of the record, until it is put down."""
        record.hands += 1
        self.emit(record, TaskPhase.STARTED, provider=provider)

    def put_down(self, record: TaskRecord) -> None:
        """A worker is done with a task."""
        record.hands -= 1
        if record.hands == 0 and not self.held(record):  # settled meanwhile
            shutil.rmtree(record.folder, ignore_errors=True)

    def read_result(self, record: TaskRecord, provider: str, started: float, finished: float) -> TaskResult:
        """What ``results.json`` in the task's folder says, held against the job. Raises JobError, OSError."""
        return _result(record.key, record.job, _read(record.folder, record.job), provider, started, finished)

    def check_result(
        self, record: TaskRecord, document: bytes, provider: str, started: float, finished: float
    ) -> TaskResult:
        """What a result document says, held against the job. Raises JobError."""
        return _result(record.key, record.job, JobResult.from_json(document, record.job), provider, started, finished)

    def keep_result(self, record: TaskRecord, document: bytes, result: TaskResult, *, agreement_id: str) -> None:
        """Write down a document that was found good, with its source. Raises OSError."""
        source = {
            "provider": result.provider,
            "started": result.started,
            "finished": result.finished,
            "agreement": agreement_id,
        }
        (record.folder / SOURCE_FILE).write_text(json.dumps(source), encoding="utf-8")
        draft = record.folder / f"{RESULT_FILE}.new"
        draft.write_bytes(document)
        draft.replace(record.folder / RESULT_FILE)

    def agreement_of(self, record: TaskRecord) -> str:
        """The agreement in which a task's result came about, or nothing."""
        try:
            return str(json.loads((record.folder / SOURCE_FILE).read_bytes())["agreement"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def finish(self, record: TaskRecord, outcome: Outcome, *, provider: str = "") -> None:
        """Give a task its outcome; the first one stands."""
        if record.outcome is not None:
            return
        record.outcome = outcome
        record.done.set()
        if record.timer is not None:
            record.timer.cancel()
        if isinstance(outcome, TaskResult):
            self.emit(record, TaskPhase.FINISHED, provider=provider)
        else:
            phase = TaskPhase.CANCELLED if isinstance(outcome, TaskCancelled) else TaskPhase.LOST
            self.emit(record, phase, provider=provider, detail=str(outcome))
        self._on_end(record)

    def emit(self, record: TaskRecord, phase: TaskPhase, *, provider: str = "", detail: str = "") -> None:
        """Tell every listener."""
        event = ComputeEvent(record.key, phase, self.now(), provider, detail)
        for queue in self._listeners:
            _put(queue, event)

    def events(self) -> AsyncIterator[ComputeEvent]:
        """Progress of every task from now on; a listener that falls far behind loses the oldest events."""
        queue: asyncio.Queue[ComputeEvent | None] = asyncio.Queue(_UNREAD_EVENTS)
        if self._closed:
            queue.put_nowait(None)
        self._listeners.add(queue)
        return _stream(queue)

    def _expire(self, record: TaskRecord) -> None:
        self.finish(record, TaskTimeout(f"task {record.key} did not finish before its deadline"))

    def _job(self, task: ComputeTask) -> Job:
        return Job(
            id=_digest(task.key),
            model=job_model(task.model),
            inputs=tuple(
                JobInput(item.request_id.hex(), item.image_cid.text, str(item.path.absolute()), item.size)
                for item in task.inputs
            ),
            max_pixels=self._max_pixels,
            max_seconds=max(1, int(self._max_seconds)),
        )

    def _source(self, folder: Path, result: JobResult) -> tuple[str, float, float]:
        """Who did a task of an earlier run, and when."""
        try:
            source = json.loads((folder / SOURCE_FILE).read_bytes())
        except FileNotFoundError:
            finished = (folder / RESULT_FILE).stat().st_mtime
            return self._backend, finished - result.decode_seconds - result.inference_seconds, finished
        return str(source["provider"]), float(source["started"]), float(source["finished"])


def job_model(model: ServableModel) -> JobModel:
    """A model as a job names it on this machine."""
    return JobModel(model.manifest_cid.text, model.manifest.document, str(model.weights.absolute()))


async def _stream(queue: asyncio.Queue[ComputeEvent | None]) -> AsyncIterator[ComputeEvent]:
    while (event := await queue.get()) is not None:
        yield event


def _put(queue: asyncio.Queue[ComputeEvent | None], event: ComputeEvent | None) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(event)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


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
        items=tuple(_item(item, names) for item in result.items),
        started=started,
        finished=finished,
        inference=result.inference_seconds,
        engine=result.engine,
    )


def _item(item: ItemOutput, names: Sequence[str]) -> ItemResult:
    return ItemResult(
        request_id=bytes.fromhex(item.input),
        labels=tuple(LabelScore(index, names[index], probability) for index, probability in item.labels),
        failure=FailureReason.NONE if item.failure is None else _FAILURES[item.failure],
        detail=item.detail,
        size=item.size,
        segments=tuple(
            SegmentScore(one.index, names[one.index], one.score, one.box, one.area, one.counts) for one in item.segments
        ),
        found=item.found,
        familiarity=item.familiarity,
    )
