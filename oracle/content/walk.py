"""A file's blocks from its root down, a few at a time, each to its place, whoever brings them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

from oracle.content.unixfs import FileNode
from oracle.domain import Cid
from oracle.errors import ContentMalformed, ContentTooLarge

Placed = tuple[int, tuple[tuple[Cid, int], ...]]
"""A block's own bytes, and its children with theirs."""
Write = Callable[[int, bytes], None]
"""Bytes to their offset; may be called from several threads."""
Place = Callable[[Cid, int, int], Awaitable[Placed]]
"""Brings the block of that CID, which must hold so many bytes with all below it, and writes it to its offset."""

_MAX_DEPTH = 32


class Target:
    """A file that threads write, each into its place; a thread that comes late finds it closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lock = threading.Lock()

    def write(self, offset: int, payload: bytes) -> None:
        """Put bytes at their offset. Raises ValueError once closed, and OSError."""
        with self._lock:
            self._file.seek(offset)
            self._file.write(payload)

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            self._file.close()


def check_size(cid: Cid, root: FileNode, limit: int) -> None:
    """Raises ContentTooLarge when a file is larger than ``limit`` bytes, by what its root declares."""
    if root.size > limit:
        raise ContentTooLarge(f"{cid} has {root.size:,} bytes and {limit:,} are allowed")


def put(cid: Cid, node: FileNode, size: int, offset: int, write: Write) -> Placed:
    """Write a block of the file ``cid`` to its place. Raises ContentMalformed where it holds not ``size`` bytes."""
    if node.size != size:
        raise ContentMalformed(f"a block of {cid} holds {node.size:,} bytes where {size:,} are declared")
    write(offset, node.payload)
    return len(node.payload), node.children


async def walk(cid: Cid, root: FileNode, place: Place, *, at_once: int) -> None:
    """Have everything below a root placed, ``at_once`` blocks at a time.

    Raises ContentMalformed for more or deeper blocks than a file of its size needs, and what ``place`` raises.
    """
    most_blocks = max(1024, root.size // 1024)
    waiting: list[tuple[Cid, int, int, int]] = []  # cid, size, offset, depth
    running: dict[asyncio.Future[Placed], tuple[int, int]] = {}
    blocks = 0

    def follow(placed: Placed, offset: int, depth: int) -> None:
        nonlocal blocks
        own, children = placed
        blocks += len(children)
        if blocks > most_blocks or depth > _MAX_DEPTH:
            raise ContentMalformed(f"{cid} is cut into more or deeper blocks than a file of its size needs")
        offset += own
        below = []
        for child, size in children:
            below.append((child, size, offset, depth + 1))
            offset += size
        waiting.extend(reversed(below))

    try:
        follow((len(root.payload), root.children), 0, 0)
        while waiting or running:
            while waiting and len(running) < at_once:
                child, size, offset, depth = waiting.pop()
                running[asyncio.ensure_future(place(child, size, offset))] = (offset, depth)
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                follow(task.result(), *running.pop(task))
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
