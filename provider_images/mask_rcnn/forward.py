"""The small network of ``model.py`` in plain numpy, from the same weights: what runs where TensorFlow is not installed.

One picture at a time and one crop at a time in the mask head: what an object's mask is cannot depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from provider_images.mask_rcnn.config import BOX_CROP, MASK, SMALL, SMALL_STAGES, SMALL_STEM
from provider_images.mask_rcnn.detect import Networks
from provider_images.runtime.layers import Array, convolve, enlarge, fold, relu

_LEVELS = (4, 3, 2, 1)  # of the pyramid, coarsest first: log2 of the stride


def shapes() -> dict[str, tuple[int, ...]]:
    """The shape of each array of weights, by its variable's path in Keras and in the order of ``MaskRCNN.weights``."""
    c = SMALL
    found: dict[str, tuple[int, ...]] = {}

    def conv(name: str, *shape: int, bias: bool = True) -> None:
        found[f"{name}/kernel"] = shape
        if bias:
            found[f"{name}/bias"] = shape[-1:]

    def norm(name: str, width: int) -> None:
        found.update({f"{name}/{part}": (width,) for part in ("gamma", "beta", "moving_mean", "moving_variance")})

    conv("stem_conv", 3, 3, 3, SMALL_STEM, bias=False)
    norm("stem_bn", SMALL_STEM)
    depth = SMALL_STEM
    for stage, width in SMALL_STAGES:
        for letter in "ab":
            name, short = f"stage{stage}{letter}", stage > 1 and letter == "a"
            conv(f"{name}_1_conv", 3, 3, depth, width, bias=False)
            norm(f"{name}_1_bn", width)
            conv(f"{name}_2_conv", 3, 3, width, width, bias=False)
            if short:
                conv(f"{name}_short_conv", 1, 1, depth, width, bias=False)
            norm(f"{name}_2_bn", width)
            if short:
                norm(f"{name}_short_bn", width)
            depth = width
    # As Keras puts layers in order: by how many lie between them and the output.
    widths = dict(SMALL_STAGES)
    for n in (4, 3, 2):
        conv(f"fpn_c{n}p{n}", 1, 1, widths[n], c.channels)
    for n in (2, 3, 4):
        conv(f"fpn_p{n}", 3, 3, c.channels, c.channels)
    conv("rpn_conv_shared", 3, 3, c.channels, c.rpn_channels)
    conv("rpn_bbox_pred", 1, 1, c.rpn_channels, 4 * len(c.ratios))
    conv("fpn_c1p1", 1, 1, widths[1], c.channels)
    conv("rpn_class_raw", 1, 1, c.rpn_channels, 2 * len(c.ratios))
    conv("fpn_p1", 3, 3, c.channels, c.channels)
    for i, size, depth in ((1, BOX_CROP, c.channels), (2, 1, c.box_channels)):
        conv(f"mrcnn_class_conv{i}", size, size, depth, c.box_channels)
        norm(f"mrcnn_class_bn{i}", c.box_channels)
    conv("mrcnn_bbox_fc", c.box_channels, 4 * c.classes)
    conv("mrcnn_class_logits", c.box_channels, c.classes)
    for i in range(1, 5):
        conv(f"mrcnn_mask_conv{i}", 3, 3, c.channels if i == 1 else c.mask_channels, c.mask_channels)
        norm(f"mrcnn_mask_bn{i}", c.mask_channels)
    conv("mrcnn_mask", 1, 1, c.mask_channels, c.classes)
    return found


def networks(weights: Sequence[Array]) -> Networks:
    """The three networks with these arrays, in the order of ``shapes``."""
    held = _Held(weights)
    return Networks(SMALL, trunk=_trunk(held), box_head=_box_head(held), mask_head=_mask_head(held))


class _Held:
    """Weights by name: kernels and biases, normalisation folded in."""

    def __init__(self, weights: Sequence[Array]) -> None:
        self._arrays = dict(zip(shapes(), weights, strict=True))

    def plain(self, name: str) -> tuple[Array, Array]:
        return self._arrays[f"{name}/kernel"], self._arrays[f"{name}/bias"]

    def folded(self, conv: str, norm: str) -> tuple[Array, Array]:
        parts = [self._arrays[f"{norm}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")]
        kernel = self._arrays[f"{conv}/kernel"]
        return fold(kernel, parts, bias=self._arrays.get(f"{conv}/bias"))


def _trunk(held: _Held) -> Any:
    stem = held.folded("stem_conv", "stem_bn")
    stages = [
        [
            [
                held.folded(f"stage{stage}{letter}_{part}_conv", f"stage{stage}{letter}_{part}_bn")
                for part in ("1", "2", *(["short"] if stage > 1 and letter == "a" else []))
            ]
            for letter in "ab"
        ]
        for stage, _ in SMALL_STAGES
    ]
    sides = {n: held.plain(f"fpn_c{n}p{n}") for n in _LEVELS}
    smooth = {n: held.plain(f"fpn_p{n}") for n in _LEVELS}
    shared, scores, deltas = (held.plain(f"rpn_{name}") for name in ("conv_shared", "class_raw", "bbox_pred"))

    def forward(pictures: Array) -> dict[str, Any]:
        x = relu(convolve(pictures[0], *stem, stride=2))  # (h/2, w/2, 32)
        seen = []
        for blocks in stages:
            for first, second, *short in blocks:
                stride = 2 if short else 1
                y = convolve(relu(convolve(x, *first, stride=stride)), *second)
                x = relu(y + (convolve(x, *short[0], stride=stride) if short else x))
            seen.append(x)  # (h/2, w/2, 32), (h/4, w/4, 64), (h/8, w/8, 128), (h/16, w/16, 224)
        top: Array | None = None
        maps: list[Array] = []
        for n, stage in zip(_LEVELS, reversed(seen), strict=True):
            side = convolve(stage, *sides[n])
            top = side if top is None else enlarge(top) + side
            maps.insert(0, convolve(top, *smooth[n]))
        finest, *levels = maps
        proposing = [relu(convolve(level, *shared)) for level in levels]
        return {
            "boxes": [level[None] for level in levels],
            "masks": [finest[None]],
            "scores": np.concatenate([convolve(x, *scores).reshape(-1, 2) for x in proposing])[None],
            "deltas": np.concatenate([convolve(x, *deltas).reshape(-1, 4) for x in proposing])[None],
        }

    return forward


def _box_head(held: _Held) -> Any:
    # A crop as large as its kernel is one row of a product.
    layers = [held.folded(f"mrcnn_class_conv{i}", f"mrcnn_class_bn{i}") for i in (1, 2)]
    rows = [(kernel.reshape(-1, kernel.shape[-1]), bias) for kernel, bias in layers]
    (logits, logits_bias), (deltas, deltas_bias) = held.plain("mrcnn_class_logits"), held.plain("mrcnn_bbox_fc")

    def forward(crops: Array) -> tuple[Array, Array]:
        x = crops.reshape(len(crops), -1)
        for kernel, bias in rows:
            x = relu(x @ kernel + bias)  # (r, 320)
        return x @ logits + logits_bias, (x @ deltas + deltas_bias).reshape(len(x), -1, 4)

    return forward


def _mask_head(held: _Held) -> Any:
    layers = [held.folded(f"mrcnn_mask_conv{i}", f"mrcnn_mask_bn{i}") for i in range(1, 5)]
    last = held.plain("mrcnn_mask")

    def forward(crops: Array) -> Array:
        masks = np.empty((len(crops), MASK, MASK, SMALL.classes), np.float32)
        for crop, mask in zip(crops, masks, strict=True):
            x = crop
            for layer in layers:
                x = relu(convolve(x, *layer))
            mask[:] = convolve(x, *last)
        return masks

    return forward
