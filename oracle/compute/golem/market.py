"""The market: whose offer is taken. Scores by price, measured speed and reputation; remembers every provider seen."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from yapapi.props import com
from yapapi.props.builder import DemandBuilder
from yapapi.rest.market import OfferProposal
from yapapi.rest.payment import DebitNote, Invoice
from yapapi.strategy import SCORE_REJECTED, SCORE_TRUSTED, MarketStrategy

from oracle.compute.golem.terms import GolemTerms
from oracle.market import Price, Provider, Standing, Verdict
from oracle.ports import ProviderLedger
from oracle.telemetry import logger

log = logger("market")

DURATION = "golem.usage.duration_sec"
CPU = "golem.usage.cpu_sec"
LINEAR = f"({com.PRICE_MODEL}={com.PriceModel.LINEAR.value})"
"""The constraint that prices be linear."""

_NAME = "golem.node.id.name"
_THREADS = "golem.inf.cpu.threads"
_UNKNOWN_SPEED = 1.0  # images a second of a provider that was never measured, relative to the slowest known one
_SPEED_MEMORY = 0.3
_TYPICAL_SECONDS = 60.0
_MOST_THREADS = 1024
OFFER_AGE = 900.0  # seconds for which an offer counts as one


class Market:
    """Every provider known, in memory and in the ledger."""

    def __init__(self, terms: GolemTerms, ledger: ProviderLedger, *, clock: Callable[[], float] = time.time) -> None:
        self._terms, self._ledger, self._now = terms, ledger, clock
        self._known: dict[str, Provider] = {}
        self._unsaved: set[str] = set()
        self.named: frozenset[str] = frozenset()
        """Providers that tasks wait for; they are taken before all others."""

    async def load(self) -> None:
        """Read what earlier runs knew. The operator's lists are those of today's settings."""
        for provider in await self._ledger.providers():
            self._known[provider.node_id] = replace(provider, standing=self._standing(provider.node_id))

    def providers(self) -> Sequence[Provider]:
        """Everybody ever seen, best first."""
        return sorted(self._known.values(), key=lambda provider: -self.score(provider))

    def provider(self, node_id: str) -> Provider | None:
        """One provider."""
        return self._known.get(node_id)

    def expected(self, node_id: str, inputs: int) -> float:
        """Seconds that a provider usually needs for so many inputs; one where its speed is not known."""
        known = self._known.get(node_id)
        return inputs / known.images_per_second if known and known.images_per_second else 1.0

    def find(self, name: str) -> str:
        """The node id of a provider named by its id or, where one alone of those here now bears it, by its name.

        Else the text itself, which is nobody's.
        """
        if name in self._known:
            return name
        named = [provider.node_id for provider in self.fresh() if provider.name == name]
        return named[0] if len(named) == 1 else name

    def fresh(self) -> Sequence[Provider]:
        """The providers whose offers were seen lately, best first."""
        now = self._now()
        return [provider for provider in self.providers() if now - provider.last_seen < OFFER_AGE]

    def seen(self, node_id: str, properties: Mapping[str, Any]) -> Provider | None:
        """Note an offer; None when its price is not one that we understand. Offers come in floods: see ``flush``."""
        price, threads = read_price(properties), read_threads(properties)
        if price is None or threads is None:
            return None
        now = self._now()
        known = self._known.get(node_id) or Provider(
            node_id, "", price, 1, first_seen=now, last_seen=now, standing=self._standing(node_id)
        )
        fresh = replace(
            known,
            name=str(properties.get(_NAME, ""))[:100],
            price=price,
            threads=threads,
            last_seen=now,
        )
        self._known[node_id] = fresh
        self._unsaved.add(node_id)
        return fresh

    async def flush(self) -> None:
        """Write down every offer seen since the last time, in one transaction. Raises StoreError."""
        unsaved, self._unsaved = self._unsaved, set()
        if unsaved:
            try:
                await self._ledger.save_providers([self._known[node_id] for node_id in unsaved])
            except BaseException:
                self._unsaved |= unsaved
                raise

    async def warmed_up(self, node_id: str, facts: Mapping[str, Any]) -> None:
        """Note what a provider's warm-up measured."""
        known = self._known.get(node_id)
        if known is None:
            return
        avx, speed, load = facts.get("avx"), facts.get("images_per_second"), facts.get("load_seconds")
        # What it says of itself counts until its tasks have said more.
        measured = bool(known.good or known.failed or known.lied)
        await self._save(
            replace(
                known,
                avx=avx if isinstance(avx, bool) else known.avx,
                images_per_second=known.images_per_second if measured else _positive(speed, known.images_per_second),
                load_seconds=_positive(load, known.load_seconds),
            )
        )

    async def worked(self, node_id: str, images: int, seconds: float) -> None:
        """Note how long a task took, transfers included; that is what counts from the first task on."""
        known = self._known.get(node_id)
        if known is None or seconds <= 0:
            return
        speed = images / seconds
        before = known.images_per_second
        await self._save(
            replace(known, images_per_second=before + _SPEED_MEMORY * (speed - before) if before else speed)
        )

    async def judge(self, node_id: str, verdict: Verdict, detail: str = "") -> None:
        """Note what a task said about its provider."""
        known = self._known.get(node_id)
        if known is None:
            return
        if verdict is not Verdict.GOOD:
            log.warning("provider %s %s: %s", known.name or node_id, verdict.value, detail)
        await self._save(known.judged(verdict, self._now(), detail))

    def refusal(self, node_id: str) -> str:
        """Why a provider gets no work now, or nothing."""
        known = self._known.get(node_id)
        if known is None:
            return "its offer was never seen"
        return known.blocked(self._now()) or self._too_dear(known.price, known.threads)

    def score(self, provider: Provider) -> float:
        """From 0 to ``SCORE_TRUSTED``: images for a GLM, weighted by reputation; below 0 for one that is refused."""
        if provider.blocked(self._now()) or self._too_dear(provider.price, provider.threads):
            return float(SCORE_REJECTED)
        if provider.node_id in self.named:
            return float(SCORE_TRUSTED)
        speed = provider.images_per_second or self._unknown_speed()
        rate = provider.price.rate(provider.threads) + provider.price.cost(0, 0) / _TYPICAL_SECONDS
        worth = speed / (rate / 1e18 + 1e-6) * provider.reputation(self._now()) ** 2
        return SCORE_TRUSTED * worth / (worth + 1_000.0)

    def _unknown_speed(self) -> float:
        # Newcomers are tried, but not before those who are known to be quick.
        known = [provider.images_per_second for provider in self._known.values() if provider.images_per_second]
        return min(known, default=_UNKNOWN_SPEED)

    def _too_dear(self, price: Price, threads: int) -> str:
        ceiling = self._terms.ceiling
        if price.start > ceiling.start or price.second > ceiling.second or price.cpu_second > ceiling.cpu_second:
            return "its price is above the ceiling"
        if price.rate(threads) > self._terms.budget_batch:
            return "a second of all its processors costs more than a batch may"
        return ""

    def _standing(self, node_id: str) -> Standing:
        if node_id in self._terms.banned:
            return Standing.BANNED
        return Standing.TRUSTED if node_id in self._terms.trusted else Standing.NONE

    async def _save(self, provider: Provider) -> None:
        self._known[provider.node_id] = provider
        await self._ledger.save_providers([provider])


def read_price(properties: Mapping[str, Any]) -> Price | None:
    """The linear price of an offer in GLM, or None for one that asks for something else, or for less than nothing."""
    try:
        linear = com.ComLinear.from_properties(dict(properties))
    except Exception:  # noqa: BLE001 - an offer is a stranger's: whatever is wrong with it, it is no offer
        return None
    rates = dict(linear.price_for)
    second, cpu = rates.pop(DURATION, 0.0), rates.pop(CPU, 0.0)
    prices = (linear.fixed_price, second, cpu)
    if linear.scheme != com.BillingScheme.PAYU or any(rates.values()) or not all(0 <= price < 1e9 for price in prices):
        return None
    return Price(*(Decimal(str(price)) for price in prices))


def read_threads(properties: Mapping[str, Any]) -> int | None:
    """The processors that an offer's activity may keep busy, or None for a number that no machine has."""
    threads = properties.get(_THREADS, 1)
    return threads if type(threads) is int and 0 < threads <= _MOST_THREADS else None


class SibylStrategy(MarketStrategy):
    """yapapi's view of the market: it asks for a score, and how much of a document is accepted."""

    def __init__(self, market: Market, accepted: Callable[[Invoice | DebitNote], Awaitable[Decimal]]) -> None:
        self._market, self._accepted = market, accepted

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        """Ask for linear prices alone."""
        demand.ensure(LINEAR)

    async def score_offer(self, offer: OfferProposal) -> float:
        """Note the offer, and score it."""
        provider = self._market.seen(offer.issuer, offer.props)
        return float(SCORE_REJECTED) if provider is None else self._market.score(provider)

    async def invoice_accepted_amount(self, invoice: Invoice) -> Decimal:
        """The invoice's amount when it is accepted, else a refusal, which yapapi takes as "leave it alone"."""
        return await self._accepted(invoice)

    async def debit_note_accepted_amount(self, debit_note: DebitNote) -> Decimal:
        """As for an invoice."""
        return await self._accepted(debit_note)


def _positive(value: object, otherwise: float) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 1e-3 <= value <= 1e5
    return float(value) if good else otherwise  # type: ignore[arg-type]
