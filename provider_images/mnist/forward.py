"""The network of ``model.py`` in plain numpy, from the same weights: what runs where TensorFlow is not installed.

Weights stand in the order of ``model.weights`` in Keras: a block is its kernel, then gamma, beta, mean and variance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from provider_images.runtime.layers import Array, convolve, fold, pool_by_channel, relu, softmax

INPUT = (28, 28, 1)
CLASSES = 10

# Kernel size, filters and stride of each block.
_BLOCKS = ((5, 24, 1), (3, 32, 2), (3, 48, 1), (3, 64, 2), (3, 96, 1))
_FEATURES = 96
_SIDE = 7  # what 28 pixels are after two strides of 2


def shapes() -> list[tuple[int, ...]]:
    """The shape of each array of weights, in order."""
    found: list[tuple[int, ...]] = []
    channels = INPUT[2]
    for size, filters, _ in _BLOCKS:
        found += [(size, size, channels, filters), *[(filters,)] * 4]
        channels = filters
    found += [(_SIDE, _SIDE, _FEATURES, 1), *[(_FEATURES,)] * 4]
    return [*found, (_FEATURES, CLASSES), (CLASSES,)]


def network(weights: Sequence[Array]) -> Callable[[Array], Array]:
    """What answers one picture (28, 28, 1) with the probability of each digit (10)."""
    folded = [fold(weights[i], weights[i + 1 : i + 5]) for i in range(0, 5 * len(_BLOCKS), 5)]
    blocks = [(kernel, bias, stride) for (kernel, bias), (_, _, stride) in zip(folded, _BLOCKS, strict=True)]
    pool, normalisation = weights[-7][..., 0], weights[-6:-2]  # (7, 7, 96)
    pool, pool_bias = fold(pool, normalisation)
    dense, dense_bias = weights[-2:]

    def forward(picture: Array) -> Array:
        x = picture  # (28, 28, 1), then (28, 28, 24), (14, 14, 32), (14, 14, 48), (7, 7, 64), (7, 7, 96)
        for kernel, bias, stride in blocks:
            x = relu(convolve(x, kernel, bias, stride=stride))
        x = relu(pool_by_channel(x, pool) + pool_bias)  # (96)
        return softmax(x @ dense + dense_bias)  # (10)

    return forward
