"""A provider that lives in the double: what it offers, how it deals, what it charges, and what it does wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Protocol

from oracle.devnet.golem.double.activities import Activities
from oracle.devnet.golem.double.exeunit import Activity
from oracle.devnet.golem.double.faults import (
    ENDPOINT_NOT_FOUND,
    Charge,
    Crash,
    Deed,
    Delay,
    DemandPaymentBy,
    Die,
    Ignore,
    Moment,
    Readdress,
    Refuse,
    Reject,
    Script,
    SendTwice,
    TerminateActivity,
    TerminateAgreement,
    Withhold,
)
from oracle.devnet.golem.double.http import Refusal
from oracle.devnet.golem.double.identifiers import Clock, node_id
from oracle.devnet.golem.double.market import Agreement, Market, Proposal, Proposition
from oracle.devnet.golem.double.payments import Payments
from oracle.devnet.golem.double.pulse import Pulse
from oracle.devnet.golem.double.runtime import FakeRuntime, RunHandler
from oracle.devnet.golem.negotiation import (
    COEFFICIENTS,
    NOTE_INTERVAL,
    Counter,
    offer_constraints,
    offer_properties,
    respond,
)
from oracle.devnet.golem.pricing import Terms, activity_cost


class Network(Protocol):
    """What a provider finds when it joins."""

    market: Market
    payments: Payments
    activities: Activities
    clock: Clock
    subnet: str

    @property
    def platform(self) -> str:
        """The payment platform, ``driver-network-token``."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background until the double closes."""
        ...


class ProviderDouble:
    """A provider for tests. It does all it should, but for what ``plan`` says.

    It deals as the providers of the development network do. ``slots``: agreements at a time. ``properties`` override
    those of the offer, also with wrong ones. Seconds: ``invoice_delay`` from an agreement's end to its invoice,
    ``idle_timeout`` until an agreement without activities is broken. ``handler`` runs the commands.
    """

    def __init__(
        self,
        name: str,
        *,
        terms: Terms | None = None,
        slots: int = 1,
        properties: Mapping[str, Any] | None = None,
        handler: RunHandler | None = None,
        invoice_delay: float = 0.1,
        idle_timeout: float = 90.0,
    ) -> None:
        self.name = name
        self.node_id = node_id(name)
        self.terms = terms or Terms()
        self.slots = slots
        self.handler: RunHandler = handler or FakeRuntime()
        self.alive = True
        self._properties = dict(properties or {})
        self._invoice_delay = invoice_delay
        self._idle_timeout = idle_timeout
        self._script = Script(Pulse())
        self._joined: Network | None = None
        self._agreements: dict[str, Agreement] = {}
        self._turned_away: dict[str, Proposal] = {}

    # What a test says --------------------------------------------------------------------------------------------

    def plan(
        self,
        moment: Moment,
        deed: Deed,
        *,
        nth: int = 1,
        times: int = 1,
        matching: Callable[[str], bool] | None = None,
    ) -> None:
        """Do wrong the ``nth`` time from now on that the moment comes, and ``times`` in a row.

        ``matching`` looks at the moment's detail; what it declines is not counted. Raises ValueError when a provider
        cannot do such a thing at such a moment.
        """
        self._script.plan(moment, deed, nth=nth, times=times, matching=matching)

    def happened(self, moment: Moment) -> int:
        """How often the moment came."""
        return self._script.happened[moment]

    async def reached(self, moment: Moment, nth: int = 1, *, seconds: float = 30.0) -> None:
        """Wait until the moment came for the ``nth`` time since the provider was made. Raises TimeoutError."""
        await self._script.reached(moment, nth, seconds)

    async def die(self, symptom: str = ENDPOINT_NOT_FOUND) -> None:
        """Be gone at once: exe-units cannot be reached, nothing is answered, nothing is billed."""
        self.alive = False
        for activity in self._activities():
            await activity.end(lost=symptom)

    def revive(self) -> None:
        """Come back, with nothing left of what was agreed."""
        self.alive = True
        self._agreements.clear()
        self._turned_away.clear()
        self._network.market.withdraw_offer(self)
        self._network.market.list_offer(self)

    async def crash(self, symptom: str = ENDPOINT_NOT_FOUND) -> None:
        """Lose every exe-unit; the agent stays."""
        for activity in self._activities():
            await activity.end(lost=symptom)

    async def terminate_activities(self, reason: str = "Finished", message: str = "terminated by the provider") -> None:
        """End every running activity."""
        for activity in self._activities():
            await activity.end(reason=reason, message=message)
            self._network.spawn(self._close_books(activity))

    def terminate_agreements(self, message: str = "Agreement broken by the provider") -> None:
        """End every agreement."""
        for agreement in list(self._agreements.values()):
            self._network.market.break_agreement(agreement, message)

    def change_terms(self, terms: Terms) -> None:
        """From now on offer at these terms: the old offer is withdrawn, a new one listed."""
        self.terms = terms
        self._network.market.withdraw_offer(self)
        self._network.market.list_offer(self)

    # Market ------------------------------------------------------------------------------------------------------

    def join(self, network: Network) -> None:
        """Become part of a network and list the offer."""
        self._joined = network
        network.market.list_offer(self)

    def offer(self) -> Proposition:
        """What it offers."""
        properties = offer_properties(self.name, self._network.subnet, self._network.platform, self.node_id, self.terms)
        return Proposition({**properties, **self._properties}, offer_constraints(self._network.subnet))

    def hear_proposal(self, proposal: Proposal) -> None:
        """A requestor countered: answer with a draft, or turn it down."""
        self._network.spawn(self._negotiate(proposal))

    def hear_agreement(self, agreement: Agreement) -> None:
        """A requestor wants to sign: approve, or refuse."""
        self._network.spawn(self._sign(agreement))

    def hear_termination(self, agreement: Agreement) -> None:
        """An agreement ended: end its activities, send the invoice, deal anew with who was turned away."""
        self._network.spawn(self._wind_up(agreement))

    async def _negotiate(self, proposal: Proposal) -> None:
        deed = await self._meet(Moment.PROPOSAL, proposal.demand.id)
        if not self.alive or isinstance(deed, Ignore):
            return
        if isinstance(deed, Reject):
            self._network.market.reject_proposal(proposal, deed.message, final=False)
        else:
            self._answer(proposal)

    def _answer(self, proposal: Proposal) -> None:
        offer, busy = self.offer(), len(self._agreements) >= self.slots
        answer = respond(offer.properties, proposal.terms.properties, now=time.time(), busy=busy)
        if isinstance(answer, Counter):
            self._network.market.draft(proposal, Proposition(answer.properties, offer.constraints))
            return
        if not answer.final:
            self._turned_away[proposal.demand.id] = proposal
        self._network.market.reject_proposal(proposal, answer.message, final=answer.final)

    async def _sign(self, agreement: Agreement) -> None:
        deed = await self._meet(Moment.AGREEMENT, agreement.id)
        if not self.alive or isinstance(deed, Ignore):
            return
        if isinstance(deed, Reject):
            self._network.market.reject_agreement(agreement, deed.message)
        elif len(self._agreements) >= self.slots:
            self._network.market.reject_agreement(agreement, "No capacity available")
        else:
            self._agreements[agreement.id] = agreement
            self._network.market.approve(agreement)
            self._network.spawn(self._break_when_idle(agreement))

    async def _break_when_idle(self, agreement: Agreement) -> None:
        before = len(self._network.activities.of(agreement))
        await asyncio.sleep(self._idle_timeout)
        now = self._network.activities.of(agreement)
        if agreement.id in self._agreements and len(now) == before and not any(a.alive for a in now):
            self._network.market.break_agreement(agreement, "No activity created within the idle timeout")

    async def _wind_up(self, agreement: Agreement) -> None:
        if not self.alive:
            return
        self._agreements.pop(agreement.id, None)
        for activity in self._network.activities.of(agreement):
            await self.end_activity(activity)
        if self._network.activities.of(agreement):
            self._network.spawn(self._send_invoice(agreement))
        waiting, self._turned_away = self._turned_away, {}
        for proposal in waiting.values():
            self._answer(proposal)

    # Activities --------------------------------------------------------------------------------------------------

    async def create_activity(self, agreement: Agreement) -> Activity | None:
        """Start an exe-unit; None when it never gets that far. Raises Refusal."""
        deed = await self._meet(Moment.ACTIVITY, agreement.id)
        if not self.alive or isinstance(deed, Ignore):
            return None
        if isinstance(deed, Refuse):
            raise Refusal(deed.status, deed.message)
        activity = self._network.activities.open(agreement, self)
        self._network.spawn(self._bill(activity))
        return activity

    async def end_activity(self, activity: Activity) -> None:
        """Destroy an exe-unit on request; its last debit note follows."""
        if self.alive and (activity.alive or activity.state != "Terminated"):
            await activity.end()
            self._network.spawn(self._close_books(activity))

    async def _close_books(self, activity: Activity) -> None:
        # Where an interval was agreed, a note before its time would break the agreement.
        if NOTE_INTERVAL not in activity.agreement.offered.terms.properties:
            await self._send_debit_note(activity)
        await self._break_when_idle(activity.agreement)

    def take(self, moment: Moment, detail: str) -> Deed | None:
        """A moment has come; what is planned for it."""
        return self._script.take(moment, detail)

    def misbehave(self, deed: Deed, activity: Activity) -> None:
        """Do in the background what ends the activity that is asking."""
        match deed:
            case Die(symptom):
                self._network.spawn(self.die(symptom))
            case Crash(symptom):
                self._network.spawn(activity.end(lost=symptom))
            case TerminateActivity(reason, message):
                self._network.spawn(self.terminate_activities(reason, message))
            case TerminateAgreement(message):
                self._network.market.break_agreement(activity.agreement, message)

    # Money -------------------------------------------------------------------------------------------------------

    async def _bill(self, activity: Activity) -> None:
        agreed = activity.agreement.offered.terms.properties.get(NOTE_INTERVAL, self.terms.debit_note_interval)
        while activity.alive:
            await asyncio.sleep(float(agreed))
            if activity.alive:
                await self._send_debit_note(activity)

    async def _send_debit_note(self, activity: Activity) -> None:
        amount = self._cost(activity)
        await self._send(Moment.DEBIT_NOTE, activity.id, activity.agreement, amount, activity)

    async def _send_invoice(self, agreement: Agreement) -> None:
        await asyncio.sleep(self._invoice_delay)
        amount = sum((self._cost(activity) for activity in self._network.activities.of(agreement)), Decimal(0))
        await self._send(Moment.INVOICE, agreement.id, agreement, amount, None)

    async def _send(
        self, moment: Moment, detail: str, agreement: Agreement, amount: Decimal, activity: Activity | None
    ) -> None:
        deed = await self._meet(moment, detail)
        if not self.alive or isinstance(deed, Withhold):
            return
        due = None if activity is not None else self._network.clock.now() + timedelta(days=1)
        payer: str | None = None
        platform: str | None = None
        match deed:
            case Charge(factor, fixed):
                amount = fixed if fixed is not None else amount * factor
            case Readdress(payer, platform):
                pass
            case DemandPaymentBy(seconds):
                due = self._network.clock.now() + timedelta(seconds=seconds)
        for _ in range(2 if isinstance(deed, SendTwice) else 1):
            self._network.payments.send(
                agreement,
                amount,
                activities=[a.id for a in self._network.activities.of(agreement)],
                activity=None if activity is None else activity.id,
                usage=() if activity is None else activity.usage,
                due=due,
                payer=payer,
                platform=platform,
            )

    # Inside ------------------------------------------------------------------------------------------------------

    @property
    def _network(self) -> Network:
        if self._joined is None:
            raise RuntimeError(f"provider {self.name} has joined no network")
        return self._joined

    def _cost(self, activity: Activity) -> Decimal:
        return activity_cost(activity.agreement.offered.terms.properties[COEFFICIENTS], activity.usage)

    def _activities(self) -> list[Activity]:
        return [a for a in self._network.activities.all() if a.agreement.seller is self and a.alive]

    async def _meet(self, moment: Moment, detail: str) -> Deed | None:
        deed = self._script.take(moment, detail)
        if isinstance(deed, Delay):
            await asyncio.sleep(deed.seconds)
        elif isinstance(deed, Die):
            await self.die(deed.symptom)
        return deed
