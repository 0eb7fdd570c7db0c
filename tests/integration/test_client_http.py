"""A developer without an IPFS node: content through the HTTP API, and a deployment that the API names.

The API here is a double, so that it can lie; ``tests/e2e/test_client_library.py`` uses the real one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from oracle.chain.account import AccountSender
from oracle.chain.rpc import Rpc
from oracle.chain.wishes import Wish
from oracle.client import connect, connect_sync
from oracle.client.sync import LoopThread
from oracle.content.cid import Block, name_block
from oracle.content.http import ApiRefused, ApiUnavailable, HttpApi, HttpContentStore
from oracle.content.ipfs import IpfsContentStore
from oracle.content.unixfs import CHUNK_BYTES, MAX_BLOCK_BYTES, blocks_of, chunk, cid_of
from oracle.devnet.chain import Anvil
from oracle.devnet.ipfs import DevnetIpfs
from oracle.devnet.pictures import digits
from oracle.devnet.stack import shipped_files
from oracle.domain import CODEC_RAW, Cid, OnChainStatus
from oracle.errors import (
    ConfigurationError,
    ContentCorrupt,
    ContentMalformed,
    ContentTooLarge,
    ContentUnavailable,
    ImageRejected,
    SibylError,
    WrongChain,
)

pytestmark = pytest.mark.integration

MISSING = cid_of(b"nobody ever stored this text")
EMPTY_DIRECTORY = bytes.fromhex("0a020801")


def sample(size: int) -> bytes:
    return hashlib.shake_128(b"http").digest(size)


class DoubleApi:
    """A double of Sibyl's API that holds blocks, and lies when it is told to."""

    def __init__(self) -> None:
        self.blocks: dict[str, bytes] = {}
        self.facts: dict[str, Any] = {}
        self.wishes: list[dict[str, Any]] = []
        self.seen: list[str] = []
        self.answer_of_images: Callable[[], web.StreamResponse] | None = None
        self.lie: bytes | None = None
        self.stall = 0.0
        self.busy: list[str] = []  # what Retry-After says to the next who ask
        self.busy_status = 429
        self.url = ""

    def store(self, data: bytes) -> Cid:
        root: Block | None = None
        for block in blocks_of(chunk(data)):
            self.blocks[block.cid.text] = block.data
            root = block
        assert root is not None
        return root.cid

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/images", self._images)
        app.router.add_get("/ipfs/{cid}", self._ipfs)
        app.router.add_get("/v1", self._facts)
        app.router.add_get("/v1/providers", self._providers)
        app.router.add_put("/v1/requests/wish", self._wish)
        return app

    async def _images(self, request: web.Request) -> web.StreamResponse:
        if self.answer_of_images is not None:
            await request.read()
            return self.answer_of_images()
        part = await (await request.multipart()).next()
        assert part.name == "image"
        data = bytes(await part.read())
        return web.json_response({"cid": self.store(data).text, "bytes": len(data)}, status=201)

    async def _ipfs(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.query_string)
        if self.busy:
            return problem(self.busy_status, "slower, please", headers={"Retry-After": self.busy.pop(0)})
        await asyncio.sleep(self.stall)
        data = self.blocks.get(request.match_info["cid"])
        if data is None:
            return problem(404, "no node has it", "Pin it.")
        return web.Response(body=data if self.lie is None else self.lie)

    async def _facts(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.facts)

    async def _providers(self, request: web.Request) -> web.StreamResponse:
        if "cursor" in request.query:
            return web.json_response({"items": [{"id": "0x02", "name": "curie"}], "next": None})
        return web.json_response({"items": [{"id": "0x01", "name": "ada"}], "next": "more"})

    async def _wish(self, request: web.Request) -> web.StreamResponse:
        wish = await request.json()
        if wish["provider"] == "ada":
            return problem(409, "another provider was wished for", "Wait an hour.")
        self.wishes.append(wish)
        return web.Response(status=204)


def problem(status: int, detail: str, remedy: str = "", headers: dict[str, str] | None = None) -> web.Response:
    body = json.dumps({"type": "/problems/x", "title": "X", "status": status, "detail": detail, "remedy": remedy})
    return web.Response(status=status, text=body, content_type="application/problem+json", headers=headers)


@pytest.fixture
def api() -> Iterator[DoubleApi]:
    """Served from a thread of its own, so that it answers a test that blocks its loop, too."""
    double, thread = DoubleApi(), LoopThread()

    async def serve() -> web.AppRunner:
        runner = web.AppRunner(double.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runner = thread.run(serve(), 10)
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield double
    thread.run(runner.cleanup(), 10)
    thread.close()


@pytest.fixture
async def store(api: DoubleApi) -> AsyncIterator[HttpContentStore]:
    store = HttpContentStore(HttpApi(api.url + "/"))
    yield store
    await store.close()


# -- content -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES + 1, 5_000_000])
async def test_given_a_file_when_added_then_it_comes_back_block_by_block(
    store: HttpContentStore, api: DoubleApi, size: int
) -> None:
    data = sample(size)
    (cid,) = await store.add([data])
    assert cid == cid_of(data)
    assert await store.fetch(cid, limit=size, timeout=20) == data
    assert set(api.seen) == {"format=raw"}


async def test_given_wrong_bytes_when_fetched_then_they_are_caught_wherever_in_the_file_they_are(
    store: HttpContentStore, api: DoubleApi
) -> None:
    cid = api.store(sample(1_000_000))
    for name in list(api.blocks):
        right = api.blocks[name]
        api.blocks[name] = right[:-1] + bytes([right[-1] ^ 1])
        with pytest.raises(ContentCorrupt, match="do not hash to it") as caught:
            await store.fetch(cid, limit=2_000_000, timeout=10)
        assert caught.value.remedy
        api.blocks[name] = right
    assert await store.fetch(cid, limit=2_000_000, timeout=10) == sample(1_000_000)


async def test_given_a_flood_a_stall_and_nothing_when_fetched_then_each_ends_with_its_own_error(
    store: HttpContentStore, api: DoubleApi
) -> None:
    cid = api.store(b"text")
    api.lie = bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(ContentCorrupt, match="more than a block"):
        await store.fetch(cid, limit=100, timeout=10)
    api.lie, api.stall = None, 30.0
    with pytest.raises(ContentUnavailable, match=r"within 0\.2 s"):
        await store.fetch(cid, limit=100, timeout=0.2)
    api.stall = 0.0
    with pytest.raises(ContentUnavailable, match="no node has it") as caught:
        await store.fetch(MISSING, limit=100, timeout=10)
    assert caught.value.remedy == "Pin it."


@pytest.mark.parametrize("status", [429, 503])
async def test_given_an_api_that_wants_a_pause_when_fetched_then_it_is_kept_as_long_as_there_is_time(
    store: HttpContentStore, api: DoubleApi, status: int
) -> None:
    api.busy_status = status
    cid = api.store(sample(1_000_000))
    api.busy = ["0", "1", "0"]
    assert await store.fetch(cid, limit=1_000_000, timeout=20) == sample(1_000_000)
    for never in (["60"], ["0"] * 1000, ["soon"], ["-1"]):
        api.busy = list(never)
        started = time.monotonic()
        with pytest.raises(ContentUnavailable, match=r"slower, please|within 0\.5 s"):
            await store.fetch(cid, limit=1_000_000, timeout=0.5)
        assert time.monotonic() - started < 2
        api.busy = []


async def test_given_a_large_file_or_a_directory_when_fetched_then_it_is_refused_by_its_first_block(
    store: HttpContentStore, api: DoubleApi
) -> None:
    cid = api.store(sample(1_000_000))
    with pytest.raises(ContentTooLarge):
        await store.fetch(cid, limit=999_999, timeout=10)
    assert len(api.seen) == 1
    directory = name_block(EMPTY_DIRECTORY, version=0, codec=0x70)
    api.blocks[directory.text] = EMPTY_DIRECTORY
    with pytest.raises(ContentMalformed, match="directory"):
        await store.fetch(directory, limit=100, timeout=10)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda: problem(422, "this is\x1b no picture", "Send a PNG."), ImageRejected, "this is no picture"),
        (lambda: problem(413, "too large"), ContentTooLarge, "too large"),
        (lambda: problem(429, "slower, please"), ContentUnavailable, "slower, please"),
        (lambda: problem(503, "the node is down"), ContentUnavailable, "the node is down"),
        (lambda: web.Response(status=500, text="<html>"), ContentUnavailable, "HTTP 500"),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), ImageRejected, "HTTP 302"),
        (lambda: web.json_response({"cid": MISSING.text}, status=201), ContentCorrupt, "whose CID is"),
        (lambda: web.json_response({"cid": 7}, status=201), ContentCorrupt, "no CID"),
        (lambda: web.json_response(["cid"], status=201), ContentUnavailable, "not Sibyl's"),
        (lambda: web.Response(text="[" * 100_000, status=201), ContentUnavailable, "not Sibyl's"),
    ],
)
async def test_given_an_api_that_does_not_take_a_picture_when_added_then_its_words_are_told(
    store: HttpContentStore, api: DoubleApi, answer: Callable[[], web.Response], error: type[SibylError], words: str
) -> None:
    api.answer_of_images = answer
    with pytest.raises(error, match=words):
        await store.add([b"picture", b"another"])


async def test_given_nobody_at_the_address_or_a_closed_store_when_used_then_the_error_says_so(
    api: DoubleApi, unused_tcp_port_factory: Any
) -> None:
    store = HttpContentStore(HttpApi(f"http://127.0.0.1:{unused_tcp_port_factory()}"))
    with pytest.raises(ContentUnavailable, match="cannot be reached") as caught:
        await store.add([b"picture"])
    assert "address" in caught.value.remedy
    await store.close()
    with pytest.raises(ContentUnavailable, match="closed"):
        await store.fetch(MISSING, limit=1, timeout=1)


async def test_given_a_refusal_when_a_document_is_read_then_its_status_is_kept(api: DoubleApi) -> None:
    line = HttpApi(api.url)
    with pytest.raises(ApiRefused) as caught:
        await line.document("/v1/nothing")
    assert caught.value.status == 404
    await line.close()
    with pytest.raises(ApiUnavailable):
        await line.document("/v1")


# -- a deployment that the API names -----------------------------------------------------------------------------


class Deployed:
    """A coordinator with one model on a chain of its own, and who may ask."""

    def __init__(self, rpc_url: str, coordinator: str, block: int, key: str, address: str) -> None:
        self.rpc_url, self.coordinator, self.block, self.key, self.address = rpc_url, coordinator, block, key, address


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    async def hold(ready: asyncio.Future[tuple[Deployed, list[bytes]]], done: asyncio.Event) -> None:
        async with Anvil() as anvil:
            ipfs = DevnetIpfs(tmp_path_factory.mktemp("ipfs"))
            node = await ipfs.start()
            content, rpc = IpfsContentStore(node.rpc), Rpc(anvil.url)
            try:
                owner = AccountSender(rpc, anvil.accounts[0], anvil.chain_id)
                files = shipped_files("mnist")
                _, manifest = await content.add(files)
                made = await owner.deploy_coordinator()
                await owner.publish_model(made.address, manifest, 10**14)
                person = anvil.accounts[3]
                key = "0x" + bytes(person.key).hex()
                facts = Deployed(anvil.url, made.address, made.block_number, key, str(person.address))
                ready.set_result((facts, files))
                await done.wait()
            finally:
                await content.close()
                await ipfs.close()
                await rpc.close()

    loop = asyncio.new_event_loop()
    ready: asyncio.Future[tuple[Deployed, list[bytes]]] = loop.create_future()
    done = asyncio.Event()
    task = loop.create_task(hold(ready, done))
    yield loop.run_until_complete(asyncio.wait_for(ready, 60))
    loop.call_soon(done.set)
    loop.run_until_complete(task)
    loop.close()


@pytest.fixture
def named(api: DoubleApi, deployed: tuple[Deployed, list[bytes]]) -> Deployed:
    facts, files = deployed
    for data in files:
        api.store(data)
    api.facts = {
        "name": "sibyl",
        "chain_id": 31337,
        "coordinator": facts.coordinator,
        "start_block": facts.block,
        "default_model": 1,
        "rpc_url": facts.rpc_url,
    }
    return facts


async def test_given_an_api_alone_when_connected_then_one_can_ask_and_is_told_whom_one_trusts(
    api: DoubleApi, named: Deployed, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIBYL_COORDINATOR", "0x" + "99" * 20)
    monkeypatch.setenv("SIBYL_REQUESTER_KEY", "0x" + "99" * 32)
    picture = digits(1).items[0].png
    with caplog.at_level(logging.WARNING, "sibyl.client"):
        async with connect(api_url=api.url, key=named.key) as client:
            assert client.sender.address == named.address
            assert (await client.quote()).payment == 10**14
            (asked,) = await client.request("mnist-cnn", picture, provider="curie")
            assert (await client.reader.request_of(asked.request_id)).status is OnChainStatus.PENDING
            assert await client.fetch(cid_of(picture)) == picture
            (wish,) = api.wishes
            said = Wish(31337, named.coordinator, named.address, cid_of(picture), "curie", wish["signed_at"])
            assert await said.signed(client.rpc, bytes.fromhex(wish["signature"][2:]))
            assert (wish["requester"], wish["image_cid"]) == (named.address, cid_of(picture).text)
    assert named.coordinator in caplog.text
    assert "coordinator=" in caplog.text
    assert caplog.text.count("rpc_url=") == 1


async def test_given_a_coordinator_of_ones_own_when_connected_then_only_the_apis_endpoint_is_warned_of(
    api: DoubleApi, named: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {"api_url": api.url, "coordinator": named.coordinator.lower(), "chain_id": 31337}
    async with connect(**mine):  # type: ignore[arg-type]
        pass
    (warning,) = caplog.messages
    assert "verify() checks it against itself; give rpc_url=" in warning


async def test_given_a_coordinator_and_an_endpoint_of_ones_own_when_connected_then_nothing_is_said_unless_they_differ(
    api: DoubleApi, named: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    mine = {"api_url": api.url, "coordinator": named.coordinator.lower(), "chain_id": 31337, "rpc_url": named.rpc_url}
    async with connect(**mine) as client:  # type: ignore[arg-type]
        assert client.settings.start_block == named.block
        with pytest.raises(ConfigurationError, match="no requester key"):
            _ = client.sender
    assert caplog.text == ""
    for lie in ({"coordinator": "0x" + "66" * 20}, {"chain_id": 1}, {"coordinator": None}, {"coordinator": 7}):
        kept, api.facts = api.facts, api.facts | lie
        with pytest.raises(WrongChain, match="another deployment"):
            async with connect(**mine):  # type: ignore[arg-type]
                pass
        api.facts = kept


async def test_given_facts_that_make_no_sense_when_connected_then_the_error_has_a_remedy(
    api: DoubleApi, named: Deployed
) -> None:
    for lie, words in (
        ({"rpc_url": None}, "no RPC endpoint"),
        ({"rpc_url": "file:///etc/passwd"}, "not an http"),
        ({"coordinator": "seven"}, "not an address"),
        ({"coordinator": None}, "no coordinator"),
        ({"coordinator": "0x" + "66" * 20}, "no contract"),
        ({"chain_id": {}}, "chain_id"),
        ({"chain_id": 5}, "serves chain 31337, not 5"),
    ):
        kept, api.facts = api.facts, api.facts | lie
        with pytest.raises(SibylError, match=words) as caught:
            async with connect(api_url=api.url):
                pass
        assert caught.value.remedy
        api.facts = kept


@pytest.mark.parametrize(("provider", "words"), [("ada", "wished for"), ("nobody", "ada, curie")])
async def test_given_a_provider_that_cannot_be_had_when_asked_then_nothing_is_paid(
    api: DoubleApi, named: Deployed, provider: str, words: str
) -> None:
    async with connect(api_url=api.url, key=named.key, coordinator=named.coordinator) as client:
        with pytest.raises(SibylError) as caught:
            await client.request("mnist-cnn", digits(1).items[0].png, provider=provider)
        assert words in f"{caught.value} {caught.value.remedy}"
        assert client.sender.sent == []


async def test_given_a_running_loop_as_in_a_notebook_when_the_synchronous_client_connects_then_it_works(
    api: DoubleApi, named: Deployed
) -> None:
    assert asyncio.get_running_loop().is_running()
    with connect_sync(api_url=api.url, key=named.key, coordinator=named.coordinator) as client:
        (cid,) = client.upload(digits(1).items[0].png)
        assert client.fetch(cid) == digits(1).items[0].png
        assert client.address == named.address
        assert [model.name for model in client.models()] == ["mnist-cnn"]
    assert name_block(b"", version=1, codec=CODEC_RAW) == cid_of(b"")


def test_given_no_api_at_the_address_when_connected_without_asyncio_then_the_error_comes_and_nothing_hangs(
    unused_tcp_port: int,
) -> None:
    with pytest.raises(ApiUnavailable), connect_sync(api_url=f"http://127.0.0.1:{unused_tcp_port}"):
        pass
