"""Masks as run-length encodings: ours against its definition written out, and against COCO's own tools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from provider_images.runtime.checks import JobError
from provider_images.runtime.masks import decode_mask, encode_mask
from provider_images.runtime.segments import area_of, decode_runs, encode_runs

pytestmark = pytest.mark.unit

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


def runs_slowly(full: np.ndarray) -> list[int]:
    """Pixel after pixel down the columns, outside first."""
    runs, inside = [0], False
    for pixel in full.T.ravel().tolist():
        if pixel != inside:
            runs.append(0)
            inside = pixel
        runs[-1] += 1
    return runs


@st.composite
def placed(draw: st.DrawFn) -> tuple[np.ndarray, int, int, np.ndarray]:
    """A mask, where it lies, and the whole picture with it."""
    mask = draw(SHAPES.flatmap(lambda shape: arrays.arrays(bool, shape)))
    above, left, below, right = (draw(st.integers(0, 3)) for _ in range(4))
    return mask, above, left, np.pad(mask, ((above, below), (left, right)))


@given(placed())
@settings(max_examples=300, deadline=None)
def test_given_any_mask_when_it_is_encoded_then_runs_are_those_of_the_definition(
    given_mask: tuple[np.ndarray, int, int, np.ndarray],
) -> None:
    mask, top, left, full = given_mask
    text = encode_mask(mask, top, left, *full.shape)
    assert decode_runs(text, "mask") == runs_slowly(full)
    assert np.array_equal(decode_mask(text, *full.shape), full)
    assert area_of(decode_runs(text, "mask")) == full.sum()


@given(placed())
@settings(max_examples=300, deadline=None)
def test_given_any_mask_when_it_is_encoded_then_the_text_is_that_of_coco(
    given_mask: tuple[np.ndarray, int, int, np.ndarray],
) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    mask, top, left, full = given_mask
    theirs = rle.encode(np.asfortranarray(full, np.uint8))
    assert encode_mask(mask, top, left, *full.shape) == theirs["counts"].decode()
    assert np.array_equal(decode_mask(theirs["counts"].decode(), *full.shape), full)


@given(st.lists(st.integers(1, 2**31), min_size=1, max_size=30), st.booleans())
def test_given_runs_of_any_length_when_they_are_written_then_they_are_read_again(runs: list[int], first: bool) -> None:
    runs = [0, *runs] if first else runs
    assert decode_runs(encode_runs(runs), "mask") == runs


def test_given_a_large_mask_when_it_is_encoded_then_coco_and_we_agree() -> None:
    rle = pytest.importorskip("pycocotools.mask")
    y, x = np.mgrid[0:1500, 0:2000]
    full = (y - 700) ** 2 + (x - 900) ** 2 < 650**2
    full ^= np.random.default_rng(0).random(full.shape) < 1e-3
    theirs = rle.encode(np.asfortranarray(full, np.uint8))["counts"].decode()
    assert encode_mask(full, 0, 0, *full.shape) == theirs


def test_given_a_mask_of_another_size_when_it_is_decoded_then_it_is_refused() -> None:
    text = encode_mask(np.ones((2, 3), bool), 1, 1, 5, 7)
    with pytest.raises(JobError, match="35 pixels for a picture of 5 x 5"):
        decode_mask(text, 5, 5)
