"""A Golem image of a few megabytes, made of this machine's shell and some small programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from provider_images.builder.descriptor import BuiltImage
from provider_images.builder.gvmi import append_trailer, container_config
from provider_images.builder.places import digest_file
from provider_images.builder.squashfs import make_squashfs

PROGRAMS = ("sh", "cat", "chmod", "cp", "dd", "env", "head", "id", "ln", "ls", "mkfifo", "mkdir", "sha256sum", "sleep")
PROGRAMS += ("touch", "unshare")
VOLUME = "/golem/work"


def make_root(root: Path) -> Path:
    """A root file system with ``PROGRAMS`` in /bin and the libraries they need."""
    for folder in ("bin", "etc", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None, name
        program = Path(found).resolve()
        shutil.copy(program, root / "bin" / name)
        told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for library in map(Path, re.findall(r"(/\S+) \(0x", told)):
            place = root / str(library).removeprefix("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                shutil.copy(library, place)
    return root


def make_image(folder: Path) -> BuiltImage:
    """The image and its descriptor in a folder."""
    file = folder / "tiny.gvmi"
    make_squashfs(make_root(folder / "root"), file)
    append_trailer(file, container_config([VOLUME]))
    image = BuiltImage(file, "tiny", digest_file(file, "sha3_224"), file.stat().st_size, (VOLUME,), {})
    image.write_descriptor()
    return image
