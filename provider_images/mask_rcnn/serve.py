"""The two Mask R-CNNs as the runtime serves them: each picture's objects, in pixels of that picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_images.mask_rcnn.config import BOX_CROP, COCO, SMALL, Config
from provider_images.mask_rcnn.detect import Array, Networks, cut, detect
from provider_images.runtime.model import Found, ModelError
from provider_images.runtime.segments import MIN_BOX
from provider_images.runtime.spec import ModelSpec
from provider_images.runtime.weights import WeightsError, read_weights

CONFIGS: Mapping[str, Config] = {"mask-rcnn-small": SMALL, "mask-rcnn-coco": COCO}
FORMATS: Mapping[str, str] = {"mask-rcnn-small": "npz-float16", "mask-rcnn-coco": "hdf5"}
"""What each family's weights are: ours, or Matterport's file."""


class MaskSegmenter:
    """A Mask R-CNN with weights, whatever computes it."""

    def __init__(self, networks: Networks, spec: ModelSpec, engine: str) -> None:
        self.engine, self._networks, self._spec = engine, networks, spec
        # The first run sets kernels up, for which the smallest will do.
        config = networks.config
        networks.trunk(np.zeros((1, config.strides[-1], config.strides[-1], 3), np.float32))
        for head, crop in ((networks.box_head, BOX_CROP), (networks.mask_head, config.mask_crop)):
            head(np.zeros((1, crop, crop, config.channels), np.float32))

    @property
    def spec(self) -> ModelSpec:
        """What its manifest asks for."""
        return self._spec

    def segment(self, picture: NDArray[np.uint8]) -> Iterator[Found]:
        """The objects of a picture (h, w, 3), RGB, by falling score."""
        height, width = picture.shape[:2]
        seen = detect(self._networks, picture, score=self._spec.least)
        for edges, index, score, mask in zip(*seen, strict=True):
            # Hundredths of a pixel are what a result says, so the mask is cut to just that box.
            y1, x1, y2, x2 = (
                min(max(round(float(edge), 2), 0.0), float(most))
                for edge, most in zip(edges, (height, width) * 2, strict=True)
            )
            if y2 - y1 >= MIN_BOX and x2 - x1 >= MIN_BOX:
                top, left, pixels = cut(mask, np.array([y1, x1, y2, x2]), height, width)
                yield Found(int(index) - 1, float(score), (y1, x1, y2, x2), top, left, pixels)


def load_keras(spec: ModelSpec, weights: Path, engine: str) -> MaskSegmenter:
    """The model on TensorFlow, the reference. Raises ModelError when manifest, weights and family do not fit."""
    _check(spec)
    from provider_images.mask_rcnn.matterport import load_matterport
    from provider_images.mask_rcnn.model import build

    try:
        if spec.family == "mask-rcnn-coco":
            model = load_matterport(weights)
        else:
            model = build()
            model.fill(read_weights(weights.read_bytes(), [tuple(v.shape) for v in model.weights]))
    except (WeightsError, OSError) as error:
        raise ModelError(f"weights: {error}") from error
    return MaskSegmenter(compiled(model), spec, engine)


def untrained_coco(engine: str) -> MaskSegmenter:
    """The large one on TensorFlow with random weights, which find as many objects as they may: to measure with."""
    from provider_images.mask_rcnn.manifests import coco_manifest
    from provider_images.mask_rcnn.model import MaskRCNN

    model = MaskRCNN(COCO)
    last = model.box_head.get_layer("mrcnn_class_logits").kernel
    last.assign(np.random.default_rng(1).normal(0, 0.3, last.shape))
    spec = ModelSpec.from_manifest(coco_manifest(sha256="0" * 64, size=1, cid=""))
    return MaskSegmenter(compiled(model), spec, engine)


def load_numpy(spec: ModelSpec, weights: Path, engine: str) -> MaskSegmenter:
    """The small model in plain numpy; answers differ from TensorFlow's by rounding. Raises ModelError."""
    from provider_images.mask_rcnn import forward

    _check(spec)
    if spec.family != "mask-rcnn-small":
        raise ModelError(f"family: {spec.family!r} needs TensorFlow, which is not installed here")
    try:
        arrays = read_weights(weights.read_bytes(), list(forward.shapes().values()))
    except (WeightsError, OSError) as error:
        raise ModelError(f"weights: {error}") from error
    return MaskSegmenter(forward.networks(arrays), spec, engine)


def compiled(model: Any) -> Networks:
    """The networks of a ``model.MaskRCNN`` as graphs of TensorFlow, each traced once, for pictures of every size."""
    import tensorflow as tf

    config: Config = model.config
    trunk, box_head, mask_head = model.networks

    def graph(network: Any, *shape: int | None) -> Callable[[Any], Any]:
        signature = tf.TensorSpec(shape, tf.float32)
        traced = tf.function(lambda values: network(values, training=False)).get_concrete_function(signature)

        # The graph holds the network's variables by weak reference only, hence the default.
        def run(values: Array, _: Any = network) -> Any:
            return tf.nest.map_structure(lambda tensor: tensor.numpy(), traced(tf.constant(values)))

        return run

    crop = config.mask_crop
    return Networks(
        config=config,
        trunk=graph(trunk, 1, None, None, 3),
        box_head=graph(box_head, None, BOX_CROP, BOX_CROP, config.channels),
        mask_head=graph(mask_head, None, crop, crop, config.channels),
    )


def _check(spec: ModelSpec) -> None:
    config = CONFIGS[spec.family]
    if (size := (spec.input.height, spec.input.width, spec.input.channels)) != (config.side, config.side, 3):
        raise ModelError(f"input: the manifest's size {size} is not the model's {(config.side, config.side, 3)}")
    if spec.classes != config.classes - 1:
        raise ModelError(f"labels: {spec.classes} for a model of {config.classes - 1} classes")
    if spec.weights_format != FORMATS[spec.family]:
        raise ModelError(f"weights.format: {spec.family!r} comes as {FORMATS[spec.family]}")
