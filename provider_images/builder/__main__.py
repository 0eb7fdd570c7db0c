"""``python -m provider_images.builder FAMILY`` builds an image into build/images and says what came of it.

A classifier whose weights were brought here, by ``sibyl models pull``: ``applications --model DIR``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from provider_images.builder.build import build_image
from provider_images.builder.errors import BuilderError
from provider_images.builder.gvmi import unpack
from provider_images.builder.model import compiled_model
from provider_images.builder.places import IMAGES
from provider_images.builder.squashfs import list_squashfs


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the image lies there, 1 with a reason and a remedy on stderr."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.builder", description=__doc__)
    parser.add_argument("family", help="a folder of provider_images with an image.json")
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="of `applications`: the folder of a model that was brought here, its manifest.json and its weights",
    )
    parser.add_argument(
        "--compiled",
        type=Path,
        metavar="DIR",
        help="where the model is compiled for OpenVINO, or will be; the folder `compiled` in the model's, unless given",
    )
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the image and its descriptor")
    parser.add_argument("--force", action="store_true", help="build anew, with the distribution's packages of today")
    parser.add_argument("--list", action="store_true", help="print every file of the image")
    parser.add_argument("--unpack", type=Path, metavar="DIR", help="check the image and unpack it into a new folder")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        model = None if options.model is None else compiled_model(options.model, options.compiled)
        image = build_image(options.family, options.out, force=options.force, model=model)
        seconds = time.monotonic() - began
        if options.list:
            sys.stdout.write(list_squashfs(image.path))
        if options.unpack:
            unpack(image.path, options.unpack)
    except BuilderError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return 1
    sys.stdout.write(
        f"{image.path}\n{image.bytes / 1e6:.1f} MB ({image.bytes} bytes), {seconds:.1f} s\nsha3:{image.sha3_224}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
