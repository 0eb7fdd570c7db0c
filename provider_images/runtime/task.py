"""A job as one file: ``job.json`` and its inputs in a plain tar, as it travels to a provider; standard library only.

The reader trusts no byte of it: regular files with plain names, none twice, a bounded number of a bounded size.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from provider_images.runtime.job import MAX_INPUTS, MAX_JOB_BYTES, JobError

MAX_FILES = MAX_INPUTS + 1
MAX_BYTES = 64 * 1024 * 1024 + MAX_JOB_BYTES  # a full batch of inputs, and the job that names them

# A header and up to a block of padding for each file, then the two empty blocks and the last record's padding.
_MAX_TAR = MAX_BYTES + MAX_FILES * 2 * tarfile.BLOCKSIZE + 2 * tarfile.RECORDSIZE
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def pack_task(files: Mapping[str, bytes | Path]) -> bytes:
    """Files by plain name, each given as its bytes or where it lies; the same files give the same tar.

    Raises JobError when ``unpack_task`` would refuse it, OSError when a file cannot be read.
    """
    if len(files) > MAX_FILES:
        raise JobError(f"{len(files)} files in a task; at most {MAX_FILES} expected")
    target, total = io.BytesIO(), 0
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            total += len(data)
            _check(name, total)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def unpack_task(source: Path, folder: Path) -> None:
    """Write a task's files into an empty folder. Raises JobError on a tar that breaks the rules, OSError."""
    size = source.stat().st_size
    if size > _MAX_TAR:
        raise JobError(f"a task of {size} bytes; at most {MAX_BYTES} expected")
    seen: set[str] = set()
    total = 0
    try:
        with tarfile.open(source, "r:") as tar:  # uncompressed: nothing in it can grow
            for entry in tar:
                if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or entry.issparse():
                    raise JobError(f"{entry.name[:100]!r} in the task is not a regular file")
                total += entry.size
                _check(entry.name, total)
                if entry.name in seen:
                    raise JobError(f"{entry.name!r} stands twice in the task")
                seen.add(entry.name)
                if len(seen) > MAX_FILES:
                    raise JobError(f"more than {MAX_FILES} files in the task")
                _extract(tar, entry, folder / entry.name)
    except (tarfile.TarError, EOFError, UnicodeError, ValueError) as error:
        raise error if isinstance(error, JobError) else JobError(f"the task is not a tar: {error}") from error


def _check(name: str, total: int) -> None:
    if not _NAME.fullmatch(name):
        raise JobError(f"{name[:100]!r} in the task is not a plain name")
    if total > MAX_BYTES:
        raise JobError(f"the task holds more than {MAX_BYTES} bytes")


def _extract(tar: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(entry)
    if content is None:
        raise JobError(f"{entry.name!r} in the task has no content")
    with target.open("xb") as file:
        shutil.copyfileobj(content, file)
    if target.stat().st_size != entry.size:
        raise JobError(f"{entry.name!r} in the task is cut short")
