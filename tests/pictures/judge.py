"""What the oracle's inspector and a provider's decoder say of the same bytes, how long they took, what memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from oracle.content.images import ChildProcessInspector
from oracle.errors import ImageRejected
from tests.pictures.worker import forget_peak, peak_mb

MAX_PIXELS = 40_000_000
MAX_SECONDS = 10.0
MAX_RSS_MB = 2048.0
_MEMORY_MB = 1024  # of the provider's decoder; beside a model there is no more
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``size`` of a picture that is accepted, else ``reason`` and ``words``; ``crashed`` when its process died."""

    seconds: float
    rss_mb: float
    size: tuple[int, int] | None = None
    reason: str = ""
    words: str = ""
    crashed: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """Both verdicts on one picture."""

    oracle: Verdict
    provider: Verdict

    @property
    def agreed(self) -> bool:
        """Whatever the oracle accepts, a provider must be able to read, and see at the same size."""
        return self.oracle.size is None or self.oracle.size == self.provider.size

    @property
    def crashed(self) -> bool:
        return self.oracle.crashed or self.provider.crashed

    @property
    def seconds(self) -> float:
        return max(self.oracle.seconds, self.provider.seconds)

    @property
    def rss_mb(self) -> float:
        return max(self.oracle.rss_mb, self.provider.rss_mb)

    @property
    def in_limits(self) -> bool:
        """No crash, no hang, bounded memory, no disagreement."""
        return self.agreed and not self.crashed and self.seconds < MAX_SECONDS and self.rss_mb < MAX_RSS_MB


class Judge:
    """Both decoders in their own processes, one picture at a time. Use ``judging``."""

    def __init__(self) -> None:
        self._inspector = ChildProcessInspector(max_pixels=MAX_PIXELS)
        self._worker: asyncio.subprocess.Process | None = None

    async def judge(self, data: bytes) -> Judgement:
        """Both verdicts, at the same time."""
        oracle, provider = await asyncio.gather(self._ask_oracle(data), self._ask_provider(data))
        return Judgement(oracle, provider)

    async def close(self) -> None:
        """End both processes."""
        await self._inspector.close()
        await self._end_worker()

    async def _ask_oracle(self, data: bytes) -> Verdict:
        for child in _decoders():
            with contextlib.suppress(OSError):
                forget_peak(child)
        began, peak = time.monotonic(), _Peak()
        watch = asyncio.create_task(peak.watch())  # a child that dies takes its figures along
        try:
            facts = await self._inspector.inspect(data)
        except ImageRejected as error:
            crashed = "brings the decoder down" in str(error)
            return Verdict(time.monotonic() - began, peak.last(), None, error.reason.name, str(error), crashed)
        finally:
            watch.cancel()
        return Verdict(time.monotonic() - began, peak.last(), (facts.width, facts.height))

    async def _ask_provider(self, data: bytes) -> Verdict:
        if self._worker is None:
            self._worker = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "tests.pictures.worker", str(MAX_PIXELS), str(_MEMORY_MB)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=_ROOT,
            )
        stdin, stdout = self._worker.stdin, self._worker.stdout
        assert stdin is not None
        assert stdout is not None
        began = time.monotonic()
        try:
            # The worker decodes in three ways, one after the other.
            async with asyncio.timeout(3 * MAX_SECONDS):
                stdin.write(struct.pack(">I", len(data)) + data)
                await stdin.drain()
                (length,) = struct.unpack(">I", await stdout.readexactly(4))
                reply = json.loads(await stdout.readexactly(length))
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            await self._end_worker()
            return Verdict(time.monotonic() - began, 0.0, None, "NONE", repr(error), crashed=True)
        size = reply.get("size")
        return Verdict(
            reply["seconds"],
            reply["rss_mb"],
            None if size is None else (size[0], size[1]),
            reply.get("failure", ""),
            reply.get("detail", ""),
        )

    async def _end_worker(self) -> None:
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                self._worker.kill()
            await self._worker.wait()
            self._worker = None


@contextlib.asynccontextmanager
async def judging() -> AsyncIterator[Judge]:
    """A judge, and no process left behind."""
    judge = Judge()
    try:
        yield judge
    finally:
        await judge.close()


class _Peak:
    """The oracle's child may be replaced, or die, while its memory is watched."""

    def __init__(self) -> None:
        self._most = 0.0

    async def watch(self) -> None:
        while True:
            self.last()
            await asyncio.sleep(0.02)

    def last(self) -> float:
        for child in _decoders():
            with contextlib.suppress(OSError, IndexError):
                self._most = max(self._most, peak_mb(child))
        return self._most


def _decoders() -> list[int]:
    """The oracle's children among ours."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [child for child in children.read_text().split() if _is_decoder(child)]
    return [int(child) for child in found]


def _is_decoder(process: str) -> bool:
    try:
        return b"image_child.py" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
