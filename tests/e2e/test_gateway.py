"""The gateway as people use it: two lines of curl against ``sibyl up``, keys, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import Running

from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.rpc import Rpc
from provider_images.mnist.draw import draw_digit

WAIT = 60.0


@pytest.fixture
def kitten(tmp_path: Path) -> Path:
    """A picture under the name that everybody uses; it shows a four."""
    path = tmp_path / "kitten.jpg"
    draw_digit(4, 3_000_100, style="mnist").convert("RGB").save(path, "JPEG", quality=95)
    return path


def curl(method: str, url: str, image: Path | None = None) -> Any:
    """What ``curl -X METHOD [-F image=@PATH] URL`` prints, as JSON; where there is no curl, the same by httpx."""
    if shutil.which("curl") is None:
        files = None if image is None else {"image": (image.name, image.read_bytes())}
        return httpx.request(method, url, files=files, timeout=60).json()
    form = () if image is None else ("-F", f"image=@{image}")
    done = subprocess.run(
        ["curl", "-sS", "-X", method, *form, url], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def balance(up: Running) -> int:
    """What the gateway has left at the coordinator, as the chain says."""
    gateway = httpx.get(f"{up.facts['api_url']}/v1", timeout=30).json()["gateway"]["address"]

    async def ask() -> int:
        rpc = Rpc(up.facts["rpc_url"])
        try:
            coordinator = CoordinatorReader(rpc, up.facts["coordinator"], up.facts["chain_id"])
            return await coordinator.balance_of(None, gateway)
        finally:
            await rpc.close()

    return asyncio.run(ask())


def read(url: str) -> dict[str, Any]:
    """POST until the request has ended."""
    until = time.monotonic() + WAIT
    while True:
        answer = httpx.post(url, timeout=30)
        if answer.status_code != 202:
            assert answer.status_code == 200, answer.text
            return dict(answer.json())
        assert time.monotonic() < until, answer.text
        time.sleep(0.2)


def test_given_a_picture_when_two_lines_of_curl_are_sent_then_its_prediction_comes(
    up: Running, kitten: Path, tmp_path: Path
) -> None:
    host = up.facts["api_url"]
    asked = curl("POST", f"{host}/requestPrediction/mnist-cnn", kitten)
    assert asked["request_id"].startswith("0x")
    assert int(asked["payment"]) > 0
    read(f"{host}/readPrediction/{asked['request_id']}")
    for method in ("POST", "GET"):
        told = curl(method, f"{host}/readPrediction/{asked['request_id']}")
        assert told["status"] == "fulfilled"
        assert told["predictions"][0]["label"] == "4"
        assert told["predictions"][0]["probability"] > 0.5
    # The gateway asked on-chain, from its own balance; the CLI reads the same answer from there.
    result = up.json("result", asked["request_id"], "--out", str(tmp_path))
    assert result["labels"][0]["label"] == "4"
    picture = httpx.get(f"{host}/ipfs/{asked['image_cid']}", timeout=30)
    assert picture.content == kitten.read_bytes()
    request = httpx.get(f"{host}/v1/requests/{asked['request_id']}", timeout=30).json()
    assert request["requester"] == httpx.get(f"{host}/v1", timeout=30).json()["gateway"]["address"]


def test_given_an_upload_when_asked_about_twice_with_one_idempotency_key_then_it_is_paid_once(
    up: Running, kitten: Path
) -> None:
    host = up.facts["api_url"]
    uploaded = httpx.post(f"{host}/v1/images", files={"image": kitten.read_bytes()}, timeout=30)
    assert uploaded.status_code == 201, uploaded.text
    body = {"model": 1, "image_cid": uploaded.json()["cid"]}
    before = balance(up)
    answers = [
        httpx.post(f"{host}/v1/requests", json=body, headers={"Idempotency-Key": "once"}, timeout=60) for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    other = httpx.post(f"{host}/v1/requests", json=body | {"model": 2}, headers={"Idempotency-Key": "once"}, timeout=60)
    assert other.status_code == 422
    assert before - balance(up) == int(answers[0].json()["payment"]) > 0
    assert read(f"{host}/readPrediction/{answers[0].json()['id']}")["status"] == "fulfilled"


def test_given_a_key_when_it_reaches_its_limit_or_is_revoked_then_it_pays_no_more(up: Running, kitten: Path) -> None:
    host = up.facts["api_url"]
    made = up.json("keys", "add", "ann", "--per-day", "0.0009")
    headers = {"Authorization": f"Bearer {made['key']}"}
    statuses = []
    for _ in range(20):
        answer = httpx.post(
            f"{host}/requestPrediction/1", files={"image": kitten.read_bytes()}, headers=headers, timeout=60
        )
        statuses.append(answer.status_code)
        if answer.status_code != 202:
            break
    assert statuses[0] == 202
    assert statuses[-1] == 429, answer.text
    assert answer.json()["type"] == "/problems/day-limit-reached"
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    (listed,) = [one for one in up.json("keys", "list") if one["name"] == "ann"]
    assert 0 < listed["spent_wei"] <= listed["per_day_wei"] == 9 * 10**14
    up.json("keys", "revoke", "ann")
    refused = httpx.post(f"{host}/requestPrediction/1", files={"image": b"x"}, headers=headers, timeout=30)
    assert (refused.status_code, refused.json()["type"]) == (401, "/problems/key-needed")


def test_given_what_is_no_picture_or_an_address_inside_when_sent_then_it_is_refused_before_anything_is_paid(
    up: Running,
) -> None:
    host = up.facts["api_url"]
    before = balance(up)
    words = httpx.post(f"{host}/requestPrediction/1", files={"image": b"words"}, timeout=30)
    assert (words.status_code, words.json()["type"]) == (422, "/problems/image-rejected")
    for url in (up.facts["rpc_url"], "http://127.0.0.1/", "http://169.254.169.254/latest/meta-data/", "file:///etc"):
        inside = httpx.post(f"{host}/requestPrediction/1", json={"url": url}, timeout=30)
        assert (inside.status_code, inside.json()["type"]) == (422, "/problems/address-refused"), url
    assert balance(up) == before


def test_given_more_bytes_than_a_picture_may_have_when_sent_then_413_with_or_without_a_length(up: Running) -> None:
    host = up.facts["api_url"]
    headers = {"Content-Type": "image/png"}
    told = httpx.post(f"{host}/v1/images", content=bytes(20_000_000), headers=headers, timeout=60)
    assert told.status_code == 413

    def pieces():  # type: ignore[no-untyped-def]
        for _ in range(40):
            yield bytes(500_000)

    untold = httpx.post(f"{host}/v1/images", content=pieces(), headers=headers, timeout=60)
    assert untold.status_code == 413
    assert untold.json()["type"] == "/problems/body-too-large"
