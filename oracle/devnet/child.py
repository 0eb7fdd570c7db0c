"""A server of ours as a child process: it says in one line of JSON that it is ready, and never outlives its parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from oracle.errors import ConfigurationError

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LAST_WORDS = 2000


def die_with(parent: int) -> Callable[[], None] | None:
    """What a child runs before its program: ask Linux for SIGTERM when the parent dies (prctl(2)). None elsewhere."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def arrange() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        # The parent may have died between fork and prctl; then the signal never comes.
        if os.getppid() != parent:
            os._exit(1)

    return arrange


class Child:
    """One process. ``log`` receives its standard error; standard output is its protocol. ``environment`` is ours unless
    given.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self._command, self._log, self._environment = name, command, log, environment
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._errors: IO[bytes] | None = None
        self._logged = 0  # bytes that earlier runs left in the log

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process is None:
            raise ConfigurationError(f"{self.name} was not started")
        return self._process.pid

    async def start(self, *, within: float) -> Mapping[str, Any]:
        """Launch and wait for its line of JSON. Raises ConfigurationError with its last words when none comes."""
        try:
            return await self._start(within)
        except BaseException:
            # A Ctrl-C may fall into the start; a child that nobody holds would go on.
            await self.close()
            raise

    async def _start(self, within: float) -> Mapping[str, Any]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._errors = self._log.open("ab")
        self._logged = self._errors.tell()
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._errors,
            env=self._environment,
            # A Ctrl-C in the terminal goes to the whole group; the parent decides when its children end.
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )
        output = self._process.stdout
        if output is None:
            raise ConfigurationError(f"{self.name} has no standard output")
        try:
            async with asyncio.timeout(within):
                line = await output.readline()
            ready: Mapping[str, Any] = json.loads(line)
        except (TimeoutError, ValueError):
            raise ConfigurationError(
                f"{self.name} did not start: {self._last_words()}", remedy=f"Its whole log is {self._log}."
            ) from None
        self._output = asyncio.create_task(_drain(output))
        return ready

    async def ended(self) -> int:
        """Wait until the process is gone; its exit code."""
        if self._process is None:
            raise ConfigurationError(f"{self.name} was not started")
        return await self._process.wait()

    async def close(self, *, grace: float = 15.0) -> None:
        """Ask it to end, kill it after ``grace`` seconds; safe to call twice."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(grace):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._output is not None:
            await self._output
            self._output = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _last_words(self) -> str:
        return last_words(self._log, self._logged)


def last_words(log: Path, since: int) -> str:
    """The last lines of a log from the byte ``since`` on; one that cannot be read says nothing."""
    said = b""
    with contextlib.suppress(OSError), log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(min(since, size), size - _LAST_WORDS))
        said = file.read(_LAST_WORDS)
    lines = said.decode(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "it said nothing"


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(4096):
        pass
