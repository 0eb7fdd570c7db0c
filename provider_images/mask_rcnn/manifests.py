"""The manifests of both Mask R-CNNs: ours, whose weights are here, and Matterport's, whose file has to be brought."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provider_images.mask_rcnn.config import COCO, COCO_PARAMETERS, SMALL, SMALL_LABELS, Config
from provider_images.runtime.spec import INSTANCES, SCHEMA

HERE = Path(__file__).parent
COCO_WEIGHTS = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"
"""Where Matterport published its weights (MIT)."""

_CHUNK = 262_144  # bytes of an IPFS block of a file, as Kubo cuts it
_MOST_CHUNKS = 174  # below one root


def coco_labels() -> list[str]:
    """The 80 things of COCO in the order of Matterport's classes 1 to 80."""
    return (HERE / "labels.txt").read_text(encoding="utf-8").splitlines()


def small_manifest(weights: bytes, *, parameters: int, training: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of our own model with these weights. Raises ValueError when they are too large for one IPFS node."""
    return {
        **_manifest("mask-rcnn-small", SMALL, list(SMALL_LABELS)),
        "name": "mask-rcnn-shapes",
        "description": "Finds shapes and handwritten digits and says which pixels are theirs.",
        "licence": "MIT",
        "resources": {"memory_mb": 1536, "parameters": parameters},
        "training": dict(training),
        "weights": {
            "bytes": len(weights),
            "cid": file_cid(weights),
            "format": "npz-float16",
            "sha256": hashlib.sha256(weights).hexdigest(),
        },
    }


def coco_manifest(*, sha256: str, size: int, cid: str) -> dict[str, Any]:
    """The manifest of Matterport's file with this sha256 (hex), these bytes and this CID."""
    return {
        **_manifest("mask-rcnn-coco", COCO, coco_labels()),
        "name": "mask-rcnn-coco",
        "description": "Finds 80 kinds of everyday things in a photo and says which pixels are theirs.",
        "licence": "MIT (Matterport, Inc.: https://github.com/matterport/Mask_RCNN)",
        "resources": {"memory_mb": 3072, "parameters": COCO_PARAMETERS},
        "training": {"data": "COCO 2014, the parts train and valminusminival", "source": COCO_WEIGHTS},
        "weights": {"bytes": size, "cid": cid, "format": "hdf5", "sha256": sha256},
    }


def _manifest(family: str, config: Config, labels: list[str]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "task": INSTANCES,
        "engine": "keras",
        "family": family,
        "labels": labels,
        "input": {
            "channels": 3,
            "color": "rgb",
            "fit": "whole",
            "height": config.side,
            "range": [0, 255],
            "width": config.side,
        },
        "output": {"top_k": config.detections},
        "comparison": {"class": "detection", "epsilon": 0.001, "iou": 0.9, "score": config.score},
    }


def file_cid(data: bytes) -> str:
    """The CID (version 1, raw leaves) that ``ipfs add`` gives a file of one leaf to 174. Raises ValueError beyond."""
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data) or 1, _CHUNK)]
    if len(chunks) > _MOST_CHUNKS:
        raise ValueError(f"{len(data)} bytes do not fit below one IPFS node")
    leaves = [_name(0x55, chunk) for chunk in chunks]
    root = leaves[0]
    if len(leaves) > 1:
        # dag-pb: links of CID, name and size; then UnixFS: a file, its size, its chunks' sizes.
        links = (
            _bytes(2, _bytes(1, leaf) + _bytes(2, b"") + b"\x18" + _varint(len(chunk)))
            for leaf, chunk in zip(leaves, chunks, strict=True)
        )
        sizes = b"".join(b"\x20" + _varint(len(chunk)) for chunk in chunks)
        root = _name(0x70, b"".join(links) + _bytes(1, b"\x08\x02\x18" + _varint(len(data)) + sizes))
    return "b" + base64.b32encode(root).decode().rstrip("=").lower()


def _name(codec: int, block: bytes) -> bytes:
    return bytes((1, codec, 0x12, 0x20)) + hashlib.sha256(block).digest()


def _bytes(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups[-1] |= 0x80
        groups.append(number & 0x7F)
    return bytes(groups)


def write(document: Mapping[str, Any], path: Path) -> None:
    """Write a manifest as it is kept in the repository."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
