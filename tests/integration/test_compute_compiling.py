"""The local backend compiles models beside its work; doubles stand in for the worker and for what compiles."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from test_compute_conformance import MODEL, cid_of, started, task, until
from test_compute_local import as_input

from oracle.compute import compiling, local
from oracle.compute.compiling import ModelCompiler
from oracle.compute.local import LocalBackend
from oracle.domain import ServableModel
from provider_images.mnist.draw import draw_digit
from provider_images.runtime import choice

pytestmark = pytest.mark.integration

# It writes each order down, and does a job as the double worker does.
WORKER = """
import json, pathlib, sys, time
sys.path.insert(0, {folder!r})
from double_worker import result, say
say({{"event": "ready", "protocol": 1, "engine": "double", "isolated": False}})
for line in sys.stdin:
    order = json.loads(line)
    if order["op"] == "run":
        time.sleep({seconds})
        place = pathlib.Path(order["folder"])
        (place / "results.json").write_text(json.dumps(result(json.loads((place / "job.json").read_text()))))
    with open({log!r}, "a") as log:
        print(order["op"], order.get("anew"), file=log)
    say({{"ok": True}})
"""
COMPILES = """
import json, os, pathlib, sys, time
pathlib.Path(sys.argv[1], "began").open("a").write(f"{os.getpid()} {time.time()}\\n")
manifest, weights, folder = json.loads(open(sys.argv[2]).read()), sys.argv[3], pathlib.Path(sys.argv[4])
place = folder / (manifest["family"] + "-" + manifest["weights"]["sha256"])
place.mkdir()
(place / "model.xml").write_text(weights)
"""
FAILS = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[1], "began").open("a").write(f"{os.getpid()} {time.time()}\\n")
sys.stderr.write("noise\\nOpenVINO answers otherwise than TensorFlow\\n")
sys.exit(1)
"""
HANGS = FAILS.replace("sys.stderr", "time.sleep(3600); sys.stderr")


def began(folder: Path) -> list[tuple[int, float]]:
    """Process and time of each compilation so far."""
    file = folder / "began"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), float(at)) for pid, at in (line.split() for line in lines)]


def orders(folder: Path) -> list[str]:
    file = folder / "orders"
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_QUIET", 0.05)
    monkeypatch.setattr(choice, "COMPILED", {"mnist"})


@asynccontextmanager
async def backend(
    folder: Path, script: str, *, seconds: float = 0.0, limit: float = 60.0
) -> AsyncIterator[LocalBackend]:
    worker = WORKER.format(folder=str(Path(__file__).parent), seconds=seconds, log=str(folder / "orders"))
    compiler = ModelCompiler(folder / "compiled", command=(sys.executable, "-c", script, str(folder)), limit=limit)
    made = LocalBackend(folder / "tasks", command=(sys.executable, "-c", worker), compiler=compiler, backoff=0.05)
    async with started(made, closes_within=3):
        yield made


async def ask(made: LocalBackend, folder: Path, key: str) -> None:
    draw_digit(3, 1).save(folder / "3.png")
    await made.submit(task(key, (as_input(folder / "3.png", "3"),), seconds=60))
    assert (await made.collect(key)).items[0].labels


async def test_given_a_model_in_use_when_it_was_compiled_then_its_worker_loads_it_anew_once(tmp_path: Path) -> None:
    async with backend(tmp_path, COMPILES) as made:
        await until(lambda: made.ready == 1)  # a worker that starts later finds it compiled and need not load anew
        made.prepare(MODEL)
        await until(lambda: "load True" in orders(tmp_path))
        assert orders(tmp_path) == ["load False", "load True"]
        await ask(made, tmp_path, "a")
        await ask(made, tmp_path, "b")
        assert orders(tmp_path)[2:] == ["run None", "run None"]
    assert len(began(tmp_path)) == 1
    digest = MODEL.manifest.document["weights"]["sha256"]
    file = choice.compiled_file(tmp_path / "compiled", "mnist", digest)
    assert file.read_text() == str(MODEL.weights.absolute())
    # The next start finds it there.
    async with backend(tmp_path, COMPILES) as made:
        made.prepare(MODEL)
        await ask(made, tmp_path, "c")
        await asyncio.sleep(0.3)
    assert len(began(tmp_path)) == 1
    assert orders(tmp_path).count("load True") == 1


async def test_given_a_task_is_enough_for_a_model_to_be_compiled(tmp_path: Path) -> None:
    async with backend(tmp_path, COMPILES) as made:
        await ask(made, tmp_path, "a")
        await until(lambda: "load True" in orders(tmp_path))
    assert orders(tmp_path) == ["run None", "load True"]


async def test_given_a_compilation_that_fails_then_it_is_told_and_nothing_else_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="sibyl")
    async with backend(tmp_path, FAILS) as made:
        made.prepare(MODEL)
        await until(lambda: "is not compiled" in caplog.text)
        await ask(made, tmp_path, "a")
        made.prepare(MODEL)
        await asyncio.sleep(0.3)
        assert len(made.processes) == 1
    assert "OpenVINO answers otherwise than TensorFlow" in caplog.text
    assert len(began(tmp_path)) == 1
    assert "load True" not in orders(tmp_path)


async def test_given_no_executable_then_tasks_are_done_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = ModelCompiler(tmp_path / "compiled", command=("/nonexistent/python",))
    worker = WORKER.format(folder=str(Path(__file__).parent), seconds=0, log=str(tmp_path / "orders"))
    made = LocalBackend(tmp_path / "tasks", command=(sys.executable, "-c", worker), compiler=compiler)
    async with started(made):
        made.prepare(MODEL)
        await until(lambda: "is not compiled" in caplog.text)
        await ask(made, tmp_path, "a")


async def test_given_a_compilation_that_hangs_then_its_time_is_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with backend(tmp_path, HANGS, limit=1.0) as made:
        made.prepare(MODEL)
        await until(lambda: "more than 1 s" in caplog.text)
        ((pid, _),) = began(tmp_path)
        assert not psutil.pid_exists(pid)
        await ask(made, tmp_path, "a")


async def test_given_a_compilation_under_way_when_the_backend_closes_then_it_is_killed(tmp_path: Path) -> None:
    async with backend(tmp_path, HANGS) as made:
        made.prepare(MODEL)
        await until(lambda: began(tmp_path))
    ((pid, _),) = began(tmp_path)
    assert not psutil.pid_exists(pid)


async def test_given_tasks_that_wait_then_compiling_waits_for_them(tmp_path: Path) -> None:
    async with backend(tmp_path, COMPILES, seconds=0.4) as made:
        draw_digit(3, 1).save(tmp_path / "3.png")
        for key in "abc":
            await made.submit(task(key, (as_input(tmp_path / "3.png", key),), seconds=60))
        ends = [(await made.collect(key)).finished for key in "abc"]
        await until(lambda: began(tmp_path))
    assert began(tmp_path)[0][1] > max(ends)


async def test_two_models_are_compiled_one_after_the_other(tmp_path: Path) -> None:
    script = COMPILES + "time.sleep(0.5)\nprint(time.time(), file=open(sys.argv[1] + '/ended', 'a'))\n"
    document = json.loads(json.dumps(MODEL.manifest.document))
    document["weights"]["sha256"] = "ab" * 32
    other = ServableModel(2, cid_of(b"other"), replace(MODEL.manifest, document=document), MODEL.weights)

    def ended() -> list[float]:
        file = tmp_path / "ended"
        return [float(line) for line in file.read_text().split()] if file.exists() else []

    async with backend(tmp_path, script) as made:
        made.prepare(MODEL)
        made.prepare(other)
        await until(lambda: len(ended()) == 2)
    assert began(tmp_path)[1][1] >= ended()[0]


def test_given_no_openvino_then_nothing_is_wished_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    compiler = ModelCompiler(tmp_path)
    compiler.wish(local.job_model(MODEL))
    assert compiler._wishes.empty()
