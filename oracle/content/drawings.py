"""``ports.Illustrator`` in child processes: drawings of results for people."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oracle.content.children import ChildDied, ChildPool, ChildSlow
from oracle.documents import MOST_FILE_BYTES
from oracle.errors import Retryable
from oracle.telemetry import logger

log = logger("drawings")

_CHILD = Path(__file__).with_name("drawing_child.py")


class ChildProcessIllustrator:
    """Draws in ``children`` processes, each drawing within ``timeout`` seconds and ``memory`` bytes of data."""

    def __init__(
        self,
        *,
        children: int = 1,
        timeout: float = 10.0,
        max_pixels: int = 40_000_000,
        memory: int = 1536 * 1024 * 1024,
    ) -> None:
        self._pool = ChildPool(
            _CHILD,
            (str(max_pixels), str(memory), str(max(1, round(timeout)))),
            children=children,
            timeout=timeout,
            max_reply=2 * MOST_FILE_BYTES,
        )

    async def draw(self, document: Mapping[str, Any], picture: bytes) -> Mapping[str, bytes]:
        """PNG files by name; none, and a line in the log, where drawing fails: a result is worth posting without."""
        text = json.dumps(document).encode()
        try:
            reply = await self._pool.ask(struct.pack(">I", len(text)) + text + picture)
        except (ChildDied, ChildSlow, Retryable) as error:
            log.warning("a result is not drawn: %s", error)
            return {}
        try:
            return _files(reply)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            log.warning("a result is not drawn: %s", error)
            return {}

    async def close(self) -> None:
        """End the processes."""
        await self._pool.close()


def _files(reply: bytes) -> dict[str, bytes]:
    (length,) = struct.unpack(">I", reply[:4])
    sizes = json.loads(reply[4 : 4 + length])
    if "error" in sizes:
        raise ValueError(str(sizes["error"]))
    files, place = {}, 4 + length
    for name, size in sizes.items():
        if type(size) is not int or not 0 < size <= MOST_FILE_BYTES:
            raise ValueError(f"the drawing {name} has {size} bytes")
        files[name] = reply[place : place + size]
        place += size
    return files
