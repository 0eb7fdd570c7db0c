"""Anyone's model as a .keras file: looked through before Keras opens it, since a configuration can name code.

What is allowed is a list: layers, operations and initialisers that come with Keras. What runs or reads something else,
Lambda first, is refused with its name.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from provider_images.runtime.hdf5 import check_finite, check_hdf5
from provider_images.runtime.weights import WeightsError

_MEMBERS = frozenset({"config.json", "metadata.json", "model.weights.h5"})
_MAX_CONFIG = 32 * 1024 * 1024
_MAX_WEIGHTS = 2 * 1024**3
_MAX_DEPTH = 200

_MODULES = frozenset(
    {
        *("keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints"),
        *("keras.src.models.functional", "keras.src.models.sequential", "keras.dtype_policies"),
        *("keras.src.ops.numpy", "keras.src.ops.nn", "keras.src.ops.math", "keras.src.ops.image", "keras.ops"),
    }
)
# Values that are written as objects.
_MARKS = frozenset({"__keras_tensor__", "__tuple__", "__ellipsis__", "__slice__"})
# Of Keras' own: what runs code from the file, or reads other files.
_REFUSED = frozenset(
    {
        *("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
        *("StringLookup", "IntegerLookup", "TextVectorization"),
    }
)
_FLOATS = frozenset({"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8"})


def load_keras_file(path: Path) -> Any:
    """The ``keras.Model`` of a file. Raises WeightsError with the reason when it is not accepted."""
    check_keras_file(path)
    import keras

    with tempfile.TemporaryDirectory(prefix="sibyl-model-") as folder:
        # Keras tells its formats apart by the name of the file.
        named = Path(folder, "model.keras")
        named.symlink_to(path.absolute())
        try:
            model = keras.saving.load_model(named, compile=False, safe_mode=True)
        except Exception as error:  # a wrong configuration fails wherever it likes
            raise WeightsError(f"Keras cannot open the file: {_line(error)}") from error
    for layer in model._flatten_layers():
        if layer.compute_dtype in _FLOATS:
            raise WeightsError(f"the layer {layer.name} computes in {layer.compute_dtype}; float32 expected")
    check_finite(model)
    return model


def check_keras_file(path: Path) -> None:
    """Look through a .keras file without running anything of it. Raises WeightsError with the reason."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if len(members) != len(archive.infolist()):
                raise WeightsError("a file stands twice in the archive")
            if strange := sorted(members.keys() - _MEMBERS):
                raise WeightsError(f"{strange[0][:100]!r} in the archive is not part of a model")
            for name, limit in (("config.json", _MAX_CONFIG), ("model.weights.h5", _MAX_WEIGHTS)):
                if name not in members:
                    raise WeightsError(f"the archive has no {name}")
                if members[name].file_size > limit:
                    raise WeightsError(f"{name} has {members[name].file_size} bytes; at most {limit} are read")
            config = json.loads(archive.read("config.json"))
            if not isinstance(config, dict):
                raise WeightsError("config.json: an object expected")
            # How it was trained; it is not read.
            config.pop("compile_config", None)
            _check_config(config, 0)
            check_hdf5(io.BytesIO(archive.read("model.weights.h5")), _MAX_WEIGHTS)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(_what_else(path) or f"not a .keras file: {_line(error)}") from error


def _check_config(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise WeightsError("config.json is nested too deeply")
    if isinstance(value, list):
        for item in value:
            _check_config(item, depth + 1)
    elif isinstance(value, dict):
        if "class_name" in value:
            _check_class(value)
        for item in value.values():
            _check_config(item, depth + 1)


def _check_class(value: dict[str, Any]) -> None:
    name, module = value["class_name"], value.get("module")
    if not isinstance(name, str) or not isinstance(module, str | None):
        raise WeightsError("config.json: names of classes and modules are texts")
    if name in _MARKS and module is None:
        return
    if name in _REFUSED:
        why = "runs code of the file" if name == "Lambda" else "runs or reads something outside of the file"
        raise WeightsError(f"the layer {name} {why}, which is not accepted")
    if module not in _MODULES:
        raise WeightsError(f"{name[:100]!r} of {str(module)[:100]!r} is not part of Keras; custom code is not accepted")
    if (registered := value.get("registered_name")) not in (None, name):
        raise WeightsError(f"{str(registered)[:100]!r} is a custom object, which is not accepted")


def _what_else(path: Path) -> str:
    """What a file is that is no archive, where that can be told."""
    with path.open("rb") as file:
        start = file.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        return "a legacy .h5 file is not accepted as a model; save it as .keras"
    if start[:1] == b"\x80":
        return "a pickle is not accepted, since it can run code"
    return ""


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:250]
