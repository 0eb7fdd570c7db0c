"""Which provider a requester wants: files that whoever takes the wish writes, and the oracle reads.

A wish is made before the request, whose id nobody knows yet, so it goes by requester and picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from oracle.domain import Cid, InferenceRequest
from oracle.errors import ConfigurationError, Retryable, WishTaken

LIFE = 3_600.0  # seconds for which a wish is remembered
MAX_LENGTH = 100
MOST = 10_000  # wishes that strangers may leave at a time
_SWEEP = 60.0  # seconds between two looks at the whole folder


class DirectoryWishes:
    """``ports.Wishes`` in a folder of small files. Raises ConfigurationError when the folder cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._left, self._swept = 0, 0.0

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

    async def leave(self, requester: str, image_cid: Cid, provider: str) -> None:
        """``wish`` for those whom nobody knows: the first that names a pair has it for its hour.

        Raises WishTaken when another provider stands there, Retryable when there are too many wishes, and what
        ``wish`` raises.
        """
        await asyncio.to_thread(self._leave, requester, image_cid, provider)

    def _leave(self, requester: str, image_cid: Cid, provider: str) -> None:
        with self._lock:
            file = self._file(requester, image_cid)
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if time.time() - file.stat().st_mtime <= LIFE:
                    if file.read_text(encoding="utf-8") == provider:
                        return
                    raise WishTaken(
                        "another provider was wished for this picture by this account within the hour",
                        remedy="Wait an hour, or ask without naming a provider.",
                    )
            if self._left >= MOST and time.monotonic() < self._swept + _SWEEP:
                raise Retryable("too many wishes are waiting", remedy="Ask without naming a provider, or later.")
            self.wish(requester, image_cid, provider)
            self._left, self._swept = sum(1 for _ in self._folder.iterdir()), time.monotonic()
            if self._left > MOST:
                file.unlink(missing_ok=True)
                raise Retryable("too many wishes are waiting", remedy="Ask without naming a provider, or later.")

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
