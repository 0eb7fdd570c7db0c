"""The resident model process of one activity: its engine and models stay loaded between commands.

It listens on a Unix socket and takes one order a connection, one after the other; each line is a JSON object:

    {"op": "start"}                           -> {"ok": true, "engine": ..., "avx": ..., ...}, what ``measure`` gives
    {"op": "task", "tar": ..., "result": ...} -> {"started": the job's limit in seconds}, later {"ok": true}
    anything that fails                       -> {"ok": false, "kind": "job" | "model" | "internal", "error": "..."}

It ends when its folder is gone, or when nobody has asked anything for an hour.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from provider_images.runtime import sandbox
from provider_images.runtime.job import JobError, canonical_json, decode_object

COMPILED = Path(__file__).parents[1] / "compiled"
"""Where an image keeps what ``compiled.py`` made, if anything: its models need neither TensorFlow nor weights."""

_IDLE_LIMIT = 3600.0  # seconds
_LOOK_AROUND = 5.0  # seconds between looks at whether the folder is still there
_ORDER_LIMIT = 10.0  # seconds for a client to say what it wants
_MAX_ORDER = 64 * 1024


def serve(listener: socket.socket, folder: Path, *, memory_mb: int, threads: int) -> None:
    """Load the engine, then do orders until there is no more use for it. ``folder`` is where tasks are unpacked."""
    began = time.monotonic()
    sandbox.enter(memory_mb=memory_mb, threads=threads)
    from provider_images.runtime.engines import ModelShelf

    desk = _Desk(ModelShelf(threads=threads, capacity=4, compiled=COMPILED), folder, began)
    listener.settimeout(_LOOK_AROUND)
    used = time.monotonic()
    while folder.is_dir() and time.monotonic() - used < _IDLE_LIMIT:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        # A client that went away, or never spoke, is its own loss.
        with connection, contextlib.suppress(OSError):
            desk.serve(connection)
        used = time.monotonic()


class _Desk:
    def __init__(self, shelf: Any, folder: Path, began: float) -> None:
        self._shelf, self._folder, self._began = shelf, folder, began
        self._measured: dict[str, Any] = {}

    def serve(self, connection: socket.socket) -> None:
        """Take one order and reply. Raises OSError when the client is gone."""
        from provider_images.runtime.execute import attempt

        connection.settimeout(_ORDER_LIMIT)
        with connection.makefile("rb") as reader:
            line = reader.readline(_MAX_ORDER)
        reply = attempt(lambda: self._do(line, connection))
        connection.sendall(canonical_json(reply).encode() + b"\n")

    def _do(self, line: bytes, connection: socket.socket) -> dict[str, Any]:
        match decode_object(line):
            case {"op": "start"}:
                return self._measure()
            case {"op": "task", "tar": str(tar), "result": str(result)}:
                self._run(Path(tar), Path(result), connection)
                return {}
            case _:
                raise JobError("op: start or task expected")

    def _measure(self) -> dict[str, Any]:
        if not self._measured:
            from provider_images.runtime.measure import measure

            self._measured = measure(self._shelf, began=self._began)
        return self._measured

    def _run(self, tar: Path, result: Path, connection: socket.socket) -> None:
        from provider_images.runtime.execute import read_job, run_job
        from provider_images.runtime.task import unpack_task

        folder = self._folder / "task"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            unpack_task(tar, folder)
            job = read_job(folder)
            connection.sendall(canonical_json({"started": job.max_seconds}).encode() + b"\n")
            run_job(job, folder, self._shelf, result)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
