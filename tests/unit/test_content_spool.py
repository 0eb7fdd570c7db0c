from __future__ import annotations

import os
from pathlib import Path

import pytest

from oracle.content.spool import DirectorySpool
from oracle.content.unixfs import cid_of
from oracle.errors import ConfigurationError, ContentUnavailable

pytestmark = pytest.mark.unit

DATA = b"a picture"
CID = cid_of(DATA)


def listing(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_what_was_put_lies_under_its_cid_and_stays_after_a_restart(tmp_path: Path) -> None:
    path = await DirectorySpool(tmp_path / "spool").put(CID, DATA)
    assert path.name == CID.text
    again = DirectorySpool(tmp_path / "spool")
    assert again.path(CID) == path
    assert path.read_bytes() == DATA
    assert await again.put(CID, DATA) == path


async def test_what_was_not_put_has_no_path(tmp_path: Path) -> None:
    assert DirectorySpool(tmp_path).path(CID) is None


async def test_discarded_files_are_gone_and_unknown_ones_no_error(tmp_path: Path) -> None:
    spool = DirectorySpool(tmp_path)
    await spool.put(CID, DATA)
    await spool.discard([CID, cid_of(b"never put")])
    assert spool.path(CID) is None
    assert listing(tmp_path) == []


async def test_a_write_that_fails_half_way_leaves_nothing_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = DirectorySpool(tmp_path)

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        await spool.put(CID, DATA)
    assert spool.path(CID) is None
    assert listing(tmp_path) == []


async def test_given_a_file_that_is_filled_by_another_when_it_is_whole_then_it_lies_under_its_cid(
    tmp_path: Path,
) -> None:
    spool = DirectorySpool(tmp_path)

    async def write(path: Path) -> None:
        path.write_bytes(DATA[:3])
        assert spool.path(CID) is None
        path.write_bytes(DATA)

    path = await spool.receive(CID, write)
    assert spool.path(CID) == path
    assert path.read_bytes() == DATA
    assert listing(tmp_path) == [CID.text]


async def test_given_a_file_that_is_filled_by_another_when_that_fails_half_way_then_nothing_is_left(
    tmp_path: Path,
) -> None:
    spool = DirectorySpool(tmp_path)

    async def write(path: Path) -> None:
        path.write_bytes(DATA[:3])
        raise ContentUnavailable("gone")

    with pytest.raises(ContentUnavailable):
        await spool.receive(CID, write)
    assert listing(tmp_path) == []


async def test_given_a_killed_writer_when_the_spool_opens_then_its_half_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / "tmpabc.part").write_bytes(b"half")
    DirectorySpool(tmp_path)
    assert listing(tmp_path) == []


async def test_a_file_that_was_cut_on_disk_is_written_again(tmp_path: Path) -> None:
    spool = DirectorySpool(tmp_path)
    path = await spool.put(CID, DATA)
    path.write_bytes(b"cut")
    assert (await spool.put(CID, DATA)).read_bytes() == DATA


def test_a_directory_that_cannot_be_made_is_a_configuration_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        DirectorySpool(tmp_path / "file" / "spool")
    assert caught.value.remedy


async def test_given_a_file_that_was_damaged_at_the_same_length_when_put_again_then_it_is_written_again(
    tmp_path: Path,
) -> None:
    spool = DirectorySpool(tmp_path)
    path = await spool.put(CID, DATA)
    path.write_bytes(b"x" * len(DATA))
    assert (await spool.put(CID, DATA)).read_bytes() == DATA


async def test_given_files_of_two_ages_when_listed_then_only_the_old_ones_named_by_a_cid_are(tmp_path: Path) -> None:
    spool = DirectorySpool(tmp_path)
    old = await spool.put(CID, DATA)
    await spool.put(cid_of(b"young"), b"young")
    (tmp_path / "weights").mkdir()
    (tmp_path / "notes.txt").write_text("not ours")
    os.utime(old, (1, 1))
    assert await spool.cids(older_than=60) == [CID]
    await spool.put(CID, DATA)
    assert await spool.cids(older_than=60) == []
