"""Anyone's model: .keras and .tflite files, what is refused of them, and real ones where the data is there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oracle.manifests import parse_manifest
from provider_images.applications.classes import labels
from provider_images.applications.manifests import manifest_of
from provider_images.runtime.dry_run import dry_run
from provider_images.runtime.engines import BATCH, ModelError, ModelShelf
from provider_images.runtime.job import JobModel
from provider_images.runtime.keras_file import check_keras_file
from provider_images.runtime.pictures import prepare
from provider_images.runtime.weights import WeightsError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras while it saves
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning"),
]

DATA = Path(os.environ.get("SIBYL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"
COLOURS = ["red", "green", "blue"]

with_data = pytest.mark.skipif(
    not (DATA / "weights").is_dir() or not (DATA / "imagenet").is_dir(), reason=f"{DATA} is not there"
)


@pytest.fixture(autouse=True)
def fresh(keras: Any) -> Iterator[None]:
    yield
    keras.backend.clear_session()


@pytest.fixture(scope="module")
def shelf(keras: Any) -> ModelShelf:
    return ModelShelf(threads=2, capacity=1)


def network(keras: Any, *, softmax: bool = True, **options: Any) -> Any:
    """Which colour a picture has most of."""
    layers = keras.layers
    picture = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, padding="same", activation="relu", name="see")(picture))
    x = layers.Dense(3, name="say", **options)(x + 0.0)
    model = keras.Model(picture, layers.Softmax()(x) if softmax else x)
    kernel = np.zeros((3, 3, 3, 4), np.float32)
    kernel[1, 1, [0, 1, 2], [0, 1, 2]] = 1
    model.get_layer("see").set_weights([kernel, np.zeros(4, np.float32)])
    model.get_layer("say").set_weights([5 * np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32)])
    return model


def manifest(path: Path, kind: str, **changes: Any) -> dict[str, Any]:
    data = path.read_bytes()
    document: dict[str, Any] = {
        "schema": "sibyl/model/1",
        "name": "colours",
        "version": "1",
        "description": "Which colour a picture has most of.",
        "licence": "MIT",
        "task": "classification",
        "engine": kind,
        "family": f"{kind}-file",
        "labels": COLOURS,
        "comparison": {"class": "tolerance", "epsilon": 0.001},
        "input": {"height": 8, "width": 8, "channels": 3, "color": "rgb", "fit": "stretch", "range": [0, 1]},
        "output": {"shape": [3], "top_k": 3, "values": "probabilities"},
        "resources": {},
        "training": {},
        "weights": {"bytes": len(data), "cid": CID, "format": kind, "sha256": hashlib.sha256(data).hexdigest()},
    }
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    parse_manifest(document)
    return document


def a_picture(colour: tuple[int, int, int]) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.new("RGB", (20, 30), colour).save(target, "PNG")
    return target.getvalue()


def tflite(keras: Any, model: Any, path: Path, *, quantised: bool) -> Path:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = tf.TensorSpec((1, 8, 8, 3), tf.float32)
    graph = tf.function(lambda pictures: model(pictures, training=False)).get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(graph)], model)
    if quantised:
        rng, page = np.random.default_rng(0), np.ones((1, 8, 8, 3), np.float32)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([page * rng.random((1, 1, 1, 3), np.float32)] for _ in range(200))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    path.write_bytes(converter.convert())
    return path


def opened(shelf: ModelShelf, document: dict[str, Any], path: Path) -> Any:
    return shelf.get(JobModel(document["weights"]["sha256"], document, str(path)), path.parent)


RED, GREEN, BLUE = (200, 20, 40), (10, 180, 30), (0, 30, 220)


@pytest.mark.parametrize("form", ["keras", "keras logits", "tflite", "tflite logits", "tflite quantised"])
def test_given_a_file_and_its_manifest_when_loaded_then_it_answers(
    keras: Any, shelf: ModelShelf, tmp_path: Path, form: str
) -> None:
    kind, _, variant = form.partition(" ")
    model = network(keras, softmax=variant != "logits")
    path = tmp_path / "model"
    if kind == "keras":
        model.save(tmp_path / "m.keras")
        (tmp_path / "m.keras").rename(path)
    else:
        tflite(keras, model, path, quantised=variant == "quantised")
    values = "logits" if variant == "logits" else "probabilities"
    document = manifest(path, kind, output={"values": values})
    classifier = opened(shelf, document, path)
    batch = [prepare(a_picture(colour), classifier.spec.input, max_pixels=10**4) for colour in (RED, GREEN, BLUE)]
    answers = classifier.classify(np.stack(batch))
    assert classifier.engine.startswith(kind)
    assert [COLOURS[i] for i in answers.argmax(axis=1)] == COLOURS
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    exact = network(keras).predict(np.stack(batch), verbose=0)
    np.testing.assert_allclose(answers, exact, atol=0.03 if variant == "quantised" else 1e-5)


def rezipped(path: Path, change: Callable[[dict[str, Any]], None] | None = None, **members: bytes) -> Path:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if change is not None:
        config = json.loads(files["config.json"])
        change(config)
        files["config.json"] = json.dumps(config).encode()
    target = path.with_name("changed.keras")
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {**files, **members}.items():
            archive.writestr(name, data)
    return target


def test_files_that_run_or_read_anything_else_are_refused_with_the_reason(keras: Any, tmp_path: Path) -> None:
    network(keras).save(tmp_path / "good.keras")
    good = tmp_path / "good.keras"
    check_keras_file(good)

    def refused(path: Path, reason: str) -> None:
        with pytest.raises(WeightsError, match=reason):
            check_keras_file(path)

    def layer(**changes: Any) -> Callable[[dict[str, Any]], None]:
        return lambda config: config["config"]["layers"][1].update(changes)

    code = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()])
    code.save(tmp_path / "lambda.keras")
    refused(tmp_path / "lambda.keras", "Lambda runs code")
    words = keras.layers.StringLookup(vocabulary=["a"])
    keras.Sequential([keras.Input((1,), dtype="string"), words]).save(tmp_path / "words.keras")
    refused(tmp_path / "words.keras", "StringLookup")
    refused(rezipped(good, layer(class_name="TFSMLayer")), "TFSMLayer")
    refused(rezipped(good, layer(module="os", class_name="system")), "custom code")
    refused(rezipped(good, layer(module="builtins", class_name="function")), "custom code")
    refused(rezipped(good, layer(registered_name="Mine>Layer")), "custom object")
    refused(rezipped(good, layer(module=["keras"])), "texts")
    refused(rezipped(good, lambda config: config["config"].update(deep=nested(500))), "deeply")
    refused(rezipped(good, **{"assets/words.txt": b"a"}), "not part of a model")
    refused(rezipped(good, **{"model.weights.h5": b"text"}), "HDF5")
    refused(rezipped(good, **{"config.json": b"[]"}), "object")
    refused(rezipped(good, **{"config.json": b"{"}), "not a .keras file")
    network(keras).save(tmp_path / "legacy.h5")
    refused(tmp_path / "legacy.h5", "legacy")
    (tmp_path / "pickle").write_bytes(pickle.dumps({"weights": [1.0]}))
    refused(tmp_path / "pickle", "pickle")
    (tmp_path / "text").write_text("text")
    refused(tmp_path / "text", "not a .keras file")


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_a_keras_file_that_is_not_what_its_manifest_says_is_refused(
    keras: Any, shelf: ModelShelf, tmp_path: Path
) -> None:
    path = tmp_path / "m.keras"
    network(keras).save(path)
    with pytest.raises(ModelError, match="size"):
        opened(shelf, manifest(path, "keras", input={"height": 9}), path)
    two = {"labels": ["a", "b"], "output": {"shape": [2], "top_k": 2}}
    with pytest.raises(ModelError, match="2 labels"):
        opened(shelf, manifest(path, "keras", **two), path)
    with pytest.raises(ModelError, match="tflite"):
        opened(shelf, manifest(path, "tflite"), path)
    half = network(keras, dtype="mixed_bfloat16")
    half.save(path)
    with pytest.raises(ModelError, match="bfloat16"):
        opened(shelf, manifest(path, "keras"), path)


def test_a_tflite_file_with_operators_of_its_own_or_damaged_is_refused(
    keras: Any, shelf: ModelShelf, tmp_path: Path
) -> None:
    import tensorflow as tf

    signature = tf.TensorSpec((1, 8, 8, 3), tf.float32)

    def reads(pictures: Any) -> Any:
        size = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return tf.reduce_mean(pictures, axis=[1, 2]) + tf.cast(size, tf.float32)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [tf.function(reads).get_concrete_function(signature)], tf.Module()
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path = tmp_path / "model"
    path.write_bytes(converter.convert())
    with pytest.raises(ModelError, match="FlexReadFile is not built in"):
        opened(shelf, manifest(path, "tflite"), path)
    whole = tflite(keras, network(keras), path, quantised=False).read_bytes()
    for data in (whole[: len(whole) // 2], b"text", whole[:8] + bytes(len(whole) - 8)):
        path.write_bytes(data)
        with pytest.raises(ModelError, match="tflite"):
            opened(shelf, manifest(path, "tflite"), path)


def test_given_a_good_file_when_tried_out_then_it_answers_in_a_process_of_its_own(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    network(keras).save(path)
    tried = dry_run(manifest(path, "keras"), path, pictures=[a_picture(GREEN), a_picture(BLUE)])
    assert [answer[0][0] for answer in tried.answers] == ["green", "blue"]
    assert tried.engine.startswith("keras 3.")


def test_given_a_bad_file_when_tried_out_then_the_reason_is_told(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.keras"
    network(keras, softmax=False).save(path)
    with pytest.raises(ModelError, match="not what the manifest declares"):
        dry_run(manifest(path, "keras"), path)
    with pytest.raises(ModelError, match="sha256"):
        dry_run(manifest(path, "keras", weights={"sha256": "0" * 64}), path)
    with pytest.raises(ModelError, match="family"):
        dry_run({**manifest(path, "keras"), "family": "else"}, path)


# ---------------------------------------------------------------------------------------------------------------
# Real weights
# ---------------------------------------------------------------------------------------------------------------


def score(shelf: ModelShelf, document: dict[str, Any], path: Path, *, background: int) -> tuple[float, np.ndarray]:
    """Top-1 on the 55 photos, as the runtime decodes and prepares them; and the answers."""
    photos = json.loads((DATA / "imagenet" / "labels.json").read_text())
    classifier = opened(shelf, document, path)
    answers = []
    for i in range(0, len(photos), BATCH):
        files = [(DATA / "imagenet" / photo["file"]).read_bytes() for photo in photos[i : i + BATCH]]
        batch = np.stack([prepare(data, classifier.spec.input, max_pixels=10**8) for data in files])
        answers.append(classifier.classify(batch))
    together = np.concatenate(answers)
    truth = np.array([photo["label"] for photo in photos]) + background
    return float((together.argmax(axis=1) == truth).mean()), together


@with_data
def test_mobilenet_v2_with_real_weights_names_the_photos(keras: Any, shelf: ModelShelf) -> None:
    path = DATA / "weights" / "mobilenetv2_keras.weights.h5"
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    document = manifest_of("mobilenet-v2", sha256=sha256, size=len(data), cid=CID)
    top1, answers = score(shelf, document, path, background=0)
    assert top1 >= 0.88
    for row, theirs in zip(answers, json.loads((DATA / "imagenet" / "mobilenetv2_top5.json").read_text()), strict=True):
        for index, probability in theirs["top5"]:
            assert float(row[index]) == pytest.approx(probability, abs=2e-5)


@with_data
def test_a_quantised_tflite_with_real_weights_names_the_photos(keras: Any, shelf: ModelShelf) -> None:
    path = DATA / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    shape = {"height": 224, "width": 224, "fit": "crop", "crop": 0.875, "range": [-1, 1]}
    document = manifest(
        path, "tflite", labels=["background", *labels()], input=shape, output={"shape": [1001], "top_k": 5}
    )
    top1, _ = score(shelf, document, path, background=1)
    assert top1 >= 0.87
