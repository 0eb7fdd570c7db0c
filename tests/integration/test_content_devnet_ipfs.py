"""What only the node that ships with Sibyl promises: its disk, its manners towards browsers, its life as a process."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from oracle.content.ipfs import IpfsContentStore
from oracle.content.unixfs import CHUNK_BYTES, FileBuilder, cid_of
from oracle.devnet.ipfs import Addresses, DevnetIpfs
from oracle.errors import ConfigurationError, PortTaken

pytestmark = pytest.mark.integration

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def form(data: bytes) -> aiohttp.FormData:
    fields = aiohttp.FormData()
    fields.add_field("file", io.BytesIO(data), filename="x")
    return fields


class Node:
    """A running node with a way to speak to it as a program and as a browser."""

    def __init__(self, addresses: Addresses, http: aiohttp.ClientSession) -> None:
        self.addresses = addresses
        self.http = http

    async def store(self, data: bytes) -> str:
        store = IpfsContentStore(self.addresses.rpc)
        (cid,) = await store.add([data])
        await store.close()
        return cid.text

    async def rpc(self, command: str, **options: object) -> tuple[int, str]:
        options.setdefault("method", "POST")
        url = f"{self.addresses.gateway}/api/v0/{command}"
        async with self.http.request(url=url, **options) as answer:  # type: ignore[arg-type]
            return answer.status, await answer.text()

    async def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        async with self.http.request(method, self.addresses.gateway + path, headers=headers) as answer:
            return answer, await answer.read()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    devnet = DevnetIpfs(tmp_path / "ipfs", allowed_origins=["http://page.example"])
    addresses = await devnet.start()
    async with aiohttp.ClientSession() as http:
        yield Node(addresses, http)
    await devnet.close()


# -- browsers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0" + bytes(9), "image/jpeg"),
        (b"GIF89a" + bytes(9), "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b' {"schema": 1}', "application/json"),
        (b"[1, 2]", "application/json"),
        ("Grüße".encode() * 500, "text/plain; charset=utf-8"),
        (b"", "text/plain; charset=utf-8"),
        (b"<html><script>alert(1)</script>", "text/plain; charset=utf-8"),
        (b"<svg onload='alert(1)'/>", "text/plain; charset=utf-8"),
        (b"\xfe\xff\x80" * 300, "application/octet-stream"),
        (b"text, then\0a zero", "application/octet-stream"),
    ],
)
async def test_a_browser_gets_content_with_a_type_that_cannot_run(node: Node, data: bytes, kind: str) -> None:
    cid = await node.store(data)
    answer, body = await node.get(f"/ipfs/{cid}")
    assert (answer.status, body) == (200, data)
    assert answer.headers["Content-Type"] == kind
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Etag"] == f'"{cid}"'
    assert answer.headers["X-Ipfs-Path"] == f"/ipfs/{cid}"
    assert "immutable" in answer.headers["Cache-Control"]
    assert "sandbox" in answer.headers["Content-Security-Policy"]


async def test_a_browser_asks_for_the_head_a_part_or_a_copy_it_has(node: Node) -> None:
    data = hashlib.shake_128(b"sibyl").digest(2 * CHUNK_BYTES + 50)
    path = f"/ipfs/{await node.store(data)}"
    answer, body = await node.get(path, method="HEAD")
    assert (answer.status, answer.headers["Content-Length"], body) == (200, str(len(data)), b"")
    for asked, start, end in (("5-9", 5, 10), (f"{CHUNK_BYTES - 2}-", CHUNK_BYTES - 2, len(data)), ("-3", -3, None)):
        answer, body = await node.get(path, {"Range": f"bytes={asked}"})
        assert (answer.status, body) == (206, data[start:end])
    answer, body = await node.get(path, {"Range": "bytes=5-9"})
    assert answer.headers["Content-Range"] == f"bytes 5-9/{len(data)}"
    answer, _ = await node.get(path, {"Range": f"bytes={len(data)}-"})
    assert answer.status == 416
    answer, body = await node.get(path, {"Range": "bytes=1-2,5-6"})
    assert (answer.status, len(body)) == (200, len(data))
    answer, body = await node.get(path, {"If-None-Match": f'"{path.removeprefix("/ipfs/")}"'})
    assert (answer.status, body) == (304, b"")


async def test_a_browser_may_name_the_file_it_saves(node: Node) -> None:
    cid = await node.store(PNG)
    answer, _ = await node.get(f"/ipfs/{cid}?filename=a%22%0d%0ab.png&download=true")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a%22%0D%0Ab.png"


async def test_content_that_is_missing_or_no_file_is_said_so(node: Node) -> None:
    answer, body = await node.get(f"/ipfs/{cid_of(b'never stored')}")
    assert answer.status == 404
    assert b"not found locally" in body
    assert (await node.get("/ipfs/QmNonsense"))[0].status == 400
    await node.rpc("block/put?format=v0", data=form(b"\x0a\x02\x08\x01"))
    answer, body = await node.get("/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
    assert answer.status == 404
    assert b"directory" in body


async def test_a_file_with_a_hole_breaks_off_and_does_not_pass_for_whole(node: Node) -> None:
    builder = FileBuilder()
    data = hashlib.shake_128(b"sibyl").digest(2 * CHUNK_BYTES)
    blocks = builder.add(data[:CHUNK_BYTES]) + builder.add(data[CHUNK_BYTES:]) + builder.finish()[2]
    for block in (blocks[0], blocks[2]):
        codec = "raw" if block is blocks[0] else "dag-pb"
        await node.rpc(f"block/put?cid-codec={codec}", data=form(block.data))
    with pytest.raises(aiohttp.ClientError):
        await node.get(f"/ipfs/{blocks[2].cid}")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://page.example"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Referer": "http://evil.example/x"}, 403),
        ({"Referer": "http://page.example/x"}, 200),
        ({"User-Agent": "Mozilla/5.0 (X11)"}, 403),
    ],
)
async def test_the_rpc_is_for_programs_and_allowed_pages_only(node: Node, headers: dict[str, str], status: int) -> None:
    assert (await node.rpc("version", headers=headers))[0] == status


async def test_the_rpc_takes_post_only(node: Node) -> None:
    assert (await node.rpc("version", method="GET"))[0] == 405


# -- what it does not do -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        "chunker=size-1024",
        "max-file-links=1024",
        "hash=blake3",
        "trickle=true",
        "wrap-with-directory=1",
        "nocopy=true",
        "cid-version=2",
    ],
)
async def test_an_option_that_would_change_the_cid_is_refused_and_not_ignored(node: Node, options: str) -> None:
    status, text = await node.rpc(f"add?{options}", data=form(b"x"))
    assert status == 500
    assert json.loads(text)["Type"] == "error"


@pytest.mark.parametrize("options", ["pin=perhaps", "cid-version=one"])
async def test_an_option_that_cannot_be_read_is_a_wrong_call(node: Node, options: str) -> None:
    assert (await node.rpc(f"add?{options}", data=form(b"x")))[0] == 400


async def test_a_damaged_upload_is_a_wrong_call_and_the_node_lives_on(node: Node) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=cut"}
    for body in (b"", b"no boundary", b"--cut\r\nContent-Dispos", b"--cut\r\n\r\nhalf a file"):
        status, _ = await node.rpc("add", data=body, headers=headers)
        assert status == 400, body
    assert (await node.rpc("add", data=b"", headers={"Content-Type": "multipart/form-data"}))[0] == 400
    assert (await node.rpc("version"))[0] == 200


async def test_a_block_over_the_limit_is_refused(node: Node) -> None:
    assert (await node.rpc("block/put", data=form(bytes(5_000_000))))[0] == 500


# -- ports, directories, processes -------------------------------------------------------------------------------


async def test_a_port_in_use_is_an_error_with_a_remedy_and_frees_the_directory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        devnet = DevnetIpfs(tmp_path)
        with pytest.raises(PortTaken, match=str(other.getsockname()[1])) as caught:
            await devnet.start(other.getsockname()[1])
        assert "port" in caught.value.remedy
    await devnet.start()
    await devnet.close()


async def test_a_directory_in_use_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    first = DevnetIpfs(tmp_path)
    await first.start()
    with pytest.raises(ConfigurationError, match="another process") as caught:
        await DevnetIpfs(tmp_path).start()
    assert caught.value.remedy
    await first.close()


async def test_a_directory_that_cannot_be_made_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await DevnetIpfs(tmp_path / "file" / "ipfs").start()


async def test_given_a_journal_cut_by_a_kill_when_the_node_starts_then_the_whole_pins_are_there(tmp_path: Path) -> None:
    kept, dropped = cid_of(b"kept"), cid_of(b"dropped")
    (tmp_path / "pins").write_text(f"+ {kept}\n+ {dropped}\n- {dropped}\n+ bafkrei")
    devnet = DevnetIpfs(tmp_path)
    addresses = await devnet.start()
    async with aiohttp.ClientSession() as http:
        keys = json.loads((await Node(addresses, http).rpc("pin/ls?type=recursive"))[1])["Keys"]
    await devnet.close()
    assert list(keys) == [kept.text]


def run(directory: Path, port: str = "0") -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "oracle.devnet.ipfs", "--data", str(directory), "--port", port]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Addresses]]:
    with run(tmp_path) as process:
        assert process.stdout is not None
        yield process, Addresses(**json.loads(process.stdout.readline()))
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_cleanly_when_told(running: tuple[subprocess.Popen[str], Addresses], number: int) -> None:
    process, _ = running
    process.send_signal(number)
    _, complaints = process.communicate(timeout=10)
    assert (process.returncode, complaints) == (0, "")


def test_a_second_process_on_the_port_says_what_to_do(
    running: tuple[subprocess.Popen[str], Addresses], tmp_path: Path
) -> None:
    _, addresses = running
    with run(tmp_path / "second", addresses.gateway.rpartition(":")[2]) as second:
        _, complaints = second.communicate(timeout=10)
    assert second.returncode == 1
    assert "in use" in complaints
    assert "choose another port" in complaints
    assert "Traceback" not in complaints


async def test_given_a_killed_node_when_it_comes_back_then_what_was_added_is_still_there_and_pinned(
    running: tuple[subprocess.Popen[str], Addresses], tmp_path: Path
) -> None:
    process, addresses = running
    files = [hashlib.sha256(bytes([n])).digest() for n in range(20)]
    store = IpfsContentStore(addresses.rpc)
    cids = await store.add(files)
    process.kill()
    process.wait()
    await store.close()
    devnet = DevnetIpfs(tmp_path)
    again = await devnet.start()
    store = IpfsContentStore(again.rpc)
    assert [await store.fetch(cid, limit=100, timeout=5) for cid in cids] == files
    async with aiohttp.ClientSession() as http:
        keys = json.loads((await Node(again, http).rpc("pin/ls?type=recursive"))[1])["Keys"]
    assert set(keys) == {cid.text for cid in cids}
    await store.close()
    await devnet.close()


async def test_a_file_of_100_megabytes_goes_through_without_being_held(
    running: tuple[subprocess.Popen[str], Addresses],
) -> None:
    process, addresses = running
    piece = hashlib.shake_128(b"sibyl").digest(1_000_000)
    memory = psutil.Process(process.pid)
    before = memory.memory_info().rss
    peak = before

    async def upload() -> AsyncIterator[bytes]:
        nonlocal peak
        yield b'--cut\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(100):
            yield piece
            peak = max(peak, memory.memory_info().rss)
        yield b"\r\n--cut--\r\n"

    async with aiohttp.ClientSession() as http:
        headers = {"Content-Type": "multipart/form-data; boundary=cut"}
        async with http.post(f"{addresses.gateway}/api/v0/add?cid-version=1", data=upload(), headers=headers) as answer:
            cid = json.loads(await answer.text())["Hash"]
        assert cid == await asyncio.to_thread(lambda: cid_of(piece * 100).text)
        size = 0
        async with http.get(f"{addresses.gateway}/ipfs/{cid}") as answer:
            async for part in answer.content.iter_any():
                size += len(part)
                peak = max(peak, memory.memory_info().rss)
    assert size == 100_000_000
    assert peak - before < 40_000_000


def test_the_directory_holds_no_half_written_file_after_all_that(tmp_path: Path) -> None:
    with run(tmp_path) as process:
        assert process.stdout is not None
        addresses = json.loads(process.stdout.readline())

        async def use() -> None:
            store = IpfsContentStore(addresses["rpc"])
            await asyncio.gather(*(store.add([os.urandom(1000), b"the same"]) for _ in range(10)))
            await store.close()

        asyncio.run(use())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert not list(tmp_path.rglob("*.part"))
