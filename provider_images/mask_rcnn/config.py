"""What tells one Mask R-CNN from another, and what follows from that alone: anchors, and which map a box is read from.

Neither Keras nor TensorFlow is needed, so that an image without them can detect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from provider_images.mask_rcnn import geometry

SHAPES = ("circle", "square", "triangle", "star")
SMALL_LABELS = (*SHAPES, *(str(digit) for digit in range(10)))
"""What the small one finds: class 1 is the first, for 0 is the ground."""


@dataclass(frozen=True, slots=True)
class Config:
    """What tells one Mask R-CNN from another; sides and sizes are pixels."""

    backbone: Literal["resnet101", "resnet50", "small"]
    classes: int  # with the ground
    side: int  # the longer side of a picture, at most
    shorter: int  # a picture is enlarged until its shorter side is this long
    mean: tuple[float, float, float]  # subtracted from RGB, 0 to 255
    spread: float  # then divided by
    edge: int  # where a box ends: see geometry.py
    strides: tuple[int, ...]  # of the levels with proposals, pixels a cell
    anchors: tuple[int, ...]  # one side a level
    ratios: tuple[float, ...]  # width by height
    channels: int  # of the pyramid
    rpn_channels: int
    box_channels: int
    mask_channels: int
    box_levels: int  # boxes are read from this many of the levels
    box_side: float  # of a box that is read from the first level
    mask_stride: int  # of the one map that masks are read from; 0 = the box's own level
    mask_crop: int  # cells a side that the mask head reads; a mask has 28
    candidates: int  # best anchors before NMS
    proposals: int  # after it
    proposal_overlap: float
    detections: int  # at most
    detection_overlap: float  # within a class
    score: float  # of a detection, at least


COCO = Config(
    backbone="resnet101", classes=81, side=1024, shorter=800, mean=(123.7, 116.8, 103.9), spread=1.0, edge=1,
    strides=(4, 8, 16, 32, 64), anchors=(32, 64, 128, 256, 512), ratios=(0.5, 1, 2),
    channels=256, rpn_channels=512, box_channels=1024, mask_channels=256,
    box_levels=4, box_side=56, mask_stride=0, mask_crop=14,
    candidates=6000, proposals=1000, proposal_overlap=0.7, detections=100, detection_overlap=0.3, score=0.7,
)  # fmt: skip

SMALL = Config(
    backbone="small", classes=1 + len(SMALL_LABELS), side=128, shorter=128, mean=(128, 128, 128),
    spread=64.0, edge=0, strides=(4, 8, 16), anchors=(24, 40, 64), ratios=(0.4, 0.8, 1.6),
    channels=96, rpn_channels=96, box_channels=320, mask_channels=64,
    box_levels=3, box_side=48, mask_stride=2, mask_crop=28,
    candidates=512, proposals=96, proposal_overlap=0.7, detections=40, detection_overlap=0.5, score=0.5,
)  # fmt: skip

COCO_PARAMETERS = 64_158_584
SMALL_STEM = 32  # channels of the small backbone's first map
SMALL_STAGES = ((1, 32), (2, 64), (3, 128), (4, 224))  # and of its stages, two blocks each
BOX_CROP = 7
MASK = 28


def anchors(config: Config, height: int, width: int) -> NDArray[np.float32]:
    """The anchors of a padded picture, (a, 4), in the order of the trunk's scores."""
    return geometry.anchors(height, width, config.strides, config.anchors, config.ratios, config.edge)


def align(config: Config, xp: Any, maps: list[Any], boxes: Any, crop: int) -> Any:
    """Crops (n, r, crop, crop, c) of boxes (n, r, 4), each read from the map that suits its size; c channels.

    ``xp`` is ``numpy`` or ``keras.ops``.
    """
    if len(maps) == 1:
        strides: tuple[int, ...] = (config.mask_stride,)
        level = xp.zeros_like(boxes[..., 0], dtype="int32")
    else:
        strides = config.strides[: config.box_levels]
        sides = xp.maximum(boxes[..., 2:] - boxes[..., :2], 1e-3)
        # Matterport measures boxes in units of side - 1 and compares them with a picture of side pixels.
        unit = (config.side - config.edge) / config.side
        octave = xp.log(xp.sqrt(sides[..., 0] * sides[..., 1]) / (config.box_side * unit)) / xp.log(2.0)
        level = xp.array(xp.clip(xp.round(octave), 0, config.box_levels - 1), dtype="int32")
    # Matterport normalises boxes by side - 1 and reads cells from corner to corner: the square it pads to decides,
    # whatever this picture was padded to.
    scales = tuple((config.side / s - config.edge) / (config.side - config.edge) for s in strides)
    return geometry.align(xp, maps, level, boxes, crop, scales, config.edge)
