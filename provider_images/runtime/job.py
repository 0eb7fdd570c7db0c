"""The job and result contract between whoever sends work and the runtime that does it; standard library only.

A job is a folder: ``job.json`` names the model and the inputs, ``results.json`` appears when the work is done. Both
documents carry a schema number, and reading either checks every field: the oracle trusts no provider, and the runtime
runs where nobody watches.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from provider_images.runtime import checks
from provider_images.runtime.checks import JobError as JobError
from provider_images.runtime.checks import canonical_json as canonical_json
from provider_images.runtime.checks import decode_object as decode_object
from provider_images.runtime.segments import MAX_MASKS, MAX_SIDE, Segment, bytes_of, segments_from

JOB_SCHEMA = 1
RESULT_SCHEMA = 1
JOB_FILE = "job.json"
RESULT_FILE = "results.json"

MAX_INPUTS = 16
MAX_JOB_BYTES = 4 * 1024 * 1024
MAX_RESULT_BYTES = 4 * 1024 * 1024
MAX_TOP_K = 100
MAX_FOUND = 65_535
CLASSIFICATION = "classification"
SEMANTIC = "semantic-segmentation"

_ROUNDING = 1e-3  # how far a float32 softmax may be from a sum of one


class ItemFailure(StrEnum):
    """Why one input has no answer while its neighbours may have one."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobModel:
    """The model of a job: its manifest's CID and document, and where its weights lie (absolute, or in the folder)."""

    manifest_cid: str
    manifest: Mapping[str, Any]
    weights: str

    @classmethod
    def from_dict(cls, value: object, field: str = "model") -> JobModel:
        """Check a decoded JSON object. Raises JobError."""
        body = checks.fields(value, field, {"manifest_cid", "manifest", "weights"})
        manifest = body["manifest"]
        if not isinstance(manifest, dict):
            raise JobError(f"{field}.manifest: an object expected")
        return cls(
            manifest_cid=checks.name(body["manifest_cid"], f"{field}.manifest_cid"),
            manifest=manifest,
            weights=checks.path(body["weights"], f"{field}.weights"),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``from_dict`` reads."""
        return {"manifest_cid": self.manifest_cid, "manifest": self.manifest, "weights": self.weights}


@dataclass(frozen=True, slots=True)
class JobInput:
    """One picture: an id the result repeats, its CID, where its bytes lie and how many there are."""

    id: str
    cid: str
    path: str
    size: int

    @classmethod
    def from_dict(cls, value: object, field: str) -> JobInput:
        """Check a decoded JSON object. Raises JobError."""
        body = checks.fields(value, field, {"id", "cid", "path", "size"})
        return cls(
            id=checks.name(body["id"], f"{field}.id"),
            cid=checks.name(body["cid"], f"{field}.cid"),
            path=checks.path(body["path"], f"{field}.path"),
            size=checks.integer(body["size"], f"{field}.size", 0, 2**40),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``from_dict`` reads."""
        return {"id": self.id, "cid": self.cid, "path": self.path, "size": self.size}


@dataclass(frozen=True, slots=True)
class Job:
    """What to run on which inputs, and the limits: pixels of one picture, seconds for all of them."""

    id: str
    model: JobModel
    inputs: tuple[JobInput, ...]
    max_pixels: int
    max_seconds: int

    @classmethod
    def from_json(cls, text: str | bytes) -> Job:
        """Read and check ``job.json``. Raises JobError."""
        body = checks.document(text, MAX_JOB_BYTES, JOB_SCHEMA, {"id", "model", "inputs", "max_pixels", "max_seconds"})
        inputs = tuple(
            JobInput.from_dict(item, f"inputs[{i}]")
            for i, item in enumerate(checks.listed(body["inputs"], "inputs", 1, MAX_INPUTS))
        )
        if len({item.id for item in inputs}) != len(inputs):
            raise JobError("inputs: an id stands twice")
        return cls(
            id=checks.name(body["id"], "id"),
            model=JobModel.from_dict(body["model"]),
            inputs=inputs,
            max_pixels=checks.integer(body["max_pixels"], "max_pixels", 1, 2**32),
            max_seconds=checks.integer(body["max_seconds"], "max_seconds", 1, 86_400),
        )

    def to_json(self) -> str:
        """The document that ``from_json`` reads."""
        return canonical_json(
            {
                "schema": JOB_SCHEMA,
                "id": self.id,
                "model": self.model.to_dict(),
                "inputs": [item.to_dict() for item in self.inputs],
                "max_pixels": self.max_pixels,
                "max_seconds": self.max_seconds,
            }
        )


@dataclass(frozen=True, slots=True)
class Expected:
    """What a manifest holds a result to; the manifest must already be known to be sound."""

    task: str
    classes: int
    most: int  # classes or segments of one picture
    least: float  # score of a segment
    background: int | None  # the class of a semantic segmentation that is no segment
    familiarity: bool

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Expected:
        """Read a manifest."""
        return cls(
            task=manifest.get("task", CLASSIFICATION),
            classes=len(manifest["labels"]),
            most=manifest["output"]["top_k"],
            least=manifest.get("comparison", {}).get("score", 0.0),
            background=manifest["output"].get("background"),
            familiarity="familiarity" in manifest,
        )

    def check(self, segments: Sequence[Segment], found: int, field: str) -> None:
        """Hold segments against it: how many, how sure, which classes. Raises JobError."""
        if len(segments) > self.most:
            raise JobError(f"{field}.segments: at most {self.most} expected")
        if found > len(segments) and not self.is_cut([one.counts for one in segments]):
            raise JobError(f"{field}.found: {found}, and room for more than {len(segments)} segments")
        if segments and segments[-1].score < self.least:
            raise JobError(f"{field}.segments: a score below {self.least}")
        if self.task != SEMANTIC:
            return
        kinds = [one.index for one in segments]
        if len(set(kinds)) != len(kinds) or self.background in kinds:
            raise JobError(f"{field}.segments: a class stands twice, or is the background")
        if any(a.score == b.score and a.area < b.area for a, b in itertools.pairwise(segments)):
            raise JobError(f"{field}.segments: of equal scores, the larger area comes first")

    def is_cut(self, masks: Sequence[str]) -> bool:
        """Whether an honest list of segments with these masks may end there for want of room."""
        return len(masks) == self.most or 2 * sum(map(bytes_of, masks)) >= MAX_MASKS


@dataclass(frozen=True, slots=True)
class ItemOutput:
    """The outcome for one input, or why it failed.

    A classification has ``labels``: (class index, probability) by falling probability. A segmentation has the ``size``
    of the upright picture, (width, height) in pixels, ``segments`` by falling score, and how many were ``found``, of
    which those with the lowest scores may be left out. ``familiarity`` is 1 to 255, or 0 when it was not measured.
    """

    input: str
    labels: tuple[tuple[int, float], ...] = ()
    failure: ItemFailure | None = None
    detail: str = ""
    size: tuple[int, int] | None = None
    segments: tuple[Segment, ...] = ()
    found: int = 0
    familiarity: int = 0

    @classmethod
    def from_dict(cls, value: object, field: str, *, input_id: str, expected: Expected) -> ItemOutput:
        """Check a decoded JSON object against what was asked. Raises JobError."""
        if isinstance(value, dict) and "failure" in value:
            body = checks.fields(value, field, {"input", "failure", "detail"})
            failure = body["failure"]
            if failure not in list(ItemFailure):
                raise JobError(f"{field}.failure: {checks.short(failure)} is not a failure")
            detail = checks.text(body["detail"], f"{field}.detail")
            return cls(_belongs(body["input"], input_id, field), failure=ItemFailure(failure), detail=detail)
        segmentation = expected.task != CLASSIFICATION
        keys = {"input", "size", "segments", "found"} if segmentation else {"input", "labels"}
        body = checks.fields(value, field, keys | ({"familiarity"} if expected.familiarity else set()))
        familiarity = body.get("familiarity", 0)
        if expected.familiarity:
            checks.integer(familiarity, f"{field}.familiarity", 1, 255)
        if not segmentation:
            return cls(
                _belongs(body["input"], input_id, field),
                labels=_labels(
                    body["labels"], f"{field}.labels", expected.classes, min(expected.most, expected.classes)
                ),
                familiarity=familiarity,
            )
        width, height = (
            checks.integer(side, f"{field}.size", 1, MAX_SIDE)
            for side in checks.listed(body["size"], f"{field}.size", 2, 2)
        )
        segments = segments_from(
            body["segments"], f"{field}.segments", classes=expected.classes, width=width, height=height
        )
        found = checks.integer(body["found"], f"{field}.found", len(segments), MAX_FOUND)
        expected.check(segments, found, field)
        return cls(
            _belongs(body["input"], input_id, field),
            size=(width, height),
            segments=segments,
            found=found,
            familiarity=familiarity,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``from_dict`` reads."""
        if self.failure is not None:
            return {"input": self.input, "failure": self.failure.value, "detail": checks.stored(self.detail)}
        body: dict[str, Any] = {"input": self.input}
        if self.familiarity:
            body["familiarity"] = self.familiarity
        if self.size is None:
            return body | {"labels": [[index, probability] for index, probability in self.labels]}
        return body | {
            "size": list(self.size),
            "segments": [segment.to_list() for segment in self.segments],
            "found": self.found,
        }


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a job came to: one item for each input, in order. Seconds are the runtime's own measure."""

    job: str
    engine: str
    decode_seconds: float
    inference_seconds: float
    items: tuple[ItemOutput, ...]

    @classmethod
    def from_json(cls, text: str | bytes, job: Job) -> JobResult:
        """Read and check ``results.json`` against its job. Raises JobError.

        The job's manifest must already be known to be sound: its labels and its top_k are what the result is held to.
        """
        body = checks.document(
            text, MAX_RESULT_BYTES, RESULT_SCHEMA, {"job", "engine", "decode_seconds", "inference_seconds", "items"}
        )
        if body["job"] != job.id:
            raise JobError(f"job: {checks.short(body['job'])} is not this job")
        engine = checks.text(body["engine"], "engine")
        items = checks.listed(body["items"], "items", len(job.inputs), len(job.inputs))
        expected = Expected.of(job.model.manifest)
        return cls(
            job=job.id,
            engine=engine,
            decode_seconds=checks.number(body["decode_seconds"], "decode_seconds", 0, 1e6),
            inference_seconds=checks.number(body["inference_seconds"], "inference_seconds", 0, 1e6),
            items=tuple(
                ItemOutput.from_dict(item, f"items[{i}]", input_id=asked.id, expected=expected)
                for i, (item, asked) in enumerate(zip(items, job.inputs, strict=True))
            ),
        )

    def to_json(self) -> str:
        """The document that ``from_json`` reads."""
        return canonical_json(
            {
                "schema": RESULT_SCHEMA,
                "job": self.job,
                "engine": self.engine,
                "decode_seconds": self.decode_seconds,
                "inference_seconds": self.inference_seconds,
                "items": [item.to_dict() for item in self.items],
            }
        )


def _belongs(value: object, input_id: str, field: str) -> str:
    if value != input_id:
        raise JobError(f"{field}.input: {checks.short(value)} is not the input asked for in this place")
    return input_id


def _labels(value: object, field: str, classes: int, count: int) -> tuple[tuple[int, float], ...]:
    labels: list[tuple[int, float]] = []
    for i, pair in enumerate(checks.listed(value, field, count, count)):
        place = f"{field}[{i}]"
        index, probability = checks.listed(pair, place, 2, 2)
        labels.append((checks.integer(index, place, 0, classes - 1), checks.number(probability, place, 0.0, 1.0)))
    probabilities = [probability for _, probability in labels]
    if any(a < b for a, b in itertools.pairwise(probabilities)):
        raise JobError(f"{field}: probabilities must fall")
    if len({index for index, _ in labels}) != len(labels):
        raise JobError(f"{field}: a class stands twice")
    total = math.fsum(probabilities)
    # The classes left out take what is missing from one, none of them more than the last one named.
    rest = (classes - count) * probabilities[-1]
    if total > 1 + _ROUNDING or total + rest < 1 - _ROUNDING:
        raise JobError(f"{field}: probabilities sum to {total:.6f}, which no distribution over {classes} classes does")
    return tuple(labels)
