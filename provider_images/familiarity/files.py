"""Pictures read from folders, and manifests written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from provider_images.familiarity.fit import Pictures
from provider_images.runtime.pictures import PictureError, prepare
from provider_images.runtime.spec import InputSpec

MAX_PIXELS = 100_000_000
_PICTURES = frozenset({".gif", ".jpeg", ".jpg", ".png", ".webp"})


def read_pictures(folder: Path, spec: InputSpec) -> Pictures:
    """Every picture below a folder as the model is fed it, in the order of their paths.

    Raises ValueError where there is none, or one that cannot be used, with its path.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES and path.is_file())
    if not paths:
        raise ValueError(f"{folder}: no pictures ({', '.join(sorted(_PICTURES))})")
    prepared = []
    for path in paths:
        try:
            prepared.append(prepare(path.read_bytes(), spec, max_pixels=MAX_PIXELS))
        except PictureError as error:
            raise ValueError(f"{path}: {error}") from error
    return np.stack(prepared)


def write_manifest(path: Path, document: Mapping[str, Any]) -> None:
    """Write a manifest in the one form that the shipped ones have."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
