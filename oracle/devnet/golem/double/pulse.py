"""How parts of the double wait for each other: whoever changes something beats, whoever waits looks again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Pulse:
    """One beat wakes every waiter, and each looks for itself whether its moment has come."""

    def __init__(self) -> None:
        self._sleepers: set[asyncio.Future[None]] = set()

    def beat(self) -> None:
        """Something changed."""
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        self._sleepers.clear()

    async def until(self, ready: Callable[[], T], seconds: float) -> T:
        """Wait until ``ready`` says something true, at most ``seconds``; what it said last, true or not."""
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.add(sleeper)
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await sleeper
            finally:
                self._sleepers.discard(sleeper)
        return found
