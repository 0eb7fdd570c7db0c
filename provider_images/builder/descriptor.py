"""An image's descriptor, the JSON document next to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provider_images.builder.errors import BuilderError

SCHEMA = "sibyl/image/1"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image on disk. ``weights`` says where the weights of a sha256 lie inside it, or what was compiled from them.

    One that is ``sealed`` runs these alone; any other runs whatever weights of its family it is sent.
    """

    path: Path
    family: str
    sha3_224: str
    bytes: int
    volumes: tuple[str, ...]
    weights: Mapping[str, str]
    sealed: bool = False

    @property
    def descriptor(self) -> Path:
        """Where its descriptor lies."""
        return self.path.with_suffix(".json")

    def write_descriptor(self) -> None:
        """Write the document, in one step. Raises OSError."""
        document = {
            "schema": SCHEMA,
            "family": self.family,
            "file": self.path.name,
            "sha3_224": self.sha3_224,
            "bytes": self.bytes,
            "volumes": list(self.volumes),
            "weights": dict(self.weights),
            "sealed": self.sealed,
        }
        unfinished = self.descriptor.with_name(f"{self.descriptor.name}.part")
        unfinished.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(self.descriptor)


def read_descriptor(path: Path) -> BuiltImage:
    """Read a descriptor; the image lies next to it. Raises BuilderError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {SCHEMA} expected")
        name = document["file"]
        if Path(name).name != name:
            raise ValueError("file: a plain name expected")
        return BuiltImage(
            path=path.parent.absolute() / name,
            family=str(document["family"]),
            sha3_224=str(document["sha3_224"]),
            bytes=int(document["bytes"]),
            volumes=tuple(map(str, document["volumes"])),
            weights={str(digest): str(place) for digest, place in document["weights"].items()},
            sealed=document.get("sealed") is True,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuilderError(
            f"{path} is not the descriptor of an image: {type(error).__name__}: {error}",
            remedy="Build the image again: python -m provider_images.builder FAMILY.",
        ) from error
