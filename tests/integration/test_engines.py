"""The numpy engine against its reference, TensorFlow, on the shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import provider_images.mnist
from provider_images.mnist.draw import draw_digit
from provider_images.mnist.model import build
from provider_images.runtime.engines import BATCH, KerasEngine, NumpyEngine
from provider_images.runtime.pictures import centre_digit
from provider_images.runtime.spec import ModelSpec
from provider_images.runtime.weights import read_weights

pytestmark = pytest.mark.integration

FOLDER = Path(provider_images.mnist.__file__).parent
MANIFEST = json.loads((FOLDER / "manifest.json").read_text())
WEIGHTS = (FOLDER / "weights.npz").read_bytes()


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Drawn digits of both styles, (400, 28, 28, 1), then noise, flat greys and dots, like no digit; and the labels."""
    digits = [
        centre_digit(np.asarray(draw_digit(digit, seed, style=style)), size=28, box=20)
        for seed in range(4_000_000, 4_000_020)
        for style in ("mnist", "paper")
        for digit in range(10)
    ]
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (60, 28, 28))
    flat = np.stack([np.full((28, 28), grey) for grey in range(0, 256, 15)])
    dots = np.zeros((28 * 2, 28, 28))
    dots[np.arange(56), np.arange(56) % 28, np.arange(56) // 2] = 255
    everything = np.concatenate([np.stack(digits), noise, flat, dots]).astype(np.float32) / np.float32(255)
    return everything[..., None], np.tile(np.arange(10), 40)


def test_numpy_answers_as_tensorflow_does() -> None:
    given, labels = pictures()
    model = NumpyEngine().load(ModelSpec.from_manifest(MANIFEST), FOLDER / "weights.npz")
    answers = np.concatenate([model.classify(given[i : i + BATCH]) for i in range(0, len(given), BATCH)])
    reference = build()
    reference.set_weights(read_weights(WEIGHTS, [variable.shape for variable in reference.weights]))
    expected = reference.predict(given, batch_size=64, verbose=0)
    assert answers.shape == expected.shape == (len(given), 10)
    assert answers.dtype == np.float32
    assert float(np.abs(answers - expected).max()) <= 1e-5
    np.testing.assert_array_equal(answers.argmax(axis=1), expected.argmax(axis=1))
    assert (answers[: len(labels)].argmax(axis=1) == labels).mean() > 0.99
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_given_tensorflow_at_work_when_an_engine_for_other_threads_is_made_then_it_computes() -> None:
    spec = ModelSpec.from_manifest(MANIFEST)
    given = pictures()[0][:BATCH]
    first = KerasEngine(1).load_classifier(spec, FOLDER / "weights.npz").classify(given)
    for threads in (2, 3):
        again = KerasEngine(threads).load_classifier(spec, FOLDER / "weights.npz").classify(given)
        np.testing.assert_allclose(again, first, rtol=0, atol=1e-6)
