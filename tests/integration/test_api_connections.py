"""Connections that ask for nothing, or read nothing, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from oracle.api import connections
from oracle.settings import Settings
from oracle.web import serving

pytestmark = pytest.mark.integration

SHORT = 0.4  # seconds for a head, here
LARGE = 32 * 1024 * 1024  # bytes, more than the kernel holds for a reader
WHOLE = b"GET / HTTP/1.1\r\nHost: api\r\n\r\n"
BROKEN_OFF = b"GET / HTTP/1.1\r\nHost: api\r\nX-Sl"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", SHORT)


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes its time for what is asked below /slow."""
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * SHORT)
    body = bytes(LARGE) if scope["path"] == "/large" else b"fine"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> bytes:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)
        return head + await self.reader.readexactly(4)

    async def until_closed(self, drip: bytes = b"", every: float = 0.1) -> float:
        """Seconds until the server hangs up, while it is sent something."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        gone = asyncio.create_task(self.reader.read())
        with suppress(ConnectionError):
            while not gone.done() and loop.time() < begun + 5:
                self.writer.write(drip)
                await asyncio.wait([gone], timeout=every)
            await asyncio.wait_for(gone, 0.1)
        return loop.time() - begun


class Callers:
    """Connections to one server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.made: list[Caller] = []

    async def one(self, first: bytes = b"") -> Caller:
        found = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.made.append(found)
        found.writer.write(first)
        return found


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Callers]:
    callers = Callers(port)
    try:
        yield callers
    finally:
        for one in callers.made:
            one.writer.close()
            with suppress(ConnectionError):
                await one.writer.wait_closed()


@asynccontextmanager
async def served(each: int | None = connections.EACH) -> AsyncIterator[Callers]:
    """Callers of a server with our protocol."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        slow, http=connections.bounded(each=each), ws="none", lifespan="off", log_config=None, timeout_keep_alive=30
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve([listening]))
    try:
        async with calling(listening.getsockname()[1]) as callers:
            yield callers
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize("first", [b"", b"G", BROKEN_OFF, b"\r\n"])
@pytest.mark.parametrize("drip", [b"", b"x"])
async def test_given_a_client_that_never_ends_its_head_when_its_time_is_over_then_it_is_left(
    first: bytes, drip: bytes
) -> None:
    async with served() as api:
        caller = await api.one(first)
        assert await caller.until_closed(drip) < 4 * SHORT


@pytest.mark.parametrize("drip", [b"\r\n", b"G"])
async def test_given_a_connection_that_was_answered_when_it_drips_then_it_is_left_all_the_same(drip: bytes) -> None:
    async with served() as api:
        caller = await api.one(WHOLE)
        assert (await caller.answer()).endswith(b"fine")
        assert await caller.until_closed(drip) < 4 * SHORT


async def test_given_a_long_answer_or_a_pause_when_it_lasts_longer_than_a_head_may_then_nobody_is_left() -> None:
    async with served() as api:
        caller = await api.one(WHOLE.replace(b"/ ", b"/slow "))
        assert (await caller.answer()).endswith(b"fine")
        await asyncio.sleep(2 * SHORT)
        caller.writer.write(WHOLE[:10])
        await asyncio.sleep(SHORT / 2)
        caller.writer.write(WHOLE[10:])
        assert (await caller.answer()).endswith(b"fine")


async def test_given_a_head_without_end_when_it_comes_fast_then_its_bytes_are_bounded_even_behind_another_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60)
    monkeypatch.setattr(connections, "HEAD_BYTES", 10_000)
    async with served() as api:
        for first in (b"GET / HTTP/1.1\r\n", WHOLE.replace(b"/ ", b"/slow ") + b"GET / HTTP/1.1\r\n"):
            caller = await api.one(first)
            assert await caller.until_closed(b"x: " + b"y" * 2_000 + b"\r\n", every=0.02) < 2


async def test_given_a_client_with_all_its_connections_when_one_more_comes_then_503_and_a_closed_one_makes_room() -> (
    None
):
    async with served(each=3) as api:
        held = [await api.one(WHOLE) for _ in range(3)]
        for one in held:
            await one.answer()
        refused = await api.one()
        said = await asyncio.wait_for(refused.reader.read(), 5)
        assert said.startswith(b"HTTP/1.1 503 ")
        head, _, body = said.partition(b"\r\n\r\n")
        assert json.loads(body)["type"] == "/problems/too-many-connections"
        assert b"content-length: %d" % len(body) in head
        held[0].writer.close()
        await asyncio.sleep(0.1)
        assert (await (await api.one(WHOLE)).answer()).endswith(b"fine")


async def test_given_a_proxy_of_ours_when_it_holds_many_connections_then_only_their_total_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "EACH", 2)
    monkeypatch.setattr(connections, "MOST", 5)
    async with served(each=None) as api:
        for _ in range(5):
            assert (await (await api.one(WHOLE)).answer()).endswith(b"fine")
        refused = await api.one()
        assert (await asyncio.wait_for(refused.reader.read(), 5)).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"])
async def test_given_a_large_answer_when_it_is_not_read_then_it_is_dropped_and_one_that_is_read_in_time_comes_whole(
    last: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READ_SECONDS", 2 * SHORT)
    monkeypatch.setattr(connections, "READ_RATE", 10**9)
    asked = WHOLE.replace(b"/ ", b"/large ").replace(b"Host", last + b"Host")
    async with served() as api:
        for pause, whole in ((SHORT / 2, True), (6 * SHORT, False)):
            caller = await api.one(asked)
            await asyncio.wait_for(caller.reader.readuntil(b"\r\n\r\n"), 5)
            await asyncio.sleep(pause)
            with nullcontext() if whole else pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                async with asyncio.timeout(10):
                    await caller.reader.readexactly(LARGE)


async def test_given_the_api_as_it_is_served_when_a_head_never_ends_then_it_is_left(tmp_path: Path) -> None:
    nobody: dict[str, Any] = {"rpc_url": "http://127.0.0.1:1", "coordinator": "0x" + "12" * 20}
    settings = Settings(data_dir=tmp_path, api_port=0, page_dir=tmp_path, **nobody)
    async with serving(settings) as (url, _), calling(int(url.rpartition(":")[2])) as api:
        assert await (await api.one(BROKEN_OFF)).until_closed() < 4 * SHORT
