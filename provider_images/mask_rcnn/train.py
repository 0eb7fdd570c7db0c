"""Train the small Mask R-CNN on scenes that are drawn while it learns, for as many minutes as it is given.

``KERAS_BACKEND=jax python -m provider_images.mask_rcnn.train --minutes 8 --out DIR`` on a GPU is how the shipped
weights came about; any Keras backend and a CPU will do, with more minutes. Without ``--data`` the digits come from
``../shared/data/mnist`` where that folder exists, else over the internet through Keras; they are split as the MNIST
family splits them, and the held-out digits stay held out. The seed fixes the split, the first weights and every
scene; how many scenes are seen depends on the machine, so two runs do not give the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_images.mask_rcnn.manifests import HERE, small_manifest, write
from provider_images.mask_rcnn.scenes import OBJECTS, SIDE, scene
from provider_images.mnist.train import HELD_OUT, SHARED, TRAINING, VALIDATION, Digits, distort, load_digits, split
from provider_images.runtime.weights import save_weights

TRAINING_SEED = 1
SPLIT_SEED = 1  # that of the MNIST family
RATE, WEIGHT_DECAY, CLIP = 2.5e-3, 0.02, 5.0
WARM_UP = 300  # steps
_BLOCK = 500  # scenes between two distortions of the digits
_LARGEST_VARIANCE = 50_000.0  # float16 ends at 65,504


class Ring:
    """Scenes in memory that processes share: painters replace the oldest, the trainer picks at random.

    Neither waits for the other. A scene that is picked while it is being replaced is half of each: one in thousands.
    """

    def __init__(self, digits: Digits, *, painters: int, size: int) -> None:
        """Start the painters. Must come before anything that starts threads, Keras included: they are forks."""
        self._size = size // painters * painters
        self.pictures = _shared(self._size, (SIDE, SIDE, 3), np.uint8)
        self.owners = _shared(self._size, (SIDE, SIDE), np.uint8)
        self.boxes = _shared(self._size, (OBJECTS, 4), np.float32)
        self.classes = _shared(self._size, (OBJECTS,), np.int32)
        self._painted = _shared(painters, (1,), np.int64)  # scenes by each painter
        context = multiprocessing.get_context("fork")
        self._painters = [
            context.Process(target=self._paint, args=(digits, i, painters), daemon=True) for i in range(painters)
        ]
        for painter in self._painters:
            painter.start()

    def _paint(self, digits: Digits, painter: int, painters: int) -> None:
        images, labels = digits
        own = self._size // painters
        for block in range(1_000_000_000):
            rng = np.random.default_rng([TRAINING_SEED, painter, block])
            chosen = rng.integers(0, len(images), 2 * _BLOCK)
            bent = distort(images[chosen].astype(np.float32) / np.float32(255), rng)
            pool = (bent * 255).round().clip(0, 255).astype(np.uint8)
            for i in range(block * _BLOCK, (block + 1) * _BLOCK):
                slot = painter * own + i % own
                drawn = scene(pool, labels[chosen], TRAINING_SEED, i * painters + painter)
                self.pictures[slot], self.owners[slot] = drawn.picture, drawn.owner
                self.boxes[slot], self.classes[slot] = drawn.boxes, drawn.classes
                self._painted[painter, 0] = i + 1

    @property
    def painted(self) -> int:
        """Scenes drawn so far."""
        return int(self._painted.sum())

    def batches(self, batch: int, seed: int) -> Iterator[tuple[dict[str, NDArray[Any]]]]:
        """Batches without end, as soon as there are some scenes. Raises RuntimeError when painters have died."""
        rng = np.random.default_rng(seed)
        deadline = time.monotonic() + 120
        while self._painted.min() * len(self._painted) < 4 * batch:
            if time.monotonic() > deadline:
                raise RuntimeError("no scenes after 120 seconds")
            time.sleep(0.05)
        own = self._size // len(self._painted)
        while True:
            if not any(painter.is_alive() for painter in self._painters):
                raise RuntimeError("no painter is alive")
            painter = rng.integers(0, len(self._painted), batch)
            have = np.minimum(self._painted[painter, 0], own)
            slot = painter * own + (rng.random(batch) * have).astype(np.int64)
            yield (
                {
                    "picture": self.pictures[slot],
                    "owner": self.owners[slot],
                    "boxes": self.boxes[slot],
                    "classes": self.classes[slot],
                },
            )

    def close(self) -> None:
        """Stop the painters."""
        for painter in self._painters:
            painter.terminate()
            painter.join(10)


def _shared(count: int, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """An array in memory that forks share."""
    size = count * math.prod(shape) * np.dtype(kind).itemsize
    return np.frombuffer(mmap.mmap(-1, size), kind).reshape(count, *shape)


def rate_at(step: int, done: float) -> float:
    """The learning rate: up over the first steps, then down along a cosine over the time there is (0 to 1)."""
    return RATE * min(1.0, (step + 1) / WARM_UP) * (0.002 + 0.998 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, done))))


def train(
    ring: Ring, *, until: float, batch: int, round_steps: int, seed: int, mixed: bool, out: Path
) -> tuple[Any, int]:
    """Fit until that moment of ``time.monotonic()``; the model and the steps. Weights are saved every minute.

    Raises FloatingPointError when learning has diverged.
    """
    import keras

    from provider_images.mask_rcnn.config import SMALL
    from provider_images.mask_rcnn.learn import Learner
    from provider_images.mask_rcnn.model import MaskRCNN

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    model = MaskRCNN(SMALL, frozen_norm=False)
    learner = Learner(model, batch=batch, height=SIDE, width=SIDE, seed=seed)
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    learner.compile(optimizer)

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        """A round is one of Keras' epochs: the rate changes between rounds, by the time that has passed."""

        began: float | None = None  # when the first round, which compiles, was over
        saved = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            now = time.monotonic()
            done = 0.0 if self.began is None else (now - self.began) / max(1.0, until - self.began)
            self.rate = rate_at(epoch * round_steps, done)
            optimizer.learning_rate = self.rate
            self.round = now

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            now = time.monotonic()
            self.began = self.began or now
            line = {
                "step": (epoch + 1) * round_steps,
                "left_s": round(until - now, 1),
                "rate": round(self.rate, 6),
                "pictures_per_second": round(batch * round_steps / (now - self.round)),
                "painted": ring.painted,
                **{name: round(float(value), 4) for name, value in (logs or {}).items()},
            }
            print(json.dumps(line), flush=True)  # noqa: T201 - progress for a person
            if not math.isfinite(line["loss"]):
                raise FloatingPointError("the loss is no longer a number: train again with a lower rate")
            # The next round must not end too late.
            if now + (now - self.round) * 1.1 > until and epoch > 0:
                self.model.stop_training = True
            elif now - self.saved > 60:
                self.saved = now
                save(model, out)

    learner.fit(
        ring.batches(batch, seed),
        steps_per_epoch=round_steps,
        epochs=10**9,
        shuffle=False,
        callbacks=[Clock()],
        verbose=0,
    )
    return model, int(optimizer.iterations)


def storable(model: Any) -> list[NDArray[np.float32]]:
    """The small model's arrays in order, none too large for float16. Raises FloatingPointError when one still is.

    A channel whose variance is too large is scaled down together with it, by a power of two: normalisation, whose
    epsilon is nothing beside such a variance, takes that out again.
    """
    arrays: dict[str, NDArray[np.float32]] = {v.path: v.numpy().astype(np.float32) for v in model.weights}
    _check_size(arrays, float(np.finfo(np.float32).max))
    for path in [path for path in arrays if path.endswith("/moving_variance")]:
        norm = path.removesuffix("/moving_variance")
        conv = norm.replace("_bn", "_conv")
        excess = np.maximum(arrays[path] / _LARGEST_VARIANCE, 1)
        scale = np.exp2(-np.ceil(np.log2(excess) / 2))  # (channels,), of the square roots
        arrays[path] *= scale**2
        for part in (f"{norm}/moving_mean", f"{conv}/kernel", f"{conv}/bias"):
            if part in arrays:
                arrays[part] *= scale
    _check_size(arrays, float(np.finfo(np.float16).max))
    return list(arrays.values())


def _check_size(arrays: Mapping[str, NDArray[np.float32]], most: float) -> None:
    for path, array in arrays.items():
        if not (np.abs(array) <= most).all():
            raise FloatingPointError(f"{path} does not fit float16: train again with a lower rate")


def save(model: Any, out: Path) -> bytes:
    """Write ``weights.npz`` in one move and return its bytes. Raises FloatingPointError."""
    data = save_weights(storable(model))
    part = out / "weights.npz.part"
    part.write_bytes(data)
    part.replace(out / "weights.npz")
    return data


def record(options: argparse.Namespace, *, steps: int, scenes: int) -> dict[str, Any]:
    """What the manifest says of a training; ``evaluate --record`` adds what it came to."""
    import keras

    return {
        "batch": options.batch,
        "command": f"python -m provider_images.mask_rcnn.train --minutes {options.minutes:g} --seed {options.seed}",
        "data": "Scenes from provider_images/mask_rcnn/scenes.py, drawn while it learnt, with digits of the 10,000 "
        "test digits of MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0)",
        "scenes": scenes,
        "seed": options.seed,
        "split": {
            "digits_held_out": HELD_OUT,
            "digits_training": TRAINING,
            "digits_validation": VALIDATION,
            "how": f"digits as the MNIST family splits them, by seed {SPLIT_SEED}; scenes with the held-out digits are "
            "measured once, at the end",
        },
        "steps": steps,
        "versions": {"training": {"backend": keras.backend.backend(), "keras": keras.__version__}},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write ``weights.npz`` and ``manifest.json``."""
    began = time.monotonic()
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="python -m provider_images.mask_rcnn.train", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with the IDX files of MNIST's test digits")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--minutes", type=float, required=True, help="of all that this command does")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--round", type=int, default=50, help="steps with one learning rate")
    parser.add_argument("--painters", type=int, default=max(1, cores - 2), help="processes that draw scenes")
    parser.add_argument("--ring", type=int, default=24_000, help="scenes kept")
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    parser.add_argument("--seed", type=int, default=TRAINING_SEED)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    folder = options.data or (SHARED if SHARED.is_dir() else None)
    training, _, _ = split(load_digits(folder), SPLIT_SEED)
    ring = Ring(training, painters=options.painters, size=options.ring)
    try:
        model, steps = train(
            ring,
            until=began + 60 * options.minutes - 5,
            batch=options.batch,
            round_steps=options.round,
            seed=options.seed,
            mixed=not options.float32,
            out=options.out,
        )
        data = save(model, options.out)
        parameters = sum(network.count_params() for network in model.networks)
        told = record(options, steps=steps, scenes=ring.painted)
        write(small_manifest(data, parameters=parameters, training=told), options.out / "manifest.json")
        print(json.dumps({"weights_bytes": len(data), "scenes": ring.painted}))  # noqa: T201 - the command's result
    finally:
        ring.close()


if __name__ == "__main__":
    main()
