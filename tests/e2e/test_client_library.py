"""The README's lines of Python, run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Running

from oracle.devnet.pictures import digits
from oracle.settings import read_deployment

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8080"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def folder(up: Running, tmp_path: Path) -> Path:
    """What a reader has: the state of `sibyl up`, a picture of a seven, a key."""
    (tmp_path / ".sibyl").symlink_to(up.folder)
    (tmp_path / "seven.png").write_bytes(digits(8).items[7].png)
    shutil.copy(read_deployment(up.folder)["requester_key_file"], tmp_path / "requester.key")
    return tmp_path


def test_given_a_running_stack_when_the_readmes_lines_run_then_they_print_the_answer_and_leave_the_drawings(
    folder: Path,
) -> None:
    here, _ = blocks()
    done = run(here, folder)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"7 (0\.\d+|1\.0)\n", done.stdout), done.stdout
    assert (folder / "labels.png").read_bytes().startswith(b"\x89PNG")
    assert len([line for line in here.splitlines() if line.strip()]) <= 12


def test_given_only_an_api_when_the_readmes_lines_run_elsewhere_then_they_print_the_same(
    up: Running, folder: Path
) -> None:
    if "api_url" not in up.facts:
        pytest.skip("this `sibyl up` starts no API")
    _, elsewhere = blocks()
    (folder / ".sibyl").unlink()
    assert ADDRESS in elsewhere
    done = run(elsewhere.replace(ADDRESS, up.facts["api_url"]), folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("7 ")
    assert "which contract is paid" in done.stderr
