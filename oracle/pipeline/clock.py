"""The time that deadlines are measured against: the chain's."""

from __future__ import annotations

import asyncio
import time

from oracle.domain import BlockRef


class ChainClock:
    """The wall clock, moved forward when the chain's newest block is ahead of it (a time-travelled test chain).

    A deadline is enforced by ``block.timestamp``; an oracle that trusted a slower wall clock would post too late.
    Only the newest block counts, so the clock comes back when one that lay far in the future is gone.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._head = b""

    def observe(self, head: BlockRef) -> None:
        """Learn from a newest block. The same one again changes nothing: time goes on while no block is mined."""
        if head.hash != self._head:
            self._head, self._ahead = head.hash, max(0.0, head.timestamp - time.time())

    def now(self) -> float:
        """Unix seconds."""
        return time.time() + self._ahead

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
