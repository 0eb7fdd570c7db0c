"""What a sender of many transactions tells when some of them went out and one did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from oracle.chain import transactions
from oracle.chain.account import AccountSender, Ask, TooDear
from oracle.chain.calls import RevertedInBlock
from oracle.chain.codec import hexed
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.fees import GWEI, FeePolicy
from oracle.chain.rpc import Call, Rpc, RpcFault
from oracle.chain.transactions import NotMined, Signed, TransactionSender, read_signed
from oracle.content.cid import name_block
from oracle.domain import CODEC_RAW, OnChainModel
from oracle.errors import ChainError, RpcUnavailable, StoreError, TransactionRefused

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


async def test_given_a_price_above_the_callers_limit_when_asked_then_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rpc = PoolRpc({})
    for token, told in ((None, r"0\.0001 ETH"), (USER.address, f"{PRICE} of the token {USER.address}")):
        listed = OnChainModel(1, asks(1)[0].image_cid, PRICE, USER.address, True, token)

        async def model(_: CoordinatorReader, number: int, listed: OnChainModel = listed) -> OnChainModel:
            return listed

        monkeypatch.setattr(CoordinatorReader, "model", model)
        with pytest.raises(TooDear, match=told) as caught:
            await AccountSender(rpc, USER, 31337).request_inference(COORDINATOR, asks(1)[0], max_price=PRICE - 1)
        assert "max_price=" in caught.value.remedy
        assert "--max-price" in caught.value.remedy
    assert rpc.taken == []


# What is stuck ----------------------------------------------------------------------------------------------------


class BlockRpc(PoolRpc):
    """A node that mines a transaction of its pool that tips at least ``least`` wei a gas, when asked about it."""

    def __init__(self, *, least: int = 0, status: str = "0x1") -> None:
        super().__init__({})
        self.least, self.status = least, status
        self.pool: list[Signed] = []
        self.counts = {"latest": 0, "pending": 0}

    async def call(self, method: str, params: Any = (), *, retry: bool = True) -> object:
        if method == "eth_sendRawTransaction":
            return self._take(params[0])
        if method == "eth_getTransactionCount":
            return hex(self.counts[params[1]])
        if method == "eth_getTransactionReceipt":
            return self._receipt(params[0])
        return await super().call(method, params, retry=retry)

    async def many_settled(self, calls: Sequence[Call], *, retry: bool = True) -> list[object]:
        return [self.refuse.get(index) or self._take(raw) for index, (_, (raw,)) in enumerate(calls)]

    async def many(self, calls: Sequence[Call], *, retry: bool = True) -> list[object]:
        return [self._receipt(wanted) for _, (wanted,) in calls]

    def _take(self, raw: str) -> str:
        self.pool.append(read_signed(bytes.fromhex(raw[2:])))
        return hexed(self.pool[-1].transaction_hash)

    def _receipt(self, wanted: str) -> dict[str, object] | None:
        for one in self.pool:
            if hexed(one.transaction_hash) == wanted and one.fees.max_priority_fee >= self.least:
                return {
                    "status": self.status,
                    "blockNumber": "0x7",
                    "gasUsed": "0x5208",
                    "effectiveGasPrice": "0x1",
                    "logs": [],
                }
        return None


class Safe:
    """Where signed transactions are saved; notes how many the node had by then."""

    def __init__(self, rpc: BlockRpc) -> None:
        self.rpc = rpc
        self.kept: list[Signed] = []
        self.sent_before: list[int] = []

    async def __call__(self, signed: Signed) -> None:
        self.kept.append(signed)
        self.sent_before.append(len(self.rpc.pool))

    @property
    def raws(self) -> list[bytes]:
        return [one.raw for one in self.kept]


def hasty(rpc: Rpc, *, cap: int = 200 * GWEI, receipt_timeout: float = 5.0) -> TransactionSender:
    """A sender that replaces what the next look does not find mined."""
    policy = FeePolicy(max_fee_cap=cap)
    return TransactionSender(rpc, USER, 31337, policy, receipt_timeout=receipt_timeout, replace_after=0.0)


async def test_given_a_transaction_that_reverts_in_its_block_when_waited_for_then_its_error_says_so() -> None:
    rpc = BlockRpc(status="0x0")
    with pytest.raises(RevertedInBlock, match="mined and reverted") as caught:
        await TransactionSender(rpc, USER, 31337).transact(COORDINATOR, b"")
    assert hexed(rpc.pool[0].transaction_hash) in str(caught.value)


async def test_given_a_stuck_transaction_when_time_is_over_then_dearer_ones_take_its_place_each_saved_first() -> None:
    rpc = BlockRpc(least=GWEI * 5 // 4)
    safe = Safe(rpc)
    mined = await hasty(rpc).transact(COORDINATOR, b"\x01", value=3, save=safe)
    assert mined.transaction_hash == safe.kept[-1].transaction_hash
    assert safe.sent_before == [0, 1, 2]
    assert {(one.nonce, one.transaction, one.gas_limit) for one in safe.kept} == {
        (0, safe.kept[0].transaction, safe.kept[0].gas_limit)
    }
    for before, after in zip(safe.kept, safe.kept[1:], strict=False):
        assert after.fees.max_fee * 10 >= before.fees.max_fee * 11
        assert after.fees.max_priority_fee * 10 >= before.fees.max_priority_fee * 11


async def test_given_what_is_never_mined_when_replaced_then_neither_number_nor_fee_goes_beyond_the_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transactions, "MOST_REPLACEMENTS", 2)
    rpc = BlockRpc(least=10**6 * GWEI)
    safe = Safe(rpc)
    with pytest.raises(NotMined) as caught:
        await hasty(rpc, receipt_timeout=1.0).transact(COORDINATOR, b"", save=safe)
    assert len(safe.kept) == 3
    for one in safe.kept:
        assert hexed(one.transaction_hash) in str(caught.value)
    capped = Safe(rpc)
    with pytest.raises(NotMined):
        await hasty(rpc, cap=3 * GWEI, receipt_timeout=0.1).transact(COORDINATOR, b"", save=capped)
    assert len(capped.kept) == 1
    assert [one.raw for one in rpc.pool].count(capped.kept[0].raw) > 1


async def test_given_what_waits_behind_another_of_its_account_when_time_is_over_then_it_is_only_sent_again() -> None:
    rpc = BlockRpc(least=10**6 * GWEI)
    rpc.counts["pending"] = 1
    safe = Safe(rpc)
    with pytest.raises(NotMined):
        await hasty(rpc, receipt_timeout=0.1).transact(COORDINATOR, b"", save=safe)
    assert len(safe.kept) == 1
    assert len(rpc.pool) > 1
    assert {one.raw for one in rpc.pool} == set(safe.raws)


async def test_given_a_transaction_that_cannot_be_saved_when_sent_then_it_stays_here() -> None:
    async def full(signed: Signed) -> None:
        raise StoreError("the disk is full")

    rpc = BlockRpc()
    with pytest.raises(StoreError):
        await TransactionSender(rpc, USER, 31337).transact(COORDINATOR, b"", save=full)
    assert rpc.pool == []


async def test_given_a_saved_transaction_when_followed_then_it_is_sent_again_found_and_replaced_as_before() -> None:
    rpc = BlockRpc(least=10**6 * GWEI)
    safe = Safe(rpc)
    with pytest.raises(NotMined) as caught:
        await TransactionSender(rpc, USER, 31337, receipt_timeout=0.0).transact(COORDINATOR, b"", save=safe)
    assert not caught.value.taken
    rpc.pool.clear()
    with pytest.raises(NotMined):
        await TransactionSender(rpc, USER, 31337, receipt_timeout=0.0).follow(safe.raws, save=safe)
    assert [one.raw for one in rpc.pool] == safe.raws
    rpc.least = safe.kept[0].fees.max_priority_fee + 1
    mined = await hasty(rpc).follow(safe.raws, save=safe)
    assert len(safe.kept) == 2
    assert mined.transaction_hash == safe.kept[-1].transaction_hash
    assert await hasty(rpc).follow(safe.raws) == mined


async def test_given_a_saved_transaction_that_no_pool_holds_when_only_looked_for_then_it_is_not_sent_again() -> None:
    rpc = BlockRpc()
    safe = Safe(rpc)
    await TransactionSender(rpc, USER, 31337).transact(COORDINATOR, b"", save=safe)
    rpc.pool.clear()
    with pytest.raises(NotMined) as forgotten:
        await hasty(rpc).follow(safe.raws, revive=False)
    rpc.counts = {"latest": 1, "pending": 1}
    with pytest.raises(NotMined) as taken:
        await hasty(rpc).follow(safe.raws)
    assert (forgotten.value.taken, taken.value.taken) == (False, True)
    assert rpc.pool == []


async def test_given_an_answer_that_was_lost_when_the_second_try_finds_it_mined_then_it_is_not_taken_for_refused() -> (
    None
):
    rpc = BlockRpc()
    safe = Safe(rpc)
    sender = TransactionSender(rpc, USER, 31337, receipt_timeout=0.0)
    await sender.transact(COORDINATOR, b"", save=safe)
    rpc.refuse = {0: fault("nonce too low")}
    assert (await sender.transact(COORDINATOR, b"")).transaction_hash == safe.kept[0].transaction_hash
    rpc.pool.clear()
    with pytest.raises(TransactionRefused):
        await sender.transact(COORDINATOR, b"")


@pytest.mark.parametrize("words", ["already known", "transaction already imported", "Already in mempool"])
async def test_given_a_node_that_has_the_transaction_already_when_sent_then_it_is_followed(words: str) -> None:
    rpc = BlockRpc()
    safe = Safe(rpc)
    sender = TransactionSender(rpc, USER, 31337, receipt_timeout=0.0)
    await sender.transact(COORDINATOR, b"", save=safe)
    rpc.refuse = {0: fault(words)}
    assert (await sender.transact(COORDINATOR, b"")).transaction_hash == safe.kept[0].transaction_hash


async def test_given_a_node_in_trouble_when_it_refuses_then_the_transaction_counts_as_one_that_may_be_on_its_way() -> (
    None
):
    rpc = BlockRpc()
    rpc.refuse = {0: fault("internal error")}
    sender = TransactionSender(rpc, USER, 31337, receipt_timeout=0.0)
    with pytest.raises(RpcUnavailable):
        await sender.transact(COORDINATOR, b"")
    assert len(sender.sent) == 1
