"""What is paid for, what is refused, and whose offers are taken."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from oracle.compute.golem import GolemTerms
from oracle.compute.golem.market import Market, read_price
from oracle.compute.golem.payments import DAY, Paymaster
from oracle.market import GLM, Agreement, Decision, DocumentKind, Price, Verdict, Work, to_amount
from oracle.store import SqliteRequestStore

pytestmark = pytest.mark.unit

TERMS = GolemTerms(api_url="http://127.0.0.1:1", app_key="k", payment_network="hoodi", budget_day=GLM)
INVOICE, NOTE = DocumentKind.INVOICE, DocumentKind.DEBIT_NOTE
PRICE = Price(Decimal("0.01"), Decimal("0.001"), Decimal(0))


def offer(start: float = 0.01, second: float = 0.0001, cpu: float = 0.0002, **more: Any) -> dict[str, Any]:
    return {
        "golem.com.scheme": "payu",
        "golem.com.pricing.model": "linear",
        "golem.com.pricing.model.linear.coeffs": [second, cpu, start],
        "golem.com.usage.vector": ["golem.usage.duration_sec", "golem.usage.cpu_sec"],
        "golem.node.id.name": "oak",
        "golem.inf.cpu.threads": 2,
        **more,
    }


@dataclass
class Desk:
    store: SqliteRequestStore
    market: Market
    paymaster: Paymaster
    time: float = 1_000.0

    async def decide(self, name: str, amount: str, kind: DocumentKind = INVOICE) -> tuple[Decision, str]:
        decided = await self.paymaster.decide(kind, name, "agreement", amount)
        return decided.decision, decided.reason

    async def agree(self, name: str = "agreement", **more: Any) -> None:
        await self.paymaster.opened(Agreement(name, "0xaa", PRICE, 1, self.time, self.time + 1_000_000, **more))


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    store = SqliteRequestStore(":memory:")

    def now() -> float:
        return desk.time

    market = Market(TERMS, store.ledger, clock=now)
    desk = Desk(store, market, Paymaster(TERMS, store.ledger, market, clock=now))
    market.seen("0xaa", offer())
    yield desk
    await store.close()


# ------------------------------------------------------------------------------------------------------- payments


async def test_a_bill_for_the_time_there_was_is_accepted_once(desk: Desk) -> None:
    await desk.agree()
    desk.time += 60
    assert await desk.decide("i", "0.07") == (Decision.ACCEPTED, "")
    # The same document again is the same decision, whatever has changed since.
    await desk.paymaster.refuse("agreement", "too late")
    assert await desk.decide("i", "0.07") == (Decision.ACCEPTED, "")


async def test_a_bill_for_more_is_refused_and_its_sender_is_a_liar(desk: Desk) -> None:
    await desk.agree()
    desk.time += 60
    decision, reason = await desk.decide("i", "0.2")
    assert decision is Decision.REFUSED
    assert "bills 0.2 GLM" in reason
    provider = desk.market.provider("0xaa")
    assert provider is not None
    assert provider.lied == 1
    # Nothing else of that agreement is paid either.
    assert (await desk.decide("j", "0.01"))[0] is Decision.REFUSED


async def test_a_closed_agreement_costs_no_more_however_late_the_bill(desk: Desk) -> None:
    await desk.agree()
    desk.time += 10
    await desk.paymaster.closed("agreement", desk.time)
    desk.time += 10_000
    assert (await desk.decide("i", "0.05"))[0] is Decision.REFUSED


@pytest.mark.parametrize("amount", ["NaN", "-1", "1e400000", "a lot", ""])
async def test_an_amount_that_is_no_number_is_refused(desk: Desk, amount: str) -> None:
    await desk.agree()
    assert (await desk.decide("i", amount))[0] is Decision.REFUSED


async def test_a_bill_for_an_agreement_that_nobody_made_is_never_paid(desk: Desk) -> None:
    assert await desk.decide("i", "0.001") == (Decision.DEFERRED, "it is for no agreement of ours")


async def test_debit_notes_are_cumulative_and_the_invoice_includes_them(desk: Desk) -> None:
    await desk.agree()
    desk.time += 900
    assert (await desk.decide("n1", "0.4", NOTE))[0] is Decision.ACCEPTED
    assert (await desk.decide("n2", "0.8", NOTE))[0] is Decision.ACCEPTED
    assert (await desk.decide("i", "0.9"))[0] is Decision.ACCEPTED
    assert await desk.store.ledger.spent(0.0) == to_amount("0.9")


async def test_above_the_cap_of_a_day_a_bill_waits_for_the_next_one(desk: Desk) -> None:
    await desk.agree()
    desk.time += 2_000
    assert (await desk.decide("n", "0.9", NOTE))[0] is Decision.ACCEPTED
    assert await desk.paymaster.exhausted()
    decision, reason = await desk.decide("i", "1.5")
    assert decision is Decision.DEFERRED
    assert "cap of a day" in reason
    desk.time += DAY + 1
    assert (await desk.decide("i", "1.5"))[0] is Decision.ACCEPTED


async def test_running_agreements_count_against_the_cap(desk: Desk) -> None:
    assert not await desk.paymaster.exhausted()
    await desk.agree()
    desk.time += 1_000
    assert "1.01 GLM of 1" in await desk.paymaster.exhausted()


async def test_after_a_lie_nothing_of_the_agreement_is_paid(desk: Desk) -> None:
    await desk.agree()
    desk.time += 60
    await desk.paymaster.refuse("agreement", "a result of it was contradicted")
    assert await desk.decide("i", "0.01") == (Decision.REFUSED, "a result of it was contradicted")


async def test_what_was_paid_is_shared_out_among_models_to_the_last_part(desk: Desk) -> None:
    await desk.agree()
    desk.time += 100
    for name, model, cost in (("t1", "m1", 1), ("t2", "m1", 1), ("t3", "m2", 1)):
        await desk.store.ledger.save_work(Work(name, model, "agreement", "0xaa", 16, 0.0, 1.0, cost, Verdict.GOOD))
    await desk.decide("i", "0.1")
    _, books = await desk.store.books()
    assert books.by_model.keys() == {"m1", "m2"}
    assert books.by_model["m1"][0] == 32
    assert sum(amount for _, amount in books.by_model.values()) == to_amount("0.1")
    assert (books.accepted, books.owed) == (to_amount("0.1"), to_amount("0.1"))
    (invoice,) = await desk.store.ledger.documents(unsettled=True)
    await desk.store.ledger.save_document(dataclasses.replace(invoice, settled=True))
    _, books = await desk.store.books()
    assert (books.accepted, books.owed) == (to_amount("0.1"), 0)


# --------------------------------------------------------------------------------------------------------- market


async def test_the_quicker_the_cheaper_and_the_better_known_one_scores_higher(desk: Desk) -> None:
    market = desk.market
    for name, properties in (("cheap", offer(second=0.00001)), ("dear", offer(second=0.0009))):
        market.seen(name, properties)
    cheap, dear = market.provider("cheap"), market.provider("dear")
    assert cheap is not None
    assert dear is not None
    assert market.score(cheap) > market.score(dear) > 0
    await market.worked("dear", 16, 0.01)
    await market.worked("cheap", 16, 10)
    dear = market.provider("dear")
    assert dear is not None
    assert market.score(dear) > market.score(cheap)
    before = market.score(dear)
    await market.judge("dear", Verdict.GOOD)
    dear = market.provider("dear")
    assert dear is not None
    assert market.score(dear) > before


async def test_who_is_too_dear_or_blocked_gets_no_work(desk: Desk) -> None:
    market = desk.market
    market.seen("dear", offer(second=0.1))
    assert market.refusal("dear") == "its price is above the ceiling"
    assert market.refusal("nobody") == "its offer was never seen"
    assert not market.refusal("0xaa")
    await market.judge("0xaa", Verdict.LIED, "contradicted")
    assert "contradicted" in market.refusal("0xaa")
    provider = market.provider("0xaa")
    assert provider is not None
    assert market.score(provider) < 0


async def test_what_is_known_survives_a_restart_and_the_operator_has_the_last_word(desk: Desk) -> None:
    await desk.market.warmed_up("0xaa", {"avx": True, "images_per_second": 12.5, "load_seconds": "quick"})
    await desk.market.judge("0xaa", Verdict.LIED, "contradicted")
    # From now on what it says of its speed counts no more.
    await desk.market.warmed_up("0xaa", {"avx": True, "images_per_second": 1e5, "load_seconds": 0.1})
    restarted = Market(TERMS, desk.store.ledger, clock=lambda: desk.time)
    await restarted.load()
    assert restarted.refusal("0xaa")
    provider = restarted.provider("0xaa")
    assert provider is not None
    assert (provider.images_per_second, provider.load_seconds, provider.avx) == (12.5, 0.1, True)
    trusting = Market(
        dataclasses.replace(TERMS, trusted=frozenset({"0xaa"})), desk.store.ledger, clock=lambda: desk.time
    )
    await trusting.load()
    assert not trusting.refusal("0xaa")


async def test_a_provider_is_found_by_name_when_one_alone_bears_it(desk: Desk) -> None:
    assert desk.market.find("oak") == "0xaa"
    desk.market.seen("0xbb", offer())
    assert desk.market.find("oak") == "oak"
    assert desk.market.find("0xbb") == "0xbb"


@pytest.mark.parametrize("threads", [2**63, 0, -1, True, "two", 1.5, 1025])
async def test_an_offer_with_a_number_of_processors_that_no_machine_has_is_none(desk: Desk, threads: Any) -> None:
    assert desk.market.seen("0xcc", offer(**{"golem.inf.cpu.threads": threads})) is None
    await desk.market.flush()


async def test_a_provider_whose_processors_together_cost_too_much_gets_no_work(desk: Desk) -> None:
    desk.market.seen("0xcc", offer(cpu=0.002, **{"golem.inf.cpu.threads": 1000}))
    assert "all its processors" in desk.market.refusal("0xcc")


async def test_a_bill_a_little_too_high_is_refused_and_no_lie(desk: Desk) -> None:
    await desk.agree()
    desk.time += 60
    assert (await desk.decide("i", "0.08"))[0] is Decision.REFUSED
    provider = desk.market.provider("0xaa")
    assert provider is not None
    assert (provider.lied, provider.failed) == (0, 1)


async def test_a_lie_and_the_end_of_its_agreement_are_both_written_down(desk: Desk) -> None:
    await desk.agree()
    await asyncio.gather(
        desk.paymaster.refuse("agreement", "contradicted"), desk.paymaster.closed("agreement", desk.time)
    )
    agreement = await desk.store.ledger.agreement("agreement")
    assert agreement is not None
    assert (agreement.refused, agreement.closed_at) == ("contradicted", desk.time)


async def test_what_is_not_billed_yet_counts_against_the_cap(desk: Desk) -> None:
    await desk.agree()
    desk.time += 1_000
    await desk.paymaster.closed("agreement", desk.time)
    assert await desk.paymaster.exhausted()
    desk.time += 3_700
    assert not await desk.paymaster.exhausted()


@pytest.mark.parametrize(
    "properties",
    [
        {},
        offer(start=-0.1),
        offer(second=float("nan")),
        offer(**{"golem.com.pricing.model.linear.coeffs": [0, 0, 0]}),
        offer(**{"golem.com.pricing.model.linear.coeffs": [0.1, 0.1]}),
        offer(**{"golem.com.scheme": "other"}),
        offer(
            **{
                "golem.com.usage.vector": ["golem.usage.duration_sec", "golem.usage.storage_gib"],
                "golem.com.pricing.model.linear.coeffs": [0.1, 0.1, 0.1],
            }
        ),
    ],
)
def test_an_offer_that_asks_for_something_else_is_no_offer(properties: dict[str, Any]) -> None:
    assert read_price(properties) is None


def test_an_offer_is_read_by_its_usage_vector() -> None:
    swapped = offer(**{"golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"]})
    assert read_price(swapped) == Price(Decimal("0.01"), Decimal("0.0002"), Decimal("0.0001"))


def test_the_app_key_is_not_shown() -> None:
    assert "'k'" not in repr(TERMS)
