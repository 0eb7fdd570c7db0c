"""The resident worker: ``python -m provider_images.runtime.worker`` keeps models loaded and takes jobs one by one.

One JSON object a line. It prints ``{"event": "ready", ...}`` once its engine is up, then one reply to each line of
stdin, in order, and ends when stdin closes:

    {"op": "ping"}                      -> {"ok": true}
    {"op": "load", "model": {...}}      -> {"ok": true}            a JobModel, so that the first job need not wait;
                                                                   "anew": true where it was compiled since
    {"op": "run", "folder": "/path"}    -> {"ok": true}            results.json lies in the folder
    anything that fails                 -> {"ok": false, "kind": "job" | "model" | "internal", "error": "..."}
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from provider_images.runtime import sandbox
from provider_images.runtime.job import JobError, JobModel, canonical_json, decode_object

PROTOCOL = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve jobs until stdin closes."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.runtime.worker", description=__doc__)
    parser.add_argument("--parent", type=int, help="process id to die with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", type=int, default=4, help="how many models stay loaded")
    parser.add_argument("--memory-mb", type=int, default=4096)
    parser.add_argument("--compiled", type=Path, help="folder of compiled models")
    options = parser.parse_args(arguments)
    replies = os.fdopen(sandbox.own_stdout(), "w", encoding="utf-8")
    isolated = sandbox.enter(memory_mb=options.memory_mb, threads=options.threads)
    if options.parent is not None:
        sandbox.die_with_parent(options.parent)
    from provider_images.runtime.engines import ModelShelf
    from provider_images.runtime.execute import attempt

    shelf = ModelShelf(threads=options.threads, capacity=options.models, compiled=options.compiled)
    _say(replies, {"event": "ready", "protocol": PROTOCOL, "engine": shelf.engine, "isolated": isolated})
    for line in sys.stdin:
        _say(replies, attempt(partial(_do, line, shelf)))


def _do(line: str, shelf: Any) -> dict[str, Any]:
    from provider_images.runtime.execute import run_folder

    match decode_object(line):
        case {"op": "ping"}:
            pass
        case {"op": "load", "model": model, **rest}:
            shelf.get(JobModel.from_dict(model), Path(), anew=rest.get("anew") is True)
        case {"op": "run", "folder": str(folder)}:
            run_folder(Path(folder), shelf)
        case _:
            raise JobError("op: ping, load or run expected")
    return {}


def _say(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(canonical_json(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
