"""The gateway's money: whatever goes wrong between counting and sending, nothing is paid twice or uncounted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from oracle import gateway as rooms
from oracle.api.ports import Holder
from oracle.chain.account import Asked, TooDear
from oracle.chain.calls import CallReverted, RevertedInBlock
from oracle.domain import BlockRef, ChainEvent, Cid, InferenceRequest, LogPosition, OnChainModel, RequestSeen
from oracle.errors import (
    AskedOtherwise,
    BalanceTooLow,
    ChainError,
    DayLimitReached,
    KeyNeeded,
    ModelNotSold,
    RpcRangeRefused,
    RpcUnavailable,
    StillAsking,
    TransactionRefused,
)
from oracle.gateway import GAS, Gateway
from oracle.store.gateway import SqliteGatewayStore, mark
from tests.unit.api_doubles import MemoryWishes
from tests.unit.doubles import COORDINATOR, block, cid_of

pytestmark = pytest.mark.unit

US = "0x" + "99" * 20
PRICE = 1_000
GAS_PRICE = 2
COST = PRICE + GAS * GAS_PRICE
PICTURE = cid_of(b"a picture")
ANN = Holder("ann", 10 * COST, "key ann")


class Node:
    """A chain with one coordinator, as reader and as sender. ``fate`` is what becomes of the next transactions."""

    address = COORDINATOR

    def __init__(self) -> None:
        self.fates: list[Exception | str] = []
        self.sent: list[bytes] = []
        self.mined: list[RequestSeen] = []
        self.balance = 10**30
        self.listed = OnChainModel(1, cid_of(b"manifest"), PRICE, US, True)
        self.now = 1_000_000
        self.window = 0
        self.hold: asyncio.Event | None = None
        self.refuses = 10**9  # blocks in one look at the logs

    async def model(self, model_id: int) -> OnChainModel | None:
        return self.listed if model_id == 1 else None

    async def quote(self, model_id: int, callback_gas: int = 0) -> int:
        return self.listed.price

    async def balance_of(self, token: str | None, account: str) -> int:
        assert account == US
        return self.balance

    async def cancel_window(self) -> int:
        return self.window

    async def head(self) -> BlockRef:
        return BlockRef(10, bytes(32), self.now)

    async def events(self, first: int, last: int) -> Sequence[ChainEvent]:
        if last - first + 1 > self.refuses:
            raise RpcRangeRefused("too many")
        return [event for event in self.mined if first <= event.position.block.number <= last]

    def mine(self, image: Cid, deadline: int, requester: str = US) -> RequestSeen:
        number = len(self.mined)
        request = InferenceRequest(bytes([number + 1]) * 32, 1, requester, image, PRICE, 0, deadline, number, self.now)
        event = RequestSeen(request, LogPosition(block(10), bytes([0x77, number]) * 16, number))
        self.mined.append(event)
        return event


class Sender:
    """``AccountSender`` as far as the gateway uses it."""

    address = US

    def __init__(self, node: Node) -> None:
        self.node = node
        self.sent: list[bytes] = []

    async def gas_price(self) -> int:
        return GAS_PRICE

    async def request_many(
        self,
        coordinator: str,
        model_id: int,
        images: Sequence[Cid],
        deadline: int,
        *,
        max_price: int,
        from_balance: bool,
    ) -> list[Asked]:
        assert (coordinator, from_balance, max_price) == (COORDINATOR, True, PRICE)
        node = self.node
        if node.hold is not None:
            await node.hold.wait()
        fate = node.fates.pop(0) if node.fates else "mined"
        if isinstance(fate, Exception):
            raise fate
        self.sent.append(bytes([len(node.mined)]) * 32)
        if fate == "lost":
            raise RpcUnavailable("the node hung up")
        (image,) = images
        event = node.mine(image, deadline)
        if fate == "mined unheard":
            raise ChainError("not mined within 60 s")
        return [Asked(event.request.request_id, event.position.transaction_hash, 10, PRICE, deadline, 90_000)]


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteGatewayStore]:
    found = SqliteGatewayStore(tmp_path / "gateway.sqlite3")
    await found.add_key("ann", ANN.limit)
    yield found
    await found.close()


def gateway(node: Node, store: SqliteGatewayStore, *, open_limit: int | None = None, total: int = 10**30) -> Gateway:
    return Gateway(
        reader=node,  # type: ignore[arg-type]
        sender=Sender(node),  # type: ignore[arg-type]
        store=store,
        wishes=MemoryWishes(),
        open_limit=open_limit,
        total_limit=total,
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
    (event,) = node.mined
    assert (paid.request_id, paid.payment, paid.model_id) == (event.request.request_id, PRICE, 1)
    assert paid.transaction_hash == event.position.transaction_hash
    assert event.request.deadline >= node.now + rooms.DEADLINE
    assert await spent(store) == COST
    assert await here.paid(paid.request_id) == paid
    assert await here.paid(bytes(32)) is None


async def test_given_a_cancel_window_when_asked_then_the_deadline_leaves_room_for_it(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.window, node.now = 3_600, 10**10
    await gateway(node, store).ask(ANN, 1, PICTURE)
    assert node.mined[0].request.deadline == node.now + 2 * 3_600 + rooms.DEADLINE


async def test_given_no_key_when_the_gateway_is_closed_or_open_then_only_the_open_one_pays(
    node: Node, store: SqliteGatewayStore
) -> None:
    with pytest.raises(KeyNeeded):
        await gateway(node, store).holder(None, "192.0.2.1")
    nobody = await gateway(node, store, open_limit=7).holder(None, "192.0.2.1")
    assert (nobody.name, nobody.limit) == ("", 7)
    assert nobody.scope != (await gateway(node, store, open_limit=7).holder(None, "192.0.2.2")).scope
    token = await store.add_key("bob", 5)
    bob = await gateway(node, store).holder(token, "192.0.2.1")
    assert (bob.name, bob.limit) == ("bob", 5)
    await store.revoke("bob")
    with pytest.raises(KeyNeeded):
        await gateway(node, store, open_limit=7).holder(token, "192.0.2.1")


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
    first = asyncio.create_task(here.ask(ANN, 1, PICTURE))
    await counted(store)
    with pytest.raises(BalanceTooLow):
        await here.ask(ANN, 1, PICTURE)
    node.hold.set()
    await first
    assert await spent(store) == COST


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
    node.refuses = 3  # the endpoint wants smaller ranges
    paid = await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert paid.request_id == node.mined[0].request.request_id
    assert await here.ask(ANN, 1, PICTURE, idempotency="k") == paid
    assert len(node.mined) == 1
    assert await spent(store) == COST


async def test_given_a_transaction_that_may_be_on_its_way_when_repeated_then_it_waits_for_its_deadline(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.fates = ["lost"]
    here = gateway(node, store)
    with pytest.raises(StillAsking):
        await here.ask(ANN, 1, PICTURE, idempotency="k")
    with pytest.raises(StillAsking):
        await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert node.mined == []
    assert await spent(store) == COST
    node.now = 10**11  # its deadline has passed, so it cannot be mined any more
    await here.ask(ANN, 1, PICTURE, idempotency="k")
    assert len(node.mined) == 1
    assert await spent(store) == COST


async def test_given_a_request_of_somebody_else_about_the_same_when_looked_for_then_it_is_not_taken_for_ours(
    node: Node, store: SqliteGatewayStore
) -> None:
    node.fates = ["lost"]
    here = gateway(node, store)
    with pytest.raises(StillAsking):
        await here.ask(ANN, 1, PICTURE, idempotency="k")
    known = await store.begun(mark(ANN.scope, "k"), 1, PICTURE)
    assert known is not None
    node.mine(PICTURE, known.question.deadline, requester="0x" + "66" * 20)
    node.mine(cid_of(b"another"), known.question.deadline)
    node.mine(PICTURE, known.question.deadline + 1)
    with pytest.raises(StillAsking):
        await here.ask(ANN, 1, PICTURE, idempotency="k")


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
    assert paid.request_id == node.mined[0].request.request_id
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
