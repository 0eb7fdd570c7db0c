"""One activity at a provider double: its folder, its state machine, and its batches of commands."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from oracle.devnet.golem.double.faults import Corrupt, Deed, Delay, Fail, Hang, Moment
from oracle.devnet.golem.double.http import Refusal
from oracle.devnet.golem.double.identifiers import Clock, stamp
from oracle.devnet.golem.double.market import Agreement
from oracle.devnet.golem.double.pulse import Pulse
from oracle.devnet.golem.double.runtime import RunHandler, RunResult, inside, runtime_command
from oracle.devnet.golem.double.spool import Spool

_COMMANDS = ("sign", "deploy", "start", "run", "transfer", "terminate")
_MOMENTS = {"start": Moment.WARM_UP, "run": Moment.TASK}


class Host(Protocol):
    """The provider that an exe-unit belongs to."""

    handler: RunHandler

    def take(self, moment: Moment, detail: str) -> Deed | None:
        """A moment has come; what to do wrong, if anything."""
        ...

    def misbehave(self, deed: Deed, activity: Activity) -> None:
        """Do what concerns more than a single command: die, crash, terminate."""
        ...


@dataclass(slots=True)
class Batch:
    """Commands that were sent together, and the results so far."""

    id: str
    commands: Sequence[Mapping[str, Any]]
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """No more results will come: the last command is done, or one failed."""
        return bool(self.results) and bool(self.results[-1]["isBatchFinished"])

    @property
    def complete(self) -> bool:
        """The last command is done; yagna keeps a poll waiting for this alone."""
        return len(self.results) == len(self.commands)


class _Failed(Exception):
    def __init__(self, code: int, message: str, *, stdout: str | None = None, stderr: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.stdout, self.stderr = code, message, stdout, stderr


class Activity:
    """An exe-unit with its folder below ``directory``, until it is destroyed.

    ``lost`` is yagna's error while the exe-unit cannot be reached; ``reason`` says why the provider ended it.
    """

    def __init__(
        self, id_: str, agreement: Agreement, host: Host, directory: Path, spool: Spool, clock: Clock, pulse: Pulse
    ) -> None:
        self.id = id_
        self.agreement = agreement
        self.directory = directory
        self.state = "Initialized"
        self.lost: str | None = None
        self.reason: str | None = None
        self.message: str | None = None
        self.batches: dict[str, Batch] = {}
        self.cpu_seconds = 0.0
        self._host, self._spool, self._clock, self._pulse = host, spool, clock, pulse
        self._began = time.monotonic()
        self._ended: float | None = None
        self._pending: str | None = None
        self._running: set[asyncio.Task[None]] = set()
        directory.mkdir(parents=True)

    @property
    def alive(self) -> bool:
        """The exe-unit is there and can be given work."""
        return self._ended is None

    @property
    def usage(self) -> tuple[float, float]:
        """Seconds since it was created, and seconds of processor."""
        return (self._ended or time.monotonic()) - self._began, self.cpu_seconds

    def submit(self, id_: str, text: str) -> Batch:
        """Begin a batch. Raises Refusal."""
        batch = Batch(id_, _parse(text))
        self.batches[id_] = batch
        task = asyncio.create_task(self._work(batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return batch

    async def end(self, *, lost: str | None = None, reason: str | None = None, message: str | None = None) -> None:
        """Stop whatever runs and remove the folder: terminated, or ``lost`` with yagna's words for it."""
        if self._ended is None:
            self._ended = time.monotonic()
        self.lost = lost
        if lost is None:
            self.state = "Terminated"
            self.reason, self.message = reason or self.reason, message or self.message
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)
        self._pulse.beat()

    async def _work(self, batch: Batch) -> None:
        for index, command in enumerate(batch.commands):
            result = await self._result(index, command, last=index == len(batch.commands) - 1)
            batch.results.append(result)
            self._pulse.beat()
            if result["isBatchFinished"]:
                break

    async def _result(self, index: int, command: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
        name, body = next(iter(command.items()))
        ok, message, stdout, stderr = True, None, None, None
        try:
            done = await self._execute(name, body)
            stdout, stderr = _captured(body, "stdout", done.stdout), _captured(body, "stderr", done.stderr)
        except _Failed as failed:
            ok, message = False, failed.message
            stdout, stderr = _captured(body, "stdout", failed.stdout), _captured(body, "stderr", failed.stderr)
        return {
            "index": index,
            "eventDate": stamp(self._clock.now()),
            "result": "Ok" if ok else "Error",
            "stdout": stdout,
            "stderr": stderr,
            "message": message,
            "isBatchFinished": last or not ok,
        }

    async def _execute(self, name: str, body: Mapping[str, Any]) -> RunResult:
        if name == "terminate":
            await self._reset()
            return RunResult()
        self._pending = self._next_state(name)
        try:
            match name:
                case "deploy":
                    await self._meet(Moment.DEPLOY, "")
                case "start":
                    await self._meet(Moment.START, "")
                case "transfer":
                    await self._transfer(body["from"], body["to"])
                case _:
                    return await self._run([body["entry_point"], *body.get("args", [])])
            self.state = self._pending
        finally:
            self._pending = None
        return RunResult()

    async def _reset(self) -> None:
        others = [task for task in self._running if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self.directory)
        self.directory.mkdir()
        self.state = "Initialized"

    def _next_state(self, command: str) -> str:
        if self._pending is not None:
            raise _Failed(-1, f"Busy: {self.state}, {self._pending}")
        match self.state, command:
            case "Initialized", "deploy":
                return "Deployed"
            case "Deployed", "start":
                return "Ready"
            case "Ready", "run" | "transfer":
                return "Ready"
            case "Initialized", _:
                raise _Failed(-1, "State error: Activity is initialized - deploy() command is expected now")
            case "Deployed", _:
                raise _Failed(-1, "State error: Activity is deployed - start() command is expected now")
            case _, "deploy" | "start":
                raise _Failed(-1, "State error: Cannot send command after a successful start()")
        raise _Failed(-1, f"State error: {command} is not allowed when activity is in the {self.state} state")

    async def _run(self, words: Sequence[str]) -> RunResult:
        said = shlex.join(words)
        command = runtime_command(words)
        await self._meet(Moment.RUN, said)
        if command is not None:
            await self._meet(_MOMENTS[command], said)
        began = time.monotonic()
        done = await self._host.handler(words, self.directory)
        self.cpu_seconds += time.monotonic() - began if done.cpu_seconds is None else done.cpu_seconds
        if done.code != 0:
            message = f"ExeScript command exited with code {done.code}"
            raise _Failed(done.code, message, stdout=done.stdout, stderr=done.stderr)
        return done

    async def _transfer(self, source: str, target: str) -> None:
        try:
            if target.startswith("container:"):
                path = target.removeprefix("container:")
                into, outof = self._volume_path(path), self._spool.path(source)
                deed = await self._meet(Moment.UPLOAD, path)
            else:
                path = source.removeprefix("container:")
                into, outof = self._spool.path(target), self._volume_path(path)
                deed = await self._meet(Moment.DOWNLOAD, path)
            data = await asyncio.to_thread(outof.read_bytes)
            if isinstance(deed, Corrupt):
                data = deed.alter(data)
            into.parent.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(into.write_bytes, data)
        except OSError as error:
            raise _Failed(-1, f"IO error: {error.strerror}") from error
        except LookupError as error:
            raise _Failed(-1, str(error.args[0])) from error

    def _volume_path(self, path: str) -> Path:
        if not path.startswith("/"):
            raise LookupError(f"path not found in container: {path}")
        return inside(self.directory, path)

    async def _meet(self, moment: Moment, detail: str) -> Deed | None:
        deed = self._host.take(moment, detail)
        match deed:
            case Fail(code, stderr, message):
                raise _Failed(code, message or f"ExeScript command exited with code {code}", stderr=stderr)
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Hang(reached, released):
                reached.set()
                await released.wait()
            case None | Corrupt():
                pass
            case _:
                self._host.misbehave(deed, self)
                # Nothing comes back from an exe-unit that is going away: its worker is cancelled here.
                await asyncio.Event().wait()
        return deed


def _parse(text: str) -> list[Mapping[str, Any]]:
    try:
        commands = json.loads(text)
    except ValueError as error:
        raise Refusal(400, f"Bad request: {error}") from error
    if not isinstance(commands, list):
        raise Refusal(400, "Bad request: invalid type, expected a sequence")
    for command in commands:
        if not isinstance(command, dict) or len(command) != 1 or next(iter(command)) not in _COMMANDS:
            expected = ", ".join(f"`{name}`" for name in _COMMANDS)
            raise Refusal(400, f"Bad request: unknown variant in {json.dumps(command)}, expected one of {expected}")
    return commands


def _captured(body: Mapping[str, Any], stream: str, text: str | None) -> str | None:
    mode = body.get("capture", {}).get(stream)
    if mode is None or text is None:
        return None
    limits = mode.get("atEnd", mode.get("stream", {}))
    if "head" in limits:
        return text[: limits["head"]]
    if "tail" in limits:
        return text[-limits["tail"] :]
    if "headTail" in limits:
        half = limits["headTail"] // 2
        return text if len(text) <= 2 * half else text[:half] + text[-half:]
    return text
