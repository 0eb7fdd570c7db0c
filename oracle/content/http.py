"""The content store over Sibyl's HTTP API, for whoever has no IPFS node: every byte that comes back is hashed here."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from oracle.content.cid import is_named
from oracle.content.unixfs import MAX_BLOCK_BYTES, FileNode, cid_of, read_block
from oracle.content.walk import Placed, check_size, put, walk
from oracle.domain import Cid
from oracle.errors import (
    ConfigurationError,
    ContentCorrupt,
    ContentTooLarge,
    ContentUnavailable,
    ImageRejected,
    Retryable,
    SibylError,
)

ANSWER_BYTES = 1024 * 1024  # of JSON that the API may answer
ANSWER_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_LONGEST_TEXT = 300  # characters of the API's own words that an error repeats
_WAIT = (429, 503)  # what may name a pause after which it is worth asking again
_SHORTEST_PAUSE = 0.1  # seconds until the API is asked again that wants none
_UPLOADS = 4  # at once; the API takes no more of one client
_TOO_LARGE = 413


class ApiUnavailable(Retryable):
    """The API does not answer, answers with an error of its own, or asks for patience."""


class ApiRefused(SibylError):
    """The API says no, in its own words. ``status`` is HTTP's."""

    def __init__(self, message: str, *, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class HttpApi:
    """Sibyl's API at an address such as ``http://127.0.0.1:8080``: bounded in time and bytes; no redirects, no proxies.

    Raises ConfigurationError for an address that is none. Nothing is contacted before the first call. For one event
    loop; close it with ``close``.
    """

    def __init__(self, url: str, *, at_once: int = 8) -> None:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment or parts.username or parts.password:
            raise ConfigurationError(
                "the API's address is not an http or https URL", remedy="Write it like http://127.0.0.1:8080."
            )
        self.url = url.rstrip("/")
        self.at_once = at_once
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def read(
        self, path: str, *, limit: int, timeout: float = ANSWER_SECONDS, query: Mapping[str, str] | None = None
    ) -> bytes:
        """What lies at a path, at most ``limit`` bytes. Raises ApiUnavailable, ApiRefused, ContentTooLarge."""
        return await self._exchange("GET", path, limit, timeout, lambda: {"params": query})

    async def document(
        self,
        path: str,
        *,
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        json_body: object = None,
        picture: bytes | None = None,
        timeout: float = ANSWER_SECONDS,
    ) -> dict[str, Any]:
        """A JSON object as the API answers it; an empty one for an empty answer.

        What is sent is ``json_body``, or a form with a ``picture``. Raises ApiUnavailable (also for what is no JSON
        object) and ApiRefused.
        """

        def options() -> dict[str, Any]:
            if picture is None:
                return {"params": query} | ({} if json_body is None else {"json": json_body})
            form = aiohttp.FormData()
            form.add_field("image", io.BytesIO(picture), filename="picture", content_type="application/octet-stream")
            return {"params": query, "data": form}

        try:
            answer = await self._exchange(method, path, ANSWER_BYTES, timeout, options)
            found = json.loads(answer) if answer else {}
        except (ValueError, RecursionError):
            found = None
        except ContentTooLarge as error:
            raise ApiUnavailable(f"{self.url} answers {path} with too much") from error
        if not isinstance(found, dict):
            raise ApiUnavailable(
                f"{self.url} answers {path} with something that is not Sibyl's", remedy="Check the API's address."
            )
        return found

    async def close(self) -> None:
        """Break off what is under way, and take no more."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _exchange(
        self, method: str, path: str, limit: int, timeout: float, options: Callable[[], dict[str, Any]]
    ) -> bytes:
        """One answer's body; asked again when the API wants a pause, as long as there is time."""
        until = time.monotonic() + timeout
        while True:
            left = max(0.001, until - time.monotonic())
            try:
                status, body, pause = await self._once(method, path, limit, left, options())
            except TimeoutError as error:
                raise ApiUnavailable(f"{self.url} did not answer {path} within {timeout:g} s") from error
            if 200 <= status < 300:
                return body
            if status not in _WAIT or pause is None or pause >= until - time.monotonic():
                raise _refusal(self.url, path, status, body)
            await asyncio.sleep(max(_SHORTEST_PAUSE, pause))

    async def _once(
        self, method: str, path: str, limit: int, timeout: float, options: dict[str, Any]
    ) -> tuple[int, bytes, float | None]:
        if self._closed:
            raise ApiUnavailable(f"the connection to {self.url} is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": "sibyl", "Accept-Encoding": "identity"},
                connector=aiohttp.TCPConnector(limit=self.at_once, keepalive_timeout=30),
                auto_decompress=False,
            )
        patience = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT_SECONDS)
        try:
            async with self._session.request(
                method, self.url + path, timeout=patience, allow_redirects=False, **options
            ) as response:
                good = 200 <= response.status < 300
                body = await self._body(response, limit if good else ANSWER_BYTES, path)
                after = response.headers.get("Retry-After", "")
                return response.status, body, float(after) if after.isascii() and after.isdigit() else None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ApiUnavailable(
                f"{self.url} cannot be reached ({type(error).__name__})",
                remedy="Check that the API runs and that its address is right.",
            ) from error

    async def _body(self, response: aiohttp.ClientResponse, limit: int, path: str) -> bytes:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > limit:
                raise ContentTooLarge(f"{self.url} sends more than {limit:,} bytes for {path}")
            pieces.append(piece)
        return b"".join(pieces)


def _refusal(url: str, path: str, status: int, body: bytes) -> SibylError:
    """The error that a problem document (RFC 9457) describes, or that its status alone tells."""
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        problem = None
    said = problem if isinstance(problem, dict) else {}
    words = _plain(said.get("detail")) or _plain(said.get("title")) or f"HTTP {status}"
    remedy = _plain(said.get("remedy"))
    if status == 429 or status >= 500:
        return ApiUnavailable(f"{url} cannot answer {path} now: {words}", remedy=remedy or "Try again later.")
    return ApiRefused(f"{url} refuses {path}: {words}", status=status, remedy=remedy)


def _plain(text: object) -> str:
    return "".join(c for c in text[:_LONGEST_TEXT] if c.isprintable()) if isinstance(text, str) else ""


class HttpContentStore:
    """Content through Sibyl's API, for a client: pictures go in by ``POST /v1/images``, blocks come out one by one.

    The API is not trusted with a byte: each block is hashed here, and a picture must come back under the CID that it
    has by our own count. ``api`` is closed with it.
    """

    def __init__(self, api: HttpApi, *, add_timeout: float = 60.0) -> None:
        self._api = api
        self._add_timeout = add_timeout

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """The file's bytes; see ``ports.ContentStore.fetch``. ``limit`` in bytes, ``timeout`` in seconds.

        Raises ContentTooLarge, ContentUnavailable, ContentCorrupt, ContentMalformed.
        """
        try:
            async with asyncio.timeout(timeout):
                root = await self._node(cid, timeout)
                check_size(cid, root, limit)
                if not root.children:
                    return root.payload
                content = bytearray(root.size)

                def write(offset: int, payload: bytes) -> None:
                    content[offset : offset + len(payload)] = payload

                async def place(child: Cid, size: int, offset: int) -> Placed:
                    return put(cid, await self._node(child, timeout), size, offset, write)

                write(0, root.payload)
                await walk(cid, root, place, at_once=self._api.at_once)
                return bytes(content)
        except TimeoutError as error:
            raise ContentUnavailable(
                f"{self._api.url} did not deliver {cid} within {timeout:g} s", remedy="Try again, or ask another API."
            ) from error

    async def add(self, files: Sequence[bytes]) -> Sequence[Cid]:
        """Have the API pin pictures, several at once; see ``ports.ContentStore.add``.

        Raises ImageRejected and ContentTooLarge in the API's own words for what it does not take, ContentUnavailable
        when it does not answer, ContentCorrupt when its CID is not ours.
        """
        turn = asyncio.Semaphore(_UPLOADS)

        async def one(data: bytes) -> Cid:
            async with turn:
                return await self._add(data)

        running = [asyncio.ensure_future(one(data)) for data in files]
        try:
            return await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def close(self) -> None:
        """Break off what is under way, and take no more."""
        await self._api.close()

    async def _add(self, data: bytes) -> Cid:
        ours = cid_of(data)
        try:
            answer = await self._api.document("/v1/images", method="POST", picture=data, timeout=self._add_timeout)
        except ApiUnavailable as error:
            raise ContentUnavailable(str(error), remedy=error.remedy) from error
        except ApiRefused as error:
            kind = ContentTooLarge if error.status == _TOO_LARGE else ImageRejected
            raise kind(str(error), remedy=error.remedy) from error
        theirs = answer.get("cid")
        if theirs != ours.text:
            named = _plain(theirs) or "no CID"
            raise ContentCorrupt(f"{self._api.url} names a picture {named} whose CID is {ours}")
        return ours

    async def _node(self, cid: Cid, timeout: float) -> FileNode:
        try:
            data = await self._api.read(
                f"/ipfs/{cid.text}", query={"format": "raw"}, limit=MAX_BLOCK_BYTES, timeout=timeout
            )
        except ContentTooLarge as error:
            raise ContentCorrupt(f"{self._api.url} sent more than a block for {cid}") from error
        except (ApiUnavailable, ApiRefused) as error:
            raise ContentUnavailable(f"{cid} was not delivered: {error}", remedy=error.remedy) from error
        if not is_named(cid, data):
            raise ContentCorrupt(
                f"{self._api.url} served {len(data):,} bytes for {cid} that do not hash to it",
                remedy="Do not trust what it serves; read the content from another API or an IPFS node.",
            )
        return read_block(cid, data)


__all__ = ["ApiRefused", "ApiUnavailable", "HttpApi", "HttpContentStore"]
