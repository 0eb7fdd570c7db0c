"""Which engine computes a built-in family, by the figures of ``make bench-models``; standard library only.

TensorFlow is the reference and computes all that is not listed. A family is compiled for OpenVINO where that was
measured to be faster on two threads and to answer as TensorFlow does; docs/performance.md has the figures.
"""

from __future__ import annotations

from pathlib import Path

TENSORFLOW, OPENVINO = "tensorflow", "openvino"

COMPILED = frozenset(
    {
        *("densenet121", "densenet169", "densenet201", "inception-resnet-v2", "inception-v3", "xception", "vit-b16"),
        *("resnet50", "resnet101", "resnet50-v2", "mobilenet", "mobilenet-v2", "mobilenet-v3-large"),
        *("efficientnet-b0", "nasnet-mobile"),
    }
)
"""Families for OpenVINO. Measured and not among them: vgg16 and efficientnet-b4 gain nothing; efficientnet-v2-b0 and -s
are slower, and answer otherwise with random weights; the digit model takes less than a call of either.
"""


def engine_of(family: str) -> str:
    """The engine that computes a family where all of them are installed."""
    return OPENVINO if family in COMPILED else TENSORFLOW


def compiled_file(folder: Path, family: str, weights_sha256: str) -> Path:
    """Where the network lies that ``compiled.py`` made of these weights, its numbers beside it."""
    return folder / f"{family}-{weights_sha256}" / "model.xml"
