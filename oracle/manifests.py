"""A model's manifest: the JSON document that is pinned and whose CID is on-chain. Reading it checks every field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from oracle.domain import Cid, ModelManifest
from oracle.errors import ManifestInvalid
from provider_images.runtime.familiarity_spec import check_familiarity

SCHEMA = "sibyl/model/1"
MAX_BYTES = 1024 * 1024
MAX_WEIGHTS = 4 * 1024**3
MAX_CLASSES = 65_536  # a class index is a uint16 in the on-chain answer
MAX_SIDE = 4096

CLASSIFICATION = "classification"
INSTANCES = "instance-segmentation"
SEMANTIC = "semantic-segmentation"
TASKS = frozenset({CLASSIFICATION, INSTANCES, SEMANTIC})
ENGINES = frozenset({"keras", "tflite"})
COLORS = {"gray": 1, "rgb": 3}
FITS = {
    CLASSIFICATION: frozenset({"stretch", "crop", "digit"}),
    INSTANCES: frozenset({"whole"}),
    SEMANTIC: frozenset({"stretch"}),  # of another, a pixel could not be found again in the picture
}
MODES = frozenset({"range", "tf", "torch", "caffe"})
RESIZES = frozenset({"bilinear", "bicubic", "lanczos", "box", "nearest"})
FORMATS = frozenset({"npz-float16", "hdf5", "safetensors", "keras", "tflite"})
FILES = {"keras-file": "keras", "tflite-file": "tflite"}  # families that are a file, and its engine and format
VALUES = frozenset({"probabilities", "logits"})
COMPARISONS = {
    CLASSIFICATION: frozenset({"exact", "tolerance"}),
    INSTANCES: frozenset({"exact", "detection"}),
    SEMANTIC: frozenset({"exact", "detection"}),
}
MAX_TOP_K = 100
FINEST = 2e-5

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What a terminal or a page would obey instead of show, and halves of characters, which have no bytes.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def read_manifest(data: bytes) -> ModelManifest:
    """Decode and check a manifest's bytes. Raises ManifestInvalid, which names the field."""
    if len(data) > MAX_BYTES:
        raise ManifestInvalid(f"manifest: {len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        document = json.loads(data, object_pairs_hook=_refuse_twins)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"manifest: not JSON: {error}") from error
    return parse_manifest(document)


def parse_manifest(document: object) -> ModelManifest:
    """Check a decoded manifest. Raises ManifestInvalid, which names the field.

    ``training``, ``resources``, ``licence`` and ``description`` inform people; only their presence and kind count.
    """
    body = _object(document, "manifest")
    try:
        # The document travels on to providers; Python reads infinity and half a character where JSON has none.
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestInvalid(f"manifest: not JSON: {error}") from error
    if body.get("schema") != SCHEMA:
        raise ManifestInvalid(f"schema: {SCHEMA!r} expected, not {_short(body.get('schema'))}")
    for field in ("version", "description", "licence"):
        _text(body, field, field)
    family = _matching(body, "family", "family", _NAME)
    _object(body.get("resources"), "resources")
    _object(body.get("training"), "training")
    weights = _object(body.get("weights"), "weights")
    task = _choice(body, "task", "task", TASKS)
    labels = _labels(body.get("labels"), 2 if task == CLASSIFICATION else 1)
    _check_input(_object(body.get("input"), "input"), task)
    _check_comparison(_object(body.get("comparison"), "comparison"), task, body.get("engine"))
    _integer(weights, "bytes", "weights.bytes", 1, MAX_WEIGHTS)
    _optional(weights, "format", "weights.format", FORMATS)
    output = _object(body.get("output"), "output")
    _check_output(output, task, len(labels), own=family in FILES)
    _check_family(family, body.get("engine"), weights.get("format"))
    if "familiarity" in body:
        _check_familiarity(body["familiarity"], task, body["input"]["channels"])
    return ModelManifest(
        name=_matching(body, "name", "name", _NAME),
        task=task,
        engine=_choice(body, "engine", "engine", ENGINES),
        weights_cid=_cid(weights),
        weights_sha256=_matching(weights, "sha256", "weights.sha256", _SHA256),
        labels=labels,
        top_k=_integer(
            output, "top_k", "output.top_k", 1, min(MAX_TOP_K, len(labels)) if task == CLASSIFICATION else MAX_TOP_K
        ),
        document=body,
    )


def _check_output(output: Mapping[str, Any], task: str, labels: int, *, own: bool) -> None:
    _optional(output, "values", "output.values", VALUES | ({"classes"} if task == SEMANTIC else set()))
    shape = output.get("shape")
    if shape is None and not own:
        return  # a built-in family has the shape it has
    if task == INSTANCES:
        raise ManifestInvalid(
            "output.shape: instances have none" if shape else f"family: none of one's own does {task}"
        )
    if task == CLASSIFICATION and shape != [labels]:
        raise ManifestInvalid(f"output.shape: [{labels}] expected, a number for each label")
    if task == SEMANTIC:
        _check_map(output, shape, labels)


def _check_map(output: Mapping[str, Any], shape: object, labels: int) -> None:
    """The shape of a semantic segmentation: (height, width) of classes, or (height, width, labels) of their values."""
    depth = [] if output.get("values") == "classes" else [labels]
    if (
        not isinstance(shape, list)
        or len(shape) != 2 + len(depth)
        or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in shape[:2])
        or shape[2:] != depth
    ):
        raise ManifestInvalid(f"output.shape: [height, width{', labels' if depth else ''}] expected")
    if "background" in output:
        _integer(output, "background", "output.background", 0, labels - 1)


def _check_familiarity(declared: object, task: str, channels: int) -> None:
    if task != CLASSIFICATION:
        raise ManifestInvalid(f"familiarity: it is measured for {CLASSIFICATION} only")
    try:
        check_familiarity(declared, channels=channels)
    except ValueError as error:
        raise ManifestInvalid(str(error)) from error


def _check_family(family: str, engine: object, form: object) -> None:
    """An own file runs on the engine that is made for it, and nothing else does."""
    kind = FILES.get(family)
    if kind is not None and engine != kind:
        raise ManifestInvalid(f"engine: {kind!r} expected for the family {family!r}, not {_short(engine)}")
    if kind is not None and form != kind:
        raise ManifestInvalid(f"weights.format: {kind!r} expected for the family {family!r}, not {_short(form)}")
    if kind is None and (engine == "tflite" or form in FILES.values()):
        raise ManifestInvalid(f"family: one of {', '.join(FILES)} expected for a file of one's own, not {family!r}")


def _labels(value: object, fewest: int) -> tuple[str, ...]:
    if not isinstance(value, list) or not fewest <= len(value) <= MAX_CLASSES:
        raise ManifestInvalid(f"labels: a list of {fewest} to {MAX_CLASSES} texts expected")
    for i, label in enumerate(value):
        if not isinstance(label, str) or not 0 < len(label) <= 200:
            raise ManifestInvalid(f"labels[{i}]: a text of 1 to 200 characters expected, not {_short(label)}")
        _printable(label, f"labels[{i}]")
    return tuple(value)


def _check_input(declared: Mapping[str, Any], task: str) -> None:
    height = _integer(declared, "height", "input.height", 1, MAX_SIDE)
    width = _integer(declared, "width", "input.width", 1, MAX_SIDE)
    channels = COLORS[_choice(declared, "color", "input.color", frozenset(COLORS))]
    if _integer(declared, "channels", "input.channels", 1, 4) != channels:
        raise ManifestInvalid(f"input.channels: {channels} expected for {declared['color']}")
    if _choice(declared, "fit", "input.fit", FITS[task]) == "digit":
        if height != width or channels != 1:
            raise ManifestInvalid("input.fit: a digit is square and gray")
        _integer(declared, "box", "input.box", 1, width)
    _optional(declared, "resize", "input.resize", RESIZES)
    order = _optional(declared, "order", "input.order", frozenset({"rgb", "bgr"}))
    crop = declared.get("crop", 1.0)
    if type(crop) not in (int, float) or not 0.1 <= crop <= 1:
        raise ManifestInvalid(f"input.crop: a number from 0.1 to 1 expected, not {_short(crop)}")
    mode = _optional(declared, "mode", "input.mode", MODES)
    if channels == 1 and (mode in ("torch", "caffe") or order == "bgr"):
        raise ManifestInvalid(f"input.{'order' if order == 'bgr' else 'mode'}: not for a gray picture")
    if mode in (None, "range"):
        _check_range(declared)
    elif "range" in declared:
        raise ManifestInvalid(f"input.range: the mode {mode!r} has a range of its own")


def _check_range(declared: Mapping[str, Any]) -> None:
    span = declared.get("range")
    if not isinstance(span, list) or len(span) != 2 or not all(type(v) in (int, float) for v in span):
        raise ManifestInvalid("input.range: two numbers expected")
    if not -1e6 <= span[0] < span[1] <= 1e6:
        raise ManifestInvalid("input.range: two numbers expected, the smaller first")


def _check_comparison(declared: Mapping[str, Any], task: str, engine: object) -> None:
    kind = _choice(declared, "class", "comparison.class", COMPARISONS[task])
    if kind == "exact" and engine != "tflite":
        raise ManifestInvalid("comparison.class: exact is for integers (a quantised .tflite); processors round floats")
    # What is closer than processors are to each other would have honest providers called liars.
    if kind != "exact" and _number(declared, "epsilon", "comparison.epsilon", 0, 1) < FINEST:
        raise ManifestInvalid(f"comparison.epsilon: at least {FINEST} expected, as far as processors differ")
    if kind == "detection" and _number(declared, "iou", "comparison.iou", 0.5, 1) > 0.99:
        raise ManifestInvalid("comparison.iou: at most 0.99 expected: masks of processors differ by pixels")
    if kind == "detection" and task == INSTANCES:
        # Below a half, two classes could have the same score, and either would be honest.
        score = _number(declared, "score", "comparison.score", 0, 1)
        if score < 0.5:
            raise ManifestInvalid(f"comparison.score: at least 0.5 expected, not {score}")


def _cid(weights: Mapping[str, Any]) -> Cid:
    text = _text(weights, "cid", "weights.cid")
    try:
        return Cid.parse(text)
    except ValueError as error:
        raise ManifestInvalid(f"weights.cid: {error}") from error


# ---------------------------------------------------------------------------------------------------------------
# Checks of one field each
# ---------------------------------------------------------------------------------------------------------------


def _object(value: object, field: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ManifestInvalid(f"{field}: an object expected")
    return value


def _text(body: Mapping[str, Any], key: str, field: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 2000:
        raise ManifestInvalid(f"{field}: a text expected, not {_short(value)}")
    # A description may have paragraphs.
    _printable(value.replace("\n", " ") if key == "description" else value, field)
    return value


def _printable(text: str, field: str) -> None:
    if found := _UNPRINTABLE.search(text):
        raise ManifestInvalid(f"{field}: the character {found[0]!a} is not accepted")


def _matching(body: Mapping[str, Any], key: str, field: str, form: re.Pattern[str]) -> str:
    value = _text(body, key, field)
    if not form.fullmatch(value):
        raise ManifestInvalid(f"{field}: {_short(value)} does not have the form {form.pattern}")
    return value


def _choice(body: Mapping[str, Any], key: str, field: str, allowed: frozenset[str]) -> str:
    value = _text(body, key, field)
    if value not in allowed:
        raise ManifestInvalid(f"{field}: one of {', '.join(sorted(allowed))} expected, not {_short(value)}")
    return value


def _optional(body: Mapping[str, Any], key: str, field: str, allowed: frozenset[str]) -> str | None:
    return _choice(body, key, field, allowed) if key in body else None


def _integer(body: Mapping[str, Any], key: str, field: str, low: int, high: int) -> int:
    value = body.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ManifestInvalid(f"{field}: an integer from {low} to {high} expected, not {_short(value)}")
    return value


def _number(body: Mapping[str, Any], key: str, field: str, low: float, high: float) -> float:
    """A number between two others, neither of them included."""
    value = body.get(key)
    if type(value) not in (int, float) or not low < cast(float, value) < high:
        raise ManifestInvalid(f"{field}: a number between {low} and {high} expected, not {_short(value)}")
    return float(cast(float, value))


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise ValueError("a field stands twice")
    return body


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
