"""Resident child processes for work on hostile bytes: asked over pipes, bounded in time, replaced when they die.

Frames, and the child's side: ``frames.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from oracle.errors import Retryable

_GRACE = 1.0  # seconds a child gets to end by itself


class ChildDied(Exception):
    """A child ended, or spoke out of turn, before it answered."""


class ChildSlow(Exception):
    """A child did not answer in time, or used its share of a processor up; it was ended. The message says which."""


class _Child:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process, max_reply: int) -> None:
        self._process, self._max_reply = process, max_reply

    @classmethod
    async def start(cls, script: Path, arguments: tuple[str, ...], max_reply: int) -> _Child:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",  # neither the environment nor the working directory decides what it imports
                str(script),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                start_new_session=True,  # Ctrl-C at the terminal is for the parent to handle
            )
        except OSError as error:
            raise Retryable(
                f"a picture process cannot be started: {error}",
                remedy="Check the machine's free memory and process limit.",
            ) from error
        return cls(process, max_reply)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, data: bytes) -> bytes:
        """Raises ChildDied."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(struct.pack(">I", len(data)))
            stdin.write(data)
            await stdin.drain()
            (length,) = struct.unpack(">I", await stdout.readexactly(4))
            if length > self._max_reply:
                raise ChildDied(f"a reply of {length} bytes")
            return await stdout.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            await self.stop(grace=_GRACE)
            # How the kernel ends a process that computes for longer than it may: see ``frames.py``.
            if self._process.returncode == -signal.SIGXCPU:
                raise ChildSlow("its share of a processor") from error
            raise ChildDied(str(error)) from error

    async def stop(self, *, grace: float) -> None:
        """End the process; it is gone when this returns."""
        stdin = self._process.stdin
        assert stdin is not None
        stdin.close()
        try:
            async with asyncio.timeout(grace):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class ChildPool:
    """Up to ``children`` processes of one script, started when first needed.

    ``timeout`` in seconds for one answer of at most ``max_reply`` bytes.
    """

    def __init__(
        self, script: Path, arguments: tuple[str, ...], *, children: int, timeout: float, max_reply: int
    ) -> None:
        self._script, self._arguments = script, arguments
        self._timeout, self._max_reply = timeout, max_reply
        self._all: set[_Child] = set()
        self._idle: list[_Child] = []
        self._free = asyncio.Semaphore(children)
        self._closed = False

    async def ask(self, data: bytes) -> bytes:
        """A child's answer. Waits for a free one first; that time does not count.

        Raises ChildSlow, ChildDied when two children died of it, and Retryable when none can be started.
        """
        async with self._free:
            try:
                return await self._ask(data)
            except ChildDied:
                # Whatever earlier work did to a child shall not be blamed on this one: a new child decides.
                return await self._ask(data)

    async def close(self) -> None:
        """End every child; none is left when this returns. What is in work is broken off."""
        self._closed = True
        children = list(self._all)
        self._all.clear()
        self._idle.clear()
        await asyncio.gather(*(child.stop(grace=_GRACE) for child in children))

    async def _ask(self, data: bytes) -> bytes:
        async with self._child() as child:
            try:
                async with asyncio.timeout(self._timeout):
                    return await child.ask(data)
            except TimeoutError as error:
                raise ChildSlow(f"{self._timeout:g} s on the clock") from error

    @contextlib.asynccontextmanager
    async def _child(self) -> AsyncIterator[_Child]:
        """A child for one frame. One that failed in any way, or was interrupted, is out of step and is not reused."""
        if self._closed:
            raise Retryable("the picture processes are closed")
        while self._idle and not self._idle[-1].alive:
            self._all.discard(self._idle.pop())
        child = self._idle.pop() if self._idle else await _Child.start(self._script, self._arguments, self._max_reply)
        self._all.add(child)
        try:
            yield child
        except BaseException:
            self._all.discard(child)
            await child.stop(grace=0)
            raise
        if not self._closed:
            self._idle.append(child)
