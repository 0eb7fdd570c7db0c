"""The table of families: how keras.applications makes each, what it expects, and where its weights lie.

``families.csv`` holds one line a family: its name in manifests, the function and the module in keras.applications, the
mode of its preprocessing, pixels a side, parameters, where its weights are below ``WEIGHTS``, and the digest by which
Keras itself checks them (MD5 mostly, sha256 for ConvNeXt, none for the oldest two).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WEIGHTS = "https://storage.googleapis.com/"


@dataclass(frozen=True, slots=True)
class Application:
    """One line of the table; ``digest`` is "md5:..." or "sha256:..." in hex, or nothing."""

    family: str
    function: str
    module: str
    mode: str
    size: int
    parameters: int
    url: str
    digest: str

    @property
    def resize(self) -> str:
        """How pictures were scaled when the published accuracy was measured."""
        return "bicubic" if self.module in ("convnext", "efficientnet", "efficientnet_v2") else "bilinear"


@cache
def applications() -> Mapping[str, Application]:
    """All families by name, the first six first."""
    with Path(__file__).with_name("families.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["family"]: Application(
                family=row["family"],
                function=row["function"],
                module=row["module"],
                mode=row["mode"],
                size=int(row["size"]),
                parameters=int(row["parameters"]),
                url=WEIGHTS + row["weights"],
                digest=row["digest"],
            )
            for row in csv.DictReader(file)
        }


def application(family: str) -> Application:
    """A family's line. Raises KeyError."""
    return applications()[family]
