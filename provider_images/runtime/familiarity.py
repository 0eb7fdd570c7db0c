"""How close a picture is to those that a model was trained on: a number from 1 to 255.

The picture is looked at as the model is fed it, whichever engine runs the model. It is described by how much edge of
each direction lies in each cell of a grid (histograms of oriented gradients: Dalal and Triggs, CVPR 2005) and, for the
picture as a whole, by which grey levels meet which steepness and curvature. The training pictures, so described, are
modelled as a few Gaussians of low rank (probabilistic principal components: Tipping and Bishop, 1999). A picture's
unfamiliarity is its distance to all of them, of which the nearest counts most; thresholds from pictures held out from
training turn it into a share.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from provider_images.runtime.familiarity_spec import STEPS, TEXTURE, FamiliaritySpec, read_familiarity

Values = NDArray[np.float64]

_LEVELS, _GRADES = 4, 3  # of grey; of steepness and of curvature
_SOFTENING = 1e-4  # before a root, whose slope at nothing would make much of rounding


class Familiarity:
    """The measure that a manifest declares.

    With z the features less a component's mean, its distance is ``scale * (|z|^2 - |axes z|^2) - offset``; a picture's
    unfamiliarity is ``-log(sum(exp(-distance)))`` over the components. ``means`` are uint8, (components, features), and
    become numbers by ``mean_scale``, the last 24 also by ``texture_weight``; ``axes`` are int8, (components, rank,
    features), and become numbers by each component's ``axes_scales``. ``thresholds`` rise; there are 254.
    """

    def __init__(self, spec: FamiliaritySpec) -> None:
        self._spec = spec
        shape = (spec.components, spec.rank, spec.features)
        self._means = np.frombuffer(spec.means, np.uint8).reshape(shape[0], shape[2]) * spec.mean_scale
        self._means[:, -TEXTURE:] *= spec.texture_weight
        steps = np.frombuffer(spec.axes, np.int8).reshape(shape).astype(np.float64)
        self._axes = steps * np.asarray(spec.axes_scales)[:, None, None]
        self._scales, self._offsets = np.asarray(spec.scales), np.asarray(spec.offsets)
        self._thresholds = np.asarray(spec.thresholds)

    @classmethod
    def from_manifest(cls, declared: object, *, channels: int | None = None) -> Familiarity:
        """Read a manifest's ``familiarity``; ``channels`` is its ``input.channels``. Raises SpecError."""
        return cls(read_familiarity(declared, channels=channels))

    def score(self, pictures: Iterable[NDArray[np.float32]]) -> list[int]:
        """1 to 255 for each picture (height, width, channels), as the model is fed it; an array of them will do.

        It is ``max(1, ceil(255 p))``, p the share of the held-out pictures that are less familiar than this one: 255
        for the most typical, about 128 for the median, at most 3 for what is less familiar than 99 % of them.
        """
        above = np.searchsorted(self._thresholds, self.unfamiliarity(pictures), side="left")
        return [1 + STEPS - int(count) for count in above]

    def unfamiliarity(self, pictures: Iterable[NDArray[np.float32]]) -> Values:
        """How far each picture is from all components together, (n), before it is held against the thresholds."""
        distances = self.distances(pictures)
        nearest = distances.min(axis=1)
        together: Values = nearest - np.log(np.exp(nearest[:, None] - distances).sum(axis=1))
        return together

    def distances(self, pictures: Iterable[NDArray[np.float32]]) -> Values:
        """The distance of each picture to each component, (n, components)."""
        # One picture at a time, so that its answer cannot depend on its company.
        return np.stack([self._distances(picture) for picture in pictures])

    def _distances(self, picture: NDArray[np.float32]) -> Values:
        spec = self._spec
        levels = grey(picture, spec.black, spec.white, spec.side)
        apart = features(levels, spec.cells, spec.bins, spec.texture_weight) - self._means  # (components, features)
        along = np.matmul(self._axes, apart[:, :, None])[:, :, 0]  # (components, rank)
        squares: Values = np.square(apart).sum(axis=1) - np.square(along).sum(axis=1)
        apart_by: Values = squares * self._scales - self._offsets
        return apart_by


def grey(picture: NDArray[np.float32], black: tuple[float, ...], white: tuple[float, ...], side: int) -> Values:
    """A picture (height, width, channels) of a model as a grey one (side, side), 0 to 1; each pixel is a mean."""
    dark, light = np.asarray(black), np.asarray(white)
    levels: Values = ((picture.astype(np.float64) - dark) / (light - dark)).mean(axis=2).clip(0, 1)
    if levels.shape == (side, side):
        return levels
    return _overlaps(levels.shape[0], side) @ levels @ _overlaps(levels.shape[1], side).T


def _overlaps(length: int, side: int) -> Values:
    """How much of each of ``length`` pixels falls into each of ``side``: (side, length), every row sums to one."""
    edges = np.arange(side + 1) * (length / side)
    pixels = np.arange(length)
    shared: Values = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return shared.clip(0, None) / (length / side)


def features(levels: Values, cells: int, bins: int, texture_weight: float) -> Values:
    """What describes a grey picture (side, side), 0 to 1: (cells * cells * bins + 24)."""
    page = np.pad(levels, 1)
    right, left, below, above = page[1:-1, 2:], page[1:-1, :-2], page[2:, 1:-1], page[:-2, 1:-1]
    x, y = right - left, below - above
    steepness = np.hypot(x, y)
    curvature = np.abs(4 * levels - right - left - below - above)
    direction = np.arctan2(y, x) * (bins / (2 * np.pi))  # in bins, -bins / 2 to bins / 2
    turned = np.abs((direction - np.arange(bins)[:, None, None] + bins / 2) % bins - bins / 2)  # (bins, side, side)
    window = _windows(len(levels), cells)
    edges = window.T @ (steepness * (1 - turned).clip(0, None)) @ window  # (bins, cells, cells)
    grades = np.concatenate([_grades(steepness * (_GRADES - 1), _GRADES), _grades(curvature, _GRADES)])
    texture = _grades(levels * (_LEVELS - 1), _LEVELS) @ grades.T / levels.size  # (4, 6)
    return np.concatenate([np.sqrt(edges.ravel() + _SOFTENING), np.sqrt(texture.ravel() + _SOFTENING) * texture_weight])


def _windows(side: int, cells: int) -> Values:
    """How much each pixel counts for each cell, falling linearly to the next cell's middle: (side, cells)."""
    step = side / cells
    middles = (np.arange(cells) + 0.5) * step
    weights: Values = (1 - np.abs(np.arange(side)[:, None] + 0.5 - middles) / step).clip(0, None) / step
    return weights


def _grades(values: Values, count: int) -> Values:
    """How much each value belongs to each of 0, 1, .. ``count`` - 1: (count, size), shared between the two nearest.

    What is above the last belongs to the last.
    """
    apart = values.ravel().clip(0, count - 1) - np.arange(count)[:, None]
    shares: Values = (1 - np.abs(apart)).clip(0, None)
    return shares
