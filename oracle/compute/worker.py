"""One runtime worker process seen from the oracle: start it, talk to it line by line, end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LINE_LIMIT = 64 * 1024


class WorkerGone(Exception):
    """The process ended, or broke the protocol so that it can only be ended."""


class WorkerProcess:
    """A running worker. One exchange at a time; ``kill`` may come at any moment, from anywhere."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.replies = 0
        self._last_words: deque[str] = deque(maxlen=8)
        self._listener = asyncio.create_task(self._listen(), name=f"stderr of worker {process.pid}")

    @classmethod
    async def spawn(cls, command: Sequence[str]) -> WorkerProcess:
        """Start the process. Raises OSError when the executable is not there."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            limit=_LINE_LIMIT,
            # Ctrl-C in the terminal is for the oracle, which then ends its workers in order.
            process_group=0,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def last_words(self) -> str:
        """The end of what it wrote to stderr, in one line."""
        return " | ".join(self._last_words)[-500:]

    async def hello(self) -> Mapping[str, Any]:
        """Wait for the line that says the engine is up. Raises WorkerGone."""
        return await self._receive()

    async def ask(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send an order and wait for its reply. Raises WorkerGone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()
        except OSError as error:
            raise WorkerGone(await self._epitaph()) from error
        reply = await self._receive()
        self.replies += 1
        return reply

    async def wait(self) -> None:
        """Until it has ended."""
        await self._process.wait()

    def kill(self) -> None:
        """End it at once; the exchange under way raises WorkerGone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self, grace: float) -> None:
        """Let it end by itself for ``grace`` seconds, then kill it; wait until it is gone. May be called again."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        # asyncio.timeout here and below, for wait_for of Python 3.11 may swallow the cancellation of its caller.
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._process.wait()
        finally:
            self.kill()
        await self._process.wait()
        await asyncio.wait([self._listener])
        # The transport would otherwise keep its pipe to stdin until the garbage collector finds it.
        with contextlib.suppress(OSError):
            await self._process.stdin.wait_closed()

    async def _receive(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        try:
            line = await self._process.stdout.readline()
        except (ValueError, OSError) as error:
            raise WorkerGone(f"its reply cannot be read: {error}") from error
        if not line:
            raise WorkerGone(await self._epitaph())
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise WorkerGone(f"its reply is not JSON: {line[:80]!r}") from error
        if not isinstance(reply, dict):
            raise WorkerGone(f"its reply is not an object: {line[:80]!r}")
        return reply

    async def _epitaph(self) -> str:
        # stdout is closed, so the process is ending; one that lingers is not worth waiting for.
        try:
            async with asyncio.timeout(1.0):
                code = await self._process.wait()
        except TimeoutError:
            return "it closed its output"
        await asyncio.wait([self._listener], timeout=1.0)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"process {self.pid} ended with {how}" + (f": {self.last_words}" if self.last_words else "")

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        # In chunks, for a line of any length must not stop the reading: a full pipe would stop the worker.
        rest = ""
        while chunk := await self._process.stderr.read(4096):
            *lines, rest = (rest + chunk.decode(errors="replace")).split("\n")
            rest = rest[-1000:]
            self._last_words.extend(line[:300] for line in lines if line.strip())


def runtime_command(
    *, python: str, threads: int, models: int, memory_mb: int, compiled: Path | None = None
) -> tuple[str, ...]:
    """The command line of a worker of the provider runtime, as a child of this process.

    ``compiled`` is the folder of compiled models, which need not be there yet.
    """
    return (
        *(python, "-P", "-m", "provider_images.runtime.worker", "--parent", str(os.getpid())),
        *("--threads", str(threads), "--models", str(models), "--memory-mb", str(memory_mb)),
        *(("--compiled", str(compiled.absolute())) if compiled else ()),
    )
