"""Scanner, sender and checks on a real development chain, some of it behind an endpoint that misbehaves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from eth_account import Account

from oracle.chain.account import AccountSender, Ask, Asked, digit_reading, digit_result_cid
from oracle.chain.calls import CallReverted
from oracle.chain.checks import verify_deployment, verify_operator
from oracle.chain.codec import encode_call
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.rpc import Rpc
from oracle.chain.scanner import Scanner
from oracle.chain.sender import EthereumReportSender
from oracle.devnet.chain import Anvil
from oracle.devnet.rpc_faults import FaultyRpc, Log
from oracle.domain import (
    Cid,
    FailureReason,
    Fulfilment,
    OnChainStatus,
    ReportReceipt,
    RequestSeen,
    RequestSettled,
    RequestStatus,
    SignedReport,
)
from oracle.errors import (
    ChainError,
    ConfigurationError,
    ReportReverted,
    RpcUnavailable,
    TransactionRefused,
    WrongChain,
)
from oracle.store import SqliteRequestStore

pytestmark = pytest.mark.integration

PRICE = 10**15
WINDOW = 300  # seconds in which a request can be cancelled
DIGIT_SEVEN = bytes((1, 1, 1, 0, 0, 7, 0x27, 0x10)) + bytes(24)


def cid(text: str) -> Cid:
    return Cid(b"\x01\x55\x12\x20" + hashlib.sha256(text.encode()).digest())


@dataclass
class World:
    """One chain with a coordinator and a model; ``faulty`` stands between it and those who use ``rpc``."""

    anvil: Anvil
    faulty: FaultyRpc
    rpc: Rpc
    coordinator: str
    model: int
    user: AccountSender
    start: int

    @property
    def reader(self) -> CoordinatorReader:
        return CoordinatorReader(self.rpc, self.coordinator, self.anvil.chain_id)

    @property
    def operator(self) -> EthereumReportSender:
        return EthereumReportSender(self.rpc, self.anvil.accounts[1], self.coordinator, self.anvil.chain_id)

    async def ask(self, *names: str, callback_gas: int = 0, lifetime: int = 3600) -> list[Asked]:
        deadline = (await self.reader.head()).timestamp + lifetime
        asks = [Ask(self.model, cid(name), deadline, callback_gas) for name in names]
        return await self.user.request_inferences(self.coordinator, asks)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with Anvil() as anvil, FaultyRpc(anvil.url) as faulty:
        direct, rpc = Rpc(anvil.url), Rpc(faulty.url, timeout=2.0)
        user = AccountSender(direct, anvil.accounts[0], anvil.chain_id, receipt_timeout=10.0)
        deployed = await user.deploy_coordinator(operators=[anvil.accounts[1].address], cancel_window=WINDOW)
        model = await user.publish_model(deployed.address, cid("manifest"), PRICE)
        yield World(anvil, faulty, rpc, deployed.address, model, user, deployed.block_number)
        await rpc.close()
        await direct.close()


@pytest.fixture
async def store() -> AsyncIterator[SqliteRequestStore]:
    opened = SqliteRequestStore(":memory:")
    yield opened
    await opened.close()


def answer(asked: Asked, callback_gas: int = 0) -> Fulfilment:
    return Fulfilment(asked.request_id, result_cid=cid("result"), answer=DIGIT_SEVEN, callback_gas=callback_gas)


async def catch_up(scanner: Scanner) -> None:
    while await scanner.step():
        pass


async def status_of(store: SqliteRequestStore, asked: Asked) -> RequestStatus | None:
    row = await store.get(asked.request_id)
    return None if row is None else row.status


async def receipt_of(operator: EthereumReportSender, report: SignedReport) -> ReportReceipt:
    for _ in range(200):
        receipt = await operator.receipt(report.transaction_hash)
        if receipt is not None:
            return receipt
        await asyncio.sleep(0.02)
    raise AssertionError("no receipt within 4 s")


async def post(operator: EthereumReportSender, items: list[Fulfilment]) -> ReportReceipt:
    report = await operator.prepare(items, await operator.next_nonce())
    await operator.broadcast(report)
    return await receipt_of(operator, report)


# ---------------------------------------------------------------------------------------------------------------
# Scanner
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 3, 12])
async def test_a_real_reorg_orphans_what_vanished_and_nothing_else(
    world: World, store: SqliteRequestStore, depth: int
) -> None:
    scanner = Scanner(world.reader, store, confirmations=1, start_block=world.start)
    (kept,) = await world.ask("kept")
    await world.anvil.mine(2)
    (vanishes,) = await world.ask("vanishes")
    await world.anvil.mine(depth - 1)
    await catch_up(scanner)
    assert (await store.counts())[RequestStatus.CONFIRMED] == 2

    await world.anvil.reorg(depth)
    await catch_up(scanner)
    assert await status_of(store, kept) is RequestStatus.CONFIRMED
    assert await status_of(store, vanishes) is RequestStatus.ORPHANED
    assert await store.checkpoint() == await world.reader.head()

    (again,) = await world.ask("asked again")
    await catch_up(scanner)
    assert await status_of(store, again) is RequestStatus.CONFIRMED


async def test_a_transaction_mined_again_after_a_reorg_is_seen_in_its_new_block(
    world: World, store: SqliteRequestStore
) -> None:
    scanner = Scanner(world.reader, store, confirmations=1, start_block=world.start)
    (asked,) = await world.ask("moves")
    raw = await world.anvil.call("eth_getRawTransactionByHash", "0x" + asked.transaction_hash.hex())
    await world.anvil.mine(2)
    await catch_up(scanner)
    await world.anvil.reorg(3, [(bytes.fromhex(raw[2:]), 1)])
    await world.anvil.mine()
    await catch_up(scanner)
    row = await store.get(asked.request_id)
    assert row is not None
    assert (row.status, row.block) == (RequestStatus.CONFIRMED, asked.block_number + 1)
    statuses = [status for status, _, _ in await store.timeline(asked.request_id)]
    assert RequestStatus.ORPHANED in statuses


async def test_settlements_by_anyone_are_seen(world: World, store: SqliteRequestStore) -> None:
    scanner = Scanner(world.reader, store, confirmations=1, start_block=world.start)
    answered, failed, late = await world.ask("answered", "failed", "late", lifetime=60)
    await catch_up(scanner)
    await post(
        world.operator, [answer(answered), Fulfilment(failed.request_id, failure=FailureReason.IMAGE_UNREADABLE)]
    )
    await world.anvil.increase_time(120)
    await world.user.refund(world.coordinator, late.request_id)
    await catch_up(scanner)
    for asked, status in (
        (answered, RequestStatus.FULFILLED),
        (failed, RequestStatus.REJECTED),
        (late, RequestStatus.REFUNDED),
    ):
        assert await status_of(store, asked) is status


async def test_ranges_halve_behind_an_endpoint_with_a_limit(world: World, store: SqliteRequestStore) -> None:
    await world.ask("first")
    await world.anvil.mine(60)
    await world.ask("last")
    world.faulty.faults.max_log_range = 9
    await catch_up(Scanner(world.reader, store, confirmations=1, start_block=0, span=1000))
    assert len(await store.select([RequestStatus.CONFIRMED])) == 2
    assert world.faulty.calls["eth_getLogs"] < 30


async def test_a_lie_about_a_log_changes_nothing(world: World, store: SqliteRequestStore) -> None:
    scanner = Scanner(world.reader, store, confirmations=1, start_block=world.start)
    await world.ask("picture")

    def another_picture(log: Log) -> Log:
        data = bytearray.fromhex(log["data"][2:])
        data[-29] ^= 1  # the last byte of the CID, before the padding
        return {**log, "data": "0x" + data.hex()}

    world.faulty.faults.alter_log = another_picture
    with pytest.raises(RpcUnavailable, match="does not commit to what the log says"):
        await scanner.step()
    assert await store.checkpoint() is None

    world.faulty.faults.alter_log = None
    await catch_up(scanner)
    assert (await store.counts())[RequestStatus.CONFIRMED] == 1


async def test_one_failure_of_the_endpoint_is_ridden_out_and_two_are_told(world: World) -> None:
    world.faulty.faults.http_status["eth_getBlockByNumber"] = [429]
    await world.reader.head()
    world.faulty.faults.http_status["eth_getBlockByNumber"] = [500, 503]
    with pytest.raises(RpcUnavailable, match="HTTP 503"):
        await world.reader.head()


async def test_silence_ends_in_a_timeout(world: World) -> None:
    impatient = Rpc(world.faulty.url, timeout=0.2)
    world.faulty.faults.silent["eth_chainId"] = 2
    with pytest.raises(RpcUnavailable, match=r"did not answer eth_chainId within 0\.2 s"):
        await impatient.call("eth_chainId")
    await impatient.close()


async def test_an_endpoint_without_batches_serves_as_well(world: World) -> None:
    world.faulty.faults.refuse_batches = True
    await world.ask("one", "two", "three")
    assert len(await world.reader.events(0, (await world.reader.head()).number)) == 3


async def test_an_endpoint_that_is_not_there_says_so() -> None:
    nowhere = Rpc("http://127.0.0.1:1/secret-key", timeout=1.0)
    with pytest.raises(RpcUnavailable, match=r"127\.0\.0\.1:1 cannot be reached") as caught:
        await nowhere.call("eth_chainId")
    assert "secret" not in str(caught.value)
    assert caught.value.remedy
    await nowhere.close()


# ---------------------------------------------------------------------------------------------------------------
# Sender
# ---------------------------------------------------------------------------------------------------------------


async def test_a_report_settles_skips_and_fails_item_by_item(world: World) -> None:
    first, second, third = await world.ask("first", "second", "third")
    await post(world.operator, [answer(first)])
    receipt = await post(
        world.operator,
        [answer(first), answer(second), Fulfilment(third.request_id, failure=FailureReason.IMAGE_UNAVAILABLE)],
    )
    assert receipt.succeeded
    assert receipt.skipped == {first.request_id: OnChainStatus.FULFILLED}
    assert [(item.request_id, item.status, item.reason) for item in receipt.settled] == [
        (second.request_id, OnChainStatus.FULFILLED, FailureReason.NONE),
        (third.request_id, OnChainStatus.FAILED, FailureReason.IMAGE_UNAVAILABLE),
    ]
    assert receipt.block == await world.reader.block(receipt.block.number)
    assert receipt.gas_used * receipt.effective_gas_price > 0
    assert await world.reader.verify_result(second.request_id, cid("result"), DIGIT_SEVEN)
    assert not await world.reader.verify_result(second.request_id, cid("other"), DIGIT_SEVEN)


async def test_the_example_consumer_is_called_back_with_its_gas(world: World) -> None:
    contract = (await world.user.deploy_digit_reader(world.coordinator, world.model)).address
    deadline = (await world.reader.head()).timestamp + 600
    asked = await world.user.ask_digit_reader(contract, world.coordinator, cid("seven"), deadline)
    known = await world.reader.request_of(asked.request_id)
    assert (known.status, known.requester, known.callback_gas) == (OnChainStatus.PENDING, contract, 200_000)
    assert await digit_reading(world.rpc, contract, asked.request_id) is None
    assert await digit_result_cid(world.rpc, contract, asked.request_id) is None

    receipt = await post(world.operator, [answer(asked, known.callback_gas)])
    assert not receipt.callback_failed
    reading = await digit_reading(world.rpc, contract, asked.request_id)
    assert reading is not None
    assert (reading.digit, reading.confidence_bps) == (7, 10_000)
    assert await digit_result_cid(world.rpc, contract, asked.request_id) == cid("result")


async def test_a_callback_that_reverts_is_reported_and_paid(world: World) -> None:
    contract = (await world.user.deploy_digit_reader(world.coordinator, world.model)).address
    deadline = (await world.reader.head()).timestamp + 600
    asked = await world.user.ask_digit_reader(contract, world.coordinator, cid("seven"), deadline)
    no_digit = Fulfilment(asked.request_id, result_cid=cid("r"), answer=b"\0" * 32, callback_gas=200_000)
    receipt = await post(world.operator, [no_digit])
    assert receipt.callback_failed == {asked.request_id}
    assert await world.reader.balance_of(None, world.operator.address) > 0


async def test_a_receipt_that_comes_late_is_none_until_it_comes(world: World) -> None:
    (asked,) = await world.ask("late")
    world.faulty.faults.late_receipts = 3
    operator = world.operator
    report = await operator.prepare([answer(asked)], await operator.next_nonce())
    await operator.broadcast(report)
    for _ in range(3):
        assert await operator.receipt(report.transaction_hash) is None
    assert (await receipt_of(operator, report)).succeeded


async def test_sending_the_same_report_again_is_no_error_mined_or_not(world: World) -> None:
    (asked,) = await world.ask("twice")
    operator = world.operator
    await world.anvil.set_automine(False)
    report = await operator.prepare([answer(asked)], await operator.next_nonce())
    await operator.broadcast(report)
    await operator.broadcast(report)
    await world.anvil.mine()
    await operator.broadcast(report)
    assert (await receipt_of(operator, report)).succeeded


async def test_a_stuck_report_is_replaced_at_its_nonce_with_fees_a_real_node_takes(world: World) -> None:
    (asked,) = await world.ask("stuck")
    world.faulty.faults.replacement_percent = 10
    operator = world.operator
    await world.anvil.set_automine(False)
    stuck = await operator.prepare([answer(asked)], await operator.next_nonce())
    await operator.broadcast(stuck)
    replacement = await operator.replace(stuck, [answer(asked)])
    await operator.broadcast(replacement)
    await world.anvil.mine()
    assert (await receipt_of(operator, replacement)).settled[0].request_id == asked.request_id
    assert await operator.receipt(stuck.transaction_hash) is None
    with pytest.raises(TransactionRefused, match="used by another transaction"):
        await operator.broadcast(stuck)


async def test_a_replacement_that_pays_too_little_is_refused_by_the_double(world: World) -> None:
    """The double plays the rule that anvil lacks; without this the test above would prove nothing."""
    (asked,) = await world.ask("cheap")
    world.faulty.faults.replacement_percent = 10
    await world.anvil.set_automine(False)
    operator = world.operator
    await operator.broadcast(await operator.prepare([answer(asked)], 0))
    again = await operator.prepare([answer(asked, callback_gas=10_000)], 0)
    with pytest.raises(TransactionRefused, match="underpriced") as caught:
        await operator.broadcast(again)
    assert "higher" in caught.value.remedy


async def test_a_report_of_a_stranger_reverts_before_it_costs_anything(world: World) -> None:
    (asked,) = await world.ask("picture")
    stranger = EthereumReportSender(world.rpc, world.anvil.accounts[5], world.coordinator, world.anvil.chain_id)
    with pytest.raises(ReportReverted, match=rf"NotOperator\(account={stranger.address}\)") as caught:
        await stranger.prepare([answer(asked)], 0)
    assert "proposeOperators" in caught.value.remedy


async def test_an_operator_without_funds_is_told_which_account_to_fund(world: World) -> None:
    poor = Account.from_key("0x" + "77" * 32)
    coordinator = (await world.user.deploy_coordinator(operators=[poor.address])).address
    with pytest.raises(ConfigurationError, match="less than the") as unfunded:
        await verify_operator(world.rpc, coordinator, poor.address)
    assert poor.address in unfunded.value.remedy

    model = await world.user.publish_model(coordinator, cid("manifest"), PRICE)
    until = (await world.reader.head()).timestamp + 600
    asked = await world.user.request_inference(coordinator, Ask(model, cid("picture"), until))
    operator = EthereumReportSender(world.rpc, poor, coordinator, world.anvil.chain_id)
    report = await operator.prepare([answer(asked)], 0)
    with pytest.raises(TransactionRefused, match="not enough ether") as caught:
        await operator.broadcast(report)
    assert poor.address in caught.value.remedy


async def test_sixteen_answers_go_out_in_two_round_trips(world: World) -> None:
    asked = await world.ask(*(f"digit {i}" for i in range(16)))
    operator = world.operator
    await operator.prepare([answer(asked[0])], 0)  # fills the cache of fees
    world.faulty.round_trips = 0
    report = await operator.prepare([answer(one) for one in asked], 0)
    await operator.broadcast(report)
    assert world.faulty.round_trips == 2
    receipt = await receipt_of(operator, report)
    assert len(receipt.settled) == 16


# ---------------------------------------------------------------------------------------------------------------
# Checks and the user's side
# ---------------------------------------------------------------------------------------------------------------


async def test_a_good_deployment_passes_and_tells_its_chain(world: World) -> None:
    assert await verify_deployment(world.rpc, world.coordinator) == 31337
    assert await verify_deployment(world.rpc, world.coordinator, 31337) == 31337
    await verify_operator(world.rpc, world.coordinator, world.operator.address)


async def test_a_wrong_deployment_is_told_apart_with_a_remedy(world: World) -> None:
    reader = (await world.user.deploy_digit_reader(world.coordinator, world.model)).address
    for words, address, chain_id in (
        ("serves chain 31337, not 1", world.coordinator, 1),
        ("no contract at", "0x" + "12" * 20, 31337),
        ("is not an InferenceCoordinator", reader, 31337),
    ):
        with pytest.raises(WrongChain, match=words) as caught:
            await verify_deployment(world.rpc, address, chain_id)
        assert caught.value.remedy
    with pytest.raises(ConfigurationError, match="is not an operator") as stranger:
        await verify_operator(world.rpc, world.coordinator, world.anvil.accounts[7].address)
    assert "proposeOperators" in stranger.value.remedy


async def test_given_a_quorum_above_one_when_the_operator_is_checked_then_it_is_told_that_it_cannot_report_alone(
    world: World,
) -> None:
    members = [world.anvil.accounts[1].address, world.anvil.accounts[2].address]
    coordinator = (await world.user.deploy_coordinator(operators=members, quorum=2)).address
    with pytest.raises(ConfigurationError, match=r"2 operators of the coordinator .* must sign each report") as caught:
        await verify_operator(world.rpc, coordinator, members[0])
    assert "alone" in caught.value.remedy


async def test_models_quotes_balances_and_earnings_are_read(world: World) -> None:
    second = await world.user.publish_model(world.coordinator, cid("second"), 2 * PRICE)
    models = await world.reader.models()
    assert [(model.model_id, model.price, model.active) for model in models] == [(1, PRICE, True), (2, 2 * PRICE, True)]
    assert await world.reader.model(second) == models[1]
    assert await world.reader.model(99) is None
    assert await world.reader.quote(second) == 2 * PRICE
    (asked,) = await world.ask("paid")
    await post(world.operator, [answer(asked)])
    earned = await world.reader.earnings_of(world.model)
    left = await world.reader.balance_of(None, world.operator.address)
    assert earned > 0
    assert earned + left == PRICE
    assert await world.user.withdraw_earnings(world.coordinator, world.model) == earned
    assert await world.reader.earnings_of(world.model) == 0
    operator = AccountSender(world.rpc, world.anvil.accounts[1], world.anvil.chain_id)
    assert await operator.withdraw(world.coordinator) == left
    assert await world.reader.balance_of(None, world.operator.address) == 0


async def test_given_a_stranger_when_it_publishes_then_it_pays_the_fee_and_the_owner_has_it(world: World) -> None:
    stranger = AccountSender(world.rpc, world.anvil.accounts[4], world.anvil.chain_id)
    payout = world.anvil.accounts[5].address
    number = await stranger.publish_model(world.coordinator, cid("theirs"), PRICE, payout)
    model = await world.reader.model(number)
    assert model is not None
    assert (model.payout, model.token) == (payout, None)
    assert await world.reader.balance_of(None, world.user.address) == 10**16


async def test_given_a_deposit_when_pictures_are_asked_from_it_then_one_transaction_asks_all(world: World) -> None:
    await world.user.deposit(world.coordinator, 5 * PRICE)
    until = (await world.reader.head()).timestamp + 600
    images = [cid(f"picture {i}") for i in range(3)]
    asked = await world.user.request_many(world.coordinator, world.model, images, until, from_balance=True)
    assert len({one.request_id for one in asked}) == 3
    assert len({one.transaction_hash for one in asked}) == 1
    assert await world.reader.balance_of(None, world.user.address) == 2 * PRICE
    with pytest.raises(CallReverted, match="BalanceTooLow") as low:
        await world.user.request_many(world.coordinator, world.model, images, until, from_balance=True)
    assert "sibyl deposit" in low.value.remedy

    paid = await world.user.request_many(world.coordinator, world.model, images, until)
    seen = [event.request for event in await world.reader.events(paid[0].block_number, paid[0].block_number)]  # type: ignore[union-attr]
    assert [request.image_cid for request in seen] == images
    assert [one.payment for one in paid] == [PRICE] * 3
    assert await world.user.withdraw(world.coordinator) == 2 * PRICE


async def test_given_a_request_within_its_window_when_cancelled_then_its_money_is_back_and_the_scanner_ends_it(
    world: World, store: SqliteRequestStore
) -> None:
    assert await world.reader.cancel_window() == WINDOW
    scanner = Scanner(world.reader, store, confirmations=1, start_block=world.start)
    first, second = await world.ask("first", "second")
    await catch_up(scanner)
    row = await store.get(first.request_id)
    assert row is not None
    before = int(await world.anvil.call("eth_getBalance", world.user.address, "latest"), 16)
    mined = await world.user.cancel(world.coordinator, row.request)
    after = int(await world.anvil.call("eth_getBalance", world.user.address, "latest"), 16)
    assert after - before == PRICE - mined.gas_used * mined.effective_gas_price
    await catch_up(scanner)
    assert await status_of(store, first) is RequestStatus.CANCELLED
    assert (await post(world.operator, [answer(first)])).skipped == {first.request_id: OnChainStatus.CANCELLED}

    late = await store.get(second.request_id)
    assert late is not None
    await world.anvil.increase_time(WINDOW + 1)
    await world.anvil.mine()
    with pytest.raises(CallReverted, match="NotCancellable") as over:
        await world.user.cancel(world.coordinator, late.request)
    assert "sibyl refund" in over.value.remedy
    assert await status_of(store, second) is RequestStatus.CONFIRMED


async def test_given_a_reorg_that_takes_a_cancel_away_when_scanned_then_the_request_is_open_again(
    world: World, store: SqliteRequestStore
) -> None:
    scanner = Scanner(world.reader, store, confirmations=1, start_block=world.start)
    (asked,) = await world.ask("picture")
    await catch_up(scanner)
    row = await store.get(asked.request_id)
    assert row is not None
    await world.user.cancel(world.coordinator, row.request)
    await catch_up(scanner)
    assert await status_of(store, asked) is RequestStatus.CANCELLED
    await world.anvil.reorg(1)
    await catch_up(scanner)
    assert await status_of(store, asked) is RequestStatus.CONFIRMED


async def test_a_user_is_told_what_is_wrong_and_what_to_do(world: World) -> None:
    head = await world.reader.head()
    with pytest.raises(CallReverted, match=r"UnknownModel\(modelId=9\)") as unknown:
        await world.user.request_inference(world.coordinator, Ask(9, cid("x"), head.timestamp + 600))
    assert "sibyl models" in unknown.value.remedy
    with pytest.raises(CallReverted, match="DeadlineOutOfRange") as late:
        await world.user.request_inference(world.coordinator, Ask(world.model, cid("x"), head.timestamp - 1))
    assert "clock" in late.value.remedy
    data = encode_call("request", world.model, cid("x").value, 0, head.timestamp + 600)
    with pytest.raises(CallReverted, match="PaymentTooLow") as low:
        await world.user.transact(world.coordinator, data, value=1)
    assert "quote" in low.value.remedy
    poor = AccountSender(world.rpc, Account.from_key("0x" + "78" * 32), world.anvil.chain_id)
    with pytest.raises(ChainError, match="not enough ether") as broke:
        await poor.request_inference(world.coordinator, Ask(world.model, cid("x"), head.timestamp + 600))
    assert poor.address in broke.value.remedy


async def test_a_transaction_that_is_not_mined_ends_in_a_clear_error(world: World) -> None:
    hasty = AccountSender(world.rpc, world.anvil.accounts[3], world.anvil.chain_id, receipt_timeout=0.3)
    await world.anvil.set_automine(False)
    with pytest.raises(ChainError, match=r"not mined within 0\.3 s") as caught:
        await hasty.transact(world.user.address, b"", value=1)
    assert "may still be mined" in caught.value.remedy


async def test_the_events_of_one_request_can_be_asked_for_alone(world: World) -> None:
    first, second = await world.ask("first", "second")
    await post(world.operator, [answer(first), answer(second)])
    head = await world.reader.head()
    seen, settled = await world.reader.events(0, head.number, request_id=second.request_id)
    assert isinstance(seen, RequestSeen)
    assert isinstance(settled, RequestSettled)
    assert seen.request.request_id == settled.request_id == second.request_id


async def test_many_requests_of_one_account_are_each_their_own(world: World) -> None:
    asked = await world.ask(*(f"picture {i}" for i in range(100)))
    assert len({one.request_id for one in asked}) == 100
    events = await world.reader.events(0, (await world.reader.head()).number)
    assert [event.request.image_cid for event in events if isinstance(event, RequestSeen)] == [
        cid(f"picture {i}") for i in range(100)
    ]
