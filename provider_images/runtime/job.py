"""The job and result contract between whoever sends work and the runtime that does it; standard library only.

A job is a folder: ``job.json`` names the model and the inputs, ``results.json`` appears when the work is done. Both
documents carry a schema number, and reading either checks every field: the oracle trusts no provider, and the runtime
runs where nobody watches.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

JOB_SCHEMA = 1
RESULT_SCHEMA = 1
JOB_FILE = "job.json"
RESULT_FILE = "results.json"

MAX_INPUTS = 16
MAX_JOB_BYTES = 4 * 1024 * 1024
MAX_RESULT_BYTES = 1024 * 1024
MAX_TOP_K = 100
MAX_DETAIL = 300

_ROUNDING = 1e-3  # how far a float32 softmax may be from a sum of one
_NAME = re.compile(r"[A-Za-z0-9._:+-]{1,200}")


class JobError(ValueError):
    """A job or a result that breaks the contract; the message names the field."""


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
        body = _object(value, field, {"manifest_cid", "manifest", "weights"})
        manifest = body["manifest"]
        if not isinstance(manifest, dict):
            raise JobError(f"{field}.manifest: an object expected")
        return cls(
            manifest_cid=_name(body["manifest_cid"], f"{field}.manifest_cid"),
            manifest=manifest,
            weights=_path(body["weights"], f"{field}.weights"),
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
        body = _object(value, field, {"id", "cid", "path", "size"})
        return cls(
            id=_name(body["id"], f"{field}.id"),
            cid=_name(body["cid"], f"{field}.cid"),
            path=_path(body["path"], f"{field}.path"),
            size=_integer(body["size"], f"{field}.size", 0, 2**40),
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
        body = _document(text, MAX_JOB_BYTES, JOB_SCHEMA, {"id", "model", "inputs", "max_pixels", "max_seconds"})
        inputs = tuple(
            JobInput.from_dict(item, f"inputs[{i}]")
            for i, item in enumerate(_list(body["inputs"], "inputs", 1, MAX_INPUTS))
        )
        if len({item.id for item in inputs}) != len(inputs):
            raise JobError("inputs: an id stands twice")
        return cls(
            id=_name(body["id"], "id"),
            model=JobModel.from_dict(body["model"]),
            inputs=inputs,
            max_pixels=_integer(body["max_pixels"], "max_pixels", 1, 2**32),
            max_seconds=_integer(body["max_seconds"], "max_seconds", 1, 86_400),
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
class ItemOutput:
    """The outcome for one input: (class index, probability) by falling probability, or why it failed."""

    input: str
    labels: tuple[tuple[int, float], ...] = ()
    failure: ItemFailure | None = None
    detail: str = ""

    @classmethod
    def from_dict(cls, value: object, field: str, *, input_id: str, classes: int, top_k: int) -> ItemOutput:
        """Check a decoded JSON object against what was asked. Raises JobError."""
        if isinstance(value, dict) and "failure" in value:
            body = _object(value, field, {"input", "failure", "detail"})
            failure = body["failure"]
            if failure not in list(ItemFailure):
                raise JobError(f"{field}.failure: {_short(failure)} is not a failure")
            detail = body["detail"]
            if not isinstance(detail, str) or len(detail) > MAX_DETAIL:
                raise JobError(f"{field}.detail: at most {MAX_DETAIL} characters expected")
            return cls(_belongs(body["input"], input_id, field), failure=ItemFailure(failure), detail=detail)
        body = _object(value, field, {"input", "labels"})
        return cls(
            _belongs(body["input"], input_id, field),
            labels=_labels(body["labels"], f"{field}.labels", classes, min(top_k, classes)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``from_dict`` reads."""
        if self.failure is not None:
            return {"input": self.input, "failure": self.failure.value, "detail": self.detail[:MAX_DETAIL]}
        return {"input": self.input, "labels": [[index, probability] for index, probability in self.labels]}


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
        body = _document(
            text, MAX_RESULT_BYTES, RESULT_SCHEMA, {"job", "engine", "decode_seconds", "inference_seconds", "items"}
        )
        if body["job"] != job.id:
            raise JobError(f"job: {_short(body['job'])} is not this job")
        engine = body["engine"]
        if not isinstance(engine, str) or len(engine) > MAX_DETAIL:
            raise JobError("engine: a short text expected")
        items = _list(body["items"], "items", len(job.inputs), len(job.inputs))
        classes, top_k = len(job.model.manifest["labels"]), job.model.manifest["output"]["top_k"]
        return cls(
            job=job.id,
            engine=engine,
            decode_seconds=_number(body["decode_seconds"], "decode_seconds", 0, 1e6),
            inference_seconds=_number(body["inference_seconds"], "inference_seconds", 0, 1e6),
            items=tuple(
                ItemOutput.from_dict(item, f"items[{i}]", input_id=asked.id, classes=classes, top_k=top_k)
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


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity raise ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def decode_object(text: str | bytes) -> dict[str, Any]:
    """Decode a JSON object whose numbers are all finite. Raises JobError."""
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise JobError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise JobError("an object expected")
    return value


# ---------------------------------------------------------------------------------------------------------------
# Checks of one field each
# ---------------------------------------------------------------------------------------------------------------


def _document(text: str | bytes, limit: int, schema: int, keys: set[str]) -> dict[str, Any]:
    if len(text) > limit:
        raise JobError(f"{len(text)} bytes; at most {limit} expected")
    value = decode_object(text)
    found = value.get("schema")
    if type(found) is not int or found != schema:
        raise JobError(f"schema: {schema} expected, not {_short(found)}")
    return _object(value, "", keys | {"schema"})


def _object(value: object, field: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise JobError(f"{field}: an object expected")
    if value.keys() != keys:
        wrong = min(str(key) for key in value.keys() ^ keys)
        state = "missing" if wrong in keys else "unknown"
        raise JobError(f"{field}.{wrong}".lstrip(".")[:MAX_DETAIL] + f": {state}")
    return cast(dict[str, Any], value)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _list(value: object, field: str, low: int, high: int) -> Sequence[object]:
    if not isinstance(value, list) or not low <= len(value) <= high:
        amount = str(low) if low == high else f"{low} to {high}"
        raise JobError(f"{field}: a list of {amount} expected")
    return value


def _name(value: object, field: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise JobError(f"{field}: a name of 1 to 200 plain characters expected, not {_short(value)}")
    return value


def _path(value: object, field: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 4096 or "\0" in value or ".." in value.split("/"):
        raise JobError(f"{field}: a path without '..' expected, not {_short(value)}")
    return value


def _integer(value: object, field: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise JobError(f"{field}: an integer from {low} to {high} expected, not {_short(value)}")
    return value


def _number(value: object, field: str, low: float, high: float) -> float:
    # bool is an int to Python, and NaN fails every comparison.
    if type(value) not in (int, float) or not low <= cast(float, value) <= high:
        raise JobError(f"{field}: a number from {low} to {high} expected, not {_short(value)}")
    return float(cast(float, value))


def _belongs(value: object, input_id: str, field: str) -> str:
    if value != input_id:
        raise JobError(f"{field}.input: {_short(value)} is not the input asked for in this place")
    return input_id


def _labels(value: object, field: str, classes: int, count: int) -> tuple[tuple[int, float], ...]:
    labels: list[tuple[int, float]] = []
    for i, pair in enumerate(_list(value, field, count, count)):
        place = f"{field}[{i}]"
        index, probability = _list(pair, place, 2, 2)
        labels.append((_integer(index, place, 0, classes - 1), _number(probability, place, 0.0, 1.0)))
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


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
