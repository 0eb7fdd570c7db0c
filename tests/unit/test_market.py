"""Prices, standing and reputation of providers, and what an agreement may cost."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from oracle.market import GLM, HALF_LIFE, Agreement, Price, Provider, Standing, Verdict, to_amount, to_glm

pytestmark = pytest.mark.unit

PRICE = Price(start=Decimal("0.01"), second=Decimal("0.0001"), cpu_second=Decimal("0.0002"))
NEW = Provider("0xaa", "oak", PRICE, threads=2, first_seen=0.0, last_seen=0.0)


def test_amounts_are_exact_and_rounded_up() -> None:
    assert to_amount("0.1") == GLM // 10
    assert to_amount("0.0000000000000000001") == 1
    assert to_glm(to_amount("12.5")) == "12.5"
    assert to_glm(GLM) == "1"
    assert PRICE.cost(10, 5) == to_amount("0.012")
    assert PRICE.rate(2) == to_amount("0.0005")


def test_an_agreement_bounds_its_bill_by_our_clock() -> None:
    agreement = Agreement("a", "0xaa", PRICE, threads=2, opened_at=100.0, expires_at=1_600.0)
    assert agreement.most(110.0) == to_amount("0.015")
    ended = dataclasses.replace(agreement, closed_at=104.0)
    assert ended.most(1_000_000.0) == to_amount("0.012")
    # Nothing runs after it has expired, whoever was away meanwhile.
    assert agreement.most(1_000_000.0) == agreement.most(1_600.0)


def test_a_newcomer_is_half_trusted_and_work_makes_it_more() -> None:
    assert NEW.reputation(0.0) == 0.5
    good = NEW
    for _ in range(8):
        good = good.judged(Verdict.GOOD, 0.0)
    assert good.reputation(0.0) == 0.9
    assert not good.blocked(0.0)


def test_failures_block_longer_each_time_and_a_lie_for_a_day() -> None:
    failing = NEW.judged(Verdict.FAILED, 0.0, "lost")
    assert failing.blocked(59.0)
    assert "lost" in failing.blocked(59.0)
    assert not failing.blocked(61.0)
    twice = failing.judged(Verdict.FAILED, 61.0, "lost")
    assert twice.blocked(61.0 + 110.0)
    liar = NEW.judged(Verdict.LIED, 0.0, "contradicted")
    assert liar.blocked(86_399.0)
    assert not liar.blocked(86_401.0)
    assert liar.judged(Verdict.LIED, 86_401.0).blocked(86_401.0 + 1.8 * 86_400.0)
    # A later failure does not cut a block short.
    assert liar.judged(Verdict.FAILED, 10.0).blocked(80_000.0)


def test_a_lie_weighs_as_much_as_ten_failures_and_is_forgotten_in_weeks() -> None:
    liar = NEW.judged(Verdict.LIED, 0.0)
    failed = NEW
    for _ in range(10):
        failed = failed.judged(Verdict.FAILED, 0.0)
    assert liar.reputation(0.0) == pytest.approx(failed.reputation(0.0))
    assert liar.reputation(HALF_LIFE) == pytest.approx(1 / 7)
    assert liar.reputation(20 * HALF_LIFE) == pytest.approx(0.5, abs=0.001)


def test_what_the_operator_says_stands_above_what_happened() -> None:
    liar = NEW.judged(Verdict.LIED, 0.0)
    assert not dataclasses.replace(liar, standing=Standing.TRUSTED).blocked(1.0)
    assert dataclasses.replace(NEW, standing=Standing.BANNED).blocked(1.0) == "banned by the operator"
    assert "AVX" in dataclasses.replace(NEW, avx=False).blocked(1.0)
