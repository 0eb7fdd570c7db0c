"""A provider's decoding alone, under the limits of its model process: ``python -m tests.pictures.worker``.

Protocol on its pipes, as that of the oracle's decoder: a frame is a 4-byte big-endian length and as many bytes. A
picture comes in; out goes a JSON object with ``size`` or ``failure`` and ``detail``, ``seconds``, and ``rss_mb``,
the peak.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from provider_images.runtime import sandbox
from provider_images.runtime.pictures import PictureError, decode_picture, prepare
from provider_images.runtime.spec import InputSpec

# A classifier's input and a digit's; segmentation takes pictures at their full size.
SPECS = (
    InputSpec(224, 224, 3, "rgb", "crop", 0, (0.0, 1.0), crop=0.875),
    InputSpec(28, 28, 1, "gray", "digit", 20, (0.0, 1.0)),
)


def examine(data: bytes, max_pixels: int) -> dict[str, Any]:
    """What each way of decoding comes to, which must be the same for all, and the seconds of the slowest."""
    ways: list[Callable[[], dict[str, Any]]] = [lambda: {"size": decode_picture(data, max_pixels).size}]
    ways += [partial(_prepare, data, spec, max_pixels) for spec in SPECS]
    outcomes, seconds = [], 0.0
    for way in ways:
        began = time.monotonic()
        try:
            outcomes.append(way())
        except PictureError as error:
            outcomes.append({"failure": error.failure.name, "detail": str(error)})
        seconds = max(seconds, time.monotonic() - began)
    if len({outcome.get("failure") for outcome in outcomes}) > 1:
        return {"failure": "DIFFERS", "detail": json.dumps(outcomes), "seconds": seconds}
    return outcomes[0] | {"seconds": seconds}


def _prepare(data: bytes, spec: InputSpec, max_pixels: int) -> dict[str, Any]:
    array = prepare(data, spec, max_pixels=max_pixels)
    assert array.shape == (spec.height, spec.width, spec.channels)
    assert np.isfinite(array).all()
    return {}


def peak_mb(process: int | str) -> float:
    """The largest resident set that a process had, in MB, since ``forget_peak``. Raises OSError when it is gone."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def forget_peak(process: int | str) -> None:
    """Have ``peak_mb`` begin anew. Raises OSError when the process is gone."""
    Path(f"/proc/{process}/clear_refs").write_text("5")


def main() -> None:
    """Answer frames until the input ends."""
    max_pixels, memory_mb = (int(argument) for argument in sys.argv[1:3])
    replies = os.fdopen(sandbox.own_stdout(), "wb")
    sandbox.enter(memory_mb=memory_mb, threads=1)
    while header := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(struct.unpack(">I", header)[0])
        forget_peak("self")
        answer = json.dumps(examine(data, max_pixels) | {"rss_mb": peak_mb("self")}).encode()
        replies.write(struct.pack(">I", len(answer)) + answer)
        replies.flush()


if __name__ == "__main__":
    main()
