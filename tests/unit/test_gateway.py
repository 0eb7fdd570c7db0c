"""The gateway's money: whatever goes wrong between counting and sending, nothing is paid twice or uncounted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from oracle import gateway as rooms
from oracle import web
from oracle.api.ports import Deployment, Holder
from oracle.chain.account import Asked, TooDear
from oracle.chain.calls import CallReverted, RevertedInBlock
from oracle.chain.coordinator import OnChainRequest
from oracle.chain.transactions import NotMined, Save, Signed, Transaction
from oracle.domain import BlockRef, Cid, FailureReason, Fees, OnChainModel, OnChainStatus
from oracle.errors import (
    AskedOtherwise,
    BalanceTooLow,
    DayLimitReached,
    KeyNeeded,
    ModelNotSold,
    RpcUnavailable,
    StillAsking,
    StoreError,
    TransactionRefused,
)
from oracle.gateway import GAS, Books, Gateway
from oracle.settings import Settings
from oracle.store.gateway import PAUSE, Question, SqliteGatewayStore, mark
from tests.unit.doubles import COORDINATOR, cid_of

pytestmark = pytest.mark.unit

US = "0x" + "99" * 20
PRICE = 1_000
GAS_PRICE = 2
COST = PRICE + GAS * GAS_PRICE
PICTURE = cid_of(b"a picture")
ANN = Holder("ann", 10 * COST, "key ann")


@dataclass(frozen=True)
class Mined:
    """A request in a block."""

    request_id: bytes
    transaction_hash: bytes
    image_cid: Cid
    deadline: int


class Node:
    """A chain with one coordinator. ``fates`` is what becomes of the next transactions, ``signed`` all there were."""

    address = COORDINATOR

    def __init__(self) -> None:
        self.fates: list[Exception | str] = []
        self.signed: list[Signed] = []
        self.mined: list[Mined] = []
        self.followed: list[tuple[list[bytes], bool]] = []
        self.refunded: list[bytes] = []
        self.statuses: dict[bytes, OnChainStatus] = {}
        self.balance = 10**30
        self.listed = OnChainModel(1, cid_of(b"manifest"), PRICE, US, True)
        self.now = 1_000_000
        self.window = 0
        self.gas_price = GAS_PRICE
        self.paid = PRICE
        self.hold: asyncio.Event | None = None

    async def model(self, model_id: int) -> OnChainModel | None:
        return self.listed if model_id == 1 else None

    async def quote(self, model_id: int, callback_gas: int = 0) -> int:
        return self.listed.price

    async def balance_of(self, token: str | None, account: str) -> int:
        assert account == US
        balance = self.balance
        await asyncio.sleep(0.01)
        return balance

    async def cancel_window(self) -> int:
        return self.window

    async def head(self) -> BlockRef:
        return BlockRef(10, bytes(32), self.now)

    async def block(self, number: int) -> BlockRef:
        assert number == 0
        return BlockRef(0, b"\7" * 32, 0)

    async def request_of(self, request_id: bytes) -> OnChainRequest:
        (one,) = [one for one in self.mined if one.request_id == request_id]
        status = self.statuses.get(request_id, OnChainStatus.PENDING)
        return OnChainRequest(US, 1, self.listed.price, 0, one.deadline, status, FailureReason.NONE)

    def mine(self, signed: Signed, image: Cid, deadline: int) -> Mined:
        one = Mined(bytes([len(self.mined) + 1]) * 32, signed.transaction_hash, image, deadline)
        self.mined.append(one)
        return one


class Sender:
    """``AccountSender`` as far as the gateway uses it. What went out under another one is known to the node alone."""

    address = US

    def __init__(self, node: Node) -> None:
        self.node = node
        self.sent: list[bytes] = []

    async def gas_price(self) -> int:
        return self.node.gas_price

    async def request_many(
        self,
        coordinator: str,
        model_id: int,
        images: Sequence[Cid],
        deadline: int,
        *,
        max_price: int,
        from_balance: bool,
        save: Save,
    ) -> list[Asked]:
        assert (coordinator, from_balance, max_price) == (COORDINATOR, True, self.node.listed.price)
        fate = await self._out(save)
        (image,) = images
        if fate == "lost":
            raise RpcUnavailable("the node hung up")
        one = self.node.mine(self.node.signed[-1], image, deadline)
        if fate == "mined unheard":
            raise NotMined("not mined within 60 s")
        return [self._asked(one)]

    async def follow_many(self, coordinator: str, raws: Sequence[bytes], *, save: Save, revive: bool) -> list[Asked]:
        assert coordinator == COORDINATOR
        await self._looked(raws, revive)
        hashes = {one.transaction_hash for one in self.node.signed if one.raw in raws}
        found = [one for one in self.node.mined if one.transaction_hash in hashes]
        if not found:
            raise NotMined("not mined")
        return [self._asked(one) for one in found]

    async def refund(self, coordinator: str, request_id: bytes, *, save: Save) -> None:
        await self._out(save)
        self.node.refunded.append(request_id)
        self.node.statuses[request_id] = OnChainStatus.REFUNDED

    async def follow(self, raws: Sequence[bytes], *, save: Save, revive: bool) -> None:
        await self._looked(raws, revive)

    async def _out(self, save: Save) -> str:
        node = self.node
        if node.hold is not None:
            await node.hold.wait()
        fate = node.fates.pop(0) if node.fates else "mined"
        if isinstance(fate, Exception) and not isinstance(fate, RevertedInBlock | TransactionRefused | NotMined):
            raise fate
        number = len(node.signed)
        raw = b"raw %d" % number
        signed = Signed(Transaction(COORDINATOR, b""), number, 1, Fees(1, 1), bytes([0x77, number]) * 16, raw)
        await save(signed)
        node.signed.append(signed)
        if isinstance(fate, Exception):
            raise fate
        return fate

    async def _looked(self, raws: Sequence[bytes], revive: bool) -> None:
        node = self.node
        node.followed.append((list(raws), revive))
        if node.hold is not None:
            await node.hold.wait()
        if node.fates and isinstance(fate := node.fates.pop(0), Exception):
            raise fate

    def _asked(self, one: Mined) -> Asked:
        return Asked(one.request_id, one.transaction_hash, 10, self.node.paid, one.deadline, 90_000)


class Clock:
    """The time of the books; ``ahead`` in seconds."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[SqliteGatewayStore]:
    found = SqliteGatewayStore(tmp_path / "gateway.sqlite3", now=clock)
    await found.add_key("ann", ANN.limit)
    yield found
    await found.close()


class NoWishes:
    """Takes any and keeps none."""

    async def leave(self, requester: str, image_cid: Cid, provider: str) -> None:
        pass


def gateway(
    node: Node,
    store: SqliteGatewayStore,
    *,
    total: int = 10**30,
    patience: float = 5.0,
) -> Gateway:
    return Gateway(
        reader=node,  # type: ignore[arg-type]
        sender=Sender(node),  # type: ignore[arg-type]
        store=store,
        wishes=NoWishes(),
        total_limit=total,
        patience=patience,
    )


async def spent(store: SqliteGatewayStore) -> int:
    """What counts for ann now."""
    (key,) = [one for one in await store.keys() if one.name == "ann"]
    return key.spent


async def counted(store: SqliteGatewayStore) -> None:
    """Wait until something is."""
    for _ in range(500):
        if await spent(store):
            return
        await asyncio.sleep(0.01)
    pytest.fail("nothing was counted")


async def test_given_a_key_when_it_asks_then_the_request_is_on_chain_and_price_and_fee_are_counted(
    node: Node, store: SqliteGatewayStore
) -> None:
    here = gateway(node, store)
    assert await here.affordable(ANN, 1) == PRICE
    paid = await here.ask(ANN, 1, PICTURE)
    (mined,) = node.mined
    assert (paid.request_id, paid.payment, paid.model_id) == (mined.request_id, PRICE, 1)
    assert paid.transaction_hash == mined.transaction_hash
    assert mined.deadline >= node.now + rooms.DEADLINE
    assert await spent(store) == COST
    assert await Books(store).paid(paid.request_id) == paid
    assert await Books(store).paid(bytes(32)) is None


async def test_given_a_price_that_fell_when_asked_then_what_was_paid_is_told_and_counted(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.paid = PRICE - 300
    here = gateway(node, store)
    paid = await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert paid.payment == PRICE - 300
    assert await spent(store) == COST - 300
    assert await Books(store).paid(paid.request_id) == await here.begun(ANN, 1, PICTURE, "k") == paid


async def test_given_a_cancel_window_when_asked_then_the_deadline_leaves_room_for_it(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.window, node.now = 3_600, 10**10
    await gateway(node, store).ask(ANN, 1, PICTURE)
    assert node.mined[0].deadline == node.now + 2 * 3_600 + rooms.DEADLINE


async def test_given_no_key_when_the_gateway_is_closed_or_open_then_only_the_open_one_pays(
    store: SqliteGatewayStore,
) -> None:
    with pytest.raises(KeyNeeded):
        await Books(store).holder(None, "192.0.2.1")
    nobody = await Books(store, 7).holder(None, "192.0.2.1")
    assert (nobody.name, nobody.limit) == ("", 7)
    assert nobody.scope != (await Books(store, 7).holder(None, "192.0.2.2")).scope
    token = await store.add_key("bob", 5)
    bob = await Books(store).holder(token, "192.0.2.1")
    assert (bob.name, bob.limit) == ("bob", 5)
    await store.revoke("bob")
    with pytest.raises(KeyNeeded):
        await Books(store, 7).holder(token, "192.0.2.1")


async def test_given_a_limit_when_it_is_reached_then_nothing_more_is_sent(
    node: Node, store: SqliteGatewayStore
) -> None:
    here = gateway(node, store)
    poor = replace(ANN, limit=2 * COST)
    await here.ask(poor, 1, PICTURE)
    await here.ask(poor, 1, PICTURE)
    with pytest.raises(DayLimitReached):
        await here.ask(poor, 1, PICTURE)
    with pytest.raises(DayLimitReached):
        await here.affordable(poor, 1)
    assert len(node.mined) == 2
    limited = gateway(node, store, total=3 * COST)
    await limited.ask(replace(ANN, name="bob"), 1, PICTURE)
    with pytest.raises(DayLimitReached, match="all users"):
        await limited.ask(replace(ANN, name="eve"), 1, PICTURE)


async def test_given_a_model_that_costs_nothing_when_asked_again_and_again_then_its_fees_reach_the_limit(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.listed = replace(node.listed, price=0)
    poor = replace(ANN, limit=GAS * GAS_PRICE - 1)
    with pytest.raises(DayLimitReached):
        await gateway(node, store).ask(poor, 1, PICTURE)


@pytest.mark.parametrize(
    ("change", "model"),
    [({"active": False}, 1), ({"token": "0x" + "12" * 20}, 1), ({}, 2)],
)
async def test_given_a_model_that_is_not_sold_for_ether_when_asked_then_nothing_is_counted(
    node: Node, store: SqliteGatewayStore, change: dict[str, object], model: int
) -> None:
    node.listed = replace(node.listed, **change)  # type: ignore[arg-type]
    with pytest.raises(ModelNotSold):
        await gateway(node, store).ask(ANN, model, PICTURE)
    assert await spent(store) == 0


async def test_given_a_balance_that_covers_one_when_two_ask_at_once_then_one_is_paid(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.balance, node.hold = PRICE, asyncio.Event()
    here = gateway(node, store)
    both = [asyncio.create_task(here.ask(ANN, 1, PICTURE)) for _ in range(2)]
    done, (first,) = await asyncio.wait(both, timeout=2, return_when=asyncio.FIRST_COMPLETED)
    assert [type(one.exception()) for one in done] == [BalanceTooLow]
    with pytest.raises(BalanceTooLow):
        await here.affordable(ANN, 1)
    node.hold.set()
    await first
    assert await spent(store) == COST


async def test_given_a_request_of_a_gateway_that_was_killed_when_another_is_asked_then_its_money_is_not_spent_twice(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.balance, node.fates = PRICE, ["lost"]
    with pytest.raises(StillAsking):
        await gateway(node, store).ask(ANN, 1, PICTURE)
    with pytest.raises(BalanceTooLow):
        await gateway(node, store).ask(ANN, 1, cid_of(b"another"))


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        (CallReverted("ModelInactive(modelId=1)"), ModelNotSold),
        (CallReverted("BalanceTooLow(token=0x, account=0x, balance=0, required=1)"), BalanceTooLow),
        (CallReverted("EnforcedPause()"), CallReverted),
        (TooDear(1, 2 * PRICE, PRICE), ModelNotSold),
        (TransactionRefused("nonce too low"), RpcUnavailable),
        (RpcUnavailable("away before anything was sent"), RpcUnavailable),
    ],
)
async def test_given_nothing_was_sent_for_certain_when_it_fails_then_it_counts_no_more_and_may_be_tried_again(
    node: Node, store: SqliteGatewayStore, fate: Exception, told: type[Exception]
) -> None:
    node.fates = [fate]
    here = gateway(node, store)
    with pytest.raises(told):
        await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert await spent(store) == 0
    await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert await spent(store) == COST


async def test_given_a_transaction_that_reverts_in_its_block_when_asked_again_and_again_then_its_fees_reach_the_limit(
    node: Node, store: SqliteGatewayStore
) -> None:
    fee = GAS * GAS_PRICE
    poor = replace(ANN, limit=COST + fee)
    node.fates = [RevertedInBlock("transaction 0x77 was mined and reverted")] * 2
    here = gateway(node, store)
    for counted_so_far in (fee, 2 * fee):
        with pytest.raises(CallReverted):
            await here.ask(poor, 1, PICTURE, idempotency="k")
        assert await spent(store) == counted_so_far
    with pytest.raises(DayLimitReached):
        await here.ask(poor, 1, PICTURE, idempotency="k")


async def test_given_an_account_without_ether_for_the_fee_when_asked_then_402s_error(
    node: Node, store: SqliteGatewayStore
) -> None:
    refused = TransactionRefused("insufficient funds")
    refused.unfunded = True
    node.fates = [refused]
    with pytest.raises(BalanceTooLow, match="fee"):
        await gateway(node, store).ask(ANN, 1, PICTURE)


async def test_given_a_transaction_that_was_mined_unheard_when_repeated_then_it_is_found_and_not_paid_twice(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.fates = ["mined unheard"]
    here = gateway(node, store)
    with pytest.raises(StillAsking):
        await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert await spent(store) == COST
    assert await here.begun(ANN, 1, PICTURE, "another") is None
    paid = await gateway(node, store).begun(ANN, 1, PICTURE, "k")  # after a restart, too
    assert paid is not None
    assert (paid.request_id, paid.transaction_hash) == (node.mined[0].request_id, node.mined[0].transaction_hash)
    assert await here.ask(ANN, 1, PICTURE, idempotency="k") == paid
    with pytest.raises(AskedOtherwise):
        await here.begun(ANN, 1, cid_of(b"another"), "k")
    assert len(node.mined) == 1
    assert await spent(store) == COST


async def test_given_a_transaction_that_may_be_on_its_way_when_repeated_then_it_waits_for_its_deadline(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.fates = ["lost"]
    here = gateway(node, store)
    for _ in range(2):
        with pytest.raises(StillAsking):
            await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert node.followed == [([b"raw 0"], True)]
    assert await spent(store) == COST
    node.now = 10**11  # its deadline has passed, so it cannot be mined any more
    node.fates = [RpcUnavailable("nobody can say")]
    with pytest.raises(StillAsking):
        await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert node.mined == []
    await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert node.followed[1:] == [([b"raw 0"], False)] * 2
    assert len(node.mined) == 1
    assert await spent(store) == COST


async def test_given_a_kill_before_anything_was_signed_when_repeated_then_it_is_asked_at_once_and_counted_once(
    node: Node, store: SqliteGatewayStore
) -> None:
    asked = Question("ann", PRICE, 1, PICTURE, 10**11, mark(ANN.scope, "k"), GAS * GAS_PRICE)
    await store.reserve(asked, holder_limit=10**30, total_limit=10**30)
    here = gateway(node, store)
    assert await here.begun(ANN, 1, PICTURE, "k") is None
    await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert len(node.mined) == 1
    assert await spent(store) == COST


async def test_given_two_asks_that_differ_in_nothing_but_their_key_when_one_is_lost_then_it_never_takes_the_others(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.now = 10**10  # so that both have one deadline
    node.fates = ["lost", "mined unheard"]
    here = gateway(node, store)
    for key in ("lost", "mined"):
        with pytest.raises(StillAsking):
            await here.ask(ANN, 1, PICTURE, idempotency=key)
    with pytest.raises(StillAsking):
        await here.ask(ANN, 1, PICTURE, idempotency="lost")
    paid = await here.ask(ANN, 1, PICTURE, idempotency="mined")
    assert paid.request_id == node.mined[0].request_id
    assert await spent(store) == 2 * COST


async def test_given_a_transaction_that_takes_long_when_waited_for_then_its_caller_is_told_and_it_is_followed_on(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.hold = asyncio.Event()
    here = gateway(node, store, patience=0.1)
    with pytest.raises(StillAsking) as caught:
        async with asyncio.timeout(2):
            await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert "same Idempotency-Key" in caught.value.remedy
    assert caught.value.retry_after
    node.hold.set()
    paid = await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert paid.request_id == node.mined[0].request_id
    assert node.followed == []


@pytest.mark.parametrize("fate", ["lost", "mined unheard"])
async def test_given_no_key_when_it_takes_long_then_its_transaction_is_named_and_nobody_is_told_to_send_it_again(
    node: Node, store: SqliteGatewayStore, fate: str
) -> None:
    node.fates = [fate]
    with pytest.raises(StillAsking) as caught:
        await gateway(node, store).ask(ANN, 1, PICTURE)
    assert f"0x{node.signed[0].transaction_hash.hex()}" in str(caught.value)
    assert caught.value.remedy.startswith("Do not send it again")
    assert caught.value.retry_after is None


async def test_given_the_same_key_twice_at_once_when_asked_then_both_get_the_one_request(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.hold = asyncio.Event()
    here = gateway(node, store)
    both = [asyncio.create_task(here.ask(ANN, 1, PICTURE, idempotency="k")) for _ in range(2)]
    await asyncio.sleep(0.1)
    node.hold.set()
    first, second = await asyncio.gather(*both)
    assert first == second
    assert len(node.mined) == 1
    assert node.followed == []
    with pytest.raises(AskedOtherwise):
        await here.ask(ANN, 1, cid_of(b"another"), idempotency="k")


async def test_given_a_caller_that_goes_away_when_it_is_sent_then_it_is_noted_all_the_same(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.hold = asyncio.Event()
    here = gateway(node, store)
    asking = asyncio.create_task(here.ask(ANN, 1, PICTURE, idempotency="k"))
    await counted(store)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    node.hold.set()
    await here.close()
    paid = await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert paid.request_id == node.mined[0].request_id
    assert len(node.mined) == 1


async def test_given_a_close_when_a_transaction_hangs_then_it_ends_in_time_and_counts(
    node: Node, store: SqliteGatewayStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "CLOSE_SECONDS", 0.1)
    node.hold = asyncio.Event()
    here = gateway(node, store)
    asking = asyncio.create_task(here.ask(ANN, 1, PICTURE))
    await counted(store)
    async with asyncio.timeout(2):
        await here.close()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await spent(store) == COST


# What is looked after -------------------------------------------------------------------------------------------------


async def later(here: Gateway, clock: Clock) -> None:
    """Let everything that is open be due, and be looked after."""
    clock.ahead = 3 * clock.ahead + 10**5
    await here.tidy()
    await here.close()


async def test_given_what_a_killed_gateway_left_when_the_next_looks_then_it_is_noted_or_counts_no_more(
    node: Node, store: SqliteGatewayStore, clock: Clock
) -> None:
    node.fates = ["mined unheard", "lost"]
    for key in ("mined", "lost"):
        with pytest.raises(StillAsking):
            await gateway(node, store).ask(ANN, 1, PICTURE, idempotency=key)
    here = gateway(node, store)
    await here.tidy()
    assert node.followed == []  # too young: its own gateway follows it
    node.now = 10**10
    clock.ahead = PAUSE + 1
    node.statuses[node.mined[0].request_id] = OnChainStatus.FULFILLED
    await here.tidy()
    await here.close()
    assert await spent(store) == COST
    assert await Books(store).paid(node.mined[0].request_id) is not None
    assert await store.on_their_way() == 0


async def test_given_an_unanswered_request_when_its_deadline_has_passed_then_it_is_refunded_once(
    node: Node, store: SqliteGatewayStore, clock: Clock
) -> None:
    here = gateway(node, store)
    node.listed = replace(node.listed, price=10**9)
    rich = replace(ANN, limit=10**18)
    unanswered, answered = [await here.ask(rich, 1, PICTURE) for _ in range(2)]
    node.statuses[answered.request_id] = OnChainStatus.FULFILLED
    await here.tidy()
    assert node.refunded == []
    clock.ahead = 10**5
    await here.tidy()  # the chain's clock says that there is time
    assert node.refunded == []
    node.now = 10**11
    await later(here, clock)
    assert node.refunded == [unanswered.request_id]
    await later(here, clock)
    assert node.refunded == [unanswered.request_id]
    assert await Books(store).paid(unanswered.request_id) == unanswered


async def test_given_a_payment_that_is_worth_less_than_the_fee_when_unanswered_then_it_waits_for_a_cheaper_time(
    node: Node, store: SqliteGatewayStore, clock: Clock
) -> None:
    here = gateway(node, store)
    node.gas_price = 1 + PRICE // rooms.REFUND_GAS
    await here.ask(replace(ANN, limit=10**18), 1, PICTURE)
    node.now = 10**11
    await later(here, clock)
    assert node.refunded == []
    node.gas_price = 0
    await later(here, clock)
    assert len(node.refunded) == 1


@pytest.mark.parametrize("way", ["unreachable", "reverted", "another took its nonce", "slow"])
async def test_given_a_refund_that_does_not_come_through_when_looked_at_again_then_it_is_followed_or_sent_anew(
    node: Node, store: SqliteGatewayStore, clock: Clock, way: str
) -> None:
    node.gas_price = 0
    here = gateway(node, store)
    paid = await here.ask(ANN, 1, PICTURE)
    node.now = 10**11
    taken = NotMined("another has its nonce")
    taken.taken = True
    node.fates = {
        "unreachable": [RpcUnavailable("away")],
        "reverted": [RevertedInBlock("mined and reverted")],
        "another took its nonce": [NotMined("not mined"), taken],
        "slow": [NotMined("not mined"), NotMined("not mined")],
    }[way]  # type: ignore[assignment]
    for _ in range(3):
        await later(gateway(node, store), clock)
    anew = [] if way == "slow" else [paid.request_id]
    assert node.refunded == anew
    follows = {"another took its nonce": 1, "slow": 2}.get(way, 0)
    assert node.followed == [([b"raw 1"], True)] * follows


async def test_given_a_refund_of_ours_that_is_out_when_somebody_else_was_faster_then_it_is_only_looked_for(
    node: Node, store: SqliteGatewayStore, clock: Clock
) -> None:
    node.gas_price = 0
    paid = await gateway(node, store).ask(ANN, 1, PICTURE)
    node.now, node.fates = 10**11, [NotMined("not mined")]
    await later(gateway(node, store), clock)
    node.statuses[paid.request_id] = OnChainStatus.REFUNDED
    node.fates = [NotMined("not mined")]
    for _ in range(2):
        await later(gateway(node, store), clock)
    assert node.followed == [([b"raw 1"], False)]
    assert node.refunded == []


async def test_given_a_chain_that_does_not_answer_yet_when_the_api_runs_then_what_is_open_is_looked_after_all_the_same(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Exception | None] = [RpcUnavailable("not yet"), None, StoreError("busy"), None]
    looked = asyncio.Event()

    class Chain:
        async def deployed(self) -> tuple[Deployment, Node]:
            if (problem := answers.pop(0)) is not None:
                raise problem
            return Deployment(31337, COORDINATOR, 0), node

        async def account(self, *_: object, replace_after: float) -> Sender:
            assert replace_after == 90
            return Sender(node)

    async def tidy(_: Gateway) -> None:
        if answers:
            raise answers.pop(0) or ValueError("a bug")
        looked.set()

    monkeypatch.setattr(web, "TIDY_EVERY", 0.01)
    monkeypatch.setattr(Gateway, "tidy", tidy)
    key = SecretStr("0x" + "01" * 32)
    settings = Settings(gateway_key=key, data_dir=tmp_path, coordinator=COORDINATOR, replace_after=90)
    payer = web._Payer(settings, Chain(), NoWishes())  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await looked.wait()
        await payer.close()
    assert payer._tidying.cancelled()


async def test_given_a_chain_that_hangs_when_many_ask_then_one_try_serves_all_and_the_books_answer_without_it(
    node: Node, tmp_path: Path
) -> None:
    tries = 0
    away = asyncio.Event()

    class Chain:
        async def deployed(self) -> tuple[Deployment, Node]:
            nonlocal tries
            tries += 1
            await away.wait()
            raise RpcUnavailable("timed out")

    settings = Settings(gateway_key=SecretStr("0x" + "01" * 32), data_dir=tmp_path, coordinator=COORDINATOR)
    payer = web._Payer(settings, Chain(), NoWishes())  # type: ignore[arg-type]
    asking = [asyncio.create_task(payer.affordable(ANN, 1)) for _ in range(50)]
    async with asyncio.timeout(5):
        with pytest.raises(KeyNeeded):
            await payer.holder("sibyl_unknown", "192.0.2.1")
        assert await payer.paid(bytes(32)) is None
        away.set()
        told = await asyncio.gather(*asking, return_exceptions=True)
        assert ({type(one) for one in told}, tries) == ({RpcUnavailable}, 1)
        with pytest.raises(RpcUnavailable):
            await payer.affordable(ANN, 1)
        assert tries == 2
        await payer.close()
