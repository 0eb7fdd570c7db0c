"""The content store against the node that ships with Sibyl and against a real Kubo where one is at hand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from oracle.content.ipfs import IpfsContentStore
from oracle.content.unixfs import CHUNK_BYTES, blocks_of, chunk, cid_of
from oracle.domain import Cid
from oracle.errors import (
    ConfigurationError,
    ContentCorrupt,
    ContentError,
    ContentMalformed,
    ContentTooLarge,
    ContentUnavailable,
)

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
MISSING = cid_of(b"nobody ever stored this text, and nobody shall")
EMPTY_DIRECTORY = Cid.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")


def sample(size: int) -> bytes:
    return hashlib.shake_128(b"sibyl").digest(size)


def kubo_binary() -> str | None:
    named = os.environ.get("KUBO_BINARY")
    if named:
        return named
    built = ROOT / ".cache" / "kubo" / "ipfs"
    return str(built) if built.exists() else None


@contextlib.contextmanager
def process(command: list[str], log: Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
        try:
            yield running
        finally:
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0, log.read_text()


def wait_for(ready: Callable[[], str | None], log: Path, running: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and running.poll() is None:
        if answer := ready():
            return answer
        time.sleep(0.02)
    raise AssertionError(f"the node did not start:\n{log.read_text()}")


@contextlib.contextmanager
def devnet(directory: Path) -> Iterator[str]:
    log = directory / "log"
    command = [sys.executable, "-W", "error", "-m", "oracle.devnet.ipfs", "--data", str(directory), "--port", "0"]
    with process(command, log) as running:

        def ready() -> str | None:
            text = log.read_text()
            return json.loads(text)["rpc"] if text.endswith("\n") else None

        yield wait_for(ready, log, running)


@contextlib.contextmanager
def kubo(directory: Path, binary: str) -> Iterator[str]:
    repo = directory / "repo"
    env = {"IPFS_PATH": str(repo), "HOME": str(directory), "IPFS_TELEMETRY": "off", "PATH": os.environ["PATH"]}
    # The profile test: no bootstrap peers and every address on loopback with a port of its own.
    for arguments in (["init", "--profile=test"], ["config", "Addresses.API", "/ip4/127.0.0.1/tcp/0"]):
        subprocess.run([binary, *arguments], env=env, check=True, capture_output=True)
    log, api = directory / "log", repo / "api"
    with process([binary, "daemon", "--offline"], log, env) as running:

        def ready() -> str | None:
            return f"{api.read_text().strip()}/http" if "Daemon is ready" in log.read_text() else None

        yield wait_for(ready, log, running)


@pytest.fixture(scope="module", params=["devnet", "kubo"])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node's RPC as a multiaddr."""
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "devnet":
        with devnet(directory) as address:
            yield address
        return
    binary = kubo_binary()
    if binary is None or shutil.which(binary) is None:
        pytest.skip("no Kubo here: run `make kubo` (needs Go) or set KUBO_BINARY")
    with kubo(directory, binary) as address:
        yield address


@pytest.fixture
async def store(node: str) -> AsyncIterator[IpfsContentStore]:
    store = IpfsContentStore(node)
    yield store
    await store.close()


def rpc(node: str, command: str, upload: bytes | None = None) -> tuple[int, str]:
    """One plain RPC call, without any of our code."""
    _, _, host, _, port, *_ = node.split("/")
    headers, body = {}, b""
    if upload is not None:
        headers["Content-Type"] = "multipart/form-data; boundary=cut"
        disposition = b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        body = b"--cut\r\n" + disposition + upload + b"\r\n--cut--\r\n"
    call = urllib.request.Request(f"http://{host}:{port}/api/v0/{command}", body, headers, method="POST")
    try:
        with urllib.request.urlopen(call, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


# -- both nodes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 5_000_000])
async def test_a_file_comes_back_as_it_was_added_under_the_cid_we_compute(store: IpfsContentStore, size: int) -> None:
    data = sample(size)
    (cid,) = await store.add([data])
    assert cid == cid_of(data, version=1)
    assert await store.fetch(cid, limit=size, timeout=20) == data


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES + 1, 174 * CHUNK_BYTES + 1])
async def test_the_node_names_a_file_of_version_0_as_we_do_and_we_read_it(
    store: IpfsContentStore, node: str, size: int
) -> None:
    data = sample(size)
    status, answer = rpc(node, "add?cid-version=0&progress=false", data)
    assert status == 200
    cid = Cid.parse(json.loads(answer)["Hash"])
    assert cid == cid_of(data, version=0)
    assert json.loads(answer)["Size"] == str(sum(len(b.data) for b in unique_blocks(data)))
    assert await store.fetch(cid, limit=size, timeout=20) == data


def unique_blocks(data: bytes) -> list[object]:
    return list(blocks_of(chunk(data), version=0))


async def test_given_a_large_file_when_it_goes_and_comes_by_disk_then_only_a_few_blocks_are_in_memory(
    store: IpfsContentStore, tmp_path: Path
) -> None:
    size = 40_000_000
    sent, came = tmp_path / "sent", tmp_path / "came"
    sent.write_bytes(sample(size))
    expected = cid_of(sent.read_bytes())
    tracemalloc.start()
    try:
        cid = await store.add_file(sent)
        assert await store.fetch_file(cid, came, limit=size, timeout=60) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cid == expected
    assert came.read_bytes() == sent.read_bytes()
    assert peak < size / 3


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES + 1])
async def test_given_a_small_file_when_it_goes_and_comes_by_disk_then_it_is_the_same(
    store: IpfsContentStore, tmp_path: Path, size: int
) -> None:
    (tmp_path / "sent").write_bytes(sample(size))
    cid = await store.add_file(tmp_path / "sent")
    assert await store.fetch_file(cid, tmp_path / "came", limit=size, timeout=10) == size
    assert (tmp_path / "came").read_bytes() == sample(size)


async def test_given_a_file_over_the_limit_when_it_is_fetched_to_disk_then_nothing_is_written(
    store: IpfsContentStore, tmp_path: Path
) -> None:
    (tmp_path / "sent").write_bytes(sample(CHUNK_BYTES + 1))
    cid = await store.add_file(tmp_path / "sent")
    with pytest.raises(ContentTooLarge):
        await store.fetch_file(cid, tmp_path / "came", limit=CHUNK_BYTES, timeout=10)
    assert not (tmp_path / "came").exists()


async def test_many_files_go_in_one_call_and_come_back_in_order(store: IpfsContentStore, node: str) -> None:
    files = [bytes([n]) * 300 for n in range(16)] + [b"", b"twice", b"twice"]
    cids = await store.add(files)
    assert cids == [cid_of(data) for data in files]
    status, answer = rpc(node, "pin/ls?type=recursive")
    assert status == 200
    assert {cid.text for cid in cids} <= set(json.loads(answer)["Keys"])


async def test_nothing_to_add_is_no_call() -> None:
    store = IpfsContentStore("/ip4/127.0.0.1/tcp/1/http")
    assert await store.add([]) == ()
    await store.close()


async def test_a_missing_file_is_unavailable_within_its_time(store: IpfsContentStore) -> None:
    started = time.monotonic()
    with pytest.raises(ContentUnavailable):
        await store.fetch(MISSING, limit=1000, timeout=2)
    assert time.monotonic() - started < 3


async def test_a_file_over_the_limit_is_refused_by_its_root_alone(store: IpfsContentStore, node: str) -> None:
    # Only the root exists anywhere: had we tried to download the file, it would be unavailable.
    root = list(blocks_of(chunk(sample(3 * CHUNK_BYTES + 5)), version=0))[-1]
    status, answer = rpc(node, "block/put?format=v0", root.data)
    assert (status, json.loads(answer)["Key"]) == (200, root.cid.text)
    with pytest.raises(ContentTooLarge, match="786,437 bytes"):
        await store.fetch(root.cid, limit=3 * CHUNK_BYTES, timeout=5)
    with pytest.raises(ContentUnavailable):
        await store.fetch(root.cid, limit=3 * CHUNK_BYTES + 5, timeout=1)


async def test_a_small_file_over_the_limit_is_refused(store: IpfsContentStore) -> None:
    (cid,) = await store.add([b"eleven char"])
    with pytest.raises(ContentTooLarge):
        await store.fetch(cid, limit=10, timeout=5)
    assert await store.fetch(cid, limit=11, timeout=5)


async def test_a_directory_is_malformed(store: IpfsContentStore, node: str) -> None:
    status, answer = rpc(node, "block/put?format=v0", b"\x0a\x02\x08\x01")
    assert (status, json.loads(answer)["Key"]) == (200, EMPTY_DIRECTORY.text)
    with pytest.raises(ContentMalformed, match="directory"):
        await store.fetch(EMPTY_DIRECTORY, limit=1000, timeout=5)


async def test_concurrent_calls_do_not_mix_their_answers(store: IpfsContentStore) -> None:
    files = [hashlib.sha256(bytes([n])).digest() * (1 + n * 700) for n in range(40)]
    cids = await asyncio.gather(*(store.add([data]) for data in files))
    contents = await asyncio.gather(*(store.fetch(cid, limit=10**6, timeout=20) for (cid,) in cids for _ in range(3)))
    assert contents == [data for data in files for _ in range(3)]


async def test_what_is_held_goes_when_it_is_let_go_and_no_pin_of_others_with_it(
    store: IpfsContentStore, node: str, tmp_path: Path
) -> None:
    def kinds(cid: Cid) -> list[str]:
        status, said = rpc(node, f"pin/ls?arg={cid}")
        return [] if status == 500 else [found["Type"].partition(" ")[0] for found in json.loads(said)["Keys"].values()]

    small, large = b"held alone" + node.encode(), sample(3 * CHUNK_BYTES)[5:]
    path = tmp_path / "large"
    path.write_bytes(large)
    for content, data in ((small, small), (path, large)):
        cid = await store.name(content)
        assert cid == cid_of(data)
        assert kinds(cid) == []
        for _ in range(2):
            assert await store.hold(content) == cid
            assert kinds(cid) == ["indirect"]
        collected = rpc(node, "repo/gc")[0] == 200  # Kubo does
        assert await store.fetch(cid, limit=len(data), timeout=5) == data
        await store.let_go(cid)
        assert kinds(cid) == []
        await store.let_go(cid)
        if collected:
            assert rpc(node, "repo/gc")[0] == 200
            assert rpc(node, f"block/get?arg={cid}")[0] == 500

        await store.hold(content)
        await store.add([data])
        await store.let_go(cid)
        assert kinds(cid) == ["recursive"]
        assert await store.fetch(cid, limit=len(data), timeout=5) == data


async def test_the_node_tells_its_version(store: IpfsContentStore) -> None:
    assert await store.version() == "0.41.0" or os.environ.get("KUBO_BINARY")


def test_the_rpc_refuses_browsers_and_wrong_calls_alike(node: str) -> None:
    assert rpc(node, "nothing")[0] == 404
    assert rpc(node, "block/get")[0] == 400
    assert rpc(node, "add")[0] == 400
    assert json.loads(rpc(node, f"block/get?arg={MISSING}")[1]) == {
        "Message": f"block was not found locally (offline): ipld: could not find {MISSING}",
        "Code": 0,
        "Type": "error",
    }


def test_pins_are_added_listed_and_removed_alike(node: str) -> None:
    data = sample(2 * CHUNK_BYTES)[77:]
    root = json.loads(rpc(node, "add?pin=false&cid-version=1&raw-leaves=true", data)[1])["Hash"]
    leaf = cid_of(data[:CHUNK_BYTES]).text
    answer = f'{{"Message":"path \'{root}\' is not pinned","Code":0,"Type":"error"}}\n'
    assert rpc(node, f"pin/ls?arg={root}") == (500, answer)
    assert json.loads(rpc(node, f"pin/add?arg={root}")[1]) == {"Pins": [root]}
    assert json.loads(rpc(node, f"pin/ls?arg={root}")[1]) == {"Keys": {root: {"Type": "recursive", "Name": ""}}}
    assert leaf in json.loads(rpc(node, "pin/ls?type=indirect")[1])["Keys"]
    assert json.loads(rpc(node, f"pin/rm?arg={root}")[1]) == {"Pins": [root]}
    assert json.loads(rpc(node, f"pin/rm?arg={root}")[1])["Message"] == "not pinned or pinned indirectly"
    missing = json.loads(rpc(node, f"pin/add?arg={MISSING}")[1])
    assert missing["Message"] == f"pin: block was not found locally (offline): ipld: could not find {MISSING}"


def test_blocks_and_parts_of_files_are_read_alike(node: str) -> None:
    data = sample(2 * CHUNK_BYTES + 9)
    root = json.loads(rpc(node, "add?cid-version=1&raw-leaves=true", data)[1])["Hash"]
    text = json.loads(rpc(node, "add?cid-version=1&raw-leaves=true", b"0123456789")[1])["Hash"]
    assert rpc(node, f"cat?arg={text}&offset=3&length=4") == (200, "3456")
    assert rpc(node, f"cat?arg={text}&offset=9") == (200, "9")
    assert json.loads(rpc(node, f"block/stat?arg={text}")[1]) == {"Key": text, "Size": 10}
    assert json.loads(rpc(node, f"block/stat?arg={root}")[1])["Size"] < 300
    assert json.loads(rpc(node, "block/put", b"0123456789")[1]) == {"Key": text, "Size": 10}
    assert json.loads(rpc(node, "add?only-hash=true&cid-version=1&raw-leaves=true", b"unkept")[1])["Hash"]
    assert rpc(node, f"block/get?arg={cid_of(b'unkept')}")[0] == 500


# -- a node that lies --------------------------------------------------------------------------------------------


class LyingNode:
    """A test double of an IPFS node that answers every call with the bytes it was given, right or wrong."""

    def __init__(self, *parts: bytes | float, forever: bytes = b"") -> None:
        self._parts = parts
        self._forever = forever
        self._server: asyncio.Server | None = None
        self.called = asyncio.Event()
        self.hung_up = asyncio.Event()

    async def __aenter__(self) -> LyingNode:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        assert self._server is not None
        return f"/ip4/127.0.0.1/tcp/{self._server.sockets[0].getsockname()[1]}/http"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.called.set()
            for part in self._parts:
                if isinstance(part, bytes):
                    writer.write(part)
                    await writer.drain()
                else:
                    await asyncio.sleep(part)
            while self._forever:
                writer.write(self._forever)
                await writer.drain()
                await asyncio.sleep(0.001)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.hung_up.set()
            writer.close()


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
WANTED = cid_of(b"wanted")

LIES: dict[str, tuple[LyingNode, type[ContentError]]] = {
    "other bytes": (LyingNode(ok(b"Wanted")), ContentCorrupt),
    "no bytes": (LyingNode(ok(b"")), ContentCorrupt),
    "too many bytes": (LyingNode(ok(b"wanted" * 2_000_000)), ContentCorrupt),
    "bytes without end": (LyingNode(ENDLESS, forever=bytes(65536)), ContentCorrupt),
    "chunks without end": (LyingNode(CHUNKED, forever=b"10000\r\n" + bytes(65536) + b"\r\n"), ContentCorrupt),
    "a chunk of 2 exabytes": (LyingNode(CHUNKED + b"1fffffffffffffff\r\n", forever=bytes(65536)), ContentCorrupt),
    "a chunk of negative size": (LyingNode(CHUNKED + b"-5\r\n", forever=bytes(65536)), ContentCorrupt),
    "a length of 2 exabytes": (
        LyingNode(b"HTTP/1.1 200 OK\r\nContent-Length: 2305843009213693951\r\n\r\n", forever=bytes(65536)),
        ContentCorrupt,
    ),
    "silence": (LyingNode(30.0), ContentUnavailable),
    "silence in the head": (LyingNode(b"HTTP/1.1 200 OK\r\nContent-", 30.0), ContentUnavailable),
    "silence in the body": (LyingNode(ok(b"wanted")[:-3], 30.0), ContentUnavailable),
    "one byte at a time": (LyingNode(ENDLESS, *[b"w", 0.05] * 600), ContentUnavailable),
    "one header at a time": (LyingNode(b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n", 0.05] * 600), ContentUnavailable),
    "a cut body": (LyingNode(ok(b"wanted")[:-3]), ContentUnavailable),
    "a cut chunk": (LyingNode(CHUNKED + b"6\r\nwan"), ContentUnavailable),
    "nothing at all": (LyingNode(), ContentUnavailable),
    "no http": (LyingNode(b"\x15\x03\x01\x00\x02\x02\x16\r\n"), ContentUnavailable),
    "a page": (LyingNode(b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>"), ContentUnavailable),
    "deep json": (
        LyingNode(b"HTTP/1.1 500 No\r\nContent-Length: 50000\r\n\r\n" + b"[" * 50_000),
        ContentUnavailable,
    ),
    "an error without end": (LyingNode(b"HTTP/1.1 500 No\r\n\r\n", forever=bytes(65536)), ContentUnavailable),
}


@pytest.mark.parametrize("name", LIES)
async def test_a_lying_node_is_found_out_in_bounded_time_and_memory(name: str) -> None:
    lie, expected = LIES[name]
    async with lie:
        store = IpfsContentStore(lie.address)
        started = time.monotonic()
        with pytest.raises(expected):
            await store.fetch(WANTED, limit=10**9, timeout=0.8)
        assert time.monotonic() - started < 3
        # No thread stays behind with a node that does not let go.
        await store.close()
        assert time.monotonic() - started < 4


async def test_a_wrong_block_deep_in_a_file_is_found_out() -> None:
    *_, root = blocks_of(chunk(sample(2 * CHUNK_BYTES)), version=1)
    # The root is right once; whatever is asked for next gets the root again.
    async with LyingNode(ok(root.data)) as node:
        store = IpfsContentStore(node.address)
        with pytest.raises(ContentCorrupt):
            await store.fetch(root.cid, limit=10**6, timeout=5)
        await store.close()


@pytest.mark.parametrize(
    "answer",
    [
        b'{"Name":"0","Hash":"' + WANTED.text.encode() + b'"}\n',
        b'{"Name":"1","Hash":"' + cid_of(b"mine").text.encode() + b'"}\n',
        b'{"Name":"0"}\n',
        b'["0"]\n',
        b'{"Name":"0","Hash":"x"}\n' * 3,
        b"",
    ],
)
async def test_a_node_that_stores_something_else_is_found_out(answer: bytes) -> None:
    async with LyingNode(ok(answer)) as node:
        store = IpfsContentStore(node.address)
        with pytest.raises(ContentCorrupt):
            await store.add([b"mine"])
        await store.close()


@pytest.mark.parametrize(
    "answer",
    [
        ok(b'{"Message":"disk full","Code":0,"Type":"error"}\n'),
        ok(b"{"),
        ENDLESS + b'{"Name":"0"}\n' * 100_000,
        b"HTTP/1.1 500 No\r\nContent-Length: 23\r\n\r\n" + b'{"Message":"disk full"}',
    ],
)
async def test_a_node_that_cannot_store_is_worth_another_try(answer: bytes) -> None:
    async with LyingNode(answer) as node:
        store = IpfsContentStore(node.address)
        with pytest.raises(ContentUnavailable):
            await store.add([b"mine"])
        await store.close()


async def test_a_node_that_does_not_take_what_we_send_is_left_in_time() -> None:
    async with LyingNode(30.0) as node:
        store = IpfsContentStore(node.address, add_timeout=0.5)
        started = time.monotonic()
        with pytest.raises(ContentUnavailable):
            await store.add([bytes(30_000_000)])
        await store.close()
        assert time.monotonic() - started < 4


async def test_nobody_at_the_address_is_unavailable_with_a_remedy() -> None:
    store = IpfsContentStore("/ip4/127.0.0.1/tcp/1/http")
    with pytest.raises(ContentUnavailable) as caught:
        await store.fetch(WANTED, limit=10, timeout=5)
    assert "RPC" in caught.value.remedy
    with pytest.raises(ContentUnavailable):
        await store.version()
    await store.close()


async def test_given_a_caller_that_gives_up_then_the_node_is_left_alone() -> None:
    async with LyingNode(ENDLESS, *[b"w", 0.05] * 600) as node:
        store = IpfsContentStore(node.address)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.fetch(WANTED, limit=10, timeout=30)
        await asyncio.wait_for(node.hung_up.wait(), 4)
        await store.close()


async def test_closing_breaks_off_what_is_under_way_or_waits_and_takes_nothing_new() -> None:
    async with LyingNode(30.0) as node:
        store = IpfsContentStore(node.address, threads=2)
        fetching = [asyncio.create_task(store.fetch(WANTED, limit=10, timeout=30)) for _ in range(6)]
        await node.called.wait()
        started = time.monotonic()
        await store.close()
        results = await asyncio.gather(*fetching, return_exceptions=True)
        assert [type(result) for result in results] == [ContentUnavailable] * 6
        assert time.monotonic() - started < 3
        with pytest.raises(ContentUnavailable, match="closed"):
            await store.fetch(WANTED, limit=10, timeout=30)


async def test_given_a_node_that_was_restarted_when_it_is_asked_again_then_it_answers(tmp_path: Path) -> None:
    data = sample(1000)
    with devnet(tmp_path) as address:
        port = address.split("/")[4]
        store = IpfsContentStore(address)
        (cid,) = await store.add([data])
    with pytest.raises(ContentUnavailable):
        await store.fetch(cid, limit=1000, timeout=5)
    command = [sys.executable, "-m", "oracle.devnet.ipfs", "--data", str(tmp_path), "--port", port]
    log = tmp_path / "second"
    with process(command, log) as running:
        wait_for(lambda: log.read_text() or None, log, running)
        assert await store.fetch(cid, limit=1000, timeout=5) == data
        assert cid.text in rpc(address, "pin/ls")[1]
        await store.close()


@pytest.mark.parametrize(
    "address", ["", "http://127.0.0.1:5001", "/ip4/127.0.0.1", "/ip4/x/tcp/5001", "/ip4/1.2.3.4/udp/1"]
)
def test_what_is_no_address_is_a_configuration_error_with_a_remedy(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        IpfsContentStore(address)
    assert "/ip4/127.0.0.1/tcp/5001/http" in caught.value.remedy
