"""Models on the shelf, and jobs in folders, with a double in the engine's place."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_images.mnist.draw import draw_digit
from provider_images.runtime import engines
from provider_images.runtime.engines import ModelError, ModelShelf
from provider_images.runtime.execute import run_folder
from provider_images.runtime.job import ItemFailure, Job, JobError, JobInput, JobModel, JobResult
from provider_images.runtime.spec import ModelSpec

pytestmark = pytest.mark.unit


class DoubleClassifier:
    engine = "double"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def classify(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Class 4, then class 2 and class 7 alike; not a number for a black picture."""
        given = np.stack(list(pictures))
        answers = np.zeros((len(given), 10), np.float32)
        answers[:, [4, 7, 2]] = 0.5, 0.25, 0.25
        answers[given.sum(axis=(1, 2, 3)) == 0] = np.nan
        return answers


class DoubleEngine:
    version = "double"

    def __init__(self, threads: int) -> None:
        self.loads: list[bytes] = []

    def load(self, spec: ModelSpec, weights: Path) -> DoubleClassifier:
        self.loads.append(weights.read_bytes())
        return DoubleClassifier(spec)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> ModelShelf:
    monkeypatch.setattr(engines, "KerasEngine", DoubleEngine)
    return ModelShelf(threads=1, capacity=2)


def a_model(folder: Path, name: str = "weights") -> JobModel:
    (folder / name).write_text(name)
    manifest = {
        "schema": "sibyl/model/1",
        "engine": "keras",
        "family": "mnist",
        "weights": {"sha256": hashlib.sha256(name.encode()).hexdigest()},
        "labels": list("0123456789"),
        "output": {"top_k": 3},
        "input": {
            "height": 28,
            "width": 28,
            "channels": 1,
            "color": "gray",
            "fit": "digit",
            "box": 20,
            "range": [0, 1],
        },
    }
    return JobModel(f"cid-{name}", manifest, name)


def a_job(folder: Path, *names: str) -> Job:
    sizes = [(folder / name).stat().st_size if (folder / name).exists() else 5 for name in names]
    inputs = tuple(JobInput(name, "cid", name, size) for name, size in zip(names, sizes, strict=True))
    job = Job("job", a_model(folder), inputs, 10**6, 30)
    (folder / "job.json").write_text(job.to_json())
    return job


def test_the_shelf_keeps_the_models_last_used(shelf: ModelShelf, tmp_path: Path) -> None:
    a, b, c = (a_model(tmp_path, name) for name in "abc")
    first = shelf.get(a, tmp_path)
    shelf.get(b, tmp_path)
    assert shelf.get(a, tmp_path) is first
    shelf.get(c, tmp_path)
    assert shelf.get(a, tmp_path) is first
    shelf.get(b, tmp_path)
    assert shelf._own.loads == [b"a", b"b", b"c", b"b"]  # type: ignore[union-attr]


def test_given_a_model_in_memory_when_it_is_loaded_anew_and_that_fails_then_the_old_one_stays(
    shelf: ModelShelf, tmp_path: Path
) -> None:
    a, b = (a_model(tmp_path, name) for name in "ab")
    shelf.get(b, tmp_path)
    first = shelf.get(a, tmp_path)
    again = shelf.get(a, tmp_path, anew=True)
    assert again is not first
    assert shelf.get(a, tmp_path) is again
    (tmp_path / "a").write_text("others")
    with pytest.raises(ModelError, match="sha256"):
        shelf.get(a, tmp_path, anew=True)
    assert shelf.get(a, tmp_path) is again
    shelf.get(b, tmp_path)
    assert shelf._own.loads == [b"b", b"a", b"a"]  # type: ignore[union-attr]


def test_given_a_model_compiled_when_it_is_asked_for_then_its_weights_file_is_not_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engines, "KerasEngine", DoubleEngine)
    compiled = tmp_path / "compiled"
    compiled.mkdir()
    shelf = ModelShelf(threads=1, capacity=2, compiled=compiled)
    model, other = a_model(tmp_path, "there"), a_model(tmp_path, "other")
    found = DoubleClassifier(ModelSpec.from_manifest(model.manifest))
    answers = {model.manifest["weights"]["sha256"]: found}
    monkeypatch.setattr(
        "provider_images.runtime.compiled.find_compiled", lambda folder, spec, threads: answers.get(spec.weights_sha256)
    )
    (tmp_path / "there").unlink()
    assert shelf.get(model, tmp_path) is found
    assert shelf.get(other, tmp_path) is not found


def test_given_a_compiled_model_that_does_not_load_then_the_weights_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged(*_: object) -> None:
        raise ModelError("it is damaged")

    monkeypatch.setattr(engines, "KerasEngine", DoubleEngine)
    monkeypatch.setattr("provider_images.runtime.compiled.find_compiled", damaged)
    shelf = ModelShelf(threads=1, capacity=2, compiled=tmp_path)
    assert shelf.get(a_model(tmp_path), tmp_path).engine == "double"
    assert "it is damaged" in capsys.readouterr().err


def test_a_model_that_is_not_what_its_manifest_says_is_refused(shelf: ModelShelf, tmp_path: Path) -> None:
    model = a_model(tmp_path)
    (tmp_path / "weights").write_text("others")
    with pytest.raises(ModelError, match="sha256"):
        shelf.get(model, tmp_path)
    (tmp_path / "weights").unlink()
    with pytest.raises(ModelError, match="weights"):
        shelf.get(model, tmp_path)
    for field, value in (("engine", "onnx"), ("family", "os"), ("labels", None)):
        with pytest.raises(ModelError):
            shelf.get(JobModel("cid", {**model.manifest, field: value}, "weights"), tmp_path)


def test_a_folder_is_answered_item_by_item(shelf: ModelShelf, tmp_path: Path) -> None:
    draw_digit(4, 0).save(tmp_path / "good", "PNG")
    (tmp_path / "text").write_text("text")
    (tmp_path / "grown").write_text("text")
    draw_digit(4, 0).point(lambda _: 0).save(tmp_path / "black", "PNG")
    job = a_job(tmp_path, "text", "good", "missing", "black", "grown")
    (tmp_path / "grown").write_text("text and more")
    run_folder(tmp_path, shelf)
    result = JobResult.from_json((tmp_path / "results.json").read_bytes(), job)
    assert [item.failure for item in result.items] == [
        ItemFailure.UNREADABLE,
        None,
        ItemFailure.MISSING,
        ItemFailure.FAILED,
        ItemFailure.MISSING,
    ]
    assert result.items[1].labels == ((4, 0.5), (2, 0.25), (7, 0.25))
    assert result.engine == "double"
    assert {path.name for path in tmp_path.iterdir()}.isdisjoint({"results.json.part"})


def test_a_folder_of_bad_pictures_alone_is_answered_too(shelf: ModelShelf, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    job = a_job(tmp_path, "text")
    run_folder(tmp_path, shelf)
    assert JobResult.from_json((tmp_path / "results.json").read_bytes(), job).items[0].failure


def test_a_broken_job_leaves_no_result(shelf: ModelShelf, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(JobError, match="missing"):
        run_folder(tmp_path, shelf)
    assert not (tmp_path / "results.json").exists()


SLOW = """
import sys, time, pathlib
from provider_images.runtime.execute import run_folder

class Shelf:
    engine = "double"
    def get(self, model, folder):
        sum(range(10**12))  # in C: no signal handler of Python would get a turn

run_folder(pathlib.Path(sys.argv[1]), Shelf())
"""


def test_a_job_over_its_time_ends_the_process(tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(a_job(tmp_path, "text").to_json())
    (tmp_path / "job.json").write_text(json.dumps({**document, "max_seconds": 1}))
    began = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", SLOW, str(tmp_path)], capture_output=True, timeout=20, check=False)
    assert ran.returncode == 1
    assert b"Timeout" in ran.stderr
    assert time.monotonic() - began < 10
