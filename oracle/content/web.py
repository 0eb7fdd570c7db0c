"""A picture from a web address that anyone may name: the connection never leads into a private network.

Every address that a name stands for is checked, and the connection goes to exactly the address that was checked, so an
answer of the DNS that changes in between changes nothing. Each redirect is a new address.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from oracle.errors import AddressRefused, ContentTooLarge, ContentUnavailable, FetcherBusy

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host for a port. Raises OSError where there are none."""

_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SCHEMES = frozenset({"http", "https"})
_PORTS = frozenset({80, 443})
_MOST_URL = 2_048
_MOST_ADDRESSES = 8
_PIECE = 64 * 1024
_AT_ONCE = 8
# Global to some versions of Python in part, and of use to nobody: relays of 6to4, protocol assignments (a cloud's own
# service at 192.0.0.192 among them), documentation.
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.88.99.0/24", "192.0.0.0/24", "3fff::/20")))
# Public by its number, and yet a cloud's own service for the machines in it.
_METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})

# A name that anyone chose may keep its thread long after nobody waits any more: none of those that others work with.
_RESOLVERS = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="sibyl-names")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_public(text: str) -> bool:
    """Whether an IP address belongs to the open internet; another one that it carries inside must do so as well."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            return _is_open(address.ipv4_mapped)
    return _is_open(address) and all(_is_open(one) for one in _carried(address))


def _is_open(address: Address) -> bool:
    return (
        address.is_global
        and not (address.is_multicast or address.is_private or address.is_reserved or address.is_unspecified)
        and not (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
        and not any(address in network for network in _SPECIAL)
        and address not in _METADATA
    )


def _carried(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 address stands for: 6to4, Teredo."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = []
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found += address.teredo
    return found


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """What the system's resolver says, over all families."""

    def look_up() -> list[str]:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]

    return await asyncio.get_running_loop().run_in_executor(_RESOLVERS, look_up)


class WebFetcher:
    """Fetches small files for people that nobody vouches for.

    ``private`` also allows private addresses and any port, for a machine of one's own; ``timeout`` in seconds is for a
    whole fetch, redirects and all; ``at_once`` fetches run side by side, and one of each client: more wait (which
    counts). No cookie, no credential and no proxy is used.
    """

    def __init__(
        self,
        *,
        private: bool = False,
        timeout: float = 20.0,
        at_once: int = _AT_ONCE,
        resolve: Resolve = system_resolve,
    ) -> None:
        self._private = private
        self._timeout = timeout
        self._slots = asyncio.Semaphore(at_once)
        self._own: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._resolve = resolve

    async def fetch(self, url: str, *, limit: int, client: str = "") -> bytes:
        """What an http(s) address serves, at most ``limit`` bytes; ``client`` is who names it.

        Raises AddressRefused (the address, or one that it leads to, is none that is fetched from), ContentTooLarge,
        ContentUnavailable (no such host, a refusal, too slow, cut short), FetcherBusy (its turn did not come).
        """
        begun = False
        try:
            async with asyncio.timeout(self._timeout), self._turn(client) as resolver:
                begun = True
                return await self._follow(url, limit, resolver)
        except TimeoutError as error:
            if not begun:
                raise FetcherBusy(
                    "other addresses are being fetched", remedy="Try again in a moment, or upload the picture itself."
                ) from error
            raise ContentUnavailable(
                f"the address did not deliver within {self._timeout:g} s", remedy="Upload the picture itself instead."
            ) from error

    @contextlib.asynccontextmanager
    async def _turn(self, client: str) -> AsyncIterator[_Resolver]:
        """A turn, which lasts until its look-up has ended, however late: whoever has one finds a thread free."""
        own = self._own.setdefault(client, asyncio.Lock())
        with contextlib.ExitStack() as held:
            for one in (own, self._slots):
                await one.acquire()
                held.callback(one.release)
            resolver = _Resolver(self._resolve, self._check)
            try:
                yield resolver
            finally:
                resolver.when_idle(held.pop_all().close)

    async def _follow(self, url: str, limit: int, resolver: _Resolver) -> bytes:
        at = first = self._read(url)
        connector = aiohttp.TCPConnector(
            resolver=resolver,
            use_dns_cache=False,
            force_close=True,
            # Whatever comes between, no socket is made for an address that was not looked at; one at a time.
            socket_factory=self._socket,
            happy_eyeballs_delay=None,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the whole is bounded above
            trust_env=False,
            # Unpacked here, a small file could become a large one.
            auto_decompress=False,
            headers={"Accept-Encoding": "identity", "Accept": "image/*", "User-Agent": "sibyl"},
        ) as session:
            try:
                for _ in range(_MOST_REDIRECTS + 1):
                    found = await self._one(session, at, limit)
                    if isinstance(found, bytes):
                        return found
                    at = self._read(found, at)
            except aiohttp.ClientPayloadError as error:
                raise ContentUnavailable(f"{_shown(at)} was cut short", remedy="Try again.") from error
            except (aiohttp.ClientError, ValueError, OSError) as error:
                if refusal := _cause(error):
                    raise refusal from error
                raise ContentUnavailable(
                    f"{_shown(at)} cannot be reached: {_reason(error)}",
                    remedy="Check the address, or upload the picture itself.",
                ) from error
        raise AddressRefused(
            f"{_shown(first)} leads on more than {_MOST_REDIRECTS} times",
            remedy="Give the address of the picture itself.",
        )

    async def _one(self, session: aiohttp.ClientSession, url: URL, limit: int) -> bytes | str:
        """The body, or where a redirect leads."""
        async with session.get(url, allow_redirects=False) as response:
            if response.status in _REDIRECTS and (target := response.headers.get("Location")):
                return target
            if response.status != 200:
                raise ContentUnavailable(
                    f"{_shown(url)} answers {response.status}",
                    remedy="Give the address of a picture that needs no login.",
                )
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ContentUnavailable(
                    f"{_shown(url)} sends a packed file, though asked for a plain one", remedy="Upload the picture."
                )
            return await self._body(response, url, limit)

    @staticmethod
    async def _body(response: aiohttp.ClientResponse, url: URL, limit: int) -> bytes:
        if (response.content_length or 0) > limit:
            raise _too_large(url, limit)
        held = bytearray()
        async for piece in response.content.iter_chunked(_PIECE):
            held += piece
            if len(held) > limit:
                raise _too_large(url, limit)
        return bytes(held)

    def _read(self, text: str, base: URL | None = None) -> URL:
        """An address, which ``base`` may have led to. Raises AddressRefused for what its text alone tells."""
        url = URL()
        refused = ""
        if len(text) > _MOST_URL or not text.isprintable() or " " in text:
            refused = f"it is longer than {_MOST_URL} characters, or has some that no address has"
        else:
            try:
                url = URL(text) if base is None else base.join(URL(text))
                refused = self._refused(url, base)
            except ValueError:
                refused = "it cannot be read"
        if refused:
            raise AddressRefused(
                f"{_shown(url)} is not fetched: {refused}", remedy="Give the public address of a picture, or upload it."
            )
        with contextlib.suppress(ValueError):
            # A connection to a number asks no resolver.
            ipaddress.ip_address(url.host or "")
            self._check(url.host or "")
        return url

    def _refused(self, url: URL, base: URL | None) -> str:
        if url.scheme not in _SCHEMES:
            return "it begins with neither http:// nor https://"
        if not url.host:
            return "it names no host"
        if url.user is not None or url.password is not None:
            return "it holds a user's name or a password"
        if not self._private and url.port not in _PORTS:
            return f"it names the port {url.port}; only 80 and 443 are used"
        if base is not None and base.scheme == "https" and url.scheme == "http":
            return "an address with https led to it, and it has none"
        return ""

    def _check(self, address: str) -> None:
        if not (self._private or is_public(address)):
            raise AddressRefused(
                "the address leads to a machine that is not on the open internet",
                remedy="Give the public address of a picture, or upload it.",
            )

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, where = info
        self._check(str(where[0]))
        return socket.socket(family, kind, protocol)


def _too_large(url: URL, limit: int) -> ContentTooLarge:
    return ContentTooLarge(
        f"{_shown(url)} has more than the {limit:,} bytes that are allowed", remedy="Choose a smaller picture."
    )


def _shown(url: URL) -> str:
    """An address for an error: no credential, no query, not long."""
    text = f"{url.scheme}://{url.host}{url.path}" if url.host else "the address"
    text = "".join(mark if mark.isprintable() else "?" for mark in text)
    return text if len(text) <= 120 else text[:119] + "…"


def _cause(error: BaseException | None) -> AddressRefused | None:
    while error is not None:
        if isinstance(error, AddressRefused):
            return error
        error = error.__cause__ or error.__context__
    return None


def _reason(error: BaseException) -> str:
    """Why, in words that tell nothing of the addresses behind a name."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no such host"
    if isinstance(error, aiohttp.ClientSSLError):
        return "its certificate is not trusted, or it speaks no TLS"
    # The text that comes with it names the address.
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__


class _Resolver(AbstractResolver):
    """aiohttp's resolver that lets through checked addresses alone, and of one host all or none."""

    def __init__(self, resolve: Resolve, check: Callable[[str], None]) -> None:
        self._resolve, self._check = resolve, check
        self._looking: asyncio.Future[Sequence[str]] | None = None

    def when_idle(self, do: Callable[[], None]) -> None:
        """Do this once no name is looked for any more; the one who asked may be long gone."""

        def ended(looking: asyncio.Future[Sequence[str]]) -> None:
            if not looking.cancelled():
                looking.exception()  # nobody else may be there to see it
            do()

        if self._looking is None or self._looking.done():
            do()
        else:
            self._looking.add_done_callback(ended)

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,
    ) -> list[ResolveResult]:
        """One entry an address of the family. Raises AddressRefused, OSError."""
        self._looking = asyncio.ensure_future(self._resolve(host, port))
        addresses = list(dict.fromkeys(await asyncio.shield(self._looking)))[:_MOST_ADDRESSES]
        if not addresses:
            raise OSError(None, "no such host")
        for address in addresses:
            self._check(address)
        kinds = {address: socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses}
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": kind,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address, kind in kinds.items()
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Nothing is held."""


__all__ = ["WebFetcher", "is_public", "system_resolve"]
