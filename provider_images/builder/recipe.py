"""A family's ``image.json``: which packages, wheels and files its image holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_images.builder.errors import BuilderError
from provider_images.builder.places import LOCK, ROOT

SCHEMA = "sibyl/recipe/1"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an image.

    ``packages``: Debian's, ``{python}`` standing for python3.11 or whichever the distribution has; no dependency is
    added to them. ``wheels``: names in requirements.lock. ``files``: patterns below the repository. ``without``:
    patterns of paths in the image that are left out. ``volumes``: where a provider mounts something empty.
    """

    family: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    files: tuple[str, ...]
    without: tuple[str, ...]
    volumes: tuple[str, ...]

    @classmethod
    def of(cls, family: str, root: Path = ROOT) -> Recipe:
        """Read a family's recipe. Raises BuilderError."""
        path = root / "provider_images" / family / "image.json"
        if not LOCK.is_file():
            raise BuilderError("there is no requirements.lock here", remedy="Build images in a checkout.")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("schema") != SCHEMA:
                raise ValueError(f"schema: {SCHEMA} expected")
            return cls(family=family, **{key: tuple(map(str, value)) for key, value in document.items()})
        except FileNotFoundError:
            known = ", ".join(sorted(p.parent.name for p in root.glob("provider_images/*/image.json")))
            raise BuilderError(f"there is no recipe {path}", remedy=f"Name one of: {known}.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuilderError(f"{path}: {error}", remedy="Compare it with another family's image.json.") from error

    def source_files(self, root: Path = ROOT) -> list[Path]:
        """The files of our own, relative to the repository, sorted. Raises BuilderError when a pattern finds none."""
        found: set[Path] = set()
        for pattern in self.files:
            matches = {path.relative_to(root) for path in root.glob(pattern) if path.is_file()}
            if not matches:
                raise BuilderError(f"{self.family}: no file fits {pattern}", remedy="Correct its image.json.")
            found |= matches
        return sorted(found)

    def served(self, root: Path = ROOT) -> str:
        """The family of the model inside, as manifests name it; the folder's own name where there is none."""
        manifests = [path for path in self.source_files(root) if path.name == "manifest.json"]
        return str(_read(root / manifests[0])["family"]) if manifests else self.family

    def weights(self, root: Path = ROOT) -> dict[str, Path]:
        """The weights among the files by their sha256. Raises BuilderError when a manifest names others."""
        files = self.source_files(root)
        found: dict[str, Path] = {}
        for manifest in files:
            weights = manifest.with_name("weights.npz")
            if manifest.name != "manifest.json" or weights not in files:
                continue
            digest = hashlib.sha256((root / weights).read_bytes()).hexdigest()
            if _read(root / manifest)["weights"]["sha256"] != digest:
                raise BuilderError(f"{manifest} names other weights than {weights}", remedy="Train it again.")
            found[digest] = weights
        return found


def _read(manifest: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    return document
