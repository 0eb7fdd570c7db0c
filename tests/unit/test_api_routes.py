"""The read side of the API on doubles: requests, their events, results, content, models, the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oracle.api import routes_events, routes_ipfs, schemas
from oracle.api.ports import TokenFacts
from oracle.domain import Cid, FailureReason, ImageFacts, OnChainModel, RequestStatus
from oracle.errors import ContentUnavailable, RpcUnavailable, StoreError
from oracle.ports import RequestRow
from oracle.views import Moved, Place, RequestView
from tests.unit.api_doubles import Api, ScriptedChain, api
from tests.unit.doubles import a_request, cid_of

pytestmark = pytest.mark.unit

S = RequestStatus
MANIFEST = (Path(__file__).parents[2] / "provider_images" / "mnist" / "manifest.json").read_bytes()
PNG = b"\x89PNG\r\n\x1a\n and so on"
IMAGE = cid_of(PNG)
SEVEN = bytes([1, 1, 1, 70]) + (7).to_bytes(2, "big") + (9_996).to_bytes(2, "big") + bytes(24)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Api]:
    async with api(
        tmp_path,
        {1: MANIFEST},
        page_dir=tmp_path / "page",
        page_rpc_url="https://rpc.example:8545/x",
        page_gateways=("https://ipfs.example",),
    ) as it:
        await it.client._transport.app.state.desk.registry.models()  # type: ignore[attr-defined]
        version = [0]
        it.reads.requests = None  # type: ignore[attr-defined]  # not reached
        it.reads.mark = lambda: version[0]  # type: ignore[method-assign]
        it.reads.version = version  # type: ignore[attr-defined]
        yield it


def a_view(nonce: int = 1, status: RequestStatus = S.SEEN, **columns: Any) -> RequestView:
    request = a_request(nonce, image=IMAGE, deadline=1_000_600)
    row = RequestRow(request=request, status=status, block=5, **columns)
    moves = (Moved(S.SEEN, 1_000_000.5, "block 5"), *([Moved(status, 1_000_001.5, "")] if status is not S.SEEN else []))
    return RequestView(row, Place(5, nonce, request.request_id), b"\xaa" * 32, "", moves)


def put(here: Api, view: RequestView) -> str:
    """The store holds it now; the request's id as text."""
    here.reads.views[view.row.request_id] = view
    here.reads.version[0] += 1  # type: ignore[attr-defined]
    return "0x" + view.row.request_id.hex()


def answered(result: Cid, nonce: int = 1) -> RequestView:
    facts = ImageFacts("PNG", 28, 28, 221)
    return a_view(
        nonce, S.FULFILLED, image=facts, result_cid=result, answer=SEVEN, provider="p", transaction_hash=b"\xbb" * 32
    )


# Requests ------------------------------------------------------------------------------------------------------


async def test_given_an_answered_request_when_asked_for_then_all_of_it_is_told_as_documented(here: Api) -> None:
    one = put(here, answered(IMAGE))
    answer = await here.client.get(f"/v1/requests/{one}")
    assert answer.status_code == 200
    told = answer.json()
    schemas.Request.model_validate(told)
    assert told["top"] == {"label": "7", "confidence": 0.9996}
    assert (told["model_name"], told["token"], told["refundable_at"]) == ("mnist-cnn", None, 1_000_601)
    assert [move["status"] for move in told["timeline"]] == ["seen", "fulfilled"]
    assert answer.headers["Cache-Control"] == "public, max-age=5"
    assert answer.headers["X-Request-Id"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_given_a_request_at_hand_when_asked_again_then_the_answer_is_the_same_and_nothing_is_read(
    here: Api,
) -> None:
    one = put(here, answered(IMAGE))
    first = await here.client.get(f"/v1/requests/{one}")
    here.reads.views.clear()  # a look would find nothing
    again = await here.client.get(f"/v1/requests/{one}")
    assert again.content == first.content
    kept = {name: value for name, value in first.headers.items() if name != "x-request-id"}
    assert {name: value for name, value in again.headers.items() if name != "x-request-id"} == kept

    same = await here.client.get(f"/v1/requests/{one}", headers={"If-None-Match": f'"x", W/{first.headers["ETag"]}'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    head = await here.client.head(f"/v1/requests/{one}")
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", first.headers["ETag"])


async def test_given_a_request_that_moved_when_asked_again_then_the_new_state_is_told(here: Api) -> None:
    one = put(here, a_view())
    before = await here.client.get(f"/v1/requests/{one}")
    assert before.headers["Cache-Control"] == "no-cache"
    put(here, a_view(status=S.COMPUTING))
    after = await here.client.get(f"/v1/requests/{one}", headers={"If-None-Match": before.headers["ETag"]})
    assert (after.status_code, after.json()["status"]) == (200, "computing")


async def test_given_a_failure_when_asked_for_then_its_reason_is_told_in_words(here: Api) -> None:
    one = put(here, a_view(status=S.REJECTED, failure=FailureReason.IMAGE_UNREADABLE, detail="a </script> tag"))
    told = (await here.client.get(f"/v1/requests/{one}")).json()
    assert told["failure"] == {"reason": "image_unreadable", "text": FailureReason.IMAGE_UNREADABLE.text}
    schemas.Request.model_validate(told)


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/v1/requests/0x" + "12" * 32, 404, "unknown-request"),
        ("/v1/requests/0x12", 422, "bad-id"),
        ("/v1/requests/0x" + "1 " * 32, 422, "bad-id"),
        ("/v1/requests/0x5c " + "5c" * 31, 422, "bad-id"),
        ("/v1/requests?cursor=nonsense", 422, "bad-cursor"),
        ("/v1/requests?account=0x12", 422, "bad-address"),
        ("/v1/requests?limit=101", 422, "bad-input"),
        ("/v1/models/9", 404, "unknown-model"),
        ("/v1/models/one", 422, "bad-input"),
        ("/ipfs/not-a-cid", 422, "bad-cid"),
        ("/ipfs/" + cid_of(b"nobody holds this").text, 504, "content-unavailable"),
        ("/nothing", 404, "not-found"),
        ("/.git/config", 404, "not-found"),
    ],
)
async def test_given_a_bad_question_when_asked_then_a_problem_names_it_with_a_remedy(
    here: Api, path: str, status: int, slug: str
) -> None:
    answer = await here.client.get(path)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (status, f"/problems/{slug}")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    schemas.ProblemShape.model_validate(problem)
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert problem["remedy"]


async def test_given_no_database_when_asked_then_503_says_what_to_do_and_names_no_path(here: Api) -> None:
    here.reads.mark = lambda: None  # type: ignore[method-assign]
    answer = await here.client.get("/v1/requests/0x" + "12" * 32)
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/database-not-ready")
    assert "sibyl oracle" in answer.json()["remedy"]
    assert answer.headers["Retry-After"]


async def test_given_a_crash_when_asked_then_a_problem_without_its_words_and_every_header(
    here: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_: bytes) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr(here.reads, "request", crash)
    answer = await here.client.get("/v1/requests/0x" + "12" * 32)
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/unexpected")
    assert "secret" not in answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# Events --------------------------------------------------------------------------------------------------------


class Stream:
    """A listener of an event stream, on the app itself: the test client would wait for the end."""

    def __init__(self, here: Api, request_id: str) -> None:
        self._app = here.client._transport.app  # type: ignore[attr-defined]
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.status = 0
        self.ended = asyncio.Event()
        self._leaves = asyncio.Event()
        path = f"/v1/requests/{request_id}/events"
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [], "client": ("192.0.2.7", 1), "server": ("api", 80), "scheme": "http",
            "root_path": "", "asgi": {"version": "3.0"},
        }  # fmt: skip
        self._began = False
        self.task = asyncio.create_task(self._app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._began:
            self._began = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._leaves.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif message["body"]:
            self.sent.put_nowait(message["body"])
        elif not message.get("more_body"):
            self.ended.set()

    async def next(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.sent.get()

    async def leave(self) -> None:
        self._leaves.set()
        async with asyncio.timeout(5):
            await self.task


async def test_given_a_listener_when_the_request_moves_then_each_state_comes_once_until_the_end(here: Api) -> None:
    one = put(here, a_view())
    stream = Stream(here, one)
    assert await stream.next() == b"retry: 2000\n\n"
    first = (await stream.next()).decode()
    assert first.startswith("id: 1\nevent: request\ndata: {")
    assert first.count("\n") == 4  # one line of data
    assert json.loads(first.split("data: ")[1])["status"] == "seen"

    here.reads.version[0] += 1  # type: ignore[attr-defined]  # something else changed
    await asyncio.sleep(0.3)
    assert stream.sent.empty()

    put(here, answered(IMAGE))
    last = (await stream.next()).decode()
    assert json.loads(last.split("data: ")[1])["status"] == "fulfilled"
    async with asyncio.timeout(5):
        await stream.ended.wait()
        await stream.task
    known = {"Last-Event-ID": last.split("\n")[0].removeprefix("id: ")}
    again = await here.client.get(f"/v1/requests/{one}/events", headers=known)
    assert (again.status_code, again.content) == (204, b"")  # or a browser would connect for ever
    assert "fulfilled" in (await here.client.get(f"/v1/requests/{one}/events", headers={"Last-Event-ID": "1"})).text


async def test_given_a_request_not_seen_yet_when_followed_then_the_stream_waits_for_it(here: Api) -> None:
    view = a_view()
    stream = Stream(here, "0x" + view.row.request_id.hex())
    await stream.next()
    assert await stream.next() == b"event: waiting\ndata: {}\n\n"
    put(here, view)
    assert b"event: request" in await stream.next()
    await stream.leave()


async def test_given_nothing_happens_when_followed_then_a_comment_keeps_it_alive_and_the_time_ends_it(
    here: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_events, "HEARTBEAT", 0.05)
    monkeypatch.setattr(routes_events, "LONGEST", 0.3)
    stream = Stream(here, put(here, a_view()))
    await stream.next()
    await stream.next()
    assert await stream.next() == b": still here\n\n"
    async with asyncio.timeout(5):
        await stream.ended.wait()


async def test_given_the_database_goes_while_followed_then_the_stream_lives_on(here: Api) -> None:
    one = put(here, a_view())
    stream = Stream(here, one)
    await stream.next()
    await stream.next()
    there = here.reads.mark
    here.reads.mark = lambda: None  # type: ignore[method-assign]
    await asyncio.sleep(0.25)
    here.reads.mark = there  # type: ignore[method-assign]
    put(here, a_view(status=S.READY))
    assert b'"status":"ready"' in await stream.next()
    await stream.leave()


async def test_given_listeners_who_left_when_looked_at_then_nobody_looks_for_changes_any_more(here: Api) -> None:
    stream = Stream(here, put(here, a_view()))
    await stream.next()
    await stream.next()
    pulse = here.client._transport.app.state.desk.pulse  # type: ignore[attr-defined]
    assert pulse.listeners == 1
    await stream.leave()
    assert pulse.listeners == 0
    assert pulse._looking is None


async def test_given_a_listener_when_the_server_ends_then_the_stream_does_too(here: Api) -> None:
    stream = Stream(here, put(here, a_view()))
    await stream.next()
    await stream.next()
    here.client._transport.app.state.desk.pulse.end()  # type: ignore[attr-defined]
    async with asyncio.timeout(2):
        await stream.ended.wait()


# Results -------------------------------------------------------------------------------------------------------


def a_result(here: Api, view: RequestView, drawing: bytes = PNG) -> bytes:
    here.files.held[cid_of(drawing)] = drawing
    document = {
        "schema": "sibyl/result/1",
        "request": "0x" + view.row.request_id.hex(),
        "model": {"name": "mnist-cnn", "manifest": cid_of(MANIFEST).text, "weights_sha256": "0" * 64},
        "input": {"cid": IMAGE.text, "bytes": 221},
        "task": "classification",
        "labels": [{"index": 7, "label": "7", "probability": 0.9996}],
        "files": {"labels": {"cid": cid_of(drawing).text, "bytes": len(drawing), "type": "image/png"}},
        "provider": {"id": "p", "engine": "keras"},
        "timings": {},
    }
    data = json.dumps(document).encode()
    here.files.held[cid_of(data)] = data
    return data


async def test_given_an_answer_when_its_result_is_asked_for_then_the_exact_bytes_with_their_cid(here: Api) -> None:
    data = a_result(here, a_view())
    one = put(here, answered(cid_of(data)))
    answer = await here.client.get(f"/v1/results/{one}")
    assert answer.content == data
    assert answer.headers["X-Sibyl-Result-CID"] == cid_of(data).text
    assert answer.headers["ETag"] == f'"{cid_of(data)}"'
    assert "immutable" not in answer.headers["Cache-Control"]  # a reorg may give the request another one

    drawing = await here.client.get(f"/v1/results/{one}/labels.png")
    assert (drawing.content, drawing.headers["Content-Type"]) == (PNG, "image/png")
    assert drawing.headers["ETag"] == f'"{cid_of(PNG)}"'
    other = await here.client.get(f"/v1/results/{one}/mask.png")
    assert (other.status_code, other.json()["remedy"]) == (404, "There is: labels.")


async def test_given_a_drawing_that_is_no_png_when_asked_for_then_it_is_not_passed_on(here: Api) -> None:
    data = a_result(here, a_view(), drawing=b"<script>alert(1)</script>")
    one = put(here, answered(cid_of(data)))
    answer = await here.client.get(f"/v1/results/{one}/labels.png")
    assert (answer.status_code, answer.json()["type"]) == (502, "/problems/content-corrupt")


@pytest.mark.parametrize(
    ("status", "code"), [(S.SEEN, 409), (S.COMPUTED, 409), (S.POSTING, 409), (S.REJECTED, 410), (S.CANCELLED, 410)]
)
async def test_given_no_answer_on_the_chain_when_the_result_is_asked_for_then_the_problem_tells_for_now_from_for_ever(
    here: Api, status: RequestStatus, code: int
) -> None:
    one = put(here, a_view(status=status, result_cid=IMAGE if status in (S.COMPUTED, S.POSTING) else None))
    answer = await here.client.get(f"/v1/results/{one}")
    assert answer.status_code == code


# Content -------------------------------------------------------------------------------------------------------

WEBP = b"RIFF\0\0\0\0WEBPVP8 "


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0 and so on", "image/jpeg"),
        (b"GIF89a and so on", "image/gif"),
        (WEBP, "image/webp"),
        (b'{"a": 1}', "application/json"),
        (b"{not json, and nothing that runs", "application/json"),
        (b"<html><script>alert(1)</script>", "application/octet-stream"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "application/octet-stream"),
        (b"%PDF-1.7", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
async def test_given_any_content_when_served_by_its_cid_then_nothing_can_run_and_it_is_kept_for_ever(
    here: Api, data: bytes, kind: str
) -> None:
    cid = cid_of(data)
    here.files.held[cid] = data
    answer = await here.client.get(f"/ipfs/{cid}")
    assert (answer.status_code, answer.content, answer.headers["Content-Type"]) == (200, data, kind)
    assert answer.headers["Content-Security-Policy"] == routes_ipfs.SANDBOX
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in answer.headers["Cache-Control"]
    attached = "attachment" in answer.headers.get("Content-Disposition", "")
    assert attached == (kind == "application/octet-stream")

    here.files.held.clear()
    same = await here.client.get(f"/ipfs/{cid}", headers={"If-None-Match": f'"{cid}"'})
    assert same.status_code == 304
    assert "Content-Disposition" not in same.headers  # it would stick to the picture that the browser has


# Models --------------------------------------------------------------------------------------------------------


async def test_given_a_manifest_that_does_not_come_when_models_are_listed_then_nobody_waits_and_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oracle.api.registry.FIRST_SECONDS", 0.05)
    lost = OnChainModel(2, cid_of(b"lost"), 5, "0x" + "44" * 20, True)

    async def fetch(cid: Cid, *, limit: int, timeout: float) -> bytes:
        if cid == lost.manifest_cid:
            await asyncio.sleep(60)
        return MANIFEST

    async with api(tmp_path, {1: MANIFEST}, tune=lambda chain: setattr(chain, "listed", [*chain.listed, lost])) as here:
        monkeypatch.setattr(here.files, "fetch", fetch)
        here.reads.speeds = _no_speeds  # type: ignore[attr-defined]
        async with asyncio.timeout(2):
            answer = await here.client.get("/v1/models")
    told = answer.json()
    schemas.Models.model_validate(told)
    first, second = told["items"]
    assert (first["name"], first["classes"], first["familiarity"], first["problem"]) == ("mnist-cnn", 10, True, "")
    assert (second["name"], second["price"], second["problem"]) == ("model 2", "5", "its manifest is being read")


async def test_given_tokens_that_are_silent_or_slow_when_models_are_listed_then_nobody_waits_and_none_is_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oracle.api.registry.FIRST_SECONDS", 0.05)
    monkeypatch.setattr("oracle.api.registry.FRESH", 0.0)
    mute, slow = "0x" + "aa" * 20, "0x" + "bb" * 20
    asked: list[str] = []
    go = asyncio.Event()

    async def token(address: str) -> TokenFacts:
        asked.append(address)
        if address == mute:
            raise RpcUnavailable("it says nothing")
        await go.wait()
        return TokenFacts("SLOW", 6)

    def tune(chain: ScriptedChain) -> None:
        payout = "0x" + "44" * 20
        chain.listed = [OnChainModel(n, cid_of(MANIFEST), 5, payout, True, one) for n, one in ((1, mute), (2, slow))]
        chain.token = token  # type: ignore[attr-defined]

    async with api(tmp_path, {1: MANIFEST}, tune=tune) as here:
        registry = here.client._transport.app.state.desk.registry  # type: ignore[attr-defined]
        async with asyncio.timeout(2):
            for _ in range(5):
                assert [known.token for known in await registry.models()] == [None, None]
                await asyncio.sleep(0.01)
        go.set()
        await asyncio.sleep(0.05)
        assert [known.token for known in await registry.models()] == [None, TokenFacts("SLOW", 6)]
    assert sorted(asked) == [mute, slow]


async def test_given_a_content_store_that_is_down_when_models_are_listed_then_its_address_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(cid: Cid, *, limit: int, timeout: float) -> bytes:
        raise ContentUnavailable("the IPFS node at /dns/secret-host/tcp/5001/http does not answer as one")

    async with api(tmp_path, {1: MANIFEST}) as here:
        monkeypatch.setattr(here.files, "fetch", fetch)
        here.reads.speeds = _no_speeds  # type: ignore[attr-defined]
        (told,) = (await here.client.get("/v1/models")).json()["items"]
    assert told["problem"] == "its manifest did not come"


async def test_given_a_chain_that_does_not_answer_when_models_are_asked_for_then_503_first_and_the_last_list_later(
    here: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.reads.speeds = _no_speeds  # type: ignore[attr-defined]
    assert (await here.client.get("/v1/models")).status_code == 200
    desk = here.client._transport.app.state.desk  # type: ignore[attr-defined]

    async def down() -> list[OnChainModel]:
        raise RpcUnavailable("http://key@rpc does not answer")

    monkeypatch.setattr(desk.world.chain, "models", down)
    monkeypatch.setattr("oracle.api.registry.FRESH", 0.0)
    assert (await here.client.get("/v1/models")).status_code == 200

    desk.registry._read_at = None
    answer = await here.client.get("/v1/models")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/chain-unreachable")
    assert "key" not in answer.text


async def test_given_one_model_when_asked_for_then_its_manifest_comes_with_it(here: Api) -> None:
    here.reads.speeds = _no_speeds  # type: ignore[attr-defined]
    told = (await here.client.get("/v1/models/1")).json()
    schemas.ModelDetail.model_validate(told)
    assert told["manifest"] == json.loads(MANIFEST)
    assert (await here.client.get("/v1/models/1/example")).status_code == 404  # no pen here


async def _no_speeds() -> dict[int, Any]:
    raise StoreError("no database")


async def test_given_a_deployment_when_its_facts_are_asked_for_then_as_documented_without_our_own_endpoint(
    here: Api,
) -> None:
    told = (await here.client.get("/v1")).json()
    assert told["gateways"] == ["https://ipfs.example"]
    schemas.Config.model_validate(told)
    assert told["rpc_url"] == "https://rpc.example:8545/x"
    assert "127.0.0.1:8545" not in json.dumps(told)
    assert told["chain_name"] == "Local chain"


# The page and the documentation --------------------------------------------------------------------------------


async def test_given_no_built_page_when_the_root_is_asked_for_then_it_says_how_to_build_it(here: Api) -> None:
    answer = await here.client.get("/")
    assert answer.status_code == 200
    assert "make page" in answer.text


async def test_given_a_built_page_when_asked_for_then_a_strict_policy_and_caching_by_name(
    here: Api, tmp_path: Path
) -> None:
    page = tmp_path / "page"
    (page / "assets").mkdir(parents=True)
    (page / "index.html").write_text("<!doctype html>")
    (page / "assets" / "index-B2x4q9aZ.js").write_text("let a = 1;" * 500)
    (tmp_path / "secret.txt").write_text("secret")
    (page / "link.txt").symlink_to(tmp_path / "secret.txt")

    index = await here.client.get("/")
    assert index.headers["Content-Type"] == "text/html; charset=utf-8"
    assert index.headers["Cache-Control"] == "no-cache"
    policy = index.headers["Content-Security-Policy"]
    assert "connect-src 'self' https://rpc.example:8545 wss://rpc.example:8545 https://ipfs.example;" in policy
    for part in ("default-src 'self'", "script-src 'self'", "frame-ancestors 'none'", "object-src 'none'"):
        assert part in policy
    assert "unsafe" not in policy

    script = await here.client.get("/assets/index-B2x4q9aZ.js", headers={"Accept-Encoding": "gzip"})
    assert "immutable" in script.headers["Cache-Control"]
    assert script.headers["Content-Encoding"] == "gzip"
    assert script.text == "let a = 1;" * 500
    plain = await here.client.get("/assets/index-B2x4q9aZ.js", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["ETag"] != script.headers["ETag"]

    for path in ("/link.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/assets"):
        assert (await here.client.get(path)).status_code == 404


async def test_given_the_description_when_read_then_every_route_is_told_with_examples_and_no_page_needs_others(
    here: Api,
) -> None:
    told = (await here.client.get("/openapi.json")).json()
    for path in ("/v1", "/v1/requests/{request_id}", "/v1/requests/{request_id}/events", "/v1/results/{request_id}",
                 "/v1/models", "/v1/providers", "/v1/quote", "/v1/stats", "/v1/stats.csv", "/ipfs/{cid}"):  # fmt: skip
        assert "get" in told["paths"][path]
    assert "examples" in json.dumps(told["paths"]["/v1/requests/{request_id}"])
    docs = await here.client.get("/docs")
    assert "<script" not in docs.text
    assert "http" not in docs.text.replace("http-equiv", "").replace("https://example.org", "")
    for kind, field in (("multipart/form-data", "image"), ("application/json", "url"), ("application/json", "model")):
        assert f"<tr><td>{kind}</td><td><code>{field}</code>" in docs.text
    assert "May be left out." in docs.text
    assert docs.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")


async def test_given_a_site_that_is_allowed_when_its_page_asks_then_it_may_read_the_headers(tmp_path: Path) -> None:
    async with api(tmp_path, {1: MANIFEST}, api_cors=("https://page.example",)) as here:
        allowed = await here.client.get("/v1", headers={"Origin": "https://page.example"})
        other = await here.client.get("/v1", headers={"Origin": "https://other.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert "X-Sibyl-Result-CID" in allowed.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in other.headers
