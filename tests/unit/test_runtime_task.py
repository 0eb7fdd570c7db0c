"""A job as a tar: what is packed unpacks, and nothing else does."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_images.runtime import task
from provider_images.runtime.job import JOB_FILE, MAX_INPUTS, MAX_JOB_BYTES, JobError
from provider_images.runtime.task import MAX_BYTES, MAX_FILES, pack_task, unpack_task

pytestmark = pytest.mark.unit


def written(folder: Path, data: bytes) -> tuple[Path, Path]:
    """A task's file, and an empty folder to unpack it into."""
    source, target = folder / "task.tar", folder / "into"
    source.write_bytes(data)
    target.mkdir()
    return source, target


def a_tar(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for entry, data in entries:
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def test_what_is_packed_unpacks(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG")
    data = pack_task({"job.json": b"{}", "a.png": tmp_path / "picture", "empty": b""})
    assert data == pack_task({"job.json": b"{}", "a.png": b"\x89PNG", "empty": b""})
    source, target = written(tmp_path, data)
    unpack_task(source, target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        "job.json": b"{}",
        "a.png": b"\x89PNG",
        "empty": b"",
    }


@pytest.mark.parametrize(
    "name", ["../up", "/etc/passwd", "a/b", ".hidden", "..", "", "a b", "a\nb", "a" * 129, "ä", "-rf", "a\\b"]
)
def test_a_name_that_is_not_plain_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="plain name"):
        pack_task({name: b""})
    source, target = written(tmp_path, a_tar((entry("job.json"), b"{}"), (entry(name), b"x")))
    with pytest.raises(JobError):
        unpack_task(source, target)
    assert {path.name for path in tmp_path.rglob("*")} <= {"task.tar", "into", "job.json"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_only_regular_files_are_taken(kind: bytes, tmp_path: Path) -> None:
    source, target = written(tmp_path, a_tar((entry("a", kind, "/etc/passwd"), b"")))
    with pytest.raises(JobError, match="regular file"):
        unpack_task(source, target)
    assert not list(target.iterdir())


def test_a_link_that_a_later_file_would_follow_is_refused_first(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    tar = a_tar((entry("a", tarfile.SYMTYPE, str(outside)), b""), (entry("a"), b"through the link"))
    source, target = written(tmp_path, tar)
    with pytest.raises(JobError):
        unpack_task(source, target)
    assert not outside.exists()


def test_a_name_stands_once(tmp_path: Path) -> None:
    source, target = written(tmp_path, a_tar((entry("a"), b"1"), (entry("a"), b"2")))
    with pytest.raises(JobError, match="twice"):
        unpack_task(source, target)


def test_files_are_counted(tmp_path: Path) -> None:
    names = [f"f{i}" for i in range(MAX_FILES + 1)]
    pack_task(dict.fromkeys(names[:-1], b""))
    with pytest.raises(JobError, match="at most"):
        pack_task(dict.fromkeys(names, b""))
    source, target = written(tmp_path, a_tar(*((entry(name), b"") for name in names)))
    with pytest.raises(JobError, match="more than"):
        unpack_task(source, target)


def test_bytes_are_counted_over_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = a_tar((entry("a"), bytes(600)), (entry("b"), bytes(600)))
    monkeypatch.setattr(task, "MAX_BYTES", 1000)
    with pytest.raises(JobError, match="more than 1000 bytes"):
        pack_task({"a": bytes(600), "b": bytes(600)})
    source, target = written(tmp_path, tar)
    with pytest.raises(JobError, match="more than 1000 bytes"):
        unpack_task(source, target)
    assert not (target / "b").exists()


def test_the_limit_itself_fits(tmp_path: Path) -> None:
    share = MAX_BYTES // MAX_FILES
    files = {f"f{i}": bytes(share) for i in range(MAX_FILES)}
    source, target = written(tmp_path, pack_task(files))
    unpack_task(source, target)
    assert sum(path.stat().st_size for path in target.iterdir()) == share * MAX_FILES


def test_a_full_batch_of_inputs_fits_with_its_job(tmp_path: Path) -> None:
    share = 64 * 1024 * 1024 // MAX_INPUTS
    files = {JOB_FILE: bytes(MAX_JOB_BYTES), **{f"f{i}": bytes(share) for i in range(MAX_INPUTS)}}
    source, target = written(tmp_path, pack_task(files))
    unpack_task(source, target)
    with pytest.raises(JobError, match="more than"):
        pack_task({**files, "f0": bytes(share + 1)})


def test_a_file_that_is_too_large_is_not_read_at_all(tmp_path: Path) -> None:
    source, target = written(tmp_path, b"")
    with source.open("wb") as file:
        file.truncate(2 * MAX_BYTES)
    with pytest.raises(JobError, match="at most"):
        unpack_task(source, target)


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:700], lambda data: b"x" + data[1:], lambda data: b"", lambda _: b"x"]
)
def test_a_tar_that_is_damaged_is_refused(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    source, target = written(tmp_path, spoil(pack_task({"job.json": bytes(5000)})))
    with pytest.raises(JobError):
        unpack_task(source, target)


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as tar:
        tar.addfile(entry("a"), io.BytesIO(b""))
    with pytest.raises(JobError, match="not a tar"):
        unpack_task(*written(tmp_path, target.getvalue()))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_byte_leads_out_of_the_folder(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    tar = bytearray(pack_task({"job.json": b"{}", "a": b"picture"}))
    for _ in range(data.draw(st.integers(1, 8))):
        tar[data.draw(st.integers(0, 1536))] = data.draw(st.integers(0, 255))
    source, target = written(folder, bytes(tar))
    with contextlib.suppress(JobError):
        unpack_task(source, target)
    assert {path.name for path in folder.iterdir()} == {"task.tar", "into"}
    assert all(path.is_file() and not path.is_symlink() for path in target.iterdir())
