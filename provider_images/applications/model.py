"""Every classifier of keras.applications as its official weights for ImageNet need it: 1000 probabilities a picture."""

from __future__ import annotations

from typing import Any

from provider_images.applications.table import application

_DEVIATION = (0.229, 0.224, 0.225)  # of ImageNet's channels


def build(family: str) -> Any:
    """The untrained network of a family as a ``keras.Model``, for pictures (n, size, size, 3) as ``mode`` scales them.

    Raises KeyError for a family that is not in the table.
    """
    import keras

    found = application(family)
    network = getattr(keras.applications, found.function)
    model = network(weights=None, input_shape=(found.size, found.size, 3))
    return keras.models.clone_model(model, call_function=_as_trained) if found.module == "efficientnet" else model


def _as_trained(layer: Any, *inputs: Any, **options: Any) -> Any:
    """Call a layer of EfficientNet, and after its normalisation divide by the root of the deviation.

    keras.applications has that layer, too, but only in a network whose weights it fetches itself.
    """
    from keras import layers

    outputs = layer(*inputs, **options)
    if isinstance(layer, layers.Normalization):
        return layers.Rescaling([1 / deviation**0.5 for deviation in _DEVIATION])(outputs)
    return outputs
