"""The manifest of each family that comes without weights: what ``models pull`` fills in once it has the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provider_images.applications.classes import labels
from provider_images.applications.table import Application, applications
from provider_images.vit import model as vit

_CROP = 0.875

# Of the weights, by module of keras.applications, as Keras stated them itself, model by model, in its documentation
# of version 2 (https://github.com/keras-team/keras, docs/templates/applications.md); the present page,
# https://keras.io/api/applications/, says nothing of licences.
_APACHE = "Apache-2.0, as Keras states (of https://github.com/tensorflow/models)"
_OXFORD = (
    "CC BY 4.0, as Keras states (Visual Geometry Group, Oxford: https://www.robots.ox.ac.uk/~vgg/research/very_deep/)"
)
_LICENCES = {
    "densenet": "BSD-3-Clause, as Keras states (Zhuang Liu: https://github.com/liuzhuang13/DenseNet)",
    "inception_resnet_v2": _APACHE,
    "inception_v3": _APACHE,
    "mobilenet": _APACHE,
    "mobilenet_v2": _APACHE,
    "nasnet": _APACHE,
    "resnet": "MIT, as Keras states (Kaiming He: https://github.com/KaimingHe/deep-residual-networks)",
    "resnet_v2": "BSD, as Keras states (Facebook: https://github.com/facebook/fb.resnet.torch)",
    "vgg16": _OXFORD,
    "vgg19": _OXFORD,
    "xception": "MIT, as Keras states (trained by its author)",
    # Keras says that the parameters come from there (the docstring of its functions), and the README there that the
    # project, whose models it lists, is released under the MIT licence.
    "convnext": "MIT, as their origin states (Meta: https://github.com/facebookresearch/ConvNeXt); not stated by Keras",
}
_UNSTATED = "not stated by the publisher: see https://keras.io/api/applications/"
# The model card: https://huggingface.co/google/vit-base-patch16-224
_VIT_LICENCE = "Apache-2.0 (Google: https://huggingface.co/google/vit-base-patch16-224)"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a family's official weights are: address, the digest that its publisher states ("md5:...", "sha256:..." or
    nothing), and the format that a manifest names.
    """

    url: str
    digest: str
    format: str


def sources() -> Mapping[str, Source]:
    """Every family whose weights have to be brought, by name."""
    keras = {family: Source(found.url, found.digest, "hdf5") for family, found in applications().items()}
    return {**keras, vit.FAMILY: Source(vit.WEIGHTS, "", "safetensors")}


def manifest_of(family: str, *, sha256: str, size: int, cid: str) -> dict[str, Any]:
    """A family's manifest for weights with this sha256 (hex), these bytes and this CID. Raises KeyError."""
    form = sources()[family].format
    body = _vit() if family == vit.FAMILY else _application(applications()[family])
    return {
        "schema": "sibyl/model/1",
        "name": family,
        "version": "1.0.0",
        "task": "classification",
        "engine": "keras",
        "family": family,
        "comparison": {"class": "tolerance", "epsilon": 0.001},
        "labels": labels(),
        "output": {"shape": [len(labels())], "top_k": 5, "values": "probabilities"},
        "weights": {"bytes": size, "cid": cid, "format": form, "sha256": sha256},
        **body,
    }


def _application(found: Application) -> dict[str, Any]:
    # Two of the caffe models' habits in one: blue comes first, and the mean of each channel is taken away.
    order = "bgr" if found.mode == "caffe" else "rgb"
    declared = _input(found.size, found.mode, order) | {"crop": _CROP, "fit": "crop", "resize": found.resize}
    return {
        "description": f"Names what a photo shows, one of ImageNet's 1000 classes: {found.function} of Keras.",
        "input": declared | ({"range": [0, 255]} if found.mode == "range" else {}),
        "licence": _LICENCES.get(found.module, _UNSTATED),
        "resources": {"memory_mb": _memory(found.parameters), "parameters": found.parameters},
        "training": {"data": "ImageNet ILSVRC 2012", "source": found.url},
    }


def _vit() -> dict[str, Any]:
    return {
        "description": "Names what a photo shows, one of ImageNet's 1000 classes: ViT-B/16, the vision transformer.",
        "input": _input(vit.SIZE, "tf", "rgb") | {"fit": "stretch", "resize": "bilinear"},
        "licence": _VIT_LICENCE,
        "resources": {"memory_mb": _memory(vit.PARAMETERS), "parameters": vit.PARAMETERS},
        "training": {"data": "ImageNet-21k, then ImageNet ILSVRC 2012", "source": vit.WEIGHTS},
    }


def _input(size: int, mode: str, order: str) -> dict[str, Any]:
    return {"channels": 3, "color": "rgb", "height": size, "mode": mode, "order": order, "width": size}


def _memory(parameters: int) -> int:
    """Megabytes: the engine, and weights twice while they load."""
    return 1500 + parameters * 12 // 2**20
