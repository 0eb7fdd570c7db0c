"""What each method of the store promises, case by case."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import event
from test_store_kit import (
    ANSWER,
    COORDINATOR,
    FAR,
    IMAGE,
    OTHER_RESULT,
    RESULT,
    ManualClock,
    S,
    block,
    bring,
    receipt,
    report,
    rid,
    see,
    seen,
    settled,
    status,
    tx,
)

from oracle.domain import BlockRef, FailureReason, ImageFacts, OnChainStatus, RequestStatus
from oracle.errors import IllegalTransition, StoreError, StoreMismatch
from oracle.ports import Move, RequestStore
from oracle.store import Binding, SqliteRequestStore
from oracle.store.reading import page
from oracle.views import Place

pytestmark = pytest.mark.unit

OPEN = [S.SEEN, S.CONFIRMED, S.READY, S.COMPUTING, S.COMPUTED, S.FAILED]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def store(clock: ManualClock) -> AsyncIterator[SqliteRequestStore]:
    opened = SqliteRequestStore(":memory:", now=clock)
    yield opened
    await opened.close()


def test_it_is_the_port() -> None:
    store: RequestStore = SqliteRequestStore(":memory:")
    asyncio.run(store.close())


# ------------------------------------------------------------------------------------------------------ deployment


async def test_a_database_belongs_to_one_deployment(store: SqliteRequestStore) -> None:
    assert await store.binding() is None
    await store.bind(31337, COORDINATOR, b"\x01" * 32)
    await store.bind(31337, COORDINATOR.lower(), b"\x01" * 32)
    assert await store.binding() == Binding(31337, COORDINATOR, b"\x01" * 32)


@pytest.mark.parametrize(
    ("chain_id", "coordinator", "genesis", "words"),
    [
        (1, COORDINATOR, b"\x01" * 32, "chain id 31337, not 1"),
        (31337, "0x" + "22" * 20, b"\x01" * 32, "coordinator"),
        (31337, COORDINATOR, b"\x02" * 32, "began with block"),
    ],
)
async def test_another_deployment_is_refused(
    store: SqliteRequestStore, chain_id: int, coordinator: str, genesis: bytes, words: str
) -> None:
    await store.bind(31337, COORDINATOR, b"\x01" * 32)
    with pytest.raises(StoreMismatch, match=words) as caught:
        await store.bind(chain_id, coordinator, genesis)
    assert "--data-dir" in caught.value.remedy


# ------------------------------------------------------------------------------------------------------------ scan


async def test_a_scan_commits_logs_blocks_and_checkpoint(store: SqliteRequestStore, clock: ManualClock) -> None:
    assert await store.checkpoint() is None
    await store.commit_scan([seen(1, block(3)), seen(2, block(4))], [block(3), block(4)], block(6))
    assert await store.checkpoint() == block(6)
    assert await store.scanned_block(5) == block(4)
    assert await store.scanned_block(2) is None
    row = await store.get(rid(1))
    assert row is not None
    assert row.request == seen(1, block(3)).request
    assert (row.status, row.block, row.times) == (S.SEEN, 3, {S.SEEN: clock.now})
    assert await store.get(rid(77)) is None


async def test_a_scan_committed_twice_changes_nothing(store: SqliteRequestStore) -> None:
    events = [seen(1, block(3)), seen(2, block(4)), settled(2, block(4))]
    await store.commit_scan(events, [block(3), block(4)], block(6))
    await store.commit_scan([], [], block(9))
    before = [await store.get(rid(n)) for n in (1, 2)]
    await store.commit_scan(events, [block(3), block(4)], block(6))
    assert [await store.get(rid(n)) for n in (1, 2)] == before
    assert len(await store.timeline(rid(2))) == 2
    assert await store.checkpoint() == block(9)


async def test_a_block_with_another_hash_must_be_rolled_back_first(store: SqliteRequestStore) -> None:
    await store.commit_scan([], [block(3)], block(4))
    with pytest.raises(StoreError, match="reorganised") as caught:
        await store.commit_scan([seen(1, block(3, 1))], [block(3, 1)], block(5, 1))
    assert "roll back" in caught.value.remedy
    assert await store.get(rid(1)) is None
    assert await store.checkpoint() == block(4)


async def test_a_number_no_coordinator_emits_is_refused_whole(store: SqliteRequestStore) -> None:
    with pytest.raises(StoreError, match="deadline") as caught:
        await store.commit_scan([seen(1, block(3)), seen(2, block(3), 2**64)], [block(3)], block(3))
    assert "RPC" in caught.value.remedy
    assert await store.get(rid(1)) is None


async def test_block_hashes_far_below_the_checkpoint_are_forgotten(store: SqliteRequestStore) -> None:
    await store.commit_scan([], [block(1)], block(2))
    await store.commit_scan([], [block(11_500)], block(11_600))
    assert await store.scanned_block(11_499) is None
    assert await store.scanned_block(11_599) == block(11_500)


@pytest.mark.parametrize("stage", OPEN)
@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (OnChainStatus.FULFILLED, S.FULFILLED),
        (OnChainStatus.FAILED, S.REJECTED),
        (OnChainStatus.REFUNDED, S.REFUNDED),
        (OnChainStatus.CANCELLED, S.CANCELLED),
    ],
)
async def test_a_settlement_by_anyone_ends_a_request_and_a_reorg_brings_it_back(
    store: SqliteRequestStore, stage: RequestStatus, outcome: OnChainStatus, expected: RequestStatus
) -> None:
    await bring(store, [1], stage)
    await store.commit_scan([settled(1, block(8), outcome)], [block(8)], block(8))
    row = await store.get(rid(1))
    assert row is not None
    assert (row.status, row.transaction_hash) == (expected, tx(999))
    if expected is S.FULFILLED:
        assert (row.result_cid, row.answer, row.failure) == (OTHER_RESULT, b"\x02", FailureReason.NONE)
    if expected is S.REJECTED:
        assert (row.result_cid, row.answer, row.failure) == (None, b"", FailureReason.IMAGE_UNREADABLE)

    assert await store.roll_back(block(7)) == [rid(1)]
    back = await store.get(rid(1))
    assert back is not None
    assert back.status is {S.COMPUTED: S.COMPUTED, S.FAILED: S.FAILED}.get(stage, S.SEEN)
    if stage is S.COMPUTED:
        assert (back.result_cid, back.answer) == (RESULT, ANSWER)
    if stage is S.FAILED:
        assert back.failure is FailureReason.IMAGE_TOO_LARGE
    assert back.transaction_hash is None


async def test_a_refund_undone_after_the_deadline_leaves_the_request_expired(
    store: SqliteRequestStore, clock: ManualClock
) -> None:
    await bring(store, [1], S.COMPUTED, deadline=500)
    await store.expire(clock.now)
    await store.commit_scan([settled(1, block(8), OnChainStatus.REFUNDED)], [block(8)], block(8))
    await store.roll_back(block(7))
    assert await status(store, 1) is S.EXPIRED


async def test_a_settlement_seen_before_its_request_is_remembered(store: SqliteRequestStore) -> None:
    await store.commit_scan([settled(1, block(8))], [block(8)], block(8))
    assert await store.get(rid(1)) is None
    await store.commit_scan([seen(1, block(3))], [block(3)], block(9))
    assert await status(store, 1) is S.FULFILLED


async def test_a_settlement_of_a_stranger_survives_a_contradiction(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.SEEN)
    await store.commit_scan([settled(1, block(8))], [block(8)], block(8))
    await store.commit_scan([settled(1, block(9), OnChainStatus.REFUNDED)], [block(9)], block(9))
    row = await store.get(rid(1))
    assert row is not None
    assert (row.status, row.result_cid) == (S.FULFILLED, OTHER_RESULT)


# ----------------------------------------------------------------------------------------------------------- reorg


async def test_a_reorg_orphans_what_was_mined_above_the_fork(store: SqliteRequestStore) -> None:
    await see(store, [1], at=5)
    await store.commit_scan([seen(2, block(6))], [block(6)], block(7))
    assert await store.roll_back(block(5)) == [rid(2)]
    assert (await status(store, 1), await status(store, 2)) == (S.SEEN, S.ORPHANED)
    assert await store.checkpoint() == block(5)
    assert await store.scanned_block(100) == block(5)

    await store.commit_scan([seen(2, block(8, 1))], [block(8, 1)], block(8, 1))
    row = await store.get(rid(2))
    assert row is not None
    assert (row.status, row.block) == (S.SEEN, 8)
    assert await store.confirm(7) == 1
    assert await status(store, 2) is S.SEEN


async def test_a_whole_roll_back_forgets_the_chain(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.COMPUTED)
    await store.commit_scan([settled(2, block(6))], [block(6)], block(6))
    assert set(await store.roll_back(None)) == {rid(1), rid(2)}
    assert await store.checkpoint() is None
    assert await store.scanned_block(10**9) is None
    assert (await store.counts())[S.ORPHANED] == 2
    assert await store.roll_back(None) == []


async def test_an_orphan_that_is_mined_again_starts_afresh_and_keeps_what_was_computed(
    store: SqliteRequestStore,
) -> None:
    await bring(store, [1], S.COMPUTED)
    await store.move([Move(rid(1), S.COMPUTED, attempts=3, not_before=9_999.0)], expected=[S.COMPUTED])
    await store.roll_back(block(4))
    await store.commit_scan([seen(1, block(5, 1))], [block(5, 1)], block(5, 1))
    row = await store.get(rid(1))
    assert row is not None
    assert (row.status, row.attempts, row.not_before, row.result_cid) == (S.SEEN, 0, 0.0, RESULT)


async def test_a_reorg_while_posting_leaves_the_report_open(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.COMPUTED)
    await store.save_report(report(1, 0, [1]))
    await store.roll_back(block(4))
    assert await status(store, 1) is S.ORPHANED
    assert len(await store.open_reports()) == 1
    # The report is mined on the new branch, before the scanner has seen the request there again.
    await store.close_report(receipt(1, block(7, 1), fulfilled=[1]))
    assert await status(store, 1) is S.ORPHANED
    await store.commit_scan([seen(1, block(5, 1))], [block(5, 1)], block(5, 1))
    assert await status(store, 1) is S.FULFILLED


async def test_a_settlement_of_ours_seen_before_the_receipt_goes_back_to_posting(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.COMPUTED)
    await store.save_report(report(1, 0, [1]))
    await store.commit_scan([settled(1, block(8), by=1)], [block(8)], block(8))
    assert await status(store, 1) is S.FULFILLED
    assert len(await store.open_reports()) == 1
    await store.roll_back(block(7))
    row = await store.get(rid(1))
    assert row is not None
    assert (row.status, row.transaction_hash) == (S.POSTING, tx(1))


async def test_a_reorg_that_takes_a_receipt_away_reopens_its_report_and_the_siblings(
    store: SqliteRequestStore,
) -> None:
    await bring(store, [1, 2, 3], S.COMPUTED)
    await store.save_report(report(1, 0, [1, 2, 3]))
    await store.mark_broadcast(tx(1))
    await store.save_report(report(2, 0, [1, 2, 3]), replaces=tx(1))
    await store.close_report(receipt(2, block(8), fulfilled=[1], failed=[2]))
    assert [await status(store, n) for n in (1, 2, 3)] == [S.FULFILLED, S.REJECTED, S.COMPUTED]
    assert set(await store.roll_back(block(7))) == {rid(1), rid(2), rid(3)}
    assert [await status(store, n) for n in (1, 2, 3)] == [S.POSTING] * 3
    assert [(r.report.transaction_hash, r.broadcast_at) for r in await store.open_reports()] == [
        (tx(1), None),
        (tx(2), None),
    ]
    await store.close_report(receipt(1, block(8, 1), fulfilled=[1, 2, 3]))
    assert (await store.counts())[S.FULFILLED] == 3
    assert await store.open_reports() == []


# ----------------------------------------------------------------------------------------------------------- queue


async def test_select_serves_the_earliest_deadline_first(store: SqliteRequestStore) -> None:
    for number, deadline in [(1, FAR + 30), (2, FAR + 10), (3, FAR + 20), (4, FAR + 10)]:
        await see(store, [number], deadline=deadline)
    await store.confirm(5)
    await store.move([Move(rid(3), S.READY), Move(rid(2), S.READY, not_before=50.0)], expected=[S.CONFIRMED])

    async def order(due: float | None = None, limit: int | None = None) -> list[int]:
        rows = await store.select([S.CONFIRMED, S.READY], due=due, limit=limit)
        return [row.request.nonce for row in rows]

    assert await order() == [2, 4, 3, 1]
    assert await order(due=49.0) == [4, 3, 1]
    assert await order(due=50.0, limit=2) == [2, 4]
    assert await store.select([]) == []


async def test_counts_name_every_status(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.READY)
    assert await store.counts() == dict.fromkeys(S, 0) | {S.READY: 2}


async def test_a_move_changes_the_columns_it_names_and_no_others(store: SqliteRequestStore, clock: ManualClock) -> None:
    await bring(store, [1], S.CONFIRMED)
    facts = ImageFacts("PNG", 28, 28, 300)
    clock.now = 2_000.0
    assert await store.move([Move(rid(1), S.READY, attempts=1, image=facts)], expected=[S.CONFIRMED]) == 1
    row = await store.get(rid(1))
    assert row is not None
    assert (row.status, row.attempts, row.image, row.not_before, row.detail) == (S.READY, 1, facts, 0.0, "")
    assert row.request.image_cid == IMAGE
    assert row.times == {S.SEEN: 1_000.0, S.CONFIRMED: 1_000.0, S.READY: 2_000.0}


async def test_a_request_that_moved_on_is_left_alone(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.READY)
    moved = await store.move([Move(rid(1), S.SEEN), Move(rid(9), S.SEEN)], expected=[S.CONFIRMED])
    assert moved == 0
    assert await status(store, 1) is S.READY


async def test_an_illegal_move_raises_and_moves_nobody(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.READY)
    moves = [Move(rid(1), S.COMPUTING), Move(rid(2), S.FULFILLED), Move(rid(2), S.SEEN)]
    with pytest.raises(IllegalTransition):
        await store.move(moves, expected=[S.READY])
    with pytest.raises(IllegalTransition, match="from ready to seen"):
        await store.move([Move(rid(1), S.COMPUTING), Move(rid(2), S.SEEN)], expected=[S.READY])
    assert (await store.counts())[S.READY] == 2
    assert len(await store.timeline(rid(1))) == 3


async def test_a_request_named_twice_is_refused(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.READY)
    with pytest.raises(IllegalTransition, match="twice"):
        await store.move([Move(rid(1), S.READY), Move(rid(1), S.COMPUTING)], expected=[S.READY])


async def test_what_waits_for_a_report_must_hold_something_to_post(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.COMPUTING)
    with pytest.raises(IllegalTransition, match="computed_holds_a_result"):
        await store.move([Move(rid(1), S.COMPUTED)], expected=[S.COMPUTING])
    with pytest.raises(IllegalTransition, match="failed_holds_a_reason"):
        await store.move([Move(rid(1), S.FAILED)], expected=[S.COMPUTING])
    assert await status(store, 1) is S.COMPUTING


async def test_a_retry_stays_where_it_is_and_is_noted(store: SqliteRequestStore, clock: ManualClock) -> None:
    await bring(store, [1], S.CONFIRMED)
    again = Move(rid(1), S.CONFIRMED, attempts=1, not_before=1_030.0, detail="no node has it")
    assert await store.move([again], expected=[S.CONFIRMED]) == 1
    row = await store.get(rid(1))
    assert row is not None
    assert (row.attempts, row.not_before, row.detail) == (1, 1_030.0, "no node has it")
    assert (await store.timeline(rid(1)))[-1] == (S.CONFIRMED, clock.now, "no node has it")
    await store.commit_scan([settled(1, block(8))], [block(8)], block(8))
    with pytest.raises(IllegalTransition):
        await store.move([Move(rid(1), S.FULFILLED)], expected=[S.FULFILLED])


@pytest.mark.parametrize("stage", [S.CONFIRMED, S.READY, S.COMPUTING, S.COMPUTED, S.FAILED])
async def test_expiry_takes_what_is_late_and_not_in_a_report(store: SqliteRequestStore, stage: RequestStatus) -> None:
    await bring(store, [1], stage, deadline=1_500)
    assert await store.expire(1_500.0) == 0
    assert await store.expire(1_500.5) == 1
    assert await status(store, 1) is S.EXPIRED
    await store.commit_scan([settled(1, block(8))], [block(8)], block(8))
    assert await status(store, 1) is S.FULFILLED


async def test_expiry_leaves_what_a_report_carries(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.COMPUTED, deadline=1_500)
    await store.save_report(report(1, 0, [1, 2]))
    assert await store.expire(9_000.0) == 0
    # Orphaned and seen again while the report is open: the report may still answer it.
    await store.roll_back(block(4))
    await store.commit_scan([seen(1, block(5, 1), 1_500)], [block(5, 1)], block(5, 1))
    await store.confirm(5)
    assert await store.expire(9_000.0) == 0
    await store.abandon_report(tx(1), "nonce taken")
    assert await store.expire(9_000.0) == 1


async def test_batches_hold_what_was_ready(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2, 3], S.READY)
    await store.move([Move(rid(2), S.FAILED, failure=FailureReason.MODEL_UNAVAILABLE)], expected=[S.READY])
    assert await store.open_batch("k", [rid(3), rid(2), rid(1), rid(9), rid(3)]) == [rid(3), rid(1)]
    batches = await store.open_batches()
    assert {key: [row.request.nonce for row in rows] for key, rows in batches.items()} == {"k": [1, 3]}
    assert await store.open_batch("empty", [rid(2)]) == []
    await store.move([Move(rid(1), S.READY)], expected=[S.COMPUTING])
    with pytest.raises(StoreError, match="exists already"):
        await store.open_batch("k", [rid(1)])
    assert await status(store, 1) is S.READY


# --------------------------------------------------------------------------------------------------------- reports


async def test_a_note_from_outside_is_kept_short_and_storable(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.CONFIRMED)
    move = Move(rid(1), S.CONFIRMED, attempts=1, detail="half a pair \ud800 " + "x" * 2_000)
    assert await store.move([move], expected=[S.CONFIRMED]) == 1
    row = await store.get(rid(1))
    assert row is not None
    assert row.detail.startswith("half a pair \\ud800 x")
    assert len(row.detail) < 520


async def test_a_report_is_saved_before_it_is_sent(store: SqliteRequestStore, clock: ManualClock) -> None:
    await bring(store, [1], S.COMPUTED)
    await bring(store, [2], S.FAILED)
    signed = report(1, 7, [2, 1])
    await store.save_report(signed)
    await store.save_report(signed)
    (stored,) = await store.open_reports()
    assert (stored.report, stored.saved_at, stored.broadcast_at, stored.replaces) == (signed, clock.now, None, None)
    assert [await status(store, n) for n in (1, 2)] == [S.POSTING] * 2
    clock.now = 1_010.0
    await store.mark_broadcast(tx(1))
    clock.now = 1_020.0
    await store.mark_broadcast(tx(1))
    (stored,) = await store.open_reports()
    assert stored.broadcast_at == 1_010.0


async def test_a_nonce_is_not_used_twice_by_accident(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.COMPUTED)
    await store.save_report(report(1, 0, [1]))
    with pytest.raises(StoreError, match="nonce 0 already belongs"):
        await store.save_report(report(2, 0, [2]))
    with pytest.raises(StoreError, match="cannot be replaced"):
        await store.save_report(report(2, 1, [2]), replaces=tx(1))
    with pytest.raises(StoreError, match="no request"):
        await store.save_report(report(2, 1, []))
    with pytest.raises(StoreError, match="does not know"):
        await store.save_report(report(2, 1, [99]))
    assert await status(store, 2) is S.COMPUTED
    assert len(await store.open_reports()) == 1


async def test_a_receipt_settles_returns_and_follows(store: SqliteRequestStore) -> None:
    await bring(store, range(1, 7), S.COMPUTED)
    await bring(store, [7], S.FAILED)
    await store.save_report(report(1, 0, range(1, 8)))
    skipped = {
        3: OnChainStatus.FULFILLED,
        4: OnChainStatus.FAILED,
        5: OnChainStatus.REFUNDED,
        6: OnChainStatus.UNKNOWN,
    }
    done = receipt(1, block(9), fulfilled=[1, 2], failed=[7], skipped=skipped, callback_failed=[2])
    await store.close_report(done)
    assert [await status(store, n) for n in range(1, 8)] == [
        S.FULFILLED,
        S.FULFILLED,
        S.FULFILLED,
        S.REJECTED,
        S.REFUNDED,
        S.COMPUTED,
        S.REJECTED,
    ]
    row = await store.get(rid(2))
    assert row is not None
    assert "callback failed" in row.detail
    assert row.transaction_hash == tx(1)
    returned = await store.get(rid(6))
    assert returned is not None
    assert (returned.transaction_hash, returned.result_cid) == (None, RESULT)
    before = [await store.timeline(rid(n)) for n in range(1, 8)]
    await store.close_report(done)
    assert [await store.timeline(rid(n)) for n in range(1, 8)] == before
    assert await store.open_reports() == []


async def test_a_skipped_item_takes_its_place_from_the_log_that_settled_it(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.COMPUTED)
    await store.save_report(report(1, 0, [1]))
    await store.close_report(receipt(1, block(9), skipped={1: OnChainStatus.FULFILLED}))
    await store.commit_scan([settled(1, block(7))], [block(7)], block(7))
    row = await store.get(rid(1))
    assert row is not None
    assert (row.result_cid, row.transaction_hash) == (OTHER_RESULT, tx(999))
    # The receipt is reorganised away, the foreign settlement two blocks below it is not.
    await store.roll_back(block(8))
    assert await status(store, 1) is S.FULFILLED


async def test_a_reverted_report_gives_its_requests_back(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.COMPUTED)
    await bring(store, [2], S.FAILED)
    await store.save_report(report(1, 0, [1, 2]))
    await store.close_report(receipt(1, block(9), succeeded=False))
    assert [await status(store, n) for n in (1, 2)] == [S.COMPUTED, S.FAILED]
    assert "reverted" in (await store.timeline(rid(1)))[-1][2]
    await store.save_report(report(2, 1, [1, 2]))
    assert [await status(store, n) for n in (1, 2)] == [S.POSTING] * 2


async def test_a_replacement_keeps_posting_until_every_sibling_is_closed(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.COMPUTED)
    await store.save_report(report(1, 0, [1, 2]))
    await store.save_report(report(2, 0, [1]), replaces=tx(1))
    await store.abandon_report(tx(2), "underpriced")
    assert [await status(store, n) for n in (1, 2)] == [S.POSTING] * 2
    await store.abandon_report(tx(1), "the nonce went to a foreign transaction")
    assert [await status(store, n) for n in (1, 2)] == [S.COMPUTED] * 2
    assert (await store.timeline(rid(1)))[-1][2] == "the nonce went to a foreign transaction"
    await store.abandon_report(tx(1), "again")


async def test_an_abandoned_sibling_stays_abandoned_when_a_reorg_reopens_its_nonce(store: SqliteRequestStore) -> None:
    await bring(store, [1], S.COMPUTED)
    await store.save_report(report(1, 0, [1]))
    await store.save_report(report(2, 0, [1]), replaces=tx(1))
    await store.abandon_report(tx(2), "underpriced")
    await store.close_report(receipt(1, block(9), fulfilled=[1]))
    await store.roll_back(block(8))
    assert [r.report.transaction_hash for r in await store.open_reports()] == [tx(1)]


async def test_a_closed_nonce_leaves_another_report_alone(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.COMPUTED)
    await store.save_report(report(1, 0, [1]))
    await store.save_report(report(2, 1, [2]))
    await store.close_report(receipt(1, block(9), fulfilled=[1]))
    assert await status(store, 2) is S.POSTING
    assert [r.report.transaction_hash for r in await store.open_reports()] == [tx(2)]


async def test_a_report_carries_requests_that_moved_on_without_moving_them(store: SqliteRequestStore) -> None:
    await bring(store, [1, 2], S.COMPUTED)
    await store.commit_scan([settled(2, block(6))], [block(6)], block(6))
    await store.save_report(report(1, 0, [1, 2]))
    assert [await status(store, n) for n in (1, 2)] == [S.POSTING, S.FULFILLED]
    await store.close_report(receipt(1, block(9), fulfilled=[1], skipped={2: OnChainStatus.FULFILLED}))
    row = await store.get(rid(2))
    assert row is not None
    assert row.transaction_hash == tx(999)


async def test_an_unknown_report_is_refused(store: SqliteRequestStore) -> None:
    with pytest.raises(StoreError, match="never saved"):
        await store.close_report(receipt(1, block(9)))
    with pytest.raises(StoreError, match="never saved"):
        await store.abandon_report(tx(1), "")


# --------------------------------------------------------------------------------------------------------- history


async def test_the_timeline_and_the_stage_durations_agree(store: SqliteRequestStore, clock: ManualClock) -> None:
    await bring(store, [1], S.CONFIRMED)
    clock.now += 2.0
    await store.move([Move(rid(1), S.READY)], expected=[S.CONFIRMED])
    clock.now += 3.0
    await store.open_batch("k", [rid(1)])
    clock.now += 4.0
    await store.move([Move(rid(1), S.READY, detail="lost")], expected=[S.COMPUTING])
    assert [(to, at) for to, at, _ in await store.timeline(rid(1))] == [
        (S.SEEN, 1_000.0),
        (S.CONFIRMED, 1_000.0),
        (S.READY, 1_002.0),
        (S.COMPUTING, 1_005.0),
        (S.READY, 1_009.0),
    ]
    assert await store.stage_durations(10) == {S.SEEN: [0.0], S.CONFIRMED: [2.0], S.READY: [3.0], S.COMPUTING: [4.0]}
    row = await store.get(rid(1))
    assert row is not None
    assert row.times is not None
    assert row.times[S.READY] == 1_002.0


async def test_recent_is_newest_first(store: SqliteRequestStore) -> None:
    await see(store, [3, 1], at=5)
    await see(store, [2], at=6)
    assert [row.request.nonce for row in await store.recent(2)] == [2, 3]


# ---------------------------------------------------------------------------------------------------------- thread


async def test_work_never_runs_on_the_callers_thread(store: SqliteRequestStore) -> None:
    threads: set[str] = set()

    @event.listens_for(store._file._database.connection, "before_cursor_execute")
    def note(*_: object) -> None:
        threads.add(threading.current_thread().name)

    await asyncio.gather(*(see(store, [n], at=n) for n in range(1, 20)), store.counts())
    assert (await store.counts())[S.SEEN] == 19
    assert threads == {"sibyl-store_0"}


async def test_a_cancelled_call_is_whole_or_absent(store: SqliteRequestStore) -> None:
    tasks = [asyncio.create_task(see(store, [2 * n, 2 * n + 1], at=n)) for n in range(1, 30)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await store.counts())[S.SEEN] % 2 == 0


async def test_a_closed_store_says_so() -> None:
    store = SqliteRequestStore(":memory:")
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.counts()


# ----------------------------------------------------------------------------------------------------------- plans


async def test_no_query_scans_a_table(tmp_path: Path) -> None:
    store = SqliteRequestStore(tmp_path / "s.db")
    statements: dict[str, object] = {}

    @event.listens_for(store._file._database.connection, "before_cursor_execute")
    def note(_c: object, _u: object, statement: str, parameters: object, _x: object, many: bool) -> None:
        statements[statement] = parameters[0] if many else parameters  # type: ignore[index]

    await _use_everything(store)
    for after in (None, Place(8, 1, rid(1))):
        await store._file.read(partial(page, account=None, model=None, status=S.FULFILLED, after=after, limit=20))
    await store.close()
    scans: list[str] = []
    connection = sqlite3.connect(tmp_path / "s.db")
    for statement, parameters in statements.items():
        plan = connection.execute("EXPLAIN QUERY PLAN " + statement, parameters).fetchall()  # type: ignore[call-overload]
        for *_, step in plan:
            whole = step.startswith("SCAN") and step.split()[1] in ("requests", "moves", "reports", "settlements")
            whole = whole and "INDEX" not in step
            sorts = "USE TEMP B-TREE FOR ORDER BY" in step and "FROM requests LEFT OUTER JOIN" in statement
            if whole or sorts:
                scans.append(f"{step}: {statement}")
    connection.close()
    assert len(statements) > 30
    assert scans == []


async def _use_everything(store: SqliteRequestStore) -> None:
    await store.bind(1, COORDINATOR, bytes(32))
    await bring(store, range(1, 40), S.COMPUTED)
    await bring(store, range(40, 50), S.FAILED)
    await bring(store, range(50, 60), S.COMPUTING)
    await see(store, [60], deadline=1)
    await store.confirm(5)
    await store.save_report(report(1, 0, range(1, 17)))
    await store.mark_broadcast(tx(1))
    await store.save_report(report(2, 0, range(1, 17)), replaces=tx(1))
    await store.save_report(report(3, 1, range(17, 20)))
    await store.open_reports()
    await store.close_report(receipt(2, block(9), fulfilled=range(1, 15), skipped={15: OnChainStatus.REFUNDED}))
    await store.abandon_report(tx(3), "gone")
    await store.commit_scan([settled(30, block(8)), seen(61, block(8))], [block(8)], block(8))
    await store.expire(100.0)
    await store.select(list(S), due=5.0, limit=16)
    await store.select([S.READY])
    for read in (store.counts, store.open_batches, store.checkpoint, store.binding):
        await read()
    await store.recent(5)
    await store.stage_durations(5)
    await store.timeline(rid(1))
    await store.scanned_block(7)
    await store.roll_back(BlockRef(4, bytes(32), 0))
    await store.commit_scan([seen(61, block(8, 1))], [block(8, 1)], block(8, 1))
    await store.commit_scan([seen(61, block(9, 1))], [block(9, 1)], block(9, 1))


async def test_a_report_that_was_given_up_and_signed_again_is_open_again(
    store: SqliteRequestStore, clock: ManualClock
) -> None:
    await bring(store, [1], S.COMPUTED)
    await store.save_report(report(1, 0, [1]))
    await store.abandon_report(tx(1), "no node took it")
    assert await status(store, 1) is S.COMPUTED
    clock.now = 2_000.0
    await store.save_report(report(1, 0, [1]))
    (stored,) = await store.open_reports()
    assert (stored.report.transaction_hash, stored.saved_at, stored.broadcast_at) == (tx(1), 2_000.0, None)
    assert await status(store, 1) is S.POSTING
