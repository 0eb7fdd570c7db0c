"""A family's ``image.json``: which packages, wheels and files its image holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_images.builder.errors import BuilderError
from provider_images.builder.model import MANIFEST, NETWORK, CompiledModel
from provider_images.builder.places import LOCK, ROOT

SCHEMA = "sibyl/recipe/1"

_MODEL = "{model}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What goes into an image.

    ``packages``: Debian's, ``{python}`` standing for python3.11 or whichever the distribution has; no dependency is
    added to them. ``wheels``: names in requirements.lock. ``files``: patterns below the repository; one that ends in
    ``{model}`` is where the folder of a compiled model goes, which the recipe then needs. ``without``: patterns of
    paths in the image that are left out. ``volumes``: where a provider mounts something empty.
    """

    family: str
    packages: tuple[str, ...]
    wheels: tuple[str, ...]
    files: tuple[str, ...]
    without: tuple[str, ...]
    volumes: tuple[str, ...]
    model: CompiledModel | None = None

    @classmethod
    def of(cls, family: str, root: Path = ROOT, *, model: CompiledModel | None = None) -> Recipe:
        """Read a family's recipe, and give it the model it asks for. Raises BuilderError, also without that model."""
        path = root / "provider_images" / family / "image.json"
        if not LOCK.is_file():
            raise BuilderError("there is no requirements.lock here", remedy="Build images in a checkout.")
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document.pop("schema") != SCHEMA:
                raise ValueError(f"schema: {SCHEMA} expected")
            recipe = cls(family=family, model=model, **{key: tuple(map(str, value)) for key, value in document.items()})
        except FileNotFoundError:
            known = ", ".join(sorted(p.parent.name for p in root.glob("provider_images/*/image.json")))
            raise BuilderError(f"there is no recipe {path}", remedy=f"Name one of: {known}.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BuilderError(f"{path}: {error}", remedy="Compare it with another family's image.json.") from error
        if (model is None) == any(pattern.endswith(_MODEL) for pattern in recipe.files):
            raise BuilderError(
                f"the recipe of {family} {'needs a' if model is None else 'takes no'} model from elsewhere",
                remedy="One that was pulled: python -m provider_images.builder applications --model DIR.",
            )
        return recipe

    @property
    def name(self) -> str:
        """What the image's files are called: by the model it was given, or by the recipe's folder."""
        return self.family if self.model is None else self.model.family

    def sources(self, root: Path = ROOT) -> dict[Path, Path]:
        """The files of our own: the place of each, as in the repository, in order, and where it is read.

        Raises BuilderError when a pattern finds none.
        """
        found: dict[Path, Path] = {}
        for pattern in self.files:
            if self.model is not None and pattern.endswith(_MODEL):
                folder = Path(pattern.replace(_MODEL, self.model.folder))
                found |= {folder / name: path for name, path in self.model.files.items()}
                continue
            matches = {path.relative_to(root): path for path in root.glob(pattern) if path.is_file()}
            if not matches:
                raise BuilderError(f"{self.family}: no file fits {pattern}", remedy="Correct its image.json.")
            found |= matches
        return dict(sorted(found.items()))

    def served(self, root: Path = ROOT) -> str:
        """The family of the model inside, as manifests name it; the folder's own name where there is none."""
        manifests = [path for place, path in self.sources(root).items() if place.name == MANIFEST]
        return str(_read(manifests[0])["family"]) if manifests else self.family

    def weights(self, root: Path = ROOT) -> dict[str, Path]:
        """Where the weights of a sha256 lie, or the network that was compiled from them.

        Raises BuilderError when a manifest names others.
        """
        files = self.sources(root)
        found: dict[str, Path] = {}
        for manifest, document in files.items():
            weights = manifest.with_name("weights.npz")
            if manifest.name != MANIFEST or weights not in files:
                continue
            digest = hashlib.sha256(files[weights].read_bytes()).hexdigest()
            if _read(document)["weights"]["sha256"] != digest:
                raise BuilderError(f"{manifest} names other weights than {weights}", remedy="Train it again.")
            found[digest] = weights
        if self.model is not None:
            found[self.model.weights_sha256] = next(place for place in files if place.name == NETWORK)
        return found


def _read(manifest: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
    return document
