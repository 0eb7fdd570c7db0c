"""What was asked is answered: pictures in, pinned results, drawings and the chain's answers out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pipeline_flow as flow
import pytest
from doubles import REQUESTER, ScriptedBackend, cid_of, sevens

from oracle.answers import ClassificationAnswer
from oracle.domain import Cid, ComputeTask, FailureReason, ItemResult, OnChainStatus, TaskResult
from oracle.errors import ContentUnavailable
from oracle.pipeline import runner as runner_module
from oracle.store import DirectoryWishes

pytestmark = pytest.mark.unit

S, Build = flow.S, flow.Build
build = flow.build


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


async def test_given_forty_pictures_when_the_pipeline_runs_then_every_one_is_answered_once(build: Build) -> None:
    oracle = build()
    ids = [await oracle.ask(b"picture %d" % n) for n in range(40)]
    await oracle.run(60)
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    assert len(oracle.chain.final) == 40
    assert all(len(task.inputs) <= 16 for task in oracle.backend.submitted)
    assert not any(receipt.skipped for receipt in oracle.chain.receipts.values())


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


async def test_given_a_result_about_a_picture_of_another_size_when_it_comes_then_it_is_not_posted(
    build: Build,
) -> None:
    def other(task: ComputeTask) -> TaskResult:
        whole = sevens(task)
        items = tuple(replace(item, labels=(), size=(9, 9)) for item in whole.items)
        return replace(whole, items=items)

    oracle = build(ScriptedBackend(script=other))
    request_id = await oracle.ask(b"picture one")
    await oracle.run_for(rounds=6, steps=5, pause=20)
    assert oracle.chain.final[request_id].status is not OnChainStatus.FULFILLED
    assert not any(oracle.backend.settled.values())


async def test_given_a_result_for_other_requests_when_collected_then_it_is_refused(build: Build) -> None:
    def script(task: ComputeTask) -> TaskResult:
        honest = sevens(task)
        stranger = ItemResult(b"\1" * 32, honest.items[0].labels)
        return TaskResult(task.key, "liar", (stranger,), 1.0, 1.1, 0.1)

    backend = ScriptedBackend(script=script)
    oracle = build(backend)
    request_id = await oracle.ask(b"picture")
    await oracle.run_for(rounds=8, steps=4, pause=10)
    assert oracle.chain.final[request_id].reason is FailureReason.COMPUTE_FAILED
    assert not any(backend.settled.values())
