"""Which provider a requester wants: files that whoever takes the wish writes, and the oracle reads.

A wish is made before the request, whose id nobody knows yet, so it goes by requester and picture.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
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
_ELSEWHERE = "Ask without naming a provider, or later."


class DirectoryWishes:
    """``ports.Wishes`` in a folder of small files. Raises ConfigurationError when the folder cannot be used.

    A file's time is when its wish was made; an empty one says that there is none any more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._left, self._swept = 0, -_SWEEP

    def wish(self, requester: str, image_cid: Cid, provider: str) -> None:
        """Remember that this requester wants this picture computed by a provider, named by node id or name.

        Raises ConfigurationError, and ValueError for a name that is empty, long or not printable.
        """
        _check(provider)
        with self._lock:
            self._write(self._file(requester, image_cid), provider, time.time())

    async def leave(self, requester: str, image_cid: Cid, provider: str) -> None:
        """``wish`` for several who share an account: the first that names a pair has it for its hour.

        Raises WishTaken when another provider stands there, Retryable when there are too many wishes, and what
        ``wish`` raises.
        """
        _check(provider)
        await asyncio.to_thread(self._leave, self._file(requester, image_cid), provider)

    async def sign(self, requester: str, image_cid: Cid, provider: str, signed_at: float) -> None:
        """``wish`` for a requester that signed it at a time: the newest stands. An empty one takes the others back.

        Raises WishTaken when a newer one stands there, Retryable when there are too many wishes, and what ``wish``
        raises.
        """
        if provider:
            _check(provider)
        await asyncio.to_thread(self._sign, self._file(requester, image_cid), provider, signed_at)

    def _leave(self, file: Path, provider: str) -> None:
        with self._lock:
            standing = self._standing(file)
            if standing is None:
                self._make_room()
                self._write(file, provider, time.time())
            elif standing[0] != provider:
                raise WishTaken(
                    "another provider was wished for this picture by this account within the hour",
                    remedy="Wait an hour, or ask without naming a provider.",
                )

    def _sign(self, file: Path, provider: str, signed_at: float) -> None:
        with self._lock:
            standing = self._standing(file)
            if standing is None:
                self._make_room()
            elif standing[1] > signed_at:
                raise WishTaken(
                    "a provider was chosen later than this for this picture by this account",
                    remedy="Sign the choice again.",
                )
            self._write(file, provider, signed_at)

    def _standing(self, file: Path) -> tuple[str, float] | None:
        """The provider that is wished for, and since when."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            at = file.stat().st_mtime
            if time.time() - at <= LIFE:
                return file.read_text(encoding="utf-8"), at
        return None

    def _make_room(self) -> None:
        """Count one more. Raises Retryable when there is no room."""
        now = time.monotonic()
        if now >= self._swept + _SWEEP:
            self._left, self._swept = self._sweep(), now
        if self._left >= MOST:
            raise Retryable("too many wishes are waiting", remedy=_ELSEWHERE)
        self._left += 1

    def _write(self, file: Path, provider: str, at: float) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh = file.with_suffix(".new")
            fresh.write_text(provider, encoding="utf-8")
            os.utime(fresh, (at, at))
            fresh.replace(file)
        except OSError as error:
            raise ConfigurationError(
                f"the wish cannot be written to {self._folder}: {error.strerror}",
                remedy="A provider can be named on the oracle's own machine; name none elsewhere.",
            ) from error

    async def of(self, requests: Iterable[InferenceRequest]) -> Mapping[bytes, str]:
        """The providers wanted, by request id; requests without a wish are left out."""
        return await asyncio.to_thread(self._read, list(requests))

    def _read(self, requests: list[InferenceRequest]) -> dict[bytes, str]:
        found = {}
        for request in requests:
            standing = self._standing(self._file(request.requester, request.image_cid))
            if standing is not None and standing[0]:
                found[request.request_id] = standing[0]
        return found

    def _file(self, requester: str, image_cid: Cid) -> Path:
        return self._folder / hashlib.sha256(requester.lower().encode() + image_cid.value).hexdigest()

    def _sweep(self) -> int:
        """Remove what is over; how many are left."""
        left = 0
        with contextlib.suppress(OSError):  # no folder, no wishes
            for file in self._folder.iterdir():
                with contextlib.suppress(OSError):
                    if time.time() - file.stat().st_mtime <= LIFE:
                        left += 1
                    else:
                        file.unlink()
        return left


def _check(provider: str) -> None:
    if not 0 < len(provider) <= MAX_LENGTH or not provider.isprintable():
        raise ValueError(f"a provider's name has 1 to {MAX_LENGTH} printable characters")
