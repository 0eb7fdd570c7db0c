"""Requests paid in tokens are weighed by the operator's price, and none is begun while it can be taken back."""

from __future__ import annotations

from fractions import Fraction

import pipeline_flow as flow
import pytest
from doubles import CREATED, block, seen

from oracle.domain import LogPosition, OnChainStatus, RequestSettled

pytestmark = pytest.mark.unit

TOKEN = "0x" + "70" * 20
OTHER = "0x" + "71" * 20
S, Build = flow.S, flow.Build
build = flow.build


async def test_given_a_token_without_a_price_when_asked_then_nothing_is_fetched_and_it_is_left_to_its_refund(
    build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    oracle = build(prices={OTHER: Fraction(1)})
    oracle.chain.tokens[1] = TOKEN
    ids = [await oracle.ask(b"picture %d" % n) for n in range(3)]
    await oracle.run(10)
    assert {await oracle.status(i) for i in ids} == {S.CONFIRMED}
    assert oracle.content.fetched == []
    assert len([line for line in caplog.messages if TOKEN in line]) == 1
    row = await oracle.store.get(ids[0])
    assert row is not None
    assert "no price" in row.detail

    oracle.clock.time += 700
    await oracle.store.expire(oracle.clock.time)
    await oracle.run(3)
    assert {await oracle.status(i) for i in ids} == {S.EXPIRED}


@pytest.mark.parametrize(("price", "status"), [(Fraction(3, 50), S.FULFILLED), (Fraction(1, 50), S.COMPUTED)])
async def test_given_a_token_with_a_price_when_posting_then_its_worth_is_what_counts_beside_the_gas(
    build: Build, price: Fraction, status: flow.RequestStatus
) -> None:
    # An item costs 60,000 gas at 1 gwei, and may cost a thousand times what was paid: 6 * 10**10 wei are enough.
    oracle = build(prices={TOKEN: price})
    oracle.chain.tokens[1] = TOKEN
    request_id = await oracle.ask(b"picture", payment=10**12)
    await oracle.run(10)
    assert await oracle.status(request_id) is status


async def test_given_a_payment_in_ether_when_posting_then_no_price_is_needed(build: Build) -> None:
    oracle = build()
    request_id = await oracle.ask(b"picture", payment=6 * 10**10)
    await oracle.run(10)
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_cancel_window_when_a_request_is_seen_then_nothing_begins_before_it_is_over(build: Build) -> None:
    oracle = build(hold=60.0)
    oracle.clock.time = CREATED + 59.0
    request_id = await oracle.ask(b"picture")
    await oracle.run(5)
    assert await oracle.status(request_id) is S.CONFIRMED
    assert oracle.content.fetched == []
    oracle.clock.time = CREATED + 60.0
    await oracle.run(5)
    assert await oracle.status(request_id) is S.FULFILLED


async def test_given_a_request_that_was_cancelled_when_its_window_is_over_then_it_is_never_begun(build: Build) -> None:
    oracle = build(hold=60.0)
    oracle.clock.time = CREATED + 1.0
    request_id = await oracle.ask(b"picture")
    cancel = RequestSettled(request_id, OnChainStatus.CANCELLED, LogPosition(block(51), b"\2" * 32, 0))
    await oracle.store.commit_scan([cancel], [block(51)], block(51))
    oracle.clock.time = CREATED + 120.0
    await oracle.run(5)
    assert await oracle.status(request_id) is S.CANCELLED
    assert oracle.content.fetched == []


async def test_given_a_request_that_a_reorg_mined_again_when_seen_then_its_window_counts_as_before(
    build: Build,
) -> None:
    oracle = build(hold=60.0)
    oracle.clock.time = CREATED + 1.0
    request_id = await oracle.ask(b"picture")
    row = await oracle.store.get(request_id)
    assert row is not None
    await oracle.store.roll_back(block(49))
    await oracle.store.commit_scan([seen(row.request, block(51))], [block(51)], block(51))
    again = await oracle.store.get(request_id)
    assert again is not None
    assert again.not_before == CREATED + 60.0
