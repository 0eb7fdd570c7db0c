"""``make bench-models``: pictures a second, cold start and memory of each engine, batch 16, two threads.

Each engine answers in a process of its own: ``keras`` (predict), ``graph`` (tf.function, the reference), ``openvino``
(float32 pinned, one request of 16 on two threads), ``onnx`` (ONNX Runtime) and ``runtime``, which is ours end to end: a
job of JPEG bytes in, its result document out. The others are given arrays. Weights are random, and the last layer is
loud, so that answers differ. A cold start begins with the process and ends with the first answers, of 16 pictures. The
processes take turns of a few seconds each, so that other work on the machine slows all of them alike; a figure is the
best turn's. Differences and changed classes are from ``graph``: the runtime's over all photos, the others' over 16.

``mask_rcnn_s`` is one picture of 1024 x 768 through the large Mask R-CNN, JPEG bytes in and segments out, at its
dearest: a threshold of zero, so that there are 100 objects with masks.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.machine import machine, versions

FAMILIES = ("densenet121", "inception-v3", "xception", "vit-b16")
ENGINES = ("keras", "graph", "openvino", "onnx", "runtime")
FLOAT32 = ("keras", "graph", "openvino", "onnx")  # what the runtime is held against
BATCH, THREADS, TURNS = 16, 2, 4
MASK_RCNN = "mask-rcnn-coco"
PATIENCE = 580.0
DATA = Path(os.environ.get("SIBYL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"


def main(families: list[str], seconds: float) -> dict[str, Any]:
    began = time.monotonic()
    note(f"{machine()}; {versions('keras', 'tensorflow-cpu', 'openvino', 'onnxruntime', 'pillow')}")
    models: dict[str, Any] = {}
    mask_rcnn: dict[str, float] = {}
    for family in families:
        if family == MASK_RCNN:
            mask_rcnn = mask_rcnn_alone(seconds)
            note(f"{family:20} " + ", ".join(f"{k} {v}" for k, v in mask_rcnn.items()))
            continue
        with tempfile.TemporaryDirectory(prefix="sibyl-bench-") as name:
            folder = Path(name)
            Child("prepare", family, folder).end()
            children = {}
            for engine in ENGINES:
                if engine != "onnx" or (folder / "model.onnx").is_file():
                    children[engine] = Child(engine, family, folder)
                    children[engine].turn(0.0)
            for _ in range(TURNS):
                for started in children.values():
                    started.turn(seconds / TURNS)
            engines = {engine: started.end() for engine, started in children.items()}
            for engine in engines:
                note(f"{family:20} {engine:9} " + ", ".join(f"{k} {v}" for k, v in engines[engine].items()))
            models[family] = summary(engines, folder)
            note(f"{family:20} {json.dumps(models[family])}")
    note(f"{time.monotonic() - began:.0f} s in all")
    return {
        "models": models,
        "mask_rcnn_s": mask_rcnn.get("seconds"),
        "mask_rcnn_cold_start_s": mask_rcnn.get("cold_start_s"),
        "mask_rcnn_rss_mb": mask_rcnn.get("rss_mb"),
    }


def mask_rcnn_alone(seconds: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="sibyl-bench-") as name:
        child = Child("mask-rcnn", MASK_RCNN, Path(name))
        child.turn(0.0)
        for _ in range(TURNS):
            child.turn(max(4.0, seconds / TURNS))
        return child.end()


def summary(engines: dict[str, dict[str, float]], folder: Path) -> dict[str, Any]:
    rates = {engine: figures["images_per_s"] for engine, figures in engines.items()}
    reference = np.load(folder / "graph.npy")
    difference, flips = 0.0, 0
    for engine in engines:
        answers = np.load(folder / f"{engine}.npy")
        given = ~np.isnan(answers)  # a result document names the best five only
        rows = given.any(axis=1)
        difference = max(difference, float(np.abs(answers - reference)[given].max()))
        classes = np.nan_to_num(answers[rows], nan=-1).argmax(axis=1)
        flips += int((classes != reference[rows].argmax(axis=1)).sum())
    return {
        "images_per_s": rates,
        "runtime_vs_best": round(rates["runtime"] / max(rates[engine] for engine in FLOAT32 if engine in rates), 3),
        "cold_start_s": engines["runtime"]["cold_start_s"],
        "rss_mb": engines["runtime"]["rss_mb"],
        "max_diff": difference,
        "argmax_flips": flips,
        "cold_start_by_engine": {engine: figures["cold_start_s"] for engine, figures in engines.items()},
        "rss_by_engine": {engine: figures["rss_mb"] for engine, figures in engines.items()},
    }


class Child:
    """A process that measures one engine whenever it is its turn."""

    def __init__(self, part: str, family: str, folder: Path) -> None:
        self._name = f"{family}, {part}"
        command = [sys.executable, "-m", "tests.benchmarks.models", "--part", part, "--families", family]
        self._log = (folder / f"{part}.log").open("w+")
        self._process = subprocess.Popen(
            [*command, "--folder", str(folder), "--began", str(time.time())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip

    def turn(self, seconds: float) -> None:
        """Have it answer batches for some seconds, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        self._line()

    def end(self) -> dict[str, float]:
        """Its figures."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        figures: dict[str, float] = json.loads(self._line())
        self._process.wait(PATIENCE)
        return figures

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise SystemExit(f"{self._name}: {self._log.read()[-2000:]}")
        return line


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------------
# In the processes
# ---------------------------------------------------------------------------------------------------------------


def photos() -> list[bytes]:
    """The 55 photos where they are, else 16 made ones of a photo's size; JPEG."""
    files = sorted((DATA / "imagenet").glob("*.JPEG"))
    if files:
        return [file.read_bytes() for file in files]
    made = []
    for seed in range(BATCH):
        coarse = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
        target = io.BytesIO()
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(target, "JPEG", quality=90)
        made.append(target.getvalue())
    return made


def prepare(family: str, folder: Path) -> None:
    """Weights, manifest, arrays, and what other engines read."""
    import keras
    import openvino
    import tensorflow as tf

    from provider_images.applications.manifests import manifest_of
    from provider_images.runtime.compiled import compile_model
    from provider_images.runtime.engines import KerasEngine, build
    from provider_images.runtime.pictures import prepare_all
    from provider_images.runtime.spec import ModelSpec

    KerasEngine(THREADS)
    keras.utils.set_random_seed(1)
    model = build(family)
    manifest = manifest_of(family, sha256="0" * 64, size=1, cid=CID)
    spec = ModelSpec.from_manifest(manifest)
    arrays = np.stack(list(prepare_all(photos(), spec.input, max_pixels=10**8, threads=THREADS)))  # type: ignore[arg-type]
    np.save(folder / "arrays.npy", arrays)
    features = np.asarray(keras.Model(model.inputs, model.layers[-1].input)(arrays[:2], training=False))
    kernel = model.layers[-1].kernel
    loud = 5 / float(np.linalg.norm(features, axis=1).mean())
    kernel.assign(np.random.default_rng(1).normal(0, loud, kernel.shape).astype(np.float32))
    model.save_weights(folder / "model.weights.h5")
    data = (folder / "model.weights.h5").read_bytes()
    manifest["weights"] |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "format": "hdf5"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    compile_model(ModelSpec.from_manifest(manifest), folder / "model.weights.h5", folder / "compiled", THREADS)
    signature = [tf.TensorSpec((BATCH, *arrays.shape[1:]), tf.float32)]
    batch = tf.function(lambda pictures: model(pictures, training=False), input_signature=signature)
    plain = openvino.convert_model(batch.get_concrete_function())
    openvino.save_model(plain, folder / "model.xml", compress_to_fp16=False)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tf2onnx"):
        import tf2onnx

        tf2onnx.convert.from_function(batch, signature, opset=17, output_path=str(folder / "model.onnx"))


Batch = Callable[[np.ndarray], np.ndarray]


def keras_predict(family: str, folder: Path) -> Batch:
    from provider_images.runtime.engines import KerasEngine, build

    KerasEngine(THREADS)
    model = build(family)
    model.load_weights(folder / "model.weights.h5")
    return lambda batch: np.asarray(model.predict(batch, batch_size=BATCH, verbose=0))


def graph(family: str, folder: Path) -> Batch:
    from provider_images.runtime.engines import KerasEngine
    from provider_images.runtime.spec import ModelSpec

    spec = ModelSpec.from_manifest(json.loads((folder / "manifest.json").read_text()))
    return KerasEngine(THREADS).load(spec, folder / "model.weights.h5").classify


def openvino(family: str, folder: Path) -> Batch:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", options)
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    request = compiled.create_infer_request()

    def classify(batch: np.ndarray) -> np.ndarray:
        answers: np.ndarray = request.infer([padded(batch)], share_inputs=True)[0][: len(batch)].copy()
        return answers

    return classify


def onnx(family: str, folder: Path) -> Batch:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def classify(batch: np.ndarray) -> np.ndarray:
        answers: np.ndarray = session.run(None, {name: padded(batch)})[0][: len(batch)]
        return answers

    return classify


def padded(batch: np.ndarray) -> np.ndarray:
    if len(batch) == BATCH:
        return batch
    return np.concatenate([batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), np.float32)])


def measure_arrays(classify: Batch, folder: Path, engine: str, began: float) -> dict[str, float]:
    arrays = np.load(folder / "arrays.npy")
    classify(arrays[:BATCH])
    cold = time.time() - began
    rate = turns(lambda: classify(arrays[:BATCH]))
    answers = np.full((len(arrays), classify(arrays[:1]).shape[1]), np.nan, np.float32)
    # The reference answers about every photo, for the runtime to be held against; the others about one batch.
    for start in range(0, len(arrays) if engine == "graph" else BATCH, BATCH):
        answers[start : start + BATCH] = classify(arrays[start : start + BATCH])
    np.save(folder / f"{engine}.npy", answers)
    return figures(cold, rate)


def measure_runtime(folder: Path, began: float) -> dict[str, float]:
    """Jobs from JPEG bytes to result documents, as a worker does them, its limits included."""
    from provider_images.runtime import sandbox

    sandbox.enter(memory_mb=4096, threads=THREADS)
    from provider_images.runtime.engines import ModelShelf
    from provider_images.runtime.execute import run_folder
    from provider_images.runtime.job import JOB_FILE, RESULT_FILE, Job, JobInput, JobModel, JobResult

    shelf = ModelShelf(threads=THREADS, capacity=1, compiled=folder / "compiled")
    manifest = json.loads((folder / "manifest.json").read_text())
    pictures = photos()
    places, jobs = [], []
    for start in range(0, len(pictures), BATCH):
        place = folder / f"job-{start}"
        place.mkdir()
        inputs = []
        for i, picture in enumerate(pictures[start : start + BATCH]):
            (place / f"{i}.jpg").write_bytes(picture)
            inputs.append(JobInput(str(i), CID, f"{i}.jpg", len(picture)))
        model = JobModel(CID, manifest, str(folder / "model.weights.h5"))
        jobs.append(Job("bench", model, tuple(inputs), max_pixels=10**8, max_seconds=600))
        (place / JOB_FILE).write_text(jobs[-1].to_json())
        places.append(place)
    run_folder(places[0], shelf)
    cold = time.time() - began
    rate = turns(lambda: run_folder(places[0], shelf))
    answers = np.full((len(pictures), len(manifest["labels"])), np.nan, np.float32)
    row = 0
    for place, job in zip(places, jobs, strict=True):
        run_folder(place, shelf)
        for item in JobResult.from_json((place / RESULT_FILE).read_bytes(), job).items:
            for index, probability in item.labels:
                answers[row, index] = probability
            row += 1
    np.save(folder / "runtime.npy", answers)
    return figures(cold, rate)


def measure_mask_rcnn(began: float) -> dict[str, float]:
    """The large Mask R-CNN with random weights, a picture at a time."""
    from provider_images.runtime import sandbox

    sandbox.enter(memory_mb=4096, threads=THREADS)
    from provider_images.mask_rcnn.config import COCO
    from provider_images.mask_rcnn.manifests import coco_manifest
    from provider_images.mask_rcnn.model import MaskRCNN
    from provider_images.mask_rcnn.serve import MaskSegmenter, compiled
    from provider_images.runtime.engines import KerasEngine
    from provider_images.runtime.segmentation import segment_all
    from provider_images.runtime.spec import ModelSpec

    version = KerasEngine(THREADS).version
    spec = ModelSpec.from_manifest(coco_manifest(sha256="0" * 64, size=1, cid=CID))
    networks = replace(compiled(MaskRCNN(COCO)), config=replace(COCO, score=0.0))
    model = MaskSegmenter(networks, spec, version)
    target = io.BytesIO()
    coarse = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(coarse).resize((1024, 768), Image.Resampling.BICUBIC).save(target, "JPEG", quality=90)

    def one() -> None:
        (item,) = segment_all(model, {"a": target.getvalue()}, max_pixels=10**7).items
        assert item.failure is None, item.detail
        assert item.segments, "nothing found, so no mask was computed"

    one()
    cold = time.time() - began
    figure = figures(cold, turns(one, 1))
    return {"seconds": round(1 / figure.pop("images_per_s"), 3), **figure}


def turns(batch: Callable[[], object], size: int = BATCH) -> float:
    """Pictures a second of the best of the turns that are asked for on stdin, each so many seconds long."""
    best = 0.0
    for line in sys.stdin:
        began, batches = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < float(line):
            batch()
            batches += 1
        best = max(best, size * batches / passed) if batches else best
        print("{}", flush=True)
    return best


def figures(cold: float, rate: float) -> dict[str, float]:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"images_per_s": round(rate, 3), "cold_start_s": round(cold, 2), "rss_mb": memory}


def part(name: str, family: str, folder: Path, began: float) -> dict[str, float]:
    if name == "prepare":
        prepare(family, folder)
        return {}
    if name == "runtime":
        return measure_runtime(folder, began)
    if name == "mask-rcnn":
        return measure_mask_rcnn(began)
    load = {"keras": keras_predict, "graph": graph, "openvino": openvino, "onnx": onnx}[name]
    return measure_arrays(load(family, folder), folder, name, began)


if __name__ == "__main__":
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="2", ONEDNN_DEFAULT_FPMATH_MODE="STRICT", OMP_NUM_THREADS=str(THREADS))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=[*FAMILIES, MASK_RCNN])
    parser.add_argument("--seconds", type=float, default=4.0, help="for each engine of each model")
    parser.add_argument("--part")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--began", type=float, default=0.0)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(part(options.part, options.families[0], options.folder, options.began)))
    else:
        print(json.dumps(main(options.families, options.seconds)))
