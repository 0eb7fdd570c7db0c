"""A MobileNetV2 with random weights, and pictures for it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provider_images.runtime.engines import build


def random_weights(keras: Any, target: Path) -> None:
    """Weights with which no two pictures have one answer, always the same."""
    keras.utils.set_random_seed(1)
    model = build("mobilenet-v2")
    # So loud that no answer is flat: untrained features are nearly nothing.
    features = keras.Model(model.inputs, model.layers[-2].output)
    picture = np.random.default_rng(1).uniform(-1, 1, (1, 224, 224, 3))
    loud = 5 / np.linalg.norm(features.predict(picture, verbose=0))
    kernel = np.random.default_rng(2).normal(0, loud, (1280, 1000))
    model.get_layer("predictions").kernel.assign(kernel.astype(np.float32))
    saved = target.with_name("random.weights.h5")  # Keras wants this end
    model.save_weights(saved)
    saved.rename(target)


def jpeg(seed: int) -> bytes:
    """A photo of coarse noise."""
    target = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC).save(target, "JPEG")
    return target.getvalue()
