"""What the builder raises. It imports nothing of the oracle, so its errors stand apart from the oracle's tree."""

from __future__ import annotations


class BuilderError(Exception):
    """An image cannot be built, read or unpacked. ``remedy`` says what the reader can do about it."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class HostUnsupported(BuilderError):
    """Images cannot be built on this machine without Docker; another way is open."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"images cannot be built here without Docker: {reason}",
            remedy="Build with docker and gvmkit-build instead (docs/images.md), or on Debian or Ubuntu on x86-64.",
        )
