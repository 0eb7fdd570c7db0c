"""Models and what they leave on disk: the catalogue, hostile manifests, the sweeper; and the chain's clock."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pipeline_flow as flow
import pytest
from doubles import MemoryChain, MemoryContent, ScriptedBackend, SteppedClock, cid_of

from oracle.content.spool import DirectorySpool
from oracle.domain import BlockRef, Cid
from oracle.errors import ContentUnavailable, ManifestInvalid, ModelUnservable
from oracle.manifests import parse_manifest, read_manifest
from oracle.pipeline import models as models_module
from oracle.pipeline.clock import ChainClock
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.sweeper import YOUNG, Sweeper

pytestmark = pytest.mark.unit

WEIGHTS = flow.WEIGHTS
S, Build = flow.S, flow.Build
build = flow.build


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


class Bench:
    def __init__(self, folder: Path, manifest: bytes, *, weights_limit: int = 1000) -> None:
        self.content = MemoryContent()
        self.spool = DirectorySpool(folder)
        self.clock = SteppedClock(flow.NOW)
        self.models = ModelCatalogue(
            chain=MemoryChain({1: self.content.hold(manifest)}), content=self.content, spool=self.spool,
            backend=ScriptedBackend(), clock=self.clock, timeout=3.0, weights_limit=weights_limit,
        )  # fmt: skip


async def test_given_weights_larger_than_their_manifest_says_when_fetched_then_no_more_is_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path, flow.manifest())
    asked: list[tuple[int, float]] = []

    async def fetch(cid: Cid, *, limit: int, timeout: float) -> bytes:
        asked.append((limit, timeout))
        return WEIGHTS if cid == cid_of(WEIGHTS) else bench.content.files[cid]

    bench.content.fetch = fetch  # type: ignore[method-assign]
    await bench.models.resolve(1)
    assert asked[1] == (len(WEIGHTS), 30.0)


async def test_given_weights_over_the_operators_limit_when_resolved_then_the_model_is_refused_unfetched(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, flow.manifest(), weights_limit=len(WEIGHTS) - 1)
    with pytest.raises(ModelUnservable, match="bytes"):
        await bench.models.resolve(1)
    assert cid_of(WEIGHTS) not in bench.content.fetched


async def test_given_spooled_weights_that_were_damaged_when_resolved_then_they_are_fetched_and_written_again(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, flow.manifest())
    bench.content.hold(WEIGHTS)
    path = await bench.spool.put(cid_of(WEIGHTS), WEIGHTS)
    path.write_bytes(b"x" * len(WEIGHTS))
    model = await bench.models.resolve(1)
    assert model.weights.read_bytes() == WEIGHTS


async def test_given_weights_of_another_sha256_when_resolved_then_the_model_is_refused_and_nothing_stays_on_disk(
    tmp_path: Path,
) -> None:
    document = json.loads(flow.manifest())
    document["weights"]["sha256"] = "0" * 64
    bench = Bench(tmp_path, json.dumps(document).encode())
    bench.content.hold(WEIGHTS)
    with pytest.raises(ModelUnservable, match="sha256"):
        await bench.models.resolve(1)
    assert list(tmp_path.iterdir()) == []


async def test_given_weights_of_hundreds_of_megabytes_when_resolved_then_their_time_grows_with_them(
    tmp_path: Path,
) -> None:
    document = json.loads(flow.manifest())
    document["weights"]["bytes"] = 553_467_096  # of VGG16
    bench = Bench(tmp_path, json.dumps(document).encode(), weights_limit=2 * 1024**3)
    allowed: list[float] = []

    async def fetch_file(cid: Cid, path: Path, *, limit: int, timeout: float) -> int:
        allowed.append(timeout)
        return path.write_bytes(WEIGHTS)

    bench.content.fetch_file = fetch_file  # type: ignore[method-assign]
    await bench.models.resolve(1)
    assert allowed == [pytest.approx(263.9, abs=0.1)]


async def test_given_a_refusal_when_met_again_and_again_then_its_trace_does_not_grow(tmp_path: Path) -> None:
    bench = Bench(tmp_path, b"no manifest")
    traces = []
    for _ in range(5):
        with pytest.raises(ManifestInvalid) as raised:
            await bench.models.resolve(1)
        traces.append(len(raised.traceback))
        assert raised.value.reason is ManifestInvalid.reason
    assert len(set(traces[1:])) == 1


async def test_given_a_clock_that_falls_back_when_a_refused_model_was_mended_then_it_is_found(tmp_path: Path) -> None:
    bench = Bench(tmp_path, flow.manifest())
    bench.clock.time += 10**9
    with pytest.raises(ContentUnavailable):
        await bench.models.resolve(1)
    bench.clock.time -= 10**9
    bench.content.hold(WEIGHTS)
    assert (await bench.models.resolve(1)).weights.exists()


async def test_given_weights_that_take_long_when_resolved_then_callers_wait_a_moment_only_and_find_them_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_module, "PATIENCE", 0.02)
    bench = Bench(tmp_path, flow.manifest())
    gate, fetch, weights = asyncio.Event(), bench.content.fetch, bench.content.hold(WEIGHTS)

    async def slow(cid: Cid, *, limit: int, timeout: float) -> bytes:
        if cid == weights:
            await gate.wait()
        return await fetch(cid, limit=limit, timeout=timeout)

    bench.content.fetch = slow  # type: ignore[method-assign]
    for _ in range(3):
        with pytest.raises(ContentUnavailable):
            await bench.models.resolve(1)
    gate.set()
    for _ in range(100):
        await asyncio.sleep(0.01)
        if bench.spool.path(weights):
            break
    assert (await bench.models.resolve(1)).weights.read_bytes() == WEIGHTS
    assert bench.content.fetched.count(weights) == 1


async def test_given_weights_that_nobody_asked_for_when_swept_then_they_go_and_those_in_use_stay(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path, flow.manifest())
    bench.content.hold(WEIGHTS)
    used = (await bench.models.resolve(1)).weights
    old = await bench.spool.put(cid_of(b"old weights"), b"old weights")
    for path in (used, old):
        age(path, 1000)
    await bench.models.sweep(older_than=900)
    assert [path.exists() for path in (used, old)] == [True, False]
    await bench.models.sweep(older_than=900)
    assert not used.exists()
    assert (await bench.models.resolve(1)).weights.exists()


async def test_given_pictures_left_behind_when_swept_then_only_old_ones_that_no_request_needs_go(
    build: Build, tmp_path: Path
) -> None:
    oracle = build()
    spool = DirectorySpool(tmp_path / "swept")
    await oracle.ask(b"picture needed")
    needed, young, left = [
        await spool.put(cid_of(data), data) for data in (b"picture needed", b"picture young", b"picture left")
    ]
    age(needed, YOUNG + 1)
    age(left, YOUNG + 1)
    await Sweeper(store=oracle.store, spool=spool, models=oracle.intake._models).step()
    assert [path.exists() for path in (needed, young, left)] == [True, True, False]


@pytest.mark.parametrize("text", ["\ud800", "a\x1b[2Jb", "a\nb", "a\u202eb", "\x7f", "\x9b"])
def test_given_a_label_that_cannot_be_shown_when_the_manifest_is_read_then_it_is_refused(text: str) -> None:
    document = json.loads(flow.manifest())
    for changes in (
        {"labels": [text, *document["labels"][1:]]},
        {"version": text},
        {"licence": text},
    ):
        with pytest.raises(ManifestInvalid) as raised:
            parse_manifest(document | changes)
        str(raised.value).encode()
        assert "\x1b" not in str(raised.value)


def test_given_half_a_character_anywhere_when_the_manifest_is_read_then_it_is_refused() -> None:
    data = json.dumps(json.loads(flow.manifest()) | {"training": {"data": "\ud800"}}).encode()
    with pytest.raises(ManifestInvalid):
        read_manifest(data)


def test_given_a_description_of_two_paragraphs_when_the_manifest_is_read_then_it_is_taken() -> None:
    parse_manifest(json.loads(flow.manifest()) | {"description": "one\n\ntwo: é 数 👩‍🔬"})


def test_given_a_head_far_in_the_future_when_sane_heads_follow_then_the_clock_comes_back() -> None:
    clock = ChainClock()
    clock.observe(BlockRef(1, b"\1" * 32, int(time.time()) + 10**9))
    assert clock.now() > time.time() + 10**8
    clock.observe(BlockRef(2, b"\2" * 32, int(time.time()) - 5))
    assert clock.now() == pytest.approx(time.time(), abs=5)


def test_given_a_travelled_chain_that_mines_nothing_when_its_head_is_seen_again_then_time_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, head, now = ChainClock(), BlockRef(1, b"\1" * 32, int(time.time()) + 7200), time.time()
    clock.observe(head)
    before = clock.now()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    clock.observe(head)
    assert clock.now() == pytest.approx(before + 60, abs=1)
