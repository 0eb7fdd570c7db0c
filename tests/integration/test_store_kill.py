"""A process killed at any instruction leaves a whole file: no request lost, no report forgotten, none half moved."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from oracle.domain import TRANSITIONS, RequestStatus
from oracle.store import SqliteRequestStore

pytestmark = pytest.mark.integration

ROUNDS = 12
REQUESTS = 24

# For every line it reads, a child that takes requests through their whole life for ever, one reorganisation a turn.
# Children are forked, so that the imports are paid for once.
WORKER = """
import asyncio, os, sys
from oracle.domain import *
from oracle.ports import Move
from oracle.store import SqliteRequestStore

S = RequestStatus
CID = Cid.parse("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")

def block(number, branch):
    return BlockRef(number, branch.to_bytes(8, "big") + number.to_bytes(24, "big"), number)

async def main(path, count, branch):
    store = SqliteRequestStore(path)
    turn = 0
    while True:
        turn += 1
        branch += 1
        key = (branch << 32) + turn
        await store.roll_back(None)
        here = block(1, branch)
        who = "0x" + "11" * 20
        asked = [InferenceRequest(i.to_bytes(32, "big"), 1, who, CID, 1, 0, 2**40, i, 1) for i in range(count)]
        await store.commit_scan([RequestSeen(r, LogPosition(here, bytes(32), r.nonce)) for r in asked], [here], here)
        await store.confirm(1)
        rows = await store.select([S.CONFIRMED])
        await store.move([Move(r.request_id, S.READY) for r in rows], expected=[S.CONFIRMED])
        for first in range(0, count, 8):
            ids = [r.request_id for r in rows[first:first + 8]]
            for taken in [await store.open_batch(f"{key}-{first}", ids)]:
                moves = [Move(i, S.COMPUTED, result_cid=CID, answer=b"1") for i in taken]
                await store.move(moves, expected=[S.COMPUTING])
        for old in await store.open_reports():
            await store.abandon_report(old.report.transaction_hash, "old branch")
        ids = tuple(r.request_id for r in await store.select([S.COMPUTED]))
        nonce = key
        for attempt in range(2):
            signed = SignedReport((2 * key + attempt).to_bytes(32, "big"), b"raw", nonce, Fees(1, 1), 1, ids)
            await store.save_report(signed, replaces=(2 * key).to_bytes(32, "big") if attempt else None)
            await store.mark_broadcast(signed.transaction_hash)
        there = block(2, branch)
        settled = tuple(
            RequestSettled(i, OnChainStatus.FULFILLED, LogPosition(there, signed.transaction_hash, n), result_cid=CID)
            for n, i in enumerate(ids)
        )
        await store.close_report(ReportReceipt(signed.transaction_hash, there, True, 1, 1, settled, {}, frozenset()))

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(line)))
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    chance = random.Random(20)
    stood: set[str] = set()
    command = [sys.executable, "-c", WORKER, str(path), str(REQUESTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as workers:
        assert workers.stdin is not None
        assert workers.stdout is not None
        for round_number in range(ROUNDS):
            workers.stdin.write(f"{(round_number + 1) << 16}\n")
            workers.stdin.flush()
            child = int(workers.stdout.readline())
            time.sleep(chance.uniform(0.0, 0.4))
            os.kill(child, signal.SIGKILL)
            assert workers.stdout.readline() == "dead\n"
            # The very first child may have died before it made the file.
            if path.exists():
                check_file(path)
                stood |= asyncio.run(check_store(path))
        workers.stdin.close()
    assert len(stood) > 2, "the kills all fell on the same stage"


def check_file(path: Path) -> None:
    """As the ``sqlite3`` shell sees it, before the store has had a chance to mend anything."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            return
        walks = connection.execute("SELECT request_id, from_status, to_status FROM moves ORDER BY request_id, id")
        present: dict[str, str | None] = {}
        for request_id, origin, to in walks:
            assert present.get(request_id) == origin
            assert origin is None or RequestStatus(to) in TRANSITIONS[RequestStatus(origin)]
            present[request_id] = to
        assert dict(connection.execute("SELECT request_id, status FROM requests")) == present
        # A posting request is in an open report; a report is saved whole.
        carried = "SELECT request_id FROM report_items JOIN reports ON transaction_hash = report WHERE status = 'open'"
        adrift = f"SELECT * FROM requests WHERE status = 'posting' AND request_id NOT IN ({carried})"
        assert connection.execute(adrift).fetchall() == []
        empty = "SELECT * FROM reports WHERE transaction_hash NOT IN (SELECT report FROM report_items)"
        assert connection.execute(empty).fetchall() == []
        half = "SELECT * FROM settlements s JOIN requests USING (request_id) WHERE requests.status = 'posting'"
        assert connection.execute(half).fetchall() == []


async def check_store(path: Path) -> set[str]:
    store = SqliteRequestStore(path)
    counts = await store.counts()
    # A scan is committed whole or not at all.
    assert sum(counts.values()) in (0, REQUESTS)
    await store.open_batches()
    await store.open_reports()
    await store.close()
    return {status.value for status, count in counts.items() if count}
