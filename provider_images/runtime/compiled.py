"""Built-in models compiled for OpenVINO: as fast as TensorFlow's graph, and loaded in a fraction of time and memory.

Compiling needs TensorFlow and is done once, when a model is brought in: ``python -m provider_images.runtime.compiled
MANIFEST WEIGHTS FOLDER``. Whatever runs the model then finds it in the folder. TensorFlow stays the reference: what
does not answer as it does is not kept. All of it is float32; OpenVINO left to itself takes bfloat16 on some CPUs.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime import sandbox
from provider_images.runtime.choice import compiled_file
from provider_images.runtime.engines import KerasEngine, as_probabilities
from provider_images.runtime.model import BATCH, ModelError
from provider_images.runtime.spec import CLASSIFICATION, FAMILIES, ModelSpec

DIFFERENCE = 1e-5  # from TensorFlow's probabilities, at most
_PART = "part-"  # how the name of an unfinished one begins


def find_compiled(folder: Path, spec: ModelSpec, threads: int) -> CompiledClassifier | None:
    """A model compiled from these weights; None where there is none. Raises ModelError when it does not load."""
    path = compiled_file(folder, spec.family, spec.weights_sha256)
    return CompiledClassifier(path, spec, threads) if path.is_file() else None


def compile_model(spec: ModelSpec, weights: Path, folder: Path, threads: int) -> float:
    """Compile a built-in model into ``folder``; the largest difference from TensorFlow on made pictures.

    Raises ModelError when the weights are not the model's, or when the two do not agree.
    """
    if spec.family not in FAMILIES:
        raise ModelError(f"family: {spec.family!r} is not built in, so it runs as its file is")
    if spec.task != CLASSIFICATION:
        raise ModelError(f"task: {CLASSIFICATION} expected, not {spec.task}")
    with weights.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != spec.weights_sha256:
            raise ModelError("weights: their sha256 is not the manifest's")
    import openvino

    target = compiled_file(folder, spec.family, spec.weights_sha256)
    with _alone(folder), tempfile.TemporaryDirectory(prefix=_PART, dir=folder) as name:
        unfinished = Path(name, target.parent.name, target.name)
        unfinished.parent.mkdir()
        reference = KerasEngine(threads).load_classifier(spec, weights)
        network = openvino.convert_model(reference.graph)
        network.reshape([1, spec.input.height, spec.input.width, spec.input.channels])
        # Left to itself it would save half the bits.
        openvino.save_model(network, unfinished, compress_to_fp16=False)
        compiled = CompiledClassifier(unfinished, spec, threads)
        pictures = _pictures(spec)
        ours, theirs = compiled.classify(pictures), reference.classify(pictures)
        difference = float(np.abs(ours - theirs).max())
        if not difference <= DIFFERENCE or (ours.argmax(axis=1) != theirs.argmax(axis=1)).any():
            raise ModelError(f"OpenVINO answers otherwise than TensorFlow, by up to {difference:.1e}")
        shutil.rmtree(target.parent, ignore_errors=True)
        unfinished.parent.rename(target.parent)
    return difference


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One compilation at a time in a folder, without what one that was killed has left. Raises ModelError."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for left in folder.glob(f"{_PART}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    except BlockingIOError as error:
        raise ModelError("another compilation is under way in this folder") from error
    finally:
        os.close(descriptor)


class CompiledClassifier:
    """One picture a request, as many requests at once as there are threads, each on a thread of its own.

    Nothing waits for anything: no thread for the others of its request, no picture for a batch. An answer depends on
    its picture alone.
    """

    def __init__(self, path: Path, spec: ModelSpec, threads: int) -> None:
        import openvino

        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(threads, BATCH),
            # Other processes are on this machine as well.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO cannot load the model: {' '.join(str(error).split())[:200]}") from error
        if compiled.get_property("INFERENCE_PRECISION_HINT") != openvino.Type.f32:
            raise ModelError("OpenVINO does not compute in float32 here")
        self.engine = f"openvino {openvino.__version__.partition('-')[0]}, float32"
        self._spec = spec
        self._rows: dict[int, NDArray[np.float32]] = {}
        # Where no thread has a stream of its own (there are more than BATCH), they share.
        self._requests: Any = openvino.AsyncInferQueue(compiled, min(threads, BATCH))
        self._requests.set_callback(self._keep)
        _check(spec, *(tuple(port[0].shape) for port in (compiled.inputs, compiled.outputs)))

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""
        return self._spec

    def classify(self, pictures: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Probabilities of pictures, each begun as soon as it comes and a thread is free."""
        self._rows.clear()
        try:
            for place, picture in enumerate(pictures):
                self._requests.start_async([picture[np.newaxis]], userdata=place)
        finally:
            self._requests.wait_all()
        return as_probabilities(np.stack([self._rows[place] for place in range(len(self._rows))]), self._spec)

    def _keep(self, request: Any, place: int) -> None:
        """Copy a request's answer before the next picture overwrites it."""
        self._rows[place] = request.get_output_tensor(0).data[0].copy()


def _check(spec: ModelSpec, taken: tuple[int, ...], given: tuple[int, ...]) -> None:
    """Hold the network's shapes against the manifest's, which may be another than it was compiled for."""
    if taken != (1, spec.input.height, spec.input.width, spec.input.channels):
        raise ModelError(f"input: the manifest's size is not the model's {taken[1:]}")
    if given != (1, spec.classes):
        raise ModelError(f"labels: {spec.classes} for a model of {given[-1]} classes")


def _pictures(spec: ModelSpec) -> NDArray[np.float32]:
    """A batch to compare by: noise of growing contrast, about as the family's own input is scaled."""
    from provider_images.runtime.pictures import scale

    size = (spec.input.height, spec.input.width, spec.input.channels)
    noise = np.random.default_rng(0).normal(0, 1, (BATCH, *size)) * np.linspace(1, 90, BATCH)[:, None, None, None]
    return scale((127 + noise).clip(0, 255).astype(np.float32), spec.input)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when it is compiled, 1 with a line on stderr when it is not."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.runtime.compiled", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--memory-mb", type=int, default=8192)
    parser.add_argument("--niceness", type=int, default=0, help="how far to stand back for other processes, to 19")
    parser.add_argument("--parent", type=int, help="process id to die with")
    options = parser.parse_args(arguments)
    threads = sandbox.cpus()
    os.nice(options.niceness)
    sandbox.enter(memory_mb=options.memory_mb, threads=threads)
    if options.parent is not None:
        sandbox.die_with_parent(options.parent)
    try:
        spec = ModelSpec.from_manifest(json.loads(options.manifest.read_text(encoding="utf-8")))
        difference = compile_model(spec, options.weights, options.folder, threads)
    except (ModelError, ValueError, OSError) as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 1
    sys.stdout.write(json.dumps({"family": spec.family, "max_diff": difference}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
