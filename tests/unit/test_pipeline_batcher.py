"""When a batch closes: full, bytes, slack, idle, alone, urgent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.domain import Cid, ImageFacts, InferenceRequest, RequestStatus
from oracle.pipeline.batcher import BatchLimits, PlannedBatch, plan_batches
from oracle.ports import RequestRow
from oracle.settings import Settings

pytestmark = pytest.mark.unit

NOW = 1_000_000.0
FAR = int(NOW) + 3600
LIMITS = BatchLimits(items=16, payload=64 * 1024 * 1024, linger=0.05, slack=30.0)


def row(number: int, *, model: int = 1, size: int = 100, deadline: int = FAR, attempts: int = 0) -> RequestRow:
    request = InferenceRequest(
        request_id=number.to_bytes(32, "big"),
        model_id=model,
        requester="0x" + "11" * 20,
        image_cid=Cid(b"\x01\x55\x12\x20" + number.to_bytes(32, "big")),
        payment=1,
        callback_gas=0,
        deadline=deadline,
        nonce=number,
        created_at=int(NOW),
    )
    return RequestRow(request, RequestStatus.READY, block=1, attempts=attempts, image=ImageFacts("PNG", 28, 28, size))


def plan(
    rows: list[RequestRow], *, idle: bool, coming: dict[int, int] | None = None, waited: float = 0.0, slots: int = 100
) -> list[PlannedBatch]:
    return plan_batches(rows, now=NOW, slots=slots, idle=idle, coming=coming or {}, waited=waited, limits=LIMITS)


def test_given_a_busy_backend_when_fewer_than_sixteen_wait_then_no_batch_closes() -> None:
    assert plan([row(n) for n in range(15)], idle=False) == []


def test_given_a_busy_backend_when_sixteen_of_one_model_wait_then_they_close_as_full() -> None:
    (batch,) = plan([row(n) for n in range(20)], idle=False)
    assert (len(batch.rows), batch.cause) == (16, "full")


def test_given_two_models_when_a_batch_closes_then_it_holds_one_model_only() -> None:
    batches = plan([row(n, model=1 + n % 2) for n in range(20)], idle=True)
    assert sorted(len(batch.rows) for batch in batches) == [10, 10]
    for batch in batches:
        assert {member.request.model_id for member in batch.rows} == {batch.model_id}


def test_given_big_pictures_when_the_next_would_pass_64_mib_then_the_batch_closes_before_it() -> None:
    mib = 1024 * 1024
    (batch,) = plan([row(n, size=16 * mib) for n in range(5)], idle=False)
    assert (len(batch.rows), batch.cause) == (4, "bytes")


def test_given_an_idle_backend_when_one_request_waits_alone_then_it_leaves_at_once() -> None:
    (batch,) = plan([row(1)], idle=True)
    assert (len(batch.rows), batch.cause) == (1, "idle")


def test_given_an_idle_backend_when_company_is_in_intake_then_it_is_waited_for_but_not_longer_than_the_linger() -> None:
    assert plan([row(1)], idle=True, coming={1: 3}) == []
    assert len(plan([row(1)], idle=True, coming={1: 3}, waited=LIMITS.linger)) == 1


def test_given_company_of_another_model_only_when_the_backend_is_idle_then_nobody_waits() -> None:
    assert len(plan([row(1, model=1)], idle=True, coming={2: 9})) == 1


def test_given_a_busy_backend_when_the_oldest_members_slack_runs_out_then_the_batch_closes() -> None:
    (batch,) = plan([row(1, deadline=int(NOW + 29)), row(2)], idle=False)
    assert (len(batch.rows), batch.cause) == (2, "slack")


def test_given_a_request_whose_batch_failed_when_planned_again_then_it_runs_alone() -> None:
    batches = plan([row(1, attempts=1), row(2), row(3)], idle=True)
    assert sorted((len(batch.rows), batch.cause) for batch in batches) == [(1, "alone"), (2, "idle")]


def test_given_few_slots_when_many_batches_could_close_then_the_most_urgent_go_first() -> None:
    rows = [row(1, model=1), row(2, model=2, deadline=FAR - 1000), row(3, model=3, deadline=FAR - 500)]
    assert [batch.model_id for batch in plan(rows, idle=True, slots=2)] == [2, 3]


def test_given_a_request_whose_deadline_is_very_near_when_planned_then_it_runs_alone_and_first() -> None:
    near = row(1, deadline=int(NOW + 10))
    batches = plan([near, row(2), row(3)], idle=True)
    assert [(len(batch.rows), batch.cause) for batch in batches] == [(1, "urgent"), (2, "idle")]


def test_given_more_requests_with_near_deadlines_than_places_when_planned_then_they_share_batches_with_the_rest() -> (
    None
):
    near = [row(n, deadline=int(NOW + 1 + n)) for n in range(3)]
    (batch,) = plan([*near, row(3), row(4)], idle=False, slots=2)
    assert ([member.request.nonce for member in batch.rows], batch.cause) == ([0, 1, 2, 3, 4], "slack")


def test_given_as_many_places_as_near_deadlines_when_planned_then_each_of_them_still_runs_alone() -> None:
    near = [row(n, deadline=int(NOW + 1 + n)) for n in range(2)]
    batches = plan([*near, row(2)], idle=False, slots=2)
    assert [(len(batch.rows), batch.cause) for batch in batches] == [(1, "urgent"), (1, "urgent")]


MIB = 1024 * 1024
WAITING = st.lists(
    st.tuples(
        st.integers(1, 3),  # model
        st.one_of(
            st.integers(1, 16 * MIB), st.integers(1, 100 * MIB)
        ),  # bytes; beyond 64 MiB no intake would let through
        st.one_of(st.integers(-20, 60), st.integers(60, 4000)),  # seconds to the deadline
        st.sampled_from([0, 0, 0, 1, 2]),  # attempts
    ),
    max_size=100,
).map(
    lambda shapes: sorted(
        (
            row(n, model=model, size=size, deadline=int(NOW) + left, attempts=attempts)
            for n, (model, size, left, attempts) in enumerate(shapes)
        ),
        key=lambda waiting: waiting.request.deadline,
    )
)
COMING = st.dictionaries(st.integers(1, 3), st.integers(0, 5))


@given(WAITING, st.integers(0, 40), st.booleans(), COMING, st.floats(0, 1))
def test_whatever_waits_no_batch_breaks_a_limit_and_no_request_is_in_two(
    rows: list[RequestRow], slots: int, idle: bool, coming: dict[int, int], waited: float
) -> None:
    batches = plan(rows, slots=slots, idle=idle, coming=coming, waited=waited)
    members = [member.request_id for batch in batches for member in batch.rows]
    assert len(batches) <= slots
    assert len(members) == len(set(members))
    assert set(members) <= {waiting.request_id for waiting in rows}
    for batch in batches:
        assert 1 <= len(batch.rows) <= LIMITS.items
        assert {member.request.model_id for member in batch.rows} == {batch.model_id}
        assert len(batch.rows) == 1 or sum(m.image.size for m in batch.rows if m.image) <= LIMITS.payload


@given(WAITING)
def test_whatever_waits_when_the_backend_is_idle_and_has_places_for_all_then_nobody_is_left_behind(
    rows: list[RequestRow],
) -> None:
    batches = plan(rows, slots=len(rows), idle=True)
    assert sorted(member.request_id for batch in batches for member in batch.rows) == [
        waiting.request_id for waiting in sorted(rows, key=lambda waiting: waiting.request_id)
    ]


@given(WAITING, st.integers(1, 40))
def test_whatever_waits_when_the_backend_is_idle_then_the_most_urgent_start_first(
    rows: list[RequestRow], slots: int
) -> None:
    batches = plan(rows, slots=slots, idle=True)
    first = [min(member.request.deadline for member in batch.rows) for batch in batches]
    assert first == sorted(first)
    started = {member.request_id for batch in batches for member in batch.rows}
    left = [waiting.request.deadline for waiting in rows if waiting.request_id not in started]
    if left:
        assert len(batches) == slots
        assert first[-1] <= min(left)


@given(WAITING, st.integers(1, 40), st.booleans())
def test_whatever_waits_no_untried_request_overtakes_a_more_urgent_one_of_its_model(
    rows: list[RequestRow], slots: int, idle: bool
) -> None:
    batches = plan(rows, slots=slots, idle=idle)
    started = {member.request_id for batch in batches for member in batch.rows}
    for model in (1, 2, 3):
        untried = [waiting for waiting in rows if waiting.request.model_id == model and not waiting.attempts]
        gone = [waiting.request_id in started for waiting in untried]
        assert gone == sorted(gone, reverse=True)


def test_given_the_default_settings_when_intake_takes_the_largest_picture_then_a_batch_can_carry_it() -> None:
    settings = Settings.model_construct()
    assert settings.image_max_bytes <= settings.batch_bytes == LIMITS.payload
    (batch,) = plan([row(1, size=settings.batch_bytes)], idle=True)
    assert len(batch.rows) == 1
