"""Safetensors files: plain arrays by name and nothing else."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_images.runtime.safetensors import read_safetensors
from provider_images.runtime.weights import WeightsError

pytestmark = pytest.mark.unit

VALUES = np.array([[1.5, -2, 0.25], [3, 0, 8]], np.float32)
ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


def written(path: Path, header: Any, data: bytes = VALUES.tobytes()) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_numbers_of_each_kind_are_read(tmp_path: Path, kind: str) -> None:
    bytes_of = {
        "F32": VALUES.tobytes(),
        "F16": VALUES.astype(np.float16).tobytes(),
        "BF16": (VALUES.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
    }[kind]
    header = {"__metadata__": {"format": "pt"}, "a.b": ENTRY | {"dtype": kind, "data_offsets": [0, len(bytes_of)]}}
    (read,) = read_safetensors(written(tmp_path / "file", header, bytes_of)).items()
    assert read[0] == "a.b"
    assert read[1].dtype == np.float32
    np.testing.assert_array_equal(read[1], VALUES)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b"[" * 100_000,
        {"a": 5},
        {"a": {"dtype": "F32", "shape": [2, 3]}},
        {"a": ENTRY | {"dtype": "I64"}},
        {"a": ENTRY | {"shape": [2, 4]}},
        {"a": ENTRY | {"shape": [-2, -3]}},
        {"a": ENTRY | {"shape": ["2", 3]}},
        {"a": ENTRY | {"data_offsets": [24, 48]}},
        {"a": ENTRY | {"data_offsets": [-24, 0]}},
        {"a": ENTRY | {"data_offsets": [24, 0]}},
        {"a": ENTRY | {"data_offsets": [0]}},
    ],
)
def test_anything_else_is_refused(tmp_path: Path, header: Any) -> None:
    with pytest.raises(WeightsError):
        read_safetensors(written(tmp_path / "file", header))


def test_what_is_cut_short_or_no_number_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "file", {"a": ENTRY}).read_bytes()
    for data in (b"", whole[:5], whole[:20], whole[:-1], struct.pack("<Q", 2**60) + whole[8:]):
        (tmp_path / "cut").write_bytes(data)
        with pytest.raises(WeightsError):
            read_safetensors(tmp_path / "cut")
    nan = np.full((2, 3), np.nan, np.float32).tobytes()
    with pytest.raises(WeightsError, match="NaN"):
        read_safetensors(written(tmp_path / "nan", {"a": ENTRY}, nan))
