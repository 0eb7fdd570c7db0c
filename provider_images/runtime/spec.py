"""What the runtime reads of a model's manifest; the rest of the document is for people and for the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA = "sibyl/model/1"

FAMILIES: Mapping[str, str] = {"mnist": "provider_images.mnist"}
"""Packages of the architectures built in, by name. A manifest chooses one and can never name a module of its own.

``model.build()`` is the reference, a ``keras.Model``; ``forward``, where there is one, is the same in plain numpy.
"""


class SpecError(ValueError):
    """The manifest asks for something this runtime does not know; the message names the field."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How a picture becomes an array of (height, width, channels); ``range`` is where 0 and 255 end up.

    ``fit`` is "stretch" (resize, bilinear) or "digit" (centre within ``box`` pixels by MNIST's convention).
    """

    height: int
    width: int
    channels: int
    color: str
    fit: str
    box: int
    range: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The part of a manifest that running it needs."""

    engine: str
    family: str
    weights_sha256: str
    classes: int
    top_k: int
    input: InputSpec

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> ModelSpec:
        """Read a manifest. Raises SpecError when a field is missing or unknown here."""
        try:
            if manifest["schema"] != SCHEMA:
                raise SpecError(f"schema: {SCHEMA} expected, not {manifest['schema']!r}")
            if manifest["family"] not in FAMILIES:
                raise SpecError(f"family: {manifest['family']!r} is not built in ({', '.join(sorted(FAMILIES))})")
            declared = manifest["input"]
            low, high = declared["range"]
            return cls(
                engine=manifest["engine"],
                family=manifest["family"],
                weights_sha256=manifest["weights"]["sha256"],
                classes=len(manifest["labels"]),
                top_k=manifest["output"]["top_k"],
                input=InputSpec(
                    height=declared["height"],
                    width=declared["width"],
                    channels=declared["channels"],
                    color=declared["color"],
                    fit=declared["fit"],
                    box=declared.get("box", 0),
                    range=(float(low), float(high)),
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"the manifest is incomplete: {type(error).__name__}: {error}") from error
