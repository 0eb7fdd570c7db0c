"""See that an image's own Python finds all that a model process imports, so that no recipe leaves out too much."""

from __future__ import annotations

import importlib

from PIL import Image, features

from provider_images.runtime.engines import ModelShelf
from provider_images.runtime.measure import measure
from provider_images.runtime.pictures import FORMATS
from provider_images.runtime.resident import COMPILED

# What the two commands import that the lines above do not.
_COMMANDS = ("client", "resident", "task", "__main__")


def main() -> None:
    """Import it all, look for the decoders, and answer with a built-in model."""
    for name in _COMMANDS:
        importlib.import_module(f"provider_images.runtime.{name}")
    Image.init()
    if missing := [name for name in FORMATS if name not in Image.OPEN]:
        raise SystemExit(f"no decoder of {', '.join(missing)}")
    if not (features.check("jpg") and features.check("webp") and features.check("zlib")):
        raise SystemExit("a decoder lacks its library")
    measure(ModelShelf(threads=1, capacity=1, compiled=COMPILED), began=0.0)


if __name__ == "__main__":
    main()
