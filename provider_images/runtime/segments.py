"""What a segmentation finds: segments, each with a class, a score, a box and the pixels that are its own.

Pixels travel as COCO's compressed run-length encoding (pycocotools reads it): runs along the columns, of pixels outside
and inside by turns, outside first; each from the third on less the one two before; five bits a character from "0" on,
the lowest first. Standard library only, since the oracle checks with it what a stranger sends.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provider_images.runtime import checks
from provider_images.runtime.checks import JobError

MAX_SEGMENTS = 100
MAX_SIDE = 65_535  # pixels: the answer on-chain has two bytes for each
MAX_MASKS = 224 * 1024  # bytes that the masks of one picture take in JSON
MIN_BOX = 0.01  # pixels a side: results say hundredths

# A number: characters with the sixth bit, which says that more follow, and one without.
_NUMBER = re.compile(rb"[P-o]{0,6}[0-O]")


@dataclass(frozen=True, slots=True)
class Segment:
    """One object, or all that is of one class.

    ``box`` is (y1, x1, y2, x2) in pixels of the upright picture, y2 and x2 outside; ``counts`` is the encoded mask, of
    ``area`` pixels.
    """

    index: int
    score: float
    box: tuple[float, float, float, float]
    area: int
    counts: str

    @classmethod
    def from_list(cls, value: object, field: str, *, classes: int, width: int, height: int) -> Segment:
        """Check a decoded JSON list, mask included. Raises JobError."""
        index, score, box, counts = checks.listed(value, field, 4, 4)
        corners = [
            # Hundredths, as results say them: what is rounded later would no longer hold the mask.
            round(checks.number(corner, f"{field}.box", 0, limit), 2)
            for corner, limit in zip(checks.listed(box, f"{field}.box", 4, 4), (height, width) * 2, strict=True)
        ]
        y1, x1, y2, x2 = corners
        if not (y2 - y1 >= MIN_BOX and x2 - x1 >= MIN_BOX):
            raise JobError(f"{field}.box: it holds nothing")
        if not isinstance(counts, str):
            raise JobError(f"{field}.mask: a text expected")
        kind = checks.integer(index, f"{field}.index", 0, classes - 1)
        sure = checks.number(score, f"{field}.score", 0.0, 1.0)
        runs = decode_runs(counts, f"{field}.mask")
        if sum(runs) != width * height:
            raise JobError(f"{field}.mask: {sum(runs)} pixels for a picture of {width} x {height}")
        found = cls(kind, sure, (y1, x1, y2, x2), area_of(runs), counts)
        if not found.area:
            raise JobError(f"{field}.mask: it has no pixels")
        if not within(runs, found.pixel_box, height):
            raise JobError(f"{field}.mask: pixels outside of its box")
        return found

    def to_list(self) -> list[Any]:
        """The JSON list that ``from_list`` reads."""
        return [self.index, self.score, list(self.box), self.counts]

    @property
    def pixel_box(self) -> tuple[int, int, int, int]:
        """The box in whole pixels, none of its own left out: y1, x1, y2, x2."""
        y1, x1, y2, x2 = self.box
        return math.floor(y1), math.floor(x1), math.ceil(y2), math.ceil(x2)


def within(runs: Sequence[int], box: tuple[int, int, int, int], height: int) -> bool:
    """Whether all pixels inside lie in a box of whole pixels, in a picture of this height."""
    top, left, bottom, right = box
    place = 0
    for i, run in enumerate(runs):
        if i % 2:
            (column, row), (last_column, last_row) = divmod(place, height), divmod(place + run - 1, height)
            # A run that goes on in the next column has the lowest pixel of one and the uppermost of another.
            whole = column == last_column or (top == 0 and bottom == height)
            if not (whole and left <= column and last_column < right and top <= row and last_row < bottom):
                return False
        place += run
    return True


def segments_from(value: object, field: str, *, classes: int, width: int, height: int) -> tuple[Segment, ...]:
    """Check a list of segments, by falling score. Raises JobError."""
    given = checks.listed(value, field, 0, MAX_SEGMENTS)
    # Before any is decoded: a stranger's millions of runs would take their time.
    if sum(bytes_of(one[3]) for one in given if isinstance(one, list) and len(one) == 4) > MAX_MASKS:
        raise JobError(f"{field}: masks of more than {MAX_MASKS} bytes")
    found = tuple(
        Segment.from_list(item, f"{field}[{i}]", classes=classes, width=width, height=height)
        for i, item in enumerate(given)
    )
    if any(a.score < b.score for a, b in itertools.pairwise(found)):
        raise JobError(f"{field}: scores must fall")
    return found


def bytes_of(counts: object) -> int:
    """How many bytes a mask takes in JSON, where a backslash is two."""
    return len(counts) + counts.count("\\") if isinstance(counts, str) else 0


def encode_runs(runs: Sequence[int]) -> str:
    """Runs of pixels, outside first, as COCO's text."""
    characters = []
    for i, run in enumerate(runs):
        left = run - runs[i - 2] if i > 2 else run
        while True:
            bits, left = left & 0x1F, left >> 5
            more = left != (-1 if bits & 0x10 else 0)
            characters.append(chr(48 + bits + (0x20 if more else 0)))
            if not more:
                break
    return "".join(characters)


def decode_runs(text: str, field: str) -> list[int]:
    """COCO's text as runs of pixels. Raises JobError, with the field, for what ``encode_runs`` does not write."""
    data = text.encode("ascii", "xmlcharrefreplace")  # whose "&" is none of the characters
    numbers = _NUMBER.findall(data)
    if not numbers or sum(map(len, numbers)) != len(data):
        raise JobError(f"{field}: not a run-length encoding, or one that is cut short")
    # Few numbers are many: objects are smooth.
    known = {number: _value(number) for number in set(numbers)}
    steps = [known[number] for number in numbers]
    runs = steps[:]
    # From the third run on, each number is added to the run two before it.
    runs[1::2] = itertools.accumulate(steps[1::2])
    runs[2::2] = itertools.accumulate(steps[2::2])
    # Only the first run may be empty: where the first pixel is inside.
    if runs[0] < 0 or min(runs[1:], default=1) < 1:
        raise JobError(f"{field}: a run of {min(runs)} pixels")
    return runs


def _value(number: bytes) -> int:
    value = 0
    for i, character in enumerate(number):
        value |= ((character - 48) & 0x1F) << (5 * i)
    return value - (1 << 5 * len(number)) if (number[-1] - 48) & 0x10 else value


def area_of(runs: Sequence[int]) -> int:
    """Pixels inside."""
    return sum(runs[1::2])
