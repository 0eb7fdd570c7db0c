"""What a requester gets: the result document behind the result CID, and the word that a contract reads."""

from __future__ import annotations

import json
from typing import Any

from oracle.answers import MAX_ENTRIES, AnswerEntry, ClassificationAnswer
from oracle.documents import SCHEMA
from oracle.domain import ItemResult, ServableModel, TaskInput, TaskResult


def result_document(item: ItemResult, source: TaskInput, result: TaskResult, model: ServableModel) -> bytes:
    """The result as canonical JSON bytes (sorted keys, no blanks, a newline at the end).

    Probabilities are rounded to 6 digits, which is finer than two CPUs agree on and keeps the document small.
    """
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "request": "0x" + item.request_id.hex(),
        "task": model.manifest.task,
        "model": {
            "name": model.manifest.name,
            "manifest": model.manifest_cid.text,
            "weights_sha256": model.manifest.weights_sha256,
        },
        "input": {"cid": source.image_cid.text, "bytes": source.size},
        "labels": [
            {"index": score.index, "label": score.label, "probability": round(score.probability, 6)}
            for score in item.labels
        ],
        "provider": {"id": result.provider, "engine": result.engine},
        "timings": {
            "started": round(result.started, 3),
            "finished": round(result.finished, 3),
            "batch_inference_seconds": round(result.inference, 6),
            "batch_items": len(result.items),
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def compact_answer(item: ItemResult) -> bytes:
    """The on-chain word for a classification, up to seven classes, confidence rounded to basis points."""
    return ClassificationAnswer(
        tuple(AnswerEntry(score.index, round(score.probability * 10_000)) for score in item.labels[:MAX_ENTRIES])
    ).encode()
