"""Official weights from a server on loopback, through a trial and the IPFS store, into a registry on a real chain."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from oracle import publishing
from oracle.catalogue import Bringer, CatalogueError, WeightsMissing, WeightsRefused, family_of
from oracle.chain.account import AccountSender
from oracle.chain.rpc import Rpc
from oracle.client import connect
from oracle.content.download import PATIENCE, Patience
from oracle.content.ipfs import IpfsContentStore
from oracle.devnet.chain import Anvil, dev_account
from oracle.devnet.ipfs import DevnetIpfs
from oracle.domain import Cid
from oracle.manifests import read_manifest
from oracle.publishing import ModelRefused
from oracle.settings import Settings
from provider_images.applications import manifests
from provider_images.applications.manifests import Source
from provider_images.runtime.engines import build
from tests.integration.test_catalogue import legacy_file, shaken

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras while it saves
]

PRICE = 10**14
FAMILY = "mobilenet-v2"
OWNER, PUBLISHER = range(2)  # development accounts
FILE = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 10_000  # begins as weights do, and is none
LIMIT = 64 * 1024 * 1024


class Notes:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.watched: list[tuple[int, int | None]] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def watch(self, done: int, total: int | None) -> None:
        self.watched.append((done, total))


class Host:
    """A publisher's server: each path misbehaves in its own way."""

    def __init__(self) -> None:
        self.file, self.asked = FILE, 0
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        kind = request.match_info["kind"]
        if kind == "moved":
            raise web.HTTPFound("/file")
        if kind == "round":
            raise web.HTTPFound("/round")
        if kind not in ("file", "silent", "trickle", "cut", "endless", "vast"):
            raise web.HTTPNotFound
        response = web.StreamResponse()
        if kind not in ("endless", "trickle"):
            response.content_length = 10**13 if kind == "vast" else len(self.file)
        await response.prepare(request)
        if kind == "silent":
            await asyncio.sleep(30)
        while kind == "endless":
            await response.write(bytes(2**20))
        while kind == "trickle":
            await response.write(b"x")
            await asyncio.sleep(0.05)
        await response.write(self.file[:1000] if kind == "cut" else self.file)
        if kind == "cut":
            assert request.transport is not None
            request.transport.abort()
        return response


@asynccontextmanager
async def official() -> AsyncIterator[Host]:
    host, app = Host(), web.Application()
    app.router.add_get("/{kind}", host.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield host
    finally:
        await runner.cleanup()


@pytest.fixture
async def host(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with official() as running:
        yield running


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[str]:
    running = DevnetIpfs(tmp_path / "ipfs")
    addresses = await running.start()
    yield addresses.rpc
    await running.close()


def official_is(monkeypatch: pytest.MonkeyPatch, url: str, digest: str) -> None:
    known = {**manifests.sources(), FAMILY: Source(url, digest, "hdf5")}
    monkeypatch.setattr(manifests, "sources", lambda: known)


# ---------------------------------------------------------------------------------------------------------------
# Servers
# ---------------------------------------------------------------------------------------------------------------


async def bring(host: Host, kind: str, folder: Path, patience: Patience = PATIENCE, limit: int = LIMIT) -> Notes:
    notes, content = Notes(), IpfsContentStore("/ip4/127.0.0.1/tcp/1/http")
    try:
        with pytest.MonkeyPatch.context() as patch:
            official_is(patch, f"{host.url}/{kind}", f"md5:{hashlib.md5(FILE).hexdigest()}")
            wanted = family_of(FAMILY)
        path, _ = await Bringer(content, limit, notes, patience).bring(wanted, folder)
        assert path.read_bytes() == FILE
    finally:
        await content.close()
    return notes


@pytest.mark.parametrize("kind", ["file", "moved"])
async def test_given_an_official_host_when_weights_are_brought_then_they_come_once_and_their_progress_is_seen(
    host: Host, tmp_path: Path, kind: str
) -> None:
    notes = await bring(host, kind, tmp_path / "models")
    assert notes.watched[-1] == (len(FILE), len(FILE))
    asked = host.asked
    await bring(host, kind, tmp_path / "models")
    assert host.asked == asked


FAULTS = {
    "missing": (WeightsMissing, "404"),
    "cut": (WeightsMissing, "cut short"),
    "silent": (WeightsMissing, "too slow"),
    "trickle": (WeightsMissing, "too slow"),
    "vast": (WeightsRefused, "bytes and"),
    "endless": (WeightsRefused, "allowed"),
    "round": (WeightsMissing, "cannot be reached"),
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_given_a_host_that_fails_when_weights_are_brought_then_it_ends_in_time_with_a_reason_and_leaves_nothing(
    host: Host, tmp_path: Path, kind: str
) -> None:
    fault, words = FAULTS[kind]
    began = time.monotonic()
    with pytest.raises(fault, match=words) as raised:
        await bring(host, kind, tmp_path, Patience(connect=1, idle=0.5, total=1.5), limit=8 * 1024 * 1024)
    assert time.monotonic() - began < 5
    assert raised.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_given_nobody_at_the_address_when_weights_are_brought_then_what_is_missing_is_named(
    tmp_path: Path,
) -> None:
    async with official() as gone:
        pass
    with pytest.raises(WeightsMissing, match="cannot be reached") as raised:
        await bring(gone, "file", tmp_path)
    assert f"{gone.url}/file" in raised.value.remedy
    assert hashlib.md5(FILE).hexdigest() in raised.value.remedy
    assert "--from FILE" in raised.value.remedy


async def test_given_a_disk_without_room_when_weights_are_brought_then_nothing_is_fetched(
    host: Host, tmp_path: Path
) -> None:
    with pytest.raises(WeightsMissing, match="has room for") as raised:
        await bring(host, "vast", tmp_path, limit=10**14)
    assert "room" in raised.value.remedy


# ---------------------------------------------------------------------------------------------------------------
# From there into the registry
# ---------------------------------------------------------------------------------------------------------------


@dataclass
class World:
    settings: Settings
    content: IpfsContentStore

    async def published(self) -> list[tuple[str, int, str]]:
        async with connect(self.settings) as client:
            return [(model.name, model.on_chain.price, model.on_chain.payout) for model in await client.models()]


@pytest.fixture
async def world(node: str, tmp_path: Path) -> AsyncIterator[World]:
    async with Anvil() as anvil:
        rpc = Rpc(anvil.url, timeout=30)
        deployed = await AccountSender(rpc, dev_account(OWNER), anvil.chain_id).deploy_coordinator()
        await rpc.close()
        content = IpfsContentStore(node)
        settings = Settings(
            data_dir=tmp_path / "state",
            rpc_url=anvil.url,
            chain_id=anvil.chain_id,
            coordinator=deployed.address,
            ipfs_api=node,
            publisher_key=SecretStr("0x" + bytes(dev_account(PUBLISHER).key).hex()),
        )
        yield World(settings, content)
        await content.close()


@pytest.fixture(scope="module")
def weights(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A MobileNetV2 with random weights, as the official file is laid out."""
    model = build(FAMILY)
    shaken(model, 5)
    return legacy_file(model, tmp_path_factory.mktemp("official") / "weights.h5").read_bytes()


async def test_given_official_weights_when_pulled_twice_then_the_model_is_published_once_and_can_be_read_by_anyone(
    world: World, host: Host, weights: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.file = weights
    official_is(monkeypatch, f"{host.url}/file", f"md5:{hashlib.md5(weights).hexdigest()}")
    first = await publishing.pull(world.settings, FAMILY, report=Notes(), price=PRICE)
    assert (first.number, first.already) == (1, False)
    assert first.trial is not None
    assert len(first.trial.answers) == 3
    manifest = read_manifest(await world.content.fetch(first.draft.cid, limit=2**20, timeout=5))
    pinned = await world.content.fetch(manifest.weights_cid, limit=LIMIT, timeout=10)
    assert hashlib.sha256(pinned).hexdigest() == manifest.weights_sha256 == hashlib.sha256(weights).hexdigest()
    folder = world.settings.data_dir / "models" / FAMILY
    assert (folder / "manifest.json").read_bytes() == first.draft.data
    expected = [(FAMILY, PRICE, str(dev_account(PUBLISHER).address))]
    assert await world.published() == expected

    second = await publishing.pull(world.settings, FAMILY, report=Notes(), price=2 * PRICE)
    assert (second.number, second.already, second.trial) == (1, True, None)
    assert await world.published() == expected
    assert host.asked == 1
    assert await publishing.name_for_requests(world.settings, FAMILY, 1) == FAMILY
    assert await publishing.name_for_requests(world.settings, FAMILY, 2) == "2"


async def test_given_weights_of_another_network_when_pulled_then_the_trial_refuses_them_and_nothing_is_published(
    world: World, keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    shaken(other, 1)
    file = legacy_file(other, tmp_path / "other.h5")
    official_is(monkeypatch, "https://weights.invalid/file", "")
    with pytest.raises(ModelRefused, match="does not fit"):
        await publishing.pull(world.settings, FAMILY, report=Notes(), price=PRICE, source=str(file))
    assert await world.published() == []
    assert not list((world.settings.data_dir / "models").rglob("weights*"))


def own_model(keras: Any, path: Path, *, harmful: bool = False) -> Path:
    picture = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(picture)
    if harmful:
        x = keras.layers.Lambda(lambda value: value)(x)
    keras.Model(picture, keras.layers.Dense(3, activation="softmax")(x)).save(path)
    return path


def own_manifest(path: Path) -> Path:
    document = {
        "schema": "sibyl/model/1",
        "name": "colours",
        "version": "1",
        "description": "Which colour a picture has most of.",
        "licence": "MIT",
        "task": "classification",
        "engine": "keras",
        "family": "keras-file",
        "labels": ["red", "green", "blue"],
        "comparison": {"class": "tolerance", "epsilon": 0.001},
        "input": {"height": 8, "width": 8, "channels": 3, "color": "rgb", "fit": "stretch", "range": [0, 1]},
        "output": {"shape": [3], "top_k": 3, "values": "probabilities"},
        "resources": {},
        "training": {},
        "weights": {"format": "keras"},
    }
    path.write_text(json.dumps(document))
    return path


def sibyl(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    settings = world.settings
    key = settings.publisher_key
    assert key is not None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIBYL_")} | {
        "SIBYL_DATA_DIR": str(settings.data_dir),
        "SIBYL_RPC_URL": settings.rpc_url,
        "SIBYL_COORDINATOR": str(settings.coordinator),
        "SIBYL_IPFS_API": settings.ipfs_api,
        "SIBYL_PUBLISHER_KEY": key.get_secret_value(),
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "oracle.cli", "models", *arguments],
        capture_output=True, text=True, timeout=110, env=environment, check=False,
    )  # fmt: skip


async def told(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(sibyl, world, *arguments)


async def test_given_a_model_of_ones_own_when_checked_and_published_on_the_command_line_then_it_is_in_the_registry(
    world: World, keras: Any, tmp_path: Path
) -> None:
    from PIL import Image

    files = str(own_manifest(tmp_path / "manifest.json")), str(own_model(keras, tmp_path / "colours.keras"))
    Image.new("RGB", (20, 30), (255, 0, 0)).save(tmp_path / "red.png")
    checked = await told(world, "check", *files, "--picture", str(tmp_path / "red.png"))
    assert checked.returncode == 0, checked.stderr
    assert "colours is accepted" in checked.stdout
    assert "red.png: " in checked.stdout
    assert (await told(world)).stdout == "The registry holds no model yet.\n"

    published = await told(world, "publish", *files, "--price", "0.002", "--json")
    assert published.returncode == 0, published.stderr
    facts = json.loads(published.stdout)
    assert (facts["model_id"], facts["already_published"]) == (1, False)
    assert facts["next"] == "sibyl request PICTURE --model colours --wait"
    manifest = read_manifest(await world.content.fetch(Cid.parse(facts["manifest"]), limit=2**20, timeout=5))
    assert manifest.weights_sha256 == hashlib.sha256(Path(files[1]).read_bytes()).hexdigest()
    again = await told(world, "publish", *files, "--price", "0.003")
    assert "published already, as model 1; nothing was sent" in again.stdout
    listed = json.loads((await told(world, "--json")).stdout)
    assert [(model["name"], model["price_wei"]) for model in listed] == [("colours", 2 * 10**15)]


async def test_given_a_model_that_runs_code_when_published_on_the_command_line_then_it_is_refused_with_the_reason(
    world: World, keras: Any, tmp_path: Path
) -> None:
    files = own_manifest(tmp_path / "manifest.json"), own_model(keras, tmp_path / "x.keras", harmful=True)
    refused = await told(world, "publish", *map(str, files), "--price", "0.002")
    assert refused.returncode == 1
    assert "Lambda" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert await world.published() == []


async def test_given_a_family_that_is_shipped_when_pulled_without_a_chain_then_it_is_tried_and_pinned(
    node: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "state", ipfs_api=node, rpc_url="http://127.0.0.1:1")
    done = await publishing.pull(settings, "mnist", report=Notes(), price=PRICE, publish=False)
    assert (done.number, done.already) == (None, False)
    content = IpfsContentStore(node)
    assert await content.fetch(done.draft.cid, limit=2**20, timeout=5) == done.draft.data
    await content.close()
    with pytest.raises(CatalogueError):
        await publishing.pull(settings, "mnist", report=Notes(), price=1, publish=False)
