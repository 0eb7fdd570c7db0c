"""Random lives of requests, reports and reorgs against the rules that must hold after every one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_store_kit import (
    ANSWER,
    FAR,
    RESULT,
    ManualClock,
    S,
    block,
    receipt,
    report,
    rid,
    seen,
    settled,
    tx,
)

from oracle.domain import TERMINAL, TRANSITIONS, FailureReason, OnChainStatus, RequestStatus
from oracle.errors import IllegalTransition, StoreError
from oracle.ports import Move, RequestRow
from oracle.store import SqliteRequestStore
from oracle.store.journal import SETTLED_AS

pytestmark = pytest.mark.unit

T = TypeVar("T")
REQUESTS = st.integers(min_value=0, max_value=7)
SOME = st.lists(REQUESTS, unique=True, min_size=1, max_size=5)
STATUS = st.sampled_from(list(RequestStatus))
OUTCOME = st.sampled_from(
    [OnChainStatus.FULFILLED, OnChainStatus.FAILED, OnChainStatus.REFUNDED, OnChainStatus.CANCELLED]
)
HELD = {
    S.COMPUTED: {"result_cid": RESULT, "answer": ANSWER},
    S.FAILED: {"failure": FailureReason.COMPUTE_FAILED},
}
# The moves that only the chain or a report makes; the pipeline asks for none of them.
BY_THE_STORE = TERMINAL | {S.ORPHANED, S.SEEN, S.POSTING}


class StoreMachine(RuleBasedStateMachine):
    """The machine keeps an honest chain, requests and settlements by block, that the store must follow."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.store = SqliteRequestStore(":memory:", now=self.clock)
        self.height = 0
        self.branch = 0
        self.known: set[int] = set()
        self.mined: dict[int, int] = {}  # request -> block on the present branch
        self.ended: dict[int, tuple[int, OnChainStatus]] = {}  # request -> block and outcome on the present branch
        self.reports = 0
        self.nonce = 0
        self.open: dict[int, tuple[int, tuple[int, ...]]] = {}  # report -> nonce, requests
        self.closed: dict[int, tuple[int, tuple[int, ...], int]] = {}  # report -> nonce, requests, block of the nonce
        self.batches = 0

    @initialize()
    def begin_with_work_done(self) -> None:
        self.scan(list(range(6)), [], OnChainStatus.FULFILLED, False)
        self.confirm(0)
        self.compute([0, 1, 2, 3])

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        self.clock.now += 1.0
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.every_timeline_is_a_legal_walk_to_the_present_status()
        self.run(self.store.close())
        self.loop.close()

    def status(self, number: int) -> RequestStatus | None:
        row = self.run(self.store.get(rid(number)))
        return None if row is None else row.status

    # -- the chain ------------------------------------------------------------------------------------------------

    @rule(numbers=SOME, ends=SOME, outcome=OUTCOME, again=st.booleans())
    def scan(self, numbers: list[int], ends: list[int], outcome: OnChainStatus, again: bool) -> None:
        self.height += 1
        here = block(self.height, self.branch)
        new = [n for n in numbers if n not in self.mined]
        self.mined.update(dict.fromkeys(new, self.height))
        over = [n for n in ends if n in self.mined and n not in self.ended and n % 2]
        self.ended.update(dict.fromkeys(over, (self.height, outcome)))
        deadline = int(self.clock.now) + 15
        events = [seen(n, here, FAR if n < 4 else deadline) for n in new]
        events += [settled(n, here, outcome) for n in over]
        for _ in range(1 + again):
            self.run(self.store.commit_scan(events, [here], here))
        self.known.update(new)

    @rule(depth=st.integers(min_value=1, max_value=6))
    def reorganise(self, depth: int) -> None:
        fork = max(0, self.height - depth)
        base = None if fork == 0 else self.run(self.store.scanned_block(fork))
        self.run(self.store.roll_back(base))
        self.height = fork
        self.branch = (self.branch + 1) % 250
        self.mined = {n: at for n, at in self.mined.items() if at <= fork}
        self.ended = {n: end for n, end in self.ended.items() if end[0] <= fork}
        # Reports whose receipt is gone may be mined again, and so may those they replaced or were replaced by.
        again = {number: (nonce, carried) for number, (nonce, carried, at) in self.closed.items() if at > fork}
        self.open.update(again)
        self.closed = {number: entry for number, entry in self.closed.items() if number not in again}

    @rule(back=st.integers(min_value=0, max_value=3))
    def confirm(self, back: int) -> None:
        self.run(self.store.confirm(self.height - back))

    # -- the pipeline ---------------------------------------------------------------------------------------------

    @rule(numbers=SOME, origin=STATUS, to=STATUS)
    def move(self, numbers: list[int], origin: RequestStatus, to: RequestStatus) -> None:
        if to in BY_THE_STORE or origin in BY_THE_STORE:
            return
        moves = [Move(rid(n), to, **HELD.get(to, {})) for n in numbers]  # type: ignore[arg-type]
        before = [self.status(n) for n in numbers]
        try:
            moved = self.run(self.store.move(moves, expected=[origin]))
        except IllegalTransition:
            assert to not in TRANSITIONS[origin]
            assert [self.status(n) for n in numbers] == before
            return
        assert moved == before.count(origin)
        assert moved == 0 or to in TRANSITIONS[origin]

    @rule(numbers=SOME)
    def compute(self, numbers: list[int]) -> None:
        self.run(self.store.move([Move(rid(n), S.READY) for n in numbers], expected=[S.CONFIRMED]))
        self.batches += 1
        taken = self.run(self.store.open_batch(f"k{self.batches}", [rid(n) for n in numbers]))
        held = self.run(self.store.open_batches()).get(f"k{self.batches}", [])
        assert {row.request_id for row in held} == set(taken)
        moves = [Move(request_id, S.COMPUTED, **HELD[S.COMPUTED]) for request_id in taken]  # type: ignore[arg-type]
        assert self.run(self.store.move(moves, expected=[S.COMPUTING])) == len(taken)

    @rule()
    def expire(self) -> None:
        carried = {n for _, numbers in self.open.values() for n in numbers}
        before = {n: self.status(n) for n in carried}
        self.run(self.store.expire(self.clock.now))
        assert {n: self.status(n) for n in carried} == before

    # -- reports --------------------------------------------------------------------------------------------------

    @rule()
    def post(self) -> None:
        rows = self.run(self.store.select([S.COMPUTED, S.FAILED], limit=4))
        if not rows:
            return
        self.nonce += 1
        self.save(self.nonce, tuple(row.request.nonce for row in rows), None)

    def save(self, nonce: int, numbers: tuple[int, ...], replaces: bytes | None) -> None:
        self.reports += 1
        self.run(self.store.save_report(report(self.reports, nonce, numbers), replaces=replaces))
        self.open[self.reports] = (nonce, numbers)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(sorted(self.open)))
        nonce, numbers = self.open[old]
        with pytest.raises(StoreError):
            self.run(self.store.save_report(report(self.reports + 1, nonce, numbers)))
        self.save(nonce, numbers, tx(old))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), works=st.booleans())
    def mine(self, data: st.DataObject, works: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        nonce, numbers = self.open[number]
        self.height += 1
        here = block(self.height, self.branch)
        pending = [n for n in numbers if n in self.mined and n not in self.ended and works]
        skipped = {n: self.ended[n][1] if n in self.ended else OnChainStatus.UNKNOWN for n in numbers if works}
        skipped = {n: status for n, status in skipped.items() if n not in pending}
        failed = [n for n in pending if self.holds_failure(n)]
        fulfilled = [n for n in pending if n not in failed]
        self.ended.update(dict.fromkeys(fulfilled, (self.height, OnChainStatus.FULFILLED)))
        self.ended.update(dict.fromkeys(failed, (self.height, OnChainStatus.FAILED)))
        mined = receipt(number, here, fulfilled, failed, skipped, works, callback_failed=fulfilled[:1])
        first = data.draw(st.booleans())
        if first:
            self.run(self.store.commit_scan(mined.settled, [here], here))
        self.run(self.store.close_report(mined))
        if not first:
            self.run(self.store.commit_scan(mined.settled, [here], here))
        self.closed.update({n: (*entry, self.height) for n, entry in self.open.items() if entry[0] == nonce})
        self.open = {n: entry for n, entry in self.open.items() if entry[0] != nonce}

    def holds_failure(self, number: int) -> bool:
        row = self.run(self.store.get(rid(number)))
        return row is not None and row.failure is not FailureReason.NONE

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        self.run(self.store.abandon_report(tx(number), "foreign"))
        del self.open[number]

    # -- what must always hold ------------------------------------------------------------------------------------

    @invariant()
    def every_rule_holds(self) -> None:
        rows = self.run(self.store.select(list(S)))
        self.no_request_is_lost_and_the_counts_add_up(rows)
        self.the_chain_has_the_last_word(rows)
        self.posting_is_carried_and_what_waits_can_be_posted(rows)

    def no_request_is_lost_and_the_counts_add_up(self, rows: Sequence[RequestRow]) -> None:
        counts = self.run(self.store.counts())
        assert {row.request.nonce for row in rows} == self.known
        assert sum(counts.values()) == len(rows)
        assert all(counts[s] == sum(row.status is s for row in rows) for s in S)

    def the_chain_has_the_last_word(self, rows: Sequence[RequestRow]) -> None:
        for row in rows:
            number = row.request.nonce
            assert (row.status is S.ORPHANED) == (number not in self.mined)
            if number in self.mined:
                end = self.ended.get(number)
                assert (row.status in TERMINAL) == (end is not None)
                assert end is None or row.status is SETTLED_AS[end[1]]

    def posting_is_carried_and_what_waits_can_be_posted(self, rows: Sequence[RequestRow]) -> None:
        stored = self.run(self.store.open_reports())
        assert {s.report.transaction_hash for s in stored} == {tx(n) for n in self.open}
        carried = {n for _, numbers in self.open.values() for n in numbers}
        for row in rows:
            if row.status in (S.POSTING, S.COMPUTED, S.FAILED):
                assert (row.result_cid is None) != (row.failure is FailureReason.NONE)
            if row.status is S.POSTING:
                assert row.request.nonce in carried
                assert row.transaction_hash is not None

    def every_timeline_is_a_legal_walk_to_the_present_status(self) -> None:
        for row in self.run(self.store.select(list(S))):
            line = self.run(self.store.timeline(row.request_id))
            walk = [to for to, _, _ in line]
            assert walk[0] is S.SEEN
            assert walk[-1] is row.status
            assert all(b in TRANSITIONS[a] for a, b in pairwise(walk))
            assert [at for _, at, _ in line] == sorted(at for _, at, _ in line)
            alone = self.run(self.store.get(row.request_id))
            assert alone is not None
            assert alone.times == {to: min(at for t, at, _ in line if t is to) for to in set(walk)}


TestStoreMachine = StoreMachine.TestCase
# No shrinking: it can outlast the test's time limit, and the steps of a failure read well as they are.
TestStoreMachine.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, phases=[Phase.reuse, Phase.generate]
)
