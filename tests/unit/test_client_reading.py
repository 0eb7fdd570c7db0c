"""What a requester reads: a wait through bad moments, documents that lie, and what somebody holds, verified."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import pytest

from oracle.answers import AnswerEntry, ClassificationAnswer
from oracle.client import Client, HistoryTooLong, NotAnsweredYet, Outcome, UnknownRequest
from oracle.client.comparing import same_model
from oracle.devnet.stack import shipped_files
from oracle.documents import read_result
from oracle.domain import LabelScore, OnChainStatus, SegmentScore
from oracle.errors import ContentCorrupt, ContentUnavailable, RpcUnavailable, SibylError
from oracle.manifests import read_manifest
from tests.unit.client_doubles import RAW, REQUEST, answered, client_of, document, manifest
from tests.unit.doubles import cid_of

pytestmark = pytest.mark.unit

# ---------------------------------------------------------------------------------------------------------------
# Waiting
# ---------------------------------------------------------------------------------------------------------------


async def test_given_an_endpoint_that_fails_for_a_moment_when_waiting_then_the_answer_comes_all_the_same() -> None:
    chain, content = answered(RAW)
    chain.statuses = [
        OnChainStatus.PENDING,
        RpcUnavailable("a bad moment"),
        RpcUnavailable("another"),
        OnChainStatus.FULFILLED,
    ]
    outcome = await client_of(chain, content).wait(REQUEST, timeout=5)
    assert outcome.label == "7"


async def test_given_nodes_that_lag_when_waiting_then_neither_a_missing_log_nor_an_unknown_id_ends_it() -> None:
    chain, content = answered(RAW)
    (whole,) = chain.logs
    chain.statuses = [OnChainStatus.UNKNOWN, OnChainStatus.PENDING, OnChainStatus.FULFILLED]
    chain.logs = [[], whole[:1], whole[:1], whole]
    outcome = await client_of(chain, content).wait(REQUEST, timeout=5)
    assert outcome.settled.status is OnChainStatus.FULFILLED


async def test_given_no_answer_when_the_time_is_over_then_the_error_says_what_the_endpoint_said_last() -> None:
    chain, content = answered(RAW)
    chain.statuses = [RpcUnavailable("the line is dead")]
    with pytest.raises(NotAnsweredYet, match="the line is dead"):
        await client_of(chain, content).wait(REQUEST, timeout=0.05)


async def test_given_content_that_fails_for_a_moment_when_waiting_then_the_answer_comes_all_the_same() -> None:
    chain, content = answered(RAW)
    content.hiccups = 2
    assert (await client_of(chain, content).wait(REQUEST, timeout=5)).label == "7"


async def test_given_an_answer_whose_content_nobody_has_when_the_time_is_over_then_that_is_what_the_error_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oracle.client.reading.LAG", 0.05)
    chain, content = answered(RAW)
    content.files = {}
    with pytest.raises(ContentUnavailable, match="nobody has it"):
        await client_of(chain, content).wait(REQUEST, timeout=0.2)
    assert len(content.asked) > 2


@pytest.mark.parametrize("slow", ["events", "verify_result"])
async def test_given_logs_that_take_for_ever_when_waiting_then_it_ends_in_time_and_names_the_start_block(
    monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    monkeypatch.setattr("oracle.client.reading.LAG", 0.05)
    chain, content = answered(RAW)
    monkeypatch.setattr(chain, slow, for_ever)
    started = time.monotonic()
    with pytest.raises(NotAnsweredYet, match="has ended, but") as caught:
        await client_of(chain, content).wait(REQUEST, timeout=0.1)
    assert "start_block" in caught.value.remedy
    assert time.monotonic() - started < 3


async def test_given_a_search_through_too_many_blocks_when_its_time_is_over_then_the_error_names_the_start_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oracle.client.reading.HISTORY_SECONDS", 0.05)
    chain, content = answered(RAW)
    monkeypatch.setattr(chain, "events", for_ever)
    for call in (Client.outcome, Client.verify, Client.wait):
        with pytest.raises(HistoryTooLong, match="from block 3 on") as caught:
            await call(client_of(chain, content, start_block=3), REQUEST)
        assert "start_block" in caught.value.remedy


async def for_ever(*_: object, **__: object) -> None:
    await asyncio.sleep(3600)


async def test_given_an_id_nobody_knows_when_waiting_then_it_is_unknown_after_the_nodes_had_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oracle.client.reading.LAG", 0.05)
    chain, content = answered(RAW)
    chain.statuses, chain.logs = [OnChainStatus.UNKNOWN], [[]]
    with pytest.raises(UnknownRequest):
        await client_of(chain, content).wait(REQUEST, timeout=60)


# ---------------------------------------------------------------------------------------------------------------
# Documents and answers that lie
# ---------------------------------------------------------------------------------------------------------------


def label(**changes: object) -> list[dict[str, object]]:
    return [{"index": 7, "label": "7", "probability": 0.99} | changes]


BAD = {
    "no JSON": b"<html>",
    "not text": b"\xff\xfe",
    "a number": b"7",
    "nested too deep": b"[" * 100_000,
    "another schema": json.dumps(document(schema="sibyl/result/2")).encode(),
    "no labels": json.dumps(document(labels=[])).encode(),
    "labels of another kind": json.dumps(document(labels=["7"])).encode(),
    "no input": json.dumps(document(input=None)).encode(),
    "no request": json.dumps(document(request=7)).encode(),
    "an infinite probability": json.dumps(document(labels=label(probability=float("inf")))).encode(),
    "no number": json.dumps(document(labels=label(probability=float("nan")))).encode(),
    "a huge probability": json.dumps(document(labels=label(probability=10**400))).encode(),
    "a long exponent": json.dumps(document()).replace("0.99", "1e999").encode(),
    "a negative probability": json.dumps(document(labels=label(probability=-0.1))).encode(),
    "a text for a probability": json.dumps(document(labels=label(probability="0.99"))).encode(),
    "yes for a class": json.dumps(document(labels=label(index=True))).encode(),
    "a terminal's escape": json.dumps(document(labels=label(label="\x1b]0;owned\x07"))).encode(),
    "half a surrogate": json.dumps(document(labels=label(label="\ud800"))).encode(),
    "no label": json.dumps(document(labels=label(label=""))).encode(),
}


@pytest.mark.parametrize("name", BAD)
async def test_given_a_result_document_that_is_none_when_read_then_it_is_corrupt_and_nothing_breaks(name: str) -> None:
    with pytest.raises(ContentCorrupt):
        read_result(BAD[name])
    chain, content = answered(BAD[name])
    with pytest.raises(ContentCorrupt):
        await client_of(chain, content).outcome(REQUEST)


async def test_given_an_answer_that_does_not_decode_when_read_then_it_is_corrupt() -> None:
    chain, content = answered(RAW, answer=b"\xff" * 32)
    with pytest.raises(ContentCorrupt, match="answer on-chain"):
        await client_of(chain, content).outcome(REQUEST)


async def test_given_a_document_of_another_request_when_read_then_it_is_corrupt() -> None:
    chain, content = answered(json.dumps(document(request="0x" + "08" * 32)).encode())
    with pytest.raises(ContentCorrupt, match="disagree"):
        await client_of(chain, content).outcome(REQUEST)


# ---------------------------------------------------------------------------------------------------------------
# Verifying what somebody holds
# ---------------------------------------------------------------------------------------------------------------

DRAWING = b"\x89PNG\r\n\x1a\n the rest"


def with_drawing() -> bytes:
    files = {"bars": {"cid": cid_of(DRAWING).text, "bytes": len(DRAWING), "type": "image/png"}}
    return json.dumps(document(files=files)).encode()


@pytest.mark.parametrize("form", [REQUEST, "0x" + REQUEST.hex(), REQUEST.hex()])
async def test_given_an_answer_when_verified_by_its_id_then_all_of_it_was_read_anew(form: bytes | str) -> None:
    chain, content = answered(with_drawing())
    content.files = {**content.files, cid_of(DRAWING): DRAWING}
    outcome = await client_of(chain, content).verify(form)
    assert [one for one, _ in content.asked] == [
        cid_of(with_drawing()),
        cid_of(manifest("mnist-cnn", 1)),
        cid_of(DRAWING),
    ]
    assert (outcome.status, outcome.label, outcome.confidence, outcome.reason) == ("fulfilled", "7", 0.99, "")
    assert outcome.labels == (LabelScore(7, "7", 0.99),)
    assert outcome.segments == ()
    assert outcome.drawings == {"bars": cid_of(DRAWING)}
    assert await client_of(chain, content).verify(outcome) == outcome


@pytest.mark.parametrize(
    "lie",
    [
        {"raw": RAW + b" "},
        {"document": {**document(), "labels": label(label="8")}},
        {"answer": ClassificationAnswer((AnswerEntry(8, 9900),))},
    ],
)
async def test_given_an_outcome_that_was_changed_when_verified_then_it_is_corrupt(lie: dict[str, Any]) -> None:
    chain, content = answered(RAW)
    client = client_of(chain, content)
    outcome = await client.outcome(REQUEST)
    assert await client.verify(outcome) == outcome
    with pytest.raises(ContentCorrupt, match="not the one on-chain"):
        await client.verify(replace(outcome, **lie))


async def test_given_a_coordinator_that_does_not_vouch_or_a_false_drawing_when_verified_then_it_is_corrupt() -> None:
    chain, content = answered(with_drawing())
    content.files = {**content.files, cid_of(DRAWING): b"not a PNG at all...."[: len(DRAWING)]}
    with pytest.raises(ContentCorrupt, match="drawing bars"):
        await client_of(chain, content).verify(REQUEST)
    chain.vouches = False
    with pytest.raises(ContentCorrupt, match="vouch"):
        await client_of(chain, content).verify(REQUEST)


@pytest.mark.parametrize(
    "lie",
    [
        {"labels": label(label="8")},
        {"labels": [*label(), {"index": 99, "label": "99", "probability": 0.001}]},
        {"model": document()["model"] | {"manifest": cid_of(b"another").text}},
        {"model": document()["model"] | {"name": "resnet"}},
        {"model": document()["model"] | {"weights_sha256": "0" * 64}},
        {"model": None},
        {"task": "another"},
    ],
)
async def test_given_a_document_that_misnames_a_class_or_its_model_when_read_then_it_is_corrupt(
    lie: dict[str, Any],
) -> None:
    client = client_of(*answered(json.dumps(document(**lie)).encode()))
    for call in (client.outcome, client.verify):
        with pytest.raises(ContentCorrupt, match="another model than number 1 of the registry"):
            await call(REQUEST)


async def test_given_a_segmentation_that_misnames_a_shape_when_compared_with_the_manifest_then_it_is_told() -> None:
    shapes = read_manifest(shipped_files("mask_rcnn")[1])
    segment = {"index": 2, "label": shapes.labels[2]}
    named = {"name": shapes.name, "manifest": cid_of(b"manifest").text, "weights_sha256": shapes.weights_sha256}
    right = {"task": shapes.task, "model": named, "segments": [segment]}
    assert same_model(cid_of(b"manifest"), shapes, right)
    assert not same_model(cid_of(b"manifest"), shapes, right | {"segments": [segment | {"label": shapes.labels[3]}]})


@pytest.mark.parametrize("text", ["", "0x", "0x12", "zz" * 32, "0x" + "ab" * 33])
async def test_given_a_text_that_is_no_id_when_waited_for_then_it_is_said_at_once(text: str) -> None:
    chain, content = answered(RAW)
    with pytest.raises(SibylError, match="not a request's id"):
        await client_of(chain, content).wait(text)
    with pytest.raises(SibylError, match="not a CID"):
        await client_of(chain, content).fetch(text)


async def test_given_a_segmentation_when_read_then_its_segments_are_objects_with_boxes_in_pixels() -> None:
    segment = {"index": 2, "label": "star", "score": 0.9, "bbox": [1, 2, 3, 4], "area": 5}
    outcome = Outcome(
        None,
        None,
        None,
        {"segments": [{**segment, "segmentation": {"size": [9, 9], "counts": "abc"}}]},  # type: ignore[arg-type]
    )
    assert outcome.segments == (SegmentScore(2, "star", 0.9, (2, 1, 6, 4), 5, "abc"),)
    assert outcome.label == "star"
    assert outcome.labels == ()
