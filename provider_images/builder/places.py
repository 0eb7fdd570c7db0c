"""Where things lie in a checkout."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
CACHE = ROOT / ".cache" / "images"
TOOLS = ROOT / ".tools" / "squashfs"

IMAGES = ROOT / "build" / "images"
"""Where images go unless told otherwise."""


def digest_file(path: Path, algorithm: str) -> str:
    """A file's digest in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
