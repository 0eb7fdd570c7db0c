"""Decides whether bytes are a picture that Sibyl accepts. Decoding happens in child processes, never in this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from oracle.content.children import ChildDied, ChildPool, ChildSlow
from oracle.domain import FailureReason, ImageFacts
from oracle.errors import ImageRejected

_CHILD = Path(__file__).with_name("image_child.py")
_MAX_REPLY = 64 * 1024


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
        self._max_bytes = max_bytes
        self._pool = ChildPool(
            _CHILD,
            (str(max_pixels), str(memory), str(processor)),
            children=children,
            timeout=timeout,
            max_reply=_MAX_REPLY,
        )

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
        try:
            reply = json.loads(await self._pool.ask(data))
        except ChildSlow as error:
            raise ImageRejected(f"decoding it takes more than {error}") from error
        except ChildDied as error:
            raise ImageRejected("decoding it brings the decoder down") from error
        except ValueError as error:
            raise ImageRejected("the decoder's answer makes no sense") from error
        return self._facts(reply, len(data))

    async def close(self) -> None:
        """End every child; none is left when this returns. Pictures in work are broken off."""
        await self._pool.close()

    @staticmethod
    def _facts(reply: Any, size: int) -> ImageFacts:
        try:
            if "reason" in reply:
                reason = FailureReason[str(reply["reason"])]
                raise ImageRejected(str(reply["message"])[:500], reason=reason)
            width, height = reply["width"], reply["height"]
            if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
                raise KeyError("size")
            return ImageFacts(format=str(reply["format"]), width=width, height=height, size=size)
        except (KeyError, TypeError) as error:
            # A decoder that was taken over by a picture may say anything; it does not get to crash its parent.
            raise ImageRejected("the decoder's answer makes no sense") from error
