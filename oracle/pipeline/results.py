"""What a requester gets: the result document behind the result CID, and the answer that a contract reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from oracle.answers import (
    MAX_ENTRIES,
    MAX_INSTANCES,
    AnswerEntry,
    AnswerInstance,
    ClassificationAnswer,
    SegmentationAnswer,
)
from oracle.documents import SCHEMA
from oracle.domain import Cid, ItemResult, ServableModel, TaskInput, TaskResult


def outcome_of(item: ItemResult, task: str) -> dict[str, Any]:
    """What the model of a task said of a picture, as the result document holds it.

    Probabilities are rounded to 6 digits, which is finer than two CPUs agree on and keeps the document small. Masks
    are as pycocotools reads them, boxes COCO's: x, y, width, height in pixels of the upright picture.
    """
    outcome: dict[str, Any] = {"task": task}
    if item.familiarity:
        outcome["familiarity"] = round(item.familiarity / 255, 4)
    if item.size is None:
        return outcome | {
            "labels": [
                {"index": score.index, "label": score.label, "probability": round(score.probability, 6)}
                for score in item.labels
            ]
        }
    width, height = item.size
    return outcome | {
        "image": {"width": width, "height": height},
        "found": item.found,
        "segments": [
            {
                "index": one.index,
                "label": one.label,
                "score": round(one.score, 6),
                "bbox": [round(edge, 2) for edge in _xywh(one.box)],
                "area": one.area,
                "segmentation": {"size": [height, width], "counts": one.mask},
            }
            for one in item.segments
        ],
    }


def result_document(
    item: ItemResult,
    source: TaskInput,
    result: TaskResult,
    model: ServableModel,
    files: Mapping[str, tuple[Cid, int]],
) -> bytes:
    """The result as canonical JSON bytes (sorted keys, no blanks, a newline at the end).

    ``files``: the pictures drawn of it, PNG, by name: CID and bytes.
    """
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "request": "0x" + item.request_id.hex(),
        "model": {
            "name": model.manifest.name,
            "manifest": model.manifest_cid.text,
            "weights_sha256": model.manifest.weights_sha256,
        },
        "input": {"cid": source.image_cid.text, "bytes": source.size},
        "files": {name: {"cid": cid.text, "bytes": size, "type": "image/png"} for name, (cid, size) in files.items()},
        "provider": {"id": result.provider, "engine": result.engine},
        "timings": {
            "started": round(result.started, 3),
            "finished": round(result.finished, 3),
            "batch_inference_seconds": round(result.inference, 6),
            "batch_items": len(result.items),
        },
        **outcome_of(item, model.manifest.task),
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def compact_answer(item: ItemResult) -> bytes:
    """The on-chain answer: up to seven classes, or up to 31 instances, scores rounded to basis points."""
    if item.size is None:
        entries = (AnswerEntry(score.index, _bps(score.probability)) for score in item.labels[:MAX_ENTRIES])
        return ClassificationAnswer(tuple(entries), item.familiarity).encode()
    width, height = item.size
    instances = tuple(
        AnswerInstance(one.index, _bps(one.score), one.pixel_box, one.area) for one in item.segments[:MAX_INSTANCES]
    )
    return SegmentationAnswer(instances, item.found, width, height, item.familiarity).encode()


def _bps(share: float) -> int:
    return round(share * 10_000)


def _xywh(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    y1, x1, y2, x2 = box
    return x1, y1, x2 - x1, y2 - y1
