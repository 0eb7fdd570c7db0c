"""ViT-B/16 (Dosovitskiy et al., 2020): a transformer over the 196 patches of a picture and a token that answers.

Input (n, 224, 224, 3), float32, RGB from -1 to 1. Output (n, classes), float32, probabilities.
Letters of shapes: n pictures, t tokens, w the width of a token, h heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FAMILY = "vit-b16"
SIZE, PATCH, CLASSES = 224, 16, 1000
DEPTH, WIDTH, HEADS, HIDDEN = 12, 768, 12, 3072
PARAMETERS = 86_567_656
WEIGHTS = "https://huggingface.co/google/vit-base-patch16-224/resolve/main/model.safetensors"

_EPSILON = 1e-12  # of the layer normalisations, as it was trained


def build(
    *,
    size: int = SIZE,
    patch: int = PATCH,
    depth: int = DEPTH,
    width: int = WIDTH,
    heads: int = HEADS,
    hidden: int = HIDDEN,
    classes: int = CLASSES,
) -> Any:
    """The untrained network as a ``keras.Model``; the defaults are ViT-B/16 at 224 pixels."""
    import keras
    from keras import layers, ops

    class Tokens(layers.Layer):  # type: ignore[misc]
        """Patches (n, side, side, w) in a row behind the answering token, each with its place: (n, t, w)."""

        def build(self, shape: tuple[int, ...]) -> None:
            self.token = self.add_weight(shape=(1, 1, width), initializer="zeros", name="token")
            self.place = self.add_weight(shape=(1, shape[1] * shape[2] + 1, width), name="place")

        def call(self, patches: Any) -> Any:
            count = ops.shape(patches)[0]
            row = ops.reshape(patches, (count, -1, width))
            return ops.concatenate([ops.repeat(self.token, count, axis=0), row], axis=1) + self.place

    def attend(x: Any, name: str) -> Any:
        def heads_of(part: str) -> Any:
            row = layers.Dense(width, name=f"{name}_{part}")(x)
            return layers.Permute((2, 1, 3))(layers.Reshape((-1, heads, width // heads))(row))  # (n, h, t, w / h)

        query, key, value = heads_of("query"), heads_of("key"), heads_of("value")
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / (width // heads) ** 0.5  # (n, h, t, t)
        mixed = ops.matmul(ops.softmax(scores), value)
        return layers.Reshape((-1, width))(layers.Permute((2, 1, 3))(mixed))  # (n, t, w)

    picture = keras.Input((size, size, 3))
    x = Tokens(name="tokens")(layers.Conv2D(width, patch, strides=patch, name="patches")(picture))
    for i in range(depth):
        block = f"block{i}"
        y = layers.LayerNormalization(epsilon=_EPSILON, name=f"{block}_before")(x)
        x = x + layers.Dense(width, name=f"{block}_attended")(attend(y, block))
        y = layers.LayerNormalization(epsilon=_EPSILON, name=f"{block}_after")(x)
        y = layers.Dense(hidden, name=f"{block}_widened")(y)
        # The exact gelu, written out: other engines know erf, not every one knows Keras' gelu.
        y = 0.5 * y * (1 + ops.erf(y / 2**0.5))
        x = x + layers.Dense(width, name=f"{block}_narrowed")(y)
    x = layers.LayerNormalization(epsilon=_EPSILON, name="last")(x)
    probabilities = layers.Dense(classes, activation="softmax", name="classes")(x[:, 0])
    return keras.Model(picture, probabilities, name="vit")


def load_tensors(model: Any, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Fill a model of ``build`` with tensors by the names of the public checkpoints.

    Raises ValueError when one is missing, has another shape, or is left over.
    """
    left = {name for name in tensors if not name.startswith("vit.pooler.")}  # part of some files, not of a classifier
    for layer in model.layers:
        for variable in layer.weights:
            name, turn = _source(layer.name, variable.name)
            if name not in tensors:
                raise ValueError(f"the tensor {name} is missing")
            value = turn(tensors[name])
            if value.shape != tuple(variable.shape):
                raise ValueError(f"the tensor {name} has shape {tensors[name].shape}, which does not fit")
            variable.assign(value)
            left.discard(name)
    if left:
        raise ValueError(f"the tensor {min(left)} belongs to no layer")


Turn = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_PLACES = {
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "attended": "attention.output.dense",
    "widened": "intermediate.dense",
    "narrowed": "output.dense",
    "before": "layernorm_before",
    "after": "layernorm_after",
}
_ENDS = {
    "patches": "vit.embeddings.patch_embeddings.projection",
    "last": "vit.layernorm",
    "classes": "classifier",
}
_PARTS = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}


def _source(layer: str, variable: str) -> tuple[str, Turn]:
    """The checkpoint's name of a layer's variable, and how its axes turn into ours."""
    if layer == "tokens":
        return f"vit.embeddings.{'cls_token' if variable == 'token' else 'position_embeddings'}", _same
    block, _, part = layer.partition("_")
    if part:
        place = f"vit.encoder.layer.{block.removeprefix('block')}.{_PLACES[part]}"
    else:
        ends = {
            "patches": "vit.embeddings.patch_embeddings.projection",
            "last": "vit.layernorm",
            "classes": "classifier",
        }
        place = ends[layer]
    turn: Turn = _same
    if variable == "kernel":
        turn = _from_channels_first if layer == "patches" else np.transpose
    return f"{place}.{_PARTS[variable]}", turn


def _same(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    return tensor


def _from_channels_first(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """(out, in, height, width) as (height, width, in, out)."""
    return np.transpose(kernel, (2, 3, 1, 0))
