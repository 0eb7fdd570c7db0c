"""Make the ``familiarity`` of a manifest from pictures that a model was trained on and pictures held out from that.

``provider_images/runtime/familiarity.py`` says what is fitted; here the numbers are found: k-means on the features,
then for each cluster its mean and main axes, then the scale and the thresholds from the pictures held out.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.familiarity import Familiarity, Values, features, grey
from provider_images.runtime.familiarity_spec import METHOD, MIN_GAP, STEPS, TEXTURE
from provider_images.runtime.pictures import scale
from provider_images.runtime.spec import InputSpec

Pictures = NDArray[np.float32]  # (n, height, width, channels), as the model is fed them

CELLS, BINS, RANK, COMPONENTS = 5, 10, 4, 40
SIDE = 48  # pixels; what is larger is shrunk to this
_GAP = 2 * MIN_GAP  # between thresholds, which are rounded
_LEAST_VARIANCE = 1e-3
_KMEANS_ROUNDS, _KMEANS_TRIES = 30, 5
_KMEANS_AXES = 40


def fit(training: Pictures, held_out: Pictures, spec: InputSpec, *, seed: int) -> dict[str, Any]:
    """The ``familiarity`` object, without ``training``: fitted to one set, its percentiles taken from the other.

    Raises ValueError with fewer than 10 pictures for training, or fewer than 255 held out: the answer has 255 steps.
    """
    if len(training) < 10 or len(held_out) <= STEPS:
        raise ValueError(
            f"at least 10 pictures of the training and {STEPS + 1} held out from it are needed, "
            f"not {len(training)} and {len(held_out)}"
        )
    black, white = _colours(spec)
    side = min(SIDE, spec.height, spec.width)
    described = _describe(training, black, white, side)
    cellwise, whole = described[:, :-TEXTURE], described[:, -TEXTURE:]
    # The whole picture's few features weigh as much as the cells' many.
    weight = _short(min(20.0, np.sqrt(cellwise.var(axis=0).sum() / max(1e-9, whole.var(axis=0).sum()))))
    whole *= weight
    clusters = _clusters(described, min(COMPONENTS, len(training) // 10), np.random.default_rng(seed))
    components = [_component(described[clusters == number]) for number in range(int(clusters.max()) + 1)]
    declared: dict[str, Any] = {
        "method": METHOD,
        "side": side,
        "cells": CELLS,
        "bins": BINS,
        "texture_weight": weight,
        "black": list(black),
        "white": list(white),
        "rank": RANK,
        **_encoded(components, weight),
        "thresholds": [float(i) for i in range(STEPS)],
    }
    _standardise(declared, training)
    _calibrate(declared, held_out)
    return declared


def auroc(known: Sequence[int], others: Sequence[int]) -> float:
    """How often one of the known pictures scores above one of the others; a tie counts half."""
    a, b = np.asarray(known), np.sort(np.asarray(others))
    below, up_to = np.searchsorted(b, a, side="left"), np.searchsorted(b, a, side="right")
    return float((below + up_to).mean() / 2 / len(b))


def _colours(spec: InputSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What black and white become on their way into the model, channel by channel."""
    ends = [scale(np.full((1, 1, spec.channels), level, np.float32), spec)[0, 0] for level in (0, 255)]
    black, white = (tuple(_short(value) for value in end) for end in ends)
    return black, white


def _describe(pictures: Pictures, black: tuple[float, ...], white: tuple[float, ...], side: int) -> Values:
    return np.stack([features(grey(picture, black, white, side), CELLS, BINS, 1.0) for picture in pictures])


def _clusters(described: Values, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which cluster each row belongs to, by k-means in the main axes: the tightest of several tries.

    A cluster too small to have axes of its own is dissolved.
    """
    centred = described - described.mean(axis=0)
    _, axes = _main_axes(centred, min(_KMEANS_AXES, *centred.shape))
    rows = centred @ axes.T
    tries = [_kmeans(rows, count, rng) for _ in range(_KMEANS_TRIES)]
    centres = min(tries, key=lambda found: float(_squares(rows, found).min(axis=1).sum()))
    sizes = np.bincount(_squares(rows, centres).argmin(axis=1), minlength=len(centres))
    kept = centres[(sizes >= 2 * RANK) | (sizes == sizes.max())]
    member: NDArray[np.int64] = np.unique(_squares(rows, kept).argmin(axis=1), return_inverse=True)[1]
    return member


def _kmeans(rows: Values, count: int, rng: np.random.Generator) -> Values:
    """At most ``count`` centres: k-means++ (Arthur and Vassilvitskii, 2007), then Lloyd's rounds."""
    centres: Values = rows[rng.integers(len(rows))][None]
    nearest = _squares(rows, centres)[:, 0].clip(0, None)
    while len(centres) < count and nearest.sum() > 0:
        centres = np.concatenate([centres, rows[rng.choice(len(rows), p=nearest / nearest.sum())][None]])
        nearest = np.minimum(nearest, _squares(rows, centres[-1:])[:, 0].clip(0, None))
    for _ in range(_KMEANS_ROUNDS):
        member = _squares(rows, centres).argmin(axis=1)
        centres = np.stack([rows[member == number].mean(axis=0) for number in np.unique(member)])
    return centres


def _squares(rows: Values, centres: Values) -> Values:
    """Squared distances, (rows, centres)."""
    squares: Values = np.square(rows).sum(axis=1)[:, None] - 2 * rows @ centres.T + np.square(centres).sum(axis=1)
    return squares


def _main_axes(centred: Values, count: int) -> tuple[Values, Values]:
    """The largest variances and their directions, (count) and (count, features)."""
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    return variances[::-1][:count].clip(0, None), directions.T[::-1][:count]


class _Component(NamedTuple):
    """A Gaussian: -2 log p is ``(|z|^2 - |axes z|^2) / rest + level``, z the features less ``mean``."""

    mean: Values
    axes: Values
    rest: float
    level: float


def _component(rows: Values) -> _Component:
    """The Gaussian of ``RANK`` main axes and one variance for everything else that is most likely for these rows."""
    mean = rows.mean(axis=0)
    variances, directions = _main_axes(rows - mean, RANK)
    others = rows.shape[1] - RANK
    # Never nothing: a page repeated has no variance.
    rest = max(float(np.square(rows - mean).sum(axis=1).mean() - variances.sum()) / others, _LEAST_VARIANCE)
    axes = directions * np.sqrt(variances / (variances + rest))[:, None]
    return _Component(mean, axes, rest, float(np.log(variances + rest).sum() + others * np.log(rest)))


def _encoded(components: Sequence[_Component], weight: float) -> dict[str, Any]:
    """Components as the manifest holds them, means and axes a byte a number."""
    means = np.stack([part.mean for part in components])
    means[:, -TEXTURE:] /= weight
    mean_scale = _short(means.max() / 255)
    # A unit vector's numbers are at most one.
    axes_scales = [_short(max(np.abs(part.axes).max(), 1e-6) / 127) for part in components]
    axes = np.stack([part.axes / step for part, step in zip(components, axes_scales, strict=True)])
    return {
        "components": len(components),
        "means": _base64(np.rint(means / mean_scale).clip(0, 255).astype(np.uint8)),
        "mean_scale": mean_scale,
        "axes": _base64(np.rint(axes).clip(-127, 127).astype(np.int8)),
        "axes_scales": axes_scales,
        "scales": [_short(1 / part.rest) for part in components],
        "offsets": [_short(-part.level) for part in components],
    }


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _short(value: float) -> float:
    """Six digits: a manifest is read by people too."""
    return float(f"{value:.6g}")


def _standardise(declared: dict[str, Any], training: Pictures) -> None:
    """Bring each component's distances to one measure: 0 is the median of its own pictures, 1 the 84th percentile.

    Without it the components of the simplest pictures would draw everything to them.
    """
    distances = Familiarity.from_manifest(declared).distances(training)  # (n, components)
    nearest = distances.argmin(axis=1)
    for number, column in enumerate(distances.T):
        own = column[nearest == number]
        median, high = np.quantile(own if len(own) else column, [0.5, 0.84])
        unit = max(high - median, 1.0)
        declared["scales"][number] = _short(declared["scales"][number] / unit)
        declared["offsets"][number] = _short((declared["offsets"][number] + median) / unit)


def _calibrate(declared: dict[str, Any], held_out: Pictures) -> None:
    found = Familiarity.from_manifest(declared).unfamiliarity(held_out)
    levels = np.quantile(found, np.arange(1, STEPS + 1) / (STEPS + 1))
    # Where many are the same, thresholds are pushed apart.
    gap = _GAP * np.arange(STEPS)
    declared["thresholds"] = [round(float(level), 5) for level in np.maximum.accumulate(levels - gap) + gap]
