"""Models compiled for OpenVINO, against TensorFlow; weights are random."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mobilenet import jpeg, random_weights
from test_compute_conformance import cid_of, started

from oracle.compute.local import LocalBackend
from oracle.domain import ComputeTask, ServableModel, TaskInput
from oracle.manifests import read_manifest
from provider_images.applications.manifests import manifest_of
from provider_images.runtime import choice, compiled
from provider_images.runtime.compiled import compile_model, find_compiled
from provider_images.runtime.engines import KerasEngine, ModelError, ModelShelf
from provider_images.runtime.job import JOB_FILE, Job, JobInput, JobModel, JobResult
from provider_images.runtime.spec import ModelSpec
from provider_images.runtime.task import pack_task

pytest.importorskip("openvino", reason="openvino is not installed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras while it saves
]

CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"


@pytest.fixture(scope="module")
def stored(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    """MobileNetV2's manifest, its weights, and the folder it was compiled into."""
    folder = tmp_path_factory.mktemp("compiled")
    random_weights(keras, folder / "m.weights.h5")
    data = (folder / "m.weights.h5").read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    manifest = manifest_of("mobilenet-v2", sha256=sha256, size=len(data), cid=CID)
    difference = compile_model(ModelSpec.from_manifest(manifest), folder / "m.weights.h5", folder / "out", 2)
    assert difference <= 1e-5
    return manifest, folder / "m.weights.h5", folder / "out"


def test_a_compiled_model_answers_as_tensorflow_does(stored: tuple[dict[str, Any], Path, Path]) -> None:
    manifest, weights, folder = stored
    spec = ModelSpec.from_manifest(manifest)
    ours = find_compiled(folder, spec, 2)
    assert ours is not None
    theirs = KerasEngine(2).load(spec, weights)
    pictures = np.random.default_rng(3).uniform(-1, 1, (11, 224, 224, 3)).astype(np.float32)
    pictures *= np.linspace(0, 1, 11, dtype=np.float32)[:, None, None, None]
    mine, expected = ours.classify(pictures), theirs.classify(pictures)
    assert np.abs(mine - expected).max() <= 1e-5
    np.testing.assert_array_equal(mine.argmax(axis=1), expected.argmax(axis=1))
    assert expected.max() > 0.01
    assert len({row.tobytes() for row in expected}) == 11
    # Not a view into what the next batch overwrites.
    kept = mine.copy()
    ours.classify(pictures[:3] + 1)
    np.testing.assert_array_equal(mine, kept)


@pytest.mark.parametrize("threads", [1, 2, 3, 20])
def test_given_any_number_of_threads_then_answers_stand_in_the_order_of_the_pictures_and_depend_on_nothing_else(
    stored: tuple[dict[str, Any], Path, Path], threads: int
) -> None:
    manifest, _, folder = stored
    ours = find_compiled(folder, ModelSpec.from_manifest(manifest), threads)
    assert ours is not None
    pictures = np.random.default_rng(5).uniform(-1, 1, (16, 224, 224, 3)).astype(np.float32)
    pictures *= np.linspace(0, 1, 16, dtype=np.float32)[:, None, None, None]
    together = ours.classify(pictures)
    assert len({row.tobytes() for row in together}) == 16
    alone = np.concatenate([ours.classify(pictures[i : i + 1]) for i in range(16)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.classify(pictures[::-1])[::-1], together, rtol=0, atol=1e-6)


def test_given_pictures_that_come_one_by_one_when_an_early_one_is_there_then_it_is_computed_before_the_last_comes(
    stored: tuple[dict[str, Any], Path, Path],
) -> None:
    manifest, _, folder = stored
    ours = find_compiled(folder, ModelSpec.from_manifest(manifest), 1)
    assert ours is not None
    picture = np.zeros((224, 224, 3), np.float32)

    def coming() -> Iterator[np.ndarray]:
        yield picture
        until = time.monotonic() + 30
        while not ours._rows:
            assert time.monotonic() < until
            time.sleep(0.005)
        yield picture

    assert ours.classify(coming()).shape == (2, 1000)


def test_given_pictures_that_stop_coming_then_the_next_batch_is_answered_all_the_same(
    stored: tuple[dict[str, Any], Path, Path],
) -> None:
    manifest, _, folder = stored
    ours = find_compiled(folder, ModelSpec.from_manifest(manifest), 2)
    assert ours is not None
    pictures = np.random.default_rng(6).uniform(-1, 1, (3, 224, 224, 3)).astype(np.float32)

    def broken() -> Iterator[np.ndarray]:
        yield from pictures
        raise MemoryError

    with pytest.raises(MemoryError):
        ours.classify(broken())
    assert ours.classify(pictures[:1]).shape == (1, 1000)


def test_a_lone_picture_costs_less_than_a_quarter_of_a_batch_on_tensorflow_and_answers_alike(
    stored: tuple[dict[str, Any], Path, Path],
) -> None:
    manifest, weights, _ = stored
    model = KerasEngine(2).load_classifier(ModelSpec.from_manifest(manifest), weights)
    pictures = np.random.default_rng(7).uniform(-1, 1, (16, 224, 224, 3)).astype(np.float32)
    together = model.classify(pictures)
    for size in (1, 3, 4, 5):
        np.testing.assert_allclose(model.classify(pictures[:size]), together[:size], rtol=0, atol=1e-5)

    def processor_seconds(size: int) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            model.classify(pictures[:size])
            best = min(best, time.process_time() - began)
        return best

    assert processor_seconds(1) < processor_seconds(16) / 4


def test_given_a_manifest_of_another_shape_for_the_same_weights_then_the_compiled_model_is_refused(
    stored: tuple[dict[str, Any], Path, Path],
) -> None:
    manifest, _, folder = stored
    fewer = {"labels": manifest["labels"][:10], "output": {**manifest["output"], "shape": [10]}}
    for field, others in (("labels", fewer), ("input", {"input": {**manifest["input"], "width": 192}})):
        with pytest.raises(ModelError, match=field):
            find_compiled(folder, ModelSpec.from_manifest({**manifest, **others}), 1)


def test_given_a_compilation_under_way_then_a_second_is_refused_and_what_a_killed_one_left_is_removed(
    stored: tuple[dict[str, Any], Path, Path], tmp_path: Path
) -> None:
    manifest, weights, _ = stored
    spec = ModelSpec.from_manifest(manifest)
    (tmp_path / "part-left").mkdir()
    with compiled._alone(tmp_path):
        assert not (tmp_path / "part-left").exists()
        with pytest.raises(ModelError, match="under way"):
            compile_model(spec, weights, tmp_path, 2)


def test_given_a_cpu_on_which_openvino_takes_another_precision_then_the_model_is_refused(
    stored: tuple[dict[str, Any], Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    manifest, _, folder = stored
    spec = ModelSpec.from_manifest(manifest)
    found = find_compiled(folder, spec, 1)
    assert found is not None
    assert found.engine.endswith("float32")
    asked: list[dict[str, Any]] = []
    real = openvino.Core.compile_model

    def in_half(core: Any, path: str, device: str, options: dict[str, Any]) -> Any:
        asked.append(options)
        return real(core, path, device, {**options, "INFERENCE_PRECISION_HINT": "bf16"})

    monkeypatch.setattr(openvino.Core, "compile_model", in_half)
    with pytest.raises(ModelError, match="float32"):
        find_compiled(folder, spec, 1)
    assert asked[0]["INFERENCE_PRECISION_HINT"] == "f32"


FIND = """
import json, sys, numpy as np
from pathlib import Path
from provider_images.runtime.engines import ModelShelf
from provider_images.runtime.job import JobModel
shelf = ModelShelf(threads=1, capacity=1, compiled=Path(sys.argv[3]))
manifest = json.loads(sys.argv[1])
answers = shelf.get(JobModel("cid", manifest, sys.argv[2]), Path()).classify(np.zeros((2, 224, 224, 3), np.float32))
print(shelf.engine, answers.shape, "tensorflow" in sys.modules)
"""


def test_given_a_compiled_model_when_it_is_asked_for_then_tensorflow_is_never_imported(
    stored: tuple[dict[str, Any], Path, Path],
) -> None:
    manifest, weights, folder = stored
    command = [sys.executable, "-c", FIND, json.dumps(manifest), str(weights), str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.startswith("openvino 20")
    assert ran.stdout.endswith("(2, 1000) False\n")


ALONE = """
import sys
from pathlib import Path
from provider_images.runtime import resident
from provider_images.runtime.client import Client
work, compiled, tar, result = map(Path, sys.argv[1:])
resident.COMPILED = compiled
Client(work, memory_mb=4096).ask({"op": "task", "tar": str(tar), "result": str(result)})
"""


def test_given_an_image_that_carries_a_compiled_model_alone_when_it_gets_a_task_then_it_answers(
    stored: tuple[dict[str, Any], Path, Path], tmp_path: Path
) -> None:
    manifest, _, folder = stored
    picture = jpeg(1)
    model = JobModel("cid", manifest, "/nowhere/weights")
    job = Job("job", model, (JobInput("a", CID, "a.jpg", len(picture)),), max_pixels=10**6, max_seconds=60)
    tar, result = tmp_path / "task.tar", tmp_path / "results.json"
    tar.write_bytes(pack_task({JOB_FILE: job.to_json().encode(), "a.jpg": picture}))
    work = tmp_path / "work"
    command = [sys.executable, "-c", ALONE, str(work), str(folder), str(tar), str(result)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
        assert ran.returncode == 0, ran.stderr
    finally:
        shutil.rmtree(work, ignore_errors=True)  # which ends the process that stays resident
    answers = JobResult.from_json(result.read_bytes(), job)
    assert answers.engine.startswith("openvino 20")
    assert len(answers.items[0].labels) == manifest["output"]["top_k"]


def test_given_another_model_than_the_compiled_one_then_tensorflow_answers(
    stored: tuple[dict[str, Any], Path, Path], tmp_path: Path
) -> None:
    manifest, weights, _ = stored
    shelf = ModelShelf(threads=2, capacity=1, compiled=tmp_path)
    model = shelf.get(JobModel("cid", manifest, str(weights)), Path())
    assert model.engine.startswith("keras 3.")
    other = {**manifest, "weights": {**manifest["weights"], "sha256": "0" * 64}}
    with pytest.raises(ModelError, match="sha256"):
        shelf.get(JobModel("other", other, str(weights)), Path())


def test_a_compilation_that_answers_otherwise_is_not_kept(
    stored: tuple[dict[str, Any], Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, weights, _ = stored
    spec = ModelSpec.from_manifest(manifest)
    real = compiled.CompiledClassifier.classify

    def wrong(self: Any, pictures: np.ndarray) -> np.ndarray:
        return real(self, pictures) + np.float32(2e-5)

    monkeypatch.setattr(compiled.CompiledClassifier, "classify", wrong)
    with pytest.raises(ModelError, match="otherwise"):
        compile_model(spec, weights, tmp_path / "out", 2)
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ModelError, match="sha256"):
        compile_model(spec, Path(__file__), tmp_path / "out", 2)


def test_a_damaged_compilation_is_refused(stored: tuple[dict[str, Any], Path, Path], tmp_path: Path) -> None:
    manifest, _, _ = stored
    spec = ModelSpec.from_manifest(manifest)
    place = tmp_path / f"{spec.family}-{spec.weights_sha256}"
    place.mkdir()
    (place / "model.xml").write_text("<net/>")
    with pytest.raises(ModelError, match="cannot load"):
        find_compiled(tmp_path, spec, 1)


@pytest.mark.timeout(300)
async def test_given_a_model_at_work_when_it_was_compiled_then_the_same_worker_answers_alike_with_openvino(
    stored: tuple[dict[str, Any], Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, weights, _ = stored
    monkeypatch.setattr(choice, "COMPILED", {"mobilenet-v2"})
    document = json.dumps(manifest).encode()
    model = ServableModel(1, cid_of(document), read_manifest(document), weights)
    inputs = []
    for seed in range(3):
        path = tmp_path / f"{seed}.jpg"
        path.write_bytes(jpeg(seed))
        inputs.append(TaskInput(bytes([seed]) * 32, cid_of(jpeg(seed)), path, path.stat().st_size))
    async with started(LocalBackend(tmp_path / "tasks", compiled=tmp_path / "compiled", run_limit=120)) as backend:
        results, workers = [], set()
        for turn in range(100):
            await backend.submit(ComputeTask(str(turn), model, tuple(inputs), deadline=time.time() + 120))
            results.append(await backend.collect(str(turn)))
            workers.update(backend.processes.values())
            if results[-1].engine.startswith("openvino"):
                break
            await asyncio.sleep(2)
    assert results[0].engine.startswith("keras 3.")
    assert results[-1].engine.startswith("openvino 20")
    assert len(workers) == 1
    for before, after in zip(results[0].items, results[-1].items, strict=True):
        assert [label.index for label in before.labels] == [label.index for label in after.labels]
        for a, b in zip(before.labels, after.labels, strict=True):
            assert a.probability == pytest.approx(b.probability, abs=1e-5)
