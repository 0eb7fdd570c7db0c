"""Train the MNIST CNN, measure it on digits it has not seen and write its weights and manifest.

``python -m provider_images.mnist.train --data DIR --out DIR`` repeats the shipped model: one seed fixes the split, the
first weights, the order and every distortion. Without ``--data`` the digits come from ``../shared/data/mnist`` where
that folder exists, else over the internet through Keras.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_images.mnist.draw import draw_digit
from provider_images.mnist.model import build
from provider_images.runtime.pictures import centre_digit
from provider_images.runtime.spec import SCHEMA
from provider_images.runtime.weights import read_weights, save_weights

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]  # (n, 28, 28) and (n,)

HERE = Path(__file__).parent
SHARED = Path(__file__).parents[3] / "shared" / "data" / "mnist"
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"

# Only the 10,000 digits that MNIST calls its test set can be had without the internet. They are split once more, and
# nothing is chosen by looking at the held-out part.
TRAINING, VALIDATION, HELD_OUT = 7_500, 500, 2_000
DRAWN, DRAWN_HELD_OUT = 2_000, 500
DRAWN_SEED, DRAWN_HELD_OUT_SEED = 1_000_000, 2_000_000
BATCH = 100


def load_digits(folder: Path | None) -> Digits:
    """MNIST's 10,000 test digits from a folder of IDX files, or over the internet when there is no folder."""
    if folder is None:
        import keras

        return keras.datasets.mnist.load_data()[1]  # type: ignore[no-any-return]
    images = gzip.decompress((folder / IMAGES).read_bytes())
    labels = gzip.decompress((folder / LABELS).read_bytes())
    return (
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8).astype(np.int64),
    )


def split(digits: Digits, seed: int) -> tuple[Digits, Digits, Digits]:
    """Training, validation and held-out digits; each part has the same share of every class."""
    images, labels = digits
    rng = np.random.default_rng(seed)
    # Rank each digit within its class, at random, as a fraction; cutting by that fraction is stratified.
    rank = np.empty(len(labels))
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.argsort(rank, kind="stable")
    ends = np.cumsum([TRAINING, VALIDATION, HELD_OUT])
    first, second, third = np.split(order, ends[:-1])
    return (images[first], labels[first]), (images[second], labels[second]), (images[third], labels[third])


def drawn_digits(count: int, seed: int) -> Digits:
    """Digits from our own pen, each class equally often, alternately as MNIST frames them and photographed on paper."""
    pictures = []
    for i in range(count):
        style: Any = "mnist" if i // 10 % 2 else "paper"
        picture = draw_digit(i % 10, seed + i // 10, style=style)
        pictures.append(centre_digit(np.asarray(picture), size=28, box=20))
    return np.stack(pictures), np.arange(count) % 10


def distort(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Rotate, scale, shear, shift and bend each picture, and change the pen's width: (n, 28, 28), 0 to 1."""
    n, side = images.shape[:2]
    angle = rng.normal(0, 0.14, n)
    shear = rng.normal(0, 0.15, n)
    zoom = np.exp(rng.normal(0, 0.09, (2, n)))
    cos, sin = np.cos(angle), np.sin(angle)
    # Rows map an output pixel to where it is read: (n, 2, 2).
    matrix = np.stack(
        [np.stack([zoom[0] * cos, zoom[0] * (shear - sin)], 1), np.stack([zoom[1] * sin, zoom[1] * cos], 1)], 1
    ).astype(np.float32)
    centre = (side - 1) / 2
    grid = np.mgrid[0:side, 0:side].reshape(2, -1).astype(np.float32) - np.float32(centre)  # (2, 784)
    shift = (centre + rng.normal(0, 1.0, (n, 2, 1))).astype(np.float32)
    where: NDArray[np.float32] = matrix @ grid + shift  # (n, 2, 784)
    # Elastic: a coarse random field, made smooth by one matrix product along each axis.
    knots = 6
    basis = np.exp(-0.5 * np.square((np.arange(side)[:, None] - np.linspace(0, side - 1, knots)) / 4.5))
    basis /= basis.sum(axis=1, keepdims=True)
    field = rng.normal(0, 1, (n, 2, knots, knots)) * rng.uniform(0, 4.0, (n, 1, 1, 1))
    where += (basis @ field @ basis.T).astype(np.float32).reshape(n, 2, -1)
    bent = _sample(images, where)
    # A pen's width: mix with the local maximum or minimum.
    wide = bent.copy()
    thin = bent.copy()
    for axis in (1, 2):
        for step in (-1, 1):
            moved = np.roll(bent, step, axis)
            np.maximum(wide, moved, out=wide)
            np.minimum(thin, moved, out=thin)
    amount = rng.uniform(-0.45, 0.7, (n, 1, 1)).astype(np.float32)
    target = np.where(amount > 0, wide, thin)
    return (bent + np.abs(amount) * (target - bent)).astype(np.float32)


def _sample(images: NDArray[np.float32], where: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bilinear reading of (n, 28, 28) at (n, 2, 784) positions; black outside."""
    n, side = images.shape[:2]
    wall = np.zeros((n, side + 2, side + 2), np.float32)
    wall[:, 1:-1, 1:-1] = images
    place = (where + 1).clip(0, side + 0.999)
    low = place.astype(np.int32)
    part = place - low.astype(np.float32)
    flat = wall.reshape(n, -1)
    width = side + 2
    corner = low[:, 0] * width + low[:, 1]
    y, x = part[:, 0], part[:, 1]

    def take(shift: int) -> NDArray[np.float32]:
        return np.take_along_axis(flat, corner + shift, axis=1)

    top = take(0) * (1 - x) + take(1) * x
    bottom = take(width) * (1 - x) + take(width + 1) * x
    read: NDArray[np.float32] = (top * (1 - y) + bottom * y).reshape(n, side, side)
    return read


def train(training: Digits, validation: Digits, *, epochs: int, seed: int) -> Any:
    """Fit the network and return it with the running average of its weights in place."""
    import keras

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = build()
    images, labels = training
    scaled = images.astype(np.float32) / np.float32(255)
    steps = len(images) // BATCH
    rate = keras.optimizers.schedules.CosineDecay(
        1e-4, steps * epochs - steps, warmup_target=3e-3, warmup_steps=steps, alpha=0.001
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=5e-3, use_ema=True, ema_momentum=0.995)
    model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    began = time.monotonic()
    for epoch in range(epochs):
        order = rng.permutation(len(images))
        seen = distort(scaled[order], rng)[..., None]
        history = model.fit(seen, labels[order], batch_size=BATCH, shuffle=False, verbose=0).history
        line = f"epoch {epoch + 1}/{epochs}  loss {history['loss'][0]:.4f}  accuracy {history['accuracy'][0]:.4f}"
        if (epoch + 1) % 5 == 0 or epoch + 1 == epochs:
            line += f"  validation {score(model, validation):.4f}"
        print(f"{line}  {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201 - progress for a person
    optimizer.finalize_variable_values(model.trainable_variables)
    return model


def score(model: Any, digits: Digits) -> float:
    """The share of digits whose most probable class is right."""
    images, labels = digits
    guessed = model.predict(images[..., None].astype(np.float32) / 255, batch_size=500, verbose=0).argmax(axis=1)
    return float((guessed == labels).mean())


def manifest(
    weights: bytes, *, parameters: int, command: str, seed: int, epochs: int, measured: dict[str, Any]
) -> dict[str, Any]:
    """The document to publish: what the model is, how to feed it and what it was measured to do."""
    import keras
    import tensorflow as tf

    digest = hashlib.sha256(weights).digest()
    # One raw block: IPFS splits files only above 256 KiB.
    if len(weights) > 256 * 1024:
        raise ValueError(f"{len(weights)} bytes of weights do not fit one IPFS block")
    cid = "b" + base64.b32encode(b"\x01\x55\x12\x20" + digest).decode().rstrip("=").lower()
    return {
        "schema": SCHEMA,
        "name": "mnist-cnn",
        "version": "1.0.0",
        "description": "Reads one handwritten digit.",
        "task": "classification",
        "engine": "keras",
        "family": "mnist",
        "weights": {"cid": cid, "sha256": digest.hex(), "bytes": len(weights), "format": "npz-float16"},
        "labels": [str(digit) for digit in range(10)],
        "input": {
            "height": 28,
            "width": 28,
            "channels": 1,
            "color": "gray",
            "fit": "digit",
            "box": 20,
            "range": [0, 1],
        },
        "output": {"top_k": 3},
        # The same weights on two machines differ by about 1e-6; a wrong answer differs by far more than this.
        "comparison": {"class": "tolerance", "epsilon": 0.001},
        "resources": {"memory_mb": 1024, "parameters": parameters},
        "licence": "MIT",
        "training": {
            "command": command,
            "data": "The 10,000 test digits of MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), and digits from the pen of "
            "provider_images/mnist/draw.py",
            "split": {
                "training": TRAINING,
                "validation": VALIDATION,
                "held_out": HELD_OUT,
                "drawn_training": DRAWN,
                "drawn_held_out": DRAWN_HELD_OUT,
                "how": "stratified by digit, cut by the seed; the held-out part is measured once, at the end",
            },
            "seed": seed,
            "epochs": epochs,
            "score": measured,
            "versions": {"keras": keras.__version__, "numpy": np.__version__, "tensorflow": tf.__version__},
        },
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, and write ``weights.npz`` and ``manifest.json``."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.mnist.train", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the IDX files of MNIST's test digits")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    folder = options.data or (SHARED if SHARED.is_dir() else None)
    training, validation, held_out = split(load_digits(folder), options.seed)
    drawn = drawn_digits(DRAWN, DRAWN_SEED)
    both = np.concatenate([training[0], drawn[0]]), np.concatenate([training[1], drawn[1]])
    model = train(both, validation, epochs=options.epochs, seed=options.seed)
    weights = save_weights(model.get_weights())
    # Measure what is shipped: the weights after rounding to float16.
    model.set_weights(read_weights(weights, [array.shape for array in model.get_weights()]))
    measured = {
        "held_out_top1": round(score(model, held_out), 5),
        "validation_top1": round(score(model, validation), 5),
        "drawn_top1": round(score(model, drawn_digits(DRAWN_HELD_OUT, DRAWN_HELD_OUT_SEED)), 5),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "weights.npz").write_bytes(weights)
    command = f"python -m provider_images.mnist.train --epochs {options.epochs} --seed {options.seed}"
    document = manifest(
        weights,
        parameters=model.count_params(),
        command=command,
        seed=options.seed,
        epochs=options.epochs,
        measured=measured,
    )
    if (shipped := json.loads((HERE / "manifest.json").read_bytes()))["training"]["seed"] == options.seed:
        # It is fitted to pictures, not to weights, and the seed says which; ``familiarity.py`` fits it anew.
        document["familiarity"] = shipped["familiarity"]
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (options.out / "manifest.json").write_text(text, encoding="utf-8")
    print(json.dumps({"weights_bytes": len(weights), **measured}))  # noqa: T201 - the command's result


if __name__ == "__main__":
    main()
