"""What this machine is worth: a short measurement of a built-in model, printed by the ``start`` command."""

from __future__ import annotations

import importlib.util
import io
import json
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from provider_images.runtime.engines import ModelShelf
from provider_images.runtime.execute import answer_all
from provider_images.runtime.job import JobModel
from provider_images.runtime.model import BATCH, Classifier, Segmenter
from provider_images.runtime.sandbox import cpus
from provider_images.runtime.spec import FAMILIES

_SECONDS = 0.3
_SIDE = 280  # pixels of the drawn picture


def measure(shelf: ModelShelf, *, began: float) -> dict[str, Any]:
    """Engine, AVX, processors, seconds from ``began`` (monotonic) to a loaded model, and pictures a second.

    The last is of whole batches, or of single pictures where a model takes them one by one, decoding included; 0.0 in
    an image without a model. Raises ModelError.
    """
    model = _built_in(shelf)
    loaded = time.monotonic()
    return {
        "engine": shelf.engine if model is None else model.engine,
        "avx": has_avx(),
        "cpus": cpus(),
        "load_seconds": round(loaded - began, 3),
        "images_per_second": 0.0 if model is None else round(_speed(model), 1),
    }


def has_avx(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has AVX, which TensorFlow's wheels need; not, where the system does not say."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any("avx" in line.split() for line in text.splitlines() if line.startswith("flags"))


def _built_in(shelf: ModelShelf) -> Classifier | Segmenter | None:
    """A model that was compiled for this image, with its manifest; else the first family, in the order of ``FAMILIES``,
    that lies here with its weights: an image may hold but one.
    """
    for manifest in sorted(shelf.compiled.glob("*/manifest.json")) if shelf.compiled is not None else ():
        document = json.loads(manifest.read_text(encoding="utf-8"))
        return shelf.get(JobModel("built-in", document, str(manifest.with_name("model.xml"))), manifest.parent)
    for package in dict.fromkeys(FAMILIES.values()):
        found = importlib.util.find_spec(package)
        for folder in (found and found.submodule_search_locations) or ():
            manifest, weights = Path(folder, "manifest.json"), Path(folder, "weights.npz")
            if manifest.is_file() and weights.is_file():
                document = json.loads(manifest.read_text(encoding="utf-8"))
                return shelf.get(JobModel(f"built-in:{package}", document, str(weights)), Path(folder))
    return None


def _speed(model: Classifier | Segmenter) -> float:
    picture = _picture()
    began, pictures = time.perf_counter(), 0
    batch = {str(i): picture for i in range(1 if isinstance(model, Segmenter) else BATCH)}
    while (passed := time.perf_counter() - began) < _SECONDS:
        answer_all(model, batch, max_pixels=_SIDE**2)
        pictures += len(batch)
    return pictures / passed


def _picture() -> bytes:
    """A pen stroke on paper, as PNG."""
    page = Image.new("L", (_SIDE, _SIDE), 235)
    stroke = [(90, 60), (190, 60), (150, 140), (120, 230)]
    ImageDraw.Draw(page).line(stroke, fill=30, width=18, joint="curve")
    target = io.BytesIO()
    page.save(target, "PNG")
    return target.getvalue()
