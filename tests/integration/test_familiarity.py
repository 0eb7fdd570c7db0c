"""The familiarity of the shipped model: digits told from letters, noise and photos; a byte on every engine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from provider_images.mnist.draw import draw_digit
from provider_images.mnist.familiarity import MANIFEST, measure, png
from provider_images.mnist.letters import draw_letter, make_noise
from provider_images.runtime.classification import classify_all
from provider_images.runtime.engines import KerasEngine, NumpyEngine
from provider_images.runtime.model import Classifier
from provider_images.runtime.spec import ModelSpec

pytestmark = pytest.mark.integration

DATA = Path(os.environ.get("SIBYL_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
DOCUMENT = json.loads(MANIFEST.read_text())
DRAWN_SEED = 4_000_000  # no training, calibration or figure draws from here

with_data = pytest.mark.skipif(
    not all((DATA / name).is_dir() for name in ("mnist", "photos", "coco", "imagenet")), reason=f"{DATA} is not there"
)


@with_data
def test_given_a_fifth_of_what_the_manifest_was_measured_on_when_it_is_measured_again_then_its_figures_hold() -> None:
    found = measure(DATA, share=0.2)
    claimed = DOCUMENT["familiarity"]["training"]["auroc"]
    assert found.keys() == claimed.keys()
    assert found["auroc"] >= 0.98
    assert found["letters_told"] >= 0.97
    assert all(abs(found[name] - claimed[name]) < 0.015 for name in claimed)


@pytest.mark.parametrize("engine", [NumpyEngine, lambda: KerasEngine(2)], ids=["numpy", "keras"])
def test_given_digits_letters_and_noise_when_an_engine_classifies_then_each_answer_says_how_familiar_it_is(
    engine: type[NumpyEngine],
) -> None:
    if engine is not NumpyEngine:
        pytest.importorskip("keras")
    model = engine().load(ModelSpec.from_manifest(DOCUMENT), MANIFEST.with_name("weights.npz"))
    digits = known(model, [png(draw_digit(i % 10, DRAWN_SEED + i, style="paper")) for i in range(16)])
    letters = known(model, [png(draw_letter(letter, DRAWN_SEED)) for letter in "AEFGHKLMNPQRTUWX"])
    noise = known(model, [png(make_noise("white", i)) for i in range(16)])
    assert all(1 <= byte <= 255 for byte in (*digits, *letters, *noise))
    assert np.median(digits) > 100
    assert np.median(letters) < 10
    assert max(noise) <= 3


def known(model: Classifier, pictures: list[bytes]) -> list[int]:
    answers = classify_all(model, {str(i): picture for i, picture in enumerate(pictures)}, max_pixels=10**6)
    return [item.familiarity for item in answers.items]
