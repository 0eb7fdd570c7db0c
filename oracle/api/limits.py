"""What one client may take: requests a second, bytes and seconds of a body, event streams. Middlewares of plain ASGI.

A client is an address: the peer's, or what the trusted proxies say. Whatever else ``X-Forwarded-For`` holds was written
by the client itself and counts for nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oracle.api.problems import Problem

MOST_CLIENTS = 20_000
"""Clients that are remembered; whoever was away the longest is forgotten first."""

_MOST_FORWARDED = 4_096  # characters of X-Forwarded-For that are looked at, from its end
_NETWORK_V6 = 64  # bits: what one customer gets at least, so that a client has no 2^64 addresses
_KEPT = "sibyl.client"


def client_of(scope: MutableMapping[str, Any], proxies: int) -> str:
    """The client behind ``proxies`` trusted ones that each append the address they saw; of IPv6 its /64."""
    kept = scope.get(_KEPT)
    if kept is None:
        kept = scope[_KEPT] = _client(scope, proxies)
    return str(kept)


def _client(scope: Mapping[str, Any], proxies: int) -> str:
    peer = scope.get("client")
    peer_address = _network(str(peer[0])) if peer else None
    if proxies > 0:
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        hops = [hop.strip() for hop in forwarded[-_MOST_FORWARDED:].decode("latin-1").split(",") if hop.strip()]
        if hops:
            # Fewer than there are proxies: all of them are ours, and the first saw the client.
            seen = _network(_without_port(hops[-min(proxies, len(hops))]))
            if seen is not None:
                return seen
    return peer_address or "local"


def _without_port(text: str) -> str:
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _network(text: str) -> str | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _NETWORK_V6), strict=False))


class Buckets:
    """A bucket of tokens for each client: ``rate`` a second flow in, ``burst`` at most are saved up."""

    def __init__(
        self, rate: float, burst: float, *, clients: int = MOST_CLIENTS, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._most, self._now = rate, burst, clients, now
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> tokens, when

    def take(self, client: str, amount: float = 1.0) -> float:
        """Take tokens; 0, or the seconds until there are enough, and none was taken."""
        now = self._now()
        tokens, at = self._held.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        wait = 0.0 if tokens >= amount else (amount - tokens) / self._rate
        self._held[client] = (tokens if wait else tokens - amount, now)
        if len(self._held) > self._most:
            self._held.popitem(last=False)
        return wait

    def spend(self, client: str, amount: float, slug: str, title: str, detail: str, *, remedy: str) -> None:
        """Take tokens. Raises Problem 429 with the seconds until there are enough."""
        wait = self.take(client, amount)
        if wait:
            raise Problem(429, slug, title, detail, remedy=remedy, headers={"Retry-After": str(math.ceil(wait))})

    @property
    def remembered(self) -> int:
        """How many clients are remembered."""
        return len(self._held)


class RateLimit:
    """So many requests a second for each client, and ``burst`` that it saved up; beyond them 429."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        rate: float,
        burst: int,
        proxies: int = 0,
        clients: int = MOST_CLIENTS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._rate, self._proxies = app, rate, proxies
        self.buckets = Buckets(rate, burst, clients=clients, now=now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or refuse."""
        if scope["type"] == "http":
            try:
                self.buckets.spend(
                    client_of(scope, self._proxies),
                    1,
                    "too-many-requests",
                    "Too many requests",
                    f"one client may send {self._rate:g} requests a second",
                    remedy="Send them more slowly; Retry-After says when the next one is welcome.",
                )
            except Problem as problem:
                await problem.response(scope)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class StreamLimit:
    """So many event streams at once for each client; beyond them 429. A stream is a path that ends in ``/events``."""

    def __init__(self, app: ASGIApp, *, streams: int, proxies: int = 0) -> None:
        self._app, self._streams, self._proxies = app, streams, proxies
        self._open: dict[str, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or refuse."""
        if scope["type"] != "http" or not scope["path"].endswith("/events"):
            await self._app(scope, receive, send)
            return
        client = client_of(scope, self._proxies)
        if self._open.get(client, 0) >= self._streams:
            problem = Problem(
                429,
                "too-many-streams",
                "Too many event streams",
                f"one client may hold {self._streams} event streams open",
                remedy="Close one, or ask for the request itself from time to time.",
                headers={"Retry-After": "5"},
            )
            await problem.response(scope)(scope, receive, send)
            return
        self._open[client] = self._open.get(client, 0) + 1
        try:
            await self._app(scope, receive, send)
        finally:
            left = self._open.pop(client) - 1
            if left:
                self._open[client] = left


class _BodyRefused(Exception):
    """Ends the reading of a body that is answered already."""


class BodyLimit:
    """The largest body, counted as it comes whatever ``Content-Length`` says, and the time for it.

    ``paths`` names those with a limit of their own, in bytes. A body gets ``seconds`` and one more for each
    ``slowest`` bytes that came. Beyond the one 413, beyond the other 408; the connection is then closed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit: int,
        paths: Mapping[str, int] | None = None,
        seconds: float = 30.0,
        slowest: int = 64 * 1024,
    ) -> None:
        self._app, self._limit, self._paths = app, limit, dict(paths or {})
        self._seconds, self._slowest = seconds, slowest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through, watch, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._paths.get(scope["path"], self._limit)
        if any(name == b"content-length" and _number(value) > limit for name, value in scope["headers"]):
            await _too_large(limit).response(scope)(scope, receive, send)
            return
        watched = _Watched(receive, send, limit, self._seconds, self._slowest)
        try:
            await self._app(scope, watched.receive, watched.send)
        except Exception:
            # What the app makes of a body that breaks off is its own affair; the answer is ours.
            if watched.refusal is None:
                raise
        problem = watched.unanswered
        if problem is not None:
            await problem.response(scope)(scope, receive, send)


class _Watched:
    """One request's body, read within its bounds."""

    def __init__(self, receive: Receive, send: Send, limit: int, seconds: float, slowest: int) -> None:
        self._receive, self._send, self._limit = receive, send, limit
        self._until = time.monotonic() + seconds
        self._slowest = slowest
        self._held = 0
        self._whole = False
        self._answering = False
        self.refusal: Problem | None = None

    async def receive(self) -> Message:
        if self.refusal is not None:
            raise _BodyRefused
        if self._whole:
            return await self._receive()
        left = self._until + self._held / self._slowest - time.monotonic()
        try:
            async with asyncio.timeout(left):
                message = await self._receive()
        except TimeoutError:
            self.refusal = _TOO_SLOW
            raise _BodyRefused from None
        if message["type"] == "http.request":
            self._held += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._held > self._limit:
                self.refusal = _too_large(self._limit)
                raise _BodyRefused
        return message

    async def send(self, message: Message) -> None:
        if self.refusal is not None and not self._answering:
            return
        self._answering = True
        await self._send(message)

    @property
    def unanswered(self) -> Problem | None:
        """The refusal that is still to be told."""
        return None if self._answering else self.refusal


_TOO_SLOW = Problem(
    408,
    "body-too-slow",
    "Body too slow",
    "the body of the request did not come in time",
    remedy="Send a smaller one, or try again over a better connection.",
    headers={"Connection": "close"},
)


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        "body-too-large",
        "Body too large",
        f"the body has more than the {limit:,} bytes that are read here",
        remedy="Send a smaller file.",
        headers={"Connection": "close"},
    )


def _number(value: bytes) -> int:
    """A header's number. One that is none says nothing; the body is counted in any case."""
    text = value.strip()
    return int(text) if text.isdigit() and len(text) < 20 else (10**20 if text.isdigit() else 0)


__all__ = ["BodyLimit", "Buckets", "RateLimit", "StreamLimit", "client_of"]
