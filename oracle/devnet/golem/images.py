"""Images on this machine: checked and unpacked once, by digest, and shared by all providers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from oracle.errors import ConfigurationError, SibylError
from provider_images.builder import BuilderError, BuiltImage, read_descriptor, unpack

_DESCRIPTION = "image.json"


class ImageUnknown(SibylError):
    """A task package that names no image of this network."""


@dataclass(frozen=True, slots=True)
class Image:
    """An unpacked image: its root file system, and the paths of its volumes inside."""

    root: Path
    volumes: Sequence[str]


class ImageStore:
    """A folder of unpacked images, one below each SHA3-224 digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, package: str) -> Image:
        """The image of a task package ``hash:sha3:<digest>:<url>``. Raises ImageUnknown."""
        scheme, algorithm, digest, _ = [*package.split(":", 3), "", "", "", ""][:4]
        if scheme != "hash" or algorithm != "sha3" or not digest.isalnum():
            raise ImageUnknown(f"{package[:120]!r} is no task package with a SHA3 digest")
        home = self._folder / digest
        try:
            described = json.loads((home / _DESCRIPTION).read_text(encoding="utf-8"))
        except OSError:
            raise ImageUnknown(f"the image {digest} is not in this network; start it with --image") from None
        return Image(home / "root", tuple(described["volumes"]))

    def add(self, image: BuiltImage) -> None:
        """Unpack an image, unless it is here. Takes seconds. Raises ConfigurationError when it is damaged."""
        home = self._folder / image.sha3_224
        if (home / _DESCRIPTION).exists():
            return
        shutil.rmtree(home, ignore_errors=True)
        try:
            unpack(image.path, home / "root", sha3_224=image.sha3_224)
        except BuilderError as error:
            raise ConfigurationError(str(error), remedy=error.remedy) from error
        # Last and in one step, for what has a description is complete.
        fresh = home / f"{_DESCRIPTION}.new"
        try:
            fresh.write_text(json.dumps({"volumes": image.volumes}), encoding="utf-8")
            fresh.replace(home / _DESCRIPTION)
        except OSError as error:
            raise ConfigurationError(
                f"{fresh} cannot be written: {error.strerror}", remedy="See to the disk, then start again."
            ) from error

    def keep_only(self, digests: Collection[str]) -> None:
        """Remove what an earlier run unpacked and nobody names any more."""
        for home in self._folder.glob("*"):
            if home.name not in digests:
                shutil.rmtree(home, ignore_errors=True)


def read_image(descriptor: Path) -> BuiltImage:
    """The image of a descriptor. Raises ConfigurationError."""
    try:
        image = read_descriptor(descriptor)
    except BuilderError as error:
        raise ConfigurationError(str(error), remedy=error.remedy) from error
    if not image.path.is_file():
        raise ConfigurationError(f"the image {image.path} is not there", remedy="Build it again.")
    return image
