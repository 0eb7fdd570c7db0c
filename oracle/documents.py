"""The result document behind a result CID, as whoever asked reads it: every field checked before anything is shown."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from oracle.domain import Cid
from oracle.errors import ContentCorrupt
from oracle.manifests import INSTANCES, SEMANTIC
from provider_images.runtime.checks import JobError
from provider_images.runtime.segments import MAX_MASKS, MAX_SEGMENTS, MAX_SIDE, area_of, bytes_of, decode_runs, within

SCHEMA = "sibyl/result/1"
_SEGMENTATIONS = frozenset({INSTANCES, SEMANTIC})
MOST_FILE_BYTES = 16 * 1024 * 1024
_MOST_FILES = 8
_FILE_NAME = re.compile(r"[a-z]{1,20}")
_MOST_LABELS = 100
_LONGEST_LABEL = 200
_UNSHOWN = frozenset({"Cc", "Cs"})  # Unicode categories: control characters, half surrogates


def read_result(data: bytes) -> Mapping[str, Any]:
    """Decode and check a result document. Raises ContentCorrupt, which names the field."""
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _bad("it is not JSON") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _bad(f"its schema is not {SCHEMA}")
    source = document.get("input")
    if not isinstance(source, dict) or not isinstance(source.get("cid"), str):
        raise _bad("input.cid is missing")
    if not isinstance(document.get("request"), str):
        raise _bad("request is missing")
    familiarity = document.get("familiarity", 1)
    if not _is_share(familiarity):
        raise _bad("familiarity is not a number from 0 to 1")
    _check_files(document.get("files", {}))
    if document.get("task") in _SEGMENTATIONS:
        if "labels" in document:
            raise _bad("a segmentation has no labels")
        _check_segments(document)
        return document
    if "segments" in document:
        raise _bad("segments are not for this task")
    labels = document.get("labels")
    if not isinstance(labels, list) or not 1 <= len(labels) <= _MOST_LABELS:
        raise _bad(f"labels are not a list of 1 to {_MOST_LABELS}")
    for place, label in enumerate(labels):
        _check_label(label, f"labels[{place}]", "probability")
    return document


def _check_files(files: object) -> None:
    """Drawings of the result, PNG, by name."""
    if not isinstance(files, dict) or len(files) > _MOST_FILES:
        raise _bad(f"files are not an object of at most {_MOST_FILES}")
    for name, file in files.items():
        if not _FILE_NAME.fullmatch(name) or not isinstance(file, dict) or file.get("type") != "image/png":
            raise _bad(f"files hold {name[:40]!a}, which is no drawing")
        if type(file.get("bytes")) is not int or not 0 < file["bytes"] <= MOST_FILE_BYTES:
            raise _bad(f"files.{name}.bytes is not a number up to {MOST_FILE_BYTES}")
        try:
            Cid.parse(str(file.get("cid")))
        except ValueError:
            raise _bad(f"files.{name}.cid is none") from None


def _check_segments(document: Mapping[str, Any]) -> None:
    image, segments, found = document.get("image"), document["segments"], document.get("found")
    if not isinstance(image, dict) or not all(
        type(image.get(side)) is int and 0 < image[side] <= MAX_SIDE for side in ("width", "height")
    ):
        raise _bad("image is not a width and a height in pixels")
    width, height = image["width"], image["height"]
    if not isinstance(segments, list) or len(segments) > MAX_SEGMENTS:
        raise _bad(f"segments are not a list of at most {MAX_SEGMENTS}")
    if type(found) is not int or found < len(segments):
        raise _bad("found is fewer than segments")
    room = MAX_MASKS
    for place, segment in enumerate(segments):
        field = f"segments[{place}]"
        _check_label(segment, field, "score")
        _check_box(segment.get("bbox"), f"{field}.bbox", width, height)
        mask = segment.get("segmentation")
        if not isinstance(mask, dict) or mask.get("size") != [height, width] or not isinstance(mask.get("counts"), str):
            raise _bad(f"{field}.segmentation is not a mask of the picture")
        room -= bytes_of(mask["counts"])
        if room < 0:
            raise _bad(f"{field}.segmentation: masks of more than {MAX_MASKS} bytes")
        try:
            runs = decode_runs(mask["counts"], field)
        except JobError as error:
            raise _bad(str(error)) from None
        if sum(runs) != width * height or area_of(runs) != segment.get("area"):
            raise _bad(f"{field}.segmentation has other pixels than the picture, or than it says")
        if not within(runs, pixel_box(segment["bbox"], width, height), height):
            raise _bad(f"{field}.segmentation has pixels outside of its box")


def pixel_box(bbox: Sequence[float], width: int, height: int) -> tuple[int, int, int, int]:
    """A COCO box (x, y, width, height) in whole pixels, none of its own left out: y1, x1, y2, x2."""
    x, y, across, down = bbox
    # Sums of hundredths miss by less than this.
    bottom, right = math.ceil(y + down - 1e-6), math.ceil(x + across - 1e-6)
    return math.floor(y), math.floor(x), min(height, bottom), min(width, right)


def _check_box(box: object, field: str, width: int, height: int) -> None:
    if not isinstance(box, list) or len(box) != 4 or not all(type(edge) in (int, float) for edge in box):
        raise _bad(f"{field} is not a box")
    x, y, across, down = box
    # The sums of two decimals may end a hair beyond the picture; of a number without a bound there is no sum.
    if not (
        max(box) <= MAX_SIDE + 1
        and min(x, y) >= 0
        and min(across, down) > 0
        and x + across < width + 0.1
        and y + down < height + 0.1
    ):
        raise _bad(f"{field} is not within the picture")


def _check_label(label: object, field: str, share: str) -> None:
    if not isinstance(label, dict):
        raise _bad(f"{field} is not an object")
    index, text = label.get("index"), label.get("label")
    if type(index) is not int or not 0 <= index <= 0xFFFF:
        raise _bad(f"{field}.index is not a class")
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_LABEL:
        raise _bad(f"{field}.label is not a text of 1 to {_LONGEST_LABEL} characters")
    if any(unicodedata.category(character) in _UNSHOWN for character in text):
        raise _bad(f"{field}.label holds control characters")
    if not _is_share(label.get(share)):
        raise _bad(f"{field}.{share} is not a number from 0 to 1")


def _is_share(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _bad(problem: str) -> ContentCorrupt:
    return ContentCorrupt(
        f"the result document cannot be trusted: {problem}",
        remedy="The answer on-chain stands; tell the operator whose report named this document.",
    )
