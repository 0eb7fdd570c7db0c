"""The market of the double: demands, proposals and agreements, as yagna's market API shows them to a requestor."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from oracle.devnet.golem.double.constraints import ConstraintError, mismatches
from oracle.devnet.golem.double.http import Refusal
from oracle.devnet.golem.double.identifiers import Clock, Identifiers, parse_time, stamp
from oracle.devnet.golem.double.pulse import Pulse

_ENDED = ("Terminated", "Rejected", "Cancelled", "Expired")


class Seller(Protocol):
    """A provider as the market sees it. None of its methods may block: what takes time it does by itself."""

    name: str
    node_id: str

    def offer(self) -> Proposition:
        """What it offers now."""
        ...

    def hear_proposal(self, proposal: Proposal) -> None:
        """A requestor countered its offer."""
        ...

    def hear_agreement(self, agreement: Agreement) -> None:
        """A requestor confirmed an agreement that waits for approval."""
        ...

    def hear_termination(self, agreement: Agreement) -> None:
        """An approved agreement ended, by whomever."""
        ...


@dataclass(frozen=True, slots=True)
class Proposition:
    """Properties of one side and its constraints on the other's."""

    properties: Mapping[str, Any]
    constraints: str


@dataclass(slots=True)
class Demand:
    """A subscription of a requestor, and the events that it has not collected yet."""

    id: str
    requestor: str
    terms: Proposition
    created: datetime
    events: deque[dict[str, Any]] = field(default_factory=deque)
    open: bool = True


@dataclass(slots=True, eq=False)
class Proposal:
    """One step of a negotiation. ``own`` is the requestor's; ``previous`` is what it answers."""

    id: str
    demand: Demand
    seller: Seller
    terms: Proposition
    created: datetime
    state: str
    own: bool
    previous: Proposal | None = None
    answered: bool = False
    agreed: bool = False


@dataclass(slots=True, eq=False)
class Agreement:
    """What a proposal became. ``wanted`` is the requestor's last word, ``offered`` the provider's."""

    id: str
    demand: Demand
    seller: Seller
    offer_id: str
    wanted: Proposal
    offered: Proposal
    valid_to: datetime
    created: datetime
    state: str = "Proposal"
    approved: datetime | None = None
    session: str | None = None
    reason: str = ""

    @property
    def platform(self) -> str:
        """The payment platform both agreed on."""
        return str(self.wanted.terms.properties.get("golem.com.payment.chosen-platform", ""))


class Market:
    """The state of the market and its rules; what breaks them raises Refusal with yagna's words."""

    def __init__(self, ids: Identifiers, clock: Clock, pulse: Pulse) -> None:
        self.demands: dict[str, Demand] = {}
        self.proposals: dict[str, Proposal] = {}
        self.agreements: dict[str, Agreement] = {}
        self.agreement_events: list[tuple[datetime, str, dict[str, Any]]] = []
        self._offers: dict[str, Seller] = {}
        self._ids, self._clock, self._pulse = ids, clock, pulse

    # What providers do -------------------------------------------------------------------------------------------

    def list_offer(self, seller: Seller) -> None:
        """Publish a provider's offer: every open demand that matches hears of it."""
        self._offers[self._ids.subscription()] = seller
        for demand in self.demands.values():
            self._introduce(seller, demand)

    def withdraw_offer(self, seller: Seller) -> None:
        """Unpublish; what is agreed stays agreed."""
        self._offers = {offer: other for offer, other in self._offers.items() if other is not seller}

    def draft(self, proposal: Proposal, terms: Proposition) -> None:
        """The provider counters the requestor's proposal; unless the demand has gone."""
        if proposal.demand.open:
            self._send(
                Proposal(
                    self._ids.proposal(),
                    proposal.demand,
                    proposal.seller,
                    terms,
                    self._clock.now(),
                    "Draft",
                    own=False,
                    previous=proposal,
                )
            )

    def reject_proposal(self, proposal: Proposal, message: str, *, final: bool) -> None:
        """The provider turns the requestor's proposal down."""
        self._notify(
            proposal.demand,
            {
                "eventType": "ProposalRejectedEvent",
                "eventDate": self._event_date(),
                "proposalId": proposal.id,
                "reason": {"message": message, "golem.proposal.rejection.is-final": final},
            },
        )

    def approve(self, agreement: Agreement) -> None:
        """The provider agrees."""
        if agreement.state == "Pending":
            agreement.state, agreement.approved = "Approved", self._clock.now()
            self._report(agreement, "AgreementApprovedEvent")

    def reject_agreement(self, agreement: Agreement, message: str) -> None:
        """The provider refuses to sign."""
        if agreement.state == "Pending":
            agreement.state, agreement.reason = "Rejected", message
            self._report(agreement, "AgreementRejectedEvent", reason={"message": message})

    def break_agreement(self, agreement: Agreement, message: str) -> None:
        """The provider terminates."""
        if agreement.state == "Approved":
            self._end(agreement, {"message": message}, "Provider")

    # What requestors do ------------------------------------------------------------------------------------------

    def subscribe(self, requestor: str, terms: Proposition) -> Demand:
        """A new demand, and an initial proposal from each offer that matches. Raises Refusal."""
        try:
            mismatches(terms.constraints, {})
        except ConstraintError as error:
            raise Refusal(400, f"Demand's constraints: {error}") from error
        demand = Demand(self._ids.subscription(), requestor, terms, self._clock.now())
        self.demands[demand.id] = demand
        for seller in self._offers.values():
            self._introduce(seller, demand)
        return demand

    def unsubscribe(self, requestor: str, demand_id: str) -> None:
        """End a demand. Raises Refusal."""
        demand = self.demands.get(demand_id)
        if demand is None or demand.requestor != requestor:
            raise Refusal(404, f"Demand [{demand_id}] not found.")
        self.expire(demand)

    def expire(self, demand: Demand) -> None:
        """A demand is gone; who polls it hears so at once."""
        demand.open = False
        del self.demands[demand.id]
        self._pulse.beat()

    async def collect(self, requestor: str, demand_id: str, seconds: float, most: int) -> list[dict[str, Any]]:
        """The events of a demand, each once; waits for the first. Raises Refusal."""
        if not 1 <= most <= 100:
            raise Refusal(400, f"Invalid maxEvents '{most}', should be between 1 and 100.")
        demand = self.demands.get(demand_id)
        if demand is not None and demand.requestor == requestor:
            await self._pulse.until(lambda: demand.events or not demand.open, seconds)
        if demand is None or demand.requestor != requestor or not demand.open:
            raise Refusal(404, f"Subscription [{demand_id}] not found. Could be unsubscribed.")
        return [demand.events.popleft() for _ in range(min(most, len(demand.events)))]

    def counter(self, requestor: str, demand_id: str, proposal_id: str, terms: Proposition) -> Proposal:
        """The requestor answers a provider's proposal. Raises Refusal."""
        theirs = self._proposal(requestor, demand_id, proposal_id)
        if theirs.own:
            raise Refusal(400, f"Can't react to own Proposal [{proposal_id}].")
        if theirs.answered:
            raise Refusal(
                410, f"Proposal [{proposal_id}] already has counter proposal. Can't counter for the second time."
            )
        if not theirs.demand.open:
            raise Refusal(400, f"Subscription [{demand_id}] not found. Could be unsubscribed.")
        ours = Proposal(
            self._ids.proposal(),
            theirs.demand,
            theirs.seller,
            terms,
            self._clock.now(),
            "Draft",
            own=True,
            previous=theirs,
        )
        wrong = self._mismatches(terms, theirs.terms)
        if any(wrong):
            offer, demand = ("[" + ", ".join(f'"{name}"' for name in names) + "]" for names in wrong)
            raise Refusal(
                400,
                f"Proposal properties [{ours.id}] doesn't match previous Proposal [{proposal_id}]."
                f" Mismatched constraints - Offer: {offer}, Demand: {demand}",
            )
        theirs.answered = True
        self.proposals[ours.id] = ours
        theirs.seller.hear_proposal(ours)
        return ours

    def reject(self, requestor: str, demand_id: str, proposal_id: str) -> None:
        """The requestor turns a provider's proposal down. Raises Refusal."""
        try:
            proposal = self._proposal(requestor, demand_id, proposal_id)
        except Refusal as error:
            raise Refusal(500, error.message) from error
        proposal.answered = True

    def agree(self, requestor: str, proposal_id: str, valid_to: str) -> Agreement:
        """Make a draft into an agreement. Raises Refusal."""
        start = f"Can't create Agreement for Proposal [{proposal_id}]."
        offered = self.proposals.get(proposal_id)
        if offered is None or offered.demand.requestor != requestor:
            raise Refusal(400, f"{start} Proposal [{proposal_id}] not found.")
        if offered.own:
            raise Refusal(
                400,
                f"Can't create Agreement for an own Proposal [{proposal_id}]."
                " You can promote only provider's Proposals to Agreement.",
            )
        wanted = offered.previous
        if wanted is None:
            raise Refusal(
                400,
                f"{start} No negotiation with Provider took place. (You should counter Proposal at least one time)",
            )
        if offered.agreed:
            raise Refusal(409, f"Can't create second Agreement for Proposal [{proposal_id}].")
        try:
            until = parse_time(valid_to)
        except ValueError as error:
            raise Refusal(400, f"Json deserialize error: {error}") from error
        offered.agreed = True
        offer_id = next((id_ for id_, seller in self._offers.items() if seller is offered.seller), "")
        agreement = Agreement(
            self._ids.agreement(),
            offered.demand,
            offered.seller,
            offer_id or self._ids.subscription(),
            wanted,
            offered,
            until,
            self._clock.now(),
        )
        self.agreements[agreement.id] = agreement
        return agreement

    def confirm(self, requestor: str, agreement_id: str, session: str | None) -> None:
        """Sign and send to the provider. Raises Refusal."""
        agreement = self.agreement(requestor, agreement_id, prefix="R-")
        if agreement.state != "Proposal":
            raise Refusal(410, f"Can't update Agreement state from {agreement.state} to Pending.")
        agreement.state, agreement.session = "Pending", session
        agreement.seller.hear_agreement(agreement)
        self._pulse.beat()

    async def await_approval(self, requestor: str, agreement_id: str, seconds: float) -> None:
        """Wait until the provider has decided. Raises Refusal unless it approved."""
        agreement = self.agreement(requestor, agreement_id, prefix="R-")
        name = f"Agreement [R-{agreement_id}]"
        if agreement.state == "Proposal":
            raise Refusal(400, f"{name} should be confirmed, before waiting for approval.")
        await self._pulse.until(lambda: self._state(agreement) != "Pending", seconds)
        match self._state(agreement):
            case "Approved":
                return
            case "Pending":
                raise Refusal(408, f"Timeout while waiting for {name} approval.")
            case "Terminated":
                raise Refusal(400, f"{name} terminated.")
            case other:
                raise Refusal(410, other)

    def terminate(self, requestor: str, agreement_id: str, reason: dict[str, Any]) -> None:
        """The requestor ends an agreement; the provider offers itself anew. Raises Refusal."""
        agreement = self.agreement(requestor, agreement_id)
        if self._state(agreement) != "Approved":
            status = 410 if agreement.state in _ENDED else 409
            raise Refusal(status, f"Can't update Agreement state from {agreement.state} to Terminated.")
        self._end(agreement, reason, "Requestor")
        if agreement.seller in self._offers.values():
            self._introduce(agreement.seller, agreement.demand)

    def agreement(self, requestor: str, agreement_id: str, *, prefix: str = "") -> Agreement:
        """An agreement of this requestor. Raises Refusal."""
        agreement = self.agreements.get(agreement_id)
        if agreement is None or agreement.demand.requestor != requestor:
            raise Refusal(404, f"Agreement [{prefix}{agreement_id}] not found.")
        return agreement

    def view(self, agreement: Agreement) -> dict[str, Any]:
        """An agreement as the API shows it."""
        view: dict[str, Any] = {
            "agreementId": agreement.id,
            "demand": {
                **_terms(agreement.wanted.terms),
                "demandId": agreement.demand.id,
                "requestorId": agreement.demand.requestor,
                "timestamp": stamp(agreement.created),
            },
            "offer": {
                **_terms(agreement.offered.terms),
                "offerId": agreement.offer_id,
                "providerId": agreement.seller.node_id,
                "timestamp": stamp(agreement.created),
            },
            "validTo": stamp(agreement.valid_to),
            "state": self._state(agreement),
            "timestamp": stamp(agreement.created),
        }
        if agreement.approved is not None:
            view["approvedDate"] = stamp(agreement.approved)
        if agreement.session is not None:
            view["appSessionId"] = agreement.session
        return view

    # Inside ------------------------------------------------------------------------------------------------------

    def _introduce(self, seller: Seller, demand: Demand) -> None:
        terms = seller.offer()
        if demand.open and demand.requestor != seller.node_id and not any(self._mismatches(demand.terms, terms)):
            self._send(Proposal(self._ids.proposal(), demand, seller, terms, self._clock.now(), "Initial", own=False))

    def _mismatches(self, demand: Proposition, offer: Proposition) -> tuple[list[str], list[str]]:
        try:
            return mismatches(demand.constraints, offer.properties), mismatches(offer.constraints, demand.properties)
        except ConstraintError as error:
            raise Refusal(400, f"Proposal's constraints: {error}") from error

    def _send(self, proposal: Proposal) -> None:
        self.proposals[proposal.id] = proposal
        view = {
            **_terms(proposal.terms),
            "proposalId": proposal.id,
            "issuerId": proposal.seller.node_id,
            "state": proposal.state,
            "timestamp": stamp(proposal.created),
        }
        if proposal.previous is not None:
            view["prevProposalId"] = proposal.previous.id
        self._notify(proposal.demand, {"eventType": "ProposalEvent", "eventDate": self._event_date(), "proposal": view})

    def _notify(self, demand: Demand, event: dict[str, Any]) -> None:
        demand.events.append(event)
        self._pulse.beat()

    def _event_date(self) -> str:
        return stamp(self._clock.now())[:-4] + "Z"

    def _proposal(self, requestor: str, demand_id: str, proposal_id: str) -> Proposal:
        proposal = self.proposals.get(proposal_id)
        if proposal is None or proposal.demand.id != demand_id or proposal.demand.requestor != requestor:
            raise Refusal(404, f"Proposal [{proposal_id}] not found (subscription [{demand_id}]).")
        return proposal

    def _state(self, agreement: Agreement) -> str:
        if agreement.state in ("Proposal", "Pending") and agreement.valid_to < self._clock.now():
            agreement.state = "Expired"
        return agreement.state

    def _end(self, agreement: Agreement, reason: dict[str, Any], terminator: str) -> None:
        agreement.state, agreement.reason = "Terminated", str(reason.get("message", ""))
        self._report(
            agreement, "AgreementTerminatedEvent", terminator=terminator, signature="NoSignature", reason=reason
        )
        agreement.seller.hear_termination(agreement)

    def _report(self, agreement: Agreement, kind: str, **more: Any) -> None:
        now = self._clock.now()
        event = {"eventDate": stamp(now), "agreementId": agreement.id, "eventType": kind, **more}
        self.agreement_events.append((now, agreement.demand.requestor, event))
        self._pulse.beat()


def _terms(terms: Proposition) -> dict[str, Any]:
    return {"properties": dict(terms.properties), "constraints": terms.constraints}
