"""The scenes, boxes and crops of the Mask R-CNN family: numpy alone."""

from __future__ import annotations

import numpy as np
import pytest

from provider_images.mask_rcnn import geometry
from provider_images.mask_rcnn.detect import paste
from provider_images.mask_rcnn.scenes import LABELS, OBJECTS, SHAPES, SIDE, contact_sheet, scene
from provider_images.mnist.draw import draw_digit
from provider_images.mnist.train import Digits

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def digits() -> Digits:
    pictures = np.stack([np.asarray(draw_digit(i % 10, i // 10, style="mnist")) for i in range(20)])
    return pictures, np.arange(20) % 10


def test_given_one_seed_when_a_scene_is_drawn_again_then_it_is_the_same_and_its_neighbours_are_not(
    digits: Digits,
) -> None:
    first, again, next_one, other_seed = (scene(*digits, *key) for key in ((1, 5), (1, 5), (1, 6), (2, 5)))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.picture, next_one.picture)
    assert not np.array_equal(first.picture, other_seed.picture)


def test_given_many_scenes_when_they_are_drawn_then_boxes_enclose_what_is_seen_and_every_class_occurs(
    digits: Digits,
) -> None:
    drawn = [scene(*digits, 3, i) for i in range(60)]
    for one in drawn:
        count = int((one.classes > 0).sum())
        assert 1 <= count <= OBJECTS
        assert set(np.unique(one.owner)) - {0} == set(range(1, count + 1))
        assert not one.boxes[count:].any()
        for i in range(count):
            rows, columns = np.nonzero(one.owner == i + 1)
            assert one.boxes[i].tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert set(np.concatenate([one.classes for one in drawn])) == set(range(len(LABELS) + 1))
    assert contact_sheet(drawn[:6], 3).size == (3 * SIDE, 2 * SIDE)


def test_given_digits_too_thin_to_see_when_a_scene_is_drawn_then_they_are_left_out(digits: Digits) -> None:
    faint = digits[0].copy()
    faint[::2] //= 3  # no pixel reaches half of the ink
    faint[1] = 0
    shown = [int(c) for i in range(40) for c in scene(faint, digits[1], 4, i).classes if c > len(SHAPES)]
    assert shown
    assert {(c - len(SHAPES) - 1) % 2 for c in shown} == {1}


def test_given_blank_digits_alone_when_a_scene_needs_one_then_it_is_made_of_shapes() -> None:
    blank = np.zeros((3, 28, 28), np.uint8)
    one = scene(blank, np.zeros(3, np.int64), 1, 0)
    assert 0 < one.classes[0] <= len(SHAPES)


def test_given_overlapping_boxes_when_they_are_suppressed_then_the_better_ones_stay_best_first() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [0, 5, 10, 15]], np.float32)
    scores = np.array([0.8, 0.9, 0.3, 0.7], np.float32)
    assert geometry.suppress(boxes, scores, 0.5, 10).tolist() == [1, 3, 2]
    assert geometry.suppress(boxes, scores, 0.2, 10).tolist() == [1, 2]
    assert geometry.suppress(boxes, scores, 0.5, 2).tolist() == [1, 3]
    assert geometry.suppress(boxes[:0], scores[:0], 0.5, 2).tolist() == []


def test_given_deltas_of_a_target_when_they_are_decoded_then_the_target_comes_back() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([[10, 20, 40, 90]] * 8, np.float64)
    targets = boxes + rng.normal(0, 4, (8, 4))
    assert np.allclose(geometry.decode(np, boxes, geometry.encode(np, boxes, targets)), targets, atol=1e-9)


@pytest.mark.parametrize("edge", [0, 1])
def test_given_a_map_that_holds_its_own_place_when_a_box_is_read_then_each_point_is_where_its_edge_says(
    edge: int,
) -> None:
    y, x = np.mgrid[0:32, 0:32].astype(np.float32)
    offset = 0.0 if edge else 0.5
    ramp = np.stack([(y + offset) * 4, (x + offset) * 4], -1)[None]
    box = np.array([[[20, 30, 62, 99]]], np.float32)
    read = geometry.align(np, [ramp], np.zeros((1, 1), np.int32), box, 7, (0.25,), edge)[0, 0]
    steps = np.arange(7) / 6 if edge else (np.arange(7) + 0.5) / 7
    assert np.allclose(read[:, 0, 0], 20 + 42 * steps, atol=1e-4)
    assert np.allclose(read[0, :, 1], 30 + 69 * steps, atol=1e-4)


def test_given_levels_when_boxes_are_read_then_each_comes_from_its_own_picture_and_map() -> None:
    maps = [np.stack([np.full((h, h, 1), 10 * n + k, np.float32) for n in range(2)]) for k, h in enumerate((8, 4))]
    level = np.array([[0, 1], [1, 0]], np.int32)
    boxes = np.tile(np.array([2, 2, 20, 20], np.float32), (2, 2, 1))
    read = geometry.align(np, maps, level, boxes, 2, (0.25, 0.125), 0)
    assert read.shape == (2, 2, 2, 2, 1)
    assert read[:, :, 0, 0, 0].tolist() == [[0, 1], [11, 10]]


def test_given_a_mask_when_it_is_pasted_then_it_fills_its_box_and_nothing_outside_the_picture() -> None:
    full = paste(np.ones((28, 28), np.float32), np.array([2, 3, 10, 12], np.float32), 16, 16)
    assert full.sum() == 8 * 9
    assert full[2:10, 3:12].all()
    half = np.zeros((28, 28), np.float32)
    half[:, 14:] = 1
    assert paste(half, np.array([0, 0, 8, 8], np.float32), 8, 8).tolist() == [[False] * 4 + [True] * 4] * 8
    assert paste(np.ones((28, 28), np.float32), np.array([-4, -4, 4, 4], np.float32), 8, 8).sum() == 16
