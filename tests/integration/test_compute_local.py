"""The local backend's own ground: its processes, and the real runtime with the shipped model."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from PIL import Image
from test_compute_conformance import MODEL, cid_of, started, task, until

from oracle.compute.local import LocalBackend
from oracle.domain import FailureReason, ServableModel, TaskInput
from oracle.errors import ConfigurationError, ModelUnservable, TaskTimeout, WorkerLost
from provider_images.mnist.draw import draw_digit

pytestmark = pytest.mark.integration

DOUBLE = str(Path(__file__).parent / "double_worker.py")


def double(directory: Path, behaviour: str, **options: float) -> LocalBackend:
    return LocalBackend(directory, command=(sys.executable, DOUBLE, behaviour), backoff=0.05, **options)


def as_input(path: Path, name: str) -> TaskInput:
    data = path.read_bytes()
    return TaskInput(hashlib.sha256(name.encode()).digest(), cid_of(data), path, len(data))


# ---------------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path: Path) -> TaskInput:
    draw_digit(3, 1).save(tmp_path / "3.png")
    return as_input(tmp_path / "3.png", "3")


async def test_a_worker_that_never_starts_fails_tasks_instead_of_keeping_them(
    tmp_path: Path, picture: TaskInput
) -> None:
    async with started(double(tmp_path / "tasks", "never-starts")) as backend:
        await backend.submit(task("a", (picture,)))
        async with asyncio.timeout(10):
            with pytest.raises(WorkerLost, match="no engine here"):
                await backend.collect("a")


async def test_a_missing_executable_fails_tasks_too(tmp_path: Path, picture: TaskInput) -> None:
    async with started(LocalBackend(tmp_path / "tasks", command=("/nonexistent/python",), backoff=0.05)) as backend:
        await backend.submit(task("a", (picture,)))
        async with asyncio.timeout(10):
            with pytest.raises(WorkerLost, match="cannot be started"):
                await backend.collect("a")


async def test_a_worker_that_dies_idle_is_replaced_without_loss(tmp_path: Path, picture: TaskInput) -> None:
    async with started(double(tmp_path / "tasks", "honest")) as backend:
        for i in range(3):
            await until(lambda: backend.ready == 1)
            pid = backend.processes["local-0"]
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: backend.processes.get("local-0", pid) != pid)
            await backend.submit(task(f"t{i}", (picture,)))
            assert (await backend.collect(f"t{i}")).provider == "local-0"


async def test_respawning_slows_down_while_it_does_not_help(tmp_path: Path) -> None:
    pids = set()
    async with started(double(tmp_path / "tasks", "dies-idle:0")) as backend:
        began = time.monotonic()
        while time.monotonic() - began < 2:
            pids.update(backend.processes.values())
            await asyncio.sleep(0.005)
    assert 2 <= len(pids) <= 7


async def test_two_workers_share_the_tasks(tmp_path: Path, picture: TaskInput) -> None:
    async with started(double(tmp_path / "tasks", "slow:0.3", workers=2)) as backend:
        await until(lambda: backend.ready == 2)
        began = time.monotonic()
        for key in "abcd":
            await backend.submit(task(key, (picture,)))
        providers = {(await backend.collect(key)).provider for key in "abcd"}
        assert providers == {"local-0", "local-1"}
        assert time.monotonic() - began < 1.1


async def test_a_task_over_the_run_limit_loses_its_worker(tmp_path: Path, picture: TaskInput) -> None:
    async with started(double(tmp_path / "tasks", "hangs", run_limit=0.3)) as backend:
        await backend.submit(task("a", (picture,)))
        with pytest.raises(WorkerLost, match="longer than"):
            await backend.collect("a")


async def test_a_worker_that_floods_stderr_is_not_blocked(tmp_path: Path, picture: TaskInput) -> None:
    async with started(double(tmp_path / "tasks", "noisy")) as backend:
        await backend.submit(task("a", (picture,)))
        assert await backend.collect("a")


async def test_a_listener_that_does_not_read_costs_bounded_memory(tmp_path: Path, picture: TaskInput) -> None:
    backend = double(tmp_path / "tasks", "honest")
    events = backend.events()
    async with started(backend):
        for i in range(400):
            await backend.submit(task(f"t{i}", (picture,)))
        for i in range(400):
            await backend.collect(f"t{i}")
    kept = [event async for event in events]
    assert len(kept) == 1023
    assert kept[-1].key == "t399"


async def test_leftovers_are_swept_at_the_start(tmp_path: Path, picture: TaskInput) -> None:
    tasks = tmp_path / "tasks"
    async with started(double(tasks, "honest")) as backend:
        for key in ("fresh", "old"):
            await backend.submit(task(key, (picture,)))
            await backend.collect(key)
    old = min(tasks.iterdir(), key=lambda folder: int(folder.name.rpartition("-")[2], 16), default=None)
    fresh = max(tasks.iterdir(), key=lambda folder: int(folder.name.rpartition("-")[2], 16), default=None)
    assert old is not None
    assert fresh is not None
    os.utime(old / "results.json", (0, 0))
    (tasks / "unfinished-0").mkdir()
    async with started(double(tasks, "honest")):
        pass
    assert list(tasks.iterdir()) == [fresh]


async def test_a_directory_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as raised:
        await LocalBackend(tmp_path / "file" / "tasks").start()
    assert raised.value.remedy


def test_the_oracle_side_imports_neither_numpy_nor_tensorflow() -> None:
    script = "import sys, oracle.compute.local; print({'numpy', 'tensorflow', 'keras'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child's life to its parent's")
def test_workers_die_with_an_oracle_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import asyncio, pathlib
from oracle.compute.local import LocalBackend

async def main():
    backend = LocalBackend(pathlib.Path({str(tmp_path)!r}), workers=2)
    await backend.start()
    while len(backend.processes) < 2:
        await asyncio.sleep(0.01)
    print(*backend.processes.values(), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as oracle:
        assert oracle.stdout is not None
        pids = [int(pid) for pid in oracle.stdout.readline().split()]
        time.sleep(0.5)  # the workers are importing TensorFlow now, deaf to the end of their stdin
        assert len(pids) == 2
        oracle.kill()
        began = time.monotonic()
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() - began < 2
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------------------------
# The real runtime, one worker for all
# ---------------------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def real(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalBackend]:
    async with started(LocalBackend(tmp_path_factory.mktemp("tasks"))) as backend:
        backend.prepare(MODEL)
        yield backend
        pids = list(backend.processes.values())
    assert not any(map(psutil.pid_exists, pids))


@pytest.mark.asyncio(loop_scope="module")
async def test_golden_digits(real: LocalBackend, tmp_path: Path) -> None:
    for style in ("mnist", "paper"):
        inputs = []
        for digit in range(10):
            path = tmp_path / f"{digit}-{style}.png"
            draw_digit(digit, 3_000_000, style=style).save(path)
            inputs.append(as_input(path, path.name))
        await real.submit(task(style, tuple(inputs), seconds=90))
        result = await real.collect(style)
        assert [item.labels[0].label for item in result.items] == list("0123456789")
        assert min(item.labels[0].probability for item in result.items) > 0.6
        assert all(len(item.labels) == 3 for item in result.items)
        assert result.provider == "local-0"
        assert result.engine.startswith("keras 3.")
        assert 0 < result.inference <= result.finished - result.started
        await real.settle(style, accepted=True)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_answer_does_not_depend_on_its_company(real: LocalBackend, tmp_path: Path) -> None:
    inputs = []
    for digit in range(10):
        draw_digit(digit, 77, style="paper").save(tmp_path / f"{digit}.png")
        inputs.append(as_input(tmp_path / f"{digit}.png", str(digit)))
    await real.submit(task("together", tuple(inputs), seconds=90))
    together = (await real.collect("together")).items
    for i in (0, 9):
        await real.submit(task(f"alone-{i}", (inputs[i],)))
        (alone,) = (await real.collect(f"alone-{i}")).items
        assert [label.index for label in alone.labels] == [label.index for label in together[i].labels]
        for a, b in zip(alone.labels, together[i].labels, strict=True):
            assert a.probability == pytest.approx(b.probability, abs=1e-6)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_bad_picture_fails_alone(real: LocalBackend, tmp_path: Path) -> None:
    draw_digit(5, 0).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:100])
    Image.new("1", (7000, 7000)).save(tmp_path / "bomb.png")
    frames = [Image.new("L", (8, 8), v) for v in (0, 255)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:])
    names = ["text.png", "half.png", "bomb.png", "moving.webp", "good.png"]
    inputs = [as_input(tmp_path / name, name) for name in names]
    gone = TaskInput(bytes(32), inputs[0].image_cid, tmp_path / "gone.png", 10)
    await real.submit(task("mixed", (gone, *inputs), seconds=90))
    items = (await real.collect("mixed")).items
    assert [item.failure for item in items] == [
        FailureReason.COMPUTE_FAILED,
        FailureReason.IMAGE_UNREADABLE,
        FailureReason.IMAGE_UNREADABLE,
        FailureReason.IMAGE_TOO_LARGE,
        FailureReason.IMAGE_UNSUPPORTED,
        FailureReason.NONE,
    ]
    assert all(item.detail for item in items[:-1])
    assert items[-1].labels[0].label == "5"


@pytest.mark.asyncio(loop_scope="module")
async def test_weights_of_another_model_are_refused(real: LocalBackend, tmp_path: Path, picture: TaskInput) -> None:
    (tmp_path / "weights.npz").write_bytes(MODEL.weights.read_bytes()[:-1] + b"!")
    other = ServableModel(9, cid_of(b"another"), MODEL.manifest, tmp_path / "weights.npz")
    await real.submit(task("other", (picture,), seconds=90, model=other))
    with pytest.raises(ModelUnservable, match="sha256"):
        await real.collect("other")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_worker_keeps_its_limits(real: LocalBackend, picture: TaskInput) -> None:
    await real.submit(task("warm", (picture,), seconds=90))
    await real.collect("warm")
    worker = psutil.Process(real.processes["local-0"])
    limits = worker.rlimit(psutil.RLIMIT_DATA)
    assert limits == (4096 * 2**20,) * 2
    assert worker.memory_info().rss < 1024 * 2**20
    assert not worker.net_connections()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_warm_worker_answers_quickly(real: LocalBackend, picture: TaskInput) -> None:
    around = []
    for i in range(20):
        began = time.perf_counter()
        await real.submit(task(f"quick-{i}", (picture,), seconds=90))
        result = await real.collect(f"quick-{i}")
        around.append(time.perf_counter() - began - result.inference)
    assert sorted(around)[10] < 0.05  # about 2 ms on an idle machine; the rest is room for a busy one


@pytest.mark.asyncio(loop_scope="module")
async def test_a_killed_worker_comes_back_while_tasks_wait(real: LocalBackend, picture: TaskInput) -> None:
    await real.submit(task("before", (picture,), seconds=90))
    await real.collect("before")
    os.kill(real.processes["local-0"], signal.SIGKILL)
    await real.submit(task("hasty", (picture,), seconds=0.2))
    await real.submit(task("patient", (picture,), seconds=90))
    with pytest.raises((TaskTimeout, WorkerLost)):
        await real.collect("hasty")
    assert (await real.collect("patient")).items[0].labels[0].label == "3"
