"""The duty that keeps the store at the chain's head and tells the other duties what came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from oracle.domain import BlockRef
from oracle.pipeline.clock import ChainClock
from oracle.pipeline.duty import Bell


class Scans(Protocol):
    """What the follower needs of a scanner."""

    head: BlockRef | None

    async def step(self) -> bool:
        """Scan one range or take back one reorg; whether anything changed."""


class Follower:
    """Log -> SEEN -> CONFIRMED, one range a step."""

    name = "scanner"

    def __init__(self, *, scanner: Scans, clock: ChainClock, downstream: Sequence[Bell]) -> None:
        self.bell = Bell()
        self._scanner, self._clock, self._downstream = scanner, clock, downstream

    async def step(self) -> bool:
        """Scan; when anything changed, wake those who work on it."""
        changed = await self._scanner.step()
        if self._scanner.head is not None:
            self._clock.observe(self._scanner.head)
        if changed:
            for bell in self._downstream:
                bell.ring()
        return changed
