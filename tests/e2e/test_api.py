"""The REST API of ``sibyl up``: what a page reads of models, a request on its way, its result, the figures."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import SIBYL, Running, run_sibyl

from oracle.domain import Cid
from provider_images.mnist.draw import draw_digit

WAIT = 60.0


@pytest.fixture
def five(tmp_path: Path) -> Path:
    path = tmp_path / "five.png"
    draw_digit(5, 3_000_205, style="mnist").save(path, "PNG")
    return path


def events(host: str, request_id: str) -> list[dict[str, Any]]:
    """The states that a request's event stream tells, until it ends."""
    with httpx.stream("GET", f"{host}/v1/requests/{request_id}/events", timeout=WAIT) as stream:
        assert stream.headers["Content-Type"].startswith("text/event-stream")
        data = [line.removeprefix("data: ") for line in stream.iter_lines() if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "{}"]


def test_given_a_stack_when_models_are_listed_then_both_are_there_with_price_and_example(up: Running) -> None:
    with httpx.Client(base_url=up.facts["api_url"], timeout=30) as api:
        deployed = api.get("/v1").json()
        assert deployed["chain_id"] == up.facts["chain_id"]
        assert deployed["coordinator"] == up.facts["coordinator"]
        assert deployed["rpc_url"] == up.facts["rpc_url"]
        models = {model["name"]: model for model in api.get("/v1/models").json()["items"]}
        assert {"mnist-cnn", "mask-rcnn-shapes"} <= set(models)
        for model in models.values():
            quote = api.get("/v1/quote", params={"model": model["id"], "pictures": 3}).json()
            assert int(quote["total"]) == 3 * int(quote["payment"]) == 3 * int(model["price"])
        example = api.get(f"/v1/models/{models['mnist-cnn']['id']}/example")
        assert example.content.startswith(b"\x89PNG")
        assert api.get("/v1/health").json()["ok"] is True
        assert api.get("/docs").status_code == 200


def test_given_a_request_when_followed_then_its_states_come_and_its_result_hashes_to_the_cid_on_the_chain(
    up: Running, five: Path, tmp_path: Path
) -> None:
    host = up.facts["api_url"]
    asked = up.json("request", str(five))
    told = events(host, asked["request"])
    assert told[-1]["status"] == "fulfilled"
    assert told[-1]["top"]["label"] == "5"
    order = ["seen", "confirmed", "ready", "computing", "computed", "posting", "fulfilled"]
    places = [order.index(state["status"]) for state in told]
    assert places == sorted(set(places))
    assert [move["status"] for move in told[-1]["timeline"]] == order

    with httpx.Client(base_url=host, timeout=30) as api:
        result = api.get(f"/v1/results/{asked['request']}")
        cid = Cid.parse(result.headers["X-Sibyl-Result-CID"])
        assert hashlib.sha256(result.content).digest() == cid.digest
        saved = up.json("result", asked["request"], "--out", str(tmp_path))["saved"]
        assert result.content == Path(saved[0]).read_bytes()  # which was compared with the chain

        drawing = api.get(f"/v1/results/{asked['request']}/labels.png")
        assert drawing.headers["Content-Type"] == "image/png"
        assert drawing.content == Path(saved[1]).read_bytes()

        picture = api.get(f"/ipfs/{asked['image']}")
        assert picture.content == five.read_bytes()
        assert "immutable" in picture.headers["Cache-Control"]
        again = api.get(f"/ipfs/{asked['image']}", headers={"If-None-Match": picture.headers["ETag"]})
        assert again.status_code == 304

        mine = api.get("/v1/requests", params={"account": told[-1]["requester"]}).json()["items"]
        assert asked["request"] in [item["id"] for item in mine]
        until = time.monotonic() + WAIT
        while asked["request"] not in [point["id"] for point in api.get("/v1/stats").json()["points"]]:
            assert time.monotonic() < until, "the figures do not have the answer"
            time.sleep(0.5)
        assert asked["request"] in api.get("/v1/stats.csv").text


def test_given_a_request_that_nobody_made_when_asked_for_then_a_problem_and_the_stream_waits(up: Running) -> None:
    host = up.facts["api_url"]
    unknown = "0x" + "12" * 32
    answer = httpx.get(f"{host}/v1/requests/{unknown}", timeout=30)
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
    with httpx.stream("GET", f"{host}/v1/requests/{unknown}/events", timeout=30) as stream:
        assert next(line for line in stream.iter_lines() if line.startswith("event")) == "event: waiting"


def test_given_no_oracle_beside_it_when_the_api_starts_then_it_serves_and_says_what_is_missing(
    up: Running, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    deployment = json.loads((up.folder / "deployment.json").read_text())
    (folder / "deployment.json").write_text(json.dumps(deployment))
    process = subprocess.Popen(
        [*SIBYL, "api", "--port", "0", "--data-dir", str(folder)], stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    )
    try:
        assert process.stdout is not None
        host = json.loads(process.stdout.readline())["api_url"]
        assert len(httpx.get(f"{host}/v1/models", timeout=30).json()["items"]) >= 2
        answer = httpx.get(f"{host}/v1/requests", timeout=30)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/database-not-ready")
        assert httpx.get(f"{host}/v1/health", timeout=30).status_code == 503
        port = host.rpartition(":")[2]
        second = run_sibyl("api", "--port", port, "--data-dir", str(folder))
        assert second.returncode == 1
        assert f"port {port}" in second.stderr
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
