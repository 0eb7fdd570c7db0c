"""A double in front of the runtime of an image, for faults the real one does not have on demand.

It stands as ``provider_images/runtime/__main__.py`` in a provider's copy of the image; the real one is ``honest.py``
beside it. What it does is read from ``/behaviour`` at each task.
"""

from __future__ import annotations

import json
import runpy
import sys
import time
from pathlib import Path

HONEST = "provider_images.runtime.honest"


def main() -> None:
    behaviour, _, number = Path("/behaviour").read_text().partition(":")
    task = "run" in sys.argv[1:2]
    if task and behaviour in ("slow", "hangs"):
        time.sleep(float(number) if behaviour == "slow" else 3600)
    if task and behaviour == "refuses":
        sys.exit("model: weights: their sha256 is not the manifest's")
    code = 0
    try:
        runpy.run_module(HONEST, run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    if task and code == 0:
        from provider_images.runtime.double_worker import spoil

        result = Path(sys.argv[3])
        text = json.dumps(spoil(plain(json.loads(result.read_text())), behaviour))
        result.write_text("" if behaviour == "no-file" else text[:-20] if behaviour == "half-file" else text)
    sys.exit(code)


def plain(result: dict[str, object]) -> dict[str, object]:
    """The answer that every double gives, so that the suite knows what to expect."""
    items = result["items"]
    assert isinstance(items, list)
    labels = [[1, 0.6], [0, 0.2], [2, 0.2]]
    kept = [{key: item[key] for key in ("input", "familiarity") if key in item} for item in items]
    return result | {"items": [item | {"labels": [list(pair) for pair in labels]} for item in kept]}


if __name__ == "__main__":
    main()
