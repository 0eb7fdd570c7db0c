"""Intake under attack and under errors of our own: nobody's request may stop anybody else's."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Sequence

import pipeline_flow as flow
import pytest
from doubles import REQUESTER, cid_of

from oracle.domain import Cid, FailureReason, ImageFacts
from oracle.errors import ContentUnavailable
from oracle.pipeline import intake as intake_module
from oracle.pipeline.duty import backoff
from oracle.ports import Move, RequestRow

pytestmark = pytest.mark.unit

NOW, S, Build, Oracle = flow.NOW, flow.S, flow.Build, flow.Oracle
build = flow.build
OTHER = "0x" + "22" * 20
WEEK = 7 * 86_400


async def row_of(oracle: Oracle, request_id: bytes) -> RequestRow:
    row = await oracle.store.get(request_id)
    assert row is not None
    return row


@pytest.mark.parametrize("attempts", [0, 1, 7, 1025, 10**9])
def test_given_any_number_of_attempts_when_backed_off_then_the_pause_is_bounded(attempts: int) -> None:
    assert 0.5 <= backoff(attempts) <= 60.0


async def test_given_a_request_tried_for_days_when_tried_again_then_intake_goes_on_for_everyone(build: Build) -> None:
    oracle = build()
    absent = await oracle.ask(b"picture nowhere", absent=True, deadline=WEEK)
    await oracle.store.move([Move(absent, S.CONFIRMED, attempts=2000, not_before=NOW)], expected=[S.CONFIRMED])
    good = await oracle.ask(b"picture good")
    await oracle.run()
    assert await oracle.status(good) is S.FULFILLED
    row = await row_of(oracle, absent)
    assert (row.status, row.attempts, row.not_before) == (S.CONFIRMED, 2001, NOW + 60)


async def test_given_an_error_that_escapes_one_task_when_stepped_then_the_others_go_on_and_it_is_taken_later(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    odd, good = await oracle.ask(b"picture odd"), await oracle.ask(b"picture good")
    take = oracle.intake._take

    async def escapes(row: RequestRow) -> Move:
        if row.request_id == odd:
            raise OverflowError("a bug")
        return await take(row)

    monkeypatch.setattr(oracle.intake, "_take", escapes)
    await oracle.run()
    assert [await oracle.status(i) for i in (odd, good)] == [S.CONFIRMED, S.FULFILLED]
    monkeypatch.setattr(oracle.intake, "_take", take)
    oracle.clock.time += intake_module.REST + 1
    await oracle.run()
    assert await oracle.status(odd) is S.FULFILLED


async def test_given_one_move_that_cannot_be_written_when_committed_then_its_neighbours_moves_are(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    odd = await oracle.ask(b"picture odd")
    good = [await oracle.ask(b"picture %d" % n) for n in range(3)]
    move = oracle.store.move

    async def chokes(moves: Sequence[Move], *, expected: Sequence[flow.RequestStatus]) -> int:
        for each in moves:
            if each.request_id == odd:
                "\ud800".encode()
        return await move(moves, expected=expected)

    monkeypatch.setattr(oracle.store, "move", chokes)
    await oracle.run()
    assert {await oracle.status(i) for i in good} == {S.FULFILLED}
    assert await oracle.status(odd) is S.CONFIRMED


class SlowNetwork:
    """Fetches that take virtual time: ``slow`` bytes take some seconds, what is held nowhere all that it is given."""

    def __init__(self, oracle: Oracle, slow: dict[Cid, float]) -> None:
        self.oracle, self.slow = oracle, slow
        self.under_way: list[tuple[float, int, asyncio.Future[None]]] = []
        self.order = itertools.count()
        self.most_tried: Counter[str] = Counter()
        self.fetch = oracle.content.fetch
        oracle.content.fetch = self.slowly  # type: ignore[method-assign]

    async def slowly(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        if cid not in self.slow and cid in self.oracle.content.files:
            return await self.fetch(cid, limit=limit, timeout=timeout)
        self.watch()
        takes = self.slow.get(cid, timeout)
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self.under_way, (self.oracle.clock.time + min(takes, timeout), next(self.order), future))
        await future
        if cid not in self.slow or takes > timeout:
            raise ContentUnavailable("not in time")
        return await self.fetch(cid, limit=limit, timeout=timeout)

    def watch(self) -> None:
        tried = Counter(row.request.requester for row, _ in self.oracle.intake._running.values() if row.attempts)
        self.most_tried |= tried
        self.most_tried["all"] = max(self.most_tried["all"], sum(tried.values()))

    def next_ends(self) -> None:
        if self.under_way:
            self.oracle.clock.time, _, future = heapq.heappop(self.under_way)
            future.set_result(None)
        else:
            self.oracle.clock.time += 0.5

    async def until_ready(self, request_id: bytes, *, latest: float) -> float:
        while await self.oracle.status(request_id) is not S.READY and self.oracle.clock.time < NOW + latest:
            step = asyncio.create_task(self.oracle.intake.step())
            while not step.done():
                await asyncio.sleep(0.0005)
                if len(self.under_way) >= self.oracle.intake._places and not step.done():
                    self.next_ends()
            await step
            if len(self.oracle.intake._running) < self.oracle.intake._places:
                self.next_ends()
        return self.oracle.clock.time - NOW


@pytest.mark.parametrize("stranger", [OTHER, REQUESTER])
async def test_given_a_hundred_pictures_nobody_has_when_a_slow_one_is_asked_for_then_it_is_answered_all_the_same(
    build: Build, monkeypatch: pytest.MonkeyPatch, stranger: str
) -> None:
    monkeypatch.setattr(intake_module, "LOOK", 0.001)
    oracle = build()
    oracle.intake._timeout = 30.0
    network = SlowNetwork(oracle, {cid_of(b"picture slow"): 8.0})
    for n in range(100):
        await oracle.ask(b"picture nowhere %d" % n, absent=True, deadline=WEEK)
    slow = await oracle.ask(b"picture slow", deadline=WEEK + 1, requester=stranger)
    latest = 150 if stranger == OTHER else 3600
    assert await network.until_ready(slow, latest=latest) < latest
    assert network.most_tried["all"] <= 4
    assert network.most_tried[REQUESTER] <= 2


async def test_given_an_oracle_that_was_late_itself_when_it_gives_up_then_it_says_so(build: Build) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture", deadline=60)
    oracle.clock.time += 56
    await oracle.intake.step()
    row = await row_of(oracle, request_id)
    assert (row.status, row.failure) == (S.FAILED, FailureReason.IMAGE_UNAVAILABLE)
    assert "not taken in before its deadline came near" in row.detail


async def test_given_a_backoff_beyond_the_deadline_when_there_is_time_for_one_more_try_then_it_is_made(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture late", absent=True, deadline=60)
    await oracle.store.move([Move(request_id, S.CONFIRMED, attempts=8, not_before=NOW)], expected=[S.CONFIRMED])
    while not (await row_of(oracle, request_id)).not_before > NOW:
        await oracle.intake.step()
    again = (await row_of(oracle, request_id)).not_before
    assert again == NOW + 60 - 5 - intake_module.FIRST_TIMEOUT
    oracle.content.hold(b"picture late")
    oracle.clock.time = again
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_little_memory_when_many_pictures_are_asked_for_then_few_are_on_their_way_at_once(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    most = 0
    inspect = oracle.intake._inspector.inspect

    async def watched(data: bytes) -> ImageFacts:
        nonlocal most
        most = max(most, len(oracle.intake._running))
        return await inspect(data)

    monkeypatch.setattr(oracle.intake._inspector, "inspect", watched)
    frugal = intake_module.Intake(
        store=oracle.store, content=oracle.content, inspector=oracle.intake._inspector, spool=oracle.spool,
        models=oracle.intake._models, worth=oracle.intake._worth, clock=oracle.clock, bell=oracle.intake.bell,
        downstream=oracle.intake.bell, failures=oracle.intake.bell,
        concurrency=8, max_bytes=1000, timeout=5.0, margin=5.0, budget=2500,
    )  # fmt: skip
    oracle.intake = frugal
    ids = [await oracle.ask(b"picture %d" % n) for n in range(12)]
    await oracle.run(40)
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    assert most == 2
