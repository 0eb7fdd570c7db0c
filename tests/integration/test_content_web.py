"""Fetching a picture that a stranger names: real servers on loopback, most of which it must never reach."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from oracle.content.web import WebFetcher, is_public, system_resolve
from oracle.errors import AddressRefused, ContentTooLarge, ContentUnavailable, FetcherBusy

pytestmark = pytest.mark.integration

PICTURE = b"\x89PNG and some more"
LIMIT = 1_000
_INSIDE = """
127.0.0.1 127.8.9.1 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 169.254.1.1
100.64.0.1 100.100.100.200 168.63.129.16 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 198.51.100.1 203.0.113.1
224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 ::1 :: ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::7f00:1 fe80::1
fe80::1%eth0 fc00::1 fd00:ec2::254 fec0::1 ff02::1 2001:db8::1 2002:7f00:1:: 2002:a00:1:: 64:ff9b::7f00:1
64:ff9b::a00:1 64:ff9b:1::1 2001:0:7f00:1::1 100::1 example.org 127.1 2130706433
192.0.0.8 192.0.0.9 192.0.0.192 3fff::1
"""
INSIDE = _INSIDE.split()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Site:
    """A web server on loopback and what it was asked."""

    port: int = 0
    seen: list[web.Request] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@asynccontextmanager
async def site(handler: Handler) -> AsyncIterator[Site]:
    found = Site()

    async def note(request: web.Request) -> web.StreamResponse:
        found.seen.append(request)
        return await handler(request)

    runner = web.ServerRunner(web.Server(note))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


async def picture(_: web.Request) -> web.StreamResponse:
    return web.Response(body=PICTURE)


def names(**known: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return [known[host.replace(".", "_")]]

    return resolve


async def test_given_a_machine_of_ones_own_when_fetched_then_the_bytes_come_without_cookie_or_packing() -> None:
    async with site(picture) as here:
        assert await WebFetcher(private=True).fetch(here.url("/kitten.png?size=big"), limit=LIMIT) == PICTURE
    (request,) = here.seen
    assert request.path_qs == "/kitten.png?size=big"
    assert "Cookie" not in request.headers
    assert request.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"],
)
async def test_given_a_server_on_loopback_when_named_in_any_way_then_it_is_not_asked(host: str) -> None:
    async with site(picture) as here:
        fetcher = WebFetcher()
        # Its port is refused already; so that the address decides, the port is left to what the socket says.
        fetcher._refused = lambda url, base: ""  # type: ignore[method-assign]
        with pytest.raises((AddressRefused, ContentUnavailable)):
            await fetcher.fetch(here.url(host=host), limit=LIMIT)
        assert here.seen == []


async def test_given_another_port_when_named_then_it_is_refused_by_its_number() -> None:
    with pytest.raises(AddressRefused, match="port 8080"):
        await WebFetcher(resolve=names(example_org="93.184.215.14")).fetch("http://example.org:8080/", limit=LIMIT)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "neither"),
        ("ftp://example.org/a.png", "neither"),
        ("gopher://example.org/", "neither"),
        ("//example.org/a.png", "neither"),
        ("kitten.png", "neither"),
        ("http:///a.png", "no host|cannot be read"),
        ("http://me:secret@example.org/a.png", "password"),
        ("http://me@example.org/a.png", "password"),
        ("http://example.org:99999/", "cannot be read"),
        ("http://[::1/", "cannot be read"),
        ("http://exa mple.org/", "characters"),
        ("http://example.org/\r\nHost: evil", "characters"),
        ("http://example.org/" + "a" * 3000, "characters"),
        ("", "neither"),
    ],
)
async def test_given_what_is_no_public_address_when_fetched_then_it_is_refused_and_no_secret_repeated(
    url: str, why: str
) -> None:
    with pytest.raises(AddressRefused, match=why) as caught:
        await WebFetcher(resolve=names()).fetch(url, limit=LIMIT)
    assert "secret" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("address", INSIDE)
def test_given_an_address_of_no_open_network_when_looked_at_then_it_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_given_an_address_of_the_open_internet_when_looked_at_then_it_is_public(address: str) -> None:
    assert is_public(address)


async def test_given_a_name_for_a_private_machine_when_fetched_then_nothing_is_asked_and_its_address_is_not_told() -> (
    None
):
    with pytest.raises(AddressRefused) as caught:
        await WebFetcher(resolve=names(inside_example="10.20.30.40")).fetch("http://inside.example/", limit=LIMIT)
    assert "10.20" not in str(caught.value)


async def test_given_a_name_with_a_public_and_a_private_address_when_fetched_then_neither_is_asked() -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return ["93.184.215.14", "127.0.0.1"]

    with pytest.raises(AddressRefused):
        await WebFetcher(resolve=both, timeout=3).fetch("http://two.example/", limit=LIMIT)


async def test_given_a_name_whose_answer_changes_when_fetched_then_the_connection_goes_to_the_checked_address() -> None:
    """The answer is public when it is looked at, and loopback when anyone would look again."""
    answers = iter(["93.184.215.14", "127.0.0.1", "127.0.0.1"])
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return [next(answers)]

    connected: list[str] = []

    class Watched(WebFetcher):
        def _socket(self, info):  # type: ignore[no-untyped-def]
            connected.append(info[4][0])
            raise OSError(None, "the test has seen enough")

    with pytest.raises(ContentUnavailable):
        await Watched(resolve=rebinding).fetch("http://changing.example/", limit=LIMIT)
    assert asked == ["changing.example"]
    assert connected == ["93.184.215.14"]


async def test_given_a_resolver_that_is_passed_over_when_connecting_then_the_socket_itself_is_refused() -> None:
    async with site(picture) as here:

        class Careless(WebFetcher):
            looked = 0

            def _check(self, address: str) -> None:
                self.looked += 1
                if self.looked > 1:  # the resolver's look is lost
                    super()._check(address)

        fetcher = Careless(resolve=names(lost_example="127.0.0.1"))
        fetcher._refused = lambda url, base: ""  # type: ignore[method-assign]
        with pytest.raises(AddressRefused):
            await fetcher.fetch(here.url(host="lost.example"), limit=LIMIT)
        assert here.seen == []


async def test_given_redirects_when_three_then_followed_and_when_four_then_refused() -> None:
    async def step(request: web.Request) -> web.StreamResponse:
        left = int(request.path.strip("/"))
        if left == 0:
            return web.Response(body=PICTURE)
        return web.Response(status=302, headers={"Location": f"/{left - 1}"})

    async with site(step) as here:
        fetcher = WebFetcher(private=True)
        assert await fetcher.fetch(here.url("/3"), limit=LIMIT) == PICTURE
        with pytest.raises(AddressRefused, match="3 times"):
            await fetcher.fetch(here.url("/4"), limit=LIMIT)


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1:{port}/", "http://[::ffff:7f00:1]:{port}/", "//127.0.0.1:{port}/", "http://inside.example/x"],
)
async def test_given_a_public_page_that_leads_inside_when_fetched_then_the_inside_is_not_asked(target: str) -> None:
    async with site(picture) as inside:

        async def lead(request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": target.format(port=inside.port)})

        async with site(lead) as outside:

            class OnlyOutside(WebFetcher):
                """Takes the outer server for a public one, and its port for 80."""

                def _refused(self, url, base):  # type: ignore[no-untyped-def]
                    return ""

                def _check(self, address: str) -> None:
                    if address != "127.0.0.1" or outside.seen:
                        super()._check(address)

            fetcher = OnlyOutside(resolve=names(outside_example="127.0.0.1", inside_example="192.168.0.1"))
            with pytest.raises(AddressRefused):
                await fetcher.fetch(outside.url(host="outside.example"), limit=LIMIT)
        assert len(outside.seen) == 1
        assert inside.seen == []


async def test_given_redirects_to_other_kinds_of_address_when_fetched_then_they_are_refused() -> None:
    for target in ("file:///etc/passwd", "http://a:b@127.0.0.1/", "data:image/png;base64,AAAA"):

        async def lead(request: web.Request, target: str = target) -> web.StreamResponse:
            return web.Response(status=301, headers={"Location": target})

        async with site(lead) as here:
            with pytest.raises(AddressRefused):
                await WebFetcher(private=True).fetch(here.url(), limit=LIMIT)


async def test_given_a_file_too_large_when_its_size_is_told_then_nothing_is_read_and_when_not_then_it_is_cut_off() -> (
    None
):
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        if "told" in request.path:
            response.content_length = 10**9
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b"x" * 65_536)
            sent += 65_536
        return response

    async with site(endless) as here:
        for path in ("/told", "/untold"):
            with pytest.raises(ContentTooLarge, match="1,000 bytes"):
                await WebFetcher(private=True).fetch(here.url(path), limit=LIMIT)
    assert sent < 64 * 1024 * 1024


async def test_given_exactly_the_limit_when_fetched_then_it_comes() -> None:
    async def full(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * LIMIT)

    async with site(full) as here:
        assert len(await WebFetcher(private=True).fetch(here.url(), limit=LIMIT)) == LIMIT
        with pytest.raises(ContentTooLarge):
            await WebFetcher(private=True).fetch(here.url(), limit=LIMIT - 1)


async def drip(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(500):
        await response.write(b"x")
        await asyncio.sleep(0.02)
    return response


async def test_given_a_server_that_drips_when_fetched_then_the_time_for_the_whole_ends_it() -> None:
    async with site(drip) as here:
        begun = time.monotonic()
        with pytest.raises(ContentUnavailable, match=r"0\.3 s"):
            await WebFetcher(private=True, timeout=0.3).fetch(here.url(), limit=LIMIT)
        assert time.monotonic() - begun < 2


async def test_given_a_client_who_names_many_slow_servers_when_others_come_then_it_holds_one_place_and_is_told_so() -> (
    None
):
    async with site(drip) as slow, site(picture) as here:
        fetcher = WebFetcher(private=True, timeout=1, at_once=2)
        greedy = [asyncio.create_task(fetcher.fetch(slow.url(), limit=LIMIT, client="greedy")) for _ in range(6)]
        await asyncio.sleep(0.1)
        assert await fetcher.fetch(here.url(), limit=LIMIT, client="other") == PICTURE
        ended = await asyncio.gather(*greedy, return_exceptions=True)
    assert sorted(type(one).__name__ for one in ended) == ["ContentUnavailable"] + ["FetcherBusy"] * 5
    assert len(slow.seen) == 1


async def test_given_a_name_that_is_looked_for_beyond_the_time_when_fetched_then_its_client_alone_waits_for_it() -> (
    None
):
    found = asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[str]:
        if host == "slow.example":
            await found.wait()
            raise OSError(None, "nobody listens any more")
        return ["127.0.0.1"]

    async with site(picture) as here:
        fetcher = WebFetcher(private=True, resolve=resolve, timeout=0.5, at_once=2)
        with pytest.raises(ContentUnavailable, match=r"0\.5 s"):
            await fetcher.fetch("http://slow.example/", limit=LIMIT, client="slow")
        with pytest.raises(FetcherBusy) as caught:
            await fetcher.fetch(here.url(host="quick.example"), limit=LIMIT, client="slow")
        assert caught.value.remedy
        assert await fetcher.fetch(here.url(host="quick.example"), limit=LIMIT, client="other") == PICTURE
        found.set()
        assert await fetcher.fetch(here.url(host="quick.example"), limit=LIMIT, client="slow") == PICTURE


async def test_given_names_that_hold_every_thread_when_another_is_to_be_looked_for_then_busy_is_said() -> None:
    found = asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[str]:
        await found.wait()
        return []

    fetcher = WebFetcher(resolve=resolve, timeout=0.3, at_once=2)
    for client in ("one", "two"):
        with pytest.raises(ContentUnavailable):
            await fetcher.fetch("http://slow.example/", limit=LIMIT, client=client)
    with pytest.raises(FetcherBusy):
        await fetcher.fetch("http://quick.example/", limit=LIMIT, client="three")
    found.set()


async def test_given_a_server_that_never_answers_when_fetched_then_the_time_ends_it() -> None:
    held: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        with pytest.raises(ContentUnavailable):
            await WebFetcher(private=True, timeout=0.3).fetch(
                f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", limit=LIMIT
            )
    finally:
        for writer in held:
            writer.close()
        server.close()
        await server.wait_closed()


async def test_given_a_body_cut_short_when_fetched_then_it_is_not_taken_for_whole() -> None:
    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(short, "127.0.0.1", 0)
    try:
        with pytest.raises(ContentUnavailable, match="cut short"):
            await WebFetcher(private=True).fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", limit=LIMIT)
    finally:
        server.close()
        await server.wait_closed()


async def test_given_a_packed_file_when_sent_unasked_then_it_is_not_unpacked() -> None:
    async def bomb(_: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})

    async with site(bomb) as here:
        with pytest.raises(ContentUnavailable, match="packed"):
            await WebFetcher(private=True).fetch(here.url(), limit=100_000)


async def test_given_a_refusal_or_nobody_there_when_fetched_then_the_error_says_so_with_a_remedy() -> None:
    async def gone(_: web.Request) -> web.StreamResponse:
        return web.Response(status=404, body=PICTURE)

    async with site(gone) as here:
        with pytest.raises(ContentUnavailable, match="answers 404") as caught:
            await WebFetcher(private=True).fetch(here.url("/private?token=secret"), limit=LIMIT)
        assert "secret" not in str(caught.value)
        closed = here.url(host="closed.example")
    with pytest.raises(ContentUnavailable, match="cannot be reached") as caught:
        await WebFetcher(private=True, resolve=names(closed_example="127.0.0.1")).fetch(closed, limit=LIMIT)
    assert str(caught.value) == "http://closed.example/ cannot be reached: Connection refused"
    assert caught.value.remedy

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(ContentUnavailable, match="cannot be reached: no such host"):
        await WebFetcher(resolve=unknown).fetch("http://nowhere.example/", limit=LIMIT)


async def test_given_a_proxy_in_the_environment_when_fetched_then_it_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with site(picture) as proxy, site(picture) as here:
        monkeypatch.setenv("http_proxy", proxy.url())
        monkeypatch.setenv("HTTP_PROXY", proxy.url())
        assert await WebFetcher(private=True).fetch(here.url(), limit=LIMIT) == PICTURE
        assert proxy.seen == []


async def test_given_the_systems_resolver_when_asked_then_it_gives_addresses() -> None:
    assert {"127.0.0.1", "::1"} & set(await system_resolve("localhost", 80))
