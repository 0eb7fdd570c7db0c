"""Builds a provider's image (.gvmi) without Docker: a root file system from packages, in squashfs, with its trailer.

``build_image`` makes one from a family's ``image.json`` and writes a descriptor next to it; ``compiled_model`` is what
it is given for a model whose weights were brought here. ``read_descriptor`` and ``unpack`` are for whoever runs an
image. The same packages give the same bytes.
"""

from provider_images.builder.build import build_image
from provider_images.builder.descriptor import BuiltImage, read_descriptor
from provider_images.builder.errors import BuilderError, HostUnsupported
from provider_images.builder.gvmi import unpack
from provider_images.builder.model import CompiledModel, compiled_model

__all__ = [
    "BuilderError",
    "BuiltImage",
    "CompiledModel",
    "HostUnsupported",
    "build_image",
    "compiled_model",
    "read_descriptor",
    "unpack",
]
