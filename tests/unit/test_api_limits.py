"""What one client may take of the API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oracle.api.app import Envelope
from oracle.api.limits import BodyLimit, RateLimit, StreamLimit, client_of

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def scope_of(
    peer: str | None = "192.0.2.7",
    *,
    path: str = "/v1",
    forwarded: Sequence[str] = (),
    headers: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    pairs = [("x-forwarded-for", one) for one in forwarded] + list(headers)
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 80),
        "headers": [(name.encode(), value.encode()) for name, value in pairs],
        "client": None if peer is None else (peer, 5555),
    }


class Answer:
    """What an app said to one request."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        (start,) = [one for one in self.messages if one["type"] == "http.response.start"]
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def json(self) -> Any:
        return json.loads(b"".join(one.get("body", b"") for one in self.messages[1:]))


async def ask(app: ASGIApp, scope: Scope, *pieces: bytes) -> Answer:
    """One request whose body comes in pieces."""
    answer = Answer()
    waiting = [
        {"type": "http.request", "body": piece, "more_body": i < len(pieces) - 1} for i, piece in enumerate(pieces)
    ] or [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        return {"type": "http.disconnect"}

    await app(scope, receive, answer.send)
    return answer


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("fine")(scope, receive, send)


def limited(rate: float = 2, burst: int = 3, proxies: int = 0, clients: int = 100) -> tuple[RateLimit, Clock]:
    clock = Clock()
    return RateLimit(fine, rate=rate, burst=burst, proxies=proxies, clients=clients, now=clock), clock


# Clients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "proxies", "forwarded", "client"),
    [
        ("192.0.2.7", 0, [], "192.0.2.7"),
        ("192.0.2.7", 0, ["203.0.113.1"], "192.0.2.7"),  # nobody is trusted
        ("192.0.2.7", 1, ["203.0.113.1"], "203.0.113.1"),
        ("192.0.2.7", 1, ["6.6.6.6, 203.0.113.1"], "203.0.113.1"),  # what the client wrote itself stands left
        ("192.0.2.7", 1, ["6.6.6.6", "203.0.113.1"], "203.0.113.1"),  # the same as two headers
        ("192.0.2.7", 2, ["6.6.6.6, 203.0.113.1, 198.51.100.9"], "203.0.113.1"),
        ("192.0.2.7", 2, ["203.0.113.1"], "203.0.113.1"),
        ("192.0.2.7", 1, [], "192.0.2.7"),
        ("192.0.2.7", 1, ["not an address"], "192.0.2.7"),
        ("192.0.2.7", 1, ["203.0.113.1:4711"], "203.0.113.1"),
        ("192.0.2.7", 1, ["[2001:db8:1:2:3:4:5:6]:4711"], "2001:db8:1:2::/64"),
        ("192.0.2.7", 1, ["203.0.113.1, "], "203.0.113.1"),
        ("2001:db8:1:2::5", 0, [], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", 0, [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", 0, [], "192.0.2.7"),
        ("fe80::1%eth0", 0, [], "fe80::/64"),
        (None, 0, [], "local"),
    ],
)
def test_given_a_peer_and_what_it_forwards_when_asked_who_it_is_then_only_trusted_words_count(
    peer: str | None, proxies: int, forwarded: list[str], client: str
) -> None:
    assert client_of(scope_of(peer, forwarded=forwarded), proxies) == client


def test_given_a_very_long_forwarded_header_when_read_then_its_end_decides() -> None:
    long = ", ".join(["6.6.6.6"] * 100_000) + ", 203.0.113.1"
    assert client_of(scope_of(forwarded=[long]), 1) == "203.0.113.1"


# Requests a second -----------------------------------------------------------------------------------------------


async def test_given_a_burst_when_it_is_used_up_then_429_says_when_to_come_back_and_time_makes_it_good() -> None:
    app, clock = limited(rate=0.25, burst=3)
    assert [(await ask(app, scope_of())).status for _ in range(3)] == [200, 200, 200]
    refused = await ask(app, scope_of())
    assert refused.status == 429
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "4"
    assert refused.json["type"] == "/problems/too-many-requests"
    assert refused.json["remedy"]
    clock.time += 3.9
    assert (await ask(app, scope_of())).status == 429
    clock.time += 0.1
    assert (await ask(app, scope_of())).status == 200
    clock.time += 10_000
    assert [(await ask(app, scope_of())).status for _ in range(4)] == [200, 200, 200, 429]


async def test_given_a_spoofed_header_when_each_request_names_another_client_then_the_limit_holds() -> None:
    app, _ = limited(burst=3)
    statuses = [(await ask(app, scope_of(forwarded=[f"10.0.0.{i}"]))).status for i in range(4)]
    assert statuses == [200, 200, 200, 429]


async def test_given_a_trusted_proxy_when_the_client_spoofs_further_hops_then_the_limit_holds() -> None:
    app, _ = limited(burst=3, proxies=1)
    statuses = [(await ask(app, scope_of(forwarded=[f"10.0.0.{i}, 203.0.113.1"]))).status for i in range(4)]
    assert statuses == [200, 200, 200, 429]
    assert (await ask(app, scope_of(forwarded=["203.0.113.2"]))).status == 200


async def test_given_two_clients_when_one_has_used_its_own_up_then_the_other_is_served() -> None:
    app, _ = limited(burst=1)
    assert (await ask(app, scope_of("192.0.2.1"))).status == 200
    assert (await ask(app, scope_of("192.0.2.1"))).status == 429
    assert (await ask(app, scope_of("192.0.2.2"))).status == 200
    assert (await ask(app, scope_of("2001:db8::1"))).status == 200
    assert (await ask(app, scope_of("2001:db8::2"))).status == 429


async def test_given_more_clients_than_are_remembered_when_they_ask_then_the_longest_absent_is_forgotten() -> None:
    app, _ = limited(burst=1, clients=3)
    for i in range(50):
        assert (await ask(app, scope_of(f"198.51.100.{i}"))).status == 200
    assert app.buckets.remembered == 3
    assert (await ask(app, scope_of("198.51.100.49"))).status == 429
    assert (await ask(app, scope_of("198.51.100.1"))).status == 200


# Failures --------------------------------------------------------------------------------------------------------


async def test_given_a_path_that_forges_a_log_line_when_the_app_fails_then_it_is_quoted_and_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    answer = await ask(
        Envelope(broken), scope_of(path="/v1/x\n2026-11-27 info sibyl.api: \u202eall is well" + "y" * 9_000)
    )
    assert answer.status == 500
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(r"POST '/v1/x\n2026-11-27 info sibyl.api: \u202eall is well")
    assert len(message) < 300


async def test_given_a_client_that_hangs_up_when_its_body_is_read_then_the_log_is_spared(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    await ask(Envelope(left), scope_of(path="/v1/images"))
    assert caplog.records == []


# Bodies ----------------------------------------------------------------------------------------------------------


async def read_all(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def hide_errors(request: Request) -> Response:
    """As a framework may: whatever goes wrong with the body becomes an answer of its own."""
    try:
        await request.body()
    except Exception:  # noqa: BLE001 - that is the point
        return PlainTextResponse("bad body", 400)
    return PlainTextResponse("fine")


def bounded(limit: int = 10, seconds: float = 5.0, slowest: int = 1, **larger: int) -> ASGIApp:
    app = Starlette(
        routes=[
            Route("/read", read_all, methods=["POST"]),
            Route("/large", read_all, methods=["POST"]),
            Route("/hide", hide_errors, methods=["POST"]),
        ]
    )
    paths = {f"/{name}": size for name, size in larger.items()}
    return BodyLimit(app, limit=limit, paths=paths, seconds=seconds, slowest=slowest)


@pytest.mark.parametrize("path", ["/read", "/hide"])
async def test_given_a_body_without_length_when_it_grows_over_the_limit_then_413_and_the_rest_is_not_read(
    path: str,
) -> None:
    answer = await ask(bounded(), scope_of(path=path), b"12345", b"67890", b"1", b"never read")
    assert answer.status == 413
    assert answer.json["type"] == "/problems/body-too-large"
    assert answer.headers["connection"] == "close"


async def test_given_a_length_that_lies_when_the_body_is_larger_then_it_is_counted_all_the_same() -> None:
    for told in ("5", "-3", "x", "", "٣"):
        scope = scope_of(path="/read")
        scope["headers"].append((b"content-length", told.encode()))
        answer = await ask(bounded(), scope, b"12345", b"678901")
        assert answer.status == 413, told


async def test_given_a_length_over_the_limit_when_told_then_nothing_is_read() -> None:
    async def unread() -> Message:
        raise AssertionError("the body was read")

    for told in ("11", "9" * 50):
        answer = Answer()
        await bounded()(scope_of(path="/read", headers=[("content-length", told)]), unread, answer.send)
        assert answer.status == 413


async def test_given_exactly_the_limit_when_sent_then_it_is_read_and_a_path_may_have_its_own() -> None:
    assert (await ask(bounded(), scope_of(path="/read"), b"1234567890")).json == 10
    assert (await ask(bounded(large=20), scope_of(path="/large"), b"1" * 20)).json == 20
    assert (await ask(bounded(large=20), scope_of(path="/large"), b"1" * 21)).status == 413


async def test_given_a_body_that_drips_when_its_time_is_over_then_408() -> None:
    answer = Answer()

    async def drip() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async with asyncio.timeout(5):
        await bounded(limit=10**6, seconds=0.1, slowest=1000)(scope_of(path="/read"), drip, answer.send)
    assert answer.status == 408
    assert answer.json["type"] == "/problems/body-too-slow"


async def test_given_a_whole_body_when_the_answer_waits_for_long_then_no_time_limit_ends_it() -> None:
    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        gone = asyncio.ensure_future(receive())
        await asyncio.sleep(0.1)
        assert not gone.done()
        gone.cancel()
        await PlainTextResponse("fine")(scope, receive, send)

    answer, first = Answer(), True

    async def receive() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(10)
        return {"type": "http.disconnect"}

    await BodyLimit(patient, limit=10, seconds=0.05)(scope_of(), receive, answer.send)
    assert answer.status == 200


async def test_given_an_app_that_fails_by_itself_when_its_body_was_fine_then_its_error_goes_on() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("its own")

    with pytest.raises(RuntimeError, match="its own"):
        await ask(BodyLimit(broken, limit=10), scope_of())


# Event streams ---------------------------------------------------------------------------------------------------


async def test_given_as_many_streams_as_allowed_when_one_more_opens_then_429_until_one_ends() -> None:
    ends = asyncio.Event()

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/events"):
            await ends.wait()
        await fine(scope, receive, send)

    app = StreamLimit(stream, streams=2)
    path = "/v1/requests/0x00/events"
    first = [asyncio.create_task(ask(app, scope_of(path=path))) for _ in range(2)]
    await asyncio.sleep(0)
    assert (await ask(app, scope_of(path=path))).status == 429
    assert (await ask(app, scope_of(path="/v1"))).status == 200
    other = asyncio.create_task(ask(app, scope_of("192.0.2.99", path=path)))
    await asyncio.sleep(0)
    ends.set()
    assert [(await one).status for one in (*first, other)] == [200, 200, 200]
    assert (await ask(app, scope_of(path=path))).status == 200


async def test_given_a_stream_that_fails_when_it_is_gone_then_its_place_is_free_again() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    app = StreamLimit(broken, streams=1)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            await ask(app, scope_of(path="/x/events"))
