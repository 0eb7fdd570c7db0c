"""What strangers upload is held within limits, and let go when nobody asks about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from oracle.api import holding
from oracle.api.holding import DAY, Holding
from oracle.domain import Cid
from oracle.errors import ContentUnavailable, StoreError, TooMuchUploaded, UploadsFull
from oracle.store.uploads import LEAST, SqliteUploadBook, metadata
from tests.unit.api_doubles import PICTURE, Api, api
from tests.unit.doubles import cid_of
from tests.unit.test_store_kit import ManualClock, columns_agree

pytestmark = pytest.mark.unit

MANIFEST = (Path(__file__).parents[2] / "provider_images" / "mnist" / "manifest.json").read_bytes()
HEADERS = {"Content-Type": "image/png"}
NOON = 1_000_000.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
async def here(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Api]:
    limits = {"api_upload_day": 4 * LEAST, "api_upload_total": 6 * LEAST}
    async with api(tmp_path, {1: MANIFEST}, now=clock, **limits) as found:
        yield found


@pytest.fixture
async def book(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteUploadBook]:
    found = SqliteUploadBook(tmp_path / "uploads.sqlite3", now=clock)
    yield found
    await found.close()


def picture(number: int, size: int = 100) -> bytes:
    return (PICTURE + b" %d" % number).ljust(size, b".")


async def upload(here: Api, data: bytes) -> int:
    return (await here.client.post("/v1/images", content=data, headers=HEADERS)).status_code


def sweeper(here: Api, clock: ManualClock) -> Holding:
    desk = here.client._transport.app.state.desk  # type: ignore[attr-defined]
    return Holding(desk, desk.world.writes, now=clock)


# Limits ----------------------------------------------------------------------------------------------------------


async def test_given_a_client_at_its_limit_when_it_uploads_more_then_429_says_when_and_nothing_is_pinned(
    here: Api, clock: ManualClock
) -> None:
    for number in range(4):
        assert await upload(here, picture(number)) == 201
        clock.now += 60
    answer = await here.client.post("/v1/images", content=picture(9), headers=HEADERS)
    assert (answer.status_code, answer.json()["type"]) == (429, "/problems/day-of-uploads-used-up")
    assert int(answer.headers["Retry-After"]) == DAY - 240
    assert answer.json()["remedy"]
    assert cid_of(picture(9)) not in here.pins.held
    assert await upload(here, picture(1)) == 201  # it is there already
    clock.now = NOON + DAY + 1
    assert await upload(here, picture(9)) == 201


async def test_given_as_much_as_all_may_upload_when_anybody_uploads_more_then_507_until_there_is_room(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with api(tmp_path, {1: MANIFEST}, now=clock, api_upload_day=2**40, api_upload_total=2 * LEAST) as here:
        for number in range(2):
            assert await upload(here, picture(number)) == 201
        answer = await here.client.post("/v1/images", content=picture(9), headers=HEADERS)
        assert (answer.status_code, answer.json()["type"]) == (507, "/problems/uploads-full")
        assert answer.json()["remedy"]
        assert answer.headers["Retry-After"]
        weights = await here.client.post("/v1/weights", content=b"PK\x03\x04" + bytes(100))
        assert weights.status_code == 507
        manifest = await here.client.post(
            "/v1/manifests", content=MANIFEST, headers={"Content-Type": "application/json"}
        )
        assert manifest.status_code == 507
        assert len(here.pins.held) == 2
        clock.now = here.reads.at = NOON + DAY + 1
        assert await sweeper(here, clock).sweep() == 2
        assert await upload(here, picture(9)) == 201


async def test_given_two_clients_when_one_is_at_its_limit_then_the_other_is_served_and_time_makes_it_good(
    book: SqliteUploadBook, clock: ManualClock
) -> None:
    async def note(number: int, client: str, size: int = 1) -> None:
        await book.note(cid_of(b"%d" % number), size, client, client_limit=3 * LEAST, total_limit=100 * LEAST)

    await note(1, "ann", 2 * LEAST)
    clock.now += 100
    await note(2, "ann")
    with pytest.raises(TooMuchUploaded) as caught:
        await note(3, "ann")
    assert caught.value.retry_after == DAY - 100
    with pytest.raises(TooMuchUploaded) as caught:
        await note(3, "ann", 4 * LEAST)  # never
    assert caught.value.retry_after == DAY
    await note(3, "ben")
    clock.now += DAY - 99
    await note(4, "ann")


async def test_given_uploads_at_once_when_only_one_has_room_then_one_is_noted(book: SqliteUploadBook) -> None:
    notes = (
        book.note(cid_of(b"%d" % number), 1, f"client {number}", client_limit=LEAST, total_limit=LEAST)
        for number in range(8)
    )
    outcomes = await asyncio.gather(*notes, return_exceptions=True)
    assert sorted(type(one).__name__ for one in outcomes) == ["NoneType", *["UploadsFull"] * 7]
    assert isinstance(next(one for one in outcomes if one is not None), UploadsFull)


async def test_given_a_node_that_does_not_pin_when_uploaded_then_it_is_written_down_before(here: Api) -> None:
    here.pins.problem = ContentUnavailable("the node is gone", remedy="Start it.")
    assert await upload(here, picture(1)) == 504
    here.pins.problem = None
    book = here.client._transport.app.state.desk.world.writes.book  # type: ignore[attr-defined]
    assert await book.came(cid_of(picture(1))) == NOON


# Letting go ------------------------------------------------------------------------------------------------------


async def test_given_uploads_a_day_old_when_looked_through_then_only_what_nobody_asked_about_is_let_go(
    here: Api, clock: ManualClock
) -> None:
    paid, idle = picture(1), picture(2)
    assert [await upload(here, paid), await upload(here, idle)] == [201, 201]
    clock.now += 60
    fresh = picture(3)
    assert await upload(here, fresh) == 201
    here.reads.pictures.add(cid_of(paid))
    looks = sweeper(here, clock)

    clock.now = here.reads.at = NOON + DAY
    assert await looks.sweep() == 0
    clock.now = here.reads.at = NOON + DAY + 30
    assert await looks.sweep() == 1
    assert set(here.pins.held) == {cid_of(paid), cid_of(fresh)}
    clock.now = here.reads.at = NOON + 2 * DAY
    here.reads.pictures.clear()  # what was asked about once is out of the book
    assert await looks.sweep() == 1
    assert set(here.pins.held) == {cid_of(paid)}


async def test_given_a_model_that_was_published_when_looked_through_then_its_manifest_and_weights_stay(
    tmp_path: Path, clock: ManualClock
) -> None:
    weights = (Path(__file__).parents[2] / "provider_images" / "mnist" / "weights.npz").read_bytes()
    async with api(tmp_path, {1: MANIFEST}, now=clock) as here:
        sent = await here.client.post("/v1/weights", content=weights)
        assert sent.status_code == 201
        other = await here.client.post("/v1/weights", content=b"PK\x03\x04" + bytes(100))
        assert other.status_code == 201
        headers = {"Content-Type": "application/json"}
        assert (await here.client.post("/v1/manifests", content=MANIFEST, headers=headers)).status_code == 201
        clock.now = here.reads.at = NOON + DAY + 1
        assert await sweeper(here, clock).sweep() == 1
        assert set(here.pins.held) == {cid_of(MANIFEST), Cid.parse(sent.json()["cid"])}


async def test_given_an_oracle_that_stands_still_when_looked_through_then_nothing_goes_that_it_may_not_have_read(
    here: Api, clock: ManualClock
) -> None:
    assert await upload(here, picture(1)) == 201
    clock.now = NOON + 9 * DAY
    looks = sweeper(here, clock)
    for at in (None, NOON + 3_600):
        here.reads.at = at
        assert await looks.sweep() == 0
    here.reads.at = NOON + 99 * DAY  # a chain whose clock runs ahead
    clock.now = NOON + 60
    assert await looks.sweep() == 0
    assert cid_of(picture(1)) in here.pins.held


async def test_given_an_upload_that_comes_again_while_it_is_let_go_then_it_is_pinned_in_the_end(
    here: Api, clock: ManualClock
) -> None:
    assert await upload(here, picture(1)) == 201
    clock.now = here.reads.at = NOON + DAY + 1
    # The app's own, whose turns the upload takes.
    looks = here.client._transport.app.state.uploads.holding  # type: ignore[attr-defined]
    looks._now = clock
    gate, entered, let_go = asyncio.Event(), asyncio.Event(), here.pins.let_go

    async def slowly(cid: Cid) -> None:
        entered.set()
        await gate.wait()
        await let_go(cid)

    here.pins.let_go = slowly  # type: ignore[method-assign]
    sweeping = asyncio.create_task(looks.sweep())
    await entered.wait()
    again = asyncio.create_task(upload(here, picture(1)))
    await asyncio.sleep(0.05)
    gate.set()
    assert (await sweeping, await again) == (1, 201)
    assert cid_of(picture(1)) in here.pins.held
    assert await looks.sweep() == 0


async def test_given_more_than_one_page_and_more_than_is_let_go_at_once_when_looked_through_then_each_look_is_bounded(
    here: Api, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "_PAGE", 2)
    monkeypatch.setattr(holding, "MOST", 3)
    for number in range(4):
        assert await upload(here, picture(number)) == 201
    clock.now = here.reads.at = NOON + DAY + 1
    looks = sweeper(here, clock)
    assert [await looks.sweep(), await looks.sweep(), await looks.sweep()] == [3, 1, 0]
    assert here.pins.held == {}


@pytest.mark.parametrize("problem", [ContentUnavailable("the node is gone"), ValueError("a bug")])
async def test_given_a_look_that_fails_when_the_next_comes_then_it_is_tried_again(
    here: Api, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    assert await upload(here, picture(1)) == 201
    clock.now = here.reads.at = NOON + DAY + 1
    monkeypatch.setattr(holding, "EVERY", 0.01)
    here.pins.problem = problem
    watching = asyncio.create_task(sweeper(here, clock).watch())
    await asyncio.sleep(0.1)
    assert not watching.done()
    here.pins.problem = None
    async with asyncio.timeout(5):
        while here.pins.held:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


# The book --------------------------------------------------------------------------------------------------------


async def test_given_the_tables_when_compared_with_the_file_then_both_have_the_same_columns(
    book: SqliteUploadBook, tmp_path: Path
) -> None:
    assert columns_agree(tmp_path / "uploads.sqlite3", metadata)


async def test_given_a_book_that_was_closed_when_opened_again_then_all_is_in_it(
    tmp_path: Path, clock: ManualClock
) -> None:
    first = SqliteUploadBook(tmp_path / "book.sqlite3", now=clock)
    await first.note(cid_of(b"x"), 1, "ann", client_limit=LEAST, total_limit=LEAST)
    await first.close()
    with pytest.raises(StoreError, match="closed"):
        await first.came(cid_of(b"x"))
    again = SqliteUploadBook(tmp_path / "book.sqlite3", now=clock)
    assert [(one.cid, one.at) for one in await again.page(None, 10)] == [(cid_of(b"x"), NOON)]
    await again.forget([cid_of(b"x")])
    assert await again.page(None, 10) == []
    await again.close()
