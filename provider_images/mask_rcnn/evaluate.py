"""Measure the small Mask R-CNN on scenes it has never seen, with digits it has never seen.

``python -m provider_images.mask_rcnn.evaluate --weights weights.npz`` prints COCO's mask and box AP as one line
of JSON: over all 14 classes, over the shapes and over the digits; ``--record`` writes them into the manifest beside the
weights. Needs pycocotools.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from provider_images.mask_rcnn.detect import Networks, detect, paste
from provider_images.mask_rcnn.manifests import HERE, write
from provider_images.mask_rcnn.scenes import LABELS, SHAPES, SIDE, Scene, scene
from provider_images.mask_rcnn.train import SPLIT_SEED
from provider_images.mnist.train import SHARED, load_digits, split
from provider_images.runtime.weights import read_weights

HELD_OUT_SEED = 2_000_000
SCENES = 1_000
LEAST_SCORE = 0.02  # average precision looks at unlikely detections too


def held_out(folder: Path | None, count: int = SCENES) -> list[Scene]:
    """Unseen scenes of the digits that neither family trains on."""
    _, _, (digits, labels) = split(load_digits(folder), SPLIT_SEED)
    return [scene(digits, labels, HELD_OUT_SEED, i) for i in range(count)]


def load(weights: bytes) -> Networks:
    """The small model with these weights, on TensorFlow. Raises WeightsError."""
    from provider_images.mask_rcnn.model import build
    from provider_images.mask_rcnn.serve import compiled

    model = build()
    arrays = read_weights(weights, [tuple(variable.shape) for variable in model.weights])
    model.fill(arrays)
    return compiled(model)


def results(networks: Networks, scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Every detection as COCO's result format has it."""
    from pycocotools import mask as rle

    found = []
    for i, one in enumerate(scenes):
        seen = detect(networks, one.picture, score=LEAST_SCORE)
        for box, label, score, mask in zip(*seen, strict=True):
            pixels = paste(mask, box, SIDE, SIDE)
            found.append(
                {
                    "image_id": i + 1,
                    "category_id": int(label),
                    "score": float(score),
                    "bbox": [float(box[1]), float(box[0]), float(box[3] - box[1]), float(box[2] - box[0])],
                    "segmentation": rle.encode(np.asfortranarray(pixels, np.uint8)),
                }
            )
    return found


def score(scenes: Sequence[Scene], found: list[dict[str, Any]]) -> dict[str, float]:
    """Mask and box AP (over IoU .50 to .95) and AP50, over all classes, shapes and digits."""
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    objects: list[dict[str, Any]] = []
    for i, one in enumerate(scenes):
        for k in np.flatnonzero(one.classes):
            pixels = one.owner == k + 1
            y1, x1, y2, x2 = (float(edge) for edge in one.boxes[k])
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": i + 1,
                    "category_id": int(one.classes[k]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(pixels.sum()),
                    "iscrowd": 0,
                    "segmentation": rle.encode(np.asfortranarray(pixels, np.uint8)),
                }
            )
    categories = [{"id": i + 1, "name": label} for i, label in enumerate(LABELS)]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i + 1, "height": SIDE, "width": SIDE} for i in range(len(scenes))],
        "annotations": objects,
        "categories": categories,
    }
    measured: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells its progress
        truth.createIndex()
        answers = truth.loadRes(found)
        shapes = list(range(1, len(SHAPES) + 1))
        digits = list(range(len(SHAPES) + 1, len(LABELS) + 1))
        for kind, name in (("segm", "mask"), ("bbox", "box")):
            for part, chosen in (("", shapes + digits), ("_shapes", shapes), ("_digits", digits)):
                judge = COCOeval(truth, answers, kind)
                judge.params.catIds = chosen
                judge.evaluate()
                judge.accumulate()
                judge.summarize()
                measured[f"{name}_ap{part}"] = round(float(judge.stats[0]), 4)
                measured[f"{name}_ap50{part}"] = round(float(judge.stats[1]), 4)
    return measured


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the scores of a file of weights."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.mask_rcnn.evaluate", description=__doc__)
    parser.add_argument("--weights", type=Path, default=HERE / "weights.npz")
    parser.add_argument("--data", type=Path, help="folder with the IDX files of MNIST's test digits")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--record", action="store_true", help="into the manifest.json beside the weights")
    options = parser.parse_args(arguments)
    scenes = held_out(options.data or (SHARED if SHARED.is_dir() else None), options.scenes)
    found = results(load(options.weights.read_bytes()), scenes)
    measured = score(scenes, found)
    if options.record:
        path = options.weights.with_name("manifest.json")
        document = json.loads(path.read_text(encoding="utf-8"))
        document["training"]["score"] = measured
        document["training"]["split"] |= {"scenes_held_out": len(scenes)}
        names = ("keras", "numpy", "pillow", "pycocotools", "tensorflow-cpu")
        document["training"]["versions"]["score"] = {
            name.removesuffix("-cpu"): importlib.metadata.version(name) for name in names
        }
        write(document, path)
    print(json.dumps({"scenes": len(scenes), **measured}))  # noqa: T201 - the command's result


if __name__ == "__main__":
    main()
