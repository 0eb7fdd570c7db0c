"""The commands of an image and the model process behind them, as processes of this machine's Python without TensorFlow.

The family in it is a double: what a picture's grey says is what it does, so that a job can hang, die or eat memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import psutil
import pytest
from PIL import Image

import provider_images
from provider_images.runtime import client
from provider_images.runtime.client import Client, ResidentError
from provider_images.runtime.job import Job, JobInput, JobModel, JobResult
from provider_images.runtime.measure import has_avx
from provider_images.runtime.task import pack_task
from provider_images.runtime.weights import save_weights

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(sys.platform != "linux", reason="the model process needs Linux, as every provider has it"),
]

FAMILY = '''
"""Class 3 for a picture of any grey but these."""
import os, numpy
INPUT, CLASSES = (28, 28, 1), 10
HANG, DIE, EAT = 10, 20, 30

def shapes():
    return [(1,)]

def network(weights):
    def forward(picture):
        match round(float(picture.mean()) * 255):
            case 10: sum(range(10**12))  # in C: no signal handler of Python would get a turn
            case 20: os._exit(3)
            case 30: bytearray(10**11)
        return numpy.eye(10, dtype=numpy.float32)[3]
    return forward
'''
GOOD, HANG, DIE, EAT = 200, 10, 20, 30
WEIGHTS = save_weights([np.ones(1)])


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that a provider has, and with the double where the MNIST family would be."""
    folder = tmp_path_factory.mktemp("site")
    site = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs"):
        (folder / name).symlink_to(site / name)
    assert Path(PIL.__file__).parents[1] == site
    package = folder / "provider_images"
    (package / "mnist").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "mnist" / "__init__.py").touch()
    (package / "mnist" / "forward.py").write_text(FAMILY)
    (package / "mnist" / "weights.npz").write_bytes(WEIGHTS)
    (package / "mnist" / "manifest.json").write_text(json.dumps(a_manifest()))
    (package / "runtime").symlink_to(Path(provider_images.__file__).parent / "runtime")
    return folder


def a_manifest() -> dict[str, Any]:
    size = {"height": 28, "width": 28, "channels": 1, "color": "gray", "fit": "stretch", "range": [0, 1]}
    return {
        "schema": "sibyl/model/1",
        "engine": "keras",
        "family": "mnist",
        "weights": {"sha256": hashlib.sha256(WEIGHTS).hexdigest()},
        "labels": list("0123456789"),
        "output": {"top_k": 3},
        "input": size,
    }


class Activity:
    """A work folder and the commands that run in it."""

    def __init__(self, packages: Path, work: Path) -> None:
        self.packages, self.work = packages, work
        # Not from the checkout: Python looks for modules in the current folder first.
        self.where: dict[str, Any] = {"env": {"PYTHONPATH": str(packages)}, "cwd": work}

    def command(self, *arguments: str | Path, memory_mb: int = 2048) -> list[str]:
        module = [sys.executable, "-S", "-W", "error", "-m", "provider_images.runtime"]
        return [*module, *map(str, arguments), "--work", str(self.work), "--memory-mb", str(memory_mb)]

    def do(self, *arguments: str | Path, **options: int) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, **options)
        return subprocess.run(command, **self.where, capture_output=True, text=True, timeout=60, check=False)

    def task(self, *greys: int, name: str = "task", seconds: int = 30) -> tuple[Path, Path, Job]:
        """A task's file, where its result goes, and its job."""
        files: dict[str, bytes] = {}
        for i, grey in enumerate(greys):
            target = io.BytesIO()
            Image.new("L", (28, 28), grey).save(target, "PNG")
            files[f"input-{i}"] = target.getvalue()
        inputs = tuple(JobInput(key, "cid", key, len(data)) for key, data in files.items())
        weights = str(self.packages / "provider_images/mnist/weights.npz")
        job = Job(name, JobModel("cid", a_manifest(), weights), inputs, 10**6, seconds)
        source = self.work / f"{name}.tar"
        source.write_bytes(pack_task({"job.json": job.to_json().encode(), **files}))
        return source, self.work / f"{name}.json", job

    def run(self, *greys: int, name: str = "task", **options: int) -> JobResult:
        """Run a task that is expected to succeed."""
        source, target, job = self.task(*greys, name=name)
        ran = self.do("run", source, target, **options)
        assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
        return JobResult.from_json(target.read_text(), job)

    @property
    def address(self) -> str:
        return (self.work / ".resident" / "address").read_text()

    @property
    def resident(self) -> psutil.Process:
        """The process that listens."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.address)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return psutil.Process(struct.unpack("3i", credentials)[0])

    def close(self) -> None:
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            self.resident.kill()
        with contextlib.suppress(OSError):
            if not self.address.startswith(str(self.work)):
                shutil.rmtree(Path(self.address).parent)


@pytest.fixture
def activity(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Activity]:
    started = Activity(packages, tmp_path_factory.mktemp("w"))
    yield started
    started.close()


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)


# ---------------------------------------------------------------------------------------------------------------
# What the commands do
# ---------------------------------------------------------------------------------------------------------------


def test_start_says_in_one_line_what_the_machine_is_worth(activity: Activity) -> None:
    ran = activity.do("start")
    assert (ran.returncode, ran.stderr, ran.stdout.count("\n")) == (0, "", 1)
    said = json.loads(ran.stdout)
    assert said.keys() == {"engine", "avx", "cpus", "load_seconds", "images_per_second"}
    assert said["engine"] == f"sibyl-numpy 1, numpy {np.__version__}"
    assert said["cpus"] == len(os.sched_getaffinity(0))
    assert said["avx"] is has_avx()
    assert 0 < said["load_seconds"] < 60
    assert said["images_per_second"] > 10


def test_to_start_twice_is_to_start_once(activity: Activity) -> None:
    first = activity.do("start").stdout
    pid = activity.resident.pid
    assert activity.do("start").stdout == first
    assert activity.resident.pid == pid


def test_a_task_is_answered_item_by_item(activity: Activity) -> None:
    result = activity.run(GOOD, EAT + 1, GOOD)
    assert [item.labels[0] for item in result.items] == [(3, 1.0)] * 3
    assert result.engine.startswith("sibyl-numpy")
    assert not (activity.work / ".resident" / "task").exists()


def test_one_process_does_all_runs(activity: Activity) -> None:
    activity.run(GOOD, name="a")
    pid = activity.resident.pid
    activity.run(GOOD, name="b")
    assert activity.resident.pid == pid


def test_commands_are_light(activity: Activity) -> None:
    heavy = {"numpy", "PIL", "tarfile", "dataclasses", "subprocess"}
    script = f"import sys, provider_images.runtime.__main__; print({heavy} & sys.modules.keys())"
    command = [sys.executable, "-S", "-c", script]
    ran = subprocess.run(command, **activity.where, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "set()"


# ---------------------------------------------------------------------------------------------------------------
# What goes wrong
# ---------------------------------------------------------------------------------------------------------------


def failed(ran: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed command leaves."""
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    return ran.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not a tar", "not a tar"),
        (pack_task({"input": b""}), "job.json cannot be read"),
        (pack_task({"job.json": b"{}"}), "schema"),
    ],
)
def test_a_task_that_is_not_one_fails_in_one_line(content: bytes, said: str, activity: Activity) -> None:
    (activity.work / "task.tar").write_bytes(content)
    assert said in failed(activity.do("run", activity.work / "task.tar", activity.work / "result.json"))
    assert not (activity.work / "result.json").exists()
    activity.run(GOOD)


def test_a_failed_run_leaves_no_older_result_behind(activity: Activity) -> None:
    activity.run(GOOD)
    failed(activity.do("run", activity.work / "absent.tar", activity.work / "task.json"))
    assert not (activity.work / "task.json").exists()


def test_weights_that_are_not_the_manifests_are_refused(activity: Activity) -> None:
    source, target, job = activity.task(GOOD)
    other = activity.work / "weights"
    other.write_bytes(WEIGHTS + b"x")
    document = json.loads(job.to_json())
    document["model"]["weights"] = str(other)
    source.write_bytes(pack_task({"job.json": json.dumps(document).encode()}))
    assert "sha256" in failed(activity.do("run", source, target))


def test_a_process_that_died_is_replaced(activity: Activity) -> None:
    activity.run(GOOD)
    killed = activity.resident
    killed.kill()
    until(lambda: not killed.is_running())
    assert Path(activity.address).is_socket()  # stale
    activity.run(GOOD)
    assert activity.resident.pid != killed.pid


def test_a_job_that_ends_the_process_fails_alone(activity: Activity) -> None:
    source, target, _ = activity.task(DIE, name="bad")
    assert "ended during the job" in failed(activity.do("run", source, target))
    activity.run(GOOD)


def test_a_job_over_its_time_is_ended(activity: Activity) -> None:
    activity.run(GOOD)
    source, target, _ = activity.task(HANG, name="bad", seconds=1)
    began = time.monotonic()
    assert "Timeout" in failed(activity.do("run", source, target))
    assert time.monotonic() - began < 10
    activity.run(GOOD)


def test_a_job_that_wants_too_much_memory_fails_and_the_process_goes_on(activity: Activity) -> None:
    activity.run(GOOD)
    pid = activity.resident.pid
    source, target, _ = activity.task(EAT, name="bad")
    assert "MemoryError" in failed(activity.do("run", source, target))
    activity.run(GOOD)
    assert activity.resident.pid == pid
    assert activity.resident.rlimit(psutil.RLIMIT_DATA) == (2048 * 2**20,) * 2


def test_processor_time_is_limited_for_each_job_anew(activity: Activity) -> None:
    cpus = len(os.sched_getaffinity(0))
    for seconds in (7, 3):
        source, target, _ = activity.task(GOOD, seconds=seconds)
        assert activity.do("run", source, target).returncode == 0
        soft, hard = activity.resident.rlimit(psutil.RLIMIT_CPU)
        used = sum(activity.resident.cpu_times()[:2])
        assert seconds * cpus < soft - used <= seconds * cpus + 2
        assert hard == psutil.RLIM_INFINITY


def test_an_engine_that_cannot_start_says_why(activity: Activity, tmp_path: Path) -> None:
    (tmp_path / "provider_images").symlink_to(activity.packages / "provider_images")
    activity.where["env"] = {"PYTHONPATH": str(tmp_path)}
    assert "No module named 'numpy'" in failed(activity.do("start"))


def test_a_process_that_hangs_is_ended(activity: Activity, monkeypatch: pytest.MonkeyPatch) -> None:
    activity.run(GOOD)
    hung = activity.resident
    hung.suspend()
    monkeypatch.setattr(client, "_QUEUE_LIMIT", 0.3)
    with pytest.raises(ResidentError, match="does not answer"):
        Client(activity.work, memory_mb=2048).ask({"op": "start"})
    until(lambda: not hung.is_running() or hung.status() == psutil.STATUS_ZOMBIE)
    activity.run(GOOD)


@pytest.mark.parametrize("words", [b"", b"no line", b"not JSON\n", b'{"op": "none"}\n', b"[]\n", b"x" * 100_000])
def test_a_client_that_speaks_nonsense_is_its_own_loss(words: bytes, activity: Activity) -> None:
    activity.run(GOOD)
    pid = activity.resident.pid
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(activity.address)
        stranger.sendall(words)
    activity.run(GOOD)
    assert activity.resident.pid == pid


def test_commands_at_once_share_one_process_and_take_turns(activity: Activity) -> None:
    tasks = [activity.task(GOOD, GOOD, name=f"task-{i}") for i in range(6)]
    running = [
        subprocess.Popen(activity.command("run", source, target), **activity.where, stderr=subprocess.PIPE)
        for source, target, _ in tasks
    ]
    for process in running:
        _, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (0, b"")
    for _, target, job in tasks:
        assert JobResult.from_json(target.read_text(), job).items[0].labels[0][0] == 3
    siblings = [p for p in psutil.process_iter(["cmdline"]) if str(activity.work) in (p.info["cmdline"] or [])]
    assert [p.pid for p in siblings] == [activity.resident.pid]


def test_a_volume_that_holds_no_sockets_is_no_obstacle(
    packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    deep = tmp_path_factory.mktemp("w") / ("d" * 100)  # a path too long to bind fails the same way
    deep.mkdir()
    activity = Activity(packages, deep)
    try:
        activity.run(GOOD)
        place = Path(activity.address)
        assert deep not in place.parents
        activity.resident.send_signal(signal.SIGKILL)
        activity.run(GOOD)
        assert not place.exists()
    finally:
        activity.close()


def test_the_process_ends_with_its_folder(activity: Activity) -> None:
    script = (
        "import sys, provider_images.runtime.resident as resident, provider_images.runtime.__main__ as commands;"
        "resident._LOOK_AROUND = 0.1; commands.main(sys.argv[1:])"
    )
    command = [sys.executable, "-S", "-c", script, "start", "--work", str(activity.work)]
    subprocess.run(command, **activity.where, capture_output=True, timeout=60, check=True)
    resident = activity.resident
    shutil.rmtree(activity.work)
    until(lambda: not resident.is_running())


# ---------------------------------------------------------------------------------------------------------------
# Pieces
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("processor : 0\nflags : fpu sse2 avx avx2\n", True),
        ("processor : 0\nflags : fpu sse2 avx2x\n", False),
        ("model name : avx\n", False),
    ],
)
def test_avx_is_a_flag_of_the_processor(text: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert has_avx(tmp_path / "cpuinfo") is found
    assert not has_avx(tmp_path / "absent")


def test_the_kernel_ends_a_process_over_its_processor_time() -> None:
    script = "from provider_images.runtime.sandbox import limit_processor; limit_processor(1); sum(range(10**12))"
    ran = subprocess.run([sys.executable, "-c", script], timeout=30, check=False)
    assert ran.returncode == -signal.SIGXCPU
