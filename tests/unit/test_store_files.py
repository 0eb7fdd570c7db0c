"""Opening a file: migrations, backups, locks, read-only mode and everything that can be wrong with it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from test_store_kit import IMAGE, S, block, bring, rid, see, settled

from oracle.domain import TRANSITIONS, OnChainStatus, RequestStatus
from oracle.errors import StoreError, StoreTooNew
from oracle.store import SqliteRequestStore
from oracle.store.database import Database, explain
from oracle.store.migrations import APPLICATION_ID, MIGRATIONS, migrate, version_of
from oracle.store.tables import metadata

pytestmark = pytest.mark.unit

VERSION = len(MIGRATIONS)
NEXT_STEP = ("ALTER TABLE requests ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",)


async def make(path: Path) -> None:
    store = SqliteRequestStore(path)
    try:
        await bring(store, [1, 2], S.READY)
    finally:
        await store.close()


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


# ---------------------------------------------------------------------------------------------------------- schema


def test_the_tables_are_what_the_migrations_make() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, MIGRATIONS)
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert names == set(metadata.tables)
        for table in metadata.tables.values():
            made = {
                row[1]: (row[2], bool(row[3]) or bool(row[5]), bool(row[5]))
                for row in connection.execute(f"PRAGMA table_info({table.name})")
            }
            written = {
                column.name: (str(column.type).replace("FLOAT", "REAL"), not column.nullable, column.primary_key)
                for column in table.columns
            }
            assert made == written, table.name


def test_the_schema_tells_the_legal_moves() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, MIGRATIONS)
        ((made,),) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'requests'").fetchall()
    told = {
        RequestStatus(origin): {RequestStatus(name) for name in targets.split(" | ")}
        for origin, targets in re.findall(r"--   (\w+) +-> (.+)", made)
    }
    assert told == {origin: set(targets) for origin, targets in TRANSITIONS.items()}, "mend the comment"


async def test_the_sqlite3_shell_shows_the_truth(tmp_path: Path) -> None:
    await make(tmp_path / "s.db")
    rows = query(tmp_path / "s.db", "SELECT request_id, status, payment, image_cid, failure FROM requests")
    assert rows[0] == (
        "0x" + rid(1).hex(),
        "ready",
        "1000000000000000000000001",
        "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        "none",
    )


async def test_money_is_on_the_disk_before_it_is_spent(tmp_path: Path) -> None:
    store = SqliteRequestStore(tmp_path / "s.db")

    def pragma(name: str) -> object:
        return store._file._thread.submit(
            lambda: store._file._database._raw.execute(f"PRAGMA {name}").fetchone()[0]
        ).result()

    settings = [pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]
    await store.close()
    assert settings == ["wal", 2, 1, 5_000]


# ------------------------------------------------------------------------------------------------------ migrations


def test_a_new_step_is_applied_once_after_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(make(path))
    steps = (*MIGRATIONS, NEXT_STEP)
    for _ in range(2):
        Database(path, read_only=False, steps=steps).close()
    assert query(path, "PRAGMA user_version") == [(VERSION + 1,)]
    assert query(path, "SELECT note, status FROM requests") == [("none", "ready")] * 2
    backup = tmp_path / f"s.db.v{VERSION}-backup"
    assert query(backup, "PRAGMA user_version") == [(VERSION,)]
    assert query(backup, "SELECT count(*) FROM requests") == [(2,)]
    assert not list(tmp_path.glob("*.partial"))


def test_a_new_file_gets_every_step_and_no_backup(tmp_path: Path) -> None:
    Database(tmp_path / "deep" / "s.db", read_only=False, steps=(*MIGRATIONS, NEXT_STEP)).close()
    assert query(tmp_path / "deep" / "s.db", "PRAGMA user_version") == [(VERSION + 1,)]
    assert not list(tmp_path.rglob("*backup*"))


async def test_a_step_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await make(path)
    broken = ("ALTER TABLE requests ADD COLUMN note TEXT", "CREATE TABLE requests (x)")
    with pytest.raises(StoreError, match="already exists"):
        Database(path, read_only=False, steps=(*MIGRATIONS, broken))
    assert query(path, "PRAGMA user_version") == [(VERSION,)]
    await make(path)


def test_a_step_that_would_leave_a_row_referring_to_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(make(path))
    with pytest.raises(StoreError, match="refers to nothing"):
        Database(path, read_only=False, steps=(*MIGRATIONS, ("DELETE FROM requests",)))
    assert query(path, "SELECT count(*) FROM requests") == [(2,)]


def test_given_a_file_of_the_first_version_when_opened_then_its_requests_can_be_cancelled_and_know_their_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(old, MIGRATIONS[:1])
        old.execute("INSERT INTO blocks VALUES (5, '0x05', 1005)")
        for number in (1, 2):
            old.execute(
                "INSERT INTO requests (request_id, status, model_id, requester, image_cid, payment, callback_gas,"
                " deadline, nonce, block, block_hash, transaction_hash, log_index) VALUES"
                f" ('0x{rid(number).hex()}', 'seen', 1, 'who', '{IMAGE}',"
                f" '1', 0, 9, {number}, {4 + number}, '0x05', '0xaa', 0)"
            )
            old.execute(f"INSERT INTO moves VALUES ({number}, '0x{rid(number).hex()}', NULL, 'seen', 1.0, '')")
        old.execute(
            f"INSERT INTO settlements VALUES ('0x{rid(9).hex()}', 'refunded', 5, '0x', '0x', 1, 'none', NULL, '')"
        )

    async def open_and_cancel() -> tuple[int, RequestStatus]:
        store = SqliteRequestStore(path)
        try:
            await store.commit_scan([settled(1, block(8), OnChainStatus.CANCELLED)], [block(8)], block(8))
            row = await store.get(rid(1))
            assert row is not None
            return row.request.created_at, row.status
        finally:
            await store.close()

    assert asyncio.run(open_and_cancel()) == (1005, S.CANCELLED)
    assert query(
        path,
        "SELECT created_at, (SELECT count(*) FROM moves WHERE moves.request_id = requests.request_id)"
        " FROM requests ORDER BY nonce",
    ) == [(1005, 2), (0, 1)]
    assert query(path, "SELECT status FROM settlements ORDER BY block") == [("refunded",), ("cancelled",)]
    assert query(path, "PRAGMA foreign_key_check") == []


async def test_a_file_of_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await make(path)
    Database(path, read_only=False, steps=(*MIGRATIONS, NEXT_STEP)).close()
    for read_only in (False, True):
        with pytest.raises(
            StoreTooNew, match=f"schema version {VERSION + 1}, this Sibyl knows up to {VERSION}"
        ) as caught:
            SqliteRequestStore(path, read_only=read_only)
        assert "upgrade Sibyl" in caught.value.remedy
    assert query(path, "PRAGMA user_version") == [(VERSION + 1,)]


async def test_a_reader_does_not_migrate(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await make(path)
    with pytest.raises(StoreError, match=f"schema version {VERSION}") as caught:
        Database(path, read_only=True, steps=(*MIGRATIONS, NEXT_STEP))
    assert "backup" in caught.value.remedy


# ------------------------------------------------------------------------------------------------------- bad files


def test_what_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"this is a letter, not a database\n" * 100)
    with pytest.raises(StoreError, match="damaged") as caught:
        SqliteRequestStore(path)
    assert "scanned again" in caught.value.remedy
    assert path.read_bytes().startswith(b"this is a letter")


async def test_a_torn_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteRequestStore(path)
    await bring(store, range(1, 400), S.READY)
    await store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    with pytest.raises(StoreError, match="damaged"):
        await make(path)


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(StoreError, match="another program"):
        SqliteRequestStore(path)
    assert query(path, "SELECT name FROM sqlite_master") == [("bookmarks",)]


def test_an_impossible_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "s.db", tmp_path):
        with pytest.raises(StoreError) as caught:
            SqliteRequestStore(path)
        assert caught.value.remedy


def _is_open(folder: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A directory of a user without privileges, whom this process becomes: root may write everywhere."""
    root = os.geteuid() == 0
    # The temporary folder of this run may be closed to others.
    parent = next(p for p in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")) if not root or _is_open(p))
    directory = Path(tempfile.mkdtemp(dir=parent))
    if root:
        os.chown(directory, 65534, 65534)
        os.seteuid(65534)
    yield directory
    if root:
        os.seteuid(0)
    directory.chmod(0o700)
    shutil.rmtree(directory)


@pytest.mark.parametrize("what", ["directory", "file"])
def test_what_cannot_be_written_is_named(unprivileged: Path, what: str) -> None:
    path = unprivileged / "s.db"
    asyncio.run(make(path))
    if what == "directory":
        path.with_name("s.db.lock").unlink()
        unprivileged.chmod(0o500)
    else:
        path.chmod(0o400)
    with pytest.raises(StoreError, match="cannot be read and written") as caught:
        SqliteRequestStore(path)
    assert "can be written" in caught.value.remedy


async def test_a_constructor_that_fails_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"no" * 5_000)
    with pytest.raises(StoreError, match="damaged"):
        SqliteRequestStore(path)
    path.unlink()
    await make(path)


@pytest.mark.parametrize(
    ("cause", "words", "remedy"),
    [
        ("database or disk is full", "cannot grow", "free some disk space"),
        ("database is locked", "busy", "other program"),
        ("disk I/O error", "cannot be read and written", "check"),
    ],
)
def test_troubles_of_the_disk_have_a_remedy(cause: str, words: str, remedy: str) -> None:
    error = explain(sqlite3.OperationalError(cause), "s.db")
    assert words in str(error)
    assert remedy in error.remedy


async def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    store = SqliteRequestStore(tmp_path / "s.db")
    await see(store, range(20))

    def limit(pages: int) -> None:
        store._file._thread.submit(
            lambda: store._file._database._raw.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        )

    limit(1)
    with pytest.raises(StoreError, match="cannot grow"):
        await see(store, range(20, 900))
    assert (await store.counts())[S.SEEN] == 20
    limit(1_000_000)
    await see(store, range(20, 900))
    assert (await store.counts())[S.SEEN] == 900
    await store.close()


# -------------------------------------------------------------------------------------------------- two processes

HOLD = """
import sys, time
from oracle.store import SqliteRequestStore
store = SqliteRequestStore(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""


def test_a_second_oracle_on_one_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(make(path))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(StoreError, match=f"in use by another Sibyl .process {other.pid}"):
            SqliteRequestStore(path)
        asyncio.run(_look_and_fail_to_write(path))
        other.kill()
    asyncio.run(make(path))


async def _look_and_fail_to_write(path: Path) -> None:
    reader = SqliteRequestStore(path, read_only=True)
    assert (await reader.counts())[S.READY] == 2
    with pytest.raises(StoreError, match="cannot be read and written"):
        await see(reader, [3])
    await reader.close()


async def test_readers_see_whole_transactions_while_the_oracle_writes(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SqliteRequestStore(path)
    reader = SqliteRequestStore(path, read_only=True)
    writing = asyncio.create_task(_write_in_tens(store))
    sums = []
    while not writing.done():
        sums.append(sum((await reader.counts()).values()))
    await reader.close()
    await store.close()
    assert all(total % 10 == 0 for total in sums)
    assert sums == sorted(sums)
    assert len(set(sums)) > 2


async def _write_in_tens(store: SqliteRequestStore) -> None:
    for first in range(0, 400, 10):
        await see(store, range(first, first + 10))


def test_a_reader_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not exist") as caught:
        SqliteRequestStore(tmp_path / "s.db", read_only=True)
    assert "--data-dir" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_marked_as_ours(tmp_path: Path) -> None:
    Database(tmp_path / "s.db", read_only=False).close()
    assert query(tmp_path / "s.db", "PRAGMA application_id") == [(APPLICATION_ID,)]
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection:
        assert version_of(connection) == len(MIGRATIONS)
