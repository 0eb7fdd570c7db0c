"""Files of a sandbox, reached from outside: what a job may have put there leads nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oracle.devnet.golem.volumes import NoSuchPath, Volumes

pytestmark = pytest.mark.unit


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    (tmp_path / "work").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    return Volumes({"/golem/work": tmp_path / "work"})


def test_given_a_path_in_a_volume_when_written_then_it_is_there_with_the_folders_that_lead_to_it(
    volumes: Volumes, tmp_path: Path
) -> None:
    with volumes.write("container:/golem/work/a/b/c%20d") as file:
        file.write(b"one")
    assert (tmp_path / "work/a/b/c d").read_bytes() == b"one"
    with volumes.write("container:/golem/work/a/b/c%20d") as file:
        file.write(b"2")
    with volumes.read("container:///golem/work//a/./b/c%20d") as file:
        assert file.read() == b"2"


@pytest.mark.parametrize(
    "path",
    [
        "/golem/work",
        "/golem",
        "/golem/worker/x",
        "/etc/passwd",
        "/golem/work/../outside/secret",
        "/golem/work/%2e%2e/outside/secret",
        "golem/work/x",
        "",
    ],
)
def test_given_a_path_outside_when_opened_then_it_is_not_found(volumes: Volumes, path: str) -> None:
    for open_it in (volumes.read, volumes.write):
        with pytest.raises(NoSuchPath, match="path not found in container"):
            open_it(f"container:{path}")


def test_given_links_of_a_job_when_followed_then_they_are_not(volumes: Volumes, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "file").symlink_to(tmp_path / "outside" / "secret")
    (work / "folder").symlink_to(tmp_path / "outside")
    for path in ("file", "folder/secret", "folder/new"):
        for open_it in (volumes.read, volumes.write):
            with pytest.raises(NoSuchPath):
                open_it(f"container:/golem/work/{path}")
    assert (tmp_path / "outside" / "secret").read_text() == "secret"
    assert not (tmp_path / "outside" / "new").exists()


def test_given_a_pipe_or_a_folder_of_a_job_when_opened_then_nobody_waits(volumes: Volumes, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "work" / "pipe")
    (tmp_path / "work" / "folder").mkdir()
    for path in ("pipe", "folder"):
        for open_it in (volumes.read, volumes.write):
            with pytest.raises(NoSuchPath):
                open_it(f"container:/golem/work/{path}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NoSuchPath):
        volumes.read("container:/golem/work/none/x")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
