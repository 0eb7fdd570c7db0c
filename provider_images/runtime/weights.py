"""A model's weights as a plain .npz file: float16 arrays named w000, w001 ... in the model's own order, no pickles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class WeightsError(ValueError):
    """The file does not hold this model's weights."""


def save_weights(arrays: Sequence[NDArray[Any]]) -> bytes:
    """Pack arrays, in order. The same arrays give the same bytes."""
    target = io.BytesIO()
    np.savez_compressed(target, **{_key(i): array.astype(np.float16) for i, array in enumerate(arrays)})  # type: ignore[arg-type]
    return target.getvalue()


def read_weights(data: bytes, shapes: Sequence[tuple[int, ...]]) -> list[NDArray[np.float32]]:
    """Unpack arrays of exactly these shapes. Raises WeightsError on anything else, before unpacking too much."""
    expected = [_key(i) for i in range(len(shapes))]
    limits = [2 * int(np.prod(shape)) + 1024 for shape in shapes]
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: info.file_size for info in archive.infolist()}
            if list(members) != [f"{key}.npy" for key in expected]:
                raise WeightsError("the arrays in the file are not this model's")
            if any(size > limit for size, limit in zip(members.values(), limits, strict=True)):
                raise WeightsError("an array in the file is larger than this model's")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            loaded = [arrays[key].astype(np.float32) for key in expected]
    except (OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WeightsError(f"not an .npz file: {error}") from error
    except ValueError as error:
        raise error if isinstance(error, WeightsError) else WeightsError(f"not a plain array: {error}") from error
    for i, (array, shape) in enumerate(zip(loaded, shapes, strict=True)):
        if array.shape != tuple(shape):
            raise WeightsError(f"{_key(i)} has shape {array.shape}, the model's is {tuple(shape)}")
        if not np.isfinite(array).all():
            raise WeightsError(f"{_key(i)} holds NaN or infinity")
    return loaded


def _key(index: int) -> str:
    return f"w{index:03d}"
