"""A model tried out before it is published: file and manifest together, in a process with a provider's limits."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provider_images.runtime.engines import ModelError
from provider_images.runtime.job import JOB_FILE, RESULT_FILE, ItemOutput, Job, JobError, JobInput, JobModel, JobResult
from provider_images.runtime.spec import ModelSpec, SpecError

_SIDE = 512  # pixels of the pictures that are tried


@dataclass(frozen=True, slots=True)
class DryRun:
    """What came of it: the engine, seconds for all pictures, and (label, score) pairs of each, best first.

    The pairs of a segmentation are its segments, of which a picture may have none.
    """

    engine: str
    decode_seconds: float
    inference_seconds: float
    answers: tuple[tuple[tuple[str, float], ...], ...]


def dry_run(
    manifest: Mapping[str, Any],
    weights: Path,
    *,
    pictures: Sequence[bytes] = (),
    memory_mb: int = 4096,
    seconds: int = 120,
    threads: int = 2,
) -> DryRun:
    """Load a model as a provider would and have it answer pictures (at most 16; three made ones where none are given).

    Raises ModelError with the reason: an unknown field, weights of another sha256, a file that is not accepted, shapes
    that are not the manifest's, answers that are no distribution or no segments, more memory or time than allowed.
    """
    try:
        ModelSpec.from_manifest(manifest)
    except SpecError as error:
        raise ModelError(str(error)) from error
    with tempfile.TemporaryDirectory(prefix="sibyl-dry-run-") as name:
        folder = Path(name)
        job = _job(folder, manifest, weights, pictures or _made(), seconds)
        _ask(folder, memory_mb=memory_mb, seconds=seconds, threads=threads)
        try:
            result = JobResult.from_json((folder / RESULT_FILE).read_bytes(), job)
        except (JobError, OSError) as error:
            raise ModelError(f"the answers are not what the manifest declares: {error}") from error
    for item in result.items:
        if item.failure is not None:
            raise ModelError(f"a picture was not answered ({item.failure.value}): {item.detail}")
    labels = manifest["labels"]
    return DryRun(
        engine=result.engine,
        decode_seconds=result.decode_seconds,
        inference_seconds=result.inference_seconds,
        answers=tuple(tuple((labels[index], score) for index, score in _scores(item)) for item in result.items),
    )


def _scores(item: ItemOutput) -> tuple[tuple[int, float], ...]:
    return item.labels or tuple((segment.index, segment.score) for segment in item.segments)


def _job(folder: Path, manifest: Mapping[str, Any], weights: Path, pictures: Sequence[bytes], seconds: int) -> Job:
    inputs = []
    for i, picture in enumerate(pictures):
        (folder / f"picture-{i}").write_bytes(picture)
        inputs.append(JobInput(f"picture-{i}", "none", f"picture-{i}", len(picture)))
    model = JobModel("dry-run", manifest, str(weights.absolute()))
    job = Job("dry-run", model, tuple(inputs), max_pixels=100_000_000, max_seconds=seconds)
    (folder / JOB_FILE).write_text(job.to_json(), encoding="utf-8")
    return job


def _ask(folder: Path, *, memory_mb: int, seconds: int, threads: int) -> None:
    """Have a worker do the job of a folder. Raises ModelError when it refuses, ends or takes too long."""
    command = [sys.executable, "-m", "provider_images.runtime.worker", "--parent", str(os.getpid())]
    limits = ["--memory-mb", str(memory_mb), "--threads", str(threads)]
    order = json.dumps({"op": "run", "folder": str(folder)}) + "\n"
    try:
        # Half a minute more, for the engine to be imported.
        ran = subprocess.run(
            [*command, *limits], input=order, capture_output=True, text=True, timeout=seconds + 30, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"it took more than {seconds} s") from error
    replies = [json.loads(line) for line in ran.stdout.splitlines()]
    if len(replies) < 2:
        raise ModelError(f"the process ended: {_last_words(ran.stderr, ran.returncode, memory_mb, seconds)}")
    if replies[1].get("ok") is not True:
        raise ModelError(str(replies[1].get("error")).removeprefix("ModelError: "))


def _last_words(log: str, code: int, memory_mb: int, seconds: int) -> str:
    if "Timeout" in log:
        return f"it took more than {seconds} s"
    lines = [line for line in log.splitlines() if line.strip()]
    return f"code {code}, at most {memory_mb} MB allowed; {lines[-1][:200] if lines else 'it said nothing'}"


def _made() -> list[bytes]:
    """A white page, a ramp of colours and noise, as PNG."""
    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE] * 255 // (_SIDE - 1)
    pages = [
        np.full((_SIDE, _SIDE, 3), 255),
        np.stack([rows, columns, 255 - rows], axis=-1),
        np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3)),
    ]
    made = []
    for page in pages:
        target = io.BytesIO()
        Image.fromarray(page.astype(np.uint8)).save(target, "PNG")
        made.append(target.getvalue())
    return made
