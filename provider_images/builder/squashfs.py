"""mksquashfs and unsquashfs: the system's, or the distribution's own package unpacked into .tools without root."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from provider_images.builder.commands import run
from provider_images.builder.debian import Packages
from provider_images.builder.errors import BuilderError, HostUnsupported
from provider_images.builder.places import CACHE, TOOLS

_PACKAGES = ("squashfs-tools", "liblzo2-2", "liblz4-1", "liblzma5", "libzstd1", "zlib1g")
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")
_WITHIN = 300.0
_SLOWEST = 1e6  # bytes of a folder that are packed in a second, at least
_BLOCK = 4096

# Every date in an image. Any fixed one will do; this is the first second of 2025.
_DATE = "1735689600"


def make_squashfs(root: Path, target: Path) -> None:
    """Pack a folder. Owner, dates, order and layout follow from its content alone. Raises BuilderError."""
    command, environment = _tool("mksquashfs")
    size = sum(path.lstat().st_size for path in root.rglob("*"))
    run(
        [
            *(command, root, target),
            # xz is the smallest of what Golem's virtual machines read. Larger blocks would save 1.4 MB more, and take
            # half as long again to pack.
            *("-comp", "xz", "-b", "256K"),
            *("-all-root", "-all-time", _DATE, "-mkfs-time", _DATE),
            *("-no-xattrs", "-no-exports", "-noappend", "-no-progress", "-quiet"),
        ],
        within=_WITHIN + size / _SLOWEST,
        environment=environment,
    )


def unpack_squashfs(image: Path, target: Path) -> None:
    """Unpack into a new folder. Raises BuilderError."""
    command, environment = _tool("unsquashfs")
    options = ("-no-progress", "-quiet", "-no-xattrs", "-dest")
    run([command, *options, target, image], within=_WITHIN, environment=environment)


def list_squashfs(image: Path) -> str:
    """Every file with mode, owner, size and date. Raises BuilderError."""
    command, environment = _tool("unsquashfs")
    return run([command, "-UTC", "-dest", "", "-lls", image], within=_WITHIN, environment=environment)


def unpacked_bytes(image: Path) -> int:
    """What the files of an image take on a disk of the usual blocks. Raises BuilderError."""
    sizes = (line.split(maxsplit=3)[2] for line in list_squashfs(image).splitlines() if line.startswith(("-", "d")))
    return sum(_BLOCK * max(1, -(-int(size) // _BLOCK)) for size in sizes)


def _tool(name: str) -> tuple[Path, Mapping[str, str]]:
    """Where a tool is, and the environment it needs. Raises BuilderError."""
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    if found := shutil.which(name, path=search):
        return Path(found), {}
    tool = TOOLS / "usr" / "bin" / name
    if not tool.exists():
        try:
            Packages(CACHE / "apt").unpack_tree(_PACKAGES, TOOLS)
        except HostUnsupported:
            raise BuilderError(f"{name} is not installed", remedy="Install squashfs-tools.") from None
    return tool, {"LD_LIBRARY_PATH": os.pathsep.join(str(TOOLS / folder) for folder in _LIBRARIES)}
