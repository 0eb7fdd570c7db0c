"""A large file from a web address to disk: bounded in bytes and in time, and never taken for whole when it is not."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from oracle.errors import ContentCorrupt, ContentTooLarge, ContentUnavailable

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_PIECE = 1024 * 1024
_MOST_REDIRECTS = 5

Watch = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says it


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, between two pieces, and for the whole."""

    connect: float = 20.0
    idle: float = 60.0
    total: float = 7200.0


PATIENCE = Patience()


async def download(url: str, target: Path, *, limit: int, patience: Patience, watch: Watch) -> int:
    """Write what ``url`` serves to ``target``; how many bytes there are. Proxies of the environment are used.

    Raises ContentUnavailable (no network, a refusal, too slow), ContentCorrupt (cut short), ContentTooLarge (over
    ``limit`` bytes), OSError (the disk). What lies at ``target`` then means nothing.
    """
    import aiohttp

    # As it is: a file that was compressed for the way would have another digest, and no known size.
    headers = {"Accept-Encoding": "identity", "User-Agent": "sibyl"}
    timeout = aiohttp.ClientTimeout(
        total=patience.total, connect=patience.connect, sock_connect=patience.connect, sock_read=patience.idle
    )
    try:
        async with (
            aiohttp.ClientSession(
                headers=headers, timeout=timeout, trust_env=True, auto_decompress=False, read_bufsize=_PIECE
            ) as session,
            session.get(url, max_redirects=_MOST_REDIRECTS) as response,
        ):
            check_hops(url, [str(hop.url) for hop in (*response.history, response)])
            if response.status != 200:
                raise ContentUnavailable(f"{url} answers {response.status} {response.reason or ''}".rstrip())
            _check_size(url, response.content_length, limit, target)
            return await _save(response, target, limit, watch)
    except aiohttp.ClientPayloadError as error:
        raise ContentCorrupt(f"{url} was cut short") from error
    except TimeoutError as error:
        raise ContentUnavailable(f"{url} is too slow, or does not answer") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise ContentUnavailable(f"{url} cannot be reached: {error}") from error


def check_hops(url: str, hops: Sequence[str]) -> None:
    """Raises ContentUnavailable when a way that begins with https leads through an address without."""
    if url.startswith("https://") and not all(hop.startswith("https://") for hop in hops):
        raise ContentUnavailable(f"{url} leads to an address that is not https")


def _check_size(url: str, size: int | None, limit: int, target: Path) -> None:
    if size is None:
        return
    if size > limit:
        raise ContentTooLarge(f"{url} has {size:,} bytes and {limit:,} are allowed")
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise ContentUnavailable(
            f"{url} has {size:,} bytes and {target.parent} has room for {free:,}", remedy="Make room on the disk."
        )


async def _save(response: ClientResponse, target: Path, limit: int, watch: Watch) -> int:
    held, size = 0, response.content_length
    file = await asyncio.to_thread(target.open, "wb")
    try:
        async for piece in response.content.iter_chunked(_PIECE):
            held += len(piece)
            if held > limit:
                raise ContentTooLarge(f"{response.url} has more than the {limit:,} bytes that are allowed")
            await asyncio.to_thread(file.write, piece)
            watch(held, size)
    finally:
        file.close()
    return held


__all__ = ["PATIENCE", "Patience", "Watch", "check_hops", "download"]
