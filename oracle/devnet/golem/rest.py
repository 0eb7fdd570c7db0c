"""yagna's REST API as far as the network's own parts use it: JSON in, JSON out, every call with a bound."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp

from oracle.errors import Retryable, SibylError

_CALL_SECONDS = 15.0
_MAX_ANSWER = 16 * 1024 * 1024


class RestRefused(SibylError):
    """yagna answered with an error. ``status`` is HTTP's, ``reason`` what it says."""

    def __init__(self, what: str, status: int, reason: str) -> None:
        super().__init__(f"yagna answered {what} with {status}: {reason[:300]}")
        self.status, self.reason = status, reason


class RestUnavailable(Retryable):
    """yagna did not answer, or not in time."""


class Rest:
    """A client with one app key, that is, one identity. Close it with ``close``."""

    def __init__(self, url: str, app_key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {app_key}"}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, *, wait: float = 0.0, **query: str | float) -> Any:
        """Read; yagna may hold the call for ``wait`` seconds (long poll). Raises RestRefused, RestUnavailable."""
        if wait:
            query["timeout"] = wait
        return await self._call("GET", path, None, query, wait)

    async def post(self, path: str, body: object = None, *, wait: float = 0.0, **query: str | float) -> Any:
        """Send ``body``, nothing when it is None. Raises RestRefused, RestUnavailable."""
        if wait:
            query["timeout"] = wait
        return await self._call("POST", path, body, query, wait)

    async def delete(self, path: str) -> Any:
        """Remove. Raises RestRefused, RestUnavailable."""
        return await self._call("DELETE", path, None, {}, 0.0)

    async def _call(self, method: str, path: str, body: object, query: Mapping[str, str | float], wait: float) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        what = f"{method} {path}"
        try:
            async with self._session.request(
                method,
                self._url + path,
                json=body,
                params={name: str(value) for name, value in query.items()},
                timeout=aiohttp.ClientTimeout(total=_CALL_SECONDS + wait),
            ) as response:
                content = await response.content.read(_MAX_ANSWER)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RestUnavailable(f"yagna does not answer {what} ({type(error).__name__})") from error
        if response.status >= 400:
            raise RestRefused(what, response.status, _message(content))
        try:
            return json.loads(content) if content else None
        except ValueError:
            raise RestUnavailable(f"yagna answered {what} with something that is not JSON") from None


def _message(content: bytes) -> str:
    text = content.decode(errors="replace")
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return str(document.get("message", text)) if isinstance(document, dict) else text


def now() -> str:
    """The time as yagna writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
