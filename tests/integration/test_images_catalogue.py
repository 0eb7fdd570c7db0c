"""The image of a catalogue's classifier, from a pulled model's folder to answers inside it; MobileNetV2.

Its weights are Keras's own where the data for tests is there, else random: then nothing is known of the answers but
that they are TensorFlow's.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from mobilenet import jpeg, random_weights
from test_images import entering

from provider_images.applications.manifests import manifest_of
from provider_images.builder import BuiltImage, HostUnsupported, build_image, compiled_model, unpack
from provider_images.builder.places import CACHE
from provider_images.builder.rootfs import CONTENTS, SITE
from provider_images.runtime.engines import ModelShelf
from provider_images.runtime.execute import execute
from provider_images.runtime.job import Job, JobModel, JobResult

pytest.importorskip("openvino", reason="openvino is not installed")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras while it saves
]

DATA = Path(os.environ.get("SIBYL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
WEIGHTS = DATA / "weights" / "mobilenetv2_keras.weights.h5"
CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"


@pytest.fixture(scope="module")
def pulled(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `sibyl models pull mobilenet-v2` leaves."""
    folder = tmp_path_factory.mktemp("models")
    weights = folder / "weights.h5"
    if WEIGHTS.is_file():
        shutil.copyfile(WEIGHTS, weights)
    else:
        random_weights(keras, weights)
    data = weights.read_bytes()
    manifest = manifest_of("mobilenet-v2", sha256=hashlib.sha256(data).hexdigest(), size=len(data), cid=CID)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def manifest(pulled: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((pulled / "manifest.json").read_text())
    return document


@pytest.fixture(scope="module")
def image(pulled: Path) -> BuiltImage:
    """Built, unless an earlier run left it; not where `sibyl up` would find it."""
    try:
        return build_image("applications", CACHE / "tests", model=compiled_model(pulled))
    except HostUnsupported as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def root(image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("image") / "root"
    unpack(image.path, target)
    return target


def test_given_a_pulled_model_then_its_image_holds_what_answers_and_nothing_of_what_trained_it(
    image: BuiltImage, root: Path, manifest: dict[str, Any]
) -> None:
    assert (image.path.name, image.family, image.sealed) == ("mobilenet-v2.gvmi", "mobilenet-v2", True)
    assert image.bytes < 60e6
    (network,) = image.weights.values()
    assert list(image.weights) == [manifest["weights"]["sha256"]]
    folder = (root / network.lstrip("/")).parent
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "model.bin", "model.xml"}
    # Four bytes a parameter, as float32 takes.
    assert (folder / "model.bin").stat().st_size == pytest.approx(4 * manifest["resources"]["parameters"], rel=0.03)
    names = {path.name for path in root.rglob("*")}
    assert names.isdisjoint({"weights.h5", "tensorflow", "keras", "h5py", "include", "ovc"})
    plugins = {name for name in names if name.startswith("libopenvino_") and "plugin" in name}
    assert plugins == {"libopenvino_intel_cpu_plugin.so"}
    contents = json.loads((root / CONTENTS).read_text())
    assert {part["name"] for part in contents["wheels"]} == {"numpy", "openvino", "pillow"}
    assert not (root / SITE / "provider_images" / "applications").exists()


def test_given_the_image_of_a_pulled_model_when_it_runs_without_network_then_it_answers_photos_as_tensorflow_does(
    image: BuiltImage, root: Path, pulled: Path, manifest: dict[str, Any], tmp_path: Path
) -> None:
    if WEIGHTS.is_file():
        files = {name: (DATA / "photos" / name).read_bytes() for name in ("hot_dog.jpg", "owl.jpg", "parrot.jpg")}
    else:
        files = {f"{seed}.jpg": jpeg(seed) for seed in range(3)}
    (tmp_path / "w").mkdir()
    with entering(root, tmp_path / "w") as inside:
        said = json.loads(inside.runtime("start"))
        assert said["engine"].startswith("openvino 20")
        assert said["images_per_second"] > 1
        job = inside.pack(image, manifest, "photos", files)
        assert inside.runtime("run", "/golem/work/photos.tar", "/golem/work/photos.json") == ""
        result = JobResult.from_json((inside.work / "photos.json").read_text(), job)
        assert result.engine == said["engine"]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    here = Job("here", JobModel("cid", manifest, str(pulled / "weights.h5")), job.inputs, job.max_pixels, 60)
    reference = execute(here, tmp_path, ModelShelf(threads=2, capacity=1))
    assert reference.engine.startswith("keras 3.")
    for item, expected in zip(result.items, reference.items, strict=True):
        assert [index for index, _ in item.labels] == [index for index, _ in expected.labels]
        for (_, ours), (_, theirs) in zip(item.labels, expected.labels, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)
    if WEIGHTS.is_file():
        assert manifest["labels"][result.items[0].labels[0][0]] == "hotdog"
