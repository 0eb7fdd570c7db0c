"""The Mask R-CNN itself under TensorFlow: shapes, learning, the shipped weights, Matterport's file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras
from keras import ops

from oracle.content.unixfs import cid_of
from oracle.manifests import parse_manifest, read_manifest
from provider_images.mask_rcnn import geometry
from provider_images.mask_rcnn.config import COCO, COCO_PARAMETERS, SMALL, anchors
from provider_images.mask_rcnn.detect import Networks, detect, frame, paste
from provider_images.mask_rcnn.evaluate import load, results, score
from provider_images.mask_rcnn.learn import Learner
from provider_images.mask_rcnn.manifests import HERE, coco_manifest, file_cid, small_manifest
from provider_images.mask_rcnn.matterport import load_matterport
from provider_images.mask_rcnn.model import MaskRCNN, build
from provider_images.mask_rcnn.scenes import LABELS, SIDE, Scene, scene
from provider_images.mask_rcnn.serve import compiled
from provider_images.mask_rcnn.train import rate_at, storable
from provider_images.mnist.draw import draw_digit
from provider_images.runtime.engines import KerasEngine, ModelError
from provider_images.runtime.model import Segmenter
from provider_images.runtime.spec import ModelSpec
from provider_images.runtime.weights import WeightsError, read_weights, save_weights

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    digits = np.stack([np.asarray(draw_digit(i % 10, i // 10, style="mnist")) for i in range(20)])
    return [scene(digits, np.arange(20) % 10, 9, i) for i in range(8)]


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    return read_weights((HERE / "weights.npz").read_bytes(), [tuple(variable.shape) for variable in build().weights])


@pytest.fixture(scope="module")
def shipped() -> Networks:
    return load((HERE / "weights.npz").read_bytes())


def batch_of(scenes: list[Scene]) -> dict[str, Any]:
    return {name: np.stack([getattr(one, name) for one in scenes]) for name in Scene._fields}


def test_given_a_picture_when_the_trunk_looks_then_every_anchor_has_its_scores_and_deltas() -> None:
    model = build()
    seen = model.trunk(np.zeros((2, 96, 128, 3), np.float32))
    every = anchors(SMALL, 96, 128)
    assert every.shape == (3 * (24 * 32 + 12 * 16 + 6 * 8), 4)
    assert (seen["scores"].shape, seen["deltas"].shape) == ((2, len(every), 2), (2, len(every), 4))
    assert [tuple(m.shape) for m in seen["boxes"]] == [(2, 24, 32, 96), (2, 12, 16, 96), (2, 6, 8, 96)]
    assert tuple(seen["masks"][0].shape) == (2, 48, 64, 96)
    logits, deltas = model.box_head(np.zeros((5, 7, 7, 96), np.float32))
    assert (tuple(logits.shape), tuple(deltas.shape)) == ((5, 15), (5, 15, 4))
    assert tuple(model.mask_head(np.zeros((5, 28, 28, 96), np.float32)).shape) == (5, 28, 28, 15)


def test_given_many_boxes_when_tensors_are_suppressed_then_they_are_those_that_numpy_keeps() -> None:
    rng = np.random.default_rng(0)
    centre, size = rng.uniform(0, 100, (2, 120, 2)), rng.uniform(10, 50, (2, 120, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], -1).astype(np.float32)
    falling = np.linspace(1, 0, 120, dtype=np.float32)
    kept = np.asarray(geometry.survivors(ops, ops.convert_to_tensor(boxes), 0.5))
    for n in range(2):
        assert np.flatnonzero(kept[n]).tolist() == geometry.suppress(boxes[n], falling, 0.5, 120).tolist()
    assert 0 < kept.sum() < kept.size


@pytest.mark.parametrize("edge", [0, 1])
def test_given_the_same_maps_when_boxes_are_read_then_numpy_and_tensors_agree(edge: int) -> None:
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(2, h, h, 3)).astype(np.float32) for h in (32, 16)]
    level = rng.integers(0, 2, (2, 7)).astype(np.int32)
    boxes = np.sort(rng.uniform(-9, 140, (2, 7, 2, 2)), axis=2).reshape(2, 7, 4).astype(np.float32)
    plain = geometry.align(np, maps, level, boxes, 7, (0.25, 0.125), edge)
    tensors = [ops.convert_to_tensor(values) for values in (*maps, level, boxes)]
    tensor = geometry.align(ops, tensors[:2], tensors[2], tensors[3], 7, (0.25, 0.125), edge)
    assert np.allclose(plain, np.asarray(tensor), atol=1e-5)


def test_given_a_few_scenes_when_it_learns_then_the_loss_falls(scenes: list[Scene]) -> None:
    keras.utils.set_random_seed(1)
    narrow = dataclasses.replace(
        SMALL, channels=32, rpn_channels=32, box_channels=64, mask_channels=16, candidates=128, proposals=40
    )
    learner = Learner(MaskRCNN(narrow, frozen_norm=False), batch=2, height=SIDE, width=SIDE, seed=1)
    # Tracing the graph takes longer than these steps.
    learner.compile(keras.optimizers.Adam(3e-4, global_clipnorm=5.0), run_eagerly=True)
    told = []
    for _ in range(5):
        learner.reset_metrics()
        told.append(learner.train_on_batch(batch_of(scenes[:2]), return_dict=True))
    first, last = told[0], told[-1]
    assert set(first) == {"loss", "rpn_class", "rpn_box", "class", "box", "mask"}
    assert all(np.isfinite(value) for line in told for value in line.values())
    assert last["loss"] < 0.6 * first["loss"]
    assert all(last[name] < first[name] for name in first)


def test_the_rate_rises_and_then_falls_with_the_time_that_is_left() -> None:
    assert rate_at(0, 0) < rate_at(100, 0) < rate_at(400, 0)
    assert rate_at(400, 0) > rate_at(400, 0.5) > rate_at(400, 1) == rate_at(400, 2) > 0


def test_given_a_variance_beyond_float16_when_weights_are_stored_then_the_head_says_the_same() -> None:
    keras.utils.set_random_seed(2)
    model = build()
    norm = model.box_head.get_layer("mrcnn_class_bn1")
    norm.moving_variance.assign(np.geomspace(1, 1e9, 320))
    norm.moving_mean.assign(np.linspace(-300, 300, 320))
    crops = 3e3 * np.random.default_rng(0).normal(size=(4, 7, 7, 96)).astype(np.float32)
    before = [np.asarray(values) for values in model.box_head(crops)]
    stored = storable(model)
    assert max(np.abs(array).max() for array in stored) <= 50_000
    for variable, array in zip(model.weights, stored, strict=True):
        variable.assign(array)
    for a, b in zip(before, model.box_head(crops), strict=True):
        assert np.allclose(a, np.asarray(b), atol=1e-4 * np.abs(a).max())
    norm.moving_variance.assign(np.full(320, np.inf))
    with pytest.raises(FloatingPointError, match="mrcnn_class_bn1"):
        storable(model)


def test_given_the_shipped_weights_when_scenes_of_another_pen_are_shown_then_its_shapes_are_found(
    shipped: Networks, scenes: list[Scene]
) -> None:
    pytest.importorskip("pycocotools")
    measured = score(scenes, results(shipped, scenes))
    assert measured["mask_ap50_shapes"] > 0.9
    assert measured["mask_ap_shapes"] > 0.8
    assert measured["box_ap50"] > 0.7


def test_the_manifest_tells_of_the_shipped_weights(arrays: list[np.ndarray]) -> None:
    data = (HERE / "weights.npz").read_bytes()
    document = json.loads((HERE / "manifest.json").read_text())
    parameters = sum(network.count_params() for network in build().networks)
    assert document == small_manifest(data, parameters=parameters, training=document["training"])
    assert document["weights"]["sha256"] == hashlib.sha256(data).hexdigest()
    manifest = read_manifest((HERE / "manifest.json").read_bytes())
    assert manifest.labels == LABELS
    assert manifest.weights_cid == cid_of(data)
    assert document["training"]["score"]["mask_ap"] > 0.78
    assert document["training"]["score"]["mask_ap50"] > 0.94
    assert save_weights(arrays) == data


@pytest.mark.parametrize("size", [0, 1, 262_144, 262_145, 262_144 * 174])
def test_given_any_size_of_file_when_it_is_named_then_the_name_is_the_oracles(size: int) -> None:
    data = bytes(size)
    assert file_cid(data) == cid_of(data).text
    with pytest.raises(ValueError, match="one IPFS node"):
        file_cid(bytes(262_144 * 174 + 1))


def test_given_nothing_when_it_is_looked_at_then_nothing_is_found(shipped: Networks) -> None:
    seen = detect(shipped, np.full((SIDE, SIDE, 3), 128, np.uint8))
    assert [len(part) for part in seen] == [0, 0, 0, 0]
    assert seen.masks.shape == (0, 28, 28)


# Padded to a multiple of the stride, or to Matterport's square. Cells and anchors are the same where the picture is;
# what the trunk sees differs within its reach of the border. With Matterport's edge a crop's points also drift by a
# part of a cell, for a cell there is a little more than its stride: hence the second, wider tolerance.


def test_given_either_padding_when_a_picture_is_framed_then_cells_and_anchors_coincide() -> None:
    config = dataclasses.replace(SMALL, side=1024, shorter=200)
    picture = np.random.default_rng(0).integers(0, 256, (424, 1000, 3), np.uint8)
    slim, square = (frame(config, picture, square=wide) for wide in (False, True))
    assert slim.values.shape[1] < 0.5 * square.values.shape[1] == 512
    down, across = (int(square.window[i] - slim.window[i]) for i in (0, 1))
    assert down % 16 == across % 16 == 0
    top, left, bottom, right = (int(edge) for edge in slim.window)
    inside = square.values[:, down:, across:][:, top:bottom, left:right]
    assert np.array_equal(slim.values[:, top:bottom, left:right], inside)
    of_slim = anchors(config, *slim.values.shape[1:3]) + np.array([down, across] * 2, np.float32)
    of_square = {tuple(box) for box in anchors(config, 1024, 1024).round(2).tolist()}
    assert {tuple(box) for box in of_slim.round(2).tolist()} <= of_square


@pytest.mark.parametrize(("edge", "least"), [(0, 0.85), (1, 0.7)])
def test_given_either_padding_when_objects_are_plain_to_see_then_both_find_them_alike(
    arrays: list[np.ndarray], scenes: list[Scene], edge: int, least: float
) -> None:
    config = dataclasses.replace(SMALL, side=2 * SIDE, edge=edge, candidates=1024, proposals=192)
    model = MaskRCNN(config)
    model.fill(arrays)
    networks = compiled(model)
    compared = 0
    for i in (0, 2):
        picture = np.concatenate([scenes[i].picture, scenes[i + 1].picture], axis=edge)[:250, :250]
        slim, square = detect(networks, picture), detect(networks, picture, square=True)
        for one, other in ((slim, square), (square, slim)):
            iou = geometry.overlap(np, one.boxes, other.boxes) * (one.classes[:, None] == other.classes)
            for k in np.flatnonzero(one.scores >= 0.95):
                twin = iou[k].argmax()
                assert iou[k, twin] > least, (i, one.classes[k], one.boxes[k])
                assert abs(one.scores[k] - other.scores[twin]) < 0.1
                compared += 1
    assert compared >= 12


# Matterport's file, made of its layout as the paper's reference implementation names it.


def layout() -> Iterator[tuple[str, str, dict[str, tuple[int, ...]]]]:
    """Group, layer and the arrays of every layer with weights in mask_rcnn_coco.h5."""

    def conv(name: str, *shape: int, bias: int | None = None, group: str = "") -> Any:
        return group or name, name, {"kernel": shape, "bias": (bias or shape[-1],)}

    def norm(name: str, width: int) -> Any:
        return name, name, dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (width,))

    yield conv("conv1", 7, 7, 3, 64)
    yield norm("bn_conv1", 64)
    before = 64
    for stage, width, count in ((2, 64, 3), (3, 128, 4), (4, 256, 23), (5, 512, 3)):
        for letter in "abcdefghijklmnopqrstuvw"[:count]:
            for part, size, fan_in, depth in (
                ("2a", 1, before, width),
                ("2b", 3, width, width),
                ("2c", 1, width, 4 * width),
            ):
                yield conv(f"res{stage}{letter}_branch{part}", size, size, fan_in, depth)
                yield norm(f"bn{stage}{letter}_branch{part}", depth)
            if letter == "a":
                yield conv(f"res{stage}a_branch1", 1, 1, before, 4 * width)
                yield norm(f"bn{stage}a_branch1", 4 * width)
            before = 4 * width
        yield conv(f"fpn_c{stage}p{stage}", 1, 1, before, 256)
        yield conv(f"fpn_p{stage}", 3, 3, 256, 256)
    yield conv("rpn_conv_shared", 3, 3, 256, 512, group="rpn_model")
    yield conv("rpn_class_raw", 1, 1, 512, 6, group="rpn_model")
    yield conv("rpn_bbox_pred", 1, 1, 512, 12, group="rpn_model")
    yield conv("mrcnn_class_conv1", 7, 7, 256, 1024)
    yield norm("mrcnn_class_bn1", 1024)
    yield conv("mrcnn_class_conv2", 1, 1, 1024, 1024)
    yield norm("mrcnn_class_bn2", 1024)
    yield conv("mrcnn_class_logits", 1024, 81)
    yield conv("mrcnn_bbox_fc", 1024, 324)
    for i in range(1, 5):
        yield conv(f"mrcnn_mask_conv{i}", 3, 3, 256, 256)
        yield norm(f"mrcnn_mask_bn{i}", 256)
    yield conv("mrcnn_mask_deconv", 2, 2, 256, 256)
    yield conv("mrcnn_mask", 1, 1, 256, 81)


def values_of(layer: str, part: str, shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(zlib.crc32(f"{layer}/{part}".encode())).random(shape, np.float32) + 1.5


@pytest.fixture(scope="module")
def matterport_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import h5py

    path = tmp_path_factory.mktemp("matterport") / "mask_rcnn_coco.h5"
    with h5py.File(path, "w") as file:
        for empty in ("input_image", "ROI", "mrcnn_detection", "activation_1"):
            file.create_group(empty).attrs["weight_names"] = np.zeros(0, "S1")
        for group, layer, parts in layout():
            for part, shape in parts.items():
                file[f"{group}/{layer}/{part}:0"] = values_of(layer, part, shape)
        file.attrs["layer_names"] = [name.encode() for name in file]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.0.8", b"tensorflow"
    yield path
    path.unlink()


def test_given_a_file_of_matterports_layout_when_it_is_loaded_then_every_array_is_in_its_place(
    matterport_file: Path,
) -> None:
    model = load_matterport(matterport_file)
    assert model.config is COCO
    assert sum(network.count_params() for network in model.networks) == COCO_PARAMETERS == 64_158_584
    # What Matterport's own summary says with normalisation trainable.
    assert sum(int(np.prod(v.shape)) for n in model.networks for v in n.trainable_variables) == 64_047_096
    document = coco_manifest(sha256="0" * 64, size=matterport_file.stat().st_size, cid=file_cid(b""))
    manifest = parse_manifest(json.loads(json.dumps(document)))
    assert len(manifest.labels) + 1 == model.config.classes
    layers = model.named_layers()
    listed = list(layout())
    assert {layer for _, layer, _ in listed} == set(layers)
    for _, layer, parts in listed:
        assert {variable.name for variable in layers[layer].weights} == set(parts)
        for variable in layers[layer].weights:
            assert np.array_equal(variable.numpy(), values_of(layer, variable.name, parts[variable.name])), (
                variable.path
            )


def test_given_weights_in_that_layout_when_the_engine_loads_them_then_it_finds_what_they_find(
    tmp_path: Path, arrays: list[np.ndarray], scenes: list[Scene], shipped: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5py

    # The small network stands in for the large one, in the large one's format.
    monkeypatch.setattr("provider_images.mask_rcnn.matterport.COCO", SMALL)
    monkeypatch.setattr("provider_images.mask_rcnn.serve.CONFIGS", {"mask-rcnn-coco": SMALL})
    path = tmp_path / "small.h5"
    with h5py.File(path, "w") as file:
        for variable, array in zip(build().weights, arrays, strict=True):
            layer, _, part = variable.path.partition("/")
            file[f"{layer}/{layer}/{part}:0"] = array
    document = coco_manifest(sha256="0" * 64, size=path.stat().st_size, cid=file_cid(b""))
    document["labels"] = list(LABELS)
    document["input"] |= {"height": SIDE, "width": SIDE}
    model = KerasEngine(1).load(ModelSpec.from_manifest(document), path)
    assert isinstance(model, Segmenter)
    for one in scenes[:3]:
        expected = detect(shipped, one.picture)
        found = list(model.segment(one.picture))
        assert [f.index + 1 for f in found] == expected.classes.tolist()
        np.testing.assert_allclose([f.score for f in found], expected.scores, atol=1e-6)
        np.testing.assert_allclose([f.box for f in found], expected.boxes.clip(0, SIDE), atol=0.0051)
        for f, mask, box in zip(found, expected.masks, expected.boxes, strict=True):
            full = np.zeros((SIDE, SIDE), bool)
            full[f.top : f.top + f.mask.shape[0], f.left : f.left + f.mask.shape[1]] = f.mask
            assert (full ^ paste(mask, box, SIDE, SIDE)).sum() <= 3
    path.write_bytes(b"text")
    with pytest.raises(ModelError, match="weights: not an HDF5 file"):
        KerasEngine(1).load(ModelSpec.from_manifest(document), path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("missing", "rpn_conv_shared/bias is not in the file"),
        ("shape", r"rpn_conv_shared/bias has shape \(95,\)"),
        ("nan", "rpn_conv_shared/bias holds NaN"),
        ("surplus", "extra/kernel is not in the model"),
        ("twice", "rpn_conv_shared/bias is twice"),
    ],
)
def test_given_a_file_of_another_layout_when_it_is_loaded_then_it_is_refused(
    tmp_path: Path, spoil: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import h5py

    monkeypatch.setattr("provider_images.mask_rcnn.matterport.COCO", SMALL)
    path = tmp_path / "spoilt.h5"
    with h5py.File(path, "w") as file:
        model = build()
        for name, layer in model.named_layers().items():
            for variable in layer.weights:
                file[f"{name}/{name}/{variable.name}:0"] = np.ones(variable.shape, np.float32)
        bias = "rpn_conv_shared/rpn_conv_shared/bias:0"
        if spoil in ("missing", "shape", "nan"):
            del file[bias]
        if spoil in ("shape", "nan"):
            file[bias] = np.full(95 if spoil == "shape" else 96, np.nan, np.float32)
        if spoil == "surplus":
            file["extra/kernel:0"] = np.ones(1, np.float32)
        if spoil == "twice":
            file["other/rpn_conv_shared/bias:0"] = np.ones(96, np.float32)
    with pytest.raises(WeightsError, match=message):
        load_matterport(path)
