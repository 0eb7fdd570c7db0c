"""A double of the runtime's worker, for faults the real one does not have on demand: ``double_worker.py BEHAVIOUR``.

It speaks the worker's protocol without TensorFlow. For every input it answers "class 1, three times more likely than
class 0 and 2", unless the behaviour says otherwise.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    behaviour, _, number = sys.argv[1].partition(":")
    amount = float(number or 0)
    if behaviour == "never-starts":
        sys.stderr.write("ImportError: no engine here\n")
        sys.exit(3)
    if behaviour == "noisy":
        sys.stderr.write("x" * 1_000_000)
        sys.stderr.flush()
    say({"event": "ready", "protocol": 1, "engine": "double", "isolated": False})
    if behaviour == "dies-idle":
        time.sleep(amount)
        os._exit(7)
    for line in sys.stdin:
        order = json.loads(line)
        if order["op"] == "run":
            run(Path(order["folder"]), behaviour, amount)
        say({"ok": True})


def run(folder: Path, behaviour: str, amount: float) -> None:
    if behaviour == "slow":
        time.sleep(amount)
    if behaviour == "hangs":
        time.sleep(3600)
    if behaviour == "dies":
        sys.stderr.write("Segmentation fault, says the double\n")
        sys.stderr.flush()
        os._exit(11)
    if behaviour == "no-file":
        return
    if behaviour == "babbles":
        sys.stdout.write("I am not JSON\n")
        sys.stdout.flush()
        return
    if behaviour == "refuses":
        say({"ok": False, "kind": "model", "error": "weights: their sha256 is not the manifest's"})
        sys.stdin.readline()
        return
    job = json.loads((folder / "job.json").read_text())
    with (folder.parent.parent / "runs.log").open("a") as log:
        log.write(job["id"] + "\n")
    (folder / "results.json").write_text(json.dumps(spoil(result(job), behaviour)))
    if behaviour == "half-file":
        (folder / "results.json").write_text(json.dumps(result(job))[:-20])


def result(job: dict[str, Any]) -> dict[str, Any]:
    known = {"familiarity": 128} if "familiarity" in job["model"]["manifest"] else {}
    return {
        "schema": 1,
        "job": job["id"],
        "engine": "double",
        "decode_seconds": 0.0,
        "inference_seconds": 0.001,
        "items": [{"input": item["id"], "labels": [[1, 0.6], [0, 0.2], [2, 0.2]], **known} for item in job["inputs"]],
    }


def spoil(result: dict[str, Any], behaviour: str) -> dict[str, Any]:
    first = result["items"][0]
    match behaviour:
        case "other-input":
            first["input"] = "ff" * 32
        case "too-few":
            result["items"] = result["items"][1:]
        case "not-a-number":
            first["labels"][0][1] = float("nan")
        case "too-sure":
            first["labels"] = [[1, 0.9], [0, 0.9], [2, 0.9]]
        case "no-such-class":
            first["labels"][0][0] = 10
        case "other-job":
            result["job"] = "another"
    return result


def say(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
