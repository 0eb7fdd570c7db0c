"""Distributions of bytes as a picture: one row of bars for each kind of picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_BARS, _WIDTH, _HEIGHT, _LEFT, _ROW = 51, 510, 56, 130, 84


def chart(groups: Mapping[str, Sequence[int]]) -> str:
    """An SVG of how familiar each group's pictures are: 51 bars of five bytes each, a row's highest bar to the top."""
    parts = []
    for number, (name, values) in enumerate(groups.items()):
        base = _ROW * number + _HEIGHT + 16
        counts = np.bincount((np.asarray(values, np.int64) - 1) // 5, minlength=_BARS) if values else np.zeros(_BARS)
        width = _WIDTH / _BARS
        for i, count in enumerate(counts):
            if count:
                tall = _HEIGHT * count / counts.max()
                place = f'x="{_LEFT + i * width:.1f}" y="{base - tall:.1f}" width="{width - 1:.1f}" height="{tall:.1f}"'
                parts.append(f'<rect {place} fill="#3b6ea5"/>')
        parts.append(f'<path d="M{_LEFT} {base + 0.5}h{_WIDTH}" stroke="#888"/>')
        parts.append(f'<text x="{_LEFT - 10}" y="{base - 4}" text-anchor="end">{name}</text>')
        parts.append(f'<text x="{_LEFT - 10}" y="{base - 20}" text-anchor="end" fill="#777">{len(values)}</text>')
    foot = _ROW * len(groups) + 14
    parts += [
        f'<text x="{_LEFT + _WIDTH * byte / 255:.0f}" y="{foot}" text-anchor="middle" fill="#777">{byte}</text>'
        for byte in (1, 64, 128, 192, 255)
    ]
    size = f'width="{_LEFT + _WIDTH + 20}" height="{foot + 10}"'
    style = 'font-family="sans-serif" font-size="13" fill="#333"'
    page = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', page, *parts, "</svg>"]) + "\n"
