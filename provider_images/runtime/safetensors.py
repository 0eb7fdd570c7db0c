"""A reader of .safetensors files: a length, a header in JSON, then plain arrays. Nothing in one can run."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.weights import WeightsError

_MAX_HEADER = 16 * 1024 * 1024
_KINDS: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a file by name, as float32. Raises WeightsError, OSError."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _MAX_HEADER:
                raise WeightsError(f"a header of {length} bytes in the safetensors file")
            header = json.loads(file.read(length))
            start = file.tell()
        room = path.stat().st_size - start
        data = np.memmap(path, np.uint8, mode="r", offset=start, shape=(room,)) if room else np.zeros(0, np.uint8)
        header.pop("__metadata__", None)
        return {name: _tensor(name, entry, data) for name, entry in header.items()}
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise error if isinstance(error, WeightsError) else WeightsError(f"not a safetensors file: {error}") from error


def _tensor(name: str, entry: dict[str, Any], data: NDArray[np.uint8]) -> NDArray[np.float32]:
    kind, shape = entry["dtype"], entry["shape"]
    begin, end = entry["data_offsets"]
    if kind not in _KINDS:
        raise WeightsError(f"the tensor {name[:100]} has the type {kind!r}; one of {', '.join(_KINDS)} expected")
    if not 0 <= begin <= end <= data.size or min(shape, default=0) < 0:
        raise WeightsError(f"the tensor {name[:100]} lies outside of the file")
    dtype = _KINDS[kind]
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise WeightsError(f"the tensor {name[:100]} does not have the bytes of its shape")
    values: NDArray[Any] = np.frombuffer(data[begin:end].tobytes(), dtype)
    if kind == "BF16":  # the upper half of a float32
        values = (values.astype(np.uint32) << 16).view(np.float32)
    array: NDArray[np.float32] = values.astype(np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise WeightsError(f"the tensor {name[:100]} holds NaN or infinity")
    return array
