"""From bytes to the array the model takes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from provider_images.mnist.draw import draw_digit
from provider_images.runtime.job import ItemFailure
from provider_images.runtime.pictures import PictureError, centre_digit, prepare, prepare_all
from provider_images.runtime.spec import InputSpec

pytestmark = pytest.mark.unit

DIGIT = InputSpec(28, 28, 1, "gray", "digit", 20, (0.0, 1.0))
COLOUR = InputSpec(8, 12, 3, "rgb", "stretch", 0, (-1.0, 1.0))


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def prepared(image: Image.Image, spec: InputSpec = DIGIT) -> np.ndarray:
    return prepare(encode(image), spec, max_pixels=10**7)


@pytest.mark.parametrize("digit", range(10))
def test_a_picture_as_mnist_frames_it_goes_through_unchanged(digit: int) -> None:
    picture = draw_digit(digit, 5)
    values = prepared(picture)
    assert values.shape == (28, 28, 1)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[..., 0] * 255, np.asarray(picture), atol=1e-4)


@pytest.mark.parametrize("digit", range(10))
@pytest.mark.parametrize("style", ["black on white", "white on black", "colour"])
def test_a_digit_on_any_ground_comes_out_light_on_black_and_centred(digit: int, style: str) -> None:
    paper = draw_digit(digit, 3, style="paper", size=200)
    if style == "white on black":
        paper = Image.eval(paper, lambda v: 255 - v)
    elif style == "colour":
        paper = Image.merge("RGB", (paper, paper, Image.new("L", paper.size, 120)))
    values = prepared(paper)[..., 0]
    rows, columns = np.flatnonzero((values > 0.5).any(axis=1)), np.flatnonzero((values > 0.5).any(axis=0))
    assert values.max() > 0.9
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in range(17, 21)
    centre = [(values.sum(axis=1 - axis) @ (np.arange(28) + 0.5)) / values.sum() for axis in (0, 1)]
    assert centre == pytest.approx([14, 14], abs=1.1)


@pytest.mark.parametrize("digit", range(10))
def test_uneven_light_changes_little(digit: int) -> None:
    pencil = draw_digit(digit, 3, style="paper", size=200).point(lambda v: 240 if v > 150 else 150)
    page = np.asarray(pencil)
    shadow = np.linspace(0.5, 1.0, 200)[:, None] * np.ones(200)
    lit = Image.fromarray((page * shadow).astype(np.uint8))
    # A changed outermost row can move the whole digit by a pixel, so compare how much ink there is.
    assert prepared(lit).sum() == pytest.approx(prepared(Image.fromarray(page)).sum(), rel=0.2)


def test_a_thin_pen_does_not_fade_away() -> None:
    strokes = {}
    for width in (3, 25):
        page = Image.new("L", (400, 500), 240)
        ImageDraw.Draw(page).line([(100, 80), (300, 80), (200, 420)], fill=10, width=width)
        strokes[width] = prepared(page)[..., 0]
    assert strokes[3].max() > 0.9
    assert strokes[3].sum() > 0.7 * strokes[25].sum()


def test_the_same_digit_in_either_polarity_is_the_same_array() -> None:
    paper = draw_digit(7, 1, style="paper", size=200)
    difference = prepared(paper) - prepared(Image.eval(paper, lambda v: 255 - v))
    assert np.abs(difference).max() < 0.02


def test_paper_without_ink_comes_back_black() -> None:
    noise = np.random.default_rng(0).integers(196, 204, (90, 120)).astype(np.uint8)
    for page in (np.full((50, 40), 200, np.uint8), noise, np.zeros((1, 1), np.uint8), np.zeros((28, 28), np.uint8)):
        assert not centre_digit(page, size=28, box=20).any()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_no_picture_breaks_the_framing(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    page = (rng.integers(0, 2, (height, width)) * rng.integers(0, 256)).astype(np.uint8)
    framed = centre_digit(page, size=28, box=20)
    assert framed.shape == (28, 28)
    assert framed.dtype == np.uint8


def test_colour_is_stretched_into_the_declared_range() -> None:
    values = prepared(Image.new("RGB", (30, 30), (255, 0, 0)), COLOUR)
    assert values.shape == (8, 12, 3)
    np.testing.assert_allclose(values[0, 0], [1, -1, -1], atol=1e-6)


def test_exif_orientation_is_respected() -> None:
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned right: what lies left goes on top
    data = encode(picture, "JPEG", exif=exif, quality=95)
    values = prepare(data, InputSpec(20, 20, 1, "gray", "stretch", 0, (0, 1)), max_pixels=10**7)[..., 0]
    assert values[:8].mean() > 0.9
    assert values[12:].mean() < 0.1


def test_transparent_is_white_and_sixteen_bits_are_scaled() -> None:
    gray = InputSpec(4, 4, 1, "gray", "stretch", 0, (0, 1))
    assert prepared(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), gray).min() == 1
    deep = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert prepared(deep, gray).mean() == pytest.approx(128 / 255)


def test_what_is_not_an_accepted_picture_is_refused_by_kind() -> None:
    png = encode(Image.effect_noise((64, 64), 50))
    frames = [Image.new("L", (8, 8), v) for v in (0, 255)]
    cases = {
        b"hello": ItemFailure.UNREADABLE,
        b"": ItemFailure.UNREADABLE,
        png[: len(png) // 2]: ItemFailure.UNREADABLE,
        encode(Image.new("L", (9, 9)), "BMP"): ItemFailure.UNREADABLE,
        encode(Image.new("1", (4000, 4000))): ItemFailure.TOO_LARGE,
        encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]): ItemFailure.UNSUPPORTED,
        encode(frames[0], "GIF", save_all=True, append_images=frames[1:]): ItemFailure.UNSUPPORTED,
    }
    for data, failure in cases.items():
        with pytest.raises(PictureError) as raised:
            prepare(data, DIGIT, max_pixels=10**6)
        assert raised.value.failure is failure, data[:20]


def test_given_a_gif_of_one_frame_or_a_cameras_mpo_when_prepared_then_it_is_read_like_any_other() -> None:
    picture = draw_digit(4, 2, style="paper", size=200)
    expected = prepared(picture)
    np.testing.assert_allclose(prepare(encode(picture, "GIF"), DIGIT, max_pixels=10**6), expected, atol=0.02)
    views = encode(picture, "MPO", save_all=True, append_images=[Image.new("L", picture.size)], quality=95)
    assert Image.open(io.BytesIO(views)).format == "MPO"
    np.testing.assert_allclose(prepare(views, DIGIT, max_pixels=10**6), expected, atol=0.2)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
)
def test_damaged_pictures_are_read_or_refused(kind: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(encode(draw_digit(4, 2), kind))
    for place, value in damage:
        data[place % len(data)] = value
    try:
        values = prepare(bytes(data), DIGIT, max_pixels=10**6)
    except PictureError:
        return
    assert values.shape == (28, 28, 1)
    assert np.isfinite(values).all()


def test_given_many_pictures_when_prepared_at_once_then_each_is_as_alone_and_a_bad_one_fails_alone() -> None:
    pictures = [encode(draw_digit(digit, 7)) for digit in range(10)]
    pictures[4] = b"text"
    answers = prepare_all(pictures, DIGIT, max_pixels=10**6, threads=3)
    for i, (data, answer) in enumerate(zip(pictures, answers, strict=True)):
        if i == 4:
            assert isinstance(answer, PictureError)
            assert answer.failure is ItemFailure.UNREADABLE
        else:
            np.testing.assert_array_equal(answer, prepare(data, DIGIT, max_pixels=10**6))


def test_a_drawing_depends_on_digit_and_seed_alone() -> None:
    for style in ("mnist", "paper"):
        assert draw_digit(8, 11, style=style).tobytes() == draw_digit(8, 11, style=style).tobytes()
        assert draw_digit(8, 11, style=style).tobytes() != draw_digit(8, 12, style=style).tobytes()
