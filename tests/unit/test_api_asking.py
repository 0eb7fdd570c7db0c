"""Asking through the gateway: checked first, pinned, then paid; and the two lines that need only curl."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from oracle.api import routes_asking
from oracle.api.ports import SignedWish
from oracle.domain import FailureReason, RequestStatus
from oracle.errors import (
    AskedOtherwise,
    BalanceTooLow,
    DayLimitReached,
    ModelNotSold,
    RpcUnavailable,
    StillAsking,
    WishNotSigned,
    WishTaken,
)
from oracle.market import Price, Provider
from oracle.ports import RequestRow
from oracle.views import Moved, Place, RequestView
from tests.unit.api_doubles import PICTURE, PRICE, Api, ScriptedChain, api
from tests.unit.doubles import REQUESTER, a_request, cid_of

pytestmark = pytest.mark.unit

MNIST = (Path(__file__).parents[2] / "provider_images" / "mnist" / "manifest.json").read_bytes()
NAME = json.loads(MNIST)["name"]
TWIN = json.dumps(json.loads(MNIST) | {"description": "another of the same name"}).encode()
OTHER = json.dumps(json.loads(MNIST) | {"name": "other"}).encode()
FORM = {"files": {"image": ("kitten.jpg", PICTURE, "image/jpeg")}}


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Api]:
    async with api(tmp_path, {1: MNIST, 2: OTHER}) as found:
        yield found


async def settle(found: Api) -> None:
    """Wait until the registry has read its manifests."""
    for _ in range(100):
        models = (await found.client.get("/v1/models")).json()["items"]
        if not any(one["problem"] for one in models):
            return


def seen_as(found: Api, status: RequestStatus, **more: object) -> str:
    """Have the oracle know a request in a status; its id."""
    request = a_request(7, image=cid_of(PICTURE), deadline=2_000_000)
    row = replace(RequestRow(request, status, 1), **more)  # type: ignore[arg-type]
    view = RequestView(row, Place(1, 0, request.request_id), b"\x33" * 32, "", (Moved(status, 1.0, ""),))
    found.reads.views[request.request_id] = view
    return "0x" + request.request_id.hex()


def provider(name: str) -> Provider:
    return Provider("0x" + "ab" * 20, name, Price(0, 0, 0), 1, 0.0, 0.0)


# curl -X POST -F image=@kitten.jpg HOST/requestPrediction/MODEL ------------------------------------------------------


@pytest.mark.parametrize("model", ["1", NAME])
async def test_given_a_picture_when_a_prediction_is_asked_for_then_it_is_checked_pinned_and_only_then_paid(
    here: Api, model: str
) -> None:
    await settle(here)
    answer = await here.client.post(f"/requestPrediction/{model}", **FORM)  # type: ignore[arg-type]
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["payment"] == str(PRICE)
    assert body["image_cid"] == cid_of(PICTURE).text
    assert body["status_url"] == f"/readPrediction/{body['request_id']}" == answer.headers["Location"]
    assert here.log.events == ["inspected", "pinned", "paid"]
    ((holder, number, image, wanted, once),) = here.payer.asked
    assert (holder.name, number, image, wanted, once) == ("", 1, cid_of(PICTURE), "", None)
    assert holder.scope == "client 192.0.2.7"


async def test_given_another_sites_page_when_it_sends_a_form_without_a_key_then_nothing_is_paid(
    here: Api, tmp_path: Path
) -> None:
    await settle(here)
    strange = {"Origin": "https://evil.example"}
    for origin in ("https://evil.example", "null", "https://api.evil.example", "https://evil.example/api"):
        answer = await here.client.post("/requestPrediction/1", **FORM, headers={"Origin": origin})  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/key-needed")
    assert here.log.events == []
    own = {"Origin": "http://api"}
    assert (await here.client.post("/requestPrediction/1", **FORM, headers=own)).status_code == 202  # type: ignore[arg-type]
    async with api(tmp_path / "named", {1: MNIST}, api_cors=("https://evil.example",)) as named:
        await settle(named)
        answer = await named.client.post("/requestPrediction/1", **FORM, headers=strange)  # type: ignore[arg-type]
        assert answer.status_code == 202


async def test_given_what_is_no_picture_when_a_prediction_is_asked_for_then_nothing_is_pinned_or_paid(
    here: Api,
) -> None:
    answer = await here.client.post("/requestPrediction/1", files={"image": ("x.png", b"no picture")})
    assert answer.status_code == 422
    assert here.log.events == ["inspected"]


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (BalanceTooLow("empty", remedy="Tell."), 402, "balance-too-low"),
        (DayLimitReached("enough", retry_after=77, remedy="Wait."), 429, "day-limit-reached"),
        (ModelNotSold("paused", remedy="Another."), 422, "model-not-sold"),
        (RpcUnavailable("away at http://node:8545/secret"), 503, "chain-unreachable"),
    ],
)
async def test_given_a_gateway_that_cannot_pay_when_asked_then_it_says_so_before_anything_is_read(
    here: Api, error: Exception, status: int, slug: str
) -> None:
    here.payer.problems["affordable"] = error
    answer = await here.client.post("/requestPrediction/1", **FORM)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert answer.json()["remedy"]
    assert "secret" not in answer.text
    assert here.log.events == []
    if status == 429:
        assert answer.headers["Retry-After"] == "77"


@pytest.mark.parametrize(
    ("error", "status", "slug"),
    [
        (StillAsking("unknown yet", remedy="Again."), 409, "still-asking"),
        (AskedOtherwise("used", remedy="A new one."), 422, "asked-otherwise"),
        (DayLimitReached("enough", retry_after=77, remedy="Wait."), 429, "day-limit-reached"),
    ],
)
async def test_given_a_payment_that_fails_at_last_when_asked_then_the_problem_tells_which_way(
    here: Api, error: Exception, status: int, slug: str
) -> None:
    here.payer.problems["ask"] = error
    answer = await here.client.post("/requestPrediction/1", **FORM)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")


async def test_given_no_key_where_one_is_needed_when_asked_then_401_and_with_a_key_it_is_paid(tmp_path: Path) -> None:
    async with api(tmp_path, {1: MNIST}, is_open=False) as closed:
        refused = await closed.client.post("/requestPrediction/1", **FORM)  # type: ignore[arg-type]
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert closed.log.events == []
        closed.payer.keys["sibyl_good"] = "ann"
        for headers in ({"Authorization": "Bearer sibyl_good"}, {"X-API-Key": "sibyl_good"}):
            paid = await closed.client.post("/requestPrediction/1", headers=headers, **FORM)  # type: ignore[arg-type]
            assert paid.status_code == 202
        for headers in ({"Authorization": "Bearer other"}, {"X-API-Key": ""}, {"Authorization": "Basic sibyl_good"}):
            refused = await closed.client.post(
                "/requestPrediction/1",
                headers=headers,
                **FORM,  # type: ignore[arg-type]
            )
            assert refused.status_code == 401, headers
        assert [one[0].name for one in closed.payer.asked] == ["ann", "ann"]


async def test_given_a_wrong_key_where_none_is_needed_when_asked_then_401_rather_than_somebody_elses_money(
    here: Api,
) -> None:
    answer = await here.client.post("/requestPrediction/1", headers={"X-API-Key": "sibyl_old"}, **FORM)  # type: ignore[arg-type]
    assert answer.status_code == 401


async def test_given_an_api_that_pays_for_nobody_when_asked_then_401_says_how_else(tmp_path: Path) -> None:
    async with api(tmp_path, {1: MNIST}, pays=False) as poor:
        answer = await poor.client.post("/requestPrediction/1", **FORM)  # type: ignore[arg-type]
        assert answer.status_code == 401
        assert "wallet" in answer.json()["remedy"]
        assert (await poor.client.post("/v1/images", **FORM)).status_code == 201  # type: ignore[arg-type]


async def test_given_a_name_that_several_models_bear_when_asked_then_the_deployments_own_is_meant(
    tmp_path: Path,
) -> None:
    async with api(tmp_path / "own", {1: MNIST, 2: TWIN}) as own:
        await settle(own)
        assert (await own.client.post(f"/requestPrediction/{NAME}", **FORM)).status_code == 202  # type: ignore[arg-type]
        assert own.payer.asked[0][1] == 1
    async with api(tmp_path / "others", {2: MNIST, 3: TWIN}) as others:
        await settle(others)
        answer = await others.client.post(f"/requestPrediction/{NAME}", **FORM)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/ambiguous-model")
        assert "2, 3" in answer.json()["remedy"]


async def test_given_a_model_that_is_not_there_or_paused_when_asked_by_name_then_404(tmp_path: Path) -> None:
    def pause(chain: ScriptedChain) -> None:
        chain.listed = [replace(model, active=False) for model in chain.listed]

    async with api(tmp_path, {1: MNIST}, tune=pause) as found:
        await settle(found)
        for model in (NAME, "nothing", "99", "0", "9" * 90, "%00", "-1", "1.5"):
            answer = await found.client.post(f"/requestPrediction/{model}", **FORM)  # type: ignore[arg-type]
            assert answer.status_code == 404, model
        assert found.log.events == []


async def test_given_a_public_address_of_the_api_when_asked_then_the_status_url_is_whole(tmp_path: Path) -> None:
    async with api(tmp_path, {1: MNIST}, api_url="https://sibyl.example/api/") as found:
        body = (await found.client.post("/requestPrediction/1", **FORM)).json()  # type: ignore[arg-type]
        assert body["status_url"].startswith("https://sibyl.example/api/readPrediction/0x")


# POST /v1/requests ---------------------------------------------------------------------------------------------------


async def test_given_a_pinned_picture_when_asked_about_then_it_is_looked_at_paid_and_named(here: Api) -> None:
    here.files.held[cid_of(PICTURE)] = PICTURE
    here.reads.seen = [provider("oak-3")]
    answer = await here.client.post(
        "/v1/requests",
        json={"model": 1, "image_cid": cid_of(PICTURE).text, "provider": "oak-3"},
        headers={"Idempotency-Key": "k-1"},
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body == {
        "id": body["id"],
        "transaction": "0x" + "22" * 32,
        "payment": str(PRICE),
        "model": 1,
        "image_cid": cid_of(PICTURE).text,
    }
    assert answer.headers["Location"] == f"/v1/requests/{body['id']}"
    assert here.log.events == ["inspected", "paid"]
    ((_, number, image, wanted, once),) = here.payer.asked
    assert (number, image, wanted, once) == (1, cid_of(PICTURE), "oak-3", "k-1")


async def test_given_a_request_that_was_paid_when_its_key_comes_again_then_nothing_is_fetched_or_looked_at(
    here: Api,
) -> None:
    here.files.held[cid_of(PICTURE)] = PICTURE
    here.reads.seen = [provider("oak-3")]
    body = {"model": 1, "image_cid": cid_of(PICTURE).text, "provider": "oak-3"}
    once = {"Idempotency-Key": "k-1"}
    first = await here.client.post("/v1/requests", json=body, headers=once)
    here.files.held.clear()
    here.reads.seen = []
    here.log.events.clear()
    here.payer.problems["affordable"] = BalanceTooLow("empty", remedy="Tell.")
    again = await here.client.post("/v1/requests", json=body, headers=once)
    assert (again.status_code, again.json()) == (202, first.json())
    assert here.log.events == []
    fresh = await here.client.post("/v1/requests", json=body | {"provider": None}, headers={"Idempotency-Key": "k-2"})
    assert fresh.status_code == 402  # before anything is fetched for nothing
    here.payer.problems["begun"] = StillAsking("unknown yet", remedy="Again.")
    assert (await here.client.post("/v1/requests", json=body, headers=once)).status_code == 409


async def test_given_a_cid_of_no_picture_or_of_nothing_when_asked_about_then_nothing_is_paid(here: Api) -> None:
    here.files.held[cid_of(b"words")] = b"words"
    words = await here.client.post("/v1/requests", json={"model": 1, "image_cid": cid_of(b"words").text})
    assert (words.status_code, words.json()["type"]) == (422, "/problems/image-rejected")
    gone = await here.client.post("/v1/requests", json={"model": 1, "image_cid": cid_of(b"gone").text})
    assert gone.status_code == 504
    assert "paid" not in here.log.events


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"model": 1},
        {"model": 0, "image_cid": "x"},
        {"model": 1, "image_cid": "no cid"},
        {"model": 1, "image_cid": "x" * 300},
        {"model": None, "image_cid": "x"},
        {"model": 1, "image_cid": cid_of(PICTURE).text, "provider": ""},
        {"model": 1, "image_cid": cid_of(PICTURE).text, "provider": "nobody"},
        {"model": 1, "image_cid": cid_of(PICTURE).text, "unknown": 1},
        [],
        "text",
    ],
)
async def test_given_a_question_that_cannot_be_read_when_asked_then_422_and_nothing_paid(
    here: Api, body: object
) -> None:
    answer = await here.client.post("/v1/requests", json=body)
    assert answer.status_code == 422
    assert here.log.events == []


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ä".encode().decode("latin-1")])
async def test_given_an_idempotency_key_that_is_none_when_asked_then_422(here: Api, key: str) -> None:
    headers = [(b"idempotency-key", key.encode("latin-1"))]
    answer = await here.client.post("/requestPrediction/1", headers=headers, **FORM)  # type: ignore[arg-type]
    assert answer.status_code == 422
    assert here.log.events == []


async def test_given_a_question_of_many_bytes_when_asked_then_413(here: Api) -> None:
    answer = await here.client.post("/v1/requests", json={"model": 1, "image_cid": "x" * 50_000})
    assert answer.status_code == 413


# Wishes --------------------------------------------------------------------------------------------------------------


SIGNED = {
    "requester": REQUESTER,
    "image_cid": cid_of(PICTURE).text,
    "provider": "oak-3",
    "signed_at": 1_700_000_000,
    "signature": "0x" + "5c" * 65,
}


async def test_given_a_client_that_left_its_share_of_wishes_when_it_leaves_one_more_then_429_says_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_asking, "WISHES", 3)
    async with api(tmp_path, {1: MNIST}) as here:
        here.reads.seen = [provider("oak-3")]
        wishes = [SIGNED | {"image_cid": cid_of(b"%d" % number).text} for number in range(4)]
        answers = [await here.client.put("/v1/requests/wish", json=one) for one in wishes]
    assert [one.status_code for one in answers] == [204, 204, 204, 429]
    assert answers[3].json()["type"] == "/problems/too-many-wishes"
    assert 1 <= int(answers[3].headers["Retry-After"]) <= 1_200
    assert len(here.wishes.taken) == 3


async def test_given_a_provider_that_was_seen_when_wished_for_then_204_and_when_another_stands_then_409(
    here: Api,
) -> None:
    here.reads.seen = [provider("oak-3")]
    answer = await here.client.put("/v1/requests/wish", json=SIGNED)
    assert (answer.status_code, answer.content) == (204, b"")
    wish = SignedWish(REQUESTER, cid_of(PICTURE), "oak-3", 1_700_000_000, b"\x5c" * 65)
    assert here.wishes.taken == [wish]
    taken_back = await here.client.put("/v1/requests/wish", json=SIGNED | {"provider": ""})
    assert taken_back.status_code == 204
    assert here.wishes.taken == [wish, replace(wish, provider="")]
    for problem, status in ((WishTaken("newer", remedy="Sign."), 409), (WishNotSigned("no", remedy="Sign."), 403)):
        here.wishes.problem = problem
        assert (await here.client.put("/v1/requests/wish", json=SIGNED)).status_code == status
    here.wishes.problem = None
    for change in (
        {"provider": "elm"}, {"requester": "0x12"}, {"image_cid": "x"}, {"provider": "a\nb"}, {"signature": "0x"},
        {"signature": "0x5"}, {"signature": "0x" + "5c" * 2049}, {"signed_at": -1}, {"signed_at": "soon"},
    ):  # fmt: skip
        assert (await here.client.put("/v1/requests/wish", json=SIGNED | change)).status_code == 422, change
    assert len(here.wishes.taken) == 2


# curl -X POST HOST/readPrediction/REQUEST-ID -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_given_an_answered_request_when_read_then_its_predictions_and_where_the_rest_is(
    here: Api, method: str
) -> None:
    await settle(here)
    document = {
        "schema": "sibyl/result/1",
        "request": "0x" + "00" * 32,
        "input": {"cid": "x"},
        "task": "classification",
        "labels": [{"index": 7, "label": "7", "probability": 0.99}],
        "files": {"bars": {"type": "image/png", "bytes": 10, "cid": cid_of(b"bars").text}},
    }
    raw = json.dumps(document).encode()
    here.files.held[cid_of(raw)] = raw
    number = seen_as(here, RequestStatus.FULFILLED, result_cid=cid_of(raw))
    answer = await here.client.request(method, f"/readPrediction/{number}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["predictions"] == [{"label": "7", "probability": 0.99}]
    assert (body["request_id"], body["status"], body["model"]) == (number, "fulfilled", NAME)
    assert body["result_cid"] == cid_of(raw).text
    assert body["links"]["bars"] == f"/v1/results/{number}/bars.png"
    assert body["links"]["result"] == f"/v1/results/{number}"


async def test_given_segments_when_read_then_each_with_score_and_box(here: Api) -> None:
    segment = {
        "index": 1,
        "label": "star",
        "score": 0.9,
        "bbox": [0, 0, 1, 1],
        "area": 1,
        "segmentation": {"size": [1, 1], "counts": "01"},
    }
    document = {
        "schema": "sibyl/result/1",
        "request": "0x00",
        "input": {"cid": "x"},
        "task": "instance-segmentation",
        "image": {"width": 1, "height": 1},
        "found": 1,
        "segments": [segment],
    }
    raw = json.dumps(document).encode()
    here.files.held[cid_of(raw)] = raw
    number = seen_as(here, RequestStatus.FULFILLED, result_cid=cid_of(raw))
    body = (await here.client.get(f"/readPrediction/{number}")).json()
    assert body["predictions"] == [{"label": "star", "score": 0.9, "box": [0, 0, 1, 1], "area": 1}]


async def test_given_a_request_on_its_way_when_read_then_202_and_when_to_come_back(here: Api) -> None:
    number = seen_as(here, RequestStatus.COMPUTING)
    answer = await here.client.post(f"/readPrediction/{number}")
    assert answer.status_code == 202
    assert answer.headers["Retry-After"] == "1"
    assert (answer.json()["status"], answer.json()["predictions"]) == ("computing", None)


async def test_given_a_request_paid_a_moment_ago_when_the_oracle_has_not_seen_it_then_202_not_404(here: Api) -> None:
    asked = (await here.client.post("/requestPrediction/1", **FORM)).json()  # type: ignore[arg-type]
    answer = await here.client.post(asked["status_url"])
    assert (answer.status_code, answer.json()["status"]) == (202, "seen")
    unknown = await here.client.post("/readPrediction/0x" + "00" * 32)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "/problems/unknown-request")
    assert (await here.client.post("/readPrediction/0x12")).status_code == 422


async def test_given_a_request_that_was_paid_for_when_the_oracle_never_sees_it_then_404_names_its_transaction(
    here: Api,
) -> None:
    asked = (await here.client.post("/requestPrediction/1", **FORM)).json()  # type: ignore[arg-type]
    number = bytes.fromhex(asked["request_id"][2:])
    for since, status in ((routes_asking.LOST - 60, 202), (routes_asking.LOST + 60, 404)):
        here.payer.known[number] = replace(here.payer.known[number], deadline=int(time.time()) - since)
        answer = await here.client.post(asked["status_url"])
        assert answer.status_code == status
    assert "0x" + "22" * 32 in answer.json()["detail"]


async def test_given_a_request_that_failed_when_read_then_its_reason(here: Api) -> None:
    number = seen_as(here, RequestStatus.REJECTED, failure=FailureReason.IMAGE_UNREADABLE)
    answer = await here.client.get(f"/readPrediction/{number}")
    assert answer.status_code == 200
    assert answer.json()["failure"]["reason"] == "image_unreadable"
    assert answer.json()["predictions"] is None


async def test_given_many_requests_of_one_client_when_its_burst_is_used_up_then_429_whatever_it_forwards(
    tmp_path: Path,
) -> None:
    async with api(tmp_path, {1: MNIST}, api_rate=0.01, api_burst=3) as found:
        statuses = [
            (await found.client.get("/openapi.json", headers={"X-Forwarded-For": f"10.0.0.{i}"})).status_code
            for i in range(4)
        ]
        assert statuses == [200, 200, 200, 429]
