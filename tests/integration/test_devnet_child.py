"""A child process that is given up in the middle of its start."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from oracle.devnet.child import Child
from oracle.errors import ConfigurationError

pytestmark = pytest.mark.integration


async def test_given_a_start_that_is_cancelled_when_it_ends_then_the_process_is_gone(tmp_path: Path) -> None:
    child = Child("a sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log")
    starting = asyncio.create_task(child.start(within=60))
    while True:
        await asyncio.sleep(0.02)
        try:
            pid = child.pid
            break
        except ConfigurationError:
            continue
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_given_an_environment_when_a_child_starts_then_it_has_that_and_no_other(tmp_path: Path) -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)), flush=True); import time; time.sleep(60)"
    child = Child("a teller", [sys.executable, "-c", program], log=tmp_path / "log", environment={"ONLY": "this"})
    try:
        told = await child.start(within=30)
    finally:
        await child.close()
    assert told["ONLY"] == "this"
    assert "PATH" not in told


async def test_given_a_log_of_an_earlier_run_when_a_child_fails_then_its_own_last_words_are_told(
    tmp_path: Path,
) -> None:
    (tmp_path / "log").write_text("an old trouble\n" * 500)
    for program, said in (("raise SystemExit('a new one')", "a new one"), ("pass", "it said nothing")):
        child = Child("a failure", [sys.executable, "-c", program], log=tmp_path / "log")
        with pytest.raises(ConfigurationError, match=f"did not start: {said}$"):
            await child.start(within=30)


async def test_given_a_program_that_is_not_there_when_started_then_nothing_stays_open(tmp_path: Path) -> None:
    child = Child("a ghost", [str(tmp_path / "nothing")], log=tmp_path / "log")
    with pytest.raises(OSError, match="nothing"):
        await child.start(within=5)
    await child.close()
