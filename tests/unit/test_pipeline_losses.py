"""Work that is lost is done again, alone where it broke its batch; work that is done is kept."""

from __future__ import annotations

import pipeline_flow as flow
import pytest
from doubles import ScriptedBackend, cid_of, sevens

from oracle.domain import ComputeTask, FailureReason, ItemResult, LabelScore, TaskResult
from oracle.errors import RpcUnavailable, WorkerLost
from oracle.pipeline import runner as runner_module

pytestmark = pytest.mark.unit

S, Build = flow.S, flow.Build
build = flow.build


def breaks_on(picture: bytes, error: Exception) -> ScriptedBackend:
    """A backend that ends each task with this error that has the picture among its inputs."""

    def script(task: ComputeTask) -> TaskResult | Exception:
        return error if any(source.image_cid == cid_of(picture) for source in task.inputs) else sevens(task)

    return ScriptedBackend(script=script)


async def test_given_a_worker_that_dies_once_when_retried_then_the_members_run_alone_and_are_answered(
    build: Build,
) -> None:
    deaths = iter([True])
    backend = ScriptedBackend(script=lambda task: WorkerLost("killed") if next(deaths, False) else sevens(task))
    oracle = build(backend)
    ids = [await oracle.ask(b"picture %d" % n) for n in range(3)]
    await oracle.run(5)
    oracle.clock.time += 5
    await oracle.run(20)
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    assert sorted(len(task.inputs) for task in backend.submitted) == [1, 1, 1, 3]
    assert list(backend.settled.values()).count(False) == 1


async def test_given_a_picture_that_kills_every_worker_when_its_tries_are_used_up_then_only_it_fails(
    build: Build,
) -> None:
    oracle = build(breaks_on(b"picture poison", WorkerLost("killed")))
    poison = await oracle.ask(b"picture poison")
    good = [await oracle.ask(b"picture %d" % n) for n in range(5)]
    await oracle.run_for(rounds=8, steps=4, pause=10)
    assert oracle.chain.final[poison].reason is FailureReason.COMPUTE_FAILED
    assert {await oracle.status(i) for i in good} == {S.FULFILLED}


async def test_given_a_killed_oracle_when_another_starts_on_its_database_then_the_batch_is_done_again_once(
    build: Build,
) -> None:
    stuck = ScriptedBackend()
    stuck.gate.clear()
    first = build(stuck)
    request_id = await first.ask(b"picture")
    await first.run(5)
    assert await first.status(request_id) is S.COMPUTING
    await first.die()

    second = build()
    second.content.files |= first.content.files
    await second.runner.recover()
    await second.run()
    assert await second.status(request_id) is S.FULFILLED
    assert len(second.backend.submitted) == 1


async def test_given_a_batch_that_nobody_follows_when_looked_for_then_its_members_go_back_and_it_counts(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture")
    await oracle.take_in(request_id)
    await oracle.store.open_batch("stray", [request_id])
    monkeypatch.setattr(runner_module, "RECOVERY", 0.0)
    await oracle.runner.step()
    row = await oracle.store.get(request_id)
    assert row is not None
    assert (row.status, row.attempts) == (S.READY, 1)
    assert oracle.backend.settled == {"stray": False}


async def test_given_spooled_bytes_that_vanished_when_the_batch_closes_then_the_picture_is_fetched_again(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture gone")
    await oracle.take_in(request_id)
    await oracle.spool.discard([cid_of(b"picture gone")])
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_picture_that_left_the_spool_while_computed_when_pinned_then_the_results_are_kept(
    build: Build,
) -> None:
    backend = ScriptedBackend()
    backend.gate.clear()
    oracle = build(backend)
    ids = [await oracle.ask(b"picture %d" % n) for n in range(2)]
    await oracle.run(5)
    await oracle.spool.discard([cid_of(b"picture 0")])
    backend.gate.set()
    await oracle.run(5)
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    assert len(backend.submitted) == 1


async def test_given_an_rpc_that_fails_once_a_batch_is_submitted_when_it_ends_then_the_finished_work_is_kept(
    build: Build,
) -> None:
    oracle = build()
    submit = oracle.backend.submit

    async def gone(_: int) -> None:
        raise RpcUnavailable("gone")

    async def submits(task: ComputeTask) -> None:
        await submit(task)
        oracle.chain.model = gone  # type: ignore[method-assign, assignment]
        oracle.clock.time += 60  # what is remembered of the registry is too old by now

    oracle.backend.submit = submits  # type: ignore[method-assign]
    request_id = await oracle.ask(b"picture")
    await oracle.run(5)
    assert await oracle.status(request_id) is S.FULFILLED
    assert len(oracle.backend.submitted) == 1


async def test_given_an_rpc_that_fails_at_the_start_when_a_batch_is_recovered_then_the_finished_work_is_kept(
    build: Build,
) -> None:
    backend = ScriptedBackend()
    backend.gate.clear()
    first = build(backend)
    request_id = await first.ask(b"picture")
    await first.run(5)
    await first.die()

    second = build(backend)
    second.content.files |= first.content.files
    faults, model = [RpcUnavailable("gone")] * 3, second.chain.model

    async def hiccups(model_id: int) -> object:
        if faults:
            raise faults.pop()
        return await model(model_id)

    second.chain.model = hiccups  # type: ignore[method-assign, assignment]
    backend.gate.set()
    await second.runner.recover()
    await second.run()
    assert await second.status(request_id) is S.FULFILLED
    assert len(backend.submitted) == 1


async def test_given_an_error_of_ours_in_one_request_when_taken_in_then_the_others_go_on_and_it_is_tried_again(
    build: Build,
) -> None:
    oracle = build()
    odd, good = await oracle.ask(b"picture odd"), await oracle.ask(b"picture good")
    oracle.content.faults[cid_of(b"picture odd")] = [ZeroDivisionError("a bug")]
    await oracle.run()
    assert [await oracle.status(i) for i in (odd, good)] == [S.CONFIRMED, S.FULFILLED]
    oracle.clock.time += 2
    await oracle.run()
    assert await oracle.status(odd) is S.FULFILLED


async def test_given_an_error_of_ours_while_a_batch_is_followed_then_its_members_are_run_again(build: Build) -> None:
    oracle = build(ScriptedBackend(script=lambda task: bugs.pop() if bugs else sevens(task)))
    bugs: list[TaskResult | Exception] = [ZeroDivisionError("a bug")]
    request_id = await oracle.ask(b"picture")
    await oracle.run()
    assert await oracle.status(request_id) is S.READY
    oracle.clock.time += 2
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED
    assert sorted(oracle.backend.settled.values()) == [False, True]


async def test_given_a_member_that_always_meets_a_bug_of_ours_when_followed_then_its_neighbours_are_answered_alone(
    build: Build,
) -> None:
    oracle = build(breaks_on(b"picture odd", ZeroDivisionError("a bug")))
    odd = await oracle.ask(b"picture odd")
    good = [await oracle.ask(b"picture %d" % n) for n in range(3)]
    await oracle.run_for(rounds=8, steps=4, pause=10)
    assert {await oracle.status(i) for i in good} == {S.FULFILLED}
    assert oracle.chain.final[odd].reason is FailureReason.COMPUTE_FAILED


async def test_given_a_label_that_has_no_bytes_when_results_are_written_down_then_only_its_request_fails(
    build: Build,
) -> None:
    def script(task: ComputeTask) -> TaskResult:
        items = [
            ItemResult(source.request_id, (LabelScore(7, "\ud800", 0.9),))
            if source.image_cid == cid_of(b"picture odd")
            else item
            for source, item in zip(task.inputs, sevens(task).items, strict=True)
        ]
        return TaskResult(task.key, "scripted-0", tuple(items), 1.0, 1.1, 0.1)

    oracle = build(ScriptedBackend(script=script))
    odd = await oracle.ask(b"picture odd")
    good = [await oracle.ask(b"picture %d" % n) for n in range(3)]
    await oracle.run(10)
    assert {await oracle.status(i) for i in good} == {S.FULFILLED}
    for _ in range(6):
        oracle.clock.time += 10
        await oracle.run(4)
    assert oracle.chain.final[odd].reason is FailureReason.COMPUTE_FAILED
    assert sorted(len(task.inputs) for task in oracle.backend.submitted) == [1, 1, 4]
