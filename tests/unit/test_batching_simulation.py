"""The simulation behind ``make bench-batching``: it loses nobody, repeats itself, and shows what batches are for."""

from __future__ import annotations

import pytest

from tests.benchmarks.batching import MARGIN, SCHEDULES, simulate

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", SCHEDULES)
def test_given_requests_when_a_schedule_has_run_then_each_came_to_one_end_and_a_second_run_is_the_same(
    name: str,
) -> None:
    first = simulate(name, 2.0, 300.0, 3, seed=5)  # raises when a request is lost
    assert first["requests"] > 500
    assert simulate(name, 2.0, 300.0, 3, seed=5) == first


def test_given_a_quiet_hour_when_simulated_then_nobody_waits_for_company_and_the_fixed_schedule_takes_minutes() -> None:
    ours, cron = (simulate(name, 0.1, 3600.0, 3, seed=5) for name in ("ours", "cron"))
    assert ours["p50_s"] < 5 < 100 < cron["p50_s"]
    assert ours["missed_share"] == 0 < cron["missed_share"]


def test_given_too_many_requests_to_do_one_by_one_when_simulated_then_batches_grow_and_none_is_missed() -> None:
    ours, none = (simulate(name, 10.0, 900.0, 3, seed=5) for name in ("ours", "none"))
    assert ours["batch"] > 5
    assert ours["missed_share"] == 0 < none["missed_share"]
    assert ours["cost"] < none["cost"] / 3


@pytest.mark.parametrize("rate", [4.0, 10.0])
def test_given_a_backlog_as_old_as_its_deadlines_when_providers_come_back_then_the_oracle_catches_up(
    rate: float,
) -> None:
    late = simulate("ours", rate, 3600.0, 3, seed=5, shut=700.0, lives={600: 1}, tell_from=2400.0)
    assert late["missed_share"] == 0
    assert late["p50_s"] < 4 * MARGIN


def test_given_deadlines_a_minute_away_when_providers_are_busy_then_batches_stay_full_and_none_is_missed() -> None:
    hasty = simulate("ours", 12.0, 900.0, 3, seed=5, lives={60: 5, 600: 2, 3600: 3})
    assert hasty["missed_share"] == 0
    assert hasty["batch"] > 5
