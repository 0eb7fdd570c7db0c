"""Checks of one field each, for documents that strangers write; standard library only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any, cast

MAX_DETAIL = 300  # characters of a text that explains

# Control characters, and halves of characters, which have no bytes.
_UNSTORED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NAME = re.compile(r"[A-Za-z0-9._:+-]{1,200}")


class JobError(ValueError):
    """A job or a result that breaks the contract; the message names the field."""


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def decode_object(text: str | bytes) -> dict[str, Any]:
    """Decode a JSON object whose numbers are all finite. Raises JobError."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise JobError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise JobError("an object expected")
    return value


def document(text: str | bytes, limit: int, schema: int, keys: set[str]) -> dict[str, Any]:
    """A document of this schema number with these fields and no others. Raises JobError."""
    if len(text) > limit:
        raise JobError(f"{len(text)} bytes; at most {limit} expected")
    value = decode_object(text)
    found = value.get("schema")
    if type(found) is not int or found != schema:
        raise JobError(f"schema: {schema} expected, not {short(found)}")
    return fields(value, "", keys | {"schema"})


def fields(value: object, field: str, keys: set[str]) -> dict[str, Any]:
    """An object with exactly these fields. Raises JobError."""
    if not isinstance(value, dict):
        raise JobError(f"{field}: an object expected")
    if value.keys() != keys:
        wrong = min(str(key) for key in value.keys() ^ keys)
        state = "missing" if wrong in keys else "unknown"
        # A key may be anything.
        raise JobError(
            f"{field}.{wrong}".lstrip(".").encode("ascii", "backslashreplace").decode()[:MAX_DETAIL] + f": {state}"
        )
    return cast(dict[str, Any], value)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def listed(value: object, field: str, low: int, high: int) -> Sequence[object]:
    """A list of low to high members. Raises JobError."""
    if not isinstance(value, list) or not low <= len(value) <= high:
        amount = str(low) if low == high else f"{low} to {high}"
        raise JobError(f"{field}: a list of {amount} expected")
    return value


def name(value: object, field: str) -> str:
    """A plain name. Raises JobError."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise JobError(f"{field}: a name of 1 to 200 plain characters expected, not {short(value)}")
    return value


def text(value: object, field: str) -> str:
    """A short text that can be stored and shown. Raises JobError."""
    if not isinstance(value, str) or len(value) > MAX_DETAIL or _UNSTORED.search(value):
        raise JobError(f"{field}: a text of at most {MAX_DETAIL} printable characters expected, not {short(value)}")
    return value


def stored(text: str) -> str:
    """The same text as ``text`` accepts it."""
    return _UNSTORED.sub("?", text)[:MAX_DETAIL]


def path(value: object, field: str) -> str:
    """A path that stays where it begins. Raises JobError."""
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or "\0" in value or ".." in value.split("/"):
        raise JobError(f"{field}: a path without '..' expected, not {short(value)}")
    return value


def integer(value: object, field: str, low: int, high: int) -> int:
    """An integer within bounds, both included. Raises JobError."""
    if type(value) is not int or not low <= value <= high:
        raise JobError(f"{field}: an integer from {low} to {high} expected, not {short(value)}")
    return value


def number(value: object, field: str, low: float, high: float) -> float:
    """A number within bounds, both included. Raises JobError."""
    # bool is an int to Python, and NaN fails every comparison.
    if type(value) not in (int, float) or not low <= cast(float, value) <= high:
        raise JobError(f"{field}: a number from {low} to {high} expected, not {short(value)}")
    return float(cast(float, value))


def short(value: object) -> str:
    """A value as an error shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
