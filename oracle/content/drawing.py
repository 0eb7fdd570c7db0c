"""Drawings of a result, as people look at it: bars of labels, a mask, the picture with what was found in it.

Runs in a child process (``drawing_child.py``), since it decodes the picture. Coordinates of documents are pixels of the
upright picture; a drawing may be larger or smaller than that, the mask is exactly as large.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from provider_images.runtime.segments import decode_runs

# Chosen one after the other, each as far as possible from those before it in OKLab (Ottosson, 2020), none too dark, too
# light or too grey to be told from a photo: the first six are 0.26 apart at least, the first twelve 0.19.
COLOURS = (
    *("#1e78f0", "#69f000", "#ff0000", "#006900", "#f000ff", "#960078", "#3ce1ff", "#ffb45a"),
    *("#ffa5ff", "#78a53c", "#8700f0", "#c369a5", "#963c00", "#0000ff", "#87a5ff", "#d27800"),
    *("#5a4ba5", "#a569ff", "#ff00a5", "#ff8796", "#69d296", "#c32d5a", "#c300b4", "#d2d200"),
)
_SMALL, _LARGE = 640, 1280  # pixels of a drawing's longer side
_TINT = 0.45  # how much of its colour covers an object
_BARS = 10
_WIDTH, _ROW, _MARGIN = 560, 30, 16  # pixels of a drawing of bars
_INK, _PAPER, _RAIL, _BLUE = "#1a1d21", "#ffffff", "#e9edf2", "#1e78f0"


def draw(document: Mapping[str, Any], picture: Callable[[], Image.Image]) -> dict[str, bytes]:
    """The drawings of a result document, PNG, by name; ``picture`` decodes the picture, RGB and upright, if needed.

    A classification has ``labels``; a segmentation has ``mask`` (a palette: 0 is nothing, n the n-th segment) and
    ``overlay``. Raises ValueError when a mask is not the picture's, or the picture has another size.
    """
    if "segments" not in document:
        return {"labels": _png(draw_bars([(one["label"], one["probability"]) for one in document["labels"]]))}
    width, height = document["image"]["width"], document["image"]["height"]
    image = picture()
    if image.size != (width, height):
        raise ValueError(f"a picture of {image.size[0]} x {image.size[1]} pixels, not {width} x {height}")
    semantic = document["task"] == "semantic-segmentation"
    segments = document["segments"]
    colours = [colour_of(one["index"] if semantic else place) for place, one in enumerate(segments)]
    masks = draw_mask(segments, colours, width, height)
    overlay = _overlay(image, masks, segments, colours, legend=semantic)
    return {"mask": _png(masks), "overlay": _png(overlay)}


def colour_of(place: int) -> str:
    """The colour of the n-th thing."""
    return COLOURS[place % len(COLOURS)]


def draw_bars(labels: Sequence[tuple[str, float]]) -> Image.Image:
    """Labels with their probabilities, best first, as bars."""
    shown = labels[:_BARS]
    page = Image.new("RGB", (_WIDTH, 2 * _MARGIN + _ROW * len(shown)), _PAPER)
    pen = ImageDraw.Draw(page)
    font = _font(15)
    left, right = 220, _WIDTH - 84
    for row, (label, probability) in enumerate(shown):
        middle = _MARGIN + _ROW * row + _ROW / 2
        pen.text((left - 12, middle), _fit(label, font, left - 12 - _MARGIN), _INK, font, anchor="rm")
        pen.rounded_rectangle((left, middle - 8, right, middle + 8), 4, _RAIL)
        end = left + (right - left) * probability
        if end - left >= 1:
            pen.rounded_rectangle((left, middle - 8, end, middle + 8), min(4, (end - left) / 2), _BLUE)
        pen.text((_WIDTH - _MARGIN, middle), f"{probability:.1%}", _INK, font, anchor="rm")
    # A few shades do for text and bars, and make a quarter of the bytes.
    return page.quantize(48, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def draw_mask(segments: Sequence[Mapping[str, Any]], colours: Sequence[str], width: int, height: int) -> Image.Image:
    """Which pixel is whose: a palette picture of the picture's own size, the best segment uppermost."""
    # By columns, as runs go: a run is one stroke, so that time is spent on runs and not on pixels.
    values = np.zeros(width * height, np.uint8)
    for place in reversed(range(len(segments))):
        ends = list(accumulate(decode_runs(segments[place]["segmentation"]["counts"], "mask")))
        if ends[-1] != width * height:
            raise ValueError(f"a mask of {ends[-1]} pixels for a picture of {width} x {height}")
        for start, end in zip(ends[0::2], ends[1::2], strict=False):
            values[start:end] = place + 1
    page = Image.fromarray(np.ascontiguousarray(values.reshape(width, height).T), "P")
    page.putpalette([0, 0, 0, *(part for colour in colours for part in _rgb(colour))])
    return page


def _overlay(
    picture: Image.Image,
    masks: Image.Image,
    segments: Sequence[Mapping[str, Any]],
    colours: Sequence[str],
    *,
    legend: bool,
) -> Image.Image:
    longer = max(picture.size)
    scale = max(1.0, _SMALL / longer) if longer < _LARGE else _LARGE / longer
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    page = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
    owner = np.asarray(masks.resize(size, Image.Resampling.NEAREST))
    page = Image.fromarray(_tinted(np.asarray(page), owner, colours))
    font = _font(max(12, min(26, max(size) // 50)))
    if legend:
        shares = [one["area"] / (picture.width * picture.height) for one in segments]
        texts = [f"{one['label']}  {share:.1%}" for one, share in zip(segments, shares, strict=True)]
        return _with_legend(page, texts, colours, font)
    pen = ImageDraw.Draw(page)
    taken: list[tuple[float, float, float, float]] = []
    for place, one in enumerate(segments):
        x, y, across, down = (edge * scale for edge in one["bbox"])
        pen.rectangle((x, y, x + across, y + down), outline=colours[place], width=max(1, round(font.size / 9)))
    for place, one in enumerate(segments):
        x, y, across, down = (edge * scale for edge in one["bbox"])
        text = _fit(f"{one['label']} {one['score']:.0%}", font, size[0])
        _chip(pen, text, font, colours[place], (x, y, x + across, y + down), size, taken)
    return page


def _tinted(pixels: NDArray[np.uint8], owner: NDArray[np.uint8], colours: Sequence[str]) -> NDArray[np.uint8]:
    """Each segment's pixels in its colour, the picture shining through, and its outline in the colour alone."""
    palette = np.array([(0, 0, 0), *(_rgb(colour) for colour in colours)], np.float32)
    edge = np.zeros(owner.shape, bool)
    for axis in (0, 1):
        differs = np.diff(owner, axis=axis) != 0
        before = [slice(None), slice(None)]
        after = [slice(None), slice(None)]
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        edge[tuple(before)] |= differs
        edge[tuple(after)] |= differs
    cover = np.where(edge, np.float32(1), np.float32(_TINT)) * (owner > 0)
    tinted = pixels * (1 - cover[..., None]) + palette[owner] * cover[..., None]
    answer: NDArray[np.uint8] = np.round(tinted).astype(np.uint8)
    return answer


def _chip(
    pen: ImageDraw.ImageDraw,
    text: str,
    font: ImageFont.FreeTypeFont,
    colour: str,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> None:
    """A label at its box, where it hides no other label: the first free place above, below, inside, then further off.

    A crowd may leave no free place; then its label is left out, and the document still has it.
    """
    pad = font.size / 4
    width, height = pen.textlength(text, font) + 2 * pad, font.size * 1.1 + 2 * pad
    x1, y1, x2, y2 = box
    places = [(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2), (x1, y1), (x1, y2 - height)]
    steps = range(1, 9)
    places += [(x1, y1 + side * step * height) for step in steps for side in (1, -1)]
    places += [(x1 + side * step * width, y1) for step in steps for side in (1, -1)]
    for x, y in places:
        left = min(max(0.0, x), max(0.0, size[0] - width))
        top = min(max(0.0, y), max(0.0, size[1] - height))
        chip = (left, top, left + width, top + height)
        if not any(_overlaps(chip, other) for other in taken):
            taken.append(chip)
            pen.rectangle(chip, fill=colour)
            pen.text((left + pad, top + height / 2), text, _on(colour), font, anchor="lm")
            return


def _with_legend(
    page: Image.Image, texts: Sequence[str], colours: Sequence[str], font: ImageFont.FreeTypeFont
) -> Image.Image:
    """A picture above the names of its colours."""
    row = font.size * 1.6
    pen = ImageDraw.Draw(page)
    wide = max([pen.textlength(text, font) for text in texts], default=0) + 3 * font.size
    columns = max(1, int(page.width // wide)) if wide else 1
    rows = -(-len(texts) // columns)
    full = Image.new("RGB", (page.width, page.height + round(rows * row + (font.size if rows else 0))), _PAPER)
    full.paste(page)
    pen = ImageDraw.Draw(full)
    for place, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        x = font.size / 2 + (place % columns) * wide
        y = page.height + font.size / 2 + (place // columns) * row + row / 2
        pen.rectangle((x, y - font.size / 2, x + font.size, y + font.size / 2), fill=colour)
        room = page.width - x - 2 * font.size
        pen.text((x + 1.5 * font.size, y), _fit(text, font, room), _INK, font, anchor="lm")
    return full


def _overlaps(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of its start as there is room for."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _on(colour: str) -> str:
    """Ink that can be read on a colour: whichever of black and white has the higher contrast (WCAG 2.2)."""
    parts = [value / 255 for value in _rgb(colour)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _PAPER if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def _png(page: Image.Image) -> bytes:
    target = io.BytesIO()
    page.save(target, "PNG", compress_level=6)
    return target.getvalue()
