"""Run one job folder: ``job.json`` and inputs in, a result document out."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from provider_images.runtime.answers import Answers
from provider_images.runtime.checks import MAX_DETAIL
from provider_images.runtime.classification import classify_all
from provider_images.runtime.engines import ModelError, ModelShelf
from provider_images.runtime.job import (
    JOB_FILE,
    RESULT_FILE,
    ItemFailure,
    ItemOutput,
    Job,
    JobError,
    JobInput,
    JobResult,
)
from provider_images.runtime.model import Classifier, Segmenter
from provider_images.runtime.pictures import PictureError
from provider_images.runtime.sandbox import cpus, limit_processor
from provider_images.runtime.segmentation import segment_all


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The reply to an order: ``"ok"`` and what the work gave, or which kind of thing went wrong. Raises nothing."""
    try:
        return {"ok": True, **work()}
    except JobError as error:
        return _failed("job", error)
    except ModelError as error:
        return _failed("model", error)
    except Exception as error:  # noqa: BLE001 - one job's trouble must not end the process
        return _failed("internal", error)


def _failed(kind: str, error: Exception) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "error": f"{type(error).__name__}: {error}"[:MAX_DETAIL]}


def read_job(folder: Path) -> Job:
    """The job of a folder. Raises JobError."""
    try:
        return Job.from_json((folder / JOB_FILE).read_bytes())
    except OSError as error:
        raise JobError(f"{JOB_FILE} cannot be read: {error.strerror}") from error


def run_folder(folder: Path, shelf: ModelShelf) -> None:
    """Do the job in a folder and leave its result there. Raises JobError, ModelError or OSError."""
    run_job(read_job(folder), folder, shelf, folder / RESULT_FILE)


def run_job(job: Job, folder: Path, shelf: ModelShelf, target: Path) -> None:
    """Do a job whose inputs lie in a folder, and write the result in one step, so that nobody reads half of it.

    Raises ModelError or OSError. When the job takes longer than its own limit, the process ends.
    """
    # A thread of the interpreter's own: it ends the process even while a decoder or a kernel holds the interpreter.
    # Behind it stands the kernel's clock, which no crash of ours can stop.
    faulthandler.dump_traceback_later(job.max_seconds, exit=True, file=sys.stderr)
    limit_processor(job.max_seconds * cpus() + 1)
    try:
        result = execute(job, folder, shelf)
    finally:
        faulthandler.cancel_dump_traceback_later()
    unfinished = target.with_name(f"{target.name}.part")
    unfinished.write_text(result.to_json(), encoding="utf-8")
    unfinished.replace(target)


def execute(job: Job, folder: Path, shelf: ModelShelf) -> JobResult:
    """Every input's outcome; a bad picture fails alone. Raises ModelError."""
    model = shelf.get(job.model, folder)
    failures: dict[str, ItemOutput] = {}
    files: dict[str, bytes] = {}
    for item in job.inputs:
        try:
            files[item.id] = _read(item, folder)
        except PictureError as error:
            failures[item.id] = ItemOutput(item.id, failure=error.failure, detail=str(error))
    answers = answer_all(model, files, max_pixels=job.max_pixels)
    outcomes = failures | {item.input: item for item in answers.items}
    return JobResult(
        job=job.id,
        engine=model.engine,
        decode_seconds=round(answers.decode_seconds, 6),
        inference_seconds=round(answers.inference_seconds, 6),
        items=tuple(outcomes[item.id] for item in job.inputs),
    )


def answer_all(model: Classifier | Segmenter, files: Mapping[str, bytes], *, max_pixels: int) -> Answers:
    """The outcome of each picture by the id of its input; a bad one fails alone."""
    if isinstance(model, Segmenter):
        return segment_all(model, files, max_pixels=max_pixels)
    return classify_all(model, files, max_pixels=max_pixels)


def _read(item: JobInput, folder: Path) -> bytes:
    try:
        with (folder / item.path).open("rb") as file:
            data = file.read(item.size + 1)
    except OSError as error:
        raise PictureError(ItemFailure.MISSING, f"the file cannot be read: {error.strerror}") from error
    if len(data) != item.size:
        raise PictureError(ItemFailure.MISSING, f"the file does not have its {item.size} bytes")
    return data
