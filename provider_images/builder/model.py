"""A model that was brought here, as an image carries it: compiled for OpenVINO, and its manifest.

Such an image needs neither TensorFlow nor the file of weights. Compiling needs TensorFlow, so it is done here, in a
process of its own; the same weights gave the same files each time, and what was compiled once is used again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provider_images.builder.commands import run
from provider_images.builder.errors import BuilderError
from provider_images.runtime.choice import compiled_file
from provider_images.runtime.spec import CLASSIFICATION, FAMILIES, ModelSpec, SpecError

MANIFEST = "manifest.json"
NETWORK = "model.xml"  # as ``choice.compiled_file`` names it; its numbers are beside it

_NUMBERS = "model.bin"
_WEIGHTS = {"hdf5": "weights.h5", "safetensors": "weights.safetensors"}
_PACKAGES = ("provider_images.applications", "provider_images.vit")
_NICENESS = 10
_WITHIN = 900.0  # seconds to compile a model
_MEMORY_MB = 8192  # of address space, and five times the weights: TensorFlow's copies and OpenVINO's
_COPIES = 5


@dataclass(frozen=True, slots=True)
class CompiledModel:
    """A classifier's compiled network and its manifest: ``files`` by their names in ``folder``."""

    family: str
    weights_sha256: str
    folder: str
    files: Mapping[str, Path]


def compiled_model(folder: Path, compiled: Path | None = None) -> CompiledModel:
    """The model in a folder of ``sibyl models pull``, compiled into ``compiled`` unless it lies there already.

    Without a word, ``compiled`` is the folder of that name in the model's own. Raises BuilderError.
    """
    manifest = folder / MANIFEST
    spec = _read(manifest)
    network = compiled_file(compiled or folder / "compiled", spec.family, spec.weights_sha256)
    if not network.is_file():
        _compile(manifest, folder / _WEIGHTS[spec.weights_format], network.parent.parent)
    files = {MANIFEST: manifest, NETWORK: network, _NUMBERS: network.with_name(_NUMBERS)}
    if missing := [str(path) for path in files.values() if not path.is_file()]:
        raise BuilderError(
            f"{', '.join(missing)} is not there",
            remedy=f"Remove {network.parent}; then build again, to compile it anew.",
        )
    return CompiledModel(spec.family, spec.weights_sha256, network.parent.name, files)


def _read(manifest: Path) -> ModelSpec:
    """A manifest of a model that can be compiled. Raises BuilderError."""
    try:
        spec = ModelSpec.from_manifest(json.loads(manifest.read_text(encoding="utf-8")))
    except (OSError, ValueError, SpecError) as error:
        raise BuilderError(
            f"{manifest} is not the manifest of a model: {error}",
            remedy="Name the folder that `sibyl models pull` filled: models/NAME of the data directory.",
        ) from error
    if spec.task != CLASSIFICATION or FAMILIES.get(spec.family) not in _PACKAGES or spec.weights_format not in _WEIGHTS:
        raise BuilderError(
            f"{spec.family} cannot be packed this way: only the catalogue's classifiers are, with weights brought here",
            remedy="mnist and mask_rcnn have recipes of their own; docs/images.md says how to write one.",
        )
    return spec


def _compile(manifest: Path, weights: Path, target: Path) -> None:
    if not weights.is_file():
        raise BuilderError(
            f"the weights {weights} are not there", remedy="Bring them: `sibyl models pull`; or name another folder."
        )
    memory = _MEMORY_MB + _COPIES * weights.stat().st_size // 2**20
    try:
        run(
            [
                *(sys.executable, "-P", "-m", "provider_images.runtime.compiled", manifest, weights, target),
                *("--parent", str(os.getpid()), "--niceness", str(_NICENESS), "--memory-mb", str(memory)),
            ],
            within=_WITHIN,
        )
    except BuilderError as error:
        raise BuilderError(
            f"{weights} is not compiled: {error}",
            remedy="It takes TensorFlow and OpenVINO here (`make setup`), and the weights that the manifest names.",
        ) from error
