"""Mask R-CNN (He et al., 2017) in Keras 3: a ResNet with a feature pyramid, region proposals, a box and a mask head.

One code for two configurations (``config.py``): Matterport's layout, name by name, so that mask_rcnn_coco.h5 fits, and
a small one, which finds the shapes and digits of ``scenes.py`` in a blink. The model is three plain networks: what lies
between them (``geometry.py``) has no weights and runs as numpy in ``detect.py`` and as tensors in ``learn.py``.

Letters of shapes: n pictures, h x w their pixels, a anchors, r regions, k classes with the ground as 0, c channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
from keras import layers

from provider_images.mask_rcnn.config import BOX_CROP, MASK, SMALL, SMALL_STAGES, SMALL_STEM, Config


class MaskRCNN:
    """The three networks of a configuration.

    ``trunk``: pictures (n, h, w, 3), normalised, h and w multiples of the last stride, to a dictionary: "boxes", the
    maps that boxes are read from (n, h / stride, w / stride, c); "masks", those for masks; "scores" (n, a, 2), logits
    of ground and object; "deltas" (n, a, 4).
    ``box_head``: crops (r, 7, 7, c) to logits (r, k) and deltas (r, k, 4).
    ``mask_head``: crops (r, mask_crop, mask_crop, c) to logits of masks (r, 28, 28, k).
    """

    def __init__(self, config: Config, *, frozen_norm: bool = True) -> None:
        """Build with fresh weights. ``frozen_norm``: batch normalisation never learns its statistics."""
        self.config = config
        self.norm = _Norm(frozen_norm)
        self.trunk = self._trunk()
        self.box_head = self._box_head()
        self.mask_head = self._mask_head()

    @property
    def networks(self) -> tuple[Any, Any, Any]:
        """Trunk, box head and mask head."""
        return self.trunk, self.box_head, self.mask_head

    @property
    def weights(self) -> list[Any]:
        """Every variable, in the order in which weights are stored."""
        return [variable for network in self.networks for variable in network.weights]

    def fill(self, arrays: Iterable[Any]) -> None:
        """Take one array for each of ``weights``."""
        for variable, array in zip(self.weights, arrays, strict=True):
            variable.assign(array)

    def named_layers(self) -> dict[str, Any]:
        """Every layer that has weights, by name."""
        return {layer.name: layer for network in self.networks for layer in network.layers if layer.weights}

    # The trunk.

    def _trunk(self) -> Any:
        c = self.config
        picture = keras.Input((None, None, 3), name="picture")
        if c.backbone == "small":
            stages = self._small_backbone(picture)
        else:
            stages = self._resnet(picture, blocks=23 if c.backbone == "resnet101" else 6)
        maps = self._pyramid(stages)
        proposing = maps[-len(c.strides) :]
        scores, deltas = self._rpn(proposing)
        return keras.Model(
            picture,
            {
                "boxes": proposing[: c.box_levels],
                "masks": maps[:1] if c.mask_stride else proposing[: c.box_levels],
                "scores": scores,
                "deltas": deltas,
            },
            name="trunk",
        )

    def _resnet(self, picture: Any, blocks: int) -> list[Any]:
        """ResNet 50 or 101 as of 2016; ``blocks`` in stage 4. Returns stages 2 to 5, strides 4 to 32."""

        def block(x: Any, stage: int, letter: str, width: int, stride: int = 1) -> Any:
            conv, norm = f"res{stage}{letter}_branch", f"bn{stage}{letter}_branch"
            y = self.norm(layers.Conv2D(width, 1, stride, name=f"{conv}2a")(x), f"{norm}2a")
            y = layers.Conv2D(width, 3, padding="same", name=f"{conv}2b")(layers.ReLU()(y))
            y = layers.Conv2D(4 * width, 1, name=f"{conv}2c")(layers.ReLU()(self.norm(y, f"{norm}2b")))
            y = self.norm(y, f"{norm}2c")
            if letter == "a":
                x = self.norm(layers.Conv2D(4 * width, 1, stride, name=f"{conv}1")(x), f"{norm}1")
            return layers.ReLU()(layers.add([y, x]))

        x = layers.Conv2D(64, 7, 2, name="conv1")(layers.ZeroPadding2D(3)(picture))
        x = layers.ReLU()(self.norm(x, "bn_conv1"))  # (n, h/2, w/2, 64)
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        stages = []
        for stage, width, count in ((2, 64, 3), (3, 128, 4), (4, 256, blocks), (5, 512, 3)):
            for i in range(count):
                x = block(x, stage, chr(ord("a") + i), width, stride=2 if i == 0 and stage > 2 else 1)
            stages.append(x)  # (n, h/4, w/4, 256), (n, h/8, w/8, 512), (n, h/16, w/16, 1024), (n, h/32, w/32, 2048)
        return stages

    def _small_backbone(self, picture: Any) -> list[Any]:
        """Two basic blocks a stage. Returns stages 1 to 4, strides 2 to 16."""

        def conv(x: Any, name: str, width: int, size: int = 3, stride: int = 1) -> Any:
            x = layers.Conv2D(width, size, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
            return self.norm(x, f"{name}_bn")

        x = layers.ReLU()(conv(picture, "stem", SMALL_STEM, stride=2))
        stages = []
        for stage, width in SMALL_STAGES:
            for i, letter in enumerate("ab"):
                stride = 2 if i == 0 and stage > 1 else 1
                name = f"stage{stage}{letter}"
                y = layers.ReLU()(conv(x, f"{name}_1", width, stride=stride))
                y = conv(y, f"{name}_2", width)
                if stride > 1:
                    x = conv(x, f"{name}_short", width, size=1, stride=stride)
                x = layers.ReLU()(layers.add([y, x]))
            stages.append(x)  # (n, h/2, w/2, 32), (n, h/4, w/4, 64), (n, h/8, w/8, 128), (n, h/16, w/16, 224)
        return stages

    def _pyramid(self, stages: list[Any]) -> list[Any]:
        """Maps of equal depth, finest first, each knowing what the coarser ones saw. Named P2, P3 ... by Matterport."""
        first = 1 if self.config.mask_stride else 2  # log2 of the finest stride
        top: Any = None
        maps: list[Any] = []
        for i in reversed(range(len(stages))):
            n = first + i
            side = layers.Conv2D(self.config.channels, 1, name=f"fpn_c{n}p{n}")(stages[i])
            top = side if top is None else layers.add([layers.UpSampling2D(2)(top), side])
            maps.insert(0, layers.Conv2D(self.config.channels, 3, padding="same", name=f"fpn_p{n}")(top))
        if self.config.backbone != "small":
            maps.append(layers.MaxPooling2D(1, 2, name="fpn_p6")(maps[-1]))
        return maps

    def _rpn(self, maps: list[Any]) -> tuple[Any, Any]:
        """Is there an object near each anchor, and how far off? (n, a, 2) and (n, a, 4), in float32 always."""
        count = len(self.config.ratios)
        shared = layers.Conv2D(self.config.rpn_channels, 3, padding="same", activation="relu", name="rpn_conv_shared")
        scores = layers.Conv2D(2 * count, 1, dtype="float32", name="rpn_class_raw")
        deltas = layers.Conv2D(4 * count, 1, dtype="float32", name="rpn_bbox_pred")
        seen = [shared(x) for x in maps]

        def rows(layer: Any, depth: int) -> Any:
            return layers.Concatenate(axis=1, dtype="float32")(
                [layers.Reshape((-1, depth), dtype="float32")(layer(x)) for x in seen]
            )

        return rows(scores, 2), rows(deltas, 4)

    # The heads.

    def _box_head(self) -> Any:
        c = self.config
        crop = keras.Input((BOX_CROP, BOX_CROP, c.channels), name="crop")
        x = layers.Conv2D(c.box_channels, BOX_CROP, name="mrcnn_class_conv1")(crop)  # (r, 1, 1, 1024)
        x = layers.ReLU()(self.norm(x, "mrcnn_class_bn1"))
        x = layers.Conv2D(c.box_channels, 1, name="mrcnn_class_conv2")(x)
        x = layers.Flatten()(layers.ReLU()(self.norm(x, "mrcnn_class_bn2")))  # (r, 1024)
        logits = layers.Dense(c.classes, dtype="float32", name="mrcnn_class_logits")(x)  # (r, k)
        deltas = layers.Dense(4 * c.classes, dtype="float32", name="mrcnn_bbox_fc")(x)
        return keras.Model(crop, [logits, layers.Reshape((c.classes, 4), dtype="float32")(deltas)], name="box_head")

    def _mask_head(self) -> Any:
        c = self.config
        x = crop = keras.Input((c.mask_crop, c.mask_crop, c.channels), name="crop")
        for i in range(1, 5):
            x = layers.Conv2D(c.mask_channels, 3, padding="same", name=f"mrcnn_mask_conv{i}")(x)
            x = layers.ReLU()(self.norm(x, f"mrcnn_mask_bn{i}"))
        if c.mask_crop < MASK:
            x = layers.Conv2DTranspose(c.mask_channels, 2, 2, activation="relu", name="mrcnn_mask_deconv")(x)
        # Matterport's sigmoid is left to who needs it: a loss is steadier on logits.
        return keras.Model(crop, layers.Conv2D(c.classes, 1, dtype="float32", name="mrcnn_mask")(x), name="mask_head")


class _Norm:
    """Batch normalisation with Keras' epsilon of 1e-3, by name."""

    def __init__(self, frozen: bool) -> None:
        self._frozen = frozen

    def __call__(self, x: Any, name: str) -> Any:
        layer = layers.BatchNormalization(momentum=0.97, name=name)
        return layer(x, training=False) if self._frozen else layer(x)


def build() -> MaskRCNN:
    """The small network, untrained: the family's architecture."""
    return MaskRCNN(SMALL)
