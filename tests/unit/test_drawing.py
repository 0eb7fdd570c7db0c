"""Drawings of results: what is seen is what was found, and it can be read."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from oracle.content.drawing import COLOURS, _on, _rgb, draw
from provider_images.runtime.masks import encode_mask

pytestmark = pytest.mark.unit

GREY = 100


def segment(index: int, box: tuple[int, int, int, int], size: tuple[int, int], label: str = "star") -> dict[str, Any]:
    """A filled box (y1, x1, y2, x2) in a picture of (width, height)."""
    y1, x1, y2, x2 = box
    width, height = size
    counts = encode_mask(np.ones((y2 - y1, x2 - x1), bool), y1, x1, height, width)
    return {
        "index": index,
        "label": label,
        "score": 0.9,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (y2 - y1) * (x2 - x1),
        "segmentation": {"size": [height, width], "counts": counts},
    }


def drawn(
    segments: list[dict[str, Any]], size: tuple[int, int], task: str = "instance-segmentation"
) -> dict[str, Image.Image]:
    document = {
        "task": task,
        "image": {"width": size[0], "height": size[1]},
        "segments": segments,
        "found": len(segments),
    }
    files = draw(document, lambda: Image.new("RGB", size, (GREY, GREY, GREY)))
    return {name: Image.open(io.BytesIO(data)) for name, data in files.items()}


def pixels(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(picture.convert("RGB")).astype(int)


def test_a_mask_is_as_large_as_the_picture_and_holds_the_place_of_each_segment() -> None:
    size = (50, 30)
    mask = drawn([segment(3, (2, 4, 20, 24), size), segment(5, (10, 10, 30, 50), size)], size)["mask"]
    values = np.asarray(mask)
    assert mask.size == size
    assert values[0, 0] == 0
    assert (values[2:20, 4:24] == 1).all()  # the better one is uppermost
    assert (values[20:30, 10:50] == 2).all()
    assert pixels(mask)[25, 40].tolist() == list(_rgb(COLOURS[1]))


@pytest.mark.parametrize(("size", "longest"), [((28, 20), 640), ((900, 700), 900), ((4000, 3000), 1280), ((1, 1), 640)])
def test_an_overlay_has_a_size_that_can_be_looked_at(size: tuple[int, int], longest: int) -> None:
    overlay = drawn([segment(3, (0, 0, size[1], size[0]), size)], size)["overlay"]
    assert max(overlay.size) == longest
    assert abs(overlay.width / overlay.height - size[0] / size[1]) < 0.05


def test_an_object_is_tinted_in_its_colour_and_what_is_around_it_is_left_alone() -> None:
    size = (700, 700)
    overlay = pixels(drawn([segment(3, (300, 300, 500, 500), size)], size)["overlay"])
    assert overlay[600, 600].tolist() == [GREY] * 3
    expected = 0.55 * GREY + 0.45 * np.array(_rgb(COLOURS[0]))
    assert np.abs(overlay[450, 450] - expected).max() <= 1


def test_labels_hide_no_other_label(monkeypatch: pytest.MonkeyPatch) -> None:
    from oracle.content import drawing

    chips: list[tuple[float, ...]] = []
    rectangle = drawing.ImageDraw.ImageDraw.rectangle

    def spy(self: Any, xy: tuple[float, ...], *args: Any, **options: Any) -> None:
        if "fill" in options:
            chips.append(xy)
        rectangle(self, xy, *args, **options)

    monkeypatch.setattr(drawing.ImageDraw.ImageDraw, "rectangle", spy)
    size = (800, 600)
    crowd = [segment(i, (200 + i, 300 + i, 400 + i, 500 + i), size, "traffic light") for i in range(12)]
    drawn(crowd, size)
    assert len(chips) == 12
    for one, other in itertools.combinations(chips, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert all(x1 >= 0 and y1 >= 0 and x2 <= 800 and y2 <= 600 for x1, y1, x2, y2 in chips)


def test_a_semantic_segmentation_has_a_legend_below_and_a_colour_for_each_class() -> None:
    size = (800, 600)
    one = drawn([segment(3, (0, 0, 100, 800), size)], size, "semantic-segmentation")
    other = drawn(
        [segment(2, (0, 0, 300, 800), size), segment(3, (400, 0, 500, 800), size)], size, "semantic-segmentation"
    )
    assert one["overlay"].height > 600
    assert pixels(one["mask"])[50, 50].tolist() == pixels(other["mask"])[450, 50].tolist()


def test_nothing_found_is_drawn_as_the_picture_itself() -> None:
    files = drawn([], (700, 500))
    assert (pixels(files["overlay"]) == GREY).all()
    assert not np.asarray(files["mask"]).any()


def test_bars_are_as_long_as_their_probabilities() -> None:
    labels = [{"label": "a very long label " * 20, "probability": 0.5}, {"label": "ж é 漢", "probability": 0.25}]
    page = pixels(Image.open(io.BytesIO(draw({"task": "classification", "labels": labels}, lambda: None)["labels"])))  # type: ignore[arg-type, return-value]
    blue = (np.abs(page - np.array(_rgb("#1e78f0"))).max(axis=-1) < 12).sum(axis=1)
    lengths = sorted({int(length) for length in blue if length > 20}, reverse=True)
    assert abs(lengths[0] / lengths[-1] - 2) < 0.2


def test_a_picture_of_another_size_is_not_drawn_over() -> None:
    document = {"task": "instance-segmentation", "image": {"width": 9, "height": 9}, "segments": [], "found": 0}
    with pytest.raises(ValueError, match="8 x 9"):
        draw(document, lambda: Image.new("RGB", (8, 9)))


def test_colours_stay_apart_and_their_text_can_be_read() -> None:
    assert len(set(COLOURS)) == len(COLOURS)
    for one, other in itertools.combinations(COLOURS[:12], 2):
        assert sum(abs(a - b) for a, b in zip(_rgb(one), _rgb(other), strict=True)) > 90
    for colour in COLOURS:
        assert _contrast(colour, _on(colour)) >= 4.5


def _contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""

    def luminance(colour: str) -> float:
        parts = [value / 255 for value in _rgb(colour)]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)
