"""The layers of a small network as plain numpy, for images in which TensorFlow has no room.

Everything is float32. One picture at a time, (height, width, channels), so that an answer cannot depend on its company.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.float32]

_EPSILON = 1e-3  # what Keras adds to a variance


def fold(kernel: Array, normalisation: Sequence[Array], *, bias: Array | None = None) -> tuple[Array, Array]:
    """A kernel (..., o), with its bias (o) or without, and the batch normalisation after it, as one kernel and bias.

    ``normalisation`` is gamma, beta, mean and variance, (o) each. Float64 within, so that folding costs no accuracy.
    """
    gamma, beta, mean, variance = (array.astype(np.float64) for array in normalisation)
    scale = gamma / np.sqrt(variance + _EPSILON)
    shift = mean if bias is None else mean - bias
    return (kernel * scale).astype(np.float32), (beta - shift * scale).astype(np.float32)


def convolve(picture: Array, kernel: Array, bias: Array, *, stride: int = 1) -> Array:
    """A convolution with TensorFlow's "same" padding: (h, w, i) by (k, k, i, o) gives (h', w', o), h' = h / stride."""
    size, channels = kernel.shape[0], kernel.shape[3]
    if size == 1:
        pixels = picture[::stride, ::stride]
        flat: Array = pixels.reshape(-1, pixels.shape[2]) @ kernel[0, 0] + bias
        return flat.reshape(*pixels.shape[:2], channels)
    padded = np.pad(picture, (*(_same(side, size, stride) for side in picture.shape[:2]), (0, 0)))
    depth = picture.shape[2]
    # A window's row is one run of k * i floats, which copies much faster than k runs of i would.
    lines = padded.reshape(padded.shape[0], -1)  # (h + padding, (w + padding) * i)
    windows = sliding_window_view(lines, (size, size * depth))[::stride, :: stride * depth]  # (h', w', k, k * i)
    height, width = windows.shape[:2]
    rows = windows.reshape(height * width, -1)  # one row of k * k * i for each output pixel
    answer: Array = rows @ kernel.reshape(-1, channels) + bias
    return answer.reshape(height, width, channels)


def _same(side: int, size: int, stride: int) -> tuple[int, int]:
    """How many zeros go before and behind a side; the odd one goes behind."""
    missing = max(0, (-(-side // stride) - 1) * stride + size - side)
    return missing // 2, missing - missing // 2


def enlarge(picture: Array) -> Array:
    """Each pixel as four: (h, w, c) gives (2h, 2w, c)."""
    return picture.repeat(2, axis=0).repeat(2, axis=1)


def pool_by_channel(picture: Array, kernel: Array) -> Array:
    """A depthwise convolution as large as its picture, so each channel's weighted sum: two (h, w, c) give (c)."""
    total: Array = (picture * kernel).sum(axis=(0, 1), dtype=np.float32)
    return total


def relu(values: Array) -> Array:
    """Nothing below zero."""
    return np.maximum(values, np.float32(0))


def softmax(values: Array) -> Array:
    """Values (n) as a distribution."""
    powers = np.exp(values - values.max())
    distribution: Array = powers / powers.sum()
    return distribution
