"""A process that is started again whenever it ends by itself, and never outlives us."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from oracle.devnet.child import die_with, last_words
from oracle.errors import ConfigurationError, MissingTool

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0
_STOP_SECONDS = 1.0
_STEADY = 30.0  # a process that ran so long gets the first pause again

_log = logging.getLogger(__name__)

Ready = Callable[[], Awaitable[bool]]


class Kept:
    """One process. ``log`` receives what it writes; ``pid_file`` holds the id of the one that runs now.

    ``ready`` tells whether it does its work; ``stop`` is the signal that ends it in order; ``folder`` is where it runs.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        pid_file: Path,
        environment: Mapping[str, str],
        folder: Path,
        ready: Ready | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name, self._command, self._log_file, self._pid_file = name, command, log, pid_file
        self._environment, self._folder, self._ready, self._stop = environment, folder, ready, stop
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._logged = 0  # bytes that earlier runs left in the log
        self.restarts = 0

    @property
    def pid(self) -> int:
        """Process id of the one that runs, or ran last."""
        if self._process is None:
            raise ConfigurationError(f"{self.name} was not started")
        return self._process.pid

    async def start(self, *, within: float) -> None:
        """Launch, and wait ``within`` seconds until it is ready. Raises ConfigurationError with its last words."""
        await self._launch()
        try:
            await self._until_ready(within)
        except BaseException:
            await self.close(grace=_STOP_SECONDS)
            raise
        self._keeper = asyncio.create_task(self._keep(within), name=f"keeper of {self.name}")

    async def close(self, *, grace: float = 8.0) -> None:
        """End it for good; killed after ``grace`` seconds. Safe to call twice."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._process is not None:
            await self._end(self._process, grace)
        with contextlib.suppress(OSError):
            self._pid_file.unlink(missing_ok=True)

    async def kill(self) -> None:
        """End it at once and for good, as a power cut would."""
        await self.close(grace=0.0)

    async def _launch(self) -> None:
        with self._open_log() as log:
            self._logged = log.tell()
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    cwd=self._folder,
                    # A Ctrl-C in the terminal goes to the whole group; we decide when our processes end.
                    start_new_session=True,
                    preexec_fn=die_with(os.getpid()),
                )
            except OSError as error:
                raise MissingTool(
                    f"{self.name} cannot be run: {error.strerror}", remedy="Run `make setup` to install it again."
                ) from error
        try:
            self._pid_file.parent.mkdir(parents=True, exist_ok=True)
            self._pid_file.write_text(f"{self._process.pid}\n")
        except OSError as error:
            # Whoever wants to look it up is worse off; the process is not.
            _log.warning("%s cannot be written: %s", self._pid_file, error.strerror)

    def _open_log(self) -> IO[bytes]:
        try:
            self._log_file.parent.mkdir(parents=True, exist_ok=True)
            return self._log_file.open("ab")
        except OSError as error:
            raise ConfigurationError(
                f"the log {self._log_file} of {self.name} cannot be written: {error.strerror}",
                remedy="See to the disk and to who owns that file.",
            ) from error

    async def _until_ready(self, within: float) -> None:
        assert self._process is not None
        give_up = time.monotonic() + within
        while self._ready is not None and not await self._ready():
            if self._process.returncode is not None:
                raise ConfigurationError(
                    f"{self.name} ended at its start: {self._last_words()}",
                    remedy=f"Its whole log is {self._log_file}.",
                )
            if time.monotonic() > give_up:
                raise ConfigurationError(
                    f"{self.name} was not ready within {within:g} s: {self._last_words()}",
                    remedy=f"See whether the machine is busy; its log is {self._log_file}.",
                )
            await asyncio.sleep(0.05)

    async def _keep(self, within: float) -> None:
        pause = _FIRST_PAUSE
        while True:
            assert self._process is not None
            born = time.monotonic()
            code = await self._process.wait()
            if time.monotonic() - born > _STEADY:
                pause = _FIRST_PAUSE
            _log.warning("%s ended with code %d; starting it again in %g s", self.name, code, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self.restarts += 1
            # It may fail in a hundred ways that pass, and the next try follows.
            try:
                await self._launch()
                await self._until_ready(within)
            except ConfigurationError as error:
                _log.warning("%s", error)
                await self._end(self._process, _STOP_SECONDS)

    async def _end(self, process: asyncio.subprocess.Process, grace: float) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self._stop if grace else signal.SIGKILL)
            try:
                async with asyncio.timeout(grace or None):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _last_words(self) -> str:
        return last_words(self._log_file, self._logged)
