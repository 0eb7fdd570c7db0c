"""Writes the networks of this project into a Brownie home; what was added there by hand stays.

    .venv-brownie/bin/python scripts/brownie_networks.py HOME PORT

Brownie's own ``networks import`` cannot replace a network in its compiled release, and starting Brownie for it would
take seconds. A live network is reached by the endpoint in ``SIBYL_RPC_URL``; its chain id is checked before anything is
sent. ``development`` is a fresh anvil on PORT.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

ENDPOINT = "$SIBYL_RPC_URL"
LIVE = {
    "Ethereum": {"sepolia": ("Sepolia", 11155111), "hoodi": ("Hoodi", 560048), "holesky": ("Holesky", 17000)},
    "Polygon": {"polygon-amoy": ("Amoy", 80002)},
}


def merge(networks: dict[str, Any], port: int) -> None:
    """Puts our networks in the place of those with the same ids."""
    for environment, ours in LIVE.items():
        group = next((entry for entry in networks["live"] if entry["name"] == environment), None)
        if group is None:
            group = {"name": environment, "networks": []}
            networks["live"].append(group)
        group["networks"] = [entry for entry in group["networks"] if entry["id"] not in ours] + [
            {"id": identifier, "name": name, "chainid": chain_id, "host": ENDPOINT, "timeout": 60}
            for identifier, (name, chain_id) in ours.items()
        ]
    for entry in networks["development"]:
        if entry["id"] == "development":
            entry["cmd_settings"]["port"] = port


def main() -> None:
    """Entry point."""
    home, port = Path(sys.argv[1]), int(sys.argv[2])
    file = home / ".brownie" / "network-config.yaml"
    package = find_spec("brownie")
    assert package is not None
    assert package.origin is not None
    source = file if file.exists() else Path(package.origin).parent / "data" / "network-config.yaml"
    networks = yaml.safe_load(source.read_text())
    merge(networks, port)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.write_text(yaml.safe_dump(networks))
    draft.replace(file)


if __name__ == "__main__":
    main()
