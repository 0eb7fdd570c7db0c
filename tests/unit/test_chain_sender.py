"""Fees, replacement and refusals of the report sender, without a node."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from oracle.chain import fees as fees_module
from oracle.chain.fees import GWEI, FeeMarket, FeePolicy
from oracle.chain.rpc import Rpc, RpcFault
from oracle.chain.sender import MAX_TRANSACTION_GAS, EthereumReportSender
from oracle.domain import Fees, Fulfilment
from oracle.errors import ReportReverted, RpcUnavailable, TransactionRefused

pytestmark = pytest.mark.unit

OPERATOR = Account.from_key("0x" + "01" * 32)
COORDINATOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
ITEMS = [Fulfilment(bytes([i]) * 32) for i in range(3)]


class TableRpc(Rpc):
    """Answers by method; an exception is raised, a callable is called with the parameters."""

    def __init__(self, **answers: object) -> None:
        super().__init__("http://node.example")
        self.answers: dict[str, object] = {
            "eth_feeHistory": history(GWEI, GWEI // 10),
            "eth_estimateGas": hex(100_000),
            **answers,
        }
        self.asked: list[str] = []

    async def call(self, method: str, params: object = (), *, retry: bool = True) -> object:
        self.asked.append(method)
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer(params) if callable(answer) else answer


def history(base: int, tip: int) -> dict[str, object]:
    return {"baseFeePerGas": [hex(base), hex(base)], "reward": [[hex(tip)]]}


def fault(message: str, code: int = -32000, data: object = None) -> RpcFault:
    return RpcFault("node.example", "eth_sendRawTransaction", code, message, data)


def sender(rpc: TableRpc, policy: FeePolicy | None = None) -> EthereumReportSender:
    return EthereumReportSender(rpc, OPERATOR, COORDINATOR, 31337, policy)


async def test_a_report_takes_one_estimate_and_fees_that_are_asked_once_a_second() -> None:
    rpc = TableRpc()
    reports = sender(rpc)
    for nonce in range(5):
        await reports.prepare(ITEMS, nonce)
    assert rpc.asked.count("eth_estimateGas") == 5
    assert rpc.asked.count("eth_feeHistory") == 1
    assert len(rpc.asked) == 6


async def test_what_is_signed_is_what_was_asked() -> None:
    report = await sender(TableRpc()).prepare(ITEMS, 9)
    assert Account.recover_transaction(report.raw) == OPERATOR.address
    assert report.nonce == 9
    assert report.request_ids == tuple(item.request_id for item in ITEMS)
    assert report.fees == Fees(3 * GWEI, GWEI)


async def test_the_gas_limit_leaves_each_callback_its_due() -> None:
    items = [Fulfilment(bytes(32), callback_gas=630_000), Fulfilment(bytes(32))]
    report = await sender(TableRpc()).prepare(items, 0)
    assert report.gas_limit == 120_000 + 35_000 + 640_000 + 40_000


async def test_the_gas_limit_stays_below_what_a_transaction_may_have() -> None:
    items = [Fulfilment(bytes(32), callback_gas=2_550_000)] * 16
    report = await sender(TableRpc()).prepare(items, 0)
    assert report.gas_limit == MAX_TRANSACTION_GAS
    with pytest.raises(ReportReverted, match="more than a transaction may have") as caught:
        await sender(TableRpc(eth_estimateGas=hex(MAX_TRANSACTION_GAS + 1))).prepare(items, 0)
    assert "fewer items" in caught.value.remedy


async def test_a_simulation_that_reverts_is_told_by_its_error() -> None:
    data = "0x7d20bcb6"
    with pytest.raises(ReportReverted, match="unknown error 0x7d20bcb6"):
        await sender(TableRpc(eth_estimateGas=fault("execution reverted", 3, data))).prepare(ITEMS, 0)


async def test_a_node_that_fails_the_estimate_is_no_revert() -> None:
    with pytest.raises(RpcUnavailable):
        await sender(TableRpc(eth_estimateGas=fault("header not found"))).prepare(ITEMS, 0)


@pytest.mark.parametrize("message", ["already known", "ALREADY_EXISTS: already known", "transaction already imported"])
async def test_a_node_that_knows_the_report_is_no_error(message: str) -> None:
    reports = sender(TableRpc(eth_sendRawTransaction=fault(message)))
    await reports.broadcast(await reports.prepare(ITEMS, 0))


async def test_a_nonce_too_low_is_fine_when_it_is_our_own_report() -> None:
    rpc = TableRpc(eth_sendRawTransaction=fault("nonce too low"), eth_getTransactionReceipt={"blockNumber": "0x1"})
    reports = sender(rpc)
    await reports.broadcast(await reports.prepare(ITEMS, 0))

    rpc.answers["eth_getTransactionReceipt"] = None
    with pytest.raises(TransactionRefused, match="was used by another"):
        await reports.broadcast(await reports.prepare(ITEMS, 0))


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("insufficient funds for gas * price + value", "send ether to"),
        ("replacement transaction underpriced", "higher"),
        ("exceeds block gas limit", ""),
    ],
)
async def test_a_refusal_says_what_to_do(message: str, remedy: str) -> None:
    reports = sender(TableRpc(eth_sendRawTransaction=fault(message)))
    with pytest.raises(TransactionRefused) as caught:
        await reports.broadcast(await reports.prepare(ITEMS, 0))
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("message", ["txpool is full", "rate limit exceeded"])
async def test_trouble_of_the_node_can_be_tried_again(message: str) -> None:
    reports = sender(TableRpc(eth_sendRawTransaction=fault(message)))
    with pytest.raises(RpcUnavailable):
        await reports.broadcast(await reports.prepare(ITEMS, 0))


async def test_a_node_that_answers_with_another_hash_is_not_trusted() -> None:
    reports = sender(TableRpc(eth_sendRawTransaction="0x" + "00" * 32))
    with pytest.raises(RpcUnavailable, match="another hash"):
        await reports.broadcast(await reports.prepare(ITEMS, 0))


async def test_a_replacement_keeps_nonce_and_items_and_raises_both_fees() -> None:
    reports = sender(TableRpc())
    report = await reports.prepare(ITEMS, 4)
    replacement = await reports.replace(report, ITEMS)
    assert (replacement.nonce, replacement.request_ids) == (4, report.request_ids)
    assert replacement.transaction_hash != report.transaction_hash
    assert replacement.fees.max_fee * 8 >= report.fees.max_fee * 9
    assert replacement.fees.max_priority_fee * 8 >= report.fees.max_priority_fee * 9
    with pytest.raises(ValueError, match="items of the report"):
        await reports.replace(report, ITEMS[:1])


async def test_a_replacement_rises_to_the_market() -> None:
    rpc = TableRpc()
    reports = sender(rpc)
    report = await reports.prepare(ITEMS, 0)
    market = FeeMarket(TableRpc(eth_feeHistory=history(50 * GWEI, 3 * GWEI)), FeePolicy())
    assert await market.raised(report.fees) == Fees(103 * GWEI, 3 * GWEI)


async def test_a_replacement_above_the_cap_is_refused_with_a_remedy() -> None:
    market = FeeMarket(TableRpc(), FeePolicy(max_fee_cap=2 * GWEI))
    with pytest.raises(TransactionRefused) as caught:
        await market.raised(Fees(2 * GWEI, GWEI))
    assert "cap" in caught.value.remedy


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**11), st.integers(0, 10**10))
async def test_every_replacement_satisfies_the_strictest_node(max_fee: int, tip: int, base: int, reward: int) -> None:
    tip = min(tip, max_fee)
    market = FeeMarket(TableRpc(eth_feeHistory=history(base, reward)), FeePolicy(max_fee_cap=10**13))
    raised = await market.raised(Fees(max_fee, tip))
    assert raised.max_fee * 1000 >= max_fee * 1125
    assert raised.max_priority_fee * 1000 >= tip * 1125
    assert raised.max_priority_fee > tip
    assert raised.max_priority_fee <= raised.max_fee <= 10**13


async def test_fees_never_exceed_the_cap() -> None:
    rpc = TableRpc(eth_feeHistory=history(900 * GWEI, 900 * GWEI))
    fees = await FeeMarket(rpc, FeePolicy(max_fee_cap=100 * GWEI)).fees()
    assert fees == Fees(100 * GWEI, 100 * GWEI)


@pytest.mark.parametrize("answer", [None, {}, {"baseFeePerGas": []}, {"baseFeePerGas": ["x"]}, {"baseFeePerGas": 3}])
async def test_a_fee_history_that_cannot_be_read_is_the_nodes_fault(answer: object) -> None:
    with pytest.raises(RpcUnavailable, match="fee history"):
        await FeeMarket(TableRpc(eth_feeHistory=answer), FeePolicy()).fees()


async def test_fees_are_asked_again_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    monkeypatch.setattr(fees_module.time, "monotonic", clock)
    rpc = TableRpc()
    market = FeeMarket(rpc, FeePolicy())
    await market.fees()
    now[0] += 0.5
    await market.fees()
    now[0] += 0.6
    await market.fees()
    assert rpc.asked.count("eth_feeHistory") == 2
