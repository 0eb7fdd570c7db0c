"""Whether a result document says what the chain says: the answer, and the model that gave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oracle.answers import MAX_INSTANCES, Answer, ClassificationAnswer, SegmentationAnswer
from oracle.documents import pixel_box
from oracle.domain import Cid, InferenceRequest, ModelManifest


def agrees(request: InferenceRequest, answer: Answer, document: Mapping[str, Any]) -> bool:
    """Whether a checked document is this request's, and its answer the one that stands on-chain."""
    return (
        document["request"] == "0x" + request.request_id.hex()
        and document["input"]["cid"] == request.image_cid.text
        and round(document.get("familiarity", 0) * 255) == answer.familiarity
        and (
            _same_classes(answer, document)
            if isinstance(answer, ClassificationAnswer)
            else same_instances(answer, document)
        )
    )


def same_model(manifest_cid: Cid, manifest: ModelManifest, document: Mapping[str, Any]) -> bool:
    """Whether a checked document names the model of this manifest, and each class as the manifest does."""
    named, labels = document.get("model"), manifest.labels
    model = {"manifest": manifest_cid.text, "name": manifest.name, "weights_sha256": manifest.weights_sha256}
    return (
        isinstance(named, dict)
        and all(named.get(field) == value for field, value in model.items())
        and document.get("task") == manifest.task
        and all(
            one["index"] < len(labels) and one["label"] == labels[one["index"]]
            for one in (*document.get("labels", ()), *document.get("segments", ()))
        )
    )


def _same_classes(answer: ClassificationAnswer, document: Mapping[str, Any]) -> bool:
    labels = document.get("labels", [])
    return len(labels) >= len(answer.entries) and all(
        label["index"] == entry.class_index and abs(label["probability"] * 10_000 - entry.confidence_bps) <= 1
        for label, entry in zip(labels, answer.entries, strict=False)
    )


def same_instances(answer: SegmentationAnswer, document: Mapping[str, Any]) -> bool:
    """Whether the segments on-chain are the document's first, as many as an answer lists."""
    image, segments = document.get("image", {}), document.get("segments", [])
    return (
        (image.get("width"), image.get("height"), document.get("found")) == (answer.width, answer.height, answer.found)
        and len(answer.instances) == min(len(segments), MAX_INSTANCES)
        and all(
            segment["index"] == one.class_index
            and segment["area"] == one.area
            and pixel_box(segment["bbox"], answer.width, answer.height) == one.box
            and abs(segment["score"] * 10_000 - one.score_bps) <= 1
            for segment, one in zip(segments, answer.instances, strict=False)
        )
    )
