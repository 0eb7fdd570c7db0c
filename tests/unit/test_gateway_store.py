"""The gateway's books: nothing is spent that was not counted before, and nothing twice."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import event

from oracle import cli_keys
from oracle.domain import Cid
from oracle.errors import AskedOtherwise, DayLimitReached, SibylError, StoreError
from oracle.settings import Settings
from oracle.store import gateway as books
from oracle.store.gateway import (
    DAY,
    PAUSE,
    RETENTION,
    Question,
    Spending,
    SpendingState,
    SqliteGatewayStore,
    mark,
)
from oracle.store.gateway_tables import STEPS, metadata
from tests.unit.doubles import cid_of
from tests.unit.test_store_kit import ManualClock, columns_agree

pytestmark = pytest.mark.unit

PICTURE = cid_of(b"a picture")
GENEROUS = 10**18


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000.0)


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[SqliteGatewayStore]:
    found = SqliteGatewayStore(tmp_path / "gateway.sqlite3", now=clock)
    yield found
    await found.close()


def question(
    holder: str = "ann", amount: int = 10, *, image: Cid = PICTURE, model: int = 1, idempotency: str | None = None
) -> Question:
    return Question(holder, amount, model, image, 2_000_000, None if idempotency is None else mark(holder, idempotency))


async def spend(store: SqliteGatewayStore, asked: Question, limit: int = 100, total: int = GENEROUS) -> Spending:
    spending, fresh = await store.reserve(asked, holder_limit=limit, total_limit=total)
    assert fresh
    return spending


async def test_given_a_new_key_when_it_is_used_then_it_is_known_and_the_file_holds_only_its_hash(
    store: SqliteGatewayStore, tmp_path: Path
) -> None:
    token = await store.add_key("ann", 5)
    key = await store.key(token)
    assert key is not None
    assert (key.name, key.per_day) == ("ann", 5)
    assert len(token) > 40
    await store.close()
    for file in tmp_path.iterdir():
        assert token.encode() not in file.read_bytes()
        assert token.removeprefix("sibyl_").encode() not in file.read_bytes()


async def test_given_two_keys_when_one_is_revoked_then_the_other_still_counts(store: SqliteGatewayStore) -> None:
    ann, bob = await store.add_key("ann", 5), await store.add_key("bob", 6)
    assert ann != bob
    await store.revoke("ann")
    await store.revoke("ann")
    assert await store.key(ann) is None
    assert (await store.key(bob)) is not None
    listed = {key.name: key for key in await store.keys()}
    assert listed["ann"].revoked_at is not None
    assert listed["bob"].revoked_at is None


async def test_given_a_name_in_use_or_none_at_all_when_a_key_is_made_then_it_is_refused(
    store: SqliteGatewayStore,
) -> None:
    await store.add_key("ann", 5)
    await store.revoke("ann")
    with pytest.raises(StoreError, match="already"):
        await store.add_key("ann", 5)
    for name in ("", "a b", "../x", "x" * 65, "-x", "ä", "a\n"):
        with pytest.raises(ValueError, match="name"):
            await store.add_key(name, 5)
    with pytest.raises(StoreError, match="no key"):
        await store.revoke("nobody")


@pytest.mark.parametrize("token", ["", "sibyl_", "sibyl_guess", "x" * 10_000, "sibyl_" + "x" * 10_000, "sibyl_\0"])
async def test_given_what_is_no_key_when_looked_up_then_there_is_none(store: SqliteGatewayStore, token: str) -> None:
    await store.add_key("ann", 5)
    assert await store.key(token) is None


async def test_given_two_holders_when_one_reaches_its_limit_then_the_other_may_go_on(
    store: SqliteGatewayStore,
) -> None:
    for _ in range(10):
        await spend(store, question("ann"))
    with pytest.raises(DayLimitReached, match="this key") as caught:
        await spend(store, question("ann", 1))
    assert caught.value.remedy
    await spend(store, question("bob"))
    await spend(store, question(""))


async def test_given_a_total_for_all_when_it_is_reached_then_nobody_may_spend(store: SqliteGatewayStore) -> None:
    await spend(store, question("ann", 60), total=100)
    await spend(store, question("bob", 40), total=100)
    with pytest.raises(DayLimitReached, match="all users"):
        await spend(store, question("eve", 1), total=100)


async def test_given_a_reached_limit_when_a_day_is_over_then_there_is_room_again_as_retry_after_said(
    store: SqliteGatewayStore, clock: ManualClock
) -> None:
    await spend(store, question("ann", 30))
    clock.now += 3600
    await spend(store, question("ann", 70))
    with pytest.raises(DayLimitReached) as caught:
        await spend(store, question("ann", 20))
    assert caught.value.retry_after == DAY - 3600
    with pytest.raises(DayLimitReached) as caught:
        await spend(store, question("ann", 40))
    assert caught.value.retry_after == DAY
    clock.now += DAY - 3600 - 1
    with pytest.raises(DayLimitReached):
        await spend(store, question("ann", 20))
    clock.now += 1
    await spend(store, question("ann", 20))


async def test_given_a_price_over_the_whole_limit_when_asked_then_a_day_is_named_and_nothing_counted(
    store: SqliteGatewayStore,
) -> None:
    with pytest.raises(DayLimitReached) as caught:
        await spend(store, question("ann", 101))
    assert caught.value.retry_after == DAY
    await spend(store, question("ann", 100))


async def test_given_amounts_over_64_bits_when_spent_then_they_are_exact(store: SqliteGatewayStore) -> None:
    large = 2**70
    await store.add_key("ann", large)
    await spend(store, question("ann", large - 1), limit=large, total=large)
    await spend(store, question("ann", 1), limit=large, total=large)
    with pytest.raises(DayLimitReached):
        await spend(store, question("ann", 1), limit=large, total=large)
    (key,) = await store.keys()
    assert key.spent == large


async def test_given_a_kill_between_reserve_and_send_when_started_again_then_it_counts_as_spent(
    tmp_path: Path,
) -> None:
    program = """
import asyncio, os, sys
from oracle.store.gateway import Question, SqliteGatewayStore, mark
from tests.unit.doubles import cid_of

async def main():
    store = SqliteGatewayStore(sys.argv[1])
    asked = Question("ann", 60, 1, cid_of(b"a picture"), 2_000_000, mark("ann", "k"))
    await store.reserve(asked, holder_limit=100, total_limit=10**18)
    os._exit(9)  # before anything could be sent

asyncio.run(main())
"""
    file = tmp_path / "gateway.sqlite3"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, str(file)]
    done = await asyncio.to_thread(subprocess.run, command, check=False, timeout=60, cwd=root)
    assert done.returncode == 9
    store = SqliteGatewayStore(file)
    try:
        with pytest.raises(DayLimitReached):
            await spend(store, question("ann", 41))
        again, fresh = await store.reserve(question("ann", 60, idempotency="k"), holder_limit=100, total_limit=GENEROUS)
        assert not fresh
        assert again.state is SpendingState.RESERVED
        await spend(store, question("ann", 40))
    finally:
        await store.close()


async def test_given_an_idempotency_key_when_used_again_then_it_is_the_same_spending_and_never_counted_twice(
    store: SqliteGatewayStore,
) -> None:
    first = await spend(store, question(idempotency="k", amount=60))
    await store.asked(first.id, b"\1" * 32, b"\2" * 32, 0.0)
    again, fresh = await store.reserve(question(idempotency="k", amount=60), holder_limit=100, total_limit=GENEROUS)
    assert not fresh
    assert (again.id, again.state, again.request_id) == (first.id, SpendingState.ASKED, b"\1" * 32)
    assert again.transaction_hash == b"\2" * 32
    assert await store.begun(mark("ann", "k"), 1, PICTURE) == again
    assert await store.begun(mark("bob", "k"), 1, PICTURE) is None
    await spend(store, question("bob", idempotency="k"))
    assert await store.spending_of(b"\1" * 32) == again
    assert await store.spending_of(b"\3" * 32) is None


async def test_given_an_idempotency_key_when_used_for_another_question_then_it_is_refused(
    store: SqliteGatewayStore,
) -> None:
    await spend(store, question(idempotency="k"))
    for other in (question(idempotency="k", model=2), question(idempotency="k", image=cid_of(b"another"))):
        with pytest.raises(AskedOtherwise):
            await store.reserve(other, holder_limit=100, total_limit=GENEROUS)
    with pytest.raises(AskedOtherwise):
        await store.begun(mark("ann", "k"), 2, PICTURE)


async def test_given_a_release_when_nothing_was_sent_then_it_counts_no_more_and_its_key_is_free(
    store: SqliteGatewayStore,
) -> None:
    first = await spend(store, question(idempotency="k", amount=100))
    await store.release(first.id)
    second = await spend(store, question(idempotency="k", amount=100))
    assert second.id != first.id


async def test_given_a_request_that_was_asked_when_released_by_mistake_then_it_still_counts(
    store: SqliteGatewayStore,
) -> None:
    first = await spend(store, question(amount=100))
    await store.asked(first.id, b"\1" * 32, b"\2" * 32, 0.0)
    await store.release(first.id)
    with pytest.raises(DayLimitReached):
        await spend(store, question(amount=1))


async def test_given_two_processes_when_they_reserve_at_once_then_the_limit_holds_over_both(tmp_path: Path) -> None:
    file = tmp_path / "gateway.sqlite3"
    stores = [SqliteGatewayStore(file), SqliteGatewayStore(file)]
    granted = 0
    try:
        for i in range(20):
            try:
                await spend(stores[i % 2], question(amount=10))
                granted += 1
            except DayLimitReached:
                pass
        assert granted == 10
        token = await stores[1].add_key("ann", 3)
        assert await stores[0].key(token) is not None
    finally:
        for one in stores:
            await one.close()


def test_given_a_new_file_when_many_open_it_at_once_then_all_find_it_made(tmp_path: Path) -> None:
    file = tmp_path / "gateway.sqlite3"
    problems: list[BaseException] = []

    def open_it() -> None:
        try:
            asyncio.run(SqliteGatewayStore(file).close())
        except BaseException as error:  # noqa: BLE001 - shown below
            problems.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


async def test_given_the_tables_in_python_when_compared_with_the_file_then_they_have_the_same_columns(
    store: SqliteGatewayStore, tmp_path: Path
) -> None:
    assert columns_agree(tmp_path / "gateway.sqlite3", metadata)


async def test_given_many_spendings_when_a_limit_is_checked_then_they_are_summed_from_an_index_alone(
    store: SqliteGatewayStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[tuple[str, object]] = []
    connection = store._file._database.connection

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        statements.append((statement, parameters))

    for number in range(20):
        await spend(store, question(f"holder {number % 2}", 10**24), limit=10**26, total=10**26)
        clock.now += 100
    event.listen(connection.engine, "before_cursor_execute", note)
    await store.check("holder 0", 1, holder_limit=10**25 + 1, total_limit=10**26)
    event.remove(connection.engine, "before_cursor_execute", note)
    ((statement, parameters),) = statements
    with sqlite3.connect(":memory:") as raw:
        for step in STEPS:
            for part in step:
                raw.execute(part)
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]  # type: ignore[arg-type]
    raw.close()
    assert any("COVERING INDEX spendings_counted (deployment=? AND at>?)" in line for line in plan), plan
    with pytest.raises(DayLimitReached, match="this key"):
        await store.check("holder 0", 2, holder_limit=10**25 + 1, total_limit=10**26)
    with pytest.raises(DayLimitReached, match="all users"):
        await store.check("holder 0", 2, holder_limit=10**26, total_limit=2 * 10**25 + 1)
    monkeypatch.setattr(books, "_MOST_LOOKED_AT", 3)
    with pytest.raises(DayLimitReached) as caught:
        await store.check("holder 0", 10**25, holder_limit=10**25, total_limit=10**26)
    assert caught.value.retry_after == DAY - 1600  # the third of its ten; there may be millions


# What is open, and what was long ago ------------------------------------------------------------------------------


async def test_given_a_transaction_when_it_is_signed_then_it_is_written_down_until_its_spending_moves_on(
    store: SqliteGatewayStore,
) -> None:
    first, second = await spend(store, question(amount=30)), await spend(store, question(amount=40))
    assert await store.on_their_way() == 70
    for number in (1, 2):
        await store.signed(first.id, bytes([number]) * 32, 5, b"raw %d" % number)
    assert await store.transactions(first.id) == [b"raw 1", b"raw 2"]
    assert await store.transactions(second.id) == []
    await store.asked(first.id, b"\1" * 32, b"\2" * 32, 0.0)
    assert await store.transactions(first.id) == []
    assert await store.on_their_way() == 40
    await store.signed(first.id, b"\3" * 32, 6, b"refund")
    await store.refund_failed(first.id)
    assert await store.transactions(first.id) == []
    await store.closed(first.id)
    await store.burnt(second.id)
    assert await store.on_their_way() == 0
    for ended in (first, second):
        with pytest.raises(StoreError, match="ended"):
            await store.signed(ended.id, b"\4" * 32, 7, b"too late")
    found = await store.spending_of(b"\1" * 32)
    assert found is not None
    assert found.state is SpendingState.CLOSED


async def test_given_open_spendings_when_they_are_due_then_each_comes_up_again_the_older_the_rarer(
    store: SqliteGatewayStore, clock: ManualClock
) -> None:
    first, second, ended = [await spend(store, question(amount=1)) for _ in range(3)]
    await store.release(ended.id)
    assert await store.due(10) == []
    clock.now += PAUSE
    assert [one.id for one in await store.due(1)] == [first.id]
    assert [one.id for one in await store.due(10)] == [second.id]
    assert await store.due(10) == []
    clock.now += 10 * PAUSE
    assert len(await store.due(10)) == 2
    clock.now += 10 * PAUSE
    assert await store.due(10) == []
    await store.asked(second.id, b"\1" * 32, b"\2" * 32, clock.now)
    assert [one.id for one in await store.due(10)] == [second.id]
    await store.closed(second.id)
    clock.now += DAY
    assert [one.id for one in await store.due(10)] == [first.id]


async def test_given_what_is_a_month_old_when_something_is_spent_then_some_of_it_is_forgotten_but_nothing_open(
    store: SqliteGatewayStore, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> list[int]:
        raw = sqlite3.connect(tmp_path / "gateway.sqlite3")
        try:
            return [number for (number,) in raw.execute("SELECT id FROM spendings ORDER BY id")]
        finally:
            raw.close()

    monkeypatch.setattr(books, "_MOST_FORGOTTEN", 2)
    old = [await spend(store, question(amount=1, idempotency=str(number))) for number in range(5)]
    for number, one in enumerate(old[1:], 1):
        await store.signed(one.id, bytes([number]) * 32, number, b"raw")
        await store.asked(one.id, bytes([number]) * 32, b"\2" * 32, 0.0)
    await store.signed(old[0].id, b"\5" * 32, 9, b"on its way")
    clock.now += RETENTION
    young = await spend(store, question(amount=1))
    assert len(rows()) == 6
    clock.now += 1
    last = await spend(store, question(amount=1))
    assert rows() == [old[0].id, old[3].id, old[4].id, young.id, last.id]
    newest = await spend(store, question(amount=1))
    assert rows() == [old[0].id, young.id, last.id, newest.id]
    assert await store.transactions(old[0].id) == [b"on its way"]
    assert await store.begun(mark("ann", "1"), 1, PICTURE) is None
    assert await store.begun(mark("ann", "0"), 1, PICTURE) is not None


async def test_given_another_deployment_when_the_books_are_bound_then_nothing_old_counts_until_they_are_bound_back(
    store: SqliteGatewayStore, clock: ManualClock
) -> None:
    await store.add_key("ann", 100)
    first = await spend(store, question(amount=60, idempotency="k"))  # before they were bound to any
    places = [(1, "0xAA", b"\1"), (2, "0xAA", b"\1"), (1, "0xBB", b"\1"), (1, "0xAA", b"\2")]
    for number, place in enumerate(places):
        await store.bind(*place)
        if number:
            assert await store.begun(mark("ann", "k"), 1, PICTURE) is None
            assert (await store.keys())[0].spent == 0
            assert await store.on_their_way() == 0
            await spend(store, question(amount=70, idempotency="k"))
            assert await store.due(10) == []
        clock.now += PAUSE
    await store.bind(1, "0xaa", b"\1")
    assert (await store.keys())[0].spent == 60
    assert [one.id for one in await store.due(10)] == [first.id]
    await store.asked(first.id, b"\1" * 32, b"\2" * 32, 0.0)
    await store.bind(*places[1])
    assert await store.spending_of(b"\1" * 32) is None


async def test_given_books_of_the_first_version_when_opened_then_all_counts_and_no_key_is_paid_twice(
    tmp_path: Path, clock: ManualClock
) -> None:
    file = tmp_path / "old.sqlite3"
    raw = sqlite3.connect(file)
    for part in STEPS[0]:
        raw.execute(part)
    columns = "holder, state, amount, fee, at, model_id, image_cid, deadline, block, idempotency, request_id"
    for number, (state, request) in enumerate([("reserved", None), ("asked", "0x" + "01" * 32), ("released", None)]):
        key = "0x" + mark("ann", str(number)).hex()
        values = ("ann", state, "5", "2", clock.now, 1, PICTURE.text, 2_000_000, 7, key, request)
        raw.execute(f"INSERT INTO spendings ({columns}) VALUES ({', '.join('?' * 11)})", values)
    raw.execute(f"PRAGMA application_id = {0x5349424C}")
    raw.execute("PRAGMA user_version = 1")
    raw.commit()
    raw.close()
    store = SqliteGatewayStore(file, now=clock)
    try:
        await store.bind(1, "0xaa", b"\1")
        await store.check("ann", 86, holder_limit=100, total_limit=100)
        with pytest.raises(DayLimitReached):
            await store.check("ann", 87, holder_limit=100, total_limit=100)
        unknown = await store.begun(mark("ann", "0"), 1, PICTURE)
        assert unknown is not None
        assert unknown.state is SpendingState.BURNT  # nobody knows what was sent for it
        assert await store.spending_of(b"\1" * 32) is not None
    finally:
        await store.close()


async def test_given_a_closed_store_when_used_then_it_says_so(store: SqliteGatewayStore) -> None:
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.keys()


async def test_given_another_process_that_writes_when_the_books_are_read_then_nobody_waits_for_it(
    store: SqliteGatewayStore, tmp_path: Path
) -> None:
    first = await spend(store, question())
    with sqlite3.connect(tmp_path / "gateway.sqlite3", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(2):
            assert await store.key("sibyl_unknown") is None
            assert await store.keys() == []
            assert await store.begun(b"\1" * 32, 1, first.question.image_cid) is None
            assert await store.spending_of(bytes(32)) is None
            assert await store.on_their_way() == first.question.amount
            assert await store.transactions(first.id) == []
            await store.check("", 1, holder_limit=10**30, total_limit=10**30)
        other.execute("ROLLBACK")
    other.close()


async def test_given_a_gateway_that_has_something_in_flight_when_its_balance_is_funded_then_it_waits_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    books_of_api = SqliteGatewayStore(settings.gateway_database)
    try:
        await cli_keys._quiet(settings)
        asking = await spend(books_of_api, question())
        monkeypatch.setattr(cli_keys, "LOOKS", 2)
        with pytest.raises(SibylError, match="in flight"):
            await cli_keys._quiet(settings)
        await books_of_api.signed(asking.id, b"\7" * 32, 1, b"raw")
        assert await books_of_api.in_flight() == 1
        await books_of_api.asked(asking.id, b"\1" * 32, b"\7" * 32, 0.0)
        await cli_keys._quiet(settings)
        await books_of_api.signed(asking.id, b"\6" * 32, 2, b"raw refund")
        with pytest.raises(SibylError, match="in flight"):
            await cli_keys._quiet(settings)
    finally:
        await books_of_api.close()
