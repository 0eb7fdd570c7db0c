"""Verified bytes on local disk, one file a CID, for as long as the pipeline needs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from oracle.domain import Cid
from oracle.errors import ConfigurationError

_UNFINISHED = ".part"
_PIECE = 1024 * 1024


class DirectorySpool:
    """``ports.Spool`` in a directory of its own, which is made when it is missing.

    A file appears under its name whole or not at all, whatever is killed and whenever. What an earlier process left
    unfinished is removed at the start. Raises ConfigurationError when the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for leftover in directory.glob(f"*{_UNFINISHED}"):
                leftover.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"the spool directory {directory} cannot be used: {error}",
                remedy="Choose a directory that this user may write.",
            ) from error

    async def put(self, cid: Cid, data: bytes) -> Path:
        """Write atomically; the path is stable for the CID. Raises OSError when the disk does not take it."""
        path = self._place(cid)
        await asyncio.to_thread(self._write, path, data)
        return path

    async def receive(self, cid: Cid, write: Callable[[Path], Awaitable[object]]) -> Path:
        """Have ``write`` fill a file, and keep it under the CID; nothing is left when it raises.

        Raises what ``write`` raises, and OSError when the disk does not take it.
        """
        unfinished = await asyncio.to_thread(self._unfinished)
        try:
            await write(unfinished)
            await asyncio.to_thread(self._keep, unfinished, self._place(cid))
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        return self._place(cid)

    def path(self, cid: Cid) -> Path | None:
        """Where the bytes lie, or None."""
        path = self._place(cid)
        return path if path.exists() else None

    async def cids(self, *, older_than: float) -> Sequence[Cid]:
        """What lies here and was last put more than ``older_than`` seconds ago."""
        return await asyncio.to_thread(self._list, time.time() - older_than)

    async def discard(self, cids: Iterable[Cid]) -> None:
        """Remove what is no longer needed; unknown CIDs are ignored."""
        paths = [self._place(cid) for cid in cids]
        if paths:
            await asyncio.to_thread(self._remove, paths)

    def _place(self, cid: Cid) -> Path:
        return self._directory / cid.text

    def _write(self, path: Path, data: bytes) -> None:
        # A name alone says nothing about the bytes: the disk may have filled up, or lost some.
        if _holds(path, data):
            os.utime(path)
            return
        unfinished = self._unfinished()
        try:
            unfinished.write_bytes(data)
            self._keep(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def _unfinished(self) -> Path:
        handle, name = tempfile.mkstemp(dir=self._directory, suffix=_UNFINISHED)
        os.close(handle)
        return Path(name)

    def _keep(self, unfinished: Path, path: Path) -> None:
        """Give a written file its name once its bytes are on disk."""
        handle = os.open(unfinished, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        unfinished.replace(path)
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _list(self, before: float) -> list[Cid]:
        found = []
        for path in self._directory.iterdir():
            with contextlib.suppress(ValueError, FileNotFoundError):
                cid = Cid.parse(path.name)
                if path.is_file() and path.stat().st_mtime <= before:
                    found.append(cid)
        return found

    @staticmethod
    def _remove(paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)


def _holds(path: Path, data: bytes) -> bool:
    """Whether the file has exactly these bytes, read a piece at a time."""
    try:
        if path.stat().st_size != len(data):
            return False
        with path.open("rb") as file:
            return all(file.read(_PIECE) == data[i : i + _PIECE] for i in range(0, len(data), _PIECE))
    except OSError:
        return False
