"""Matterport's weights for COCO's 80 classes, mask_rcnn_coco.h5 (MIT), in our network.

The file was written by Keras 2 by ``save_weights``: a group for each layer, in it the arrays under their variables'
names, "conv1/conv1/kernel:0"; the layers of the nested region proposal network lie in its group,
"rpn_model/rpn_conv_shared/kernel:0".
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provider_images.mask_rcnn.config import COCO, COCO_PARAMETERS
from provider_images.mask_rcnn.model import MaskRCNN
from provider_images.runtime.hdf5 import check_hdf5
from provider_images.runtime.weights import WeightsError

Key = tuple[str, str]  # a layer and one of its variables


def load_matterport(path: Path) -> MaskRCNN:
    """Mask R-CNN with the weights of such a file. Raises WeightsError on any file that does not fit exactly."""
    model = MaskRCNN(COCO)
    wanted = model.named_layers()
    arrays = _read(path, wanted)
    for name, layer in wanted.items():
        for variable in layer.weights:
            array = arrays.pop((name, variable.name), None)
            if array is None:
                raise WeightsError(f"{name}/{variable.name} is not in the file")
            if array.shape != tuple(variable.shape):
                raise WeightsError(f"{name}/{variable.name} has shape {array.shape}, not {tuple(variable.shape)}")
            if not np.isfinite(array).all():
                raise WeightsError(f"{name}/{variable.name} holds NaN or infinity")
            variable.assign(array)
    if arrays:
        raise WeightsError(f"{'/'.join(next(iter(arrays)))} is not in the model")
    return model


def _read(path: Path, layers: Collection[str]) -> dict[Key, NDArray[np.float32]]:
    """Every array of a file, by its innermost group that names a layer and the variable's own name."""
    import h5py

    check_hdf5(path, 4 * COCO_PARAMETERS)
    arrays: dict[Key, NDArray[np.float32]] = {}

    def visit(place: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        *groups, variable = place.split("/")
        layer = next((group for group in reversed(groups) if group in layers), "/".join(groups))
        key = layer, variable.removesuffix(":0")
        if key in arrays:
            raise WeightsError(f"{'/'.join(key)} is twice in the file")
        arrays[key] = np.asarray(item[()], np.float32)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return arrays
