"""What runs when a provider double is told to run a command.

``FakeRuntime`` answers the commands of our images out of thin air, ``HostCommands`` runs any command on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tarfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from provider_images.runtime.job import JOB_FILE, ItemFailure, ItemOutput, Job, JobError, JobInput, JobResult

WORK = "/golem/work"
"""The volume of our images."""
_RUNTIME = ("-m", "provider_images.runtime")


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a command ended. ``cpu_seconds`` is charged; None charges the time it took."""

    code: int = 0
    stdout: str = ""
    stderr: str = ""
    cpu_seconds: float | None = None


RunHandler = Callable[[Sequence[str], Path], Awaitable[RunResult]]
"""Runs a command: its words, and the folder that is ``/golem/work`` to it."""

Answer = Callable[[Job, JobInput, bytes], ItemOutput]
"""What the model says about one picture of a job."""


def runtime_command(words: Sequence[str]) -> str | None:
    """``start`` or ``run`` when the words call the runtime of our images, else None."""
    if tuple(words[1:3]) == _RUNTIME and len(words) > 3 and words[3] in ("start", "run"):
        return words[3]
    return None


def inside(directory: Path, path: str) -> Path:
    """Where a path of the image lies on this machine; relative ones start at ``/golem/work``.

    Raises LookupError when it is outside of the volume.
    """
    pure = PurePosixPath(WORK) / path
    if not pure.is_relative_to(WORK) or ".." in pure.parts:
        raise LookupError(f"path not found in container: {path}")
    return directory / pure.relative_to(WORK)


def plain_answer(job: Job, picture: JobInput, data: bytes) -> ItemOutput:
    """Class 1 with probability 0.6, the other classes asked for share the rest; as familiar as the median."""
    del data
    classes = len(job.model.manifest["labels"])
    count = min(job.model.manifest["output"]["top_k"], classes)
    order = [1, 0, *range(2, classes)] if classes > 1 else [0]
    top = 0.6 if count > 1 else 1.0
    rest = (1 - top) / max(1, count - 1)
    labels = tuple((index, rest if i else top) for i, index in enumerate(order[:count]))
    return ItemOutput(picture.id, labels, familiarity=128 if "familiarity" in job.model.manifest else 0)


@dataclass(slots=True)
class FakeRuntime:
    """The runtime of our images without a model: answers come from ``answer``, at once or after given seconds.

    ``jobs`` collects the ids of the jobs it was given, in order.
    """

    answer: Answer = plain_answer
    start_seconds: float = 0.0
    task_seconds: float = 0.0
    warm_up: Mapping[str, Any] = field(
        default_factory=lambda: {
            "engine": "double",
            "avx": True,
            "cpus": 2,
            "load_seconds": 0.1,
            "images_per_second": 100.0,
        }
    )
    jobs: list[str] = field(default_factory=list)

    async def __call__(self, words: Sequence[str], directory: Path) -> RunResult:
        """Do what the image would do with these words."""
        match runtime_command(words):
            case "start":
                await asyncio.sleep(self.start_seconds)
                return RunResult(stdout=json.dumps(dict(self.warm_up)) + "\n")
            case "run" if len(words) == 6:
                await asyncio.sleep(self.task_seconds)
                try:
                    self._run(inside(directory, words[4]), inside(directory, words[5]))
                except (JobError, OSError, LookupError, tarfile.TarError) as error:
                    return RunResult(1, stderr=f"{error}\n")
                return RunResult()
            case _:
                return RunResult(127, stderr=f"{words[0]}: the double has only the commands of our images\n")

    def _run(self, task: Path, target: Path) -> None:
        with tarfile.open(task) as archive:
            contents = {member.name: _read(archive, member) for member in archive}
        job = Job.from_json(contents.pop(JOB_FILE))
        self.jobs.append(job.id)
        items = tuple(self._item(job, picture, contents) for picture in job.inputs)
        result = JobResult(job.id, str(self.warm_up["engine"]), 0.0, 0.001, items)
        part = target.with_name(target.name + ".part")
        part.write_text(result.to_json())
        part.replace(target)

    def _item(self, job: Job, picture: JobInput, contents: Mapping[str, bytes]) -> ItemOutput:
        data = contents.get(picture.path)
        if data is None or len(data) != picture.size:
            return ItemOutput(picture.id, failure=ItemFailure.MISSING, detail=f"{picture.path} is not in the task")
        return self.answer(job, picture, data)


@dataclass(slots=True)
class HostCommands:
    """Runs the very command on this machine, with ``/golem/work`` in its words replaced by the activity's folder.

    So the real runtime runs here as well, where it is told of the folder; weights are then named by a path of this
    machine. ``python`` stands in for the image's interpreter, and ``environment`` is all that the command gets.
    """

    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": os.defpath})
    seconds: float = 120.0

    async def __call__(self, words: Sequence[str], directory: Path) -> RunResult:
        """Run it in a process group of its own, which ends with it."""
        first = self.python if PurePosixPath(words[0]).name == "python3" else words[0]
        mapped = [first, *(word.replace(WORK, str(directory)) for word in words[1:])]
        if runtime_command(words) is not None:
            mapped += ["--work", str(directory)]
        try:
            process = await asyncio.create_subprocess_exec(
                *mapped,
                cwd=directory,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return RunResult(127, stderr=f"{words[0]}: {error.strerror}\n")
        try:
            async with asyncio.timeout(self.seconds):
                output, errors = await process.communicate()
        except TimeoutError:
            return RunResult(-signal.SIGKILL, stderr=f"killed after {self.seconds} s\n")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        return RunResult(process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace"))


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member) if member.isreg() and "/" not in member.name else None
    if content is None:
        raise JobError(f"{member.name}: regular files without folders expected")
    return content.read()
