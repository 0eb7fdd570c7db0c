"""The job and result contract: what is written reads back, and nothing malformed does."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_images.runtime.checks import MAX_DETAIL
from provider_images.runtime.job import (
    MAX_INPUTS,
    MAX_RESULT_BYTES,
    ItemFailure,
    ItemOutput,
    Job,
    JobError,
    JobInput,
    JobModel,
    JobResult,
    canonical_json,
)

pytestmark = pytest.mark.unit

MANIFEST = {"labels": [str(i) for i in range(10)], "output": {"top_k": 3}}


def a_job(count: int = 2) -> Job:
    inputs = tuple(JobInput(f"{i:064x}", f"bafk{i}", f"inputs/{i}", 10) for i in range(count))
    return Job("task-1", JobModel("bafymanifest", MANIFEST, "/models/weights.npz"), inputs, 1000, 30)


def a_result(job: Job) -> JobResult:
    items = tuple(ItemOutput(item.id, labels=((3, 0.9), (5, 0.06), (1, 0.04))) for item in job.inputs)
    return JobResult(job.id, "keras", 0.1, 0.2, items)


@st.composite
def distributions(draw: st.DrawFn) -> tuple[tuple[int, float], ...]:
    weights = draw(st.lists(st.floats(0.001, 1000), min_size=10, max_size=10))
    shares = sorted(((w / math.fsum(weights), i) for i, w in enumerate(weights)), reverse=True)
    return tuple((i, p) for p, i in shares[:3])


@settings(deadline=None)
@given(st.integers(1, MAX_INPUTS), st.data())
def test_job_and_result_read_back_as_written(count: int, data: st.DataObject) -> None:
    job = a_job(count)
    assert Job.from_json(job.to_json()) == job
    items = tuple(
        data.draw(
            st.one_of(
                distributions().map(lambda labels, i=item.id: ItemOutput(i, labels=labels)),
                st.builds(
                    ItemOutput,
                    st.just(item.id),
                    failure=st.sampled_from(ItemFailure),
                    detail=st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=MAX_DETAIL),
                ),
            )
        )
        for item in job.inputs
    )
    result = JobResult(job.id, "engine", 0.5, 0.25, items)
    assert JobResult.from_json(result.to_json(), job) == result


@pytest.mark.parametrize("text", ["\ud800", "a\x1b[31m", "a\nb", "x" * (MAX_DETAIL + 1)])
def test_given_a_text_that_cannot_be_kept_when_it_is_read_then_it_is_refused(text: str) -> None:
    job = a_job(1)
    good = json.loads(a_result(job).to_json())
    failed = {"input": job.inputs[0].id, "failure": "failed", "detail": text}
    for bad in (good | {"engine": text}, good | {"items": [failed]}, good | {text[:9]: 1}):
        with pytest.raises(JobError) as caught:
            JobResult.from_json(json.dumps(bad), job)
        str(caught.value).encode()
    # What the runtime itself has to tell is made fit.
    own = ItemOutput(job.inputs[0].id, failure=ItemFailure.FAILED, detail=text)
    assert JobResult.from_json(JobResult(job.id, "engine", 0, 0, (own,)).to_json(), job).items[0].detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@settings(deadline=None)
@given(st.data(), JSON)
def test_a_changed_result_is_read_whole_or_refused(data: st.DataObject, value: Any) -> None:
    job = a_job()
    document = json.loads(a_result(job).to_json())
    text = json.dumps(put(document, data.draw(st.sampled_from(places(document))), value))
    try:
        read = JobResult.from_json(text, job)
    except JobError:
        return
    assert [item.input for item in read.items] == [item.id for item in job.inputs]
    for item in read.items:
        assert all(0 <= index < 10 and 0 <= p <= 1 for index, p in item.labels)
        assert item.failure or math.fsum(p for _, p in item.labels) <= 1.001


@settings(deadline=None)
@given(st.data(), JSON)
def test_a_changed_job_is_read_whole_or_refused(data: st.DataObject, value: Any) -> None:
    document = json.loads(a_job().to_json())
    text = json.dumps(put(document, data.draw(st.sampled_from(places(document))), value))
    try:
        read = Job.from_json(text)
    except JobError:
        return
    assert json.loads(read.to_json()) == json.loads(text)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    for read in (Job.from_json, lambda text: JobResult.from_json(text, a_job())):
        with pytest.raises(JobError):
            read(data)


RESULT_FAULTS: list[tuple[tuple[Any, ...], Any, str]] = [
    (("schema",), 2, "schema"),
    (("schema",), True, "schema"),
    (("job",), "task-2", "job"),
    (("engine",), "x" * 1000, "engine"),
    (("decode_seconds",), float("nan"), "finite"),
    (("decode_seconds",), "0", "decode_seconds"),
    (("inference_seconds",), -1, "inference_seconds"),
    (("items",), [], "items"),
    (("items", 0, "input"), "f" * 64, r"items\[0\].input"),
    (("items", 1, "labels"), [[3, 0.9], [5, 0.06]], r"items\[1\].labels"),
    (("items", 0, "labels"), [[3, 0.6], [5, 0.7], [1, 0.0]], "must fall"),
    (("items", 0, "labels"), [[3, 0.6], [5, 0.5], [1, 0.1]], "sum"),
    (("items", 0, "labels"), [[3, 0.1], [5, 0.01], [1, 0.01]], "sum"),
    (("items", 0, "labels"), [[3, 0.8], [3, 0.1], [1, 0.1]], "twice"),
    (("items", 0, "labels", 0), [10, 0.9], "from 0 to 9"),
    (("items", 0, "labels", 0), [3.0, 0.9], "integer"),
    (("items", 0, "labels", 0), [3, float("inf")], "number"),
    (("items", 0, "labels", 0), [3, "0.9"], "number"),
    (("items", 0), {"input": f"{0:064x}", "failure": "lazy", "detail": ""}, "failure"),
    (("items", 0), {"input": f"{0:064x}", "failure": "failed", "detail": "x" * 301}, "detail"),
    (("extra",), 1, "extra: unknown"),
]


@pytest.mark.parametrize(("path", "value", "named"), RESULT_FAULTS)
def test_a_fault_is_named(path: tuple[Any, ...], value: Any, named: str) -> None:
    job = a_job()
    with pytest.raises(JobError, match=named):
        JobResult.from_json(json.dumps(put(json.loads(a_result(job).to_json()), path, value)), job)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("inputs",), [], "inputs"),
        (("inputs", 0, "path"), "../../etc/passwd", r"inputs\[0\].path"),
        (("inputs", 0, "size"), -1, r"inputs\[0\].size"),
        (("inputs", 1, "id"), f"{0:064x}", "twice"),
        (("inputs", 0, "id"), "a b", r"inputs\[0\].id"),
        (("max_pixels",), 0, "max_pixels"),
        (("max_seconds",), 1.5, "max_seconds"),
        (("model", "manifest"), [], "model.manifest"),
        (("model", "weights"), "", "model.weights"),
    ],
)
def test_a_fault_of_a_job_is_named(path: tuple[Any, ...], value: Any, named: str) -> None:
    with pytest.raises(JobError, match=named):
        Job.from_json(json.dumps(put(json.loads(a_job().to_json()), path, value)))


def test_too_many_inputs_and_too_many_bytes_are_refused() -> None:
    with pytest.raises(JobError, match="1 to 16"):
        Job.from_json(a_job(MAX_INPUTS + 1).to_json())
    with pytest.raises(JobError, match="at most"):
        JobResult.from_json(" " * (MAX_RESULT_BYTES + 1), a_job())


def test_top_k_beyond_the_classes_means_all_classes() -> None:
    job = a_job(1)
    two = Job(job.id, JobModel("m", {"labels": ["a", "b"], "output": {"top_k": 3}}, "w"), job.inputs, 1, 1)
    good = JobResult(job.id, "e", 0, 0, (ItemOutput(job.inputs[0].id, labels=((1, 0.75), (0, 0.25))),))
    assert JobResult.from_json(good.to_json(), two) == good


def test_canonical_json_refuses_what_is_not_json() -> None:
    assert canonical_json({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(math.nan)


def test_the_contract_needs_only_the_standard_library() -> None:
    script = (
        "import sys, provider_images.runtime.job, provider_images.runtime.spec;"
        "print({'numpy', 'PIL', 'oracle', 'tensorflow'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
