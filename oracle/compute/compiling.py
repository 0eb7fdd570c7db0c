"""Models compiled for OpenVINO in the background, once each, so that workers run them faster and load them sooner."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from oracle.telemetry import logger
from provider_images.runtime.choice import OPENVINO, compiled_file, engine_of
from provider_images.runtime.job import JobModel

log = logger("compute")

_LIMIT = 600.0  # seconds for one model
_MEMORY_MB = 6144
_NICENESS = 19  # whatever else this machine does comes first
_STDIN = "/dev/stdin"  # where the manifest comes in


class ModelCompiler:
    """Makes compiled models in ``folder``, one at a time. A failure costs nothing but the time: it is logged, and the
    model stays with TensorFlow until the next start.

    ``command`` replaces the command line up to the three that ``provider_images.runtime.compiled`` takes.
    """

    def __init__(self, folder: Path, *, command: Sequence[str] | None = None, limit: float = _LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._able = command is not None or all(map(importlib.util.find_spec, ("openvino", "tensorflow")))
        self._command = tuple(command or ()) or (
            *(sys.executable, "-P", "-m", "provider_images.runtime.compiled", "--parent", str(os.getpid())),
            *("--niceness", str(_NICENESS), "--memory-mb", str(_MEMORY_MB)),
        )
        self._wishes: asyncio.Queue[JobModel] = asyncio.Queue()
        self._seen: set[str] = set()

    def wish(self, model: JobModel) -> None:
        """Note a model that is in use; nothing happens where it was noted before, or is another engine's."""
        if not self._able or model.manifest_cid in self._seen:
            return
        self._seen.add(model.manifest_cid)
        if engine_of(str(model.manifest.get("family"))) == OPENVINO and not self._file(model).is_file():
            self._wishes.put_nowait(model)

    async def next_wish(self) -> JobModel:
        """Wait for a model that is to be compiled."""
        return await self._wishes.get()

    async def compile(self, model: JobModel) -> bool:
        """Compile it; whether that went well. The process is gone when this returns or is cancelled."""
        name = model.manifest.get("name")
        if self._file(model).is_file():  # of the same weights under another manifest
            return True
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            process = await asyncio.create_subprocess_exec(
                *self._command, _STDIN, model.weights, str(self._folder),
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, process_group=0,
            )  # fmt: skip
        except OSError as error:
            log.warning("%s is not compiled: %s", name, error)
            return False
        try:
            async with asyncio.timeout(self._limit):
                _, said = await process.communicate(json.dumps(model.manifest).encode())
        except TimeoutError:
            log.warning("%s is not compiled: it takes more than %g s", name, self._limit)
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if process.returncode:
            lines = said.decode(errors="replace").split("\n")
            reason = next((line for line in reversed(lines) if line.strip()), f"exit code {process.returncode}")
            log.warning("%s is not compiled: %s", name, reason[:300])
            return False
        log.info("%s is compiled: from now on OpenVINO computes it", name)
        return True

    def _file(self, model: JobModel) -> Path:
        return compiled_file(self._folder, str(model.manifest["family"]), str(model.manifest["weights"]["sha256"]))
