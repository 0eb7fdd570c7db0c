"""A segmentation on its way to whoever asked: answer on-chain, document, comparison, memory of known answers."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import cid_of
from hypothesis import given, settings
from hypothesis import strategies as st

import provider_images.mask_rcnn
from oracle.answers import AnswerInstance, SegmentationAnswer, decode_answer
from oracle.client.comparing import same_instances
from oracle.documents import read_result
from oracle.domain import ItemResult, SegmentScore, ServableModel, TaskInput, TaskResult
from oracle.errors import ContentCorrupt
from oracle.manifests import read_manifest
from oracle.market import KnownAnswer
from oracle.pipeline.comparison import agree, intersection
from oracle.pipeline.results import compact_answer, result_document
from oracle.store import SqliteRequestStore
from provider_images.runtime.masks import encode_mask
from provider_images.runtime.segments import decode_runs

pytestmark = pytest.mark.unit

INSTANCES = read_manifest((Path(provider_images.mask_rcnn.__file__).parent / "manifest.json").read_bytes())
COMPARISON = INSTANCES.document["comparison"]
REGIONS = dataclasses.replace(
    INSTANCES,
    task="semantic-segmentation",
    document={**INSTANCES.document, "comparison": {"class": "detection", "iou": 0.9, "epsilon": 0.05}},
)
EXACT = dataclasses.replace(INSTANCES, document={**INSTANCES.document, "comparison": {"class": "exact"}})
SIDE = 40


def segment(
    index: int = 3, score: float = 0.9, box: tuple[int, int, int, int] = (5, 5, 25, 25), side: int = SIDE
) -> SegmentScore:
    """A filled box."""
    y1, x1, y2, x2 = box
    counts = encode_mask(np.ones((y2 - y1, x2 - x1), bool), y1, x1, side, side)
    edges = (float(y1), float(x1), float(y2), float(x2))
    return SegmentScore(index, INSTANCES.labels[index], score, edges, (y2 - y1) * (x2 - x1), counts)


def item(*segments: SegmentScore, found: int | None = None, familiarity: int = 0, side: int = SIDE) -> ItemResult:
    return ItemResult(
        b"\1" * 32,
        size=(side, side),
        segments=segments,
        found=len(segments) if found is None else found,
        familiarity=familiarity,
    )


def written(result: ItemResult, task: str = "instance-segmentation") -> bytes:
    source = TaskInput(result.request_id, cid_of(b"picture"), Path(), 7)
    whole = TaskResult("key", "provider", (result,), 1.0, 2.0, 0.5, "engine")
    manifest = dataclasses.replace(INSTANCES, task=task)
    model = ServableModel(1, cid_of(b"manifest"), manifest, Path())
    files = {"mask": (cid_of(b"mask"), 4), "overlay": (cid_of(b"overlay"), 7)}
    return result_document(result, source, whole, model, files)


@st.composite
def found(draw: st.DrawFn) -> ItemResult:
    """Random pixels in random boxes, the scores falling."""
    width, height = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    segments = []
    for score in sorted(draw(st.lists(st.floats(0, 1), max_size=40)), reverse=True):
        y1, x1 = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        y2, x2 = draw(st.integers(y1 + 1, height)), draw(st.integers(x1 + 1, width))
        mask = np.random.default_rng(draw(st.integers(0, 99))).random((y2 - y1, x2 - x1)) < 0.7
        mask[0, 0] = True
        index = draw(st.integers(0, 13))
        counts = encode_mask(mask, y1, x1, height, width)
        box = (float(y1), float(x1), float(y2), float(x2))
        segments.append(SegmentScore(index, INSTANCES.labels[index], score, box, int(mask.sum()), counts))
    more = draw(st.integers(0, 5))
    return ItemResult(b"\1" * 32, size=(width, height), segments=tuple(segments), found=len(segments) + more)


# The answer that a contract reads.


@given(found())
@settings(deadline=None, max_examples=60)
def test_whatever_was_found_is_answered_by_its_best_and_reads_back(result: ItemResult) -> None:
    word = compact_answer(result)
    answer = decode_answer(word)
    assert isinstance(answer, SegmentationAnswer)
    assert answer.encode() == word
    assert (answer.width, answer.height) == result.size
    assert answer.found == result.found
    assert [one.area for one in answer.instances] == [one.area for one in result.segments[:31]]
    assert read_result(written(result))["found"] == result.found


def test_given_one_star_when_encoded_then_the_bytes_are_the_documented_ones() -> None:
    answer = compact_answer(item(segment(3, 0.98, (1, 2, 3, 5)), familiarity=200))
    head = "0102" + "01" + "c8" + "0001" + "0028" + "0028" + "00" * 22
    assert answer.hex() == head + "0003" + "2648" + "0001" + "0002" + "0003" + "0005" + "00000006"


def test_given_nothing_found_when_encoded_then_the_head_stands_alone() -> None:
    answer = decode_answer(compact_answer(item()))
    assert answer == SegmentationAnswer((), 0, SIDE, SIDE)


@given(st.binary(max_size=80))
def test_whatever_is_decoded_is_an_answer_or_a_value_error(data: bytes) -> None:
    try:
        answer = SegmentationAnswer.decode(b"\1\2" + data)
    except ValueError:
        return
    assert answer.encode() == b"\1\2" + data


GOOD = AnswerInstance(1, 9000, (0, 0, 10, 10), 100)


@pytest.mark.parametrize(
    "answer",
    [
        SegmentationAnswer((GOOD,), 0, 20, 20),
        SegmentationAnswer((GOOD,) * 32, 32, 20, 20),
        SegmentationAnswer((), 0, 0, 20),
        SegmentationAnswer((), 0, 20, 70_000),
        SegmentationAnswer((dataclasses.replace(GOOD, area=101),), 1, 20, 20),
        SegmentationAnswer((dataclasses.replace(GOOD, box=(0, 0, 10, 21)),), 1, 20, 20),
        SegmentationAnswer((dataclasses.replace(GOOD, box=(5, 0, 5, 10)),), 1, 20, 20),
        SegmentationAnswer((dataclasses.replace(GOOD, score_bps=8000), GOOD), 2, 20, 20),
        SegmentationAnswer((dataclasses.replace(GOOD, score_bps=10_001),), 1, 20, 20),
    ],
)
def test_what_the_contract_would_refuse_is_not_encoded(answer: SegmentationAnswer) -> None:
    with pytest.raises(ValueError):
        answer.encode()


# The document.


def test_a_document_holds_cocos_form_and_its_drawings() -> None:
    document = read_result(written(item(segment(), familiarity=51)))
    (one,) = document["segments"]
    assert one["bbox"] == [5.0, 5.0, 20.0, 20.0]
    assert one["segmentation"]["size"] == [SIDE, SIDE]
    assert document["familiarity"] == 0.2
    assert document["files"]["mask"] == {"cid": cid_of(b"mask").text, "bytes": 4, "type": "image/png"}


def _set(path: str, value: object) -> Callable[[dict[str, Any]], None]:
    *way, last = (int(step) if step.isdigit() else step for step in path.split("."))

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in way:
            place = place[step]
        place[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("image.width", 41),
        _set("image.height", 0),
        _set("image", None),
        _set("found", 0),
        _set("found", True),
        _set("segments", {}),
        _set("segments.0.bbox", [5, 5, 20, 36]),
        _set("segments.0.bbox", [5, 5, float("nan"), 3]),
        _set("segments.0.bbox", [5, 5, 0, 3]),
        _set("segments.0.area", 401),
        _set("segments.0.score", 1.01),
        _set("segments.0.label", "a\x1bb"),
        _set("segments.0.bbox", [10**400, 0.5, 1.5, 1]),
        _set("segments.0.bbox", [0, 0, 10**400, 0.5]),
        _set("segments.0.segmentation", "0"),
        _set("segments.0.segmentation.size", [SIDE, 41]),
        _set("segments.0.segmentation.counts", "zz"),
        _set("segments.0.segmentation.counts", 7),
        _set("files", {"../x": {"cid": cid_of(b"x").text, "bytes": 1, "type": "image/png"}}),
        _set("files.mask.cid", "nothing"),
        _set("files.mask.type", "text/html"),
        _set("files.mask.bytes", 10**9),
        _set("familiarity", 2),
    ],
)
def test_a_document_that_lies_is_corrupt(change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(written(item(segment(), familiarity=51)))
    change(document)
    with pytest.raises(ContentCorrupt):
        read_result(json.dumps(document).encode())


def test_a_document_with_masks_outside_of_their_boxes_is_corrupt() -> None:
    document = json.loads(written(item(segment())))
    document["segments"][0]["bbox"] = [6, 5, 20, 20]
    with pytest.raises(ContentCorrupt, match="outside of its box"):
        read_result(json.dumps(document).encode())


def test_a_document_speaks_of_labels_or_of_segments_and_never_of_both() -> None:
    labels = [{"index": 1, "label": "cat", "probability": 0.99}]
    document = json.loads(written(item(segment())))
    for changes in ({"labels": labels}, {"task": "classification", "labels": labels}):
        with pytest.raises(ContentCorrupt):
            read_result(json.dumps(document | changes).encode())


@given(found())
@settings(deadline=None, max_examples=40)
def test_a_document_and_its_answer_agree_in_every_box(result: ItemResult) -> None:
    document, answer = read_result(written(result)), decode_answer(compact_answer(result))
    assert isinstance(answer, SegmentationAnswer)
    assert same_instances(answer, document)
    if answer.instances:
        first = answer.instances[0]
        moved = dataclasses.replace(first, box=(first.box[0], first.box[1], first.box[2] + 1, first.box[3]))
        other = dataclasses.replace(answer, instances=(moved, *answer.instances[1:]))
        assert not same_instances(other, document)


# Two providers.


@pytest.mark.parametrize("manifest", [INSTANCES, EXACT, REGIONS])
def test_a_result_agrees_with_itself_and_not_with_another_class(manifest: Any) -> None:
    mine = item(segment(3))
    assert agree(manifest, mine, mine)
    assert not agree(manifest, mine, item(segment(4)))
    assert not agree(manifest, item(segment(4)), mine)
    assert not agree(manifest, mine, item())
    assert not agree(manifest, item(), mine)
    assert not agree(manifest, mine, dataclasses.replace(mine, size=(SIDE, SIDE + 1)))


def test_instances_bear_a_little_of_everything_and_no_more() -> None:
    mine, epsilon = item(segment()), COMPARISON["epsilon"]
    assert agree(INSTANCES, mine, item(segment(score=0.9 - 0.9 * epsilon)))
    assert not agree(INSTANCES, mine, item(segment(score=0.9 - 1.1 * epsilon)))
    assert not agree(INSTANCES, mine, item(segment(box=(9, 9, 29, 29))))
    assert not agree(EXACT, mine, item(segment(score=0.899999)))


def test_an_instance_of_which_one_of_the_two_is_missing_must_be_near_the_least_score() -> None:
    edge = COMPARISON["score"] + COMPARISON["epsilon"]
    near, sure = segment(score=edge - 1e-6, box=(30, 30, 38, 38)), segment(score=edge + 1e-6, box=(30, 30, 38, 38))
    assert agree(INSTANCES, item(segment()), item(segment(), near))
    assert agree(INSTANCES, item(segment(), near), item(segment()))
    assert not agree(INSTANCES, item(segment()), item(segment(), sure))
    assert not agree(INSTANCES, item(segment(), sure), item(segment()))


def test_where_a_list_had_no_room_for_more_its_own_end_is_the_least_score() -> None:
    full = INSTANCES.document["output"]["top_k"]
    many = [segment(score=0.9, box=(i, 0, i + 1, 3)) for i in range(full - 1)]
    last = segment(score=0.85, box=(30, 30, 38, 38))
    other = segment(score=0.85, box=(0, 30, 8, 38))
    assert agree(INSTANCES, item(*many, last), item(*many, other))
    assert not agree(INSTANCES, item(*many[1:], last), item(*many[1:], other))


def test_no_more_than_two_instances_may_stand_alone() -> None:
    near = COMPARISON["score"] + COMPARISON["epsilon"] / 2
    invented = [segment(score=near, box=(i, 30, i + 1, 38)) for i in range(3)]
    assert agree(INSTANCES, item(segment()), item(segment(), *invented[:2]))
    assert not agree(INSTANCES, item(segment()), item(segment(), *invented))
    assert not agree(INSTANCES, item(segment()), item(segment(), found=4))


def test_one_instance_does_not_stand_for_two() -> None:
    assert not agree(INSTANCES, item(segment(), segment()), item(segment()))


def test_results_made_to_be_slow_to_compare_do_not_agree() -> None:
    # Alike in class, score, box and area, and yet each pair of masks shares half of its pixels.
    rng = np.random.default_rng(1)
    crowds = []
    for _ in range(2):
        masks = [rng.permutation(np.arange(400) % 2 == 0).reshape(20, 20) for _ in range(40)]
        for mask in masks:
            mask[[0, 0, -1, -1], [0, -1, 0, -1]] = True
        crowds.append(
            item(*(dataclasses.replace(segment(), area=202, mask=encode_mask(m, 5, 5, SIDE, SIDE)) for m in masks))
        )
    began = time.perf_counter()
    assert not agree(INSTANCES, *crowds)
    assert time.perf_counter() - began < 5


def test_regions_may_differ_in_specks_and_in_nothing_larger() -> None:
    mine = item(segment(3, 1.0, side=200), side=200)
    for edge, same in ((2, True), (3, False)):
        speck = segment(4, 1.0, (30, 30, 30 + edge, 32), side=200)
        assert agree(REGIONS, mine, item(segment(3, 1.0, side=200), speck, side=200)) is same
    assert not agree(REGIONS, mine, item(segment(3, 1.0, (5, 5, 25, 22), side=200), side=200))
    specks = [segment(index, 1.0, (30, 30, 31, 31), side=200) for index in (4, 5, 6)]
    assert not agree(REGIONS, mine, item(segment(3, 1.0, side=200), *specks, side=200))


def test_the_familiarity_of_honest_machines_is_nearly_the_same() -> None:
    assert agree(INSTANCES, item(familiarity=100), item(familiarity=102))
    assert not agree(INSTANCES, item(familiarity=100), item(familiarity=103))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_what_runs_share_is_what_pixels_share(height: int, width: int, seed: int) -> None:
    left, right = np.random.default_rng(seed).random((2, height, width)) < 0.5
    ends = [
        list(accumulate(decode_runs(encode_mask(mask, 0, 0, height, width), "")))
        for mask in (left, right)
        if mask.any()
    ]
    if len(ends) == 2:
        assert intersection(*ends) == (left & right).sum()


@given(found(), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_two_machines_that_differ_by_rounding_agree_both_ways(result: ItemResult, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shaken = [
        dataclasses.replace(one, score=min(1.0, max(0.0, one.score + float(rng.normal(0, 1e-6)))))
        for one in result.segments
    ]
    other = dataclasses.replace(result, segments=tuple(sorted(shaken, key=lambda one: -one.score)))
    assert agree(INSTANCES, result, other)
    assert agree(INSTANCES, other, result)


async def test_a_known_answer_is_remembered_whole(tmp_path: Path) -> None:
    store = SqliteRequestStore(tmp_path / "known.sqlite3")
    result = item(segment(), segment(4, 0.7, (0, 0, 3, 3)), found=4, familiarity=9)
    try:
        await store.ledger.save_known_answer(KnownAnswer("model", "picture", 5, result, 1.0), keep=9)
        (known,) = await store.ledger.known_answers("model")
    finally:
        await store.close()
    assert known.outcome == dataclasses.replace(result, request_id=b"")
