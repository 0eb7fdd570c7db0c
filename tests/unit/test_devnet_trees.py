"""Removal of folders that strangers wrote into."""

from __future__ import annotations

import logging
import os
import resource
from pathlib import Path

import pytest

from oracle.devnet.trees import remove_tree

pytestmark = pytest.mark.unit


def test_given_files_links_and_folders_when_removed_then_they_are_gone_and_no_link_was_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "link").symlink_to(kept)
    (tree / "link").symlink_to(kept / "file")
    (tree / "a" / "b" / "broken").symlink_to("nowhere")
    os.mkfifo(tree / "a" / "fifo")
    (tree / "a" / "b" / "file").write_text("x")
    remove_tree(tree)
    assert not tree.exists()
    assert (kept / "file").read_text() == "kept"
    remove_tree(tree)


def test_given_more_folders_in_one_another_than_any_path_or_table_holds_when_removed_then_they_are_gone(
    tmp_path: Path,
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    folder = os.open(tree, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deep", dir_fd=folder)
        below = os.open("deep", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        remove_tree(tree)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not tree.exists()


def test_given_folders_without_any_mode_when_somebody_who_is_not_root_removes_them_then_they_are_gone(
    tmp_path: Path,
) -> None:
    tree = tmp_path / "tree"
    for place in (tree / "a" / "b" / "c", tree / "d" / "e"):
        place.mkdir(parents=True)
        (place / "file").write_text("x")
    for place in (tree / "a" / "b" / "c", tree / "a" / "b", tree / "a", tree / "d", tree):
        place.chmod(0)
    if os.geteuid() == 0:
        for place in (tmp_path, *tmp_path.rglob("*")):
            os.chown(place, 65534, 65534)
        child = os.fork()
        if child == 0:
            # A folder above may be closed to others, but not the one that we stand in.
            os.chdir(tmp_path)
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            remove_tree(Path("tree"))
            os._exit(0)
        os.waitpid(child, 0)
    else:
        remove_tree(tree)
    assert not tree.exists()


def test_given_something_that_cannot_go_when_removed_then_it_is_logged_and_the_rest_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "held").write_text("x")
    (tree / "a" / "b" / "file").write_text("x")
    plain = os.unlink

    def unlink(name: str, **options: int) -> None:
        if name == "held":
            raise PermissionError(1, "Operation not permitted")
        plain(name, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    with caplog.at_level(logging.WARNING):
        remove_tree(tree)
    assert [path.relative_to(tree) for path in sorted(tree.rglob("*"))] == [Path("a"), Path("a/held")]
    assert "held" in caplog.text
    (tmp_path / "plain").write_text("x")
    remove_tree(tmp_path / "plain")
    assert (tmp_path / "plain").exists()
    assert "plain stays" in caplog.text
