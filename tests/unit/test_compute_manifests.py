"""Manifests: the shipped one is sound, and every fault is refused by name."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import provider_images.mnist
from oracle.domain import CODEC_RAW, ModelManifest
from oracle.errors import ManifestInvalid
from oracle.manifests import MAX_BYTES, parse_manifest, read_manifest
from provider_images.runtime.spec import ModelSpec, SpecError

pytestmark = pytest.mark.unit

MNIST = Path(provider_images.mnist.__file__).parent
SHIPPED = (MNIST / "manifest.json").read_bytes()


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(json.loads(SHIPPED))
    *outer, last = path.split(".")
    inner = document
    for key in outer:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return document


def test_the_shipped_manifest_names_the_shipped_weights() -> None:
    manifest = read_manifest(SHIPPED)
    weights = (MNIST / "weights.npz").read_bytes()
    assert manifest.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert manifest.document["weights"]["bytes"] == len(weights) <= 256 * 1024
    assert (manifest.weights_cid.version, manifest.weights_cid.codec) == (1, CODEC_RAW)
    assert manifest.weights_cid.digest.hex() == manifest.weights_sha256
    assert manifest.labels == tuple("0123456789")
    assert manifest.document["training"]["score"]["held_out_top1"] >= 0.99
    assert manifest.document["training"]["score"]["drawn_top1"] >= 0.98


def test_the_shipped_manifest_is_written_in_its_one_form() -> None:
    text = json.dumps(json.loads(SHIPPED), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert text.encode() == SHIPPED


FAULTS: list[tuple[str, Any]] = [
    ("schema", "sibyl/model/2"),
    ("name", "Has Spaces"),
    ("version", ...),
    ("description", ""),
    ("licence", 5),
    ("task", "telepathy"),
    ("engine", "pickle"),
    ("family", "../mnist"),
    ("weights", []),
    ("weights.cid", "Qm"),
    ("weights.sha256", "AB" * 32),
    ("weights.bytes", 0),
    ("weights.bytes", True),
    ("labels", ["one"]),
    ("labels", ["a", 2]),
    ("labels", ["a", ""]),
    ("input.height", 0),
    ("input.width", 5000),
    ("input.width", 14),
    ("input.channels", 3),
    ("input.color", "cmyk"),
    ("input.fit", "guess"),
    ("input.box", 29),
    ("input.range", [1, 0]),
    ("input.range", [0]),
    ("input.mode", "imagenet"),
    ("input.mode", "torch"),
    ("input.mode", "tf"),
    ("input.order", "bgr"),
    ("input.resize", "guess"),
    ("input.crop", 0),
    ("input.crop", 1.5),
    ("weights.format", "pickle"),
    ("weights.format", "keras"),
    ("family", "keras-file"),
    ("engine", "tflite"),
    ("output.values", "votes"),
    ("output.shape", [9]),
    ("output.top_k", 11),
    ("output.top_k", 1.0),
    ("comparison.class", "vibes"),
    ("comparison.epsilon", 0),
    ("comparison.epsilon", ...),
    ("resources", None),
    ("training", "secret"),
]


@pytest.mark.parametrize(("path", "value"), FAULTS)
def test_a_fault_is_refused_by_name(path: str, value: Any) -> None:
    named = {
        "input.width": "input",
        "input.mode": "input",
        "weights.format": "family|weights.format",
        "engine": "family|engine",
        "family": "family|output.shape",
    }.get(path, path)
    with pytest.raises(ManifestInvalid, match=named):
        parse_manifest(changed(path, value))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        SHIPPED.replace(b'"epochs": ', b'"epochs": NaN, "e": '),
        SHIPPED.replace(b'"epochs": ', b'"epochs": 1e999, "e": '),
        SHIPPED.replace(b'"epochs": ', b'"epochs": 1, "epochs": '),
        b"[" * 100_000,
        SHIPPED + b" " * MAX_BYTES,
    ],
    ids=["empty", "list", "binary", "nan", "infinite", "twins", "deep", "large"],
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        read_manifest(data)


def paths(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix]
    return [path for key in value for path in paths(value[key], f"{prefix}.{key}".lstrip("."))]


@settings(deadline=None)
@given(
    st.sampled_from(paths(json.loads(SHIPPED))),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.just(...)),
)
def test_any_change_is_sound_or_refused(path: str, value: Any) -> None:
    try:
        manifest = parse_manifest(changed(path, value))
    except ManifestInvalid:
        return
    assert isinstance(manifest, ModelManifest)


def test_what_the_oracle_accepts_of_the_shipped_family_the_runtime_reads() -> None:
    spec = ModelSpec.from_manifest(json.loads(SHIPPED))
    assert (spec.family, spec.classes, spec.input.fit) == ("mnist", 10, "digit")
    for path, value in (("family", "other"), ("schema", 1), ("input.range", 3), ("weights.sha256", ...)):
        with pytest.raises(SpecError):
            ModelSpec.from_manifest(changed(path, value))
