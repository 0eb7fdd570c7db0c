"""Weights files: plain arrays of known shapes and nothing else."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from provider_images.runtime.weights import WeightsError, read_weights, save_weights

pytestmark = pytest.mark.unit

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(4, np.float32)]
SHAPES = [(2, 3), (4,)]


def archive(**members: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.savez(target, **members)
    return target.getvalue()


def test_weights_read_back_and_are_byte_stable() -> None:
    data = save_weights(ARRAYS)
    assert data == save_weights(ARRAYS)
    for read, written in zip(read_weights(data, SHAPES), ARRAYS, strict=True):
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, written)


@pytest.mark.parametrize(
    "data",
    [
        b"not a zip",
        save_weights(ARRAYS)[:-30],
        save_weights(ARRAYS[:1]),
        save_weights([*ARRAYS, ARRAYS[0]]),
        save_weights([ARRAYS[0].T, ARRAYS[1]]),
        save_weights([np.full((2, 3), np.nan), ARRAYS[1]]),
        archive(w000=np.zeros((2, 3), np.float16), other=np.ones(4, np.float16)),
        archive(w000=np.zeros((2000, 3000), np.float16), w001=np.ones(4, np.float16)),
        archive(w000=np.array([[None] * 3] * 2), w001=np.ones(4, np.float16)),
        archive(w000=np.array([["a"] * 3] * 2), w001=np.ones(4, np.float16)),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(WeightsError):
        read_weights(data, SHAPES)


class Trap:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    trap = np.array([[Trap(tmp_path / "sprung")] * 3] * 2, dtype=object)
    with pytest.raises(WeightsError):
        read_weights(archive(w000=trap, w001=np.ones(4, np.float16)), SHAPES)
    assert not (tmp_path / "sprung").exists()


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("w000.npy", bytes(50_000_000))
        bomb.writestr("w001.npy", b"")
    with pytest.raises(WeightsError, match="larger"):
        read_weights(target.getvalue(), SHAPES)
