"""The settler under trouble: reverts, refusals, dropped reports, spent nonces, fees, late answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles import (
    FolderSpool,
    MemoryChain,
    MemoryContent,
    ScriptedBackend,
    SteppedClock,
    a_request,
    block,
    cid_of,
    seen,
)

from oracle.answers import AnswerEntry, ClassificationAnswer
from oracle.domain import BlockRef, FailureReason, RequestStatus, SignedReport
from oracle.errors import ReportReverted, TransactionRefused
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.settler import Settler
from oracle.pipeline.worth import Worth
from oracle.ports import Move
from oracle.store import SqliteRequestStore

pytestmark = pytest.mark.unit

NOW = 2_000_000_000.0
S = RequestStatus
ANSWER = ClassificationAnswer((AnswerEntry(7, 9000),)).encode()


@dataclass
class Bench:
    store: SqliteRequestStore
    chain: MemoryChain
    clock: SteppedClock
    settler: Settler
    nonce: int = 0

    async def computed(self, *, deadline: float = 3600, callback_gas: int = 0, failure: bool = False) -> bytes:
        """A request whose answer, or failure, waits to be reported."""
        self.nonce += 1
        request = a_request(
            self.nonce, image=cid_of(b"%d" % self.nonce), deadline=int(NOW + deadline), callback_gas=callback_gas
        )
        at = block(50)
        await self.store.commit_scan([seen(request, at)], [at], at)
        await self.store.confirm(50)
        ids = [request.request_id]
        if failure:
            move = Move(request.request_id, S.FAILED, failure=FailureReason.IMAGE_UNAVAILABLE)
            await self.store.move([move], expected=[S.CONFIRMED])
            return request.request_id
        await self.store.move([Move(request.request_id, S.READY)], expected=[S.CONFIRMED])
        await self.store.open_batch(f"batch {self.nonce}", ids)
        move = Move(request.request_id, S.COMPUTED, result_cid=cid_of(b"result"), answer=ANSWER)
        await self.store.move([move], expected=[S.COMPUTING])
        return request.request_id

    async def steps(self, count: int = 6, *, seconds: float = 0.0, blocks: int = 0) -> None:
        for _ in range(count):
            await self.settler.step()
            self.clock.time += seconds
            self.chain.height += blocks

    async def status(self, request_id: bytes) -> RequestStatus:
        row = await self.store.get(request_id)
        assert row is not None
        return row.status


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    chain, clock = MemoryChain({}), SteppedClock(NOW)
    store = SqliteRequestStore(tmp_path / "one.sqlite3", now=clock.now)
    spool = FolderSpool(tmp_path)
    models = ModelCatalogue(
        chain=chain, content=MemoryContent(), spool=spool, backend=ScriptedBackend(), clock=clock, timeout=1.0
    )
    settler = Settler(
        store=store, chain=chain, sender=chain, spool=spool, worth=Worth(models, {}), clock=clock, confirmations=1,
        items=16, in_flight=4, replace_after=60.0, posting_time=12.0, cost_ratio=3.0, wall=clock.now,
    )  # fmt: skip
    yield Bench(store, chain, clock, settler)
    await store.close()


async def test_given_a_report_that_reverts_on_chain_when_stepped_on_then_it_is_not_paid_for_in_a_loop(
    bench: Bench,
) -> None:
    ids = [await bench.computed() for _ in range(4)]
    bench.chain.reverting = {ids[1]}
    await bench.steps(40)
    assert len(bench.chain.broadcasts) == 1
    await bench.steps(12, seconds=1)
    assert [await bench.status(i) for i in ids] == [S.FULFILLED, S.COMPUTED, S.FULFILLED, S.FULFILLED]
    alone = len(bench.chain.broadcasts)
    await bench.steps(60, seconds=1)
    assert len(bench.chain.broadcasts) - alone <= 4


async def test_given_new_answers_when_an_old_one_keeps_reverting_then_they_do_not_wait_for_it(bench: Bench) -> None:
    bad = await bench.computed()
    bench.chain.reverting = {bad}
    await bench.steps(3)
    for _ in range(10):
        fresh = await bench.computed()
        await bench.steps(4, seconds=1)
        assert await bench.status(fresh) is S.FULFILLED


async def test_given_a_report_dropped_from_the_pool_at_the_fee_cap_when_time_passes_then_its_bytes_are_sent_again(
    bench: Bench,
) -> None:
    bench.chain.mining = False
    request_id = await bench.computed()
    await bench.steps(2)
    bench.chain.pending.clear()
    bench.chain.outbid = True
    bench.chain.replace_faults = [TransactionRefused("above the cap")] * 99
    bench.chain.mining = True
    await bench.steps(4, seconds=61, blocks=1)
    assert await bench.status(request_id) is S.FULFILLED
    assert len(set(bench.chain.broadcasts)) == 1


async def test_given_a_first_broadcast_refused_as_underpriced_when_stepped_then_it_is_priced_anew_at_its_nonce(
    bench: Bench,
) -> None:
    refusal = TransactionRefused("max fee per gas less than block base fee")
    refusal.underpriced = True
    bench.chain.broadcast_faults = [refusal]
    request_id = await bench.computed()
    await bench.steps(3)
    assert await bench.status(request_id) is S.FULFILLED
    assert bench.chain.nonce == 1


async def test_given_a_node_that_keeps_refusing_when_stepped_then_neither_fees_nor_tries_run_away(bench: Bench) -> None:
    refusal = TransactionRefused("replacement transaction underpriced")
    refusal.underpriced = True
    bench.chain.broadcast_faults = [refusal] * 9999
    await bench.computed()
    for _ in range(300):
        with contextlib.suppress(TransactionRefused):
            await bench.settler.step()
        bench.clock.time += 1
    reports = await bench.store.open_reports()
    assert len(reports) <= 3
    assert len(bench.chain.broadcast_faults) > 9999 - 45  # about four tries every half minute


async def test_given_a_report_too_large_for_a_block_when_refused_then_its_items_go_alone(bench: Bench) -> None:
    refusal = TransactionRefused("exceeds block gas limit")
    refusal.too_large = True
    bench.chain.broadcast_faults = [refusal]
    ids = [await bench.computed() for _ in range(3)]
    await bench.steps(12, seconds=1)
    assert {await bench.status(i) for i in ids} == {S.FULFILLED}
    assert [len(receipt.settled) for receipt in bench.chain.receipts.values()] == [1, 1, 1]


async def test_given_a_halted_chain_when_hours_pass_then_no_fee_is_raised(bench: Bench) -> None:
    bench.chain.mining = False
    bench.chain.outbid = True
    for _ in range(40):
        await bench.computed(deadline=86_400)
    await bench.steps(200, seconds=61)
    reports = await bench.store.open_reports()
    assert all(stored.replaces is None for stored in reports)
    bench.chain.mine()
    await bench.steps(20, seconds=1)
    assert (await bench.store.counts())[S.FULFILLED] >= 32


async def test_given_blocks_that_pass_over_two_reports_when_outbid_then_only_the_lowest_nonce_is_replaced(
    bench: Bench,
) -> None:
    bench.chain.mining = False
    for _ in range(32):
        await bench.computed(deadline=86_400)
    await bench.steps(3)
    bench.chain.outbid = True
    await bench.steps(3, seconds=61, blocks=1)
    nonces = [stored.report.nonce for stored in await bench.store.open_reports()]
    assert nonces.count(0) > 1
    assert nonces.count(1) == 1


async def test_given_a_node_that_lags_behind_when_the_next_report_is_signed_then_a_mined_nonce_is_not_used_again(
    bench: Bench,
) -> None:
    first = await bench.computed()
    await bench.steps(3)
    assert await bench.status(first) is S.FULFILLED
    second = await bench.computed()
    bench.chain.next_nonce = _zero  # type: ignore[method-assign]
    await bench.steps(2)
    assert await bench.status(second) is S.FULFILLED


async def _zero() -> int:
    await asyncio.sleep(0)
    return 0


async def test_given_a_gap_below_the_open_reports_when_the_next_is_signed_then_it_fills_the_gap(bench: Bench) -> None:
    bench.chain.nonce = 6
    bench.chain.mining = False
    for _ in range(16):
        await bench.computed()
    await bench.steps(2)
    bench.chain.nonce = 5  # a reorg took the account's transaction with nonce 5 away
    for _ in range(16):
        await bench.computed()
    await bench.steps(2)
    assert [stored.report.nonce for stored in await bench.store.open_reports()] == [5, 6]


async def test_given_callbacks_that_fill_a_report_when_others_wait_then_it_counts_as_full(bench: Bench) -> None:
    bench.chain.mining = False
    for _ in range(10):
        await bench.computed(callback_gas=2_500_000)
    bench.settler._cost_ratio = 1e9
    await bench.steps(6)
    assert [len(stored.report.request_ids) for stored in await bench.store.open_reports()] == [3, 3, 3]


async def test_given_a_deadline_closer_than_a_block_when_the_answer_is_ready_then_no_gas_is_wasted_on_it(
    bench: Bench,
) -> None:
    late, soon = await bench.computed(deadline=11), await bench.computed(deadline=13)
    await bench.steps(3)
    assert [await bench.status(i) for i in (late, soon)] == [S.COMPUTED, S.FULFILLED]


async def test_given_fees_above_what_a_request_paid_when_posted_then_it_waits_until_they_fall(bench: Bench) -> None:
    bench.chain.price = 10**12  # the request paid 10**15 wei, posting costs 60 times that
    request_id = await bench.computed(deadline=86_400)
    await bench.steps(5, seconds=10)
    assert bench.chain.broadcasts == []
    bench.chain.price = 10**9
    await bench.steps(5, seconds=10)
    assert await bench.status(request_id) is S.FULFILLED


async def test_given_one_clock_that_runs_ahead_when_looked_at_then_nothing_expires(bench: Bench) -> None:
    bench.chain.mining = False
    bench.chain.price = 10**12
    request_id = await bench.computed(deadline=100)
    future = BlockRef(60, b"\6" * 32, int(NOW + 999_999))
    await bench.store.commit_scan([], [future], future)
    await bench.steps(2)
    assert await bench.status(request_id) is S.COMPUTED
    bench.clock.time += 200
    await bench.steps(1)
    assert await bench.status(request_id) is S.EXPIRED


async def test_given_many_answers_that_come_too_late_when_others_wait_then_they_do_not_hide_them(bench: Bench) -> None:
    for _ in range(40):
        await bench.computed(deadline=5)
    good = await bench.computed(deadline=3600)
    await bench.steps(2)
    assert await bench.status(good) is S.FULFILLED


async def test_given_a_flood_that_pays_too_little_when_one_pays_enough_then_it_is_posted(bench: Bench) -> None:
    for _ in range(200):
        await bench.computed(deadline=600, callback_gas=2_500_000)
    bench.chain.price = 2 * 10**9  # the callbacks cost five times what was paid
    good = await bench.computed(deadline=3600)
    await bench.steps(3)
    assert await bench.status(good) is S.FULFILLED


async def test_given_a_failure_with_a_hungry_callback_when_posted_then_only_what_it_really_costs_counts(
    bench: Bench,
) -> None:
    bench.chain.price = 3 * 10**9
    request_id = await bench.computed(callback_gas=2_500_000, failure=True)
    await bench.steps(2)
    assert await bench.status(request_id) is S.REJECTED


async def test_given_a_report_that_no_node_ever_takes_when_refused_again_then_its_nonce_is_free_for_others(
    bench: Bench,
) -> None:
    bench.chain.broadcast_faults = [TransactionRefused("tx fee exceeds the configured cap")] * 3
    request_id = await bench.computed()
    for _ in range(60):
        with contextlib.suppress(TransactionRefused):
            await bench.settler.step()
        bench.clock.time += 1
    assert await bench.status(request_id) is S.FULFILLED
    assert bench.chain.nonce == 1


async def test_given_a_new_operator_key_when_started_on_the_old_database_then_its_nonces_are_its_own(
    bench: Bench,
) -> None:
    bench.chain.nonce = 500
    bench.chain.mining = False
    request_id = await bench.computed()
    await bench.steps(1)
    (old,) = await bench.store.open_reports()
    bench.chain.foreign = {old.report.transaction_hash}
    bench.chain.nonce, bench.chain.mining = 0, True
    bench.chain.pending.clear()
    await bench.steps(3)
    assert await bench.status(request_id) is S.FULFILLED
    assert bench.chain.nonce == 1


async def test_given_a_gap_and_nothing_that_fills_a_report_when_time_passes_then_the_gap_is_filled_all_the_same(
    bench: Bench,
) -> None:
    bench.chain.nonce = 6
    bench.chain.mining = False
    request_id = await bench.computed(deadline=86_400)
    await bench.steps(2)
    bench.chain.nonce, bench.chain.mining, bench.chain.outbid = 5, True, True
    await bench.steps(6, seconds=31, blocks=1)
    assert await bench.status(request_id) is S.FULFILLED
    assert len({bench.chain.built[key][0].request_id for key in bench.chain.broadcasts}) == 1
    assert len(set(bench.chain.broadcasts)) == 2


async def test_given_an_operator_that_was_removed_when_it_is_allowed_again_then_reports_are_full_as_before(
    bench: Bench,
) -> None:
    ids = [await bench.computed() for _ in range(8)]
    prepare = bench.chain.prepare

    async def refuses(items: object, nonce: int) -> SignedReport:
        raise ReportReverted("NotOperator(0x00)")

    bench.chain.prepare = refuses  # type: ignore[assignment]
    with pytest.raises(ReportReverted):
        await bench.settler.step()
    bench.chain.prepare = prepare  # type: ignore[method-assign]
    await bench.steps(2)
    assert {await bench.status(i) for i in ids} == {S.FULFILLED}
    assert len(bench.chain.receipts) == 1
