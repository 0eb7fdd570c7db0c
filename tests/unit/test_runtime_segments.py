"""Segments as strangers send them: each thing that is wrong is refused, and its place named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_images.mask_rcnn.config import COCO, SMALL
from provider_images.mask_rcnn.manifests import HERE, coco_labels, coco_manifest
from provider_images.mask_rcnn.scenes import SIDE
from provider_images.runtime import job, segmentation, segments
from provider_images.runtime.checks import JobError
from provider_images.runtime.engines import ModelError, NumpyEngine
from provider_images.runtime.job import Expected, ItemFailure, ItemOutput
from provider_images.runtime.masks import encode_mask
from provider_images.runtime.model import Found
from provider_images.runtime.pictures import PictureError
from provider_images.runtime.segmentation import segment_all
from provider_images.runtime.segments import MAX_SEGMENTS, Segment, encode_runs, segments_from
from provider_images.runtime.semantic import SemanticSegmenter
from provider_images.runtime.spec import ModelSpec, SpecError

pytestmark = pytest.mark.unit

WIDTH, HEIGHT, CLASSES = 12, 10, 3


def counts(top: int = 2, left: int = 3, bottom: int = 6, right: int = 8) -> str:
    return encode_mask(np.ones((bottom - top, right - left), bool), top, left, HEIGHT, WIDTH)


def a_segment(**changes: Any) -> list[Any]:
    fields = {"index": 1, "score": 0.5, "box": [2, 3, 6, 8], "mask": counts()} | changes
    return [fields[key] for key in ("index", "score", "box", "mask")]


def read(*segments: Any) -> tuple[Segment, ...]:
    return segments_from(list(segments), "s", classes=CLASSES, width=WIDTH, height=HEIGHT)


def test_given_a_sound_segment_when_it_is_read_then_it_is_what_was_written() -> None:
    (found,) = read(a_segment())
    assert found == Segment(1, 0.5, (2.0, 3.0, 6.0, 8.0), 20, counts())
    assert (found.area, found.pixel_box) == (20, (2, 3, 6, 8))
    assert Segment(0, 1.0, (1.2, 0.0, 3.4, 5.0), 0, "").pixel_box == (1, 0, 4, 5)
    assert read(found.to_list()) == (found,)
    # A mask may leave its box where the box's edge cuts a pixel, and no further.
    assert read(a_segment(box=[2.5, 3.99, 5.01, 7.2]))
    assert read(a_segment(box=[0, 3, HEIGHT, 8], mask=counts(0, 3, HEIGHT, 8)))


def expect(classes: int, most: int, **changes: Any) -> Expected:
    whole = {"task": "instance-segmentation", "classes": classes, "most": most, "least": 0.0, "background": None}
    return Expected(**(whole | {"familiarity": False} | changes))


OUTSIDE = encode_runs([WIDTH * HEIGHT])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"index": 3}, r"s\[0\].index"),
        ({"index": -1}, r"s\[0\].index"),
        ({"index": True}, r"s\[0\].index"),
        ({"score": 1.1}, r"s\[0\].score"),
        ({"score": "1"}, r"s\[0\].score"),
        ({"box": [2, 3, 6]}, r"s\[0\].box"),
        ({"box": [2, 3, HEIGHT + 0.1, 8]}, r"s\[0\].box"),
        ({"box": [2, 3, 6, WIDTH + 0.1]}, r"s\[0\].box"),
        ({"box": [-0.1, 3, 6, 8]}, r"s\[0\].box"),
        ({"box": [6, 3, 6, 8]}, r"s\[0\].box: it holds nothing"),
        ({"box": [2, 8, 6, 3]}, r"s\[0\].box: it holds nothing"),
        ({"box": [3, 3, 6, 8]}, r"s\[0\].mask: pixels outside of its box"),
        ({"box": [2, 4, 6, 8]}, r"s\[0\].mask: pixels outside of its box"),
        ({"box": [2, 3, 5, 8]}, r"s\[0\].mask: pixels outside of its box"),
        ({"box": [2, 3, 6, 7]}, r"s\[0\].mask: pixels outside of its box"),
        ({"mask": counts(0, 3, HEIGHT, 8)}, r"s\[0\].mask: pixels outside of its box"),
        ({"mask": 7}, r"s\[0\].mask: a text"),
        ({"mask": ""}, r"s\[0\].mask: .* cut short"),
        ({"mask": counts()[:-1] + "P"}, r"s\[0\].mask: .* cut short"),
        ({"mask": "\x00"}, r"s\[0\].mask: .*not a run-length"),
        ({"mask": "é"}, r"s\[0\].mask: .*not a run-length"),
        ({"mask": "oooooooo"}, r"s\[0\].mask: .*not a run-length"),
        ({"mask": encode_runs([5, 0, 115])}, r"s\[0\].mask: a run of 0 pixels"),
        ({"mask": encode_runs([-5, 125])}, r"s\[0\].mask: a run of -5 pixels"),
        ({"mask": encode_runs([5, 4])}, r"s\[0\].mask: 9 pixels for a picture of 12 x 10"),
        # From within one column of the box into the next, over all that lies below and above it.
        ({"mask": encode_runs([33, 12, 75])}, r"s\[0\].mask: pixels outside of its box"),
        ({"mask": OUTSIDE}, r"s\[0\].mask: it has no pixels"),
    ],
)
def test_given_a_segment_with_something_wrong_when_it_is_read_then_that_is_named(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobError, match=said):
        read(a_segment(**changes))


def test_given_segments_in_another_order_or_too_many_when_they_are_read_then_they_are_refused() -> None:
    assert len(read(a_segment(score=0.7), a_segment(score=0.7), a_segment())) == 3
    with pytest.raises(JobError, match="scores must fall"):
        read(a_segment(score=0.5), a_segment(score=0.7))
    with pytest.raises(JobError, match=r"s\[1\]"):
        read(a_segment(), [1, 0.5, [2, 3, 6, 8]])
    with pytest.raises(JobError, match="s: "):
        read(*[a_segment()] * (MAX_SEGMENTS + 1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": [0, HEIGHT]}, "item.size"),
        ({"size": [WIDTH]}, "item.size"),
        ({"size": [WIDTH, HEIGHT - 1]}, r"item.segments\[0\].mask: 120 pixels for a picture of 12 x 9"),
        ({"found": 1}, "item.found"),
        ({"found": 65_536}, "item.found"),
        ({"segments": [a_segment()] * 3, "found": 3}, "item.segments: at most 2"),
        ({"labels": []}, "item.labels: unknown"),
        ({"familiarity": 3}, "item.familiarity: unknown"),
        ({"input": "b"}, "item.input"),
    ],
)
def test_given_an_outcome_with_something_wrong_when_it_is_read_then_that_is_named(
    changes: dict[str, Any], said: str
) -> None:
    expected = expect(CLASSES, 2)
    good = {"input": "a", "size": [WIDTH, HEIGHT], "segments": [a_segment()] * 2, "found": 5}
    outcome = ItemOutput.from_dict(good, "item", input_id="a", expected=expected)
    assert outcome.to_dict() == json.loads(json.dumps(good))
    with pytest.raises(JobError, match=said):
        ItemOutput.from_dict(good | changes, "item", input_id="a", expected=expected)


def test_given_a_list_that_ends_before_it_must_when_it_is_read_then_it_is_refused() -> None:
    one = {"input": "a", "size": [WIDTH, HEIGHT], "segments": [a_segment()], "found": 2}
    with pytest.raises(JobError, match=r"item\.found: 2, and room for more than 1"):
        ItemOutput.from_dict(one, "item", input_id="a", expected=expect(CLASSES, 2))
    assert ItemOutput.from_dict(one, "item", input_id="a", expected=expect(CLASSES, 1)).found == 2


def test_given_a_score_below_the_least_when_it_is_read_then_it_is_refused() -> None:
    one = {"input": "a", "size": [WIDTH, HEIGHT], "segments": [a_segment(score=0.5)], "found": 1}
    with pytest.raises(JobError, match=r"a score below 0\.51"):
        ItemOutput.from_dict(one, "item", input_id="a", expected=expect(CLASSES, 2, least=0.51))


@pytest.mark.parametrize(
    ("regions", "said"),
    [
        ([a_segment(), a_segment()], "a class stands twice"),
        ([a_segment(index=0)], "is the background"),
        ([a_segment(mask=counts(2, 3, 3, 4)), a_segment(index=2)], "the larger area comes first"),
    ],
)
def test_given_regions_that_no_map_of_classes_has_when_they_are_read_then_they_are_refused(
    regions: list[Any], said: str
) -> None:
    one = {"input": "a", "size": [WIDTH, HEIGHT], "segments": regions, "found": len(regions)}
    expected = expect(CLASSES, 9, task="semantic-segmentation", background=0)
    with pytest.raises(JobError, match=said):
        ItemOutput.from_dict(one, "item", input_id="a", expected=expected)


def test_given_more_runs_than_anybody_needs_when_they_are_read_then_none_is_decoded() -> None:
    with pytest.raises(JobError, match="masks of more than"):
        read(*[a_segment(mask="1" * (segments.MAX_MASKS // 4))] * 5)


# ---------------------------------------------------------------------------------------------------------------
# What a model finds becomes an outcome
# ---------------------------------------------------------------------------------------------------------------


def manifest(**changes: Any) -> dict[str, Any]:
    document = json.loads((HERE / "manifest.json").read_text())
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    return document  # type: ignore[no-any-return]


class Double:
    """A segmenter that finds what it is told."""

    engine = "double"

    def __init__(self, *found: Found | Exception, top_k: int = 2) -> None:
        self.found = found
        self.spec = ModelSpec.from_manifest(manifest(output={"top_k": top_k}))

    def segment(self, picture: np.ndarray) -> Iterator[Found]:
        for one in self.found:
            if isinstance(one, Exception):
                raise one
            yield one


def a_find(score: float, mask: np.ndarray | None = None, index: int = 1) -> Found:
    pixels = np.ones((4, 5), bool) if mask is None else mask
    bottom, right = 2 + pixels.shape[0], 3 + pixels.shape[1]
    return Found(index, score, (2.0, 3.0, float(bottom), float(right)), 2, 3, pixels)


def outcome(model: Double, picture: np.ndarray | None = None) -> ItemOutput:
    import io

    from PIL import Image

    page = np.zeros((HEIGHT, WIDTH, 3), np.uint8) if picture is None else picture
    target = io.BytesIO()
    Image.fromarray(page).save(target, "PNG")
    (item,) = segment_all(model, {"a": target.getvalue()}, max_pixels=10**7).items
    if item.failure is None:
        expected = expect(14, model.spec.top_k)
        assert ItemOutput.from_dict(item.to_dict(), "item", input_id="a", expected=expected) == item
    return item


def test_given_more_finds_than_are_told_when_they_are_packed_then_the_best_stay_and_all_are_counted() -> None:
    item = outcome(Double(*map(a_find, (0.9, 0.8, 0.7)), a_find(0.6, np.zeros((2, 2), bool))))
    assert item.size == (WIDTH, HEIGHT)
    assert [one.score for one in item.segments] == [0.9, 0.8]
    assert item.found == 3  # one without a pixel is none


def test_given_masks_that_do_not_fit_when_they_are_packed_then_the_best_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = a_find(0.9), a_find(0.8, np.indices((7, 8)).sum(axis=0) % 2 == 0)
    text = encode_mask(small.mask, small.top, small.left, HEIGHT, WIDTH)
    for module in (segmentation, job):
        monkeypatch.setattr(module, "MAX_MASKS", 2 * len(text))
    item = outcome(Double(small, large, small, top_k=40))
    assert [one.score for one in item.segments] == [0.9]
    assert item.found == 3


def test_given_one_mask_that_takes_more_than_half_of_the_room_when_it_is_packed_then_that_picture_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = a_find(0.8, np.indices((7, 8)).sum(axis=0) % 2 == 0)
    monkeypatch.setattr(segmentation, "MAX_MASKS", 20)
    assert outcome(Double(large)).failure is ItemFailure.TOO_LARGE


def test_given_an_answer_that_is_no_number_when_it_is_packed_then_that_picture_fails_alone() -> None:
    for wrong in (a_find(float("nan")), PictureError(ItemFailure.FAILED, "no answer")):
        item = outcome(Double(a_find(0.9), wrong))
        assert (item.failure, item.segments) == (ItemFailure.FAILED, ())
        assert item.detail


# ---------------------------------------------------------------------------------------------------------------
# Manifests
# ---------------------------------------------------------------------------------------------------------------


OWN = {"engine": "keras", "family": "keras-file", "task": "semantic-segmentation", "labels": ["a", "b", "c"]}


def own(output: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = manifest(input={"fit": "stretch"}, weights={"format": "keras"}) | OWN
    return document | {"output": {"top_k": 3} | output} | changes


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (manifest(task="classification"), "task: instance-segmentation expected"),
        (manifest(task="panoptic"), "task"),
        (manifest(input={"fit": "stretch"}), "input.fit: whole expected"),
        (manifest(output={"values": "classes"}), "output.values"),
        (manifest(output={"shape": [14]}), "output.shape: none expected"),
        (manifest(family="mnist"), "task: classification expected for the family 'mnist'"),
        (own({}), "output.shape: an own file must state it"),
        (own({"shape": [8, 8]}), r"output.shape: \[height, width, 3\]"),
        (own({"shape": [8, 8, 4]}), r"output.shape: \[height, width, 3\]"),
        (own({"shape": [8, 8, 3], "values": "classes"}), r"output.shape: \[height, width\]"),
        (own({"shape": [8, 0], "values": "classes"}), r"output.shape: \[height, width\]"),
        (own({"shape": [8, 8, 3]}, input=manifest()["input"] | {"fit": "crop"}), "input.fit: stretch .* found again"),
        (own({"shape": [8, 8, 3]}, task="instance-segmentation"), "task: classification or semantic-segmentation"),
    ],
)
def test_given_a_manifest_that_cannot_be_served_when_it_is_read_then_the_field_is_named(
    document: dict[str, Any], said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        ModelSpec.from_manifest(document)


def test_given_sound_manifests_when_they_are_read_then_they_say_what_they_are() -> None:
    assert ModelSpec.from_manifest(manifest()).input.height == SMALL.side == SIDE
    spec = ModelSpec.from_manifest(coco_manifest(sha256="0" * 64, size=1, cid="b"))
    assert (spec.input.width, spec.classes + 1, spec.top_k) == (COCO.side, COCO.classes, COCO.detections)
    assert len(set(coco_labels())) == 80
    assert coco_labels()[::79] == ["person", "toothbrush"]
    classes = ModelSpec.from_manifest(own({"shape": [8, 9], "values": "classes", "background": 0}))
    assert (classes.shape, classes.background) == ((8, 9), 0)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (manifest(input={"height": 64}), "input"),
        (manifest(labels=["a"]), "labels: 1 for a model of 14"),
        (manifest(weights={"format": "hdf5"}), "weights.format"),
        (manifest(), "weights: "),
        (coco_manifest(sha256="0" * 64, size=1, cid="b"), "needs TensorFlow"),
    ],
)
def test_given_a_model_that_does_not_fit_when_it_is_loaded_then_it_is_refused(
    document: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "weights").write_bytes(b"")
    with pytest.raises(ModelError, match=said):
        NumpyEngine().load(ModelSpec.from_manifest(document), tmp_path / "weights")


# ---------------------------------------------------------------------------------------------------------------
# A class for each pixel
# ---------------------------------------------------------------------------------------------------------------


def semantic(answer: Any, **output: Any) -> SemanticSegmenter:
    shape = {"shape": list(np.shape(answer)), **output}
    return SemanticSegmenter(lambda picture: np.asarray(answer), ModelSpec.from_manifest(own(shape)), "double")


def full(found: Found, height: int, width: int) -> np.ndarray:
    page = np.zeros((height, width), bool)
    page[found.top : found.top + found.mask.shape[0], found.left : found.left + found.mask.shape[1]] = found.mask
    return page


def test_given_classes_of_cells_when_they_are_brought_back_then_each_pixel_has_its_cells_class() -> None:
    cells = np.array([[0, 1, 1], [2, 2, 1]])
    model = semantic(cells, values="classes", background=0)
    picture = np.zeros((4, 9, 3), np.uint8)
    expected = cells.repeat(2, axis=0).repeat(3, axis=1)
    two, one = found = list(model.segment(picture))
    assert [f.index for f in found] == [1, 2] or [f.index for f in found] == [2, 1]
    for f in found:
        assert np.array_equal(full(f, 4, 9), expected == f.index)
        assert f.mask.any(axis=0).all() or f.mask.any(axis=1).all()
        assert f.score == 1.0
    assert {f.index: f.box for f in found} == {1: (0, 3, 4, 9), 2: (2, 0, 4, 6)}
    assert two.mask.sum() >= one.mask.sum()
    # Of a picture with fewer pixels than cells, those that no pixel lies in are not seen.
    (lone,) = semantic(cells, values="classes").segment(np.zeros((1, 1, 3), np.uint8))
    assert (lone.index, lone.box) == (2, (0, 0, 1, 1))


def test_given_probabilities_when_they_are_brought_back_then_the_border_lies_where_they_are_equal() -> None:
    left = np.linspace(1, 0, 4)
    cells = np.stack([left, 1 - left, 0 * left], axis=-1)[None].repeat(2, axis=0)  # (2, 4, 3)
    for values, answer in (("probabilities", cells), ("logits", np.log(cells + 1e-9))):
        found = list(semantic(answer, values=values).segment(np.zeros((20, 40, 3), np.uint8)))
        assert [f.index for f in found] in ([0, 1], [1, 0])
        for f in found:
            # The middle of the map is the middle of the picture, finer than any cell.
            assert np.array_equal(full(f, 20, 40), np.arange(40)[None].repeat(20, 0) // 20 == f.index)
            assert 0.7 < f.score < 0.9


def test_given_a_large_picture_when_it_is_segmented_then_both_ways_agree_but_for_borders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    cells = rng.dirichlet([1, 1, 1], (6, 8)).astype(np.float32)
    picture = np.zeros((300, 400, 3), np.uint8)
    fine = {f.index: full(f, 300, 400) for f in semantic(cells).segment(picture)}
    monkeypatch.setattr("provider_images.runtime.semantic._BAND", 5000)
    banded = {f.index: full(f, 300, 400) for f in semantic(cells).segment(picture)}
    assert all(np.array_equal(fine[i], banded[i]) for i in fine)
    monkeypatch.setattr("provider_images.runtime.semantic._SMOOTH", 0)
    coarse = {f.index: full(f, 300, 400) for f in semantic(cells).segment(picture)}
    assert fine.keys() == coarse.keys()
    assert sum((fine[i] & coarse[i]).sum() for i in fine) > 0.7 * 300 * 400
    assert np.array_equal(coarse[0], (cells.argmax(axis=2) == 0).repeat(50, axis=0).repeat(50, axis=1))


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (np.full((2, 2), 3), {"values": "classes"}),
        (np.full((2, 2), -1), {"values": "classes"}),
        (np.full((2, 2), 0.5), {"values": "classes"}),
        (np.full((2, 2), np.nan), {"values": "classes"}),
        (np.full((2, 2, 3), np.nan), {}),
        (np.full((2, 2, 3), np.inf), {"values": "logits"}),
        (np.full((2, 2, 3), 7.0), {}),
        (np.full((2, 2, 3), -0.1), {}),
    ],
)
def test_given_an_answer_that_is_not_what_was_declared_when_it_is_read_then_the_picture_fails(
    answer: Any, output: dict[str, Any]
) -> None:
    with pytest.raises(PictureError, match="the model's answer") as raised:
        list(semantic(answer, **output).segment(np.zeros((4, 4, 3), np.uint8)))
    assert raised.value.failure is ItemFailure.FAILED


def test_given_another_shape_than_declared_when_it_is_loaded_then_it_is_refused() -> None:
    with pytest.raises(ModelError, match=r"output.shape: \[2, 3, 3\] in the manifest, \[2, 2, 3\] of the model"):
        semantic(np.zeros((2, 2, 3)), shape=[2, 3, 3])
