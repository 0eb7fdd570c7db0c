"""The engines that compute, and the few models kept loaded between jobs."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.hdf5 import load_hdf5
from provider_images.runtime.job import JobModel
from provider_images.runtime.keras_file import load_keras_file
from provider_images.runtime.model import BATCH, Classifier, Segmenter
from provider_images.runtime.model import ModelError as ModelError
from provider_images.runtime.safetensors import read_safetensors
from provider_images.runtime.semantic import SemanticSegmenter
from provider_images.runtime.spec import APPLICATIONS, FAMILIES, FILES, INSTANCES, SEMANTIC, ModelSpec, SpecError
from provider_images.runtime.tflite import TfliteModel
from provider_images.runtime.weights import WeightsError, read_weights

_NUMPY_ENGINE = "1"  # raise it when an answer of ``layers.py`` changes


class Engine(Protocol):
    """What loads models."""

    @property
    def version(self) -> str:
        """Names and versions of what computes."""

    def load(self, spec: ModelSpec, weights: Path) -> Classifier | Segmenter:
        """A family's architecture, filled from a file. Raises ModelError."""


class KerasEngine:
    """TensorFlow on the CPU in float32, the reference. Creating it imports TensorFlow, which takes seconds."""

    def __init__(self, threads: int) -> None:
        import keras
        import tensorflow as tf

        # Its pools are made once, by whatever computes first: after that only a process of its own has other threads.
        with contextlib.suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        keras.config.set_floatx("float32")
        self.version = f"keras {keras.__version__}, tensorflow {tf.__version__}"

    def load(self, spec: ModelSpec, weights: Path) -> Classifier | Segmenter:
        """Build the family's architecture and fill it, or open the file that holds both. Raises ModelError."""
        if spec.task == INSTANCES:
            return _load_instances("load_keras", spec, weights, self.version)
        if spec.task == SEMANTIC:
            model = _opened(weights)
            _check_file(spec, model.input_shape, model.output_shape)
            return SemanticSegmenter(_keras_run(model, spec), spec, self.version)
        return self.load_classifier(spec, weights)

    def load_classifier(self, spec: ModelSpec, weights: Path) -> KerasClassifier:
        """The same for a classifier. Raises ModelError."""
        if spec.family in FILES:
            model = _opened(weights)
            _check_file(spec, model.input_shape, model.output_shape)
        else:
            model = build(spec.family)
            _check_size(spec, tuple(model.input_shape[1:]), model.output_shape[-1])
            fill(model, spec, weights)
        return KerasClassifier(model, spec, self.version)


def _load_instances(how: str, spec: ModelSpec, weights: Path, engine: str) -> Segmenter:
    """What an instance family gives for a file of weights. Raises ModelError."""
    load: Callable[..., Segmenter] = getattr(importlib.import_module(f"{FAMILIES[spec.family]}.serve"), how)
    return load(spec, weights, engine)


def _opened(weights: Path) -> Any:
    try:
        return load_keras_file(weights)
    except (WeightsError, OSError) as error:
        raise ModelError(f"weights: {error}") from error


def _keras_run(model: Any, spec: ModelSpec) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    """One graph of one picture: (height, width, channels) to the output without its batch."""
    import tensorflow as tf

    signature = tf.TensorSpec((1, spec.input.height, spec.input.width, spec.input.channels), tf.float32)
    graph = tf.function(lambda pictures: model(pictures, training=False)).get_concrete_function(signature)

    # The graph holds the model's variables by weak reference only, hence the default.
    def run(picture: NDArray[np.float32], _: Any = model) -> NDArray[Any]:
        answer: NDArray[Any] = graph(tf.constant(picture[np.newaxis])).numpy()[0]
        return answer

    return run


def build(family: str) -> Any:
    """The untrained ``keras.Model`` of a built-in family."""
    make = importlib.import_module(f"{FAMILIES[family]}.model").build
    return make(family) if family in APPLICATIONS else make()


def fill(model: Any, spec: ModelSpec, weights: Path) -> None:
    """Fill a model with a file of the manifest's format. Raises ModelError."""
    try:
        if spec.weights_format == "hdf5":
            load_hdf5(model, weights, sum(4 * int(np.prod(variable.shape)) for variable in model.weights))
        elif spec.weights_format == "safetensors":
            load_tensors = getattr(importlib.import_module(f"{FAMILIES[spec.family]}.model"), "load_tensors", None)
            if load_tensors is None:
                raise ModelError(f"weights.format: {spec.family!r} does not come as safetensors")
            load_tensors(model, read_safetensors(weights))
        else:
            shapes = [variable.shape for variable in model.weights]
            model.set_weights(read_weights(weights.read_bytes(), shapes))
    except (ValueError, OSError) as error:
        raise ModelError(f"weights: {error}") from error


class KerasClassifier:
    """One graph for every batch, run at few sizes only, since each has kernels of its own.

    An answer never depends on a batch's company; a picture alone and the same among others differ by rounding, about
    1e-6, as two machines do.
    """

    sizes = (1, 4, BATCH)

    def __init__(self, model: Any, spec: ModelSpec, engine: str) -> None:
        import tensorflow as tf

        self.engine, self._spec = engine, spec
        self._shape = (spec.input.height, spec.input.width, spec.input.channels)
        signature = tf.TensorSpec((None, *self._shape), tf.float32)
        self.graph = tf.function(lambda pictures: model(pictures, training=False)).get_concrete_function(signature)
        self._model = model  # the graph holds its variables by weak reference only
        self._constant: Any = tf.constant
        self.classify(np.zeros((1, *self._shape), np.float32))  # the first run plans memory and kernels

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""
        return self._spec

    def classify(self, pictures: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Probabilities of a padded batch, the padding cut off again."""
        given = np.stack(list(pictures))
        batch = np.zeros((next(size for size in self.sizes if size >= len(given)), *self._shape), np.float32)
        batch[: len(given)] = given
        values: NDArray[np.float32] = self.graph(self._constant(batch)).numpy()
        return as_probabilities(values[: len(given)], self._spec)


class TfliteEngine:
    """Files of TensorFlow Lite, as they are: float32, or the integers that they were quantised to."""

    def __init__(self, threads: int) -> None:
        import tensorflow as tf

        self._threads = threads
        self.version = f"tflite, tensorflow {tf.__version__}"

    def load(self, spec: ModelSpec, weights: Path) -> Classifier | Segmenter:
        """Open the file. Raises ModelError."""
        try:
            model = TfliteModel(weights, self._threads)
        except (WeightsError, OSError) as error:
            raise ModelError(f"weights: {error}") from error
        _check_file(spec, (1, *model.input_shape), (1, *model.output_shape))
        if spec.task == SEMANTIC:
            return SemanticSegmenter(lambda picture: _read(model, picture, spec), spec, self.version)
        return _TfliteClassifier(model, spec, self.version)


class _TfliteClassifier:
    def __init__(self, model: TfliteModel, spec: ModelSpec, engine: str) -> None:
        self.engine, self._model, self._spec = engine, model, spec

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""
        return self._spec

    def classify(self, pictures: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Probabilities of pictures, one by one."""
        values = np.stack([_read(self._model, picture, self._spec) for picture in pictures])
        return as_probabilities(values.astype(np.float32), self._spec)


def _read(model: TfliteModel, picture: NDArray[np.float32], spec: ModelSpec) -> NDArray[Any]:
    """A model's output for one picture, its probabilities summing to one."""
    values = model.run(picture)
    if model.quantised and spec.values == "probabilities":
        # Many small ones were rounded away; without any at all, there is no answer.
        with np.errstate(invalid="ignore"):
            values = values / values.sum(axis=-1, keepdims=True)
    return values


def as_probabilities(values: NDArray[np.float32], spec: ModelSpec) -> NDArray[np.float32]:
    """A model's output (n, classes) as distributions: a softmax where the manifest says that it is logits."""
    if spec.values == "probabilities":
        return values
    with np.errstate(invalid="ignore"):  # infinity is no answer; it becomes NaN
        powers = np.exp(values - values.max(axis=1, keepdims=True))
    distributions: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return distributions


class NumpyEngine:
    """Small families in plain numpy, float32: a thousandth of TensorFlow's size, and it starts at once.

    Weights, answers and errors are those of ``KerasEngine``; answers differ by rounding, at most 1e-5.
    """

    def __init__(self) -> None:
        self.version = f"sibyl-numpy {_NUMPY_ENGINE}, numpy {np.__version__}"

    def load(self, spec: ModelSpec, weights: Path) -> Classifier | Segmenter:
        """The family's ``forward`` with these weights. Raises ModelError."""
        if spec.task == INSTANCES:
            return _load_instances("load_numpy", spec, weights, self.version)
        module = f"{FAMILIES.get(spec.family)}.forward"  # of a family without a package there is none
        if spec.weights_format != "npz-float16" or importlib.util.find_spec(module) is None:
            raise ModelError(f"family: {spec.family!r} needs TensorFlow, which is not installed here")
        family = importlib.import_module(module)
        _check_size(spec, family.INPUT, family.CLASSES)
        try:
            arrays = read_weights(weights.read_bytes(), family.shapes())
        except (WeightsError, OSError) as error:
            raise ModelError(f"weights: {error}") from error
        return _NumpyClassifier(family.network(arrays), spec, self.version)


class _NumpyClassifier:
    def __init__(
        self, network: Callable[[NDArray[np.float32]], NDArray[np.float32]], spec: ModelSpec, engine: str
    ) -> None:
        self.engine, self._network, self._spec = engine, network, spec

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""
        return self._spec

    def classify(self, pictures: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Probabilities of pictures, one by one."""
        return np.stack([self._network(picture) for picture in pictures])


def _check_size(spec: ModelSpec, shape: tuple[int, ...], classes: int) -> None:
    if shape != (spec.input.height, spec.input.width, spec.input.channels):
        raise ModelError(f"input: the manifest's size is not the model's {shape}")
    if classes != spec.classes:
        raise ModelError(f"labels: {spec.classes} for a model of {classes} classes")


def _check_file(spec: ModelSpec, taken: Any, given: Any) -> None:
    """Hold a file's own shapes, batch first, against the manifest's. Raises ModelError."""
    size = (spec.input.height, spec.input.width, spec.input.channels)
    if (
        not isinstance(taken, tuple)
        or len(taken) != 4
        or any(a not in (None, b) for a, b in zip(taken[1:], size, strict=True))
    ):
        raise ModelError(f"input: the manifest's size {size} is not the model's {taken}")
    if spec.task == SEMANTIC:
        # Where a side is not known before the picture is, the first run tells it.
        if not isinstance(given, tuple) or len(given) != 1 + len(spec.shape):
            raise ModelError(f"output.shape: {list(spec.shape)} in the manifest, the model's is {given}")
    elif not isinstance(given, tuple) or given[1:] != (spec.classes,):
        raise ModelError(f"output: {given} of the model is not one number for each of {spec.classes} labels")


def choose_engine(threads: int) -> Engine:
    """TensorFlow where it is installed, else numpy."""
    return KerasEngine(threads) if importlib.util.find_spec("tensorflow") else NumpyEngine()


class ModelShelf:
    """Loads models for jobs and keeps the ``capacity`` last used ones.

    ``compiled`` is a folder of ``compiled.py``. A model that lies there needs neither TensorFlow nor its weights' file;
    where any lies there, TensorFlow is imported only when another one is asked for.
    """

    def __init__(self, *, threads: int, capacity: int, compiled: Path | None = None) -> None:
        self._compiled = compiled if compiled is not None and importlib.util.find_spec("openvino") else None
        self._own = None if self._compiled and any(self._compiled.glob("*")) else choose_engine(threads)
        self._tflite: Engine | None = None
        self._threads, self._capacity = threads, capacity
        self._loaded: OrderedDict[tuple[str, str], Classifier | Segmenter] = OrderedDict()

    @property
    def compiled(self) -> Path | None:
        """The folder of compiled models; None without one, or where OpenVINO is not installed."""
        return self._compiled

    @property
    def engine(self) -> str:
        """Names and versions of what computes."""
        return self._own.version if self._own else f"openvino {importlib.metadata.version('openvino')}"

    def get(self, model: JobModel, folder: Path, *, anew: bool = False) -> Classifier | Segmenter:
        """The model, from memory or from its file (relative paths are in ``folder``). Raises ModelError.

        ``anew`` loads again one that is in memory, which is kept when that fails.
        """
        try:
            spec = ModelSpec.from_manifest(model.manifest)
        except SpecError as error:
            raise ModelError(str(error)) from error
        if spec.engine not in ("keras", "tflite"):
            raise ModelError(f"engine: {spec.engine!r} is not built in")
        key = (model.manifest_cid, spec.weights_sha256)
        if key in self._loaded and not anew:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        loaded = self._find(spec) or self._load(spec, folder / model.weights)
        self._loaded.pop(key, None)
        while len(self._loaded) >= self._capacity:
            self._loaded.popitem(last=False)
        self._loaded[key] = loaded
        return loaded

    def _find(self, spec: ModelSpec) -> Classifier | Segmenter | None:
        """The model compiled, if it is; one that does not load is no reason to refuse what TensorFlow can answer."""
        if self._compiled is None:
            return None
        from provider_images.runtime.compiled import find_compiled

        try:
            return find_compiled(self._compiled, spec, self._threads)
        except ModelError as error:
            sys.stderr.write(f"{spec.family}: its compiled form is not used: {error}\n")
            return None

    def _load(self, spec: ModelSpec, weights: Path) -> Classifier | Segmenter:
        try:
            with weights.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ModelError(f"weights: {error}") from error
        if digest != spec.weights_sha256:
            raise ModelError("weights: their sha256 is not the manifest's")
        if spec.engine == "keras":
            self._own = self._own or choose_engine(self._threads)
            return self._own.load(spec, weights)
        if not importlib.util.find_spec("tensorflow"):
            raise ModelError(f"engine: {spec.engine!r} needs TensorFlow, which is not installed here")
        self._tflite = self._tflite or TfliteEngine(self._threads)
        return self._tflite.load(spec, weights)
