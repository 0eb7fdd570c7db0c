"""Money in the double: allocations, debit notes and invoices, under the rules that yagna keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from oracle.devnet.golem.double.http import Refusal
from oracle.devnet.golem.double.identifiers import Clock, Identifiers, parse_time, stamp
from oracle.devnet.golem.double.market import Agreement
from oracle.devnet.golem.double.pulse import Pulse

_ALLOCATIONS = "/payment-api/v1/allocations"
_YEARS = timedelta(days=3650)
_PAID = ("ACCEPTED", "SETTLED")
_REJECTIONS = ("UNSOLICITED_SERVICE", "BAD_SERVICE", "INCORRECT_AMOUNT")


@dataclass(slots=True)
class Allocation:
    """GLM set aside by a requestor. Spending moves ``remaining`` to ``spent``."""

    id: str
    owner: str
    address: str
    platform: str
    spent: Decimal
    remaining: Decimal
    created: datetime
    updated: datetime
    timeout: datetime
    released: bool = False

    def view(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "allocationId": self.id,
            "address": self.address,
            "paymentPlatform": self.platform,
            "totalAmount": f"{self.spent + self.remaining:f}",
            "spentAmount": f"{self.spent:f}",
            "remainingAmount": f"{self.remaining:f}",
            "timestamp": stamp(self.created),
            "timeout": stamp(self.timeout),
            "createdTs": stamp(self.created),
            "updatedTs": stamp(self.updated),
            "makeDeposit": False,
        }


@dataclass(slots=True)
class Document:
    """An invoice, or a debit note when ``activity`` names one; ``amount`` is cumulative there."""

    id: str
    agreement: Agreement
    activity: str | None
    activities: tuple[str, ...]
    payer: str
    platform: str
    amount: Decimal
    created: datetime
    due: datetime | None
    usage: tuple[float, ...] = ()
    previous: str | None = None
    status: str = "RECEIVED"

    @property
    def kind(self) -> str:
        """``invoice`` or ``debitNote``: how yagna names its fields."""
        return "invoice" if self.activity is None else "debitNote"

    def view(self) -> dict[str, Any]:
        """As the API shows it."""
        view: dict[str, Any] = {
            f"{self.kind}Id": self.id,
            "issuerId": self.agreement.seller.node_id,
            "recipientId": self.agreement.demand.requestor,
            "payeeAddr": self.agreement.seller.node_id,
            "payerAddr": self.payer,
            "paymentPlatform": self.platform,
            "timestamp": stamp(self.created)[:-4] + "Z",
            "agreementId": self.agreement.id,
            "status": self.status,
        }
        if self.activity is None:
            view |= {"activityIds": list(self.activities), "amount": f"{self.amount:f}"}
        else:
            view |= {"activityId": self.activity, "totalAmountDue": f"{self.amount:f}"}
            view["usageCounterVector"] = list(self.usage)
            if self.previous is not None:
                view["previousDebitNoteId"] = self.previous
        if self.due is not None:
            view["paymentDueDate"] = stamp(self.due)
        return view


class Payments:
    """Allocations and documents of every identity; ``funds`` is what each may set aside, in GLM."""

    def __init__(self, ids: Identifiers, clock: Clock, pulse: Pulse, funds: Decimal, platform: str) -> None:
        self.allocations: dict[str, Allocation] = {}
        self.documents: dict[str, Document] = {}
        self.accepted: list[tuple[str, Decimal, str]] = []
        """Each acceptance that cost something: document, what it moved, allocation."""
        self._events: list[tuple[datetime, Document, str]] = []
        self._ids, self._clock, self._pulse = ids, clock, pulse
        self._funds, self._platform = funds, platform

    @property
    def invoices(self) -> list[Document]:
        """Every invoice, in the order of sending."""
        return [document for document in self.documents.values() if document.activity is None]

    @property
    def debit_notes(self) -> list[Document]:
        """Every debit note, in the order of sending."""
        return [document for document in self.documents.values() if document.activity is not None]

    def account(self, owner: str) -> dict[str, Any]:
        """How this identity can pay."""
        driver, network, _ = self._platform.split("-")
        return {
            "platform": self._platform,
            "address": owner,
            "driver": driver,
            "network": network,
            "token": "tGLM",
            "send": True,
            "receive": False,
        }

    # Allocations -------------------------------------------------------------------------------------------------

    def allocate(self, owner: str, body: dict[str, Any]) -> Allocation:
        """Set money aside. Raises Refusal."""
        address, platform = str(body.get("address") or owner), body.get("paymentPlatform") or self._platform
        if isinstance(platform, dict):
            driver, network, token = self._platform.split("-")
            platform = "-".join(
                (platform.get("driver", driver), platform.get("network", network), platform.get("token", token).lower())
            )
        amount = _amount(body.get("totalAmount"), "totalAmount")
        now = self._clock.now()
        timeout = _time(body["timeout"]) if body.get("timeout") else now + _YEARS
        if platform != self._platform:
            raise _problem(
                400,
                "bad-payment-platform",
                "Payment platform doesn't parse",
                parseError=f"paymentPlatform must be {self._platform} here, instead of {platform}",
                requestedPaymentPlatform=platform,
                requestBody=body,
            )
        if timeout < now:
            raise _problem(
                400,
                "validation-error",
                "Requested allocation timeout is in the past",
                instance=f"{_ALLOCATIONS}/validation-error/timeout-passed",
                address=address,
                paymentPlatform=platform,
                requestBody=body,
                requestedTimeout=str(body["timeout"]),
            )
        if address != owner:
            raise _problem(
                500,
                "internal-error",
                "Unhandled internal error",
                internalError=f"Account {address} not found in active accounts",
                requestBody=body,
            )
        self._check_funds(owner, address, amount, body)
        allocation = Allocation(
            self._ids.document(), owner, address, platform, Decimal(0), amount, now, now, timeout.astimezone(now.tzinfo)
        )
        self.allocations[allocation.id] = allocation
        return allocation

    def amend(self, owner: str, allocation_id: str, body: dict[str, Any]) -> Allocation:
        """Change an allocation's amount or timeout. Raises Refusal."""
        allocation = self.allocation(owner, allocation_id)
        if body.get("totalAmount") is not None:
            total = _amount(body["totalAmount"], "totalAmount")
            remaining = max(Decimal(0), total - allocation.spent)
            self._check_funds(owner, allocation.address, remaining - allocation.remaining, body)
            allocation.remaining = remaining
        if body.get("timeout"):
            allocation.timeout = _time(body["timeout"])
        allocation.updated = self._clock.now()
        return allocation

    def allocation(self, owner: str, allocation_id: str) -> Allocation:
        """An open allocation. Raises Refusal."""
        allocation = self.allocations.get(allocation_id)
        if allocation is None or allocation.owner != owner or allocation.released:
            raise Refusal(404, None)
        return allocation

    def open_allocations(self, owner: str) -> list[Allocation]:
        """All that are not released."""
        return [found for found in self.allocations.values() if found.owner == owner and not found.released]

    def release(self, owner: str, allocation_id: str) -> None:
        """Give back what was not spent. Raises Refusal."""
        allocation = self.allocations.get(allocation_id)
        if allocation is not None and allocation.owner == owner and allocation.released:
            raise Refusal(410, f"Allocation {allocation_id} has been already released")
        self.allocation(owner, allocation_id).released = True

    def decorations(self, owner: str, allocation_ids: Sequence[str]) -> dict[str, Any]:
        """What a demand that pays from these allocations says. Raises Refusal."""
        found = [self.allocation(owner, allocation_id) for allocation_id in allocation_ids]
        keys = [f"golem.com.payment.platform.{allocation.platform}.address" for allocation in found]
        terms = [f"({key}=*)" for key in keys]
        one = terms[0] if len(terms) == 1 else "(|\n  " + "\n  ".join(terms) + "\n)"
        return {
            "properties": [
                *({"key": key, "value": a.address} for key, a in zip(keys, found, strict=True)),
                {"key": "golem.com.payment.protocol.version", "value": "3"},
            ],
            "constraints": [one, "(golem.com.payment.protocol.version>1)"],
        }

    def _check_funds(self, owner: str, address: str, more: Decimal, body: dict[str, Any]) -> None:
        held = sum((a.remaining for a in self.open_allocations(owner)), Decimal(0))
        spent = sum((a.spent for a in self.allocations.values() if a.owner == owner), Decimal(0))
        if held + spent + more > self._funds:
            raise _problem(
                400,
                "validation-error",
                "Insufficient funds to create the allocation. Top up your account or release all existing allocations"
                " to unlock the funds via `yagna payment release-allocations`",
                instance=f"{_ALLOCATIONS}/validation-error/insufficient-account-funds",
                address=address,
                availableFunds=f"{self._funds - held - spent:f}",
                paymentPlatform=self._platform,
                requestBody=body,
                requestedFunds=f"{more:f}",
                reservedFunds=f"{held:f}",
            )

    # Documents ---------------------------------------------------------------------------------------------------

    def send(
        self,
        agreement: Agreement,
        amount: Decimal,
        *,
        activities: Sequence[str],
        activity: str | None = None,
        usage: Sequence[float] = (),
        due: datetime | None = None,
        payer: str | None = None,
        platform: str | None = None,
    ) -> Document:
        """A provider's document arrives: a debit note when ``activity`` is given, else an invoice."""
        before = [n for n in self.documents.values() if activity is not None and n.activity == activity]
        document = Document(
            self._ids.document(),
            agreement,
            activity,
            tuple(activities),
            payer or agreement.demand.requestor,
            platform or agreement.platform,
            amount,
            self._clock.now(),
            due,
            tuple(usage),
            before[-1].id if before else None,
        )
        self.documents[document.id] = document
        self._record(document, "Received")
        return document

    def cancel(self, document: Document) -> None:
        """The provider takes an invoice back."""
        document.status = "CANCELLED"
        self._record(document, "Cancelled")

    def settle(self, document: Document) -> None:
        """The payment of an accepted document is on the chain; the requestor gets no event of it."""
        document.status = "SETTLED"

    def document(self, requestor: str, kind: str, document_id: str) -> Document:
        """A document that this identity has to pay. Raises Refusal."""
        document = self.documents.get(document_id)
        if document is None or document.kind != kind or document.agreement.demand.requestor != requestor:
            raise Refusal(404, None)
        return document

    def received(self, requestor: str, kind: str, since: datetime | None, most: int) -> list[Document]:
        """Documents for this identity, oldest first, whatever their status."""
        found = [d for d in self.documents.values() if d.kind == kind and d.agreement.demand.requestor == requestor]
        return [d for d in found if since is None or d.created > since][:most]

    async def events(
        self, requestor: str, kind: str, since: datetime | None, seconds: float, most: int
    ) -> list[dict[str, Any]]:
        """What happened to documents after ``since``; waits for the first."""

        def found() -> list[dict[str, Any]]:
            name = "Invoice" if kind == "invoice" else "DebitNote"
            return [
                {f"{kind}Id": document.id, "eventDate": stamp(at), "eventType": f"{name}{what}Event"}
                for at, document, what in self._events
                if document.kind == kind
                and document.agreement.demand.requestor == requestor
                and (since is None or at > since)
            ]

        return (await self._pulse.until(found, seconds))[:most]

    def accept(self, requestor: str, kind: str, document_id: str, body: dict[str, Any]) -> None:
        """Promise to pay, out of an allocation. Raises Refusal."""
        document = self.document(requestor, kind, document_id)
        amount = _amount(body.get("totalAmountAccepted"), "totalAmountAccepted")
        if document.status in _PAID:
            return
        if document.status == "CANCELLED":
            raise Refusal(400, "Invoice cancelled")
        if amount != document.amount:
            raise Refusal(400, "Invalid amount accepted")
        allocation_id = str(body.get("allocationId"))
        try:
            allocation = self.allocation(requestor, allocation_id)
        except Refusal as error:
            raise Refusal(400, f"Allocation {allocation_id} not found") from error
        before = self._accepted_before(document)
        if document.activity is None and amount < before:
            raise Refusal(400, "Invalid amount accepted")
        needed = max(Decimal(0), document.amount - before)
        if needed > allocation.remaining:
            raise Refusal(400, f"Not enough funds. Allocated: {allocation.remaining:f} Needed: {needed:f}")
        allocation.remaining -= needed
        allocation.spent += needed
        document.status = "ACCEPTED"
        if needed:
            self.accepted.append((document.id, needed, allocation.id))
        self._pulse.beat()

    def reject(self, requestor: str, kind: str, document_id: str, body: dict[str, Any]) -> None:
        """Refuse to pay an invoice; debit notes cannot be rejected in yagna 0.17. Raises Refusal."""
        document = self.document(requestor, kind, document_id)
        if body.get("rejectionReason") not in _REJECTIONS:
            raise Refusal(400, f"Json deserialize error: unknown variant `{body.get('rejectionReason')}`")
        if document.activity is not None:
            raise Refusal(501, None)
        if document.status != "RECEIVED":
            raise Refusal(400, f"Invoice {document.status.lower()}")
        document.status = "REJECTED"
        self._pulse.beat()

    def _accepted_before(self, document: Document) -> Decimal:
        # Notes are cumulative for an activity, and an invoice covers all the notes of its agreement.
        accepted: dict[str, Decimal] = {}
        for other in self.documents.values():
            if other.agreement is not document.agreement or other.activity is None or other.status not in _PAID:
                continue
            if document.activity is None or other.activity == document.activity:
                accepted[other.activity] = max(other.amount, accepted.get(other.activity, Decimal(0)))
        return sum(accepted.values(), Decimal(0))

    def _record(self, document: Document, what: str) -> None:
        self._events.append((self._clock.now(), document, what))
        self._pulse.beat()


def _amount(value: object, field: str) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation as error:
        raise Refusal(400, f"Json deserialize error: {field}: {value!r} is no amount") from error
    if not amount.is_finite() or amount < 0:
        raise Refusal(400, f"Json deserialize error: {field}: {value!r} is no amount")
    return amount


def _time(value: object) -> datetime:
    try:
        return parse_time(str(value))
    except ValueError as error:
        raise Refusal(400, f"Json deserialize error: timeout: {error}") from error


def _problem(status: int, kind: str, detail: str, **more: Any) -> Refusal:
    return Refusal(status, detail, problem={"type": f"{_ALLOCATIONS}/{kind}", "detail": detail, **more})
