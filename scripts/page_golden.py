"""Write what the oracle's own Python gives for CIDs, blocks, masks, answers and documents: the page's tests hold to it.

Run it after a change of any of them, from the project's root: ``PYTHONPATH=. python scripts/page_golden.py``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oracle.answers import AnswerEntry, AnswerInstance, ClassificationAnswer, SegmentationAnswer
from oracle.content.unixfs import blocks_of, chunk, cid_of
from oracle.domain import Cid, ItemResult, LabelScore, SegmentScore
from oracle.pipeline.results import compact_answer, result_document
from provider_images.runtime.segments import area_of, encode_runs

TARGET = Path(__file__).resolve().parents[1] / "frontend" / "src" / "content" / "golden" / "content.json"
REQUEST = bytes(range(32))
PICTURE = b"a picture"
Mask = NDArray[np.bool_]


def _runs_of(mask: Mask) -> list[int]:
    """Runs along the columns, outside first."""
    flat = mask.T.reshape(-1)
    ends = [0, *(int(at) + 1 for at in np.flatnonzero(np.diff(flat))), len(flat)]
    runs = [after - before for before, after in itertools.pairwise(ends)]
    return [0, *runs] if flat[0] else runs


def _disc(height: int, width: int, row: int, column: int, radius: int) -> Mask:
    y, x = np.mgrid[:height, :width]
    inside: Mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return inside


def _small() -> list[dict[str, Any]]:
    files = (b"", b"hello sibyl\n", bytes(range(256)) * 8)
    named = [(data, version, cid_of(data, version=version)) for data in files for version in (0, 1)]
    return [{"hex": data.hex(), "version": v, "cid": cid.text, "bytes": cid.value.hex()} for data, v, cid in named]


def _big() -> dict[str, Any]:
    data = bytes((i * 7 + i // 256) % 256 for i in range(600_000))
    facts: dict[str, Any] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for version in (0, 1):
        *leaves, root = blocks_of(chunk(data), version=version)
        around = []
        for leaf, payload in zip(leaves, chunk(data), strict=True):
            before, _, after = leaf.data.partition(payload)
            around.append([before.hex(), after.hex()])
        facts[str(version)] = {
            "root": root.cid.text,
            "rootHex": root.data.hex(),
            "leaves": [leaf.cid.text for leaf in leaves],
            "around": around,
        }
    return facts


def _masks() -> dict[str, Any]:
    drawn = {
        "disc": _disc(24, 30, 11, 12, 7),
        "ring": _disc(20, 20, 10, 10, 8) & ~_disc(20, 20, 10, 10, 4),
        "full": np.ones((3, 4), bool),
        "diagonal": np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1]], bool),
        "noise": np.random.default_rng(5).random((17, 23)) < 0.5,
    }
    sized = {name: (mask.shape[0], mask.shape[1], _runs_of(mask)) for name, mask in drawn.items()}
    long = [0, 5_000_000, 1, 70_000, 2, 3]
    sized["long"] = (1, sum(long), long)
    return {
        name: {"height": height, "width": width, "runs": runs, "counts": encode_runs(runs), "area": area_of(runs)}
        for name, (height, width, runs) in sized.items()
    }


def _answers() -> dict[str, str]:
    classes = ClassificationAnswer((AnswerEntry(7, 9312), AnswerEntry(1, 400), AnswerEntry(9, 288)), 212)
    things = (AnswerInstance(2, 9876, (4, 5, 19, 20), 149), AnswerInstance(0, 5000, (0, 0, 3, 4), 12))
    segments = SegmentationAnswer(things, found=3, width=30, height=24)
    return {"classification": "0x" + classes.encode().hex(), "segmentation": "0x" + segments.encode().hex()}


def _segment(index: int, label: str, score: float, mask: Mask) -> SegmentScore:
    rows, columns = np.nonzero(mask)
    box = float(rows.min()), float(columns.min()), float(rows.max() + 1), float(columns.max() + 1)
    return SegmentScore(index, label, score, box, int(mask.sum()), encode_runs(_runs_of(mask)))


def _document(item: ItemResult, task: str, name: str, files: dict[str, tuple[Cid, int]]) -> dict[str, str]:
    manifest = SimpleNamespace(task=task, name=name, weights_sha256="ab" * 32)
    model: Any = SimpleNamespace(manifest=manifest, manifest_cid=cid_of(b"manifest"))
    result: Any = SimpleNamespace(
        provider="0x" + "12" * 20,
        engine="keras 3.12",
        started=1_700_000_000.123,
        finished=1_700_000_001.5,
        inference=0.0421,
        items=(1, 2),
    )
    source: Any = SimpleNamespace(image_cid=cid_of(PICTURE), size=len(PICTURE))
    data = result_document(item, source, result, model, files)
    return {"text": data.decode(), "answer": "0x" + compact_answer(item).hex(), "cid": cid_of(data).text}


def _documents() -> dict[str, Any]:
    labels = (LabelScore(7, "seven", 0.9312), LabelScore(1, "one", 0.04), LabelScore(9, "nine", 0.0288))
    classes = ItemResult(REQUEST, labels=labels, familiarity=212)
    height, width = 24, 30
    segments = (
        _segment(2, "circle", 0.9876, _disc(height, width, 11, 12, 7)),
        _segment(0, "star", 0.5, _disc(height, width, 16, 22, 4)),
        _segment(1, "square", 0.31, _disc(height, width, 3, 25, 2)),
    )
    things = ItemResult(REQUEST, size=(width, height), segments=segments, found=5)
    drawings = {"mask": (cid_of(b"mask"), 4), "overlay": (cid_of(b"over"), 4)}
    return {
        "classification": _document(classes, "classification", "mnist-cnn", {"labels": (cid_of(b"bars"), 4)}),
        "instances": _document(things, "instance-segmentation", "mask-rcnn-shapes", drawings),
    }


def _main() -> None:
    content = {
        "small": _small(),
        "big": _big(),
        "masks": _masks(),
        "answers": _answers(),
        "documents": _documents(),
        "imageCid": cid_of(PICTURE).text,
        "requestId": "0x" + REQUEST.hex(),
    }
    TARGET.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    _main()
