"""What the work on a job's pictures gives, whatever the model's task."""

from __future__ import annotations

from typing import NamedTuple

from provider_images.runtime.job import ItemOutput


class Answers(NamedTuple):
    """An outcome for each picture, in order, and the seconds spent on decoding and on computing."""

    items: list[ItemOutput]
    decode_seconds: float
    inference_seconds: float
