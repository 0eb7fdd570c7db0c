"""What a manifest's optional ``familiarity`` may hold; standard library only, so that the oracle can check it too.

It comes from strangers and travels with every job: each field has bounds, and the memory it can ask for is bounded.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from provider_images.runtime.spec import SpecError

METHOD = "oriented-gradients/1"
STEPS = 254
"""How many thresholds part the 255 answers."""
MIN_GAP = 1e-4
"""What two thresholds are apart at least. Within the bounds below a distance is at most about 1e8, and two machines may
round it a millionth apart in float64: no byte moves by two."""
TEXTURE = 24
"""Features of the whole picture, beside those of its cells."""
MAX_BYTES = 150_000
"""Of all parameters, decoded; base64 makes it 200 kB."""

_NUMBERS = ("side", "cells", "bins", "components", "rank", "texture_weight", "mean_scale")
_LISTS = ("black", "white", "axes_scales", "scales", "offsets", "thresholds")
_FIELDS = frozenset({"method", "means", "axes", *_NUMBERS, *_LISTS})


@dataclass(frozen=True, slots=True)
class FamiliaritySpec:
    """The parameters, checked. ``Familiarity`` in ``familiarity.py`` says what each does."""

    side: int
    cells: int
    bins: int
    texture_weight: float
    black: tuple[float, ...]
    white: tuple[float, ...]
    components: int
    rank: int
    means: bytes
    mean_scale: float
    axes: bytes
    axes_scales: tuple[float, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    thresholds: tuple[float, ...]

    @property
    def features(self) -> int:
        """How many numbers describe a picture."""
        return self.cells * self.cells * self.bins + TEXTURE


def check_familiarity(declared: object, *, channels: int | None = None) -> None:
    """Check a manifest's ``familiarity``; ``channels`` is the manifest's ``input.channels``, where it is known.

    Raises SpecError, which is a ValueError and names the field.
    """
    read_familiarity(declared, channels=channels)


def read_familiarity(declared: object, *, channels: int | None = None) -> FamiliaritySpec:
    """Check and decode a manifest's ``familiarity``. Raises SpecError, which names the field."""
    if not isinstance(declared, dict):
        raise SpecError("familiarity: an object expected")
    body = cast(Mapping[str, object], declared)
    for wrong in sorted(_FIELDS - body.keys()):
        raise SpecError(f"familiarity.{wrong}: missing")
    # ``training`` informs people.
    for wrong in sorted(str(key) for key in body.keys() - _FIELDS - {"training"}):
        raise SpecError(f"familiarity.{wrong[:60]}: unknown")
    if body["method"] != METHOD:
        raise SpecError(f"familiarity.method: {METHOD!r} expected, not {_short(body['method'])}")
    if not isinstance(body.get("training", {}), dict):
        raise SpecError("familiarity.training: an object expected")
    side, cells, bins = (_integer(body, "side", 8, 64), _integer(body, "cells", 1, 8), _integer(body, "bins", 2, 16))
    components, rank = _integer(body, "components", 1, 64), _integer(body, "rank", 1, 16)
    size = cells * cells * bins + TEXTURE
    if components * (1 + rank) * size > MAX_BYTES:
        raise SpecError(f"familiarity.components: {components} of rank {rank} take more than {MAX_BYTES} bytes")
    black, white = _colours(body, channels)
    thresholds = _numbers(body, "thresholds", STEPS, -1e6, 1e6)
    for i in range(1, STEPS):
        if thresholds[i] - thresholds[i - 1] < MIN_GAP:
            raise SpecError(f"familiarity.thresholds[{i}]: at least {MIN_GAP} more than the one before expected")
    axes = _bytes(body, "axes", components * rank * size)
    axes_scales = _numbers(body, "axes_scales", components, 1e-12, 1)
    _check_axes(axes, axes_scales, rank, size)
    return FamiliaritySpec(
        side=side,
        cells=cells,
        bins=bins,
        texture_weight=_number(body["texture_weight"], "familiarity.texture_weight", 0, 20),
        black=black,
        white=white,
        components=components,
        rank=rank,
        means=_bytes(body, "means", components * size),
        mean_scale=_number(body["mean_scale"], "familiarity.mean_scale", 1e-9, 0.01),
        axes=axes,
        axes_scales=axes_scales,
        scales=_numbers(body, "scales", components, 1e-9, 1e3),
        offsets=_numbers(body, "offsets", components, -1e6, 1e6),
        thresholds=thresholds,
    )


def _check_axes(axes: bytes, axes_scales: tuple[float, ...], rank: int, size: int) -> None:
    """No axis is longer than one: longer ones would make rounding large, and honest machines would disagree."""
    for start in range(0, len(axes), size):
        squares = sum((value - 256 if value > 127 else value) ** 2 for value in axes[start : start + size])
        if squares * axes_scales[start // size // rank] ** 2 > 1.1:
            raise SpecError(f"familiarity.axes: axis {start // size} is longer than 1")


def _colours(body: Mapping[str, object], channels: int | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What black and white become in each channel of the model's input."""
    black = body["black"]
    count = len(black) if isinstance(black, list) and channels is None else channels or 0
    if channels is None and count not in (1, 3):
        raise SpecError("familiarity.black: a number for each of 1 or 3 channels expected")
    dark = _numbers(body, "black", count, -1e6, 1e6)
    light = _numbers(body, "white", count, -1e6, 1e6)
    if any(abs(a - b) < 1e-3 for a, b in zip(dark, light, strict=True)):
        raise SpecError("familiarity.white: it is the same as black")
    return dark, light


def _integer(body: Mapping[str, object], key: str, low: int, high: int) -> int:
    value = body[key]
    if type(value) is not int or not low <= value <= high:
        raise SpecError(f"familiarity.{key}: an integer from {low} to {high} expected, not {_short(value)}")
    return value


def _number(value: object, field: str, low: float, high: float) -> float:
    # bool is an int to Python, and NaN fails every comparison.
    if type(value) not in (int, float) or not low <= cast(float, value) <= high:
        raise SpecError(f"{field}: a number from {low:g} to {high:g} expected, not {_short(value)}")
    return float(cast(float, value))


def _numbers(body: Mapping[str, object], key: str, count: int, low: float, high: float) -> tuple[float, ...]:
    value = body[key]
    if not isinstance(value, list) or len(value) != count:
        raise SpecError(f"familiarity.{key}: a list of {count} numbers expected")
    return tuple(_number(item, f"familiarity.{key}[{i}]", low, high) for i, item in enumerate(value))


def _bytes(body: Mapping[str, object], key: str, count: int) -> bytes:
    value = body[key]
    # The length first: a stranger's text is not decoded to see that it is too long.
    if not isinstance(value, str) or len(value) != 4 * math.ceil(count / 3):
        raise SpecError(f"familiarity.{key}: {count} bytes in base64 expected")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SpecError(f"familiarity.{key}: not base64: {error}") from error
    if len(data) != count:
        raise SpecError(f"familiarity.{key}: {count} bytes in base64 expected, not {len(data)}")
    return data


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
