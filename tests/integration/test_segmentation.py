"""Segmentation as providers serve it: the Mask R-CNN on both engines, own models, DeepLab where the data is."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image
from test_compute_conformance import cid_of, task

from oracle.compute.local import LocalBackend
from oracle.domain import FailureReason, ServableModel, TaskInput
from oracle.manifests import parse_manifest, read_manifest
from oracle.pipeline.comparison import agree
from provider_images.mask_rcnn import forward
from provider_images.mask_rcnn.manifests import HERE
from provider_images.mask_rcnn.scenes import SHAPES, Scene, scene
from provider_images.mnist.draw import draw_digit
from provider_images.runtime.dry_run import dry_run
from provider_images.runtime.engines import KerasEngine, ModelError, ModelShelf, NumpyEngine
from provider_images.runtime.job import ItemOutput, JobModel
from provider_images.runtime.masks import decode_mask
from provider_images.runtime.model import Segmenter
from provider_images.runtime.segmentation import segment_all
from provider_images.runtime.segments import Segment
from provider_images.runtime.spec import ModelSpec

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras while it saves
]

DATA = Path(os.environ.get("SIBYL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
DEEPLAB = DATA / "weights" / "deeplabv3_mnv2_pascal_quant.tflite"
CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"
MANIFEST = (HERE / "manifest.json").read_bytes()
LABELS = json.loads(MANIFEST)["labels"]
WEIGHTS = HERE / "weights.npz"


@pytest.fixture(scope="module")
def reference(keras: Any) -> Segmenter:
    return KerasEngine(2).load(ModelSpec.from_manifest(json.loads(MANIFEST)), WEIGHTS)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def light() -> Segmenter:
    return NumpyEngine().load(ModelSpec.from_manifest(json.loads(MANIFEST)), WEIGHTS)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    digits = np.stack([np.asarray(draw_digit(i % 10, i // 10, style="mnist")) for i in range(20)])
    return [scene(digits, np.arange(20) % 10, 9, i) for i in range(30)]


def as_png(pixels: np.ndarray | Image.Image, **options: Any) -> bytes:
    target = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(target, "PNG", **options)
    return target.getvalue()


def answers(model: Segmenter, *pictures: bytes) -> list[ItemOutput]:
    files = {str(i): picture for i, picture in enumerate(pictures)}
    return segment_all(model, files, max_pixels=10**8).items


def pixels_of(segment: Segment, item: ItemOutput) -> np.ndarray:
    assert item.size is not None
    return decode_mask(segment.counts, item.size[1], item.size[0])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max(1, (one | other).sum()))


def same(one: ItemOutput, other: ItemOutput) -> bool:
    """As two honest machines: the oracle's own measure."""
    from oracle.domain import ItemResult, SegmentScore

    def told(item: ItemOutput) -> ItemResult:
        found = tuple(SegmentScore(s.index, LABELS[s.index], s.score, s.box, s.area, s.counts) for s in item.segments)
        return ItemResult(bytes(32), size=item.size, segments=found, found=item.found)

    return agree(read_manifest(MANIFEST), told(one), told(other))


# ---------------------------------------------------------------------------------------------------------------
# Two engines
# ---------------------------------------------------------------------------------------------------------------


def test_given_random_weights_when_numpy_computes_then_each_network_says_what_keras_says(keras: Any) -> None:
    from provider_images.mask_rcnn.model import build
    from provider_images.mask_rcnn.serve import compiled

    rng = np.random.default_rng(4)
    model = build()
    assert [variable.path for variable in model.weights] == list(forward.shapes())
    arrays = []
    for path, shape in forward.shapes().items():
        array = rng.normal(0, 1 / np.sqrt(np.prod(shape[:-1]) or 1), shape)
        arrays.append((np.abs(array) + 0.5 if path.endswith(("variance", "gamma")) else array).astype(np.float32))
    model.fill(arrays)
    ours, theirs = forward.networks(arrays), compiled(model)
    picture = rng.normal(size=(1, 80, 128, 3)).astype(np.float32)
    mine, expected = ours.trunk(picture), theirs.trunk(picture)
    assert mine.keys() == expected.keys()
    pairs = [(mine[key], expected[key]) for key in ("scores", "deltas")]
    pairs += [pair for key in ("boxes", "masks") for pair in zip(mine[key], expected[key], strict=True)]
    crops = rng.normal(size=(5, 7, 7, 96)).astype(np.float32)
    pairs += zip(ours.box_head(crops), theirs.box_head(crops), strict=True)
    crops = rng.normal(size=(3, 28, 28, 96)).astype(np.float32)
    pairs.append((ours.mask_head(crops), theirs.mask_head(crops)))
    for one, other in pairs:
        assert one.shape == other.shape
        assert one.dtype == other.dtype == np.float32
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1.0, float(np.abs(other).max())), rtol=0)


def test_given_scenes_when_both_engines_look_then_they_find_the_same_within_rounding(
    reference: Segmenter, light: Segmenter, scenes: list[Scene]
) -> None:
    pictures = [as_png(one.picture) for one in scenes]
    found = 0
    for one, other in zip(answers(reference, *pictures), answers(light, *pictures), strict=True):
        assert same(one, other)
        for a, b in zip(one.segments, other.segments, strict=True):
            assert a.index == b.index
            assert a.score == pytest.approx(b.score, abs=1e-4)
            assert a.box == pytest.approx(b.box, abs=0.05)
            assert iou(pixels_of(a, one), pixels_of(b, other)) > 0.97
            found += 1
    assert found > 60


def test_given_scenes_when_they_are_segmented_then_shapes_are_where_they_were_drawn(
    light: Segmenter, scenes: list[Scene]
) -> None:
    found = []
    for one, item in zip(scenes, answers(light, *(as_png(one.picture) for one in scenes)), strict=True):
        for i in np.flatnonzero((one.classes > 0) & (one.classes <= len(SHAPES))):
            like = [s for s in item.segments if s.index == one.classes[i] - 1]
            found.append(max((iou(pixels_of(s, item), one.owner == i + 1) for s in like), default=0))
    assert len(found) > 30
    assert np.mean(np.array(found) > 0.8) > 0.85


# ---------------------------------------------------------------------------------------------------------------
# Pictures of every kind
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_given_a_rotated_picture_when_it_is_segmented_then_pixels_are_those_of_the_upright_one(
    light: Segmenter, scenes: list[Scene], orientation: int
) -> None:
    upright = Image.fromarray(np.concatenate([scenes[1].picture, scenes[2].picture[:60]]))  # 188 high, 128 wide
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, turned = answers(light, as_png(upright), as_png(stored, exif=exif))
    assert plain.size == turned.size == (128, 188)
    assert plain.segments
    assert plain.to_dict() | {"input": "1"} == turned.to_dict()


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 300), (300, 1), (3, 2), (700, 90), (50, 333), (129, 127)])
def test_given_a_picture_of_any_form_when_it_is_segmented_then_the_outcome_is_sound(
    reference: Segmenter, light: Segmenter, scenes: list[Scene], width: int, height: int
) -> None:
    picture = as_png(Image.fromarray(scenes[1].picture).resize((width, height)))
    for model in (reference, light):
        (item,) = answers(model, picture)
        assert item.size == (width, height)
        for segment in item.segments:
            assert Segment.from_list(segment.to_list(), "s", classes=14, width=width, height=height) == segment
            assert all(round(edge, 2) == edge for edge in segment.box)


def test_given_a_picture_that_is_not_square_and_larger_when_it_is_segmented_then_pixels_are_in_its_own_scale(
    light: Segmenter, scenes: list[Scene]
) -> None:
    found = []
    for one in scenes[:12]:
        wide = one.picture[20:].repeat(5, axis=0).repeat(5, axis=1)
        (item,) = answers(light, as_png(wide))
        assert item.size == (640, 540)
        for i in np.flatnonzero((one.classes > 0) & (one.classes <= len(SHAPES)) & (one.boxes[:, 0] > 20)):
            truth = np.kron(one.owner[20:] == i + 1, np.ones((5, 5), bool))
            like = [s for s in item.segments if s.index == one.classes[i] - 1]
            found.append(max((iou(pixels_of(s, item), truth) for s in like), default=0))
    assert len(found) > 8
    assert np.mean(np.array(found) > 0.8) > 0.8


MEMORY = """
import json, resource, sys, tracemalloc
from pathlib import Path
from provider_images.runtime.engines import NumpyEngine
from provider_images.runtime.segmentation import segment_all
from provider_images.runtime.spec import ModelSpec
manifest, weights, picture = map(Path, sys.argv[1:])
model = NumpyEngine().load(ModelSpec.from_manifest(json.loads(manifest.read_text())), weights)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(item,) = segment_all(model, {"a": picture.read_bytes()}, max_pixels=10**8).items
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"mb": (after - before) / 1024, "size": item.size, "found": item.found, "json": len(str(item))}))
"""


def test_given_a_picture_of_twelve_million_pixels_when_it_is_segmented_then_memory_is_a_few_times_its_own(
    scenes: list[Scene], tmp_path: Path
) -> None:
    Image.fromarray(scenes[1].picture).resize((4000, 3000)).save(tmp_path / "large.png", compress_level=1)
    command = [sys.executable, "-c", MEMORY, HERE / "manifest.json", WEIGHTS, tmp_path / "large.png"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    told = json.loads(ran.stdout)
    assert told["size"] == [4000, 3000]
    assert told["found"] >= 1
    assert told["mb"] < 300  # 36 MB of pixels, a copy or two, one mask at a time
    assert told["json"] < 200_000


# ---------------------------------------------------------------------------------------------------------------
# The worker
# ---------------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def worker(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    backend = LocalBackend(tmp_path / "tasks")
    await backend.start()
    yield backend
    await backend.close()


async def test_given_a_scene_when_a_worker_serves_it_then_the_oracle_reads_its_segments(
    worker: LocalBackend, scenes: list[Scene], tmp_path: Path
) -> None:
    model = ServableModel(2, cid_of(MANIFEST), read_manifest(MANIFEST), WEIGHTS)
    inputs = []
    for i, data in enumerate(
        [as_png(scenes[1].picture), b"not a picture", as_png(np.full((64, 99, 3), 128, np.uint8))]
    ):
        path = tmp_path / f"{i}.png"
        path.write_bytes(data)
        inputs.append(TaskInput(hashlib.sha256(str(i).encode()).digest(), cid_of(data), path, len(data)))
    await worker.submit(task("scene", tuple(inputs), seconds=100, model=model))
    result = await worker.collect("scene")
    assert result.engine.startswith("keras 3.")
    seen, broken, empty = result.items
    assert broken.failure is FailureReason.IMAGE_UNREADABLE
    assert (empty.failure, empty.size, empty.segments, empty.found) == (FailureReason.NONE, (99, 64), (), 0)
    assert seen.size == (128, 128)
    assert seen.found == len(seen.segments) > 0
    drawn = {LABELS[c - 1] for c in scenes[1].classes if 0 < c <= len(SHAPES)}
    assert drawn <= {segment.label for segment in seen.segments}


# ---------------------------------------------------------------------------------------------------------------
# One's own
# ---------------------------------------------------------------------------------------------------------------


def own(path: Path, kind: str, output: dict[str, Any], **changes: Any) -> dict[str, Any]:
    data = path.read_bytes()
    document = {
        "schema": "sibyl/model/1",
        "name": "own",
        "version": "1",
        "description": "What each pixel is.",
        "licence": "MIT",
        "task": "semantic-segmentation",
        "engine": kind,
        "family": f"{kind}-file",
        "labels": ["red", "green", "blue"],
        "comparison": {"class": "detection", "epsilon": 0.05, "iou": 0.9},
        "input": {"height": 8, "width": 8, "channels": 3, "color": "rgb", "fit": "stretch", "range": [0, 1]},
        "output": {"shape": [8, 8, 3], "top_k": 3} | output,
        "resources": {},
        "training": {},
        "weights": {"bytes": len(data), "cid": CID, "format": kind, "sha256": hashlib.sha256(data).hexdigest()},
        **changes,
    }
    parse_manifest(document)
    return document


def colours(keras: Any, *, last: str, size: int | None = 8) -> Any:
    """Which colour each pixel has most of: probabilities, logits or classes."""
    picture = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(3, 1, name="see")(picture)
    if last == "probabilities":
        x = keras.layers.Softmax()(x)
    elif last == "classes":
        x = keras.ops.argmax(x, axis=-1)
    model = keras.Model(picture, x)
    model.get_layer("see").set_weights([9 * np.eye(3, dtype=np.float32)[None, None], np.zeros(3, np.float32)])
    return model


FLAG = np.zeros((40, 64, 3), np.uint8)
FLAG[:, :24], FLAG[:, 24:40], FLAG[:, 40:] = (250, 10, 10), (10, 250, 10), (10, 10, 250)


@pytest.mark.parametrize("last", ["probabilities", "logits", "classes"])
@pytest.mark.parametrize("size", [8, None])
def test_given_a_keras_file_that_segments_when_it_is_tried_out_then_its_classes_are_told(
    keras: Any, tmp_path: Path, last: str, size: int | None
) -> None:
    path = tmp_path / "m.keras"
    colours(keras, last=last, size=size).save(path)
    document = own(path, "keras", {"values": last, "shape": [8, 8] if last == "classes" else [8, 8, 3]})
    model = ModelShelf(threads=2, capacity=1).get(JobModel("cid", document, str(path)), tmp_path)
    assert isinstance(model, Segmenter)
    (item,) = answers(model, as_png(FLAG))
    found = {segment.index: pixels_of(segment, item) for segment in item.segments}
    assert sorted(found) == [0, 1, 2]
    for index, (left, right) in enumerate([(0, 24), (24, 40), (40, 64)]):
        truth = np.zeros((40, 64), bool)
        truth[:, left:right] = True
        assert iou(found[index], truth) > 0.8
    keras.backend.clear_session()


def test_given_a_segmenting_file_when_it_is_tried_out_then_it_answers_in_a_process_of_its_own(
    keras: Any, tmp_path: Path
) -> None:
    path = tmp_path / "m.keras"
    colours(keras, last="probabilities").save(path)
    document = own(path, "keras", {"background": 0})
    tried = dry_run(document, path, pictures=[as_png(FLAG), as_png(FLAG[:, :20])])
    first, second = tried.answers
    assert sorted(label for label, _ in first) == ["blue", "green"]
    assert all(0.7 < score <= 1 for _, score in first)
    assert second == ()
    for wrong in ({"shape": [4, 8, 3]}, {"shape": [8, 8], "values": "classes"}):
        with pytest.raises(ModelError, match=r"output\.shape"):
            dry_run(own(path, "keras", wrong), path)
    colours(keras, last="logits").save(path)
    with pytest.raises(ModelError, match="are the values logits"):
        dry_run(own(path, "keras", {}), path)
    keras.backend.clear_session()


# ---------------------------------------------------------------------------------------------------------------
# DeepLab
# ---------------------------------------------------------------------------------------------------------------

PASCAL = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


@pytest.fixture(scope="module")
def deeplab(keras: Any) -> Segmenter:
    if not DEEPLAB.is_file():
        pytest.skip(f"{DEEPLAB} is not there")
    document = own(
        DEEPLAB,
        "tflite",
        {"shape": [513, 513], "values": "classes", "background": 0, "top_k": 20},
        name="deeplab-v3-voc",
        labels=list(PASCAL),
        licence="Apache-2.0",
        input={"height": 513, "width": 513, "channels": 3, "color": "rgb", "fit": "stretch", "range": [-1, 1]},
    )
    return ModelShelf(threads=2, capacity=1).get(JobModel("cid", document, str(DEEPLAB)), DEEPLAB.parent)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("photo", "shown"),
    [("cat_720p", "cat"), ("pets", "dog"), ("owl", "bird"), ("parrot", "bird"), ("hot_dog", None)],
)
def test_given_a_photo_when_deeplab_looks_then_it_finds_what_it_shows(
    deeplab: Segmenter, photo: str, shown: str | None
) -> None:
    data = (DATA / "photos" / f"{photo}.jpg").read_bytes()
    (item,) = answers(deeplab, data)
    with Image.open(io.BytesIO(data)) as image:
        assert item.size == image.size
    large = [PASCAL[s.index] for s in item.segments if s.area > 0.02 * item.size[0] * item.size[1]]
    assert large == ([shown] if shown else [])
    assert all(segment.score == 1.0 for segment in item.segments)


def test_given_photos_with_people_when_deeplab_looks_then_their_pixels_are_those_that_people_marked(
    deeplab: Segmenter,
) -> None:
    rle = pytest.importorskip("pycocotools.mask")
    truth = json.loads((DATA / "coco" / "instances.json").read_text())
    overlaps = []
    for image in truth["images"]:
        people = [a for a in truth["annotations"] if a["image_id"] == image["id"] and a["category_id"] == 1]
        marked = np.zeros((image["height"], image["width"]), bool)
        for one in people:
            outline = one["segmentation"]
            if isinstance(outline, list):
                outline = rle.merge(rle.frPyObjects(outline, image["height"], image["width"]))
            elif isinstance(outline["counts"], list):
                outline = rle.frPyObjects(outline, image["height"], image["width"])
            marked |= rle.decode(outline).astype(bool)
        if marked.mean() < 0.1:
            continue
        (item,) = answers(deeplab, (DATA / "coco" / image["file_name"]).read_bytes())
        (found,) = [s for s in item.segments if PASCAL[s.index] == "person"]
        overlaps.append(iou(pixels_of(found, item), marked))
    assert len(overlaps) == 5
    assert np.mean(overlaps) > 0.75
    assert min(overlaps) > 0.5
