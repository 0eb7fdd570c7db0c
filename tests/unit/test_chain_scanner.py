"""The scanner against a chain that mines, reorganises and refuses ranges as told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oracle.chain.scanner import Scanner
from oracle.domain import (
    BlockRef,
    ChainEvent,
    Cid,
    InferenceRequest,
    LogPosition,
    OnChainModel,
    OnChainStatus,
    RequestSeen,
    RequestSettled,
    RequestStatus,
)
from oracle.errors import RpcRangeRefused, RpcUnavailable, StoreMismatch
from oracle.store import SqliteRequestStore

pytestmark = pytest.mark.unit

NOW = 1_700_000_000.0


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class FakeChain:
    """A ChainReader over blocks that a test mines and replaces; every block of a branch has its own hash."""

    def __init__(self) -> None:
        self._made = 0
        self.blocks: list[tuple[BlockRef, list[ChainEvent]]] = []
        self.max_range: int | None = None
        self.ranges: list[tuple[int, int]] = []
        self.blocks_read = 0
        self.during_events: list[object] = []
        self.mine([])

    def mine(self, names: Sequence[str], settled: Sequence[str] = ()) -> BlockRef:
        self._made += 1
        number = len(self.blocks)
        block = BlockRef(number, digest(f"block {number} made {self._made}"), int(NOW) + number)
        events: list[ChainEvent] = []
        for name in names:
            events.append(RequestSeen(a_request(name), LogPosition(block, digest(f"tx {name}"), len(events))))
        for name in settled:
            position = LogPosition(block, digest(f"settle {name}"), len(events))
            events.append(RequestSettled(digest(name), OnChainStatus.REFUNDED, position))
        self.blocks.append((block, events))
        return block

    def drop(self, depth: int) -> None:
        del self.blocks[len(self.blocks) - depth :]

    def canonical(self) -> dict[bytes, BlockRef]:
        return {
            event.request.request_id: block
            for block, events in self.blocks
            for event in events
            if isinstance(event, RequestSeen)
        }

    async def chain_id(self) -> int:
        return 1

    async def head(self) -> BlockRef:
        return self.blocks[-1][0]

    async def block(self, number: int) -> BlockRef | None:
        self.blocks_read += 1
        return self.blocks[number][0] if number < len(self.blocks) else None

    async def events(self, first: int, last: int) -> Sequence[ChainEvent]:
        self.ranges.append((first, last))
        if self.max_range is not None and last - first + 1 > self.max_range:
            raise RpcRangeRefused("query returned more than 10000 results")
        found = [event for _, events in self.blocks[first : last + 1] for event in events]
        if self.during_events:
            action = self.during_events.pop(0)
            assert callable(action)
            action()
        return found

    async def model(self, model_id: int) -> OnChainModel | None:
        return None


def a_request(name: str) -> InferenceRequest:
    image = Cid(b"\x01\x55\x12\x20" + digest(f"image {name}"))
    return InferenceRequest(digest(name), 1, "0x" + "11" * 20, image, 10**15, 0, 2_000_000_000, 0, 1_700_000_000)


async def catch_up(scanner: Scanner) -> int:
    steps = 0
    while await scanner.step():
        steps += 1
        assert steps < 500, "the scanner never comes to rest"
    return steps


async def status(store: SqliteRequestStore, name: str) -> RequestStatus | None:
    row = await store.get(digest(name))
    return None if row is None else row.status


@pytest.fixture
def chain() -> FakeChain:
    return FakeChain()


@pytest.fixture
async def store() -> SqliteRequestStore:
    opened = SqliteRequestStore(":memory:")
    yield opened
    await opened.close()


async def test_requests_are_stored_and_confirmed_at_their_depth(chain: FakeChain, store: SqliteRequestStore) -> None:
    scanner = Scanner(chain, store, confirmations=3)
    chain.mine(["a"])
    chain.mine(["b"])
    await catch_up(scanner)
    assert await status(store, "a") is RequestStatus.SEEN

    chain.mine([])
    await catch_up(scanner)
    assert await status(store, "a") is RequestStatus.CONFIRMED
    assert await status(store, "b") is RequestStatus.SEEN


async def test_one_confirmation_means_in_a_block(chain: FakeChain, store: SqliteRequestStore) -> None:
    chain.mine(["a"])
    await catch_up(Scanner(chain, store, confirmations=1))
    assert await status(store, "a") is RequestStatus.CONFIRMED


async def test_a_quiet_chain_costs_one_call_a_step(chain: FakeChain, store: SqliteRequestStore) -> None:
    scanner = Scanner(chain, store, confirmations=1)
    chain.mine(["a"])
    await catch_up(scanner)
    chain.ranges.clear()
    chain.blocks_read = 0
    for _ in range(5):
        assert not await scanner.step()
    assert chain.ranges == []
    assert chain.blocks_read == 0


async def test_the_scan_never_passes_the_head_and_reads_each_block_once(
    chain: FakeChain, store: SqliteRequestStore
) -> None:
    for _ in range(24):
        chain.mine([])
    await catch_up(Scanner(chain, store, confirmations=1, span=10))
    assert chain.ranges == [(0, 9), (10, 19), (20, 24)]
    assert await store.checkpoint() == await chain.head()


async def test_the_range_halves_when_refused_and_grows_again(chain: FakeChain, store: SqliteRequestStore) -> None:
    for i in range(200):
        chain.mine([f"r{i}"])
    chain.max_range = 10
    scanner = Scanner(chain, store, confirmations=1, span=64)
    await scanner.step()
    assert chain.ranges == [(0, 63), (0, 31), (0, 15), (0, 7)]
    chain.max_range = None
    await catch_up(scanner)
    sizes = [last - first + 1 for first, last in chain.ranges[4:]]
    assert sizes == sorted(sizes[:-1]) + sizes[-1:], "ranges grow until the last, which the head cuts"
    assert max(sizes) > 16
    assert len(await store.select([RequestStatus.CONFIRMED])) == 200


async def test_a_single_block_that_is_refused_is_an_error(chain: FakeChain, store: SqliteRequestStore) -> None:
    for _ in range(5):
        chain.mine([])
    chain.max_range = 0
    with pytest.raises(RpcRangeRefused):
        await Scanner(chain, store, confirmations=1).step()
    assert await store.checkpoint() is None


@pytest.mark.parametrize("depth", [1, 2, 5, 17])
async def test_a_reorg_orphans_what_vanished_and_keeps_what_came_back(
    chain: FakeChain, store: SqliteRequestStore, depth: int
) -> None:
    for _ in range(20):
        chain.mine([])
    chain.drop(depth)
    chain.mine(["vanishes", "comes back"])
    for _ in range(depth - 1):
        chain.mine([])
    scanner = Scanner(chain, store, confirmations=1)
    await catch_up(scanner)
    assert await status(store, "vanishes") is RequestStatus.CONFIRMED

    chain.drop(depth)
    for _ in range(depth):
        chain.mine([])
    chain.mine(["comes back"])
    await catch_up(scanner)
    assert await status(store, "vanishes") is RequestStatus.ORPHANED
    assert await status(store, "comes back") is RequestStatus.CONFIRMED
    row = await store.get(digest("comes back"))
    assert row is not None
    assert row.block == len(chain.blocks) - 1


async def test_a_reorg_above_a_request_leaves_it_alone(chain: FakeChain, store: SqliteRequestStore) -> None:
    chain.mine(["deep"])
    for _ in range(9):
        chain.mine([])
    scanner = Scanner(chain, store, confirmations=1)
    await catch_up(scanner)
    chain.drop(3)
    for _ in range(4):
        chain.mine([])
    await catch_up(scanner)
    assert [step[0] for step in await store.timeline(digest("deep"))] == [RequestStatus.SEEN, RequestStatus.CONFIRMED]


async def test_a_reorg_to_the_same_height_is_noticed(chain: FakeChain, store: SqliteRequestStore) -> None:
    scanner = Scanner(chain, store, confirmations=1)
    chain.mine(["a"])
    await catch_up(scanner)
    chain.drop(1)
    chain.mine(["b"])
    await catch_up(scanner)
    assert await status(store, "a") is RequestStatus.ORPHANED
    assert await status(store, "b") is RequestStatus.CONFIRMED


async def test_a_branch_that_comes_back_is_scanned_again(chain: FakeChain, store: SqliteRequestStore) -> None:
    scanner = Scanner(chain, store, confirmations=1)
    chain.mine([])
    chain.mine(["a"])
    await catch_up(scanner)
    branch = chain.blocks[-1:]
    chain.drop(1)
    chain.mine(["b"])
    await scanner.step()
    chain.drop(1)
    chain.blocks += branch
    await catch_up(scanner)
    assert await status(store, "a") is RequestStatus.CONFIRMED
    assert await store.checkpoint() == branch[0][0]


async def test_a_node_that_lags_undoes_nothing(chain: FakeChain, store: SqliteRequestStore) -> None:
    scanner = Scanner(chain, store, confirmations=1)
    for i in range(6):
        chain.mine([f"r{i}"])
    await catch_up(scanner)
    newest = chain.blocks[-2:]
    chain.drop(2)
    assert not await scanner.step()
    chain.blocks += newest
    await catch_up(scanner)
    assert len(await store.select([RequestStatus.CONFIRMED])) == 6


async def test_logs_read_while_the_chain_moves_are_not_kept(chain: FakeChain, store: SqliteRequestStore) -> None:
    scanner = Scanner(chain, store, confirmations=1)
    chain.mine(["gone"])

    def reorganise() -> None:
        chain.drop(1)
        chain.mine(["stays"])

    chain.during_events.append(reorganise)
    assert not await scanner.step()
    assert await status(store, "gone") is None
    await catch_up(scanner)
    assert await status(store, "stays") is RequestStatus.CONFIRMED


async def test_a_reorg_below_the_range_while_it_is_read_is_noticed(chain: FakeChain, store: SqliteRequestStore) -> None:
    """The range's own end is stable between its two readings, but it no longer sits on what was scanned before."""
    scanner = Scanner(chain, store, confirmations=1, span=3)
    for i in range(3):
        chain.mine([f"old{i}"])
    await catch_up(scanner)
    chain.drop(2)
    for i in range(6):
        chain.mine([f"new{i}"])
    await catch_up(scanner)
    assert {name for name in ("old1", "old2") if await status(store, name) is RequestStatus.ORPHANED} == {
        "old1",
        "old2",
    }
    assert len(await store.select([RequestStatus.CONFIRMED])) == 7


async def test_a_chain_replaced_below_the_first_scanned_block_is_a_mismatch(
    chain: FakeChain, store: SqliteRequestStore
) -> None:
    for _ in range(10):
        chain.mine([])
    await catch_up(Scanner(chain, store, confirmations=1, start_block=5))
    assert chain.ranges == [(5, 10)]
    chain.drop(8)
    for _ in range(9):
        chain.mine([])
    with pytest.raises(StoreMismatch) as caught:
        await Scanner(chain, store, confirmations=1, start_block=5).step()
    assert "new database" in caught.value.remedy


async def test_another_genesis_is_a_mismatch_even_while_it_is_shorter(
    chain: FakeChain, store: SqliteRequestStore
) -> None:
    for _ in range(10):
        chain.mine([])
    await catch_up(Scanner(chain, store, confirmations=1))
    other = FakeChain()
    other.blocks = []
    other._made = 1_000
    other.mine([])
    with pytest.raises(StoreMismatch):
        await Scanner(other, store, confirmations=1).step()


async def test_a_deep_reorg_of_a_long_chain_takes_few_calls(chain: FakeChain, store: SqliteRequestStore) -> None:
    for i in range(600):
        chain.mine([f"r{i}"])
    scanner = Scanner(chain, store, confirmations=1)
    await catch_up(scanner)
    chain.drop(300)
    for _ in range(301):
        chain.mine([])
    chain.blocks_read = 0
    await scanner.step()
    assert chain.blocks_read < 40
    fork = await store.checkpoint()
    assert fork is not None
    assert fork.number == 300


async def test_nothing_is_committed_when_the_endpoint_fails(chain: FakeChain, store: SqliteRequestStore) -> None:
    def fail() -> None:
        raise RpcUnavailable("no answer")

    chain.mine(["a"])
    chain.during_events.append(fail)
    with pytest.raises(RpcUnavailable):
        await Scanner(chain, store, confirmations=1).step()
    assert await store.checkpoint() is None
    assert await store.counts() == dict.fromkeys(RequestStatus, 0) or not any((await store.counts()).values())


async def test_a_start_block_in_the_future_waits(chain: FakeChain, store: SqliteRequestStore) -> None:
    assert not await Scanner(chain, store, confirmations=1, start_block=50).step()
    assert chain.ranges == []


class ReorgMachine(RuleBasedStateMachine):
    """Whatever is mined, reorganised and scanned in whatever order: a scan to the end equals the canonical chain."""

    @initialize(confirmations=st.integers(1, 4), span=st.sampled_from([1, 2, 5, 100]))
    def begin(self, confirmations: int, span: int) -> None:
        self.runner = asyncio.Runner()
        self.chain = FakeChain()
        self.store = SqliteRequestStore(":memory:")
        self.confirmations = confirmations
        self.scanner = Scanner(self.chain, self.store, confirmations=confirmations, span=span)
        self.names = 0
        self.longest = 1

    def fresh_name(self) -> str:
        self.names += 1
        return f"request {self.names}"

    @rule(blocks=st.lists(st.integers(0, 2), min_size=1, max_size=6))
    def mine(self, blocks: list[int]) -> None:
        for count in blocks:
            self.chain.mine([self.fresh_name() for _ in range(count)])
        self.longest = max(self.longest, len(self.chain.blocks))

    @rule(depth=st.integers(1, 12), keep=st.integers(0, 3), longer=st.integers(0, 3))
    def reorganise(self, depth: int, keep: int, longer: int) -> None:
        depth = min(depth, len(self.chain.blocks) - 1)
        if depth == 0:
            return
        vanished = [
            name
            for name in (f"request {i}" for i in range(1, self.names + 1))
            if (block := self.chain.canonical().get(digest(name))) and block.number >= len(self.chain.blocks) - depth
        ]
        self.chain.drop(depth)
        self.chain.mine(vanished[:keep])
        while len(self.chain.blocks) < self.longest + longer:
            self.chain.mine([])
        self.longest = len(self.chain.blocks)

    @rule(limit=st.sampled_from([None, 1, 3]))
    def limit_ranges(self, limit: int | None) -> None:
        self.chain.max_range = limit

    @rule(steps=st.integers(1, 3))
    def scan_a_little(self, steps: int) -> None:
        for _ in range(steps):
            self.runner.run(self.scanner.step())

    @rule()
    def reorganise_during_a_scan(self) -> None:
        self.chain.during_events.append(lambda: self.reorganise(2, 1, 1))
        self.runner.run(self.scanner.step())
        self.chain.during_events.clear()

    @rule()
    def restart(self) -> None:
        self.scanner = Scanner(self.chain, self.store, confirmations=self.confirmations, span=3)

    @rule()
    def scan_to_the_end(self) -> None:
        self.runner.run(catch_up(self.scanner))
        canonical = self.chain.canonical()
        head = self.chain.blocks[-1][0].number
        for i in range(1, self.names + 1):
            row = self.runner.run(self.store.get(digest(f"request {i}")))
            block = canonical.get(digest(f"request {i}"))
            if block is None:
                assert row is None or row.status is RequestStatus.ORPHANED
                continue
            assert row is not None
            assert row.block == block.number
            deep = head - block.number + 1 >= self.confirmations
            assert row.status is (RequestStatus.CONFIRMED if deep else RequestStatus.SEEN)
        assert self.runner.run(self.store.checkpoint()) == self.chain.blocks[-1][0]

    @invariant()
    def never_past_the_head(self) -> None:
        assert all(last < max(self.longest, len(self.chain.blocks)) for _, last in self.chain.ranges)

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.scan_to_the_end()
            self.runner.run(self.store.close())
            self.runner.close()


TestReorgMachine = ReorgMachine.TestCase
TestReorgMachine.settings = settings(
    max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
