"""A folder of which one process at a time makes use."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from oracle.errors import ConfigurationError


@contextmanager
def locked(file: Path, *, taken: str, remedy: str) -> Iterator[None]:
    """Hold a lock file, made where it is missing. It ends with us, however we end.

    Raises ConfigurationError: ``taken`` with its ``remedy`` when another process holds it.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {file.parent} cannot be used: {error.strerror}", remedy="Choose another folder."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(taken, remedy=remedy) from None
        yield
    finally:
        os.close(descriptor)
