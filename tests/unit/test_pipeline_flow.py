"""From a confirmed request to a settled one: intake, runner and settler over the real store and doubles of the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
from doubles import (
    REQUESTER,
    FolderSpool,
    MemoryChain,
    MemoryContent,
    NamingIllustrator,
    PrefixInspector,
    ScriptedBackend,
    SteppedClock,
    a_request,
    block,
    cid_of,
    seen,
    sevens,
)

from oracle.answers import ClassificationAnswer
from oracle.domain import (
    BlockRef,
    Cid,
    ComputeTask,
    FailureReason,
    ItemResult,
    LabelScore,
    LogPosition,
    OnChainStatus,
    RequestSettled,
    RequestStatus,
    ServableModel,
    TaskResult,
)
from oracle.errors import BudgetExhausted, ContentUnavailable, RpcUnavailable, WorkerLost
from oracle.pipeline import runner as runner_module
from oracle.pipeline.batcher import BatchLimits
from oracle.pipeline.duty import Bell
from oracle.pipeline.intake import Intake
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.runner import Runner
from oracle.pipeline.settler import Settler
from oracle.pipeline.worth import Worth
from oracle.store import DirectoryWishes, SqliteRequestStore

pytestmark = pytest.mark.unit

NOW = 2_000_000_000.0
WEIGHTS = b"weights"
S = RequestStatus


@dataclass
class Oracle:
    store: SqliteRequestStore
    chain: MemoryChain
    content: MemoryContent
    backend: ScriptedBackend
    spool: FolderSpool
    clock: SteppedClock
    intake: Intake
    runner: Runner
    settler: Settler
    illustrator: NamingIllustrator
    nonce: int = 0

    async def ask(
        self,
        data: bytes,
        *,
        model_id: int = 1,
        deadline: float = 600,
        absent: bool = False,
        callback_gas: int = 0,
        requester: str = REQUESTER,
        payment: int = 10**15,
    ) -> bytes:
        image = cid_of(data) if absent else self.content.hold(data)
        self.nonce += 1
        request = a_request(
            self.nonce,
            image=image,
            deadline=int(NOW + deadline),
            model_id=model_id,
            callback_gas=callback_gas,
            requester=requester,
            payment=payment,
        )
        at = block(50)
        await self.store.commit_scan([seen(request, at)], [at], at)
        await self.store.confirm(50)
        return request.request_id

    async def run(self, steps: int = 30) -> None:
        for _ in range(steps):
            await self.intake.step()
            await self.runner.step()
            await asyncio.sleep(0.001)
            await self.settler.step()

    async def status(self, request_id: bytes) -> RequestStatus:
        row = await self.store.get(request_id)
        assert row is not None
        return row.status


def manifest(**changes: object) -> bytes:
    document = json.loads((Path("provider_images/mnist/manifest.json")).read_text())
    document["weights"] |= {"cid": cid_of(WEIGHTS).text, "sha256": cid_of(WEIGHTS).digest.hex(), "bytes": len(WEIGHTS)}
    return json.dumps(document | changes).encode()


Build = Callable[..., Oracle]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    built: list[Oracle] = []

    def make(
        backend: ScriptedBackend | None = None,
        database: str = "one",
        prices: dict[str, Fraction] | None = None,
        hold: float = 0.0,
    ) -> Oracle:
        content = MemoryContent()
        content.hold(WEIGHTS)
        models = {1: content.hold(manifest()), 2: content.hold(manifest(engine="abacus"))}
        chain, clock = MemoryChain(models), SteppedClock(NOW)
        spool = FolderSpool(tmp_path)
        backend = backend or ScriptedBackend()
        store = SqliteRequestStore(tmp_path / f"{database}.sqlite3", now=clock.now, hold=hold)
        catalogue = ModelCatalogue(chain=chain, content=content, spool=spool, backend=backend, clock=clock, timeout=5.0)
        worth = Worth(catalogue, prices or {})
        settler = Settler(
            store=store, chain=chain, sender=chain, spool=spool, worth=worth, clock=clock,
            confirmations=1, items=16, in_flight=2, replace_after=60.0, posting_time=2.5, cost_ratio=1000.0,
            wall=clock.now,
        )  # fmt: skip
        upstream, illustrator = Bell(), NamingIllustrator()
        wishes = DirectoryWishes(tmp_path / "wishes")
        intake = Intake(
            store=store, content=content, inspector=PrefixInspector(), spool=spool, models=catalogue, worth=worth,
            clock=clock, bell=Bell(), downstream=Bell(), failures=settler.bell,
            concurrency=8, max_bytes=1000, timeout=5.0, margin=5.0,
        )  # fmt: skip
        runner = Runner(
            store=store, backend=backend, content=content, illustrator=illustrator, spool=spool, models=catalogue,
            wishes=wishes, clock=clock, bell=Bell(), downstream=settler.bell, upstream=upstream,
            coming=lambda: intake.coming, limits=BatchLimits(linger=0.0), timeout=60.0, margin=5.0, max_attempts=3,
        )  # fmt: skip
        oracle = Oracle(store, chain, content, backend, spool, clock, intake, runner, settler, illustrator)
        built.append(oracle)
        return oracle

    yield make
    for oracle in built:
        await oracle.intake.close()
        await oracle.runner.close()
        await oracle.store.close()


async def test_given_a_picture_when_the_pipeline_runs_then_the_pinned_result_and_the_chain_agree(build: Build) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture one")
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED
    posted = oracle.chain.final[request_id]
    assert posted.status is OnChainStatus.FULFILLED
    assert posted.result_cid is not None
    document = json.loads(oracle.content.files[posted.result_cid])
    assert document["labels"][0] == {"index": 7, "label": "7", "probability": 0.9}
    assert document["input"]["cid"] == cid_of(b"picture one").text
    assert document["request"] == "0x" + request_id.hex()
    assert ClassificationAnswer.decode(posted.answer).entries[0].class_index == 7
    drawing = document["files"]["labels"]
    assert json.loads(oracle.content.files[Cid.parse(drawing["cid"])]) == document["labels"]


async def test_given_drawings_that_do_not_end_when_the_pipeline_runs_then_results_are_posted_without(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "DRAWING", 0.05)
    oracle = build()
    oracle.illustrator.stuck = True
    request_id = await oracle.ask(b"picture one")
    async with asyncio.timeout(10):
        while await oracle.status(request_id) is not S.FULFILLED:
            await oracle.run(5)
    posted = oracle.chain.final[request_id]
    assert posted.result_cid is not None
    assert json.loads(oracle.content.files[posted.result_cid])["files"] == {}


async def test_given_drawings_that_cannot_be_pinned_when_the_pipeline_runs_then_results_are_posted_without(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    add = oracle.content.add

    async def picky(files: Sequence[bytes]) -> Sequence[Cid]:
        if any(file.startswith(b"[") for file in files):  # what the double draws
            raise ContentUnavailable("too large")
        return await add(files)

    monkeypatch.setattr(oracle.content, "add", picky)
    request_id = await oracle.ask(b"picture one")
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_result_about_a_picture_of_another_size_when_it_comes_then_it_is_not_posted(
    build: Build,
) -> None:
    def other(task: ComputeTask) -> TaskResult:
        whole = sevens(task)
        items = tuple(replace(item, labels=(), size=(9, 9)) for item in whole.items)
        return replace(whole, items=items)

    oracle = build(ScriptedBackend(script=other))
    request_id = await oracle.ask(b"picture one")
    for _ in range(6):
        await oracle.run(5)
        oracle.clock.time += 20
    assert oracle.chain.final[request_id].status is not OnChainStatus.FULFILLED
    assert not any(oracle.backend.settled.values())


async def test_given_results_that_cannot_be_drawn_when_the_pipeline_runs_then_they_are_posted_without(
    build: Build,
) -> None:
    oracle = build()
    oracle.illustrator.broken = True
    request_id = await oracle.ask(b"picture one")
    await oracle.run()
    posted = oracle.chain.final[request_id]
    assert posted.result_cid is not None
    assert json.loads(oracle.content.files[posted.result_cid])["files"] == {}


async def test_given_forty_pictures_when_the_pipeline_runs_then_every_one_is_answered_once(build: Build) -> None:
    oracle = build()
    ids = [await oracle.ask(b"picture %d" % n) for n in range(40)]
    await oracle.run(60)
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    assert len(oracle.chain.final) == 40
    assert all(len(task.inputs) <= 16 for task in oracle.backend.submitted)
    assert not any(receipt.skipped for receipt in oracle.chain.receipts.values())


async def test_given_bytes_that_are_no_picture_when_taken_in_then_the_money_goes_back_with_the_reason(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"a love letter")
    await oracle.run()
    assert await oracle.status(request_id) is S.REJECTED
    assert oracle.chain.final[request_id].reason is FailureReason.IMAGE_UNREADABLE


async def test_given_a_model_nobody_can_run_when_taken_in_then_it_fails_without_fetching_the_picture(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture", model_id=2)
    unknown = await oracle.ask(b"picture", model_id=9)
    await oracle.run()
    for each in (request_id, unknown):
        assert oracle.chain.final[each].reason is FailureReason.MODEL_UNAVAILABLE
    assert cid_of(b"picture") not in oracle.content.fetched


async def test_given_a_picture_that_appears_late_when_tries_go_on_then_it_is_answered(build: Build) -> None:
    oracle = build()
    oracle.content.faults[cid_of(b"picture late")] = [ContentUnavailable("not yet"), ContentUnavailable("not yet")]
    request_id = await oracle.ask(b"picture late")
    for _ in range(6):
        await oracle.run(3)
        oracle.clock.time += 2
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
    def script(task: ComputeTask) -> TaskResult | Exception:
        poison = any(source.image_cid == cid_of(b"picture poison") for source in task.inputs)
        return WorkerLost("killed") if poison else sevens(task)

    oracle = build(ScriptedBackend(script=script))
    poison = await oracle.ask(b"picture poison")
    good = [await oracle.ask(b"picture %d" % n) for n in range(5)]
    for _ in range(8):
        await oracle.run(4)
        oracle.clock.time += 10
    assert oracle.chain.final[poison].reason is FailureReason.COMPUTE_FAILED
    assert {await oracle.status(i) for i in good} == {S.FULFILLED}


async def test_given_a_result_for_other_requests_when_collected_then_it_is_refused(build: Build) -> None:
    def script(task: ComputeTask) -> TaskResult:
        honest = sevens(task)
        stranger = ItemResult(b"\1" * 32, honest.items[0].labels)
        return TaskResult(task.key, "liar", (stranger,), 1.0, 1.1, 0.1)

    backend = ScriptedBackend(script=script)
    oracle = build(backend)
    request_id = await oracle.ask(b"picture")
    for _ in range(8):
        await oracle.run(4)
        oracle.clock.time += 10
    assert oracle.chain.final[request_id].reason is FailureReason.COMPUTE_FAILED
    assert not any(backend.settled.values())


async def test_given_a_backend_that_rejects_one_item_when_collected_then_its_neighbours_are_answered(
    build: Build,
) -> None:
    def script(task: ComputeTask) -> TaskResult:
        items = list(sevens(task).items)
        items[0] = ItemResult(items[0].request_id, failure=FailureReason.IMAGE_UNREADABLE, detail="half a picture")
        return TaskResult(task.key, "scripted-0", tuple(items), 1.0, 1.1, 0.1)

    oracle = build(ScriptedBackend(script=script))
    ids = [await oracle.ask(b"picture %d" % n) for n in range(3)]
    await oracle.run()
    assert sorted([await oracle.status(i) for i in ids]) == [S.FULFILLED, S.FULFILLED, S.REJECTED]


async def test_given_a_store_that_is_down_when_results_are_pinned_then_the_work_is_not_done_again(
    build: Build,
) -> None:
    oracle = build()
    oracle.content.add_faults = [ContentUnavailable("down"), ContentUnavailable("down")]
    request_id = await oracle.ask(b"picture")
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED
    assert len(oracle.backend.submitted) == 1


async def test_given_an_rpc_that_fails_after_the_report_was_saved_when_stepped_again_then_the_same_bytes_are_sent(
    build: Build,
) -> None:
    oracle = build()
    oracle.chain.broadcast_faults = [RpcUnavailable("gone")]
    request_id = await oracle.ask(b"picture")
    with pytest.raises(RpcUnavailable):
        await oracle.run()
    (saved,) = await oracle.store.open_reports()
    assert await oracle.status(request_id) is S.POSTING
    await oracle.run(3)
    assert oracle.chain.broadcasts == [saved.report.transaction_hash]
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_report_that_is_not_mined_when_its_time_is_up_then_it_is_replaced_at_the_same_nonce(
    build: Build,
) -> None:
    oracle = build()
    oracle.chain.mining = False
    request_id = await oracle.ask(b"picture")
    await oracle.run()
    (first,) = await oracle.store.open_reports()
    oracle.clock.time += 61
    oracle.chain.height += 1
    oracle.chain.outbid = True
    await oracle.settler.step()
    reports = await oracle.store.open_reports()
    assert {stored.report.nonce for stored in reports} == {first.report.nonce}
    assert max(stored.report.fees.max_fee for stored in reports) > first.report.fees.max_fee * 1.125
    oracle.chain.mine()
    await oracle.run(3)
    assert await oracle.status(request_id) is S.FULFILLED
    assert await oracle.store.open_reports() == []


async def test_given_a_request_that_would_revert_the_report_when_sent_then_its_neighbours_are_posted_without_it(
    build: Build,
) -> None:
    oracle = build()
    ids = [await oracle.ask(b"picture %d" % n) for n in range(4)]
    oracle.chain.poison = {ids[2]}
    await oracle.run()
    assert [await oracle.status(i) for i in ids] == [S.FULFILLED, S.FULFILLED, S.COMPUTED, S.FULFILLED]


async def test_given_a_stranger_who_settled_first_when_our_report_lands_then_the_store_follows_the_chain(
    build: Build,
) -> None:
    oracle = build()
    oracle.chain.mining = False
    request_id = await oracle.ask(b"picture")
    await oracle.run()
    oracle.chain.final[request_id] = RequestSettled(
        request_id, OnChainStatus.REFUNDED, LogPosition(block(100), b"\2" * 32, 0)
    )
    oracle.chain.mine()
    await oracle.run(3)
    assert await oracle.status(request_id) is S.REFUNDED


async def test_given_a_deadline_that_passes_when_nothing_was_posted_then_the_request_expires(build: Build) -> None:
    backend = ScriptedBackend()
    backend.gate.clear()
    oracle = build(backend)
    request_id = await oracle.ask(b"picture", deadline=100)
    await oracle.run(5)
    oracle.clock.time += 101
    late = BlockRef(60, b"\6" * 32, int(NOW + 101))
    await oracle.store.commit_scan([], [late], late)
    await oracle.settler.step()
    assert await oracle.status(request_id) is S.EXPIRED
    backend.gate.set()
    await oracle.run(5)
    assert await oracle.status(request_id) is S.EXPIRED
    assert oracle.chain.final == {}


async def test_given_a_killed_oracle_when_another_starts_on_its_database_then_the_batch_is_done_again_once(
    build: Build,
) -> None:
    stuck = ScriptedBackend()
    stuck.gate.clear()
    first = build(stuck)
    request_id = await first.ask(b"picture")
    await first.run(5)
    assert await first.status(request_id) is S.COMPUTING
    await first.runner.close()
    await first.store.close()

    second = build()
    second.content.files |= first.content.files
    await second.runner.recover()
    await second.run()
    assert await second.status(request_id) is S.FULFILLED
    assert len(second.backend.submitted) == 1


async def test_given_two_requests_for_one_picture_when_the_first_is_settled_then_the_second_still_has_it(
    build: Build,
) -> None:
    oracle = build()
    first = await oracle.ask(b"picture shared")
    await oracle.run()
    assert await oracle.status(first) is S.FULFILLED
    assert oracle.spool.path(cid_of(b"picture shared")) is None
    second = await oracle.ask(b"picture shared")
    await oracle.run()
    assert await oracle.status(second) is S.FULFILLED


async def test_given_spooled_bytes_that_vanished_when_the_batch_closes_then_the_picture_is_fetched_again(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture gone")
    while await oracle.status(request_id) is not S.READY:
        await oracle.intake.step()
    await oracle.spool.discard([cid_of(b"picture gone")])
    await oracle.run()
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_an_item_the_coordinator_does_not_know_when_skipped_then_it_is_not_posted_in_a_loop(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture")
    oracle.chain.mining = False
    await oracle.run()
    oracle.chain.final[request_id] = RequestSettled(
        request_id, OnChainStatus.UNKNOWN, LogPosition(block(100), b"\2" * 32, 0)
    )
    oracle.chain.mining = True
    oracle.chain.mine()
    await oracle.run(10)
    assert await oracle.status(request_id) is S.COMPUTED
    assert len(oracle.chain.broadcasts) == 1
    del oracle.chain.final[request_id]
    oracle.clock.time += 61
    await oracle.run(3)
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_nonce_spent_by_a_foreign_transaction_when_found_out_then_the_answers_are_posted_at_another(
    build: Build,
) -> None:
    oracle = build()
    oracle.chain.mining = False
    request_id = await oracle.ask(b"picture")
    await oracle.run()
    oracle.chain.pending.clear()
    oracle.chain.nonce = 1
    oracle.clock.time += 61
    await oracle.settler.step()
    assert await oracle.store.open_reports() == []
    oracle.chain.mining = True
    await oracle.run(5)
    assert await oracle.status(request_id) is S.FULFILLED
    assert {receipt.block.number for receipt in oracle.chain.receipts.values()} != set()


async def test_given_hungry_callbacks_when_reported_then_no_report_asks_for_more_gas_than_a_transaction_may_use(
    build: Build,
) -> None:
    oracle = build()
    ids = [await oracle.ask(b"picture %d" % n, callback_gas=2_550_000) for n in range(7)]
    await oracle.run()
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    assert sorted(len(receipt.settled) for receipt in oracle.chain.receipts.values()) == [1, 3, 3]


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
    await first.runner.close()
    await first.store.close()

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


async def test_given_a_member_that_always_meets_a_bug_of_ours_when_followed_then_its_neighbours_are_answered_alone(
    build: Build,
) -> None:
    def script(task: ComputeTask) -> TaskResult | Exception:
        odd = any(source.image_cid == cid_of(b"picture odd") for source in task.inputs)
        return ZeroDivisionError("a bug") if odd else sevens(task)

    oracle = build(ScriptedBackend(script=script))
    odd = await oracle.ask(b"picture odd")
    good = [await oracle.ask(b"picture %d" % n) for n in range(3)]
    for _ in range(8):
        await oracle.run(4)
        oracle.clock.time += 10
    assert {await oracle.status(i) for i in good} == {S.FULFILLED}
    assert oracle.chain.final[odd].reason is FailureReason.COMPUTE_FAILED


async def test_given_a_batch_that_nobody_follows_when_looked_for_then_its_members_go_back_and_it_counts(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture")
    while await oracle.status(request_id) is not S.READY:
        await oracle.intake.step()
    await oracle.store.open_batch("stray", [request_id])
    monkeypatch.setattr(runner_module, "RECOVERY", 0.0)
    await oracle.runner.step()
    row = await oracle.store.get(request_id)
    assert row is not None
    assert (row.status, row.attempts) == (S.READY, 1)
    assert oracle.backend.settled == {"stray": False}


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


async def test_given_a_request_whose_deadline_has_come_near_when_its_turn_comes_then_no_worker_is_spent_on_it(
    build: Build,
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture", deadline=100)
    while await oracle.status(request_id) is not S.READY:
        await oracle.intake.step()
    oracle.clock.time += 96
    await oracle.runner.step()
    assert await oracle.status(request_id) is S.FAILED
    assert oracle.backend.submitted == []


async def test_given_a_model_that_takes_long_to_come_back_when_restarted_then_ready_requests_wait_for_it(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture")
    while await oracle.status(request_id) is not S.READY:
        await oracle.intake.step()
    catalogue = oracle.runner._models
    resolve, tries = catalogue.resolve, iter(range(10))

    async def still_loading(model_id: int) -> ServableModel:
        if next(tries, None) is not None:
            raise ContentUnavailable("the weights are on their way")
        return await resolve(model_id)

    monkeypatch.setattr(catalogue, "resolve", still_loading)
    for _ in range(15):
        await oracle.run(2)
        oracle.clock.time += 3
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_wish_for_a_provider_when_the_batch_closes_then_that_picture_goes_there_alone(
    build: Build, tmp_path: Path
) -> None:
    oracle = build()
    DirectoryWishes(tmp_path / "wishes").wish(REQUESTER, cid_of(b"picture 2"), "ada")
    ids = [await oracle.ask(b"picture %d" % n) for n in range(4)]
    await oracle.run()
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    asked = {task.provider: [item.image_cid for item in task.inputs] for task in oracle.backend.submitted}
    assert asked == {"ada": [cid_of(b"picture 2")], "": [cid_of(b"picture %d" % n) for n in (0, 1, 3)]}


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
    for _ in range(8):
        await oracle.run(10)
        oracle.clock.time += 31
    assert refusals == 0
    assert await oracle.status(request_id) is S.FULFILLED
