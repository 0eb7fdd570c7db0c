"""The time that deadlines are measured against: the chain's."""

from __future__ import annotations

import asyncio
import time

from oracle.domain import BlockRef


class ChainClock:
    """The wall clock, moved forward when the chain's newest block is ahead of it (a time-travelled test chain).

    A deadline is enforced by ``block.timestamp``; an oracle that trusted a slower wall clock would post too late.
    """

    def __init__(self) -> None:
        self._ahead = 0.0

    def observe(self, head: BlockRef) -> None:
        """Learn from a newest block."""
        self._ahead = max(self._ahead, head.timestamp - time.time())

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
