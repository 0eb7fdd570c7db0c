"""One JSON-RPC endpoint: a keep-alive session, bounded answers, and errors that never show the URL's secrets.

The wire format is web3's ``AsyncHTTPProvider``. Its middleware is left out on purpose: it rejects the long extra data
of proof-of-authority headers, and it costs more than the decoding that is needed here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from web3.providers.rpc.async_rpc import AsyncHTTPProvider
from web3.types import RPCEndpoint

from oracle.errors import ConfigurationError, RpcRangeRefused, RpcUnavailable

MAX_RESPONSE_BYTES = 32 * 1024 * 1024
BATCH_SIZE = 64
RETRY_PAUSE_SECONDS = 0.2
_MESSAGE_LIMIT = 300
_SHORTEST_SECRET = 6

_RANGE_MESSAGES = (
    "query returned more than",
    "block range",
    "blocks range",
    "range is too",
    "range too",
    "range limit",
    "max range",
    "exceeds the range",
    "limit exceeded",
    "response size",
    "too many results",
    "too many logs",
    "query timeout exceeded",
)
_RATE_MESSAGES = ("rate limit", "rate-limit", "rate exceeded", "request count", "too many requests", "per second")
_LIMIT_EXCEEDED = -32005  # EIP-1474

Call = tuple[str, Sequence[Any]]


class RpcFault(RpcUnavailable):
    """The endpoint answered with a JSON-RPC error. ``code``, ``reason`` and ``data`` are its three fields."""

    def __init__(self, host: str, method: str, code: int, reason: str, data: object) -> None:
        super().__init__(f"{host} refused {method}: {reason} (code {code})")
        self.code = code
        self.reason = reason
        self.data = data


class _ResponseTooLarge(Exception):
    """The answer is longer than ``MAX_RESPONSE_BYTES``."""


class _RequestRefused(Exception):
    """The endpoint answered with an HTTP error and no JSON-RPC body."""

    def __init__(self, status: int) -> None:
        self.status = status


class Rpc:
    """A JSON-RPC endpoint over HTTP.

    Every call has a timeout in seconds. Calls that change nothing are tried once more after a failure of transport,
    HTTP 429 or 5xx. Raises ConfigurationError when the URL is not one of http or https. Close it with ``close``.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = None
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                "the RPC endpoint is not an http or https URL", remedy="set it to something like http://127.0.0.1:8545"
            )
        self.host = f"{parts.hostname}:{port}" if port else parts.hostname
        # A key may be the password, a segment of the path or a value of the query.
        pieces = [*parts.path.split("/"), *(value for _, value in parse_qsl(parts.query))]
        pieces += [parts.username or "", parts.password or ""]
        self._secrets = [url, *(piece for piece in pieces if len(piece) >= _SHORTEST_SECRET)]
        self._url = url
        # Only the provider's encoding is used: its own requests log the whole URL, key included.
        self._wire = AsyncHTTPProvider(url)
        self._timeout = aiohttp.ClientTimeout(total=timeout, connect=min(timeout, 5.0))
        self._session: aiohttp.ClientSession | None = None
        self._batches = True

    async def close(self) -> None:
        """Close the session; the next call opens another."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, method: str, params: Sequence[Any] = (), *, retry: bool = True) -> Any:
        """One call's result.

        Raises RpcFault for a JSON-RPC error, RpcRangeRefused when ``eth_getLogs`` asks too much, else RpcUnavailable.
        """
        body = self._wire.encode_rpc_request(RPCEndpoint(method), params)
        return self._result(method, await self._exchange(method, body, retry=retry))

    async def many(self, calls: Sequence[Call], *, retry: bool = True) -> list[Any]:
        """Several calls' results in order, in one round trip where the endpoint takes batches.

        Raises as ``call`` does, for the first call that failed.
        """
        answers = await self.many_settled(calls, retry=retry)
        for answer in answers:
            if isinstance(answer, RpcUnavailable | RpcRangeRefused):
                raise answer
        return answers

    async def many_settled(self, calls: Sequence[Call], *, retry: bool = True) -> list[Any]:
        """As ``many``, but each refused call stands in the list as its exception."""
        results: list[Any] = []
        for start in range(0, len(calls), BATCH_SIZE):
            part = calls[start : start + BATCH_SIZE]
            results += await self._batch(part, retry=retry)
        return results

    async def _batch(self, calls: Sequence[Call], *, retry: bool) -> list[Any]:
        if self._batches and len(calls) > 1:
            requests = [self._wire.form_request(RPCEndpoint(method), params) for method, params in calls]
            # A batch with a log range in it can be too large for the same reason as the range alone.
            method = "eth_getLogs" if any(method == "eth_getLogs" for method, _ in calls) else "a batch"
            answer = await self._exchange(method, self._wire.encode_batch_request_dicts(requests), retry=retry)
            if isinstance(answer, list):
                by_id = {item.get("id"): item for item in answer if isinstance(item, dict)}
                return [
                    self._caught(method, by_id.get(request["id"]))
                    for (method, _), request in zip(calls, requests, strict=True)
                ]
            self._batches = False
        return await asyncio.gather(*(self._settled(method, params, retry=retry) for method, params in calls))

    async def _settled(self, method: str, params: Sequence[Any], *, retry: bool) -> Any:
        try:
            return await self.call(method, params, retry=retry)
        except (RpcUnavailable, RpcRangeRefused) as error:
            return error

    def _caught(self, method: str, answer: object) -> Any:
        try:
            return self._result(method, answer)
        except (RpcUnavailable, RpcRangeRefused) as error:
            return error

    def _result(self, method: str, answer: object) -> Any:
        if not isinstance(answer, dict):
            raise RpcUnavailable(f"{self.host} answered {method} with something that is not JSON-RPC")
        error = answer.get("error")
        if error is None:
            if "result" not in answer:
                raise RpcUnavailable(f"{self.host} answered {method} with neither a result nor an error")
            return answer["result"]
        if not isinstance(error, Mapping):
            error = {"message": str(error)}
        code = error.get("code")
        reason = self._redacted(str(error.get("message", "no message")))
        fault = RpcFault(self.host, method, code if isinstance(code, int) else 0, reason, error.get("data"))
        if method == "eth_getLogs" and _is_range_refusal(fault):
            raise RpcRangeRefused(str(fault))
        raise fault

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "...")
        return text[:_MESSAGE_LIMIT]

    async def _exchange(self, method: str, body: bytes, *, retry: bool) -> Any:
        """Post and parse, once more after a failure that may pass. The causes are cut off: they print the URL."""
        for attempt in range(2):
            last = not retry or attempt == 1
            try:
                return self._parsed(method, await self._post(body))
            except _ResponseTooLarge:
                if method == "eth_getLogs":
                    raise RpcRangeRefused(f"{self.host} answered {method} with too many bytes") from None
                raise RpcUnavailable(f"{self.host} answered {method} with too many bytes") from None
            except _RequestRefused as refusal:
                if method == "eth_getLogs" and refusal.status == 413:
                    raise RpcRangeRefused(f"{self.host} answered {method} with HTTP 413") from None
                if last or (refusal.status != 429 and refusal.status < 500):
                    remedy = "check the endpoint's key" if refusal.status in (401, 403) else ""
                    raise RpcUnavailable(
                        f"{self.host} answered {method} with HTTP {refusal.status}", remedy=remedy
                    ) from None
            except TimeoutError:
                if last:
                    raise RpcUnavailable(
                        f"{self.host} did not answer {method} within {self._timeout.total:g} s"
                    ) from None
            except (aiohttp.ClientError, OSError) as error:
                if last:
                    raise RpcUnavailable(
                        f"{self.host} cannot be reached ({type(error).__name__})",
                        remedy="check that the node runs and that the RPC URL is right",
                    ) from None
            await asyncio.sleep(RETRY_PAUSE_SECONDS)
        raise AssertionError("unreachable: the second attempt returns or raises")

    async def _post(self, body: bytes) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=16, keepalive_timeout=30),
                headers={"Content-Type": "application/json"},
            )
        async with self._session.post(self._url, data=body, allow_redirects=False) as response:
            chunks: list[bytes] = []
            size = 0
            async for chunk in response.content.iter_any():
                size += len(chunk)
                if size > MAX_RESPONSE_BYTES:
                    raise _ResponseTooLarge
                chunks.append(chunk)
            content = b"".join(chunks)
            # Some endpoints send a JSON-RPC error with HTTP 400; its message is worth more than the number.
            if response.status != 200 and not (response.status == 400 and content[:1] == b"{"):
                raise _RequestRefused(response.status)
            return content

    def _parsed(self, method: str, content: bytes) -> Any:
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise RpcUnavailable(f"{self.host} answered {method} with something that is not JSON") from None


def _is_range_refusal(fault: RpcFault) -> bool:
    text = fault.reason.lower()
    if any(part in text for part in _RATE_MESSAGES):
        return False
    return fault.code == _LIMIT_EXCEEDED or any(part in text for part in _RANGE_MESSAGES)
