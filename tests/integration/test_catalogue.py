"""The families of keras.applications and the vision transformer, held against Keras itself; weights are random."""

from __future__ import annotations

import inspect
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from provider_images.applications.classes import classes, decode_predictions
from provider_images.applications.manifests import manifest_of
from provider_images.applications.table import application, applications
from provider_images.runtime.engines import ModelError, build, fill
from provider_images.runtime.pictures import prepare
from provider_images.runtime.spec import ModelSpec
from provider_images.vit import model as vit

pytestmark = pytest.mark.integration

CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"
ONE_OF_EACH_MODULE = (
    *("densenet121", "inception-v3", "xception", "convnext-tiny", "efficientnet-b0", "efficientnet-v2-b0"),
    *("mobilenet", "mobilenet-v2", "mobilenet-v3-small", "nasnet-mobile", "resnet50", "resnet50-v2"),
)


@pytest.fixture(autouse=True)
def fresh(keras: Any) -> Iterator[None]:
    yield
    keras.backend.clear_session()


def spec_of(family: str) -> ModelSpec:
    return ModelSpec.from_manifest(manifest_of(family, sha256="0" * 64, size=1, cid=CID))


def a_photo(side: int) -> bytes:
    target = io.BytesIO()
    pixels = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize("family", applications())
def test_a_picture_is_prepared_as_keras_does_it(keras: Any, family: str) -> None:
    entry = application(family)
    spec = spec_of(family).input
    # So large that the middle is the model's size exactly: nothing is resized, all the rest is compared.
    side = next(side for side in range(entry.size, 2 * entry.size) if round(spec.crop * side) == entry.size)
    data = a_photo(side)
    edge = (side - entry.size) // 2
    pixels = np.asarray(Image.open(io.BytesIO(data)), np.float32)[edge : edge + entry.size, edge : edge + entry.size]
    theirs = getattr(keras.applications, entry.module).preprocess_input(pixels.copy())
    ours = prepare(data, spec, max_pixels=side**2)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_predictions_are_decoded_as_keras_does_it(keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from keras.src.applications import imagenet_utils

    index = {str(i): list(pair) for i, pair in enumerate(classes())}
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", index)
    rows = np.random.default_rng(1).dirichlet(np.full(1000, 0.05), 8).astype(np.float32)
    rows[0] = 0.001  # all alike: the order among equals has to agree too
    for top in (1, 5, 1000):
        assert decode_predictions(rows, top) == keras.applications.imagenet_utils.decode_predictions(rows, top)


@pytest.mark.parametrize("family", applications())
def test_addresses_and_digests_are_those_of_the_installed_keras(keras: Any, family: str) -> None:
    from keras.src.applications import resnet

    entry = application(family)
    module = inspect.getmodule(getattr(keras.applications, entry.function))
    source = inspect.getsource(module) + inspect.getsource(resnet)  # which fetches for resnet_v2 as well
    assert entry.digest.partition(":")[2] in source


class Fetched(Exception):
    pass


@pytest.mark.parametrize("family", ONE_OF_EACH_MODULE)
def test_a_family_is_the_network_that_its_official_weights_belong_to(
    keras: Any, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.utils import file_utils

    asked: list[tuple[str, str | None]] = []

    def get_file(_: str, url: str, *, file_hash: str | None = None, **__: Any) -> str:
        asked.append((url, file_hash))
        raise Fetched

    entry = application(family)
    ours = build(family)
    assert (ours.input_shape, ours.output_shape) == ((None, entry.size, entry.size, 3), (None, 1000))
    assert ours.count_params() == entry.parameters
    monkeypatch.setattr(file_utils, "get_file", get_file)
    with pytest.raises(Fetched):
        getattr(keras.applications, entry.function)(input_shape=(entry.size, entry.size, 3))
    assert asked == [(entry.url, entry.digest.partition(":")[2] or None)]


def legacy_file(model: Any, path: Path) -> Path:
    """What Keras 2 wrote, and what the official weights are: arrays by layer, their order in attributes."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            weights = [*layer.trainable_weights, *layer.non_trainable_weights]
            names = [f"{layer.name}/{i}_{variable.name}:0" for i, variable in enumerate(weights)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, weights, strict=True):
                group[name] = variable.value.numpy()
    return path


def shaken(model: Any, seed: int) -> None:
    """Give every array of a model random values, small and positive, so that variances stay variances."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(rng.uniform(0.01, 0.02, variable.shape).astype(np.float32))


def test_given_the_official_form_of_efficientnets_weights_then_it_answers_as_keras_own(
    keras: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.utils import file_utils

    entry = application("efficientnet-b0")
    author = keras.applications.EfficientNetB0(weights=None)
    rng = np.random.default_rng(4)
    for variable in author.weights:
        if variable.name == "count":
            continue
        low, high = (0.5, 1.5) if "variance" in variable.name or variable.name == "gamma" else (-0.1, 0.1)
        variable.assign(rng.uniform(low, high, variable.shape).astype(np.float32))
    file = legacy_file(author, tmp_path / "b0.h5")
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(file))
    theirs = keras.applications.EfficientNetB0(weights="imagenet")
    ours = build(entry.family)
    fill(ours, spec_of(entry.family), file)
    pictures = rng.uniform(0, 255, (2, 224, 224, 3)).astype(np.float32)

    def begun(model: Any) -> np.ndarray:
        """What the first convolution sees of the pictures; further on, random weights let nothing through."""
        first = keras.Model(model.inputs, model.get_layer("stem_activation").output)
        return first.predict(pictures, verbose=0)

    np.testing.assert_allclose(begun(ours), begun(theirs), rtol=1e-4, atol=1e-4)
    # Without the factor they are another network's; it is this test that would notice.
    assert np.abs(begun(author) - begun(theirs)).max() > 0.1


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras while it saves
@pytest.mark.parametrize("form", ["legacy", "keras 3"])
def test_given_a_file_of_weights_when_a_model_is_filled_then_every_array_is_the_files(
    keras: Any, tmp_path: Path, form: str
) -> None:
    author, ours = build("mobilenet-v2"), build("mobilenet-v2")
    shaken(author, 3)
    if form == "legacy":
        file = legacy_file(author, tmp_path / "weights")
    else:
        author.save_weights(tmp_path / "m.weights.h5")
        file = (tmp_path / "m.weights.h5").rename(tmp_path / "weights")
    fill(ours, spec_of("mobilenet-v2"), file)
    for mine, theirs in zip(ours.weights, author.weights, strict=True):
        np.testing.assert_array_equal(mine.value.numpy(), theirs.value.numpy())


def test_a_weights_file_that_is_not_the_models_or_points_elsewhere_is_refused(keras: Any, tmp_path: Path) -> None:
    import h5py

    def soft(file: Any) -> None:
        file["soft"] = h5py.SoftLink("/layers")

    def external(file: Any) -> None:
        file["external"] = h5py.ExternalLink("/etc/other.h5", "/")

    def elsewhere(file: Any) -> None:
        file.create_dataset("raw", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])

    def words(file: Any) -> None:
        file["words"] = "text"

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
        file.create_virtual_dataset("virtual", layout)

    def vast(file: Any) -> None:
        file.create_dataset("vast", (10**11,), "f4", chunks=(10**6,))

    def whole(file: Any) -> None:
        file.attrs["model_config"] = "{}"

    small, other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), build("mobilenet-v2")
    shaken(small, 1)
    spec = spec_of("mobilenet-v2")
    for say, spoil in {"link": soft, "a link": external, "another file": elsewhere, "not numbers": words,
                       "lies in": virtual, "more than": vast, "legacy": whole}.items():  # fmt: skip
        file = legacy_file(small, tmp_path / f"{spoil.__name__}.h5")
        with h5py.File(file, "r+") as opened:
            spoil(opened)
        with pytest.raises(ModelError, match=say):
            fill(other, spec, file)
    with pytest.raises(ModelError, match="does not fit"):
        fill(other, spec, legacy_file(small, tmp_path / "small.h5"))
    (tmp_path / "text").write_text("text")
    with pytest.raises(ModelError, match="not an HDF5 file"):
        fill(other, spec, tmp_path / "text")
    other.weights[0].assign(np.full(other.weights[0].shape, np.nan))
    with pytest.raises(ModelError, match="NaN"):
        fill(build("mobilenet-v2"), spec, legacy_file(other, tmp_path / "nan.h5"))


# ---------------------------------------------------------------------------------------------------------------
# ViT-B/16
# ---------------------------------------------------------------------------------------------------------------

TINY = {"size": 32, "patch": 16, "depth": 2, "width": 8, "heads": 2, "hidden": 12, "classes": 5}


def checkpoint(*, size: int, patch: int, depth: int, width: int, heads: int, hidden: int, classes: int) -> Any:
    """Random tensors with the names and shapes of the public checkpoints (PyTorch's: out before in)."""
    rng = np.random.default_rng(9)
    shapes: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, width),
        "vit.embeddings.position_embeddings": (1, (size // patch) ** 2 + 1, width),
        "vit.embeddings.patch_embeddings.projection.weight": (width, 3, patch, patch),
        "vit.embeddings.patch_embeddings.projection.bias": (width,),
        "vit.layernorm.weight": (width,),
        "vit.layernorm.bias": (width,),
        "classifier.weight": (classes, width),
        "classifier.bias": (classes,),
    }
    for i in range(depth):
        place = f"vit.encoder.layer.{i}"
        for part, (out, into) in {
            "attention.attention.query": (width, width),
            "attention.attention.key": (width, width),
            "attention.attention.value": (width, width),
            "attention.output.dense": (width, width),
            "intermediate.dense": (hidden, width),
            "output.dense": (width, hidden),
        }.items():
            shapes |= {f"{place}.{part}.weight": (out, into), f"{place}.{part}.bias": (out,)}
        for part in ("layernorm_before", "layernorm_after"):
            shapes |= {f"{place}.{part}.weight": (width,), f"{place}.{part}.bias": (width,)}
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) + 0.01 for name, shape in shapes.items()}


def safetensors(tensors: dict[str, np.ndarray], path: Path) -> Path:
    header, place = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [place, place + tensor.nbytes]}
        place += tensor.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())
    return path


def test_given_the_public_layout_when_vit_is_filled_then_every_weight_changes(keras: Any, tmp_path: Path) -> None:
    defaults = {name: value.default for name, value in inspect.signature(vit.build).parameters.items()}
    # Far from what an untrained network begins with, so that not one number is alike by chance.
    tensors = {name: tensor + 5 for name, tensor in checkpoint(**defaults).items()}
    model = build("vit-b16")
    assert model.count_params() == vit.PARAMETERS == sum(tensor.size for tensor in tensors.values())
    assert (model.input_shape, model.output_shape) == ((None, 224, 224, 3), (None, 1000))
    before = [variable.value.numpy() for variable in model.weights]
    fill(model, spec_of("vit-b16"), safetensors(tensors, tmp_path / "weights"))
    assert len(before) == len(tensors) == 200
    for was, variable in zip(before, model.weights, strict=True):
        assert (was != variable.value.numpy()).all(), variable.path
    kernel = model.get_layer("block11_widened").kernel.value.numpy()
    np.testing.assert_array_equal(kernel, tensors["vit.encoder.layer.11.intermediate.dense.weight"].T)


def forward(tensors: dict[str, np.ndarray], picture: np.ndarray, *, heads: int, depth: int, patch: int) -> np.ndarray:
    """The paper's network on one picture (size, size, 3), in float64, straight from the checkpoint's tensors."""
    from math import erf

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ tensors[f"{name}.weight"].T.astype(np.float64) + tensors[f"{name}.bias"]

    def normed(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return centred / deviation * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def softmax(x: np.ndarray) -> np.ndarray:
        powers = np.exp(x - x.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    count = picture.shape[0] // patch
    kernel = tensors["vit.embeddings.patch_embeddings.projection.weight"]
    rows = []
    for i in range(count):
        for j in range(count):
            piece = picture[i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            rows.append(np.einsum("hwc,ochw->o", piece, kernel))
    patches = np.array(rows) + tensors["vit.embeddings.patch_embeddings.projection.bias"]
    x = np.concatenate([tensors["vit.embeddings.cls_token"][0], patches])
    x = x + tensors["vit.embeddings.position_embeddings"][0]
    for i in range(depth):
        place = f"vit.encoder.layer.{i}"
        y = normed(x, f"{place}.layernorm_before")
        query, key, value = (dense(y, f"{place}.attention.attention.{part}") for part in ("query", "key", "value"))
        size = query.shape[1] // heads
        parts = [slice(h * size, (h + 1) * size) for h in range(heads)]
        mixed = [softmax(query[:, p] @ key[:, p].T / size**0.5) @ value[:, p] for p in parts]
        x = x + dense(np.concatenate(mixed, axis=1), f"{place}.attention.output.dense")
        y = dense(normed(x, f"{place}.layernorm_after"), f"{place}.intermediate.dense")
        x = x + dense(y * (1 + np.vectorize(erf)(y / 2**0.5)) / 2, f"{place}.output.dense")
    return softmax(dense(normed(x, "vit.layernorm")[0], "classifier"))


def test_vit_is_the_network_of_the_paper(keras: Any) -> None:
    tensors = {name: 5 * tensor for name, tensor in checkpoint(**TINY).items()}
    model = vit.build(**TINY)
    vit.load_tensors(model, tensors)
    pictures = np.random.default_rng(2).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    expected = [forward(tensors, picture, heads=2, depth=2, patch=16) for picture in pictures]
    answers = model.predict(pictures, verbose=0)
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    assert np.ptp(answers, axis=0).max() > 0.01


def test_a_checkpoint_with_a_tensor_missing_or_misshapen_or_left_over_is_refused(keras: Any) -> None:
    tensors = checkpoint(**TINY)
    model = vit.build(**TINY)
    name = "vit.encoder.layer.1.output.dense.bias"
    vit.load_tensors(model, tensors | {"vit.pooler.dense.bias": np.zeros(8, np.float32)})
    with pytest.raises(ValueError, match="belongs to no layer"):
        vit.load_tensors(model, tensors | {"vit.encoder.layer.2.output.dense.bias": np.zeros(8, np.float32)})
    with pytest.raises(ValueError, match="has shape"):
        vit.load_tensors(model, tensors | {name: np.zeros(9, np.float32)})
    del tensors[name]
    with pytest.raises(ValueError, match="missing"):
        vit.load_tensors(model, tensors)
