"""What the operator sets for the market: where yagna is, which images run what, and what may be spent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from oracle.domain import ComputeTask
from oracle.errors import ConfigurationError
from oracle.market import GLM, Price

_IMAGE_SCHEMA = "sibyl/image/1"


CEILING = Price(start=Decimal("0.1"), second=Decimal("0.001"), cpu_second=Decimal("0.002"))
"""What is paid at most unless the operator says otherwise; yapapi's own bounds are a hundred times that."""


@dataclass(frozen=True, slots=True)
class Image:
    """A provider image: what it is called on the market, and which weights lie in it (sha256 to absolute path).

    ``tag`` is its name in Golem's registry; without one, providers fetch it from ``url``. One that is ``sealed`` runs
    no other weights than these.
    """

    family: str
    sha3_224: str
    url: str
    tag: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class GolemTerms:
    """Amounts in the smallest part of GLM, times in seconds.

    A provider is asked for work while its ``price`` is at most ``ceiling`` in every part. ``budget_*`` are caps: of one
    request, of one batch, of 24 hours. ``lifetime`` is that of a job on the market: no agreement outlives it.
    """

    api_url: str
    app_key: str = field(repr=False)
    payment_network: str
    payment_driver: str = "erc20"
    subnet: str | None = None
    images: Mapping[str, Image] = field(default_factory=dict)
    ceiling: Price = CEILING
    budget_request: int = GLM // 100
    budget_batch: int = GLM // 10
    budget_day: int = 10 * GLM
    workers: int = 3
    idle_release: float = 120.0
    lifetime: float = 1_500.0
    init_timeout: float = 300.0
    run_limit: float = 120.0
    tries: int = 3
    hedge_factor: float = 3.0
    memory_gib: float = 0.5
    trusted: frozenset[str] = frozenset()
    banned: frozenset[str] = frozenset()

    def budget(self, task: ComputeTask) -> int:
        """The most that a task may cost, over all its tries."""
        most = min(self.budget_batch, self.budget_request * len(task.inputs))
        return min(task.budget, most) if task.budget else most


def read_images(folder: Path) -> dict[str, Image]:
    """The descriptors ``*.json`` of a folder, by family. Raises ConfigurationError."""
    images = {}
    try:
        files = sorted(folder.glob("*.json"))
        for file in files:
            body = json.loads(file.read_bytes())
            if isinstance(body, dict) and body.get("schema") == _IMAGE_SCHEMA:
                image = _image(body, file)
                images[image.family] = image
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"a description of a provider image in {folder} cannot be read: {error}",
            remedy="Build the images again (`make images`), or set SIBYL_GOLEM_IMAGES to the folder that holds them.",
        ) from None
    if not images:
        raise ConfigurationError(
            f"{folder} describes no provider image",
            remedy="Build the images (`make images`), or set SIBYL_GOLEM_IMAGES to the folder that holds them.",
        )
    return images


def _image(body: Mapping[str, Any], file: Path) -> Image:
    weights = {str(digest): str(path) for digest, path in body["weights"].items()}
    url = str(body.get("url") or (file.parent / body["file"]).absolute().as_uri())
    sealed = body.get("sealed") is True
    return Image(str(body["family"]), str(body["sha3_224"]), url, str(body.get("tag", "")), weights, sealed)
