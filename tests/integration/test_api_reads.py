"""The API's reads on a real database that an oracle writes: pages, figures, changes, files that come and go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from oracle.api import schemas
from oracle.api.app import create_app
from oracle.api.ports import World
from oracle.domain import ImageFacts, RequestStatus
from oracle.errors import StoreError
from oracle.market import Price, Provider
from oracle.settings import Settings
from oracle.store import SqliteReads, SqliteRequestStore, reading
from oracle.views import Figures
from tests.unit.api_doubles import ScriptedChain
from tests.unit.doubles import MemoryContent, cid_of
from tests.unit.test_store_kit import COORDINATOR, RESULT, S, block, bring, receipt, report, rid, see, tx

pytestmark = pytest.mark.integration


FREE = Price(Decimal(0), Decimal(0), Decimal(0))
PICTURE = ImageFacts("PNG", 28, 30, 321)


class Clock:
    def __init__(self) -> None:
        self.now = 2_000_000_000.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteRequestStore]:
    found = SqliteRequestStore(tmp_path / "oracle.sqlite3", now=Clock())
    await found.bind(31337, COORDINATOR, bytes(32))
    yield found
    await found.close()


@pytest.fixture
async def reads(tmp_path: Path) -> AsyncIterator[SqliteReads]:
    found = SqliteReads(tmp_path / "oracle.sqlite3", coordinator=COORDINATOR)
    yield found
    await found.close()


@pytest.fixture
async def client(tmp_path: Path, reads: SqliteReads) -> AsyncIterator[httpx.AsyncClient]:
    content: Any = MemoryContent()
    world = World(reads=reads, chain=ScriptedChain([]), content=content, open_content=content)  # type: ignore[arg-type]
    app = create_app(world, Settings(data_dir=tmp_path, api_burst=10_000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api") as found,
    ):
        yield found


async def answer(store: SqliteRequestStore, numbers: list[int], nonce: int = 0) -> None:
    """Bring new requests all the way to their answer."""
    await bring(store, numbers, S.COMPUTED, image=PICTURE)
    await store.save_report(report(700 + nonce, nonce, numbers))
    await store.close_report(receipt(700 + nonce, block(9), fulfilled=numbers))


async def test_given_requests_when_listed_then_pages_follow_each_other_newest_first_and_filters_hold(
    store: SqliteRequestStore, client: httpx.AsyncClient
) -> None:
    for number in range(1, 8):
        await see(store, [number], at=number)
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        query: dict[str, Any] = {"limit": 2, "account": COORDINATOR.lower()} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/requests", params=query)).json()
        schemas.Requests.model_validate(page)
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert seen == ["0x" + rid(number).hex() for number in range(7, 0, -1)]
    assert cursor is None
    for query in ({"account": "0x" + "11" * 20}, {"model": 2}, {"status": "fulfilled"}):
        assert (await client.get("/v1/requests", params=query)).json() == {"items": [], "next": None}
    assert len((await client.get("/v1/requests", params={"model": 1, "status": "seen"})).json()["items"]) == 7


async def test_given_an_answered_request_when_read_then_picture_provider_report_and_every_step_are_there(
    store: SqliteRequestStore, client: httpx.AsyncClient
) -> None:
    await store.ledger.save_providers([Provider("p", "corner", FREE, 2, 1.0, 2.0)])
    await answer(store, [1])
    told = (await client.get("/v1/requests/0x" + rid(1).hex())).json()
    schemas.Request.model_validate(told)
    assert told["status"] == "fulfilled"
    assert told["image"] == {"format": "PNG", "width": 28, "height": 30, "bytes": 321}
    assert (told["provider"], told["provider_name"]) == ("p", "corner")
    assert told["report_transaction"] == "0x" + tx(700).hex()
    assert told["payment"] == str(10**24 + 1)
    steps = [move["status"] for move in told["timeline"]]
    assert steps == ["seen", "confirmed", "ready", "computing", "computed", "posting", "fulfilled"]
    timeline = (await client.get("/v1/requests/0x" + rid(1).hex() + "/timeline")).json()
    assert timeline["items"] == told["timeline"]


async def test_given_a_request_when_the_oracle_moves_it_then_the_next_answer_says_so(
    store: SqliteRequestStore, client: httpx.AsyncClient
) -> None:
    await see(store, [1])
    path = "/v1/requests/0x" + rid(1).hex()
    for status, step in ((S.SEEN, None), (S.CONFIRMED, store.confirm)):
        if step is not None:
            await step(5)
        assert (await client.get(path)).json()["status"] == status.value
    await store.roll_back(None)  # a reorg takes its block away
    assert (await client.get(path)).json()["status"] == "orphaned"


async def test_given_an_ended_request_when_others_move_then_it_comes_from_memory_until_a_reorg_takes_its_end(
    store: SqliteRequestStore, reads: SqliteReads, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await answer(store, [1])
    path, looked = "/v1/requests/0x" + rid(1).hex(), []
    look = reads.request

    async def counted(request_id: bytes) -> Any:
        looked.append(request_id)
        return await look(request_id)

    monkeypatch.setattr(reads, "request", counted)
    first = (await client.get(path)).json()
    await see(store, [2])
    assert (await client.get(path)).json() == first
    assert first["status"] == "fulfilled"
    assert looked == [rid(1)]
    await store.roll_back(None)
    assert (await client.get(path)).json()["status"] == "orphaned"


async def test_given_nothing_changed_when_marked_then_the_mark_stays_and_each_commit_changes_it(
    store: SqliteRequestStore, reads: SqliteReads
) -> None:
    await see(store, [1])
    marks = [reads.mark(), reads.mark()]
    assert marks[0] == marks[1] is not None
    await store.confirm(5)
    assert reads.mark() != marks[0]


async def test_given_answers_when_figures_are_asked_for_then_they_add_up(
    store: SqliteRequestStore, client: httpx.AsyncClient, reads: SqliteReads, monkeypatch: pytest.MonkeyPatch
) -> None:
    await answer(store, [1, 2, 3])
    await bring(store, [4], S.FAILED)
    await see(store, [5], at=6)
    monkeypatch.setattr("oracle.api.routes_figures.time", SimpleNamespace(time=lambda: 1_100.0))  # of the blocks
    told = (await client.get("/v1/stats?range=3600")).json()
    schemas.Stats.model_validate(told)
    assert told["requests"] == {"fulfilled": 3, "failed": 1, "seen": 1}
    assert (told["queue"], told["success_rate"]) == (2, 1.0)
    assert [hour["count"] for hour in told["throughput_per_hour"]] == [3]
    (model,) = told["by_model"]
    assert (model["model"], model["count"]) == (1, 3)
    assert model["box"][0] <= model["box"][2] == model["median_s"] <= model["box"][4]
    assert len(told["points"]) == 3
    for point in told["points"]:
        assert (point["bytes"], point["pixels"]) == (321, 28 * 30)
        steps = (await client.get(f"/v1/requests/{point['id']}/timeline")).json()["items"]
        at = {step["status"]: step["at"] for step in steps}
        assert point["at"] == at["fulfilled"]
        assert point["total_s"] == at["fulfilled"] - at["seen"]
        assert point["compute_s"] == at["computed"] - at["computing"]
    for path in ("/v1/stats", "/v1/stats.csv"):
        year = [
            (await client.get(path, params={"range": span})).status_code for span in (366 * 86_400, 366 * 86_400 + 1)
        ]
        assert year == [200, 422]  # what docs/api.md says
    table = (await client.get("/v1/stats.csv?range=3600")).text.splitlines()
    assert table[0] == "id,model,provider,bytes,pixels,compute_s,total_s,at"
    assert len(table) == 4

    speed = (await reads.speeds())[1]
    assert speed.answered == 3
    assert speed.usual_seconds == model["median_s"]


async def test_given_figures_that_take_long_when_others_ask_for_less_then_they_do_not_wait(
    store: SqliteRequestStore, reads: SqliteReads, monkeypatch: pytest.MonkeyPatch
) -> None:
    await see(store, [1])
    begun, go = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        begun.set()
        go.wait(30)

    monkeypatch.setattr("oracle.store.reading.figures", slow)
    figures = asyncio.create_task(reads.figures(0.0, 10))
    assert await asyncio.to_thread(begun.wait, 10)
    try:
        async with asyncio.timeout(10):
            assert len((await reads.requests()).items) == 1
            assert await reads.request(rid(1)) is not None
            assert await reads.providers() == []
    finally:
        go.set()
    await figures


async def test_given_figures_over_ever_other_spans_when_too_many_wait_then_the_rest_are_told_busy_and_few_are_kept(
    store: SqliteRequestStore, reads: SqliteReads, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await see(store, [1])
    go = threading.Event()
    true = reading.figures

    def slow(*arguments: Any, **named: Any) -> Figures:
        go.wait(30)
        return true(*arguments, **named)

    monkeypatch.setattr(reading, "figures", slow)
    asking = [asyncio.create_task(client.get(f"/v1/stats?range={60 + n}")) for n in range(reading.MOST_SLOW + 5)]
    try:
        done, _ = await asyncio.wait(asking, timeout=2)
    finally:
        go.set()
    assert len(done) == 5
    for one in done:
        refused = one.result()
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/busy")
        assert "retry-after" in refused.headers
    assert [one.status_code for one in await asyncio.gather(*asking)].count(200) == reading.MOST_SLOW


async def test_given_a_provider_when_listed_then_price_speed_reputation_and_why(
    store: SqliteRequestStore, client: httpx.AsyncClient
) -> None:
    price = Price(Decimal("0.001"), Decimal("0.0001"), Decimal("0.0002"))
    known = Provider(
        "0x" + "2f" * 20, "corner", price, 2, 1.0, 2.0, images_per_second=10.0, good=5.0, failed=1.0,
        judged_at=4e9, blocked_until=4e9, detail="too slow",
    )  # fmt: skip
    await store.ledger.save_providers([known])
    told = (await client.get("/v1/providers")).json()
    schemas.Providers.model_validate(told)
    (one,) = told["items"]
    assert one["picture_glm"] == "0.00005"
    assert one["price"] == {"start": "0.001", "second": "0.0001", "cpu_second": "0.0002"}
    assert one["reputation"] == 0.75
    assert one["reasons"] == ["5 tasks done well", "1 tasks failed", "gets no work for now: too slow"]


async def test_given_no_database_when_it_appears_later_then_the_same_api_reads_it(
    tmp_path: Path, client: httpx.AsyncClient, reads: SqliteReads
) -> None:
    path = "/v1/requests/0x" + rid(1).hex()
    for asked in (path, "/v1/requests", "/v1/stats", "/v1/providers"):
        answered = await client.get(asked)
        assert (answered.status_code, answered.json()["type"]) == (503, "/problems/database-not-ready")
    assert reads.mark() is None
    (tmp_path / "oracle.sqlite3").touch()  # being made
    assert (await client.get(path)).status_code == 503

    store = SqliteRequestStore(tmp_path / "oracle.sqlite3")
    assert (await client.get("/v1/requests")).status_code == 503  # belongs to nobody yet
    await store.bind(31337, COORDINATOR, bytes(32))
    await see(store, [1])
    assert (await client.get(path)).status_code == 200
    await store.close()


async def test_given_another_file_at_the_same_place_when_asked_then_nothing_of_the_old_one_is_told(
    tmp_path: Path, store: SqliteRequestStore, client: httpx.AsyncClient
) -> None:
    await see(store, [1])
    path = "/v1/requests/0x" + rid(1).hex()
    assert (await client.get(path)).status_code == 200
    await store.close()
    for name in ("oracle.sqlite3", "oracle.sqlite3-wal", "oracle.sqlite3-shm"):
        if (tmp_path / name).exists():
            (tmp_path / name).rename(tmp_path / f"{name}.lost")
    assert (await client.get(path)).status_code == 503
    fresh = SqliteRequestStore(tmp_path / "oracle.sqlite3")
    await fresh.bind(31337, COORDINATOR, b"\x01" * 32)
    assert (await client.get(path)).status_code == 404
    await fresh.close()


async def test_given_the_database_of_another_deployment_when_asked_then_it_is_not_told(
    tmp_path: Path, store: SqliteRequestStore
) -> None:
    other = SqliteReads(tmp_path / "oracle.sqlite3", coordinator="0x" + "22" * 20)
    with pytest.raises(StoreError, match="belongs to the coordinator"):
        await other.requests()
    await other.close()


async def test_given_many_who_ask_at_once_when_the_database_changes_then_all_get_the_new_state(
    store: SqliteRequestStore, client: httpx.AsyncClient
) -> None:
    await bring(store, [1], RequestStatus.COMPUTED)
    path = "/v1/requests/0x" + rid(1).hex()
    answers = await asyncio.gather(*(client.get(path) for _ in range(50)))
    assert {one.json()["result_cid"] for one in answers} == {RESULT.text}
    await store.expire(5e9)
    answers = await asyncio.gather(*(client.get(path) for _ in range(50)))
    assert {one.json()["status"] for one in answers} == {"expired"}


async def test_given_pictures_when_asked_which_a_request_names_then_those_alone_come_back(
    store: SqliteRequestStore, reads: SqliteReads
) -> None:
    await see(store, [1, 2])
    view = await reads.request(rid(1))
    assert view is not None
    paid = view.row.request.image_cid
    others = [cid_of(b"%d" % number) for number in range(1_200)]
    assert await reads.named([*others, paid]) == {paid}
    await store.roll_back(None)
    assert await reads.named([paid]) == {paid}  # an orphaned request may be mined again
    assert await reads.named([]) == frozenset()
