"""Follows the chain: reads logs range by range, and takes back what a reorg took away."""

from __future__ import annotations

import asyncio

from oracle.domain import BlockRef
from oracle.errors import RpcRangeRefused, StoreMismatch
from oracle.ports import ChainReader, RequestStore
from oracle.telemetry import logger

_log = logger("scanner")

DEFAULT_SPAN = 2_000
_CALM_STEPS = 4


class Scanner:
    """Brings the store up to the head, one range for each ``step``.

    ``confirmations`` counts blocks that hold a request or sit on it: 1 means "mined". ``start_block`` is the first
    block that can hold a log of the coordinator; ``span`` the most blocks asked for at once.
    """

    def __init__(
        self,
        reader: ChainReader,
        store: RequestStore,
        *,
        confirmations: int,
        start_block: int = 0,
        span: int = DEFAULT_SPAN,
    ) -> None:
        if confirmations < 1 or start_block < 0 or span < 1:
            raise ValueError("confirmations and span are at least 1, and the start block at least 0")
        self._reader = reader
        self._store = store
        self._confirmations = confirmations
        self._start = start_block
        self._max_span = span
        self._span = span
        self._calm = 0
        self._finished_with: bytes | None = None
        self.head: BlockRef | None = None
        """The newest block seen; the oracle's clock follows its time."""

    async def step(self) -> bool:
        """Scan one range, or take back one reorg; whether anything changed.

        Raises RpcUnavailable, RpcRangeRefused when a single block is too much for the endpoint, and StoreMismatch
        when the chain was replaced below the first scanned block.
        """
        head = await self._reader.head()
        self.head = head
        if head.hash == self._finished_with:
            return False
        self._finished_with = None

        checkpoint = await self._store.checkpoint()
        if checkpoint is not None and head.number <= checkpoint.number:
            return await self._without_new_blocks(checkpoint, head)
        first = self._start if checkpoint is None else checkpoint.number + 1
        if first > head.number:
            return False
        return await self._scan(checkpoint, first, head)

    async def _without_new_blocks(self, checkpoint: BlockRef, head: BlockRef) -> bool:
        known = checkpoint if head.number == checkpoint.number else await self._store.scanned_block(head.number)
        if known is None:
            return False
        canonical = head if known.number == head.number else await self._reader.block(known.number)
        if canonical is None:
            return False
        if canonical.hash != known.hash:
            return await self._take_back(known.number)
        if head.number == checkpoint.number:
            confirmed = await self._store.confirm(self._confirmed_through(head))
            self._finished_with = head.hash
            return confirmed > 0
        # A shorter chain that agrees with ours is a node that lags; rolling back for it would undo work for nothing.
        return False

    async def _scan(self, checkpoint: BlockRef | None, first: int, head: BlockRef) -> bool:
        while True:
            last = min(first + self._span - 1, head.number)
            end = head if last == head.number else await self._reader.block(last)
            if end is None:
                return False
            try:
                events = await self._reader.events(first, last)
                break
            except RpcRangeRefused:
                if last == first:
                    raise
                self._span = (last - first + 1) // 2
                self._calm = 0
                _log.info("the endpoint refuses ranges of %d blocks; asking for %d", last - first + 1, self._span)

        # Only now is the range known to be one piece: its end has not moved, and it sits on what was scanned before.
        below = max(first - 1, 0)
        end_again, base = await asyncio.gather(self._reader.block(last), self._reader.block(below))
        if base is None or end_again is None or end_again.hash != end.hash:
            return False
        if checkpoint is not None and base.hash != checkpoint.hash:
            return await self._take_back(checkpoint.number)

        remembered = {event.position.block.number: event.position.block for event in events}
        if checkpoint is None:
            # The block below the first range is the floor of every later walk back.
            remembered[base.number] = base
        remembered[end.number] = end
        await self._store.commit_scan(events, [remembered[number] for number in sorted(remembered)], end)
        self._grow()
        await self._store.confirm(self._confirmed_through(head))
        if last == head.number:
            self._finished_with = head.hash
        return True

    async def _take_back(self, wrong: int) -> bool:
        """Roll the store back to the newest remembered block that is canonical, knowing that ``wrong`` is not.

        The steps back double and are then halved, so that even a reorg of a long chain takes few calls.
        """
        good: BlockRef | None = None
        low, high, distance = -1, wrong, 1
        while good is None and high - distance >= 0:
            low = high - distance
            known = await self._store.scanned_block(low)
            if known is None:
                break
            if await self._is_canonical(known):
                good = known
            else:
                high, distance, low = known.number, distance * 2, -1
        while low + 1 < high:
            middle = (low + high) // 2
            known = await self._store.scanned_block(middle)
            if known is None or known.number <= low:
                low = middle
            elif await self._is_canonical(known):
                good, low = known, middle
            else:
                high = known.number
        if good is None:
            raise StoreMismatch(
                f"the chain was replaced below block {self._start}, where this database begins",
                remedy="check that the RPC endpoint serves the right chain; "
                "after resetting a development chain, start with a new database",
            )
        touched = await self._store.roll_back(good)
        _log.warning("a reorg replaced the blocks above %d; %d requests are touched", good.number, len(touched))
        return True

    async def _is_canonical(self, known: BlockRef) -> bool:
        block = await self._reader.block(known.number)
        return block is not None and block.hash == known.hash

    def _confirmed_through(self, head: BlockRef) -> int:
        return head.number - self._confirmations + 1

    def _grow(self) -> None:
        self._calm += 1
        # Not at once: doubling after each success would run into the same refusal at every second step.
        if self._calm >= _CALM_STEPS and self._span < self._max_span:
            self._span = min(self._span * 2, self._max_span)
            self._calm = 0
