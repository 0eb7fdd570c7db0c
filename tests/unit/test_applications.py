"""The table of families without TensorFlow: names, manifests, the thousand classes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from oracle.manifests import parse_manifest
from provider_images.applications.classes import classes, decode_predictions, labels
from provider_images.applications.manifests import manifest_of, sources
from provider_images.applications.table import applications
from provider_images.runtime.spec import APPLICATIONS, FAMILIES, ModelSpec

pytestmark = pytest.mark.unit

DATA = Path(os.environ.get("SIBYL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
CID = "bafkreiaw6rowr5rvndqnwerlkljhwo2afrthlvx62rh7rzweoctlvgi7dq"


def test_the_runtime_knows_the_families_of_the_table_and_no_others() -> None:
    assert set(applications()) == set(APPLICATIONS)
    assert len(APPLICATIONS) == len(set(APPLICATIONS)) == 40
    assert set(sources()) == set(FAMILIES) - {"mnist", "mask-rcnn-small", "mask-rcnn-coco"}


@pytest.mark.parametrize("family", sources())
def test_given_weights_when_a_manifest_is_written_then_oracle_and_runtime_read_it(family: str) -> None:
    sha256 = hashlib.sha256(family.encode()).hexdigest()
    document = manifest_of(family, sha256=sha256, size=1234, cid=CID)
    manifest = parse_manifest(json.loads(json.dumps(document)))
    spec = ModelSpec.from_manifest(document)
    assert (manifest.name, manifest.weights_sha256, len(manifest.labels)) == (family, sha256, 1000)
    assert (spec.family, spec.weights_sha256, spec.classes) == (family, sha256, 1000)
    assert spec.weights_format == sources()[family].format
    if family in APPLICATIONS:
        entry = applications()[family]
        assert (spec.input.height, spec.input.width, spec.input.mode) == (entry.size, entry.size, entry.mode)
        assert spec.input.order == ("bgr" if entry.mode == "caffe" else "rgb")


def test_every_official_address_is_an_address_and_every_digest_a_digest() -> None:
    for family, source in sources().items():
        assert source.url.startswith("https://"), family
        kind, _, value = source.digest.partition(":")
        assert (kind, len(value)) in {("md5", 32), ("sha256", 64), ("", 0)}, family


def test_the_classes_are_imagenets() -> None:
    assert len(classes()) == len({identifier for identifier, _ in classes()}) == 1000
    assert (classes()[0], classes()[285], classes()[999]) == (
        ("n01440764", "tench"),
        ("n02124075", "Egyptian_cat"),
        ("n15075141", "toilet_tissue"),
    )
    assert labels()[285] == "Egyptian cat"


@pytest.mark.skipif(not (DATA / "imagenet").is_dir(), reason=f"{DATA}/imagenet is not there")
def test_the_classes_agree_with_a_list_of_other_origin() -> None:
    listed = json.loads((DATA / "imagenet" / "classes_1000.json").read_text())
    assert [(entry["wnid"], entry["name"]) for entry in listed] == list(classes())


def test_predictions_are_decoded_best_first() -> None:
    row = np.zeros((2, 1000), np.float32)
    row[0, [1, 285, 7]] = 0.2, 0.5, 0.3
    row[1, 4] = 1
    best, other = decode_predictions(row, top=3)
    assert [name for _, name, _ in best] == ["Egyptian_cat", "cock", "goldfish"]
    assert best[0] == ("n02124075", "Egyptian_cat", 0.5)
    assert other[0][1] == "hammerhead"
    with pytest.raises(ValueError, match="expected"):
        decode_predictions(np.zeros((1, 10)))
