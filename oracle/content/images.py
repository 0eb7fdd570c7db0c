"""Decides whether bytes are a picture that Sibyl accepts. Decoding happens in child processes, never in this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from oracle.domain import FailureReason, ImageFacts
from oracle.errors import ImageRejected, Retryable

_CHILD = Path(__file__).with_name("image_child.py")
_MAX_REPLY = 64 * 1024
_GRACE = 1.0  # seconds a child gets to end by itself


class _ChildDied(Exception):
    """The child ended, or spoke out of turn, before it answered."""


class _TookTooLong(Exception):
    """The kernel ended the child when the picture's share of processor time was used up."""


class _Child:
    """One decoding process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, arguments: tuple[int, ...]) -> _Child:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",  # neither the environment nor the working directory decides what it imports
                str(_CHILD),
                *(str(argument) for argument in arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={},
                start_new_session=True,  # Ctrl-C at the terminal is for the parent to handle
            )
        except OSError as error:
            raise Retryable(
                f"the picture decoder cannot be started: {error}",
                remedy="Check the machine's free memory and process limit.",
            ) from error
        return cls(process)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def ask(self, data: bytes) -> dict[str, object]:
        """Raises _ChildDied."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(struct.pack(">I", len(data)))
            stdin.write(data)
            await stdin.drain()
            (length,) = struct.unpack(">I", await stdout.readexactly(4))
            if length > _MAX_REPLY:
                raise _ChildDied(f"a reply of {length} bytes")
            reply = json.loads(await stdout.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            await self.stop(grace=_GRACE)
            if self._process.returncode == -signal.SIGXCPU:
                raise _TookTooLong from error
            raise _ChildDied(str(error)) from error
        if not isinstance(reply, dict):
            raise _ChildDied("a reply that is no object")
        return reply

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


class ChildProcessInspector:
    """``ports.ImageInspector`` on resident child processes, started when first needed and replaced when they die.

    ``children`` decode at once; ``timeout`` in seconds on the clock for one picture, ``processor`` in seconds of
    computing; ``max_bytes`` of the file; ``max_pixels`` is checked before anything is decoded; ``memory`` is the
    child's address space in bytes. PNG, JPEG, WebP and GIF are accepted, each with a single frame.
    """

    def __init__(
        self,
        *,
        children: int = 1,
        timeout: float = 10.0,
        processor: int = 5,
        max_bytes: int = 16 * 1024 * 1024,
        max_pixels: int = 40_000_000,
        memory: int = 1024 * 1024 * 1024,
    ) -> None:
        self._timeout, self._processor = timeout, processor
        self._max_bytes = max_bytes
        self._arguments = (max_pixels, memory, processor)
        self._all: set[_Child] = set()
        self._idle: list[_Child] = []
        self._free = asyncio.Semaphore(children)
        self._closed = False

    async def inspect(self, data: bytes) -> ImageFacts:
        """What the picture is. Waits for a free child first; that time does not count.

        Raises ImageRejected with its reason, and Retryable when no child can be started.
        """
        if not data:
            raise ImageRejected("it is empty")
        if len(data) > self._max_bytes:
            raise ImageRejected(
                f"it has {len(data):,} bytes and {self._max_bytes:,} are allowed",
                reason=FailureReason.IMAGE_TOO_LARGE,
            )
        async with self._free:
            try:
                reply = await self._ask(data)
            except _ChildDied:
                # Whatever earlier pictures did to a child shall not be blamed on this one: a new child decides.
                try:
                    reply = await self._ask(data)
                except _ChildDied as error:
                    raise ImageRejected("decoding it brings the decoder down") from error
        return self._facts(reply, len(data))

    async def close(self) -> None:
        """End every child; none is left when this returns. Pictures in work are broken off."""
        self._closed = True
        children = list(self._all)
        self._all.clear()
        self._idle.clear()
        await asyncio.gather(*(child.stop(grace=_GRACE) for child in children))

    async def _ask(self, data: bytes) -> dict[str, object]:
        async with self._child() as child:
            try:
                async with asyncio.timeout(self._timeout):
                    return await child.ask(data)
            except TimeoutError as error:
                raise ImageRejected(f"it was not decoded within {self._timeout:g} s") from error
            except _TookTooLong as error:
                raise ImageRejected(f"decoding it takes more than {self._processor} s of a processor") from error

    @contextlib.asynccontextmanager
    async def _child(self) -> AsyncIterator[_Child]:
        """A child for one picture. One that failed in any way, or was interrupted, is out of step and is not reused."""
        if self._closed:
            raise Retryable("the picture decoder is closed")
        while self._idle and not self._idle[-1].alive:
            self._all.discard(self._idle.pop())
        child = self._idle.pop() if self._idle else await _Child.start(self._arguments)
        self._all.add(child)
        try:
            yield child
        except BaseException:
            self._all.discard(child)
            await child.stop(grace=0)
            raise
        if not self._closed:
            self._idle.append(child)

    @staticmethod
    def _facts(reply: dict[str, object], size: int) -> ImageFacts:
        try:
            if "reason" in reply:
                reason = FailureReason[str(reply["reason"])]
                raise ImageRejected(str(reply["message"])[:500], reason=reason)
            width, height = reply["width"], reply["height"]
            if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
                raise KeyError("size")
            return ImageFacts(format=str(reply["format"]), width=width, height=height, size=size)
        except KeyError as error:
            # A decoder that was taken over by a picture may say anything; it does not get to crash its parent.
            raise ImageRejected("the decoder's answer makes no sense") from error
