"""Which provider a requester wants: files that whoever takes the wish writes, and the oracle reads.

A wish is made before the request, whose id nobody knows yet, so it goes by requester and picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from oracle.domain import Cid, InferenceRequest
from oracle.errors import ConfigurationError

LIFE = 3_600.0  # seconds for which a wish is remembered
MAX_LENGTH = 100


class DirectoryWishes:
    """``ports.Wishes`` in a folder of small files. Raises ConfigurationError when the folder cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def wish(self, requester: str, image_cid: Cid, provider: str) -> None:
        """Remember that this requester wants this picture computed by a provider, named by node id or name.

        Raises ConfigurationError, and ValueError for a name that is empty, long or not printable.
        """
        if not 0 < len(provider) <= MAX_LENGTH or not provider.isprintable():
            raise ValueError(f"a provider's name has 1 to {MAX_LENGTH} printable characters")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            fresh = self._file(requester, image_cid).with_suffix(".new")
            fresh.write_text(provider, encoding="utf-8")
            fresh.replace(self._file(requester, image_cid))
        except OSError as error:
            raise ConfigurationError(
                f"the wish cannot be written to {self._folder}: {error.strerror}",
                remedy="A provider can be named on the oracle's own machine; leave --provider out elsewhere.",
            ) from error

    async def of(self, requests: Iterable[InferenceRequest]) -> Mapping[bytes, str]:
        """The providers wanted, by request id; requests without a wish are left out."""
        return await asyncio.to_thread(self._read, list(requests))

    def _read(self, requests: list[InferenceRequest]) -> dict[bytes, str]:
        found = {}
        for request in requests:
            file = self._file(request.requester, request.image_cid)
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if time.time() - file.stat().st_mtime <= LIFE:
                    found[request.request_id] = file.read_text(encoding="utf-8")
        return found

    def _file(self, requester: str, image_cid: Cid) -> Path:
        return self._folder / hashlib.sha256(requester.lower().encode() + image_cid.value).hexdigest()

    def _sweep(self) -> None:
        for file in self._folder.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > LIFE:
                    file.unlink()
