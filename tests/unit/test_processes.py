"""What each process carries: the command line starts light, and the oracle never loads what only workers need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import oracle
from oracle.compute.worker import runtime_command
from oracle.devnet.golem.network import _write_requestor
from oracle.devnet.golem.yagna import Identity, Yagna
from oracle.devnet.stack import OURS

pytestmark = pytest.mark.unit

HEAVY = ("tensorflow", "keras", "numpy")


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_given_the_oracle_when_all_of_it_is_imported_then_tensorflow_and_numpy_are_not() -> None:
    assert not loaded_by("import oracle.service") & set(HEAVY)


def test_given_the_command_line_when_only_imported_then_neither_web3_nor_the_database_is() -> None:
    loaded = loaded_by("import oracle.cli")
    assert not loaded & {*HEAVY, "web3", "sqlalchemy", "aiohttp", "PIL"}


def hostile(folder: Path) -> Path:
    """A folder to stand in, with files of the names that every program of ours imports."""
    for name in ("argparse.py", "asyncio.py", "json.py", "oracle.py", "provider_images.py"):
        (folder / name).write_text("raise SystemExit('imported from the current folder')")
    return folder


@pytest.mark.parametrize(
    "command",
    [
        [*OURS, "oracle.cli", "--help"],
        [*OURS, "oracle.devnet.golem", "--help"],
        [*runtime_command(python=sys.executable, threads=1, models=1, memory_mb=1), "--help"],
    ],
)
def test_given_a_folder_of_traps_when_a_child_is_started_in_it_then_none_is_imported(
    command: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(command, cwd=hostile(tmp_path), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_given_a_folder_of_traps_when_gftp_is_started_in_it_then_none_is_imported(tmp_path: Path) -> None:
    yagna = Yagna(tmp_path / "yagna", log=tmp_path / "log", pid_file=tmp_path / "pid")
    _write_requestor(tmp_path, yagna, Identity("0x1", "key"))
    traps = tmp_path / "traps"
    traps.mkdir()
    done = subprocess.run(
        [tmp_path / "bin" / "gftp", "--help"],
        cwd=hostile(traps),
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "current folder" not in done.stdout + done.stderr


def test_given_every_module_that_is_started_on_this_machine_when_read_then_it_ignores_the_current_folder() -> None:
    started = [
        (file.name, line)
        for file in Path(oracle.__file__).parent.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "sys.executable" in line and re.search(r"-m\b", line)
    ]
    assert started
    assert not [(name, line) for name, line in started if "-P" not in line]


def test_given_help_when_asked_then_every_command_is_listed_with_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oracle.cli", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    for command in ("up", "demo", "oracle", "api", "request", "result", "refund", "status", "models", "check", "train"):
        assert f" {command} " in done.stdout
