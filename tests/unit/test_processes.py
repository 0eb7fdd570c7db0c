"""What each process carries: the command line starts light, and the oracle never loads what only workers need."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def test_given_help_when_asked_then_every_command_is_listed_with_a_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "oracle.cli", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    for command in ("up", "demo", "oracle", "request", "result", "refund", "status", "models", "check", "train"):
        assert f" {command} " in done.stdout
