"""Answers reach the chain once, whatever becomes of the transactions that carry them."""

from __future__ import annotations

import pipeline_flow as flow
import pytest
from doubles import ScriptedBackend, block

from oracle.domain import BlockRef, LogPosition, OnChainStatus, RequestSettled
from oracle.errors import RpcUnavailable

pytestmark = pytest.mark.unit

NOW, S, Build = flow.NOW, flow.S, flow.Build
build = flow.build


async def sent(oracle: flow.Oracle) -> bytes:
    """A request whose report is sent and not mined."""
    oracle.chain.mining = False
    request_id = await oracle.ask(b"picture")
    await oracle.run()
    return request_id


async def test_given_an_rpc_that_fails_after_the_report_was_saved_when_stepped_again_then_the_same_bytes_are_sent(
    build: Build,
) -> None:
    oracle = build()
    oracle.chain.broadcast_faults = [RpcUnavailable("gone")]
    request_id = await oracle.ask(b"picture")
    with pytest.raises(RpcUnavailable):
        await oracle.run()
    (saved,) = await oracle.store.open_reports()
    assert await oracle.status(request_id) is S.POSTING
    await oracle.run(3)
    assert oracle.chain.broadcasts == [saved.report.transaction_hash]
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_report_that_is_not_mined_when_its_time_is_up_then_it_is_replaced_at_the_same_nonce(
    build: Build,
) -> None:
    oracle = build()
    request_id = await sent(oracle)
    (first,) = await oracle.store.open_reports()
    oracle.clock.time += 61
    oracle.chain.height += 1
    oracle.chain.outbid = True
    await oracle.settler.step()
    reports = await oracle.store.open_reports()
    assert {stored.report.nonce for stored in reports} == {first.report.nonce}
    assert max(stored.report.fees.max_fee for stored in reports) > first.report.fees.max_fee * 1.125
    oracle.chain.mine()
    await oracle.run(3)
    assert await oracle.status(request_id) is S.FULFILLED
    assert await oracle.store.open_reports() == []


async def test_given_a_request_that_would_revert_the_report_when_sent_then_its_neighbours_are_posted_without_it(
    build: Build,
) -> None:
    oracle = build()
    ids = [await oracle.ask(b"picture %d" % n) for n in range(4)]
    oracle.chain.poison = {ids[2]}
    await oracle.run()
    assert [await oracle.status(i) for i in ids] == [S.FULFILLED, S.FULFILLED, S.COMPUTED, S.FULFILLED]


async def test_given_a_stranger_who_settled_first_when_our_report_lands_then_the_store_follows_the_chain(
    build: Build,
) -> None:
    oracle = build()
    request_id = await sent(oracle)
    oracle.chain.final[request_id] = RequestSettled(
        request_id, OnChainStatus.REFUNDED, LogPosition(block(100), b"\2" * 32, 0)
    )
    oracle.chain.mine()
    await oracle.run(3)
    assert await oracle.status(request_id) is S.REFUNDED


async def test_given_an_item_the_coordinator_does_not_know_when_skipped_then_it_is_not_posted_in_a_loop(
    build: Build,
) -> None:
    oracle = build()
    request_id = await sent(oracle)
    oracle.chain.final[request_id] = RequestSettled(
        request_id, OnChainStatus.UNKNOWN, LogPosition(block(100), b"\2" * 32, 0)
    )
    oracle.chain.mining = True
    oracle.chain.mine()
    await oracle.run(10)
    assert await oracle.status(request_id) is S.COMPUTED
    assert len(oracle.chain.broadcasts) == 1
    del oracle.chain.final[request_id]
    oracle.clock.time += 61
    await oracle.run(3)
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_nonce_spent_by_a_foreign_transaction_when_found_out_then_the_answers_are_posted_at_another(
    build: Build,
) -> None:
    oracle = build()
    request_id = await sent(oracle)
    oracle.chain.pending.clear()
    oracle.chain.nonce = 1
    oracle.clock.time += 61
    await oracle.settler.step()
    assert await oracle.store.open_reports() == []
    oracle.chain.mining = True
    await oracle.run(5)
    assert await oracle.status(request_id) is S.FULFILLED
    assert {receipt.block.number for receipt in oracle.chain.receipts.values()} != set()


async def test_given_hungry_callbacks_when_reported_then_no_report_asks_for_more_gas_than_a_transaction_may_use(
    build: Build,
) -> None:
    oracle = build()
    ids = [await oracle.ask(b"picture %d" % n, callback_gas=2_550_000) for n in range(7)]
    await oracle.run()
    assert {await oracle.status(i) for i in ids} == {S.FULFILLED}
    assert sorted(len(receipt.settled) for receipt in oracle.chain.receipts.values()) == [1, 3, 3]


async def test_given_a_deadline_that_passes_when_nothing_was_posted_then_the_request_expires(build: Build) -> None:
    backend = ScriptedBackend()
    backend.gate.clear()
    oracle = build(backend)
    request_id = await oracle.ask(b"picture", deadline=100)
    await oracle.run(5)
    oracle.clock.time += 101
    late = BlockRef(60, b"\6" * 32, int(NOW + 101))
    await oracle.store.commit_scan([], [late], late)
    await oracle.settler.step()
    assert await oracle.status(request_id) is S.EXPIRED
    backend.gate.set()
    await oracle.run(5)
    assert await oracle.status(request_id) is S.EXPIRED
    assert oracle.chain.final == {}
