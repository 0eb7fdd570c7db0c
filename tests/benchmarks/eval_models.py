"""``make eval-models``: what the manifests claim, measured again on data that no training saw.

Pictures go the way of a provider's: bytes, the runtime's decoder, its engine. Figures whose data is not beside the
project are null. ``mnist_top1``: MNIST's held-out digits. ``mask_ap``, ``mask_ap50``: COCO's measure over unseen scenes
of held-out digits. ``familiarity_auroc``: digits against letters, noise and photos. ``mobilenetv2_top1`` and
``tflite_top1``: 55 photos, with the real weights that lie beside the project.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from provider_images.applications.classes import labels
from provider_images.applications.manifests import manifest_of
from provider_images.mask_rcnn import evaluate
from provider_images.mnist import familiarity
from provider_images.mnist.train import load_digits, split
from provider_images.runtime.engines import ModelShelf
from provider_images.runtime.execute import answer_all
from provider_images.runtime.job import JobModel
from provider_images.runtime.model import BATCH
from provider_images.runtime.sandbox import cpus
from tests.benchmarks.machine import machine, versions

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SIBYL_TEST_DATA") or ROOT.parent / "shared" / "data")
CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"  # files are opened by path here
PIXELS = 10**8


def main(scenes: int) -> dict[str, float | None]:
    note(f"{machine()}; {versions('keras', 'tensorflow-cpu', 'numpy', 'pillow')}")
    shelf = ModelShelf(threads=cpus(), capacity=4)
    figures: dict[str, float | None] = {}
    for names, measured in (
        (("mnist_top1",), lambda: [mnist(shelf)]),
        (("mask_ap", "mask_ap50"), lambda: masks(scenes)),
        (("familiarity_auroc",), familiar),
        (("mobilenetv2_top1",), lambda: [photos(shelf, *mobilenet(), background=0)]),
        (("tflite_top1",), lambda: [photos(shelf, *tflite(), background=1)]),
    ):
        began = time.monotonic()
        try:
            figures |= dict(zip(names, measured(), strict=True))
        except FileNotFoundError as error:
            note(f"{error.filename} is not there")
            figures |= dict.fromkeys(names)
        shown = ", ".join(f"{name} {figures[name]}" for name in names)
        note(f"{shown}   {time.monotonic() - began:.1f} s")
    return figures


def mnist(shelf: ModelShelf) -> float:
    """Top-1 on the 2,000 digits that training put aside."""
    folder = ROOT / "provider_images" / "mnist"
    manifest = json.loads((folder / "manifest.json").read_text())
    _, _, (digits, truth) = split(load_digits(there(DATA / "mnist")), manifest["training"]["seed"])
    named = top1(shelf, manifest, folder / "weights.npz", (png(digit) for digit in digits))
    score = sum(index == wanted for index, wanted in zip(named, truth, strict=True)) / len(truth)
    note(f"mnist: the manifest says {manifest['training']['score']['held_out_top1']}")
    return round(score, 4)


def masks(scenes: int) -> list[float]:
    """COCO's AP and AP50 of the shipped Mask R-CNN."""
    made = evaluate.held_out(there(DATA / "mnist"), scenes)
    weights = (ROOT / "provider_images" / "mask_rcnn" / "weights.npz").read_bytes()
    measured = evaluate.score(made, evaluate.results(evaluate.load(weights), made))
    manifest = json.loads((ROOT / "provider_images" / "mask_rcnn" / "manifest.json").read_text())
    note(f"masks: {len(made)} scenes, {json.dumps(measured)}")
    note(f"masks: the manifest says {json.dumps(manifest['training']['score'])}")
    return [measured["mask_ap"], measured["mask_ap50"]]


def familiar() -> list[float]:
    """How well the MNIST model's familiarity tells digits from letters, noise and photos, each weighing the same."""
    figures = familiarity.measure(there(DATA))
    note(f"familiarity: {json.dumps(figures)}")
    return [figures["auroc"]]


def photos(shelf: ModelShelf, manifest: Mapping[str, Any], weights: Path, *, background: int) -> float:
    """Top-1 on the 55 photos; ``background`` is how many classes the model has before ImageNet's first."""
    listed = json.loads((DATA / "imagenet" / "labels.json").read_text())
    files = ((DATA / "imagenet" / photo["file"]).read_bytes() for photo in listed)
    named = top1(shelf, manifest, weights, files)
    right = sum(index == photo["label"] + background for index, photo in zip(named, listed, strict=True))
    return round(right / len(listed), 4)


def mobilenet() -> tuple[dict[str, Any], Path]:
    path = DATA / "weights" / "mobilenetv2_keras.weights.h5"
    data = path.read_bytes()
    return manifest_of("mobilenet-v2", sha256=hashlib.sha256(data).hexdigest(), size=len(data), cid=CID), path


def tflite() -> tuple[dict[str, Any], Path]:
    path = DATA / "weights" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    data = path.read_bytes()
    manifest = manifest_of("mobilenet-v2", sha256=hashlib.sha256(data).hexdigest(), size=len(data), cid=CID)
    shape = {"channels": 3, "color": "rgb", "crop": 0.875, "fit": "crop", "height": 224, "width": 224}
    changes = {
        "engine": "tflite",
        "family": "tflite-file",
        "input": {**shape, "range": [-1, 1]},
        "labels": ["background", *labels()],
        "output": {"shape": [1001], "top_k": 5, "values": "probabilities"},
    }
    return manifest | changes | {"weights": manifest["weights"] | {"format": "tflite"}}, path


def top1(shelf: ModelShelf, manifest: Mapping[str, Any], weights: Path, pictures: Iterator[bytes]) -> list[int | None]:
    """The best class of each picture; None of one that was not answered."""
    model = shelf.get(JobModel(manifest["name"], manifest, str(weights)), weights.parent)
    named: list[int | None] = []
    while batch := {str(i): picture for i, picture in zip(range(BATCH), pictures, strict=False)}:
        items = answer_all(model, batch, max_pixels=PIXELS).items
        named += [item.labels[0][0] if item.labels else None for item in items]
    return named


def there(folder: Path) -> Path:
    """The folder. Raises FileNotFoundError."""
    if not folder.is_dir():
        raise FileNotFoundError(2, "no such folder", str(folder))
    return folder


def png(pixels: Any) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def note(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=evaluate.SCENES)
    print(json.dumps(main(parser.parse_args().scenes)))
