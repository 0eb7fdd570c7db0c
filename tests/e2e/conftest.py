"""End-to-end tests drive ``sibyl`` as a process, as a person or an operator would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SIBYL = [sys.executable, "-m", "oracle.cli"]
START = 90.0
FREE_PORTS = ("--chain-port", "0", "--ipfs-port", "0", "--api-port", "0")


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.e2e)


@dataclass
class Running:
    """A ``sibyl up`` and where it lives."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    folder: Path

    def sibyl(self, *arguments: str, timeout: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_sibyl(*arguments, "--data-dir", str(self.folder), timeout=timeout, **environment)

    def json(self, *arguments: str, timeout: float = 60.0) -> Any:
        done = self.sibyl(*arguments, "--json", timeout=timeout)
        assert done.stdout, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


def run_sibyl(*arguments: str, timeout: float = 60.0, **environment: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*SIBYL, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **environment},
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = b"".join(part for part in (late.stdout, late.stderr) if isinstance(part, bytes)).decode(errors="replace")
        pytest.fail(f"sibyl {' '.join(arguments)} did not end within {timeout:g} s; it had said:\n{said}")


def start_up(folder: Path, *arguments: str, **environment: str) -> Running:
    process = subprocess.Popen(
        [*SIBYL, "up", "--json", *FREE_PORTS, "--data-dir", str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, errors = process.communicate(timeout=10)
        pytest.fail(f"sibyl up ended: {errors}")
    return Running(process, json.loads(line), folder)


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start_up(tmp_path_factory.mktemp("up"))
    yield running
    assert running.stop() == 0


def processes_of(folder: Path) -> list[str]:
    """Processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(f"{entry.name} {command}")
    return found
