"""Which engine computes a family."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provider_images.runtime.choice import COMPILED, OPENVINO, TENSORFLOW, compiled_file, engine_of
from provider_images.runtime.spec import APPLICATIONS, FAMILIES, FILES

pytestmark = pytest.mark.unit


def test_every_family_has_one_engine_and_only_classifiers_built_in_are_compiled() -> None:
    chosen = {family: engine_of(family) for family in (*FAMILIES, *FILES)}
    assert set(chosen.values()) == {OPENVINO, TENSORFLOW}
    assert {family for family, engine in chosen.items() if engine == OPENVINO} == COMPILED
    assert {*APPLICATIONS, "vit-b16"} >= COMPILED
    assert {"densenet121", "inception-v3", "xception", "vit-b16"} <= COMPILED


@pytest.mark.parametrize(
    "family", ["mnist", "mask-rcnn-small", "vgg16", "efficientnet-v2-s", "keras-file", "tflite-file", "unheard-of"]
)
def test_what_was_not_measured_to_be_faster_stays_with_the_reference(family: str) -> None:
    assert engine_of(family) == TENSORFLOW


def test_a_compiled_network_lies_under_its_weights_digest() -> None:
    assert compiled_file(Path("f"), "xception", "ab" * 32) != compiled_file(Path("f"), "xception", "ba" * 32)
    assert compiled_file(Path("f"), "xception", "ab" * 32).parent.parent == Path("f")


def test_the_choice_needs_the_standard_library_alone() -> None:
    script = "import sys, provider_images.runtime.choice; print({'numpy', 'openvino'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
