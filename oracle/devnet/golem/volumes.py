"""Files in the volumes of a sandbox, reached from outside: a job may have put links there, and none is followed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from oracle.errors import SibylError

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class NoSuchPath(SibylError):
    """The path is in no volume, or leads through something that is no folder or no file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"path not found in container: {path}")


class Volumes:
    """The volumes of one activity: paths in the container with the folders of this machine behind them."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.folders = {str(PurePosixPath(path)): folder for path, folder in folders.items()}

    def read(self, url: str) -> BinaryIO:
        """Open the file of a ``container:/path`` URL. Raises NoSuchPath."""
        folder, parts, path = self._split(url)
        with _walk(folder, parts[:-1], path, make=False) as parent:
            return _open(parts[-1], os.O_RDONLY, parent, path, "rb")

    def write(self, url: str) -> BinaryIO:
        """Open the file of a ``container:/path`` URL anew, with the folders that lead to it. Raises NoSuchPath."""
        folder, parts, path = self._split(url)
        with _walk(folder, parts[:-1], path, make=True) as parent:
            return _open(parts[-1], os.O_RDWR | os.O_CREAT | os.O_TRUNC, parent, path, "wb")

    def _split(self, url: str) -> tuple[Path, tuple[str, ...], str]:
        path = unquote(urlsplit(url).path)
        inside = PurePosixPath(path)
        for volume, folder in self.folders.items():
            if inside.is_relative_to(volume) and inside != PurePosixPath(volume) and ".." not in inside.parts:
                return folder, inside.relative_to(volume).parts, path
        raise NoSuchPath(path)


class _walk(contextlib.AbstractContextManager[int]):  # noqa: N801 used as a function
    """The descriptor of a folder below another, no link followed on the way."""

    def __init__(self, top: Path, parts: tuple[str, ...], path: str, *, make: bool) -> None:
        descriptor = os.open(top, _FOLDER)
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=descriptor)
                below = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
        except OSError:
            os.close(descriptor)
            raise NoSuchPath(path) from None
        self._descriptor = descriptor

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _open(name: str, flags: int, parent: int, path: str, mode: str) -> BinaryIO:
    try:
        descriptor = os.open(name, flags | _FILE, 0o644, dir_fd=parent)
    except OSError:
        raise NoSuchPath(path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NoSuchPath(path)
    return os.fdopen(descriptor, mode)  # type: ignore[return-value]
