"""What a sender of many transactions tells when some of them went out and one did not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from oracle.chain.account import AccountSender, Ask, TooDear
from oracle.chain.codec import hexed
from oracle.chain.fees import GWEI
from oracle.chain.rpc import Call, Rpc, RpcFault
from oracle.content.cid import name_block
from oracle.domain import CODEC_RAW
from oracle.errors import ChainError, RpcUnavailable, TransactionRefused

pytestmark = pytest.mark.unit

USER = Account.from_key("0x" + "01" * 32)
COORDINATOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
PRICE = 10**14


class PoolRpc(Rpc):
    """A node that takes transactions into its pool one by one; ``refuse`` answers those at an index."""

    def __init__(self, refuse: dict[int, Exception]) -> None:
        super().__init__("http://node.example")
        self.refuse = refuse
        self.taken: list[str] = []

    async def call(self, method: str, params: object = (), *, retry: bool = True) -> object:
        return {
            "eth_feeHistory": {"baseFeePerGas": [hex(GWEI)] * 2, "reward": [[hex(GWEI)]]},
            "eth_gasPrice": hex(2 * GWEI),
            "eth_estimateGas": hex(60_000),
            "eth_getTransactionCount": "0x0",
            "eth_call": hexed(PRICE.to_bytes(32, "big")),
        }[method]

    async def many_settled(self, calls: Sequence[Call], *, retry: bool = True) -> list[object]:
        answers: list[object] = []
        for index, (_, (raw,)) in enumerate(calls):
            if index in self.refuse:
                answers.append(self.refuse[index])
            else:
                self.taken.append(hexed(keccak(hexstr=raw)))
                answers.append(self.taken[-1])
        return answers

    async def many(self, calls: Sequence[Call], *, retry: bool = True) -> list[object]:
        raise RpcUnavailable("node.example is away")


def asks(count: int) -> list[Ask]:
    return [Ask(1, name_block(bytes([i]), codec=CODEC_RAW, version=1), 2_000_000_000) for i in range(count)]


def fault(message: str) -> RpcFault:
    return RpcFault("node.example", "eth_sendRawTransaction", -32000, message, None)


async def test_given_a_refusal_amid_a_batch_when_it_is_told_then_every_transaction_that_went_out_is_named() -> None:
    rpc = PoolRpc({2: fault("insufficient funds for gas")})
    sender = AccountSender(rpc, USER, 31337)
    with pytest.raises(TransactionRefused) as caught:
        await sender.request_inferences(COORDINATOR, asks(4))
    assert len(rpc.taken) == 3
    for transaction_hash in rpc.taken:
        assert transaction_hash in str(caught.value)
    assert [hexed(one) for one in sender.sent] == rpc.taken
    assert "ether" in caught.value.remedy


async def test_given_a_node_that_falls_silent_while_sending_when_it_is_told_then_the_uncertain_one_is_named_too() -> (
    None
):
    sender = AccountSender(PoolRpc({0: RpcUnavailable("node.example did not answer")}), USER, 31337)
    with pytest.raises(RpcUnavailable) as caught:
        await sender.request_inferences(COORDINATOR, asks(1))
    assert hexed(sender.sent[0]) in str(caught.value)


async def test_given_a_node_that_falls_silent_after_sending_when_the_time_is_over_then_the_transaction_is_named() -> (
    None
):
    rpc = PoolRpc({})
    sender = AccountSender(rpc, USER, 31337, receipt_timeout=0.05)
    with pytest.raises(ChainError, match="is away") as caught:
        await sender.request_inferences(COORDINATOR, asks(2))
    for transaction_hash in rpc.taken:
        assert transaction_hash in str(caught.value)


async def test_given_a_price_above_the_callers_limit_when_asked_then_nothing_is_sent() -> None:
    rpc = PoolRpc({})
    with pytest.raises(TooDear, match=r"0\.0001 ETH"):
        await AccountSender(rpc, USER, 31337).request_inference(COORDINATOR, asks(1)[0], max_price=PRICE - 1)
    assert rpc.taken == []
