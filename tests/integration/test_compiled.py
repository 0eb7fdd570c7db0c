"""Models compiled for OpenVINO, against TensorFlow; weights are random."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provider_images.applications.manifests import manifest_of
from provider_images.runtime import compiled
from provider_images.runtime.compiled import compile_model, find_compiled
from provider_images.runtime.engines import KerasEngine, ModelError, ModelShelf, build
from provider_images.runtime.job import JobModel
from provider_images.runtime.spec import ModelSpec

pytest.importorskip("openvino", reason="openvino is not installed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras while it saves
]

CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    """MobileNetV2's manifest, its weights, and the folder it was compiled into."""
    folder = tmp_path_factory.mktemp("compiled")
    KerasEngine(2)  # the first to import TensorFlow says how many threads it has from then on
    import keras

    model = build("mobilenet-v2")
    rng = np.random.default_rng(1)
    # So loud that no answer is flat: untrained features are nearly nothing.
    features = keras.Model(model.inputs, model.layers[-2].output)
    loud = 5 / np.linalg.norm(features.predict(rng.uniform(-1, 1, (1, 224, 224, 3)), verbose=0))
    model.get_layer("predictions").kernel.assign(rng.normal(0, loud, (1280, 1000)).astype(np.float32))
    model.save_weights(folder / "m.weights.h5")
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
