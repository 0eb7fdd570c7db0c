"""The result document behind a result CID, as whoever asked reads it: every field checked before anything is shown."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from oracle.errors import ContentCorrupt

SCHEMA = "sibyl/result/1"
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
    labels = document.get("labels")
    if not isinstance(labels, list) or not 1 <= len(labels) <= _MOST_LABELS:
        raise _bad(f"labels are not a list of 1 to {_MOST_LABELS}")
    for place, label in enumerate(labels):
        _check_label(label, f"labels[{place}]")
    return document


def _check_label(label: object, field: str) -> None:
    if not isinstance(label, dict):
        raise _bad(f"{field} is not an object")
    index, text, probability = label.get("index"), label.get("label"), label.get("probability")
    if type(index) is not int or not 0 <= index <= 0xFFFF:
        raise _bad(f"{field}.index is not a class")
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_LABEL:
        raise _bad(f"{field}.label is not a text of 1 to {_LONGEST_LABEL} characters")
    if any(unicodedata.category(character) in _UNSHOWN for character in text):
        raise _bad(f"{field}.label holds control characters")
    if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
        raise _bad(f"{field}.probability is not a number from 0 to 1")


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _bad(problem: str) -> ContentCorrupt:
    return ContentCorrupt(
        f"the result document cannot be trusted: {problem}",
        remedy="The answer on-chain stands; tell the operator whose report named this document.",
    )
