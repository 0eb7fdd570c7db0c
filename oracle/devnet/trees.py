"""Removal of a folder that strangers wrote into: of any depth, whatever modes they gave."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger(__name__)


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it, no link followed. Raises nothing; what has to stay is logged.

    A folder in it is emptied by moving the folders that it holds to the top, so neither the length of a path nor the
    number of open files limits the depth.
    """
    try:
        with _opened(str(folder), None) as top:
            waiting = _clear(top, top, folder)
            while waiting:
                name = waiting.pop()
                try:
                    with _opened(name, top) as below:
                        waiting += _clear(below, top, folder)
                    os.rmdir(name, dir_fd=top)
                except OSError as error:
                    _log.warning("%s stays below %s: %s", name, folder, error.strerror)
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("%s stays: %s", folder, error.strerror)


def _clear(folder: int, top: int, where: Path) -> list[str]:
    """Remove the files of an open folder and have its folders at the top; their names there."""
    found = []
    with os.scandir(folder) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in listed:
        try:
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif folder == top:
                found.append(name)
            else:
                # Only a folder that can be written is moved to another.
                with _opened(name, folder):
                    moved = f"removed-{secrets.token_hex(16)}"
                    os.rename(name, moved, src_dir_fd=folder, dst_dir_fd=top)
                    found.append(moved)
        except OSError as error:
            _log.warning("%s stays below %s: %s", name, where, error.strerror)
    return found


@contextmanager
def _opened(name: str, parent: int | None) -> Iterator[int]:
    """The descriptor of a folder that is no link, made ours to read and write."""
    place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{place}", 0o700)  # noqa: PTH101 through the descriptor, for a name may be a link by now
        descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
