"""What a provider of the Golem network offers, agrees to, and asks for it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.devnet.golem.agreement import Activity, Agreement, Notebook
from oracle.devnet.golem.negotiation import (
    ACCEPT_TIMEOUT,
    CHOSEN_PLATFORM,
    COEFFICIENTS,
    EXPIRATION,
    NOTE_INTERVAL,
    PAYMENT_TIMEOUT,
    TASK_PACKAGE,
    Counter,
    Rejection,
    offer_constraints,
    offer_properties,
    respond,
)
from oracle.devnet.golem.pricing import Terms, activity_cost, covers, money, read_terms, write_terms
from oracle.errors import ConfigurationError

pytestmark = pytest.mark.unit

PLATFORM = "erc20-hoodi-tglm"
NOW = 1_800_000_000.0
TERMS = Terms(per_second=0.25, per_cpu_second=0.5, start=1.0)
OFFER = offer_properties("ada", "sibyl", PLATFORM, "0xab", TERMS)


def demand(minutes: float = 20, **more: Any) -> dict[str, Any]:
    return {CHOSEN_PLATFORM: PLATFORM, EXPIRATION: int((NOW + minutes * 60) * 1000), ACCEPT_TIMEOUT: 240, **more}


def answer(properties: dict[str, Any], *, busy: bool = False) -> Counter | Rejection:
    return respond(OFFER, properties, now=NOW, busy=busy)


def test_given_terms_when_offered_then_prices_are_floats_in_the_order_of_the_usage_vector() -> None:
    assert OFFER["golem.com.usage.vector"] == ["golem.usage.duration_sec", "golem.usage.cpu_sec"]
    assert json.dumps(OFFER[COEFFICIENTS]) == "[0.25, 0.5, 1.0]"
    assert json.dumps(offer_properties("x", "s", PLATFORM, "0x", Terms(1, 2, 0))[COEFFICIENTS]) == "[1.0, 2.0, 0.0]"
    assert OFFER[f"golem.com.payment.platform.{PLATFORM}.address"] == "0xab"
    assert "(golem.node.debug.subnet=sibyl)" in offer_constraints("sibyl")


def test_given_a_usual_demand_when_answered_then_the_offer_is_repeated_without_what_was_not_taken_up() -> None:
    agreed = answer(demand())
    assert isinstance(agreed, Counter)
    assert agreed.properties == {
        key: value for key, value in OFFER.items() if key not in (NOTE_INTERVAL, PAYMENT_TIMEOUT)
    }


def test_given_negotiable_values_when_in_range_then_they_are_repeated() -> None:
    wanted = {ACCEPT_TIMEOUT: 30, NOTE_INTERVAL: 60, PAYMENT_TIMEOUT: 18000}
    agreed = answer(demand(**wanted))
    assert isinstance(agreed, Counter)
    assert {key: agreed.properties[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({EXPIRATION: int(NOW * 1000) + 10**6}, "No payment platform"),
        (demand(**{CHOSEN_PLATFORM: "erc20-polygon-glm"}), "not accepted"),
        ({CHOSEN_PLATFORM: PLATFORM}, "no expiration"),
        (demand(4.9), "expires in"),
        (demand(**{ACCEPT_TIMEOUT: 241}), "is not from"),
        (demand(**{ACCEPT_TIMEOUT: 4}), "is not from"),
        (demand(**{NOTE_INTERVAL: "often"}), "is not from"),
        (demand(**{COEFFICIENTS: [0.25, 0.4, 1.0]}), "price is too low"),
        (demand(**{COEFFICIENTS: [0.25, 0.5]}), "price is too low"),
    ],
)
def test_given_a_demand_that_cannot_be_met_when_answered_then_it_is_rejected_for_good(
    properties: dict[str, Any], message: str
) -> None:
    rejected = answer(properties)
    assert isinstance(rejected, Rejection)
    assert rejected.final
    assert message in rejected.message


def test_given_a_long_job_when_debit_notes_are_not_promised_then_it_may_ask_again_later() -> None:
    without = demand(31)
    del without[ACCEPT_TIMEOUT]
    for properties in (without, demand(601)):
        rejected = answer(properties)
        assert isinstance(rejected, Rejection)
        assert not rejected.final
    assert isinstance(answer(demand(31)), Counter)


def test_given_a_better_price_when_demanded_then_it_is_taken() -> None:
    agreed = answer(demand(**{COEFFICIENTS: [0.3, 0.5, 1.0]}))
    assert isinstance(agreed, Counter)
    assert agreed.properties[COEFFICIENTS] == [0.3, 0.5, 1.0]


def test_given_an_agreement_when_another_demand_comes_then_there_is_no_room_for_now() -> None:
    rejected = answer(demand(), busy=True)
    assert isinstance(rejected, Rejection)
    assert not rejected.final
    hopeless = answer(demand(1), busy=True)
    assert isinstance(hopeless, Rejection)
    assert hopeless.final


def test_given_usage_when_priced_then_it_is_the_sum_of_the_parts() -> None:
    assert activity_cost([0.25, 0.5, 1.0], (10.0, 2.0)) == Decimal("4.5")
    assert activity_cost([0.1, 0.2, 0.0], (0.3, 0.1)) == Decimal("0.05")
    assert money(activity_cost([1e-9, 0.0, 0.0], (1.0, 0.0))) == "0.000000001"


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.tuples(st.floats(0, 10**6), st.floats(0, 10**6)))
def test_given_any_usage_when_priced_then_it_is_never_more_than_price_times_usage(
    coefficients: list[float], usage: tuple[float, float]
) -> None:
    exact = sum((Decimal(str(a)) * Decimal(str(b)) for a, b in zip(coefficients, usage, strict=False)), Decimal(0))
    cost = activity_cost(coefficients, usage)
    assert 0 <= exact + Decimal(str(coefficients[2])) - cost < Decimal("0.000000001") + Decimal("1e-15")


@pytest.mark.parametrize(
    ("demanded", "covered"),
    [([1.0, 2.0], True), ([1.5, 2.0], True), ([1.0, 1.9], False), ([1.0], False), (None, False), (["1", "2"], False)],
)
def test_given_a_demanded_price_when_compared_then_it_covers_ours_in_every_place(demanded: Any, covered: bool) -> None:
    assert covers(demanded, [1.0, 2.0]) is covered


def test_given_terms_when_written_then_they_are_read_again(tmp_path: Path) -> None:
    terms = {"ada": TERMS, "boole": Terms(speed=0.5, threads=2)}
    write_terms(tmp_path / "terms.json", terms)
    assert read_terms(tmp_path / "terms.json") == terms


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"ada": {"prize": 1}}',
        '{"ada": {"start": "1"}}',
        '{"ada": {"start": -1}}',
        '{"ada": {"speed": 0}}',
        '{"ada": {"threads": 0}}',
        '{"ada": {"debit_note_interval": 0}}',
    ],
)
def test_given_terms_that_make_no_sense_when_read_then_the_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "terms.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"terms\.json") as caught:
        read_terms(tmp_path / "terms.json")
    assert caught.value.remedy


def agreement() -> Agreement:
    offer = {**OFFER, COEFFICIENTS: [0.5, 0.0, 1.0]}
    document = {
        "agreementId": "a1",
        "offer": {"properties": offer},
        "demand": {"properties": demand(**{TASK_PACKAGE: "hash:sha3:ab:http://x"})},
    }
    return Agreement.of(document, TERMS)


def test_given_an_agreement_when_its_activities_have_used_something_then_it_costs_the_sum() -> None:
    made = agreement()
    assert (made.package, made.interval_agreed, made.expires) == ("hash:sha3:ab:http://x", True, NOW + 1200)
    assert made.cost() == 0
    made.activities = {"x": Activity("x", usage=(2.0, 1.0)), "y": Activity("y", usage=(4.0, 9.0))}
    assert made.cost() == Decimal("5")
    assert not made.running


def test_given_a_provider_that_was_killed_when_it_reads_its_notebook_then_it_can_bill_what_was_used(
    tmp_path: Path,
) -> None:
    notebook = Notebook(tmp_path / "agreement.json")
    assert notebook.read() is None
    made = agreement()
    made.activities = {"x": Activity("x", usage=(2.0, 1.0))}
    notebook.write(made)
    found = notebook.read()
    assert found is not None
    assert (found.id, found.cost(), list(found.activities)) == ("a1", Decimal("2"), ["x"])
    notebook.clear()
    assert notebook.read() is None
    (tmp_path / "agreement.json").write_text("{half")
    assert notebook.read() is None
