"""The gateway on a real chain: replaces what is stuck, finds what a kill left, gets back what nobody answered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from oracle import gateway as rooms
from oracle import web
from oracle.api.ports import Holder
from oracle.chain.account import AccountSender
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.rpc import Rpc
from oracle.devnet.chain import Anvil
from oracle.domain import Cid, OnChainStatus, RequestSeen
from oracle.errors import StillAsking
from oracle.gateway import Gateway
from oracle.settings import Settings
from oracle.store import DirectoryWishes
from oracle.store.gateway import SqliteGatewayStore

pytestmark = pytest.mark.integration

PRICE = 10**15
ANN = Holder("ann", 10**18, "key ann")
WAIT = 20.0


def cid(text: str) -> Cid:
    return Cid(b"\x01\x55\x12\x20" + hashlib.sha256(text.encode()).digest())


class Clock:
    """The time of the books."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@dataclass
class World:
    """A chain with a coordinator, a model and the gateway's account, which has ten prices in its balance."""

    anvil: Anvil
    rpc: Rpc
    reader: CoordinatorReader
    file: Path
    clock: Clock

    def gateway(self, *, replace_after: float = 600.0, patience: float = WAIT) -> tuple[Gateway, SqliteGatewayStore]:
        """One as after a start."""
        store = SqliteGatewayStore(self.file, now=self.clock)
        account = self.anvil.accounts[2]
        here = Gateway(
            reader=self.reader,
            sender=AccountSender(self.rpc, account, self.anvil.chain_id, replace_after=replace_after),
            store=store,
            wishes=DirectoryWishes(self.file.parent / "wishes"),
            total_limit=10**18,
            patience=patience,
        )
        return here, store

    async def balance(self) -> int:
        return await self.reader.balance_of(None, self.anvil.accounts[2].address)

    async def asked(self) -> list[RequestSeen]:
        head = await self.reader.head()
        return [event for event in await self.reader.events(0, head.number) if isinstance(event, RequestSeen)]

    async def pending(self) -> list[str]:
        """Hashes of the transactions in the pool; only the gateway sends any."""
        pool = await self.anvil.call("txpool_content")
        return [one["hash"] for of_one in pool["pending"].values() for one in of_one.values()]


async def deploy(anvil: Anvil, rpc: Rpc) -> str:
    """A coordinator with a model, and ten prices in the balance of the gateway's account."""
    owner, payer = (AccountSender(rpc, anvil.accounts[number], anvil.chain_id) for number in (0, 2))
    address = (await owner.deploy_coordinator()).address
    await owner.publish_model(address, cid("manifest"), PRICE)
    await payer.deposit(address, 10 * PRICE)
    return address


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Anvil() as anvil:
        rpc = Rpc(anvil.url)
        reader = CoordinatorReader(rpc, await deploy(anvil, rpc), anvil.chain_id)
        yield World(anvil, rpc, reader, tmp_path / "gateway.sqlite3", Clock())
        await rpc.close()


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT):
        while not await found():  # noqa: ASYNC110 - it is asked of another process
            await asyncio.sleep(0.05)


async def test_given_a_request_that_is_stuck_when_it_is_replaced_then_the_dearer_one_counts_and_is_paid_once(
    world: World,
) -> None:
    here, store = world.gateway(replace_after=0.3)
    await world.anvil.set_automine(False)
    asking = asyncio.create_task(here.ask(ANN, 1, cid("picture"), idempotency="k"))

    async def sent() -> bool:
        return bool(await world.pending())

    await until(sent)
    (first,) = await world.pending()

    async def replaced() -> bool:
        return first not in await world.pending()

    await until(replaced)
    assert len(await world.pending()) == 1  # at the same nonce
    await world.anvil.set_automine(True)
    await world.anvil.mine()
    paid = await asking
    assert "0x" + paid.transaction_hash.hex() != first
    (event,) = await world.asked()
    assert (event.request.request_id, event.position.transaction_hash) == (paid.request_id, paid.transaction_hash)
    assert await world.balance() == 9 * PRICE
    assert await here.ask(ANN, 1, cid("picture"), idempotency="k") == paid
    assert await store.on_their_way() == 0
    await here.close()
    await store.close()


@pytest.mark.parametrize("lost", [False, True])
async def test_given_a_kill_while_a_request_is_stuck_when_the_next_gateway_looks_then_it_is_mined_once(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setattr(rooms, "CLOSE_SECONDS", 0.0)
    await world.anvil.set_automine(False)
    killed, books = world.gateway(patience=0.5)
    with pytest.raises(StillAsking):
        await killed.ask(ANN, 1, cid("picture"), idempotency="k")
    await killed.close()
    await books.close()
    if lost:
        await world.anvil.call("anvil_dropAllTransactions")
        assert await world.pending() == []
    here, store = world.gateway(replace_after=0.3, patience=0.5)
    world.clock.time += 3600
    await here.tidy()
    with pytest.raises(StillAsking):
        await here.begun(ANN, 1, cid("picture"), "k")
    await world.anvil.set_automine(True)
    await world.anvil.mine()

    async def found() -> bool:
        try:
            return await here.begun(ANN, 1, cid("picture"), "k") is not None
        except StillAsking:
            return False

    await until(found)
    assert len(await world.asked()) == 1
    assert await world.balance() == 9 * PRICE
    await here.close()
    await store.close()


async def test_given_a_request_that_was_lost_when_its_deadline_has_passed_then_it_is_asked_anew_and_paid_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "CLOSE_SECONDS", 0.0)
    await world.anvil.set_automine(False)
    killed, books = world.gateway(patience=0.5)
    with pytest.raises(StillAsking):
        await killed.ask(ANN, 1, cid("picture"), idempotency="k")
    await killed.close()
    await books.close()
    await world.anvil.call("anvil_dropAllTransactions")
    await world.anvil.set_automine(True)
    await world.anvil.increase_time(3600)
    here, store = world.gateway()
    await here.ask(ANN, 1, cid("picture"), idempotency="k")
    assert len(await world.asked()) == 1
    assert await world.balance() == 9 * PRICE
    assert await store.on_their_way() == 0
    await here.close()
    await store.close()


async def test_given_two_requests_of_which_one_stays_unanswered_when_looked_after_then_its_money_comes_back(
    world: World,
) -> None:
    here, store = world.gateway()
    first, second = [await here.ask(ANN, 1, cid(name)) for name in ("first", "second")]
    world.clock.time += 10**10
    await here.tidy()
    assert await world.balance() == 8 * PRICE  # there is time to answer yet
    await world.anvil.increase_time(3600)
    await AccountSender(world.rpc, world.anvil.accounts[3], world.anvil.chain_id).refund(
        world.reader.address, first.request_id
    )
    for _ in range(2):
        world.clock.time *= 10
        await here.tidy()
        assert await world.balance() == 10 * PRICE
    assert (await world.reader.request_of(second.request_id)).status is OnChainStatus.REFUNDED
    await here.close()
    await store.close()


async def test_given_a_chain_that_began_anew_when_the_same_is_asked_then_the_old_books_neither_count_nor_answer(
    tmp_path: Path,
) -> None:
    answers = []
    for _ in range(2):
        async with Anvil() as anvil:
            rpc = Rpc(anvil.url)
            settings = Settings(
                rpc_url=anvil.url,
                coordinator=await deploy(anvil, rpc),
                data_dir=tmp_path,
                gateway_key=SecretStr("0x" + bytes(anvil.accounts[2].key).hex()),
                gateway_open=True,
                gateway_open_day=2 * PRICE / 10**18,
                confirmations=1,
            )
            async with web.world(settings) as known:
                assert known.writes is not None
                payer_of = known.writes.payer
                assert payer_of is not None
                holder = await payer_of.holder(None, "192.0.2.1")
                paid = await payer_of.ask(holder, 1, cid("picture"), idempotency="k")
                assert await payer_of.begun(holder, 1, cid("picture"), "k") == paid
                answers.append(paid)
            await rpc.close()
            await asyncio.sleep(1.1)  # a genesis block of the same second is the same block
    assert answers[0].request_id != answers[1].request_id
