"""The MNIST CNN: five convolutions, a learnt pooling and one dense layer, about 111,000 parameters.

Input (n, 28, 28, 1), float32, 0 = paper, 1 = ink. Output (n, 10), float32, the probability of each digit.
"""

from __future__ import annotations

from typing import Any


def build() -> Any:
    """The untrained network as a ``keras.Model``."""
    import keras
    from keras import layers

    def block(x: Any, filters: int, size: int, stride: int = 1) -> Any:
        # Batch normalisation supplies the offset, so the convolution has no bias of its own.
        x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.ReLU()(x)

    picture = keras.Input((28, 28, 1))
    x = block(picture, 24, 5)  # (n, 28, 28, 24)
    x = block(x, 32, 3, stride=2)  # (n, 14, 14, 32)
    x = block(x, 48, 3)  # (n, 14, 14, 48)
    x = block(x, 64, 3, stride=2)  # (n, 7, 7, 64)
    x = block(x, 96, 3)  # (n, 7, 7, 96)
    # Where on the page a stroke lies matters for a centred digit, so the pooling is learnt, not an average.
    x = layers.DepthwiseConv2D(7, use_bias=False)(x)  # (n, 1, 1, 96)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Flatten()(layers.ReLU()(x))  # (n, 96)
    x = layers.Dropout(0.3)(x)
    probabilities = layers.Dense(10, activation="softmax")(x)  # (n, 10)
    return keras.Model(picture, probabilities, name="mnist")
