"""Anyone's model as a .tflite file, with floats or quantised, on TensorFlow's interpreter."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.weights import WeightsError

_CUSTOM = 32  # the operator code of everything that is not built in
_MAX_BYTES = 1024**3
_QUANTISED = (np.dtype(np.uint8), np.dtype(np.int8))


class TfliteModel:
    """A loaded file with one input (1, h, w, c) and one output. Raises WeightsError when it is anything else."""

    def __init__(self, path: Path, threads: int) -> None:
        import tensorflow as tf

        content = check_tflite(path)
        try:
            with warnings.catch_warnings():
                # The interpreter is to move into a package of its own, which the warning recommends.
                warnings.simplefilter("ignore", UserWarning)
                self._interpreter = tf.lite.Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise WeightsError(f"not a .tflite file that runs here: {_line(error)}") from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise WeightsError(f"one input and one output expected, not {len(inputs)} and {len(outputs)}")
        self._input, self._output = inputs[0], outputs[0]
        if len(self._input["shape"]) != 4 or self._input["shape"][0] != 1:
            raise WeightsError(f"an input of one picture expected, not {tuple(self._input['shape'])}")
        if self._input["dtype"] is not np.float32 and np.dtype(self._input["dtype"]) not in _QUANTISED:
            raise WeightsError(f"an input of float32, uint8 or int8 expected, not {self._input['dtype'].__name__}")

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(height, width, channels)."""
        return tuple(int(side) for side in self._input["shape"][1:])

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Without the batch."""
        return tuple(int(side) for side in self._output["shape"][1:])

    @property
    def quantised(self) -> bool:
        """Whether the output is an integer that stands for a real number, so that a sum of them is only nearly one."""
        return np.dtype(self._output["dtype"]) in _QUANTISED

    def run(self, picture: NDArray[np.float32]) -> NDArray[Any]:
        """The output, without batch, for one picture (h, w, c): float32 where it stands for reals, else integers."""
        self._interpreter.set_tensor(self._input["index"], _to_input(picture, self._input)[np.newaxis])
        self._interpreter.invoke()
        answer: NDArray[Any] = self._interpreter.get_tensor(self._output["index"])[0]
        scale, zero = self._output["quantization"]
        if self.quantised and scale:
            return ((answer.astype(np.float32) - np.float32(zero)) * np.float32(scale)).astype(np.float32)
        return answer


def check_tflite(path: Path) -> bytes:
    """The file's bytes, once it is known that it uses built-in operators only. Raises WeightsError.

    TensorFlow's interpreter knows others as well, some of which read and write files.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise WeightsError(f"a .tflite file of {path.stat().st_size} bytes; at most {_MAX_BYTES} are read")
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise WeightsError("not a .tflite file")
    from tensorflow.lite.python import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content, 0)
        for i in range(model.OperatorCodesLength()):
            code = model.OperatorCodes(i)
            if code.BuiltinCode() == _CUSTOM or code.DeprecatedBuiltinCode() == _CUSTOM or code.CustomCode():
                name = (code.CustomCode() or b"?").decode(errors="replace")[:100]
                raise WeightsError(f"the operator {name} is not built in, which is not accepted")
    except (struct.error, TypeError, AttributeError, IndexError, ValueError) as error:
        raise error if isinstance(error, WeightsError) else WeightsError("the .tflite file is damaged") from error
    return content


def _to_input(picture: NDArray[np.float32], details: dict[str, Any]) -> NDArray[Any]:
    """A picture in the input's own type; where that is an integer, by the scale the file states."""
    dtype = np.dtype(details["dtype"])
    if dtype not in _QUANTISED:
        return picture
    scale, zero = details["quantization"]
    limits = np.iinfo(dtype)
    levels: NDArray[Any] = np.round(picture / np.float32(scale or 1) + zero).clip(limits.min, limits.max)
    return levels.astype(dtype)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:250]
