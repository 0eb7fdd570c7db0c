"""What is not there yet is waited for as long as the request's time allows, and nobody else waits with it."""

from __future__ import annotations

import asyncio

import pipeline_flow as flow
import pytest
from doubles import cid_of

from oracle.domain import Cid, ComputeTask, FailureReason, ServableModel
from oracle.errors import BudgetExhausted, ContentUnavailable

pytestmark = pytest.mark.unit

NOW, S, Build, manifest = flow.NOW, flow.S, flow.Build, flow.manifest
build = flow.build


async def test_given_a_picture_that_appears_late_when_tries_go_on_then_it_is_answered(build: Build) -> None:
    oracle = build()
    oracle.content.faults[cid_of(b"picture late")] = [ContentUnavailable("not yet"), ContentUnavailable("not yet")]
    request_id = await oracle.ask(b"picture late")
    await oracle.run_for(rounds=6, steps=3, pause=2)
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_picture_that_never_appears_when_the_slack_is_gone_then_it_fails_before_the_deadline(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture nowhere", absent=True, deadline=60)
    while oracle.clock.time < NOW + 55 and await oracle.status(request_id) is not S.REJECTED:
        await oracle.run(2)
        oracle.clock.time += 5
    assert oracle.chain.final[request_id].reason is FailureReason.IMAGE_UNAVAILABLE
    assert oracle.clock.time < NOW + 60


async def test_given_a_flood_of_pictures_that_nobody_has_when_others_ask_then_they_are_answered_first(
    build: Build,
) -> None:
    oracle = build()
    for n in range(60):
        await oracle.ask(b"picture nowhere %d" % n, absent=True, deadline=300)
    await oracle.run(20)
    oracle.clock.time += 1
    good = await oracle.ask(b"picture good", deadline=6000)
    await oracle.run(8)
    assert await oracle.status(good) is S.FULFILLED


async def test_given_a_model_that_loads_slowly_when_another_is_asked_then_it_does_not_wait(build: Build) -> None:
    oracle = build()
    slow = oracle.content.hold(manifest(name="slow"))
    oracle.chain.models = {**oracle.chain.models, 3: slow}
    gate = asyncio.Event()
    fetch = oracle.content.fetch

    async def stalls(cid: Cid, *, limit: int, timeout: float) -> bytes:
        if cid == slow:
            await gate.wait()
        return await fetch(cid, limit=limit, timeout=timeout)

    oracle.content.fetch = stalls  # type: ignore[method-assign]
    waits = await oracle.ask(b"picture one", model_id=3)
    quick = await oracle.ask(b"picture two")
    await oracle.run()
    assert [await oracle.status(i) for i in (waits, quick)] == [S.CONFIRMED, S.FULFILLED]
    gate.set()
    await oracle.run()
    assert await oracle.status(waits) is S.FULFILLED


async def test_given_a_model_that_takes_long_to_come_back_when_restarted_then_ready_requests_wait_for_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture")
    await oracle.take_in(request_id)
    catalogue = oracle.runner._models
    resolve, tries = catalogue.resolve, iter(range(10))

    async def still_loading(model_id: int) -> ServableModel:
        if next(tries, None) is not None:
            raise ContentUnavailable("the weights are on their way")
        return await resolve(model_id)

    monkeypatch.setattr(catalogue, "resolve", still_loading)
    await oracle.run_for(rounds=15, steps=2, pause=3)
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_budget_that_is_used_up_when_submitted_then_requests_wait_and_it_is_no_attempt_of_theirs(
    build: Build,
) -> None:
    oracle = build()
    submit = oracle.backend.submit
    refusals = 5

    async def poor(task: ComputeTask) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise BudgetExhausted("the last 24 hours cost 10 GLM of 10")
        await submit(task)

    oracle.backend.submit = poor  # type: ignore[method-assign]
    request_id = await oracle.ask(b"picture one", deadline=3600)
    await oracle.run_for(rounds=8, steps=10, pause=31)
    assert refusals == 0
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_store_that_is_down_when_results_are_pinned_then_the_work_is_not_done_again(
    build: Build,
) -> None:
    oracle = build()
    oracle.content.add_faults = [ContentUnavailable("down"), ContentUnavailable("down")]
    request_id = await oracle.ask(b"picture")
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED
    assert len(oracle.backend.submitted) == 1


async def test_given_a_store_that_is_down_for_long_when_results_are_pinned_then_the_finished_work_is_kept(
    build: Build,
) -> None:
    oracle = build()
    oracle.content.add_faults = [ContentUnavailable("down")] * 20
    request_id = await oracle.ask(b"picture", deadline=6000)
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED
    assert len(oracle.backend.submitted) == 1
    assert list(oracle.backend.settled.values()) == [True]


async def test_given_a_store_that_stays_down_when_the_slack_is_gone_then_the_request_fails_before_its_deadline(
    build: Build,
) -> None:
    oracle = build()
    oracle.content.add_faults = [ContentUnavailable("down")] * 1000
    request_id = await oracle.ask(b"picture", deadline=600)
    await oracle.run()
    assert oracle.chain.final[request_id].reason is FailureReason.COMPUTE_FAILED
    assert oracle.clock.time < NOW + 600
    assert len(oracle.backend.submitted) == 1


async def test_given_a_request_whose_deadline_has_come_near_when_its_turn_comes_then_no_worker_is_spent_on_it(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture", deadline=100)
    await oracle.take_in(request_id)
    oracle.clock.time += 96
    await oracle.runner.step()
    assert await oracle.status(request_id) is S.FAILED
    assert oracle.backend.submitted == []
