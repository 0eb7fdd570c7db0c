"""GFTP: what a requestor publishes and receives, what a provider fetches and sends, and the program for yapapi."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from bus_double import NODE, BusDouble, bus_double

from oracle.devnet.golem import gftp
from oracle.devnet.golem.gftp import CHUNK, VERSION, Publisher, TransferFailed, answer, download, split_url, upload
from oracle.devnet.golem.gsb import Bus, BusError, BusLost, ServiceError

pytestmark = pytest.mark.unit

SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 11 * CHUNK + 5]


class Both:
    """A requestor's publisher and a provider's connection to the same bus."""

    def __init__(self, double: BusDouble) -> None:
        self.double = double
        self.publisher = Publisher(double.url)
        self.bus: Bus | None = None

    async def __aenter__(self) -> Both:
        await self.publisher.start()
        self.bus = await Bus.connect(self.double.url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.publisher.close()
        assert self.bus is not None
        await self.bus.close()

    async def fetch(self, url: str, target: Path, limit: int = 10**9) -> int:
        assert self.bus is not None
        with target.open("wb") as file:
            return await download(self.bus, url, file, limit=limit)

    async def send(self, source: Path, url: str) -> int:
        assert self.bus is not None
        with source.open("rb") as file:
            return await upload(self.bus, file, url)


@pytest.mark.parametrize("size", SIZES)
async def test_given_a_published_file_when_fetched_then_the_bytes_are_the_same(tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    async with bus_double(tmp_path) as double, Both(double) as both:
        url = await both.publisher.publish(source)
        assert url == f"gftp://{NODE}/{hashlib.sha3_256(source.read_bytes()).hexdigest()}"
        assert await both.publisher.publish(source) == url
        source.unlink()  # yapapi deletes what it has published
        assert await both.fetch(url, target) == size
    assert hashlib.sha3_256(target.read_bytes()).hexdigest() == url.rpartition("/")[2]


@pytest.mark.parametrize("size", SIZES)
async def test_given_a_file_that_is_awaited_when_sent_then_the_bytes_are_the_same(tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    async with bus_double(tmp_path) as double, Both(double) as both:
        url = await both.publisher.receive(target)
        node, name = split_url(url)
        assert (node, len(name)) == (NODE, 65)
        assert await both.send(source, url) == size
    assert target.read_bytes() == source.read_bytes()


async def test_given_a_url_that_was_withdrawn_when_fetched_then_it_fails(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    async with bus_double(tmp_path) as double, Both(double) as both:
        url = await both.publisher.publish(source)
        assert await both.publisher.withdraw(url)
        assert not await both.publisher.withdraw(url)
        with pytest.raises(TransferFailed, match="cannot be fetched"):
            await both.fetch(url, tmp_path / "target")


async def test_given_a_file_above_the_limit_when_fetched_then_nothing_is_transferred(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(1001))
    async with bus_double(tmp_path) as double, Both(double) as both:
        url = await both.publisher.publish(source)
        with pytest.raises(TransferFailed, match="1001 bytes, where 1000 are allowed"):
            await both.fetch(url, tmp_path / "target", limit=1000)
    assert (tmp_path / "target").read_bytes() == b""


async def test_given_a_publisher_that_sends_short_pieces_when_fetched_then_it_fails(tmp_path: Path) -> None:
    async def lie(method: str, body: Any) -> Any:
        return {"fileSize": 10} if method == "GetMetadata" else {"offset": 0, "content": b"short"}

    async with bus_double(tmp_path) as double, Both(double) as both:
        assert both.bus is not None
        await both.bus.register("/public/gftp/liar", lie)
        with pytest.raises(TransferFailed, match="a piece of 5 bytes at 0 of 10"):
            await both.fetch(f"gftp://{NODE}/liar", tmp_path / "target")


async def test_given_a_wrong_hash_when_an_upload_is_finished_then_it_is_refused(tmp_path: Path) -> None:
    async with bus_double(tmp_path) as double, Both(double) as both:
        url = await both.publisher.receive(tmp_path / "target")
        remote = f"/net/{NODE}/gftp/{url.rpartition('/')[2]}"
        assert both.bus is not None
        await both.bus.call(f"{remote}/UploadChunk", {"chunk": {"offset": 0, "content": b"abc"}})
        with pytest.raises(ServiceError, match="IntegrityError"):
            await both.bus.call(f"{remote}/UploadFinished", {"hash": "00" * 32})


@pytest.mark.parametrize("offset", [-1, gftp.MAX_RECEIVED - 2])
async def test_given_a_piece_outside_the_bounds_when_it_comes_then_it_is_refused(tmp_path: Path, offset: int) -> None:
    async with bus_double(tmp_path) as double, Both(double) as both:
        url = await both.publisher.receive(tmp_path / "target")
        assert both.bus is not None
        body = {"chunk": {"offset": offset, "content": b"abc"}}
        with pytest.raises(ServiceError, match="WriteError"):
            await both.bus.call(f"/net/{NODE}/gftp/{url.rpartition('/')[2]}/UploadChunk", body)
    assert (tmp_path / "target").stat().st_size == 0


async def test_given_a_bus_that_was_restarted_when_it_is_back_then_published_files_are_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gftp, "_RECONNECT_SECONDS", 0.01)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    async with bus_double(tmp_path) as double, Both(double) as both:
        url = await both.publisher.publish(source)
        await double.stop()
        double.registered.clear()
        await double.start()
        name = url.rpartition("/")[2]
        async with asyncio.timeout(2):
            await double.registered.wait()
        assert f"/public/gftp/{name}" in double.services
        bus = await Bus.connect(double.url)
        with (tmp_path / "target").open("wb") as file:
            assert await download(bus, url, file, limit=100) == 7
        await bus.close()


@pytest.mark.parametrize("url", ["http://0xab/name", "gftp://name", "gftp://0xab/", "gftp://0xab/a/b", "gftp://ab/c"])
def test_given_another_url_when_split_then_it_is_refused(url: str) -> None:
    with pytest.raises(TransferFailed, match="no gftp URL"):
        split_url(url)


async def ask(publisher: Publisher, method: str, **parameters: Any) -> Any:
    request = {"jsonrpc": "2.0", "id": 7, "method": method, "params": parameters}
    reply = json.loads(await answer(publisher, json.dumps(request).encode()) or "null")
    assert (reply["jsonrpc"], reply["id"]) == ("2.0", 7)
    return reply.get("result", reply.get("error"))


async def test_given_the_messages_of_yapapi_when_they_come_then_the_answers_are_those_of_gftp(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    async with bus_double(tmp_path) as double, Both(double) as both:
        publisher = both.publisher
        assert await ask(publisher, "version") == VERSION
        (link,) = await ask(publisher, "publish", files=[str(source)])
        assert link == {"file": str(source), "url": await publisher.publish(source)}
        assert await ask(publisher, "close", urls=[link["url"], link["url"]]) == ["ok", "error"]
        received = await ask(publisher, "receive", output_file=str(tmp_path / "out"))
        assert received["file"] == str(tmp_path / "out")
        assert received["url"].startswith(f"gftp://{NODE}/")
        assert await ask(publisher, "shutdown") == "ok"


async def test_given_messages_that_make_no_sense_when_they_come_then_the_answer_is_an_error(tmp_path: Path) -> None:
    async with bus_double(tmp_path) as double, Both(double) as both:
        publisher = both.publisher
        for line, code in ((b"nonsense", -32700), (b"[]", -32600), (b'{"method": 1}', -32600)):
            assert json.loads(await answer(publisher, line) or "")["error"]["code"] == code
        assert (await ask(publisher, "dance"))["code"] == -32601
        assert (await ask(publisher, "publish"))["code"] == -32601
        assert (await ask(publisher, "publish", files=[str(tmp_path / "none")]))["code"] == -32000
        assert (await ask(publisher, "close", urls=["http://elsewhere"]))["code"] == -32000
        assert await answer(publisher, b'{"jsonrpc": "2.0", "method": "version"}') is None


async def test_given_no_yagna_when_started_then_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(BusLost):
        await Publisher(f"unix:{tmp_path}/gsb.sock").start()
    with pytest.raises(BusError):
        await Publisher(f"unix:{tmp_path}/gsb.sock").publish(Path(__file__))
