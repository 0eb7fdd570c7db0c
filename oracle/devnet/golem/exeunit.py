"""An exe-unit: carries out the scripts of one activity inside the image, and reports what it used.

It is a service on yagna's bus, as Golem's own supervisor is, with the same states, results and messages. Source:
GOLEM's exe-unit and the behaviour of yagna 0.17.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from oracle.devnet.golem import gftp
from oracle.devnet.golem.gsb import Bus, BusError, ServiceError
from oracle.devnet.golem.images import Image
from oracle.devnet.golem.sandbox import Limits, Sandbox, SandboxLost
from oracle.devnet.golem.volumes import Volumes
from oracle.devnet.trees import remove_tree
from oracle.errors import SibylError

RUN_SECONDS: Final = 900.0
_HEARTBEAT = 1.0  # yagna takes an activity for unresponsive after 5 s
_MAX_BATCHES = 4096
_MAX_FILE = 1024 * 1024 * 1024

_log = logging.getLogger(__name__)


class State(StrEnum):
    """What an activity is ready for."""

    INITIALIZED = "Initialized"
    DEPLOYED = "Deployed"
    READY = "Ready"
    TERMINATED = "Terminated"


class CommandFailed(SibylError):
    """A command of a script did not do what it should; the message is what the requestor reads."""


@dataclass(slots=True)
class Machine:
    """The states of an activity: which command is legal, one at a time."""

    state: State = State.INITIALIZED
    pending: State | None = None

    def begin(self, command: str) -> None:
        """Start a command. Raises CommandFailed when it is not its turn."""
        if self.pending is not None:
            raise CommandFailed(f"Busy: {self.state}, {self.pending}")
        self.pending = self._after(command)

    def finish(self, *, done: bool) -> None:
        """The command has ended; one that failed leaves the state as it was."""
        if done and self.pending is not None:
            self.state = self.pending
        self.pending = None

    def _after(self, command: str) -> State:
        match self.state, command:
            case State.INITIALIZED, "deploy":
                return State.DEPLOYED
            case State.INITIALIZED, _:
                raise CommandFailed("State error: Activity is initialized - deploy() command is expected now")
            case State.DEPLOYED, "start":
                return State.READY
            case State.DEPLOYED, _:
                raise CommandFailed("State error: Activity is deployed - start() command is expected now")
            case State.READY, "run" | "transfer":
                return State.READY
            case State.READY, "deploy" | "start":
                raise CommandFailed("State error: Cannot send command after a successful start()")
        raise CommandFailed(f"State error: {command} is not allowed when activity is in the {self.state} state")

    def pair(self) -> list[str | None]:
        """As yagna writes it: the state, and the one that a running command leads to."""
        return [self.state, self.pending]


@dataclass(slots=True)
class _Batch:
    """One script and what became of its commands."""

    script: Sequence[Mapping[str, Any]]
    results: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    @property
    def finished(self) -> bool:
        return bool(self.results) and bool(self.results[-1]["isBatchFinished"])

    def add(self, *, ok: bool, stdout: str | None, stderr: str | None, message: str | None) -> None:
        index = len(self.results)
        self.results.append(
            {
                "index": index,
                "result": "Ok" if ok else "Error",
                "stdout": stdout,
                "stderr": stderr,
                "message": message,
                "isBatchFinished": not ok or index == len(self.script) - 1,
                "eventDate": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            }
        )
        self.changed.set()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command gave."""

    stdout: str | None = None
    stderr: str | None = None
    failure: str | None = None


class ExeUnit:
    """The exe-unit of one activity. ``folder`` is made for it and removed at the end; ``image`` finds its image."""

    def __init__(self, bus: Bus, activity_id: str, *, image: Callable[[], Image], folder: Path, limits: Limits) -> None:
        self._bus, self.activity_id = bus, activity_id
        self._find_image, self._folder, self._limits = image, folder, limits
        self._machine = Machine()
        self._batches: dict[str, _Batch] = {}
        self._sandbox: Sandbox | None = None
        self._volumes = Volumes({})
        self._image: Image | None = None
        self._born = time.monotonic()
        self._cpu = 0.0
        self._heart: asyncio.Task[None] | None = None
        self.usage: tuple[float, float] = (0.0, 0.0)
        """Seconds of life and of processor, as reported last."""

    @property
    def _address(self) -> str:
        return f"/public/exeunit/{self.activity_id}"

    async def start(self) -> None:
        """Come up and say so. Raises BusError."""
        await self._bus.register(self._address, self._serve)
        await self._report_state()
        self._heart = asyncio.create_task(self._beat(), name=f"heartbeat of {self.activity_id}")

    async def close(self) -> None:
        """Kill what runs, report the last usage and the end, remove the folder. Errors of a lost bus are no matter."""
        for batch in self._batches.values():
            if batch.task is not None:
                batch.task.cancel()
        await asyncio.gather(*(batch.task for batch in self._batches.values() if batch.task), return_exceptions=True)
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
        await self._measure()
        await self._end_sandbox()
        self._machine = Machine(State.TERMINATED)
        with contextlib.suppress(BusError):
            await self._report_usage()
            await self._report_state()
            await self._bus.unregister(self._address)
        await asyncio.to_thread(remove_tree, self._folder)

    async def disown(self, reason: str) -> None:
        """Say in the name of one that was killed that the activity has ended. Raises BusError."""
        self._machine = Machine(State.TERMINATED)
        await self._report_state(reason)

    # -----------------------------------------------------------------------------------------------------------
    # What yagna asks
    # -----------------------------------------------------------------------------------------------------------

    async def _serve(self, method: str, body: Any) -> Any:
        match method, body:
            case "Exec", {"batchId": str(batch_id), "exeScript": list(script)}:
                return self._execute(batch_id, script)
            case "GetExecBatchResults", {"batchId": str(batch_id)}:
                return await self._results(batch_id, float(body.get("timeout") or 0), body.get("commandIndex"))
            case "GetState", _:
                return {"state": self._machine.pair(), "reason": None, "errorMessage": None}
            case "GetUsage", _:
                await self._measure()
                return self._usage()
            case "GetRunningCommand", _:
                return self._running()
        raise ServiceError("BadRequest", f"{method} is not offered")

    def _execute(self, batch_id: str, script: Sequence[Mapping[str, Any]]) -> str:
        if batch_id in self._batches:
            raise ServiceError("BadRequest", f"Batch {batch_id} already exists")
        if len(self._batches) >= _MAX_BATCHES:
            # The oldest are long read; a pooled activity lives for hours.
            del self._batches[next(iter(self._batches))]
        batch = self._batches[batch_id] = _Batch(script)
        batch.task = asyncio.create_task(self._carry_out(batch_id, batch), name=f"batch {batch_id}")
        return batch_id

    async def _results(self, batch_id: str, timeout: float, index: int | None) -> Sequence[Mapping[str, Any]]:
        batch = self._batches.get(batch_id)
        if batch is None:
            raise ServiceError("NotFound", f"batch_id = {batch_id}")
        last = len(batch.script) - 1 if index is None else index
        try:
            async with asyncio.timeout(timeout):
                # As the real one does, a failure in the middle is not told before the time is over.
                while len(batch.results) <= last:
                    batch.changed.clear()
                    await batch.changed.wait()
        except TimeoutError:
            if index is not None:
                raise ServiceError("Timeout") from None
        return batch.results[: last + 1]

    def _running(self) -> Any:
        running = [
            batch.script[len(batch.results)] for batch in self._batches.values() if batch.task and not batch.task.done()
        ]
        if not running:
            raise ServiceError("NotFound", f"No running command within activity: {self.activity_id}")
        return [{"command": next(iter(command)), "progress": None, "params": None} for command in running]

    # -----------------------------------------------------------------------------------------------------------
    # Commands
    # -----------------------------------------------------------------------------------------------------------

    async def _carry_out(self, batch_id: str, batch: _Batch) -> None:
        for command in batch.script:
            ((name, parameters),) = command.items()
            try:
                outcome = await self._one(batch_id, name, parameters)
            except SibylError as error:
                outcome = Outcome(failure=str(error))
            except OSError as error:
                outcome = Outcome(failure=f"IO error: {error.strerror}")
            ok = outcome.failure is None
            batch.add(ok=ok, stdout=outcome.stdout, stderr=outcome.stderr, message=outcome.failure)
            if not ok:
                _log.warning("activity %s: %s failed: %s", self.activity_id, name, outcome.failure)
                return

    async def _one(self, batch_id: str, name: str, parameters: Mapping[str, Any]) -> Outcome:
        if name == "terminate":
            await self._reset(batch_id)
            return Outcome()
        self._machine.begin(name)
        done = False
        try:
            await self._report_state()
            match name:
                case "deploy":
                    await self._deploy()
                    outcome = Outcome()
                case "start":
                    await self._start_sandbox()
                    outcome = Outcome()
                case "run":
                    outcome = await self._run(parameters)
                case _:
                    await self._transfer(str(parameters["from"]), str(parameters["to"]))
                    outcome = Outcome()
            done = outcome.failure is None
            return outcome
        finally:
            self._machine.finish(done=done)
            with contextlib.suppress(BusError):
                await self._report_state()

    async def _deploy(self) -> None:
        self._image = self._find_image()
        folders = {}
        for number, volume in enumerate(self._image.volumes):
            folder = self._folder / f"volume-{number}"
            folder.mkdir(parents=True)
            folders[volume] = folder
        self._volumes = Volumes(folders)

    async def _start_sandbox(self) -> None:
        if self._image is None:
            raise CommandFailed("Runtime error: nothing was deployed")
        self._sandbox = Sandbox(self._image.root, self._volumes.folders, self._limits)
        await self._sandbox.start()

    async def _run(self, parameters: Mapping[str, Any]) -> Outcome:
        if self._sandbox is None:
            raise CommandFailed("Runtime error: nothing was started")
        arguments = [str(parameters["entry_point"]), *map(str, parameters.get("args") or ())]
        finished = await self._sandbox.run(arguments, within=RUN_SECONDS)
        capture = parameters.get("capture") or {}
        outcome = Outcome(
            _captured(finished.stdout, capture.get("stdout")), _captured(finished.stderr, capture.get("stderr"))
        )
        if finished.code == 0:
            return outcome
        how = f"exited with code {finished.code}" if finished.code > 0 else f"was ended by signal {-finished.code}"
        return Outcome(outcome.stdout, outcome.stderr, f"ExeScript command {how}")

    async def _transfer(self, source: str, target: str) -> None:
        if source.startswith("gftp:") and target.startswith("container:"):
            with self._volumes.write(target) as file:
                await gftp.download(self._bus, source, file, limit=_MAX_FILE)
        elif source.startswith("container:") and target.startswith("gftp:"):
            with self._volumes.read(source) as file:
                await gftp.upload(self._bus, file, target)
        else:
            raise CommandFailed(f"Transfer error: from {source[:80]} to {target[:80]} is not supported")

    async def _reset(self, batch_id: str) -> None:
        """The ``terminate`` command: everything ends, and the activity may be deployed anew."""
        others = [batch.task for key, batch in self._batches.items() if key != batch_id and batch.task is not None]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._end_sandbox()
        await asyncio.to_thread(remove_tree, self._folder)
        self._machine = Machine()
        await self._report_state()

    async def _end_sandbox(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            with contextlib.suppress(SandboxLost, TimeoutError):
                self._cpu += await sandbox.cpu_seconds()
            await sandbox.close()

    # -----------------------------------------------------------------------------------------------------------
    # Reports
    # -----------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            await self._measure()
            with contextlib.suppress(BusError):
                await self._report_usage()
            await asyncio.sleep(_HEARTBEAT)

    async def _measure(self) -> None:
        cpu = self._cpu
        if self._sandbox is not None:
            with contextlib.suppress(SandboxLost, TimeoutError):
                cpu += await self._sandbox.cpu_seconds()
        # A sandbox that has ended takes its figure with it; what was reported stays.
        self.usage = (time.monotonic() - self._born, max(cpu, self.usage[1]))

    def _usage(self) -> Mapping[str, Any]:
        return {"currentUsage": list(self.usage), "timestamp": int(time.time())}

    async def _report_usage(self) -> None:
        body = {"activityId": self.activity_id, "usage": self._usage(), "timeout": None}
        await self._bus.call("/local/activity/SetActivityUsage", body)

    async def _report_state(self, reason: str | None = None) -> None:
        state = {"state": self._machine.pair(), "reason": reason, "errorMessage": None}
        body = {"activityId": self.activity_id, "state": state, "timeout": None}
        await self._bus.call("/local/activity/SetActivityState", body)


def _captured(output: bytes, capture: Mapping[str, Any] | None) -> str | None:
    """The part of an output that the script wants to see; None when none."""
    match capture:
        case None:
            return None
        case {"atEnd": {"head": int(size)}}:
            output = output[:size]
        case {"atEnd": {"tail": int(size)}}:
            output = output[-size:] if size else b""
        case {"atEnd": {"headTail": int(size)}} if len(output) > size:
            output = output[: size // 2] + output[len(output) - (size - size // 2) :]
    return output.decode(errors="replace")
