"""The resident worker: ``python -m provider_images.runtime.worker`` keeps models loaded and takes jobs one by one.

One JSON object a line. It prints ``{"event": "ready", ...}`` once its engine is up, then one reply to each line of
stdin, in order, and ends when stdin closes:

    {"op": "ping"}                      -> {"ok": true}
    {"op": "load", "model": {...}}      -> {"ok": true}            a JobModel, so that the first job need not wait
    {"op": "run", "folder": "/path"}    -> {"ok": true}            results.json lies in the folder
    anything that fails                 -> {"ok": false, "kind": "job" | "model" | "internal", "error": "..."}
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from provider_images.runtime import sandbox
from provider_images.runtime.job import MAX_DETAIL, JobError, JobModel, canonical_json, decode_object

PROTOCOL = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve jobs until stdin closes."""
    parser = argparse.ArgumentParser(prog="python -m provider_images.runtime.worker", description=__doc__)
    parser.add_argument("--parent", type=int, help="process id to die with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", type=int, default=4, help="how many models stay loaded")
    parser.add_argument("--memory-mb", type=int, default=4096)
    options = parser.parse_args(arguments)
    replies = os.fdopen(sandbox.own_stdout(), "w", encoding="utf-8")
    sandbox.limit_memory(options.memory_mb)
    isolated = sandbox.leave_network()
    if options.parent is not None:
        sandbox.die_with_parent(options.parent)
    # Before the engine is imported: its log is noise, and its arithmetic must stay float32 on every CPU.
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="2", ONEDNN_DEFAULT_FPMATH_MODE="STRICT")
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    from provider_images.runtime.engines import ModelShelf

    shelf = ModelShelf(threads=options.threads, capacity=options.models)
    _say(replies, {"event": "ready", "protocol": PROTOCOL, "engine": shelf.engine, "isolated": isolated})
    for line in sys.stdin:
        _say(replies, _answer(line, shelf))


def _answer(line: str, shelf: Any) -> dict[str, Any]:
    from provider_images.runtime.engines import ModelError
    from provider_images.runtime.execute import run_folder

    try:
        order = decode_object(line)
        match order:
            case {"op": "ping"}:
                pass
            case {"op": "load", "model": model}:
                shelf.get(JobModel.from_dict(model), Path())
            case {"op": "run", "folder": str(folder)}:
                run_folder(Path(folder), shelf)
            case _:
                raise JobError("op: ping, load or run expected")
    except JobError as error:
        return _failed("job", error)
    except ModelError as error:
        return _failed("model", error)
    except Exception as error:  # noqa: BLE001 - one job's trouble must not end the worker
        return _failed("internal", error)
    return {"ok": True}


def _failed(kind: str, error: Exception) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "error": f"{type(error).__name__}: {error}"[:MAX_DETAIL]}


def _say(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(canonical_json(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
