"""How a Mask R-CNN learns: what each anchor and each region should have said, and five losses that compare.

Everything is ``keras.ops`` with static shapes, so it trains on any Keras backend. Letters of shapes: n pictures,
a anchors, o objects (padded), p proposals, r regions trained on, m regions with masks, k classes, c channels.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from provider_images.mask_rcnn import geometry
from provider_images.mask_rcnn.config import BOX_CROP, MASK, align, anchors
from provider_images.mask_rcnn.detect import normalise
from provider_images.mask_rcnn.model import MaskRCNN

REGIONS = 48  # of each picture, for the box head
POSITIVES = 16  # of them at most; masks are learnt on these
JITTERED = 2  # copies of each object, a little off, among the proposals
_RPN_POSITIVE, _RPN_NEGATIVE, _POSITIVE = 0.5, 0.3, 0.5  # intersection over union
_WEIGHTS = {"rpn_class": 1.0, "rpn_box": 1.0, "class": 1.0, "box": 1.0, "mask": 2.0}


class Learner(keras.Model):  # type: ignore[misc]
    """Wraps a model for ``fit``: the input is a batch, the output its losses.

    A batch is "picture" (n, h, w, 3) uint8, "owner" (n, h, w) uint8 (0 = ground, i + 1 = object i), "boxes" (n, o, 4)
    float32 and "classes" (n, o) int32, 0 where there is no object.
    """

    def __init__(self, model: MaskRCNN, *, batch: int, height: int, width: int, seed: int) -> None:
        super().__init__(dtype="float32")  # else boxes would be rounded to the policy's type
        self.trunk, self.box_head, self.mask_head = model.networks
        self.model = model
        self.batch = batch  # every batch has this many pictures: all shapes are known when the graph is made
        self.anchors = anchors(model.config, height, width)
        self.limits = (0.0, 0.0, float(height - model.config.edge), float(width - model.config.edge))
        self.random = keras.random.SeedGenerator(seed)
        self.trackers = {name: keras.metrics.Mean(name=name) for name in _WEIGHTS}
        self.built = True

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:  # noqa: ARG002 - Keras calls it
        """The weighted sum of what ``call`` returned."""
        for name, value in y_pred.items():
            self.trackers[name].update_state(value)
        return sum(_WEIGHTS[name] * value for name, value in y_pred.items())

    def call(self, batch: Any, training: bool | None = None) -> dict[str, Any]:
        """The five losses of a batch, scalars."""
        batch = {name: ops.reshape(values, (self.batch, *values.shape[1:])) for name, values in batch.items()}
        boxes, classes = batch["boxes"], batch["classes"]
        if self.model.config.edge:
            boxes = boxes - np.array([0, 0, 1, 1], np.float32)
        seen = self.trunk(normalise(ops, batch["picture"], self.model.config), training=training)
        losses = self._rpn_losses(seen["scores"], seen["deltas"], boxes, classes)
        regions = ops.stop_gradient(
            ops.concatenate([self._propose(seen["scores"], seen["deltas"]), self._near(boxes)], axis=1)
        )
        regions, target, weight, positive = self._sample(regions, boxes, classes)

        c = self.model.config
        n = regions.shape[0]
        crops = align(c, ops, seen["boxes"], regions, BOX_CROP)  # (n, r, 7, 7, c)
        logits, deltas = self.box_head(ops.reshape(crops, (-1, BOX_CROP, BOX_CROP, c.channels)), training=training)
        label = ops.where(positive, ops.take_along_axis(classes, target, axis=1), 0)  # (n, r)
        wanted = ops.take_along_axis(boxes, target[..., None], axis=1)  # (n, r, 4)
        label_row = ops.reshape(label, (-1,))
        wrong = ops.reshape(_cross_entropy(logits, label_row), (n, REGIONS))
        losses["class"] = ops.sum(wrong * weight) / ops.maximum(ops.sum(weight), 1.0)
        own = ops.take_along_axis(deltas, label_row[:, None, None], axis=1)[:, 0]  # (n * r, 4)
        off = _smooth(ops.reshape(own, (n, REGIONS, 4)) - self._deltas(regions, wanted))
        losses["box"] = _mean(off, positive)

        regions, target, positive, label = (
            t[:, :POSITIVES] for t in (regions, target, positive, label)
        )  # positives are first
        crops = align(c, ops, seen["masks"], regions, c.mask_crop)  # (n, m, crop, crop, c)
        masks = self.mask_head(ops.reshape(crops, (-1, c.mask_crop, c.mask_crop, c.channels)), training=training)
        # The mask of the true class alone is judged, so classes do not compete.
        chosen = ops.one_hot(ops.reshape(label, (-1,)), c.classes, dtype="float32")  # (n * m, k)
        masks = ops.einsum("ryxk,rk->ryx", masks, chosen)
        truth = ops.reshape(self._mask_targets(batch["owner"], classes.shape[1], regions, target), (-1, MASK, MASK))
        wrong = ops.mean(_binary_cross_entropy(masks, truth), axis=(1, 2))
        losses["mask"] = _mean(wrong, ops.reshape(positive, (-1,)))
        return losses

    def _rpn_losses(self, scores: Any, deltas: Any, boxes: Any, classes: Any) -> dict[str, Any]:
        """Anchors against objects. Those that overlap one by something in between say nothing."""
        anchors = ops.convert_to_tensor(self.anchors)[None]  # (1, a, 4)
        real = classes > 0
        iou = ops.where(real[:, None], geometry.overlap(ops, anchors, boxes), 0.0)  # (n, a, o)
        best = ops.max(iou, axis=2)
        # However badly, each object is some anchor's.
        champion = ops.logical_and(iou >= ops.max(iou, axis=1, keepdims=True) - 1e-4, iou > 0.1)
        positive = ops.logical_or(best >= _RPN_POSITIVE, ops.any(champion, axis=2))
        negative = ops.logical_and(best < _RPN_NEGATIVE, ops.logical_not(positive))
        wrong = _cross_entropy(scores, ops.cast(positive, "int32"))  # (n, a)
        wanted = ops.take_along_axis(boxes, ops.argmax(iou, axis=2)[..., None], axis=1)  # (n, a, 4)
        # The mean of each side is what sampling as many of both would give on average, without its noise.
        return {
            "rpn_class": (_mean(wrong, positive) + _mean(wrong, negative)) * 0.5,
            "rpn_box": _mean(_smooth(deltas - self._deltas(anchors, wanted)), positive),
        }

    def _deltas(self, boxes: Any, targets: Any) -> Any:
        return geometry.encode(ops, boxes, targets) / geometry.DELTA_SCALE

    def _propose(self, scores: Any, deltas: Any) -> Any:
        """The best anchors, moved, without near copies: (n, p, 4). Where fewer survive, the rest has no area."""
        c = self.model.config
        _, index = ops.top_k(scores[..., 1] - scores[..., 0], c.candidates)  # (n, candidates)
        deltas = ops.take_along_axis(deltas, index[..., None], axis=1) * geometry.DELTA_SCALE
        boxes = geometry.decode(ops, ops.take(ops.convert_to_tensor(self.anchors), index, axis=0), deltas)
        boxes = ops.stop_gradient(geometry.clip(ops, boxes, self.limits))
        kept = geometry.survivors(ops, boxes, c.proposal_overlap)
        place = ops.where(kept, -ops.arange(c.candidates, dtype="float32"), -1.0 * c.candidates)
        value, first = ops.top_k(place, c.proposals)
        boxes = ops.take_along_axis(boxes, first[..., None], axis=1)
        return ops.where((value > -1.0 * c.candidates)[..., None], boxes, 0.0)

    def _near(self, boxes: Any) -> Any:
        """Each object's box and copies that are off by some of its size: the heads learn before proposals are good."""
        n, o = boxes.shape[:2]
        size = boxes[..., 2:] - boxes[..., :2]
        size = ops.concatenate([size, size], axis=-1)[:, None]
        shift = keras.random.normal((n, JITTERED, o, 4), stddev=0.08, seed=self.random)
        near = geometry.clip(ops, boxes[:, None] + shift * size, self.limits)
        return ops.concatenate([boxes, ops.reshape(near, (n, JITTERED * o, 4))], axis=1)

    def _sample(self, regions: Any, boxes: Any, classes: Any) -> tuple[Any, Any, Any, Any]:
        """Regions to learn from, those on an object first: boxes (n, r, 4), object (n, r), weight and is-positive."""
        real = classes > 0
        iou = ops.where(real[:, None], geometry.overlap(ops, regions, boxes), 0.0)  # (n, p, o)
        best, target = ops.max(iou, axis=2), ops.argmax(iou, axis=2)
        positive = best >= _POSITIVE
        sides = regions[..., 2:] - regions[..., :2]
        usable = ops.min(sides, axis=-1) > 1.0
        luck = keras.random.uniform(best.shape, seed=self.random)
        # Priorities: lucky positives 3-4, negatives 1-2, surplus positives 0-1, the unusable last.
        _, first = ops.top_k(ops.where(ops.logical_and(positive, usable), luck, -1.0), POSITIVES)
        chosen = ops.max(ops.one_hot(first, best.shape[1], dtype="float32"), axis=1) > 0
        chosen = ops.logical_and(ops.logical_and(chosen, positive), usable)
        rest = ops.where(positive, luck, luck + 1.0)
        value, index = ops.top_k(ops.where(chosen, luck + 3.0, ops.where(usable, rest, -1.0)), REGIONS)
        # A surplus positive fills a place but is not learnt from: it would tip the balance.
        weight = ops.cast(value > 1.0, "float32")

        def pick(values: Any) -> Any:
            return ops.take_along_axis(values, index, axis=1)

        return (
            ops.take_along_axis(regions, index[..., None], axis=1),
            pick(target),
            weight,
            ops.logical_and(pick(positive), value > 2.5),
        )

    def _mask_targets(self, owner: Any, objects: int, regions: Any, target: Any) -> Any:
        """How much of each cell of a mask is the object, (n, m, 28, 28): the picture's owners read as ROIAlign does."""
        n, m = target.shape
        planes = ops.cast(owner[..., None] == np.arange(1, objects + 1, dtype=np.uint8), "float32")  # (n, h, w, o)
        level = ops.zeros((n, m), dtype="int32")
        read = geometry.align(ops, [planes], level, regions, MASK, (1.0,), self.model.config.edge)  # (n, m, 28, 28, o)
        return ops.einsum("nmyxo,nmo->nmyx", read, ops.one_hot(target, objects, dtype="float32"))


def _mean(values: Any, where: Any) -> Any:
    """The mean of the values chosen; 0 when none is."""
    weight = ops.cast(where, "float32")
    return ops.sum(values * weight) / ops.maximum(ops.sum(weight), 1.0)


def _smooth(off: Any) -> Any:
    """Smooth L1, summed over the four deltas: (..., 4) gives (...)."""
    size = ops.abs(off)
    return ops.sum(ops.where(size < 1.0, 0.5 * size * size, size - 0.5), axis=-1)


def _cross_entropy(logits: Any, label: Any) -> Any:
    """(..., k) against (...)."""
    return -ops.take_along_axis(ops.log_softmax(logits), label[..., None], axis=-1)[..., 0]


def _binary_cross_entropy(logits: Any, truth: Any) -> Any:
    return ops.softplus(logits) - logits * truth
