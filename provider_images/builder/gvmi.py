"""The .gvmi file: a squashfs image and a trailer, as Golem's own tools write and read it.

The trailer is the container's configuration in JSON between its CRC-32 (4 bytes, little-endian) and its length
(8 decimal digits).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provider_images.builder.descriptor import read_descriptor
from provider_images.builder.errors import BuilderError
from provider_images.builder.places import digest_file
from provider_images.builder.squashfs import unpack_squashfs, unpacked_bytes

_LENGTH_DIGITS = 8
_CRC_BYTES = 4
_MAX_CONFIG = 1024 * 1024
_SQUASHFS_MAGIC = b"hsqs"


def container_config(volumes: Sequence[str]) -> dict[str, Any]:
    """The part of Docker's container configuration that a provider reads."""
    return {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "Volumes": {volume: {} for volume in volumes},
        "WorkingDir": "/",
    }


def append_trailer(image: Path, config: dict[str, Any]) -> None:
    """Make an image of a squashfs file. Raises OSError."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
    with image.open("ab") as file:
        file.write(zlib.crc32(text).to_bytes(_CRC_BYTES, "little") + text + f"{len(text):0{_LENGTH_DIGITS}d}".encode())


def read_trailer(image: Path) -> dict[str, Any]:
    """The container's configuration. Raises BuilderError when the file is not a sound image."""
    try:
        with image.open("rb") as file:
            magic = file.read(len(_SQUASHFS_MAGIC))
            size = file.seek(-_LENGTH_DIGITS, os.SEEK_END) + _LENGTH_DIGITS
            digits = file.read(_LENGTH_DIGITS)
            length = int(digits) if digits.isdigit() else -1
            if magic != _SQUASHFS_MAGIC or not 0 < length <= min(_MAX_CONFIG, size - _CRC_BYTES - _LENGTH_DIGITS):
                raise BuilderError(f"{image} is not a Golem image", remedy="Build or download it again.")
            file.seek(-_LENGTH_DIGITS - length - _CRC_BYTES, os.SEEK_END)
            expected = int.from_bytes(file.read(_CRC_BYTES), "little")
            text = file.read(length)
    except OSError as error:
        raise BuilderError(f"{image} cannot be read: {error.strerror}", remedy="Build or download it again.") from error
    if zlib.crc32(text) != expected:
        raise BuilderError(f"the trailer of {image} is damaged", remedy="Build or download it again.")
    try:
        config: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise BuilderError(f"the trailer of {image} is not JSON", remedy="Build or download it again.") from error
    return config


def unpack(image: Path, target: Path, *, sha3_224: str | None = None) -> None:
    """Write an image's files into ``target``, which must not exist yet; it appears complete or not at all.

    The digest must be the one given, or the one in the descriptor next to the image. Raises BuilderError, which names
    the space that is needed where the disk is full.
    """
    expected = sha3_224 or read_descriptor(image.with_suffix(".json")).sha3_224
    read_trailer(image)
    if digest_file(image, "sha3_224") != expected:
        raise BuilderError(f"the digest of {image} is not {expected}", remedy="Build or download it again.")
    if target.exists():
        raise BuilderError(f"{target} exists already", remedy="Remove it, or unpack somewhere else.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            unpack_squashfs(image, unfinished / "root")
            (unfinished / "root").rename(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except (BuilderError, OSError) as error:
        raise _explained(error, image, target) from error


def _explained(error: BuilderError | OSError, image: Path, target: Path) -> BuilderError:
    """Why an image cannot be unpacked, when all that was written is gone again."""
    try:
        needed, free = unpacked_bytes(image), shutil.disk_usage(target.parent).free
    except (BuilderError, OSError):
        needed = free = 0
    if free < needed:
        return BuilderError(
            f"{image.name} needs {needed / 1e6:.0f} MB below {target.parent}, and {free / 1e6:.0f} MB are free",
            remedy="Free that space, or choose a folder on another disk; then start again.",
        )
    if isinstance(error, BuilderError):
        return error
    return BuilderError(f"{image.name} cannot be unpacked: {error}", remedy="See to the disk, then start again.")
