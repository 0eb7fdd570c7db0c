"""How models come into the registry: weights brought and checked, manifests completed, nothing published untried."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pipeline_flow as flow
import pytest
from doubles import REQUESTER, MemoryContent

from oracle import catalogue, publishing
from oracle.catalogue import (
    Bringer,
    Family,
    UnknownFamily,
    WeightsMissing,
    WeightsRefused,
    facts_of,
    families,
    family_of,
    is_pulled,
)
from oracle.content.download import check_hops
from oracle.content.unixfs import cid_of
from oracle.devnet.locked import locked
from oracle.domain import Cid, OnChainModel
from oracle.errors import ConfigurationError, ContentCorrupt, ContentUnavailable, ManifestInvalid
from oracle.manifests import read_manifest
from oracle.publishing import Draft, ManifestMismatch, ModelRefused, PriceRefused, complete, draft_of, finish
from oracle.settings import Settings
from provider_images.runtime.dry_run import DryRun
from provider_images.runtime.spec import FAMILIES

pytestmark = pytest.mark.unit

FILE = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 1000
MD5, SHA256 = hashlib.md5(FILE).hexdigest(), hashlib.sha256(FILE).hexdigest()
URL = "https://weights.example/densenet.h5"
TRIAL = DryRun("keras", 0.1, 0.2, ((("7", 0.9),),))


class Notes:
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def watch(self, done: int, total: int | None) -> None: ...


class Web:
    """What an address serves, and how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, served: bytes | Exception = FILE) -> None:
        self.served, self.asked = served, 0
        monkeypatch.setattr(catalogue, "download", self.download)

    async def download(self, url: str, target: Path, **_: Any) -> int:
        self.asked += 1
        assert url == URL
        if isinstance(self.served, Exception):
            target.write_bytes(FILE[:100])
            raise self.served
        return target.write_bytes(self.served)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    return Web(monkeypatch)


def family(digest: str = f"md5:{MD5}") -> Family:
    return replace(families()["densenet121"], url=URL, digest=digest)


class Bench:
    def __init__(self, *, limit: int = 10**6) -> None:
        self.content, self.notes = MemoryContent(), Notes()
        self.bringer = Bringer(self.content, limit, self.notes)

    async def bring(self, folder: Path, wanted: Family | None = None, source: str | None = None) -> bytes:
        path, facts = await self.bringer.bring(wanted or family(), folder, source)
        assert facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        return path.read_bytes()


# ---------------------------------------------------------------------------------------------------------------
# Weights
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [f"md5:{MD5}", f"sha256:{SHA256}", ""])
async def test_given_weights_that_came_when_pulled_again_then_they_are_not_fetched_again(
    tmp_path: Path, web: Web, digest: str
) -> None:
    bench, wanted = Bench(), family(digest)
    assert await bench.bring(tmp_path / "new" / "folder", wanted) == FILE
    assert await bench.bring(tmp_path / "new" / "folder", wanted) == FILE
    assert web.asked == 1
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["lock", "weights.h5"]
    assert ("no digest" in " ".join(bench.notes.said)) == (digest == "")


async def test_what_is_known_of_a_file_is_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FILE)
    facts = facts_of(tmp_path / "file")
    assert (facts.size, facts.md5, facts.sha256, facts.cid) == (len(FILE), MD5, SHA256, cid_of(FILE))


@pytest.mark.parametrize("digest", [f"md5:{MD5}", f"sha256:{SHA256}"])
async def test_given_another_digest_when_pulled_then_it_is_refused_with_both_and_nothing_is_left(
    tmp_path: Path, web: Web, digest: str
) -> None:
    web.served = FILE[:-1] + b"x"
    with pytest.raises(WeightsRefused, match=digest) as raised:
        await Bench().bring(tmp_path, family(digest))
    kind = digest.partition(":")[0]
    assert f"{kind}:{hashlib.new(kind, web.served).hexdigest()}" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("fault", [ContentUnavailable("no network"), ContentCorrupt("cut short")])
async def test_given_no_network_when_pulled_then_it_says_what_is_missing_and_how_to_bring_it(
    tmp_path: Path, web: Web, fault: Exception
) -> None:
    web.served = fault
    with pytest.raises(WeightsMissing, match=str(fault)) as raised:
        await Bench().bring(tmp_path)
    for needed in (URL, f"md5:{MD5}", "sibyl models pull densenet121 --from FILE"):
        assert needed in raised.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("served", [b"<html>log in first</html>", b""])
async def test_given_a_web_page_when_no_digest_is_stated_then_it_is_not_taken_for_weights(
    tmp_path: Path, web: Web, served: bytes
) -> None:
    web.served = served
    with pytest.raises(WeightsRefused, match="hdf5"):
        await Bench().bring(tmp_path, family(""))
    with pytest.raises(WeightsRefused, match="safetensors"):
        await Bench().bring(tmp_path, replace(family(""), format="safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_given_an_https_address_when_it_leads_to_one_without_then_it_is_refused() -> None:
    check_hops("https://a.example/x", ["https://a.example/x", "https://b.example/y"])
    check_hops("http://127.0.0.1/x", ["http://127.0.0.1/x", "http://127.0.0.1/y"])
    for hops in (["https://a.example/x", "http://b.example/y"], ["http://b.example/y", "https://a.example/z"]):
        with pytest.raises(ContentUnavailable, match="https"):
            check_hops("https://a.example/x", hops)


async def test_given_a_file_when_pulled_from_it_then_it_is_checked_and_copied_and_nothing_is_fetched(
    tmp_path: Path, web: Web
) -> None:
    brought, wrong = tmp_path / "brought", tmp_path / "wrong"
    brought.write_bytes(FILE)
    wrong.write_bytes(FILE + b"x")
    assert await Bench().bring(tmp_path / "a", source=str(brought)) == FILE
    with pytest.raises(WeightsRefused, match="md5"):
        await Bench().bring(tmp_path / "b", source=str(wrong))
    assert brought.exists()
    assert web.asked == 0


async def test_given_neither_a_file_nor_a_cid_when_pulled_from_it_then_it_says_so(tmp_path: Path, web: Web) -> None:
    with pytest.raises(WeightsMissing, match="neither a file nor a CID"):
        await Bench().bring(tmp_path, source=str(tmp_path / "not there"))


async def test_given_a_cid_when_pulled_from_it_then_the_node_delivers_it(tmp_path: Path, web: Web) -> None:
    bench = Bench()
    cid = bench.content.hold(FILE)
    assert await bench.bring(tmp_path / "a", source=cid.text) == FILE
    missing = cid_of(b"nowhere")
    with pytest.raises(WeightsMissing, match=missing.text):
        await bench.bring(tmp_path / "b", source=missing.text)
    assert web.asked == 0


async def test_given_a_file_over_the_limit_when_pulled_from_it_then_it_is_refused_unread(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large").write_bytes(FILE)
    monkeypatch.setattr(catalogue, "facts_of", None)
    with pytest.raises(WeightsRefused, match="allowed") as raised:
        await Bench(limit=len(FILE) - 1).bring(tmp_path, source=str(tmp_path / "large"))
    assert "SIBYL_WEIGHTS_MAX_BYTES" in raised.value.remedy


async def test_given_weights_damaged_on_disk_when_pulled_then_they_are_brought_again(tmp_path: Path, web: Web) -> None:
    bench = Bench()
    await bench.bring(tmp_path)
    (tmp_path / "weights.h5").write_bytes(FILE[:1000])
    assert await bench.bring(tmp_path) == FILE
    assert web.asked == 2


async def test_given_no_digest_when_the_file_is_not_the_manifests_then_it_is_brought_again(
    tmp_path: Path, web: Web
) -> None:
    bench = Bench()
    await bench.bring(tmp_path, family(""))
    (tmp_path / "manifest.json").write_text(json.dumps({"weights": {"sha256": SHA256}}))
    (tmp_path / "weights.h5").write_bytes(FILE[:1000])
    assert await bench.bring(tmp_path, family("")) == FILE
    assert web.asked == 2


async def test_given_a_pull_that_runs_when_another_begins_then_it_is_refused(tmp_path: Path, web: Web) -> None:
    with (
        locked(tmp_path / "lock", taken="", remedy=""),
        pytest.raises(ConfigurationError, match="another process brings densenet121"),
    ):
        await Bench().bring(tmp_path)
    assert web.asked == 0


async def test_given_what_a_killed_pull_left_when_pulled_then_it_is_removed(tmp_path: Path, web: Web) -> None:
    (tmp_path / "tmpabc.part").write_bytes(FILE[:7])
    await Bench().bring(tmp_path)
    assert not (tmp_path / "tmpabc.part").exists()


async def test_given_a_family_that_is_shipped_when_pulled_then_its_own_file_is_taken(tmp_path: Path, web: Web) -> None:
    path, facts = await Bench().bringer.bring(family_of("mnist"), tmp_path)
    assert path == catalogue.PACKAGES / "mnist" / "weights.npz"
    assert facts.sha256 == family_of("mnist-cnn").digest.removeprefix("sha256:")
    assert web.asked == 0


# ---------------------------------------------------------------------------------------------------------------
# Families
# ---------------------------------------------------------------------------------------------------------------


def test_every_family_says_what_a_person_needs_to_choose_it() -> None:
    found = families()
    assert set(found) == set(FAMILIES)
    for name, one in found.items():
        assert one.template["resources"]["parameters"] > 0, name
        assert one.template["task"], name
        assert one.url.startswith("https://") != (one.shipped is not None), name
        # Either a licence with where it is stated, or the words that it is not.
        assert "http" in one.template["licence"] or one.shipped or name == "xception", name


def test_given_a_name_that_is_misspelt_when_it_is_looked_up_then_those_like_it_are_named() -> None:
    with pytest.raises(UnknownFamily) as raised:
        family_of("densnet121")
    assert "densenet121" in raised.value.remedy


async def test_given_weights_without_a_manifest_when_listed_then_the_family_is_not_here(
    tmp_path: Path, web: Web
) -> None:
    await Bench().bring(tmp_path / "densenet121")
    assert not is_pulled(family(), tmp_path)
    (tmp_path / "densenet121" / "manifest.json").write_text("{}")
    assert is_pulled(family(), tmp_path)
    assert is_pulled(family_of("mnist"), tmp_path)


# ---------------------------------------------------------------------------------------------------------------
# Manifests
# ---------------------------------------------------------------------------------------------------------------


def test_given_a_manifest_without_its_weights_facts_when_completed_then_it_is_read_and_has_one_cid(
    tmp_path: Path,
) -> None:
    (tmp_path / "weights").write_bytes(FILE)
    facts = facts_of(tmp_path / "weights")
    document = json.loads(flow.manifest())
    for left_out in ({}, {"bytes": len(FILE)}, {"sha256": SHA256}):
        data = complete(json.dumps(document | {"weights": left_out}).encode(), facts)
        manifest = read_manifest(data)
        assert (manifest.weights_cid, manifest.weights_sha256) == (cid_of(FILE), SHA256)
        assert complete(data, facts) == data
    assert json.loads(data)["weights"] == {"bytes": len(FILE), "cid": cid_of(FILE).text, "sha256": SHA256}


@pytest.mark.parametrize("field", ["bytes", "cid", "sha256"])
def test_given_a_manifest_of_other_weights_when_completed_then_the_field_and_both_values_are_named(
    tmp_path: Path, field: str
) -> None:
    (tmp_path / "weights").write_bytes(FILE)
    document = json.loads(flow.manifest())
    other = {"bytes": 1, "cid": cid_of(b"other").text, "sha256": "0" * 64}[field]
    with pytest.raises(ManifestMismatch, match=rf"weights\.{field}: .*{other}"):
        complete(json.dumps(document | {"weights": {field: other}}).encode(), facts_of(tmp_path / "weights"))


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"weights": 7}', b'{"a": 1, "a": 2}', b"\xff", b"{" * 10**5])
def test_given_what_is_no_manifest_when_completed_then_it_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "weights").write_bytes(FILE)
    with pytest.raises(ManifestInvalid):
        complete(raw, facts_of(tmp_path / "weights"))


# ---------------------------------------------------------------------------------------------------------------
# Publishing
# ---------------------------------------------------------------------------------------------------------------


class MemoryRegistry:
    def __init__(self, *manifests: Cid) -> None:
        self.listed = [OnChainModel(i, cid, 1, REQUESTER, True) for i, cid in enumerate(manifests, 1)]
        self.published: list[tuple[Cid, int, str | None]] = []

    async def models(self) -> Sequence[OnChainModel]:
        return self.listed

    async def publish(self, manifest: Cid, price: int, token: str | None) -> int:
        self.published.append((manifest, price, token))
        return len(self.listed) + 1


class Trials:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.fault = 0, None
        monkeypatch.setattr(publishing, "try_out", self.try_out)

    fault: Exception | None

    async def try_out(self, draft: Draft, pictures: Sequence[bytes] = ()) -> DryRun:
        self.count += 1
        if self.fault:
            raise self.fault
        return TRIAL


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    return Trials(monkeypatch)


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    (tmp_path / "weights").write_bytes(FILE)
    document = json.loads(flow.manifest()) | {"weights": {}}
    return draft_of(json.dumps(document).encode(), tmp_path / "weights", facts_of(tmp_path / "weights"))


async def done(draft: Draft, content: MemoryContent, registry: MemoryRegistry | None, keep: Path | None = None) -> Any:
    return await finish(draft, content=content, registry=registry, price=10**14, token=None, report=Notes(), keep=keep)


async def test_given_a_new_model_when_finished_then_it_is_tried_pinned_written_and_published(
    draft: Draft, trials: Trials, tmp_path: Path
) -> None:
    content, registry = MemoryContent(), MemoryRegistry(cid_of(b"another"))
    came = await done(draft, content, registry, tmp_path / "new" / "manifest.json")
    assert (came.number, came.already, came.trial) == (2, False, TRIAL)
    assert registry.published == [(draft.cid, 10**14, None)]
    assert content.files == {cid_of(FILE): FILE, draft.cid: draft.data}
    assert (tmp_path / "new" / "manifest.json").read_bytes() == draft.data


async def test_given_a_model_that_is_published_when_finished_then_it_is_pinned_and_nothing_is_sent_or_tried(
    draft: Draft, trials: Trials
) -> None:
    content, registry = MemoryContent(), MemoryRegistry(cid_of(b"another"), draft.cid)
    came = await done(draft, content, registry)
    assert (came.number, came.already, came.trial) == (2, True, None)
    assert (registry.published, trials.count) == ([], 0)
    assert draft.cid in content.files


async def test_given_a_model_that_fails_its_trial_when_finished_then_nothing_is_pinned_written_or_published(
    draft: Draft, trials: Trials, tmp_path: Path
) -> None:
    content, registry = MemoryContent(), MemoryRegistry()
    trials.fault = ModelRefused("a Lambda layer")
    with pytest.raises(ModelRefused):
        await done(draft, content, registry, tmp_path / "manifest.json")
    assert (registry.published, content.files, (tmp_path / "manifest.json").exists()) == ([], {}, False)


async def test_given_a_node_that_stores_nothing_when_finished_then_nothing_is_published(
    draft: Draft, trials: Trials
) -> None:
    content, registry = MemoryContent(), MemoryRegistry()
    content.add_faults = [ContentUnavailable("the disk is full")]
    with pytest.raises(ContentUnavailable):
        await done(draft, content, registry)
    assert registry.published == []


async def test_given_no_registry_when_finished_then_the_model_is_pinned_and_has_no_number(
    draft: Draft, trials: Trials
) -> None:
    content = MemoryContent()
    came = await done(draft, content, None)
    assert (came.number, came.already, draft.cid in content.files) == (None, False, True)


def test_given_ether_below_a_gwei_when_priced_then_it_is_refused_before_anything_is_done() -> None:
    publishing.check_price(10**9, None)
    publishing.check_price(1, REQUESTER)
    with pytest.raises(PriceRefused):
        publishing.check_price(10**9 + 1, None)


def test_given_a_trial_that_takes_long_when_interrupted_then_nobody_waits_for_its_end() -> None:
    began, end = threading.Event(), threading.Event()

    def work() -> bool:
        began.set()
        return end.wait(10)

    async def interrupted() -> None:
        waiting = asyncio.create_task(publishing._beside(work))
        assert await asyncio.to_thread(began.wait, 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    started = time.monotonic()
    asyncio.run(interrupted())
    assert time.monotonic() - started < 5
    end.set()


async def test_given_work_beside_when_it_ends_then_its_result_or_error_is_that_of_the_wait() -> None:
    assert await publishing._beside(lambda: 8) == 8
    with pytest.raises(ZeroDivisionError):
        await publishing._beside(lambda: 1 // 0)


@pytest.fixture
def classifier(tmp_path: Path) -> Draft:
    """DenseNet121 as `pull` leaves it."""
    weights = tmp_path / "models" / "weights.h5"
    weights.parent.mkdir()
    weights.write_bytes(FILE)
    facts = facts_of(weights)
    made = draft_of(family_of("densenet121").manifest(facts), weights, facts)
    weights.with_name("manifest.json").write_bytes(made.data)
    return made


@pytest.mark.parametrize(("backend", "expected"), [("golem", True), ("local", False)])
def test_given_an_oracle_on_golem_when_it_has_no_image_of_a_family_then_the_publisher_is_told(
    tmp_path: Path, draft: Draft, classifier: Draft, backend: Any, expected: bool
) -> None:
    (tmp_path / "mnist.json").write_text('{"family": "mnist"}')
    (tmp_path / "broken.json").write_text("{")
    settings = Settings(backend=backend, golem_images=tmp_path)
    assert publishing.without_image(settings, classifier.manifest) == expected
    assert not publishing.without_image(settings, draft.manifest)


@pytest.mark.parametrize(("inside", "expected"), [(SHA256, False), ("0" * 64, True)])
def test_given_an_image_of_one_models_weights_alone_then_another_of_its_family_has_none(
    tmp_path: Path, classifier: Draft, inside: str, expected: bool
) -> None:
    image = {"family": "densenet121", "sealed": True, "weights": {inside: "/model.xml"}}
    (tmp_path / "densenet121.json").write_text(json.dumps(image))
    settings = Settings(backend="golem", golem_images=tmp_path)
    assert publishing.without_image(settings, classifier.manifest) == expected


def test_given_a_model_that_was_pulled_then_the_command_for_its_image_is_known_and_of_others_there_is_none(
    tmp_path: Path, draft: Draft, classifier: Draft
) -> None:
    usual = Settings(golem_images=catalogue.PACKAGES.parent / "build" / "images")
    command = publishing.build_command(usual, classifier)
    assert command == f"python -m provider_images.builder applications --model {classifier.weights.parent}"
    assert publishing.build_command(Settings(golem_images=tmp_path), classifier) == f"{command} --out {tmp_path}"
    assert publishing.build_command(usual, draft) is None
    classifier.weights.with_name("manifest.json").unlink()
    assert publishing.build_command(usual, classifier) is None
