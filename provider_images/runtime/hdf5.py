"""Weights in HDF5, as Keras writes them: .weights.h5 of Keras 3, and the weights-only .h5 of earlier ones.

HDF5 can point into other files; a file that does is refused before Keras opens it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from provider_images.runtime.weights import WeightsError

_MAX_OBJECTS = 100_000
_MAX_DEPTH = 64
_NUMBERS = "fiub"


def load_hdf5(model: Any, path: Path, limit: int) -> None:
    """Fill a ``keras.Model`` whose arrays together have ``limit`` bytes. Raises WeightsError."""
    legacy = check_hdf5(path, 2 * limit + 1024 * 1024)
    with tempfile.TemporaryDirectory(prefix="sibyl-weights-") as folder:
        # Keras tells its formats apart by the name of the file.
        named = Path(folder, "model.h5" if legacy else "model.weights.h5")
        named.symlink_to(path.absolute())
        try:
            model.load_weights(named)
        except (ValueError, KeyError, OSError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise WeightsError(f"the file does not fit this model: {_line(error)}") from error
    check_finite(model)


def check_hdf5(path: Path | Any, limit: int) -> bool:
    """Look through a file (a path or an open one) of at most ``limit`` bytes of arrays; whether it is a legacy one.

    Raises WeightsError on a whole legacy model, on links out of the file, on anything but plain numbers, and on more
    than the limit.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "model_config" in file.attrs:
                raise WeightsError("a legacy .h5 file of a whole model is not accepted; save it as .keras")
            _Look(limit).through(file, 0)
            return "layer_names" in file.attrs
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise error if isinstance(error, WeightsError) else WeightsError(f"not an HDF5 file: {_line(error)}") from error


def check_finite(model: Any) -> None:
    """Raises WeightsError when one of a model's arrays holds NaN or infinity."""
    for variable in model.weights:
        if not np.isfinite(variable.value.numpy()).all():
            raise WeightsError(f"{variable.path} holds NaN or infinity")


class _Look:
    def __init__(self, limit: int) -> None:
        self._limit, self._bytes, self._objects = limit, 0, 0

    def through(self, group: Any, depth: int) -> None:
        import h5py

        if depth > _MAX_DEPTH:
            raise WeightsError("the file is nested too deeply")
        for name in group:
            self._objects += 1
            if self._objects > _MAX_OBJECTS:
                raise WeightsError(f"more than {_MAX_OBJECTS} objects in the file")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise WeightsError(f"{name[:100]!r} is a link, which is not accepted")
            item = group[name]
            if isinstance(item, h5py.Group):
                self.through(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self._dataset(name, item)
            else:
                raise WeightsError(f"{name[:100]!r} is neither a group nor an array")

    def _dataset(self, name: str, item: Any) -> None:
        if item.external or item.is_virtual:
            raise WeightsError(f"{name[:100]!r} lies in another file, which is not accepted")
        if item.dtype.kind not in _NUMBERS:
            raise WeightsError(f"{name[:100]!r} holds {item.dtype}, not numbers")
        self._bytes += item.size * item.dtype.itemsize
        if self._bytes > self._limit:
            raise WeightsError(f"the arrays in the file have more than {self._limit} bytes")


def _line(error: Exception) -> str:
    """An error of Keras or HDF5 in one line; theirs run over many."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:250]
