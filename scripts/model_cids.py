"""The CIDs of models as the project itself computes them, for the Brownie scripts, whose environment lacks the project.

    .venv/bin/python scripts/model_cids.py [MANIFEST ...]

A MANIFEST is the name of a built-in model, a path to a ``manifest.json``, or the CID of a manifest that is pinned
somewhere; without any, every built-in model. Prints a JSON list of ``{"name", "manifest", "bytes"}``: the model's name
(null for a CID), the CID as text, and its bytes in hex. A manifest that does not hold what it should is refused, as are
weights beside it that are not the ones it names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from oracle.content.unixfs import cid_of
from oracle.domain import Cid
from oracle.errors import ManifestInvalid
from oracle.manifests import read_manifest

ROOT = Path(__file__).resolve().parents[1]


def describe(argument: str, built_in: dict[str, Path]) -> dict[str, str | None]:
    """One model. Raises ValueError or ManifestInvalid."""
    path = built_in.get(argument, Path(argument))
    if not path.is_file():
        try:
            cid = Cid.parse(argument)
        except ValueError:
            known = ", ".join(built_in)
            raise ValueError(f"{argument}: no built-in model ({known}), no file, and no CID") from None
        return {"name": None, "manifest": cid.text, "bytes": cid.value.hex()}
    data = path.read_bytes()
    manifest = read_manifest(data)
    weights = path.with_name("weights.npz")
    if weights.is_file() and cid_of(weights.read_bytes()) != manifest.weights_cid:
        raise ValueError(
            f"{argument}: the manifest names the weights {manifest.weights_cid}, {weights.name} are others"
        )
    cid = cid_of(data)
    return {"name": manifest.name, "manifest": cid.text, "bytes": cid.value.hex()}


def main() -> int:
    """Entry point."""
    files = sorted((ROOT / "provider_images").glob("*/manifest.json"))
    try:
        built_in = {read_manifest(file.read_bytes()).name: file for file in files}
        models = [describe(argument, built_in) for argument in sys.argv[1:] or built_in]
    except (ValueError, ManifestInvalid) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(models) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
