"""What holds for any cursor, any page and any error of the API, whatever the input."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from oracle import errors
from oracle.api import problems
from oracle.api.app import Envelope
from oracle.api.problems import Problem, problem_of
from oracle.api.routes_requests import read_cursor, write_cursor
from oracle.domain import BlockRef, InferenceRequest, LogPosition, RequestSeen
from oracle.errors import SibylError
from oracle.store import SqliteRequestStore
from oracle.store.reading import page
from oracle.views import Place
from tests.unit.test_store_kit import COORDINATOR, FAR, IMAGE, rid

pytestmark = pytest.mark.unit

numbers = st.integers(0, 2**63 - 1)


# -- cursors -----------------------------------------------------------------------------------------------------


@given(numbers, numbers, st.binary(min_size=32, max_size=32))
def test_given_any_place_when_written_as_a_cursor_then_it_is_read_back_and_fits_the_query(
    block: int, at: int, name: bytes
) -> None:
    text = write_cursor(Place(block, at, name))
    assert read_cursor(text) == Place(block, at, name)
    assert len(text) <= 64
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)


@given(st.one_of(st.text(max_size=64), st.from_regex(r"[A-Za-z0-9_-]{60,64}={0,4}", fullmatch=True)))
@example("A" * 63 + "\n")
@example("_" * 64)
@example("/" * 64)
@example("A" * 64)
@example("")
def test_given_any_text_when_read_as_a_cursor_then_it_is_one_that_we_wrote_or_a_problem(text: str) -> None:
    try:
        place = read_cursor(text)
    except Problem as problem:
        refused = problem
    else:
        refused = None
    if refused is None:
        assert write_cursor(place) == text
    else:
        assert refused.status == 422
        assert refused.remedy


# -- pages -------------------------------------------------------------------------------------------------------

# How many requests each block holds, and after which of them a reorganisation takes it and all above away.
chains = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(chain=chains, limit=st.integers(1, 7), fork=st.integers(0, 6), again=chains)
def test_given_any_requests_when_read_page_by_page_then_each_comes_once_the_newest_first(
    chain: list[int], limit: int, fork: int, again: list[int]
) -> None:
    async def scenario() -> None:
        store = SqliteRequestStore(":memory:")
        try:
            await store.bind(1, COORDINATOR, bytes(32))
            made = await scan(store, chain, first=0, height=1, branch=0)
            if fork < len(chain):
                base = BlockRef(fork, bytes([0]) + fork.to_bytes(31, "big"), 1_000 + fork) if fork else None
                await store.roll_back(base)
                # Other requests come to stand where the orphaned ones stood.
                made += await scan(store, again, first=len(made), height=fork + 1, branch=1)
            found: list[tuple[Place, bytes]] = []
            after: Place | None = None
            while True:
                # As SqliteReads runs it, in a file; memory will do for what a query says.
                one = await store._read(
                    lambda connection, after=after: page(connection, None, None, None, after, limit)
                )
                found += [(view.place, view.row.request_id) for view in one.items]
                assert 0 < len(one.items) <= limit
                assert len(found) <= len(made)
                after = one.next
                if after is None:
                    break
            assert sorted(name for _, name in found) == sorted(made)
            assert [place for place, _ in found] == sorted((place for place, _ in found), reverse=True)
        finally:
            await store.close()

    asyncio.run(scenario())


async def scan(store: SqliteRequestStore, chain: list[int], *, first: int, height: int, branch: int) -> list[bytes]:
    made: list[bytes] = []
    for offset, count in enumerate(chain):
        number = height + offset
        block = BlockRef(number, bytes([branch]) + number.to_bytes(31, "big"), 1_000 + number)
        events = []
        for at in range(count):
            name = rid(first + len(made) + 1)
            request = InferenceRequest(name, 1, COORDINATOR, IMAGE, 1, 0, FAR, first + len(made), block.timestamp)
            events.append(RequestSeen(request, LogPosition(block, bytes([branch, at]) * 16, at)))
            made.append(name)
        await store.commit_scan(events, [block], block)
    return made


# -- problem documents -------------------------------------------------------------------------------------------


def leaves(kind: type[SibylError]) -> Iterator[type[SibylError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from leaves(below)


ERRORS = sorted({kind for kind in leaves(SibylError) if kind.__module__ == errors.__name__}, key=lambda k: k.__name__)


def made(kind: type[SibylError], words: str, remedy: str) -> SibylError:
    if issubclass(kind, errors.DayLimitReached | errors.TooMuchUploaded):
        return kind(words, retry_after=60, remedy=remedy)
    return kind(words, remedy=remedy)


def check(response: httpx.Response) -> dict[str, Any]:
    """Whether an answer is a problem as the specification has it."""
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    assert re.fullmatch(r"/problems/[a-z0-9-]+", body["type"])
    assert body["title"]
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert isinstance(body["remedy"], str)
    assert body["request_id"] == response.headers["x-request-id"]
    if "retry-after" in response.headers:
        assert response.headers["retry-after"].isdigit()
    return body


def ask(app: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    async def work() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.request(method, path, **options)

    return asyncio.run(work())


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """An app whose only route raises what it is told to."""
    app = FastAPI(openapi_url=None)
    problems.install(app)

    @app.get("/raise")
    async def fails(request: Request) -> None:
        raise request.app.state.error

    @app.get("/number")
    async def number(number: int) -> int:
        return number

    app.add_middleware(Envelope)
    return app


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.text(max_size=80), remedy=st.text(max_size=80))
def test_given_any_error_of_ours_when_told_then_it_is_a_whole_problem_document(
    app: FastAPI, kind: type[SibylError], words: str, remedy: str
) -> None:
    app.state.error = made(kind, words, remedy)
    response = ask(app, "GET", "/raise")
    assert 400 <= response.status_code <= 599
    check(response)


PRIVATE = (
    errors.StoreError, errors.RpcUnavailable, errors.RpcRangeRefused, errors.WrongChain, errors.ConfigurationError,
)  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [errors.Retryable, *(kind for kind in ERRORS if issubclass(kind, PRIVATE))],
    ids=lambda kind: kind.__name__,
)
def test_given_an_error_about_this_machine_when_told_then_neither_paths_nor_hosts_go_out(
    app: FastAPI, kind: type[SibylError]
) -> None:
    app.state.error = made(kind, "/home/somebody/oracle.sqlite3 at node.internal:8545", "set SIBYL_RPC_URL")
    response = ask(app, "GET", "/raise")
    assert "somebody" not in response.text
    assert "internal" not in response.text
    assert response.status_code == 503


def test_given_an_error_that_nobody_foresaw_when_told_then_only_its_request_id_goes_out(app: FastAPI) -> None:
    app.state.error = ZeroDivisionError("secret of the house")
    response = ask(app, "GET", "/raise")
    assert check(response)["status"] == 500
    assert "secret" not in response.text


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    path=st.text(st.characters(codec="utf-8", exclude_characters="/?#"), max_size=30),
)
def test_given_any_path_that_is_not_there_when_asked_then_the_problem_says_so(
    app: FastAPI, method: str, path: str
) -> None:
    response = ask(app, method, "/nothing/" + quote(path))
    assert check(response)["status"] == 404


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200).filter(lambda text: not re.fullmatch(r"\s*[+-]?[\d_.]+\s*", text)))
def test_given_any_text_for_a_number_when_asked_then_the_problem_names_the_field_and_is_no_longer_than_it_must(
    app: FastAPI, text: str
) -> None:
    response = ask(app, "GET", "/number", params={"number": text})
    body = check(response)
    assert body["status"] == 422
    assert "number" in body["detail"]
    assert len(body["detail"]) <= 1000


def test_given_what_a_program_can_act_on_when_it_reads_the_slug_then_each_has_its_own() -> None:
    kinds = (
        errors.KeyNeeded, errors.BalanceTooLow, errors.DayLimitReached, errors.ModelNotSold, errors.AskedOtherwise,
        errors.StillAsking, errors.ImageRejected, errors.ContentTooLarge, errors.RpcUnavailable, errors.ContentCorrupt,
    )  # fmt: skip
    assert len({problem_of(made(kind, "x", "y")).slug for kind in kinds}) == len(kinds)
