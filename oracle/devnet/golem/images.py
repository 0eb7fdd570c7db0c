"""Images on this machine: fetched once by digest, checked, unpacked once, shared by all providers."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oracle.errors import SibylError

MAX_IMAGE: Final = 4 * 1024**3
_BLOCK = 1024 * 1024
_CALL_SECONDS = 60.0
_DESCRIPTION = "image.json"


class ImageUnusable(SibylError):
    """An image cannot be fetched, is not what its digest says, or cannot be unpacked."""


@dataclass(frozen=True, slots=True)
class Image:
    """An unpacked image: its root file system, and the paths of its volumes inside."""

    root: Path
    volumes: Sequence[str]


class ImageStore:
    """A folder of unpacked images, one below each SHA3-224 digest. Several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, package: str) -> Image:
        """The image of a task package ``hash:sha3:<digest>:<url>``. Takes as long as it takes. Raises ImageUnusable."""
        scheme, algorithm, digest, url = [*package.split(":", 3), "", "", "", ""][:4]
        if scheme != "hash" or algorithm != "sha3" or len(digest) != 56 or not digest.isalnum():
            raise ImageUnusable(f"{package[:120]} is no task package with a SHA3-224 digest")
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked(digest):
            known = self._known(digest)
            return known if known is not None else self._add(digest, url)

    def add(self, digest: str, root: Path, volumes: Sequence[str]) -> None:
        """Move an unpacked root file system in under a digest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # In one step, and last, for what has a description is complete.
        home = self._folder / digest
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        root.rename(home / "root")
        fresh = home / "image.new"
        fresh.write_text(json.dumps({"volumes": list(volumes)}), encoding="utf-8")
        fresh.replace(home / _DESCRIPTION)

    def _known(self, digest: str) -> Image | None:
        home = self._folder / digest
        try:
            described = json.loads((home / _DESCRIPTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return Image(home / "root", tuple(described["volumes"]))

    def _add(self, digest: str, url: str) -> Image:
        raise ImageUnusable(f"the image {digest} is not here")

    @contextlib.contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        """Only one process fetches an image; the others wait for it."""
        descriptor = os.open(self._folder / f"{digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
