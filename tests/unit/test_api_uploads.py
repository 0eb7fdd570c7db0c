"""Uploads: nothing is pinned that was not looked at, and nothing stays on this disk."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oracle.api import routes_uploads
from oracle.errors import AddressRefused, ContentTooLarge, FetcherBusy
from tests.unit.api_doubles import PICTURE, Api, api
from tests.unit.doubles import cid_of

pytestmark = pytest.mark.unit

MANIFEST = (Path(__file__).parents[2] / "provider_images" / "mnist" / "manifest.json").read_bytes()
LIMIT = 1_000


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Api]:
    async with api(tmp_path, {1: MANIFEST}, image_max_bytes=LIMIT) as found:
        yield found


async def test_given_a_picture_in_each_form_when_uploaded_then_it_is_checked_pinned_and_named(here: Api) -> None:
    here.web.pages["https://example.org/kitten.jpg"] = PICTURE
    for sent in (
        {"files": {"image": ("kitten.jpg", PICTURE, "image/jpeg")}},
        {"files": {"file": ("kitten.jpg", PICTURE)}},
        {"content": PICTURE, "headers": {"Content-Type": "image/png"}},
        {"content": PICTURE, "headers": {"Content-Type": "IMAGE/WEBP; q=1"}},
        {"content": PICTURE, "headers": {"Content-Type": "application/octet-stream"}},
        {"json": {"url": "https://example.org/kitten.jpg"}},
    ):
        here.log.events.clear()
        answer = await here.client.post("/v1/images", **sent)  # type: ignore[arg-type]
        assert answer.status_code == 201, answer.text
        cid = cid_of(PICTURE).text
        assert answer.json() == {"cid": cid, "bytes": len(PICTURE), "format": "PNG", "width": 28, "height": 28}
        assert answer.headers["Location"] == f"/ipfs/{cid}"
        assert here.log.events == ["inspected", "pinned"]


async def test_given_what_is_no_picture_when_uploaded_then_it_is_not_pinned(here: Api) -> None:
    answer = await here.client.post("/v1/images", files={"image": ("x.png", b"<svg onload=...>")})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/image-rejected"
    assert answer.json()["remedy"]
    assert here.log.events == ["inspected"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"content": PICTURE}, 415),
        ({"content": PICTURE, "headers": {"Content-Type": "text/plain"}}, 415),
        ({"data": {"image": "a text"}}, 415),  # application/x-www-form-urlencoded
        ({"files": {"other": ("x", PICTURE)}}, 422),
        ({"files": [("image", ("x", PICTURE)), ("image", ("y", PICTURE))]}, 400),
        ({"content": b"no form", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 422),
        (
            {"content": b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}},
            415,
        ),
        ({"files": {"image": ("x", PICTURE)}, "data": {"more": "x" * 5000}}, 400),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 413),
        ({"content": b"[" * 900, "headers": {"Content-Type": "application/json"}}, 422),
        ({"json": {"url": 5}}, 422),
        ({"json": {}}, 422),
        ({"json": "https://example.org/"}, 422),
        ({"json": {"url": "https://gone.example/"}}, 422),
    ],
)
async def test_given_a_body_that_cannot_be_used_when_uploaded_then_a_problem_says_so_with_a_remedy(
    here: Api, sent: dict[str, object], status: int
) -> None:
    answer = await here.client.post("/v1/images", **sent)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert here.log.events == []


async def test_given_an_address_inside_a_network_when_its_picture_is_asked_for_then_422(here: Api) -> None:
    here.web.pages["http://10.0.0.1/"] = AddressRefused("not the open internet", remedy="Upload it.")
    here.web.pages["http://large.example/"] = ContentTooLarge("too large", remedy="A smaller one.")
    inside = await here.client.post("/v1/images", json={"url": "http://10.0.0.1/"})
    assert (inside.status_code, inside.json()["type"]) == (422, "/problems/address-refused")
    large = await here.client.post("/v1/images", json={"url": "http://large.example/"})
    assert large.status_code == 413
    # It is fetched for a client, who has one turn at a time.
    here.web.pages["http://busy.example/"] = FetcherBusy("other addresses are being fetched", remedy="Upload it.")
    busy = await here.client.post("/v1/images", json={"url": "http://busy.example/"})
    assert (busy.status_code, busy.json()["type"]) == (503, "/problems/busy")
    assert busy.json()["detail"] == "other addresses are being fetched"
    assert set(here.web.clients) == {"192.0.2.7"}


async def test_given_a_body_over_the_limit_when_its_length_is_not_told_then_413_and_nothing_pinned(here: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 10_000

    for kind in ("image/png", "application/json"):
        answer = await here.client.post("/v1/images", content=endless(), headers={"Content-Type": kind})
        assert answer.status_code == 413
        assert answer.json()["type"] == "/problems/body-too-large"
    form = await here.client.post("/v1/images", files={"image": ("x.png", b"x" * 200_000)})
    assert form.status_code == 413
    assert "pinned" not in here.log.events


async def test_given_a_client_with_uploads_on_their_way_when_one_more_comes_then_429_and_others_are_served(
    here: Api,
) -> None:
    waits = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield PICTURE
        await waits.wait()

    headers = {"Content-Type": "image/png"}
    begun = [
        asyncio.create_task(here.client.post("/v1/images", content=slow(), headers=headers))
        for _ in range(routes_uploads.EACH)
    ]
    await asyncio.sleep(0.05)
    assert (await here.client.post("/v1/images", content=PICTURE, headers=headers)).status_code == 429
    waits.set()
    assert [(await one).status_code for one in begun] == [201] * routes_uploads.EACH
    assert (await here.client.post("/v1/images", content=PICTURE, headers=headers)).status_code == 201


async def test_given_a_client_that_uploads_without_end_when_its_share_is_used_up_then_429_tells_when(
    here: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(routes_uploads, "SAVED", 2 * len(PICTURE))
    monkeypatch.setattr(routes_uploads, "FLOW", 1)
    async with api(tmp_path, {1: MANIFEST}) as limited:
        headers = {"Content-Type": "image/png"}
        sent = (PICTURE, PICTURE[::-1], PICTURE)
        answers = [await limited.client.post("/v1/images", content=one, headers=headers) for one in sent]
        # What is no picture was read all the same.
        assert [one.status_code for one in answers] == [201, 422, 429]
        assert answers[2].json()["type"] == "/problems/too-much-uploaded"
        assert 1 <= int(answers[2].headers["Retry-After"]) <= len(PICTURE)
        assert limited.log.events.count("pinned") == 1


async def test_given_a_manifest_when_uploaded_then_exactly_its_bytes_are_pinned(here: Api) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = await here.client.post("/v1/manifests", content=MANIFEST, headers=headers)
    assert answer.status_code == 201
    assert answer.json() == {"cid": cid_of(MANIFEST).text}
    assert here.pins.held[cid_of(MANIFEST)] == MANIFEST


async def test_given_what_is_no_manifest_when_uploaded_then_the_field_is_named_and_nothing_pinned(here: Api) -> None:
    headers = {"Content-Type": "application/json"}
    broken = json.loads(MANIFEST) | {"task": "divination"}
    answer = await here.client.post("/v1/manifests", json=broken)
    assert answer.status_code == 422
    assert "task" in answer.json()["detail"]
    for body in (b"", b"null", b"{" * 9_000, b"\xff", b'{"a": NaN}'):
        assert (await here.client.post("/v1/manifests", content=body, headers=headers)).status_code == 422
    large = MANIFEST + b" " * routes_uploads.MANIFEST_BYTES
    assert (await here.client.post("/v1/manifests", content=large, headers=headers)).status_code == 413
    assert (await here.client.post("/v1/manifests", content=MANIFEST)).status_code == 415
    assert here.pins.held == {}


@pytest.mark.parametrize(
    "head",
    [b"PK\x03\x04", b"\x20\0\0\0TFL3", (8).to_bytes(8, "little") + b'{"a":1} '],
    ids=["zip", "tflite", "safetensors"],
)
async def test_given_weights_when_uploaded_then_they_are_streamed_pinned_and_leave_no_file(
    here: Api, head: bytes
) -> None:
    data = head + bytes(3_000_000)

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 70_000):
            yield data[at : at + 70_000]

    answer = await here.client.post("/v1/weights", content=pieces())
    assert answer.status_code == 201, answer.text
    assert answer.json() == {
        "cid": cid_of(data).text,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert here.pins.held[cid_of(data)] == data
    assert list(here.folder.iterdir()) == []


async def test_given_what_are_no_weights_or_too_many_when_uploaded_then_they_are_refused_and_leave_no_file(
    here: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for body in (b"", b"\x80\x04pickled", b"\x89HDF\r\n\x1a\n" + bytes(2_000_000), b"#!/bin/sh"):
        answer = await here.client.post("/v1/weights", content=body)
        assert (answer.status_code, answer.json()["type"]) == (415, "/problems/not-weights")
    monkeypatch.setattr(routes_uploads, "WEIGHTS_BYTES", 1_500_000)
    answer = await here.client.post("/v1/weights", content=b"PK\x03\x04" + bytes(2_000_000))
    assert answer.status_code == 413
    assert here.pins.held == {}
    assert list(here.folder.iterdir()) == []


def test_given_files_that_a_killed_process_left_when_cleared_then_they_are_gone_and_others_stay(tmp_path: Path) -> None:
    for name in ("x.part", "y.part", "kept"):
        (tmp_path / name).touch()
    routes_uploads.clear(tmp_path)
    routes_uploads.clear(tmp_path / "absent")
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]
