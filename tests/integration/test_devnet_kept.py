"""A process that is started again when it ends by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from oracle.devnet.golem import kept as kept_module
from oracle.devnet.golem.kept import Kept
from oracle.errors import ConfigurationError, MissingTool

pytestmark = pytest.mark.integration

SLEEPER = "import time; open('up', 'w').write(str(__import__('os').getpid())); time.sleep(60)"
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); open('up', 'w').write('x'); time.sleep(60)"


def make(folder: Path, program: str, *, ready: bool = True) -> Kept:
    async def is_up() -> bool:
        try:
            return bool((folder / "up").read_text())
        except OSError:
            return False

    return Kept(
        "the sleeper",
        [sys.executable, "-c", program],
        log=folder / "logs" / "log",
        pid_file=folder / "pids" / "sleeper",
        environment={"PATH": os.defpath},
        folder=folder,
        ready=is_up if ready else None,
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_given_a_process_that_is_killed_when_time_passes_then_it_runs_again_under_another_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "_FIRST_PAUSE", 0.05)
    process = make(tmp_path, SLEEPER)
    await process.start(within=20)
    pid = process.pid
    assert (tmp_path / "pids" / "sleeper").read_text() == f"{pid}\n"
    (tmp_path / "up").unlink()
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        while not (tmp_path / "up").exists() or not (tmp_path / "up").read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert process.pid != pid
    assert process.restarts == 1
    assert (tmp_path / "pids" / "sleeper").read_text() == f"{process.pid}\n"
    pid = process.pid
    await process.close()
    assert not alive(pid)
    assert not (tmp_path / "pids" / "sleeper").exists()
    await process.close()


async def test_given_a_process_that_does_not_listen_when_closed_then_it_is_killed(tmp_path: Path) -> None:
    process = make(tmp_path, DEAF)
    await process.start(within=20)
    pid = process.pid
    await process.close(grace=0.2)
    assert not alive(pid)


async def test_given_a_process_that_ends_at_its_start_when_started_then_its_last_words_are_told(tmp_path: Path) -> None:
    process = make(tmp_path, "raise SystemExit('no luck today')")
    with pytest.raises(ConfigurationError, match="ended at its start: no luck today") as caught:
        await process.start(within=20)
    assert "log" in caught.value.remedy


async def test_given_a_process_that_is_never_ready_when_started_then_it_is_ended(tmp_path: Path) -> None:
    process = make(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(ConfigurationError, match="was not ready within"):
        await process.start(within=0.3)
    assert not alive(process.pid)


async def test_given_a_log_and_a_pid_file_that_cannot_be_written_when_the_process_ends_then_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept_module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(kept_module, "_LONGEST_PAUSE", 0.05)
    process = make(tmp_path, SLEEPER)
    await process.start(within=20)
    pid = process.pid
    try:
        # A folder in the place of the file, for root may write to any file.
        for file in (tmp_path / "logs" / "log", tmp_path / "pids" / "sleeper"):
            file.unlink()
            file.mkdir()
        (tmp_path / "up").unlink()
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while "the log" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        (tmp_path / "logs" / "log").rmdir()
        async with asyncio.timeout(20):
            while not (tmp_path / "up").exists() or process.pid == pid:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert alive(process.pid)
        assert "pids/sleeper cannot be written" in caplog.text
    finally:
        await process.close()


async def test_given_a_restart_that_is_never_ready_when_its_time_is_over_then_it_is_killed_and_another_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_module, "_FIRST_PAUSE", 0.05)
    process = make(tmp_path, "import time; time.sleep(60)", ready=False)
    await process.start(within=0.2)

    async def never() -> bool:
        return False

    process._ready = never
    seen = [process.pid]
    try:
        os.kill(process.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while len(seen) < 4:
                if process.pid not in seen:
                    assert not alive(seen[-1])
                    seen.append(process.pid)
                await asyncio.sleep(0.02)
    finally:
        await process.close()


async def test_given_a_program_that_is_not_there_when_started_then_the_tool_is_missing(tmp_path: Path) -> None:
    process = Kept(
        "a ghost",
        [str(tmp_path / "none")],
        log=tmp_path / "log",
        pid_file=tmp_path / "pid",
        environment={},
        folder=tmp_path,
    )
    with pytest.raises(MissingTool, match="a ghost cannot be run"):
        await process.start(within=1)
