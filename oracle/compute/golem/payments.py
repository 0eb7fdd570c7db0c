"""What is paid: one decision on every invoice and debit note, and a sweep for those that yapapi missed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import aiohttp
from ya_market import RequestorApi as MarketApi
from ya_payment import RequestorApi as PaymentApi
from ya_payment.models import Acceptance, Rejection
from yapapi.config import ApiConfig
from yapapi.rest import Configuration
from yapapi.rest.payment import DebitNote, Invoice

from oracle.compute.golem.market import Market
from oracle.compute.golem.terms import GolemTerms
from oracle.market import Agreement, Decision, Document, DocumentKind, Verdict, to_amount, to_glm
from oracle.ports import ProviderLedger
from oracle.telemetry import logger

log = logger("payments")

DAY = 86_400.0
GRACE = 3.0  # seconds by which a provider's clock may differ from ours
_DOUBT = 30.0  # seconds more, and a tenth, within which a bill that is too high is no lie yet
_LATEST_BILL = 3_600.0  # seconds in which the invoice of an agreement that ended is still expected
_LOOK_BACK = 7 * DAY  # how old documents may be that the first look after a start finds
_LATE = 8.0  # seconds after which a document that waits is one that yapapi missed
_CALL_SECONDS = 20.0
_MOST_GLM = 10**9  # there are not that many


class Paymaster:
    """Decides on documents against the ledger: what an agreement's time can have cost, lies, and the cap of a day."""

    def __init__(
        self, terms: GolemTerms, ledger: ProviderLedger, market: Market, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._terms, self._ledger, self._market, self._now = terms, ledger, market, clock
        # A document comes from yapapi and from the sweep; the second one finds the first one's decision.
        self._lock = asyncio.Lock()
        self._unbilled: set[str] = set()
        self._billed = asyncio.Event()
        self._looked = False

    # -----------------------------------------------------------------------------------------------------------
    # Agreements
    # -----------------------------------------------------------------------------------------------------------

    async def opened(self, agreement: Agreement) -> None:
        """Note an agreement before anything runs in it."""
        await self._ledger.save_agreement(agreement)

    async def closed(self, agreement_id: str, at: float) -> None:
        """Note when an agreement has ended: nothing later can be billed."""
        async with self._lock:
            agreement = await self._ledger.agreement(agreement_id)
            if agreement is not None and agreement.closed_at is None:
                await self._ledger.save_agreement(replace(agreement, closed_at=at))
                self._unbilled.add(agreement_id)

    async def await_bills(self, seconds: float) -> None:
        """Give the providers of agreements that have ended some time to send their invoices."""
        deadline = time.monotonic() + seconds
        while self._unbilled and (left := deadline - time.monotonic()) > 0:
            self._billed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._billed.wait()

    async def refuse(self, agreement_id: str, reason: str) -> None:
        """Nothing more is paid for an agreement: a result in it was a lie."""
        async with self._lock:
            agreement = await self._ledger.agreement(agreement_id)
            if agreement is not None and not agreement.refused:
                await self._ledger.save_agreement(replace(agreement, refused=reason))

    async def exhausted(self) -> str:
        """Why nothing new may be begun now, or nothing."""
        now = self._now()
        spent = await self._ledger.spent(now - DAY)
        coming = 0
        open_ones = [one for one in await self._ledger.open_agreements() if not one.refused]
        for agreement in [*open_ones, *await self._ledger.unbilled_agreements(now - _LATEST_BILL)]:
            coming += max(0, agreement.most(now) - await self._accepted(agreement.agreement_id))
        if spent + coming < self._terms.budget_day:
            return ""
        return f"the last 24 hours cost {to_glm(spent + coming)} GLM of {to_glm(self._terms.budget_day)}"

    async def _accepted(self, agreement_id: str) -> int:
        """What was accepted for an agreement so far; its documents are cumulative."""
        documents = await self._ledger.documents(agreement_id=agreement_id, decision=Decision.ACCEPTED)
        return max((document.amount for document in documents), default=0)

    # -----------------------------------------------------------------------------------------------------------
    # Documents
    # -----------------------------------------------------------------------------------------------------------

    async def accepted_amount(self, document: Invoice | DebitNote) -> Decimal:
        """For yapapi: the document's amount when it is accepted, minus one, which it takes for "ignore", when not."""
        if isinstance(document, Invoice):
            amount, known = document.amount, (DocumentKind.INVOICE, document.invoice_id)
        else:
            amount, known = document.total_amount_due, (DocumentKind.DEBIT_NOTE, document.debit_note_id)
        decided = await self.decide(*known, document.agreement_id, amount)
        return Decimal(amount) if decided.decision is Decision.ACCEPTED else Decimal(-1)

    async def decide(self, kind: DocumentKind, document_id: str, agreement_id: str, amount: str) -> Document:
        """The decision on a document, made once; one that was deferred is looked at again."""
        async with self._lock:
            known = await self._ledger.document(document_id)
            if known is not None and known.decision is not Decision.DEFERRED:
                return known
            decision, reason = await self._judge(agreement_id, amount)
            if known is not None and (known.decision, known.reason) == (decision, reason):
                return known
            decided = Document(
                document_id, kind, agreement_id, _read_amount(amount) or 0, decision, self._now(), reason
            )
            await self._ledger.save_document(decided)
        if kind is DocumentKind.INVOICE:
            self._unbilled.discard(agreement_id)
            self._billed.set()
        if decision is not Decision.ACCEPTED and (known is None or known.decision is not decision):
            log.warning("%s of %s GLM is %s: %s", kind.value.replace("_", " "), amount, decision.value, reason)
        return decided

    async def _judge(self, agreement_id: str, amount: str) -> tuple[Decision, str]:
        agreement = await self._ledger.agreement(agreement_id)
        if agreement is None:
            # Never paid, but not sent back either: an agreement of ours may not be written down yet.
            return Decision.DEFERRED, "it is for no agreement of ours"
        if agreement.refused:
            return Decision.REFUSED, agreement.refused
        billed = _read_amount(amount)
        if billed is None:
            return Decision.REFUSED, "its amount is not a number"
        most = agreement.most(self._now()) + int(GRACE * agreement.price.rate(agreement.threads))
        if billed > most:
            reason = f"it bills {to_glm(billed)} GLM for what can have cost {to_glm(most)} at most"
            await self._ledger.save_agreement(replace(agreement, refused=reason))
            # A clock that was set, or a slow end, is no lie.
            slack = most // 10 + int(_DOUBT * agreement.price.rate(agreement.threads))
            await self._market.judge(
                agreement.node_id, Verdict.LIED if billed > most + slack else Verdict.FAILED, reason
            )
            return Decision.REFUSED, reason
        paid = await self._accepted(agreement_id)
        spent = await self._ledger.spent(self._now() - DAY)
        if spent + max(0, billed - paid) > self._terms.budget_day:
            return Decision.DEFERRED, f"the cap of a day, {to_glm(self._terms.budget_day)} GLM, is reached"
        return Decision.ACCEPTED, ""

    # -----------------------------------------------------------------------------------------------------------
    # After a restart, and for what yapapi never heard of
    # -----------------------------------------------------------------------------------------------------------

    async def close_leftovers(self) -> int:
        """End what an earlier run left open; how many agreements that was."""
        left = await self._ledger.open_agreements()
        if left:
            async with self._api("market") as client:
                market = MarketApi(client)
                for agreement in left:
                    reason = {"message": "The requestor was restarted", "golem.requestor.code": "Cancelled"}
                    try:
                        await market.terminate_agreement(
                            agreement.agreement_id, request_body=reason, _request_timeout=_CALL_SECONDS
                        )
                    except Exception as error:  # noqa: BLE001 - ended already, or yagna does not know it any more
                        log.debug("agreement %s: %s", agreement.agreement_id[:8], error)
                    await self.closed(agreement.agreement_id, self._now())
        return len(left)

    async def release(self, allocation_id: str) -> None:
        """Give back what a run that was killed had reserved."""
        async with self._api("payment") as client:
            try:
                await PaymentApi(client).release_allocation(allocation_id, _request_timeout=_CALL_SECONDS)
            except Exception as error:  # noqa: BLE001 - released already, or yagna does not know it any more
                log.debug("allocation %s: %s", allocation_id[:8], error)

    async def top_up(self, allocation_id: str) -> None:
        """Reserve the budget of a day anew when less than half of it is left, since what was spent does not come back.

        Raises what aiohttp raises.
        """
        url = f"{self._terms.api_url}/payment-api/v1/allocations/{allocation_id}"
        headers = {"Authorization": f"Bearer {self._terms.app_key}"}
        timeout = aiohttp.ClientTimeout(total=_CALL_SECONDS)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, raise_for_status=True) as session:
            async with session.get(url) as answer:
                known = await answer.json()
            if to_amount(known["remainingAmount"]) < self._terms.budget_day // 2:
                total = to_amount(known["spentAmount"]) + self._terms.budget_day
                # yapapi's own client sends fields that yagna does not let change.
                async with session.put(url, json={"totalAmount": to_glm(total)}) as answer:
                    await answer.read()

    async def sweep(self) -> None:
        """Decide on documents that wait since long, and note which accepted ones are settled on the chain.

        Agreements that expired without a word are closed.
        """
        for agreement in await self._ledger.open_agreements():
            if self._now() > agreement.expires_at:
                await self.closed(agreement.agreement_id, agreement.expires_at)
        async with self._api("payment") as client:
            api = PaymentApi(client)
            window = {"after_timestamp": await self._oldest(), "_request_timeout": _CALL_SECONDS}
            invoices = await api.get_invoices(**window)
            notes = await api.get_debit_notes(**window)
            invoiced = {invoice.agreement_id for invoice in invoices}
            for invoice in invoices:
                if invoice.status == "RECEIVED" and self._is_late(invoice.timestamp):
                    await self._answer(api, DocumentKind.INVOICE, invoice.invoice_id, invoice, invoice.amount)
                elif invoice.status == "SETTLED":
                    await self._settled(invoice.agreement_id)
            for note in notes:
                # An invoice includes what its debit notes said.
                if note.status == "RECEIVED" and note.agreement_id not in invoiced and self._is_late(note.timestamp):
                    await self._answer(api, DocumentKind.DEBIT_NOTE, note.debit_note_id, note, note.total_amount_due)

    async def _oldest(self) -> datetime:
        """From when on documents may still wait for something."""
        now = self._now()
        begin = now - (DAY if self._looked else _LOOK_BACK)
        self._looked = True
        waiting = [
            *await self._ledger.documents(unsettled=True),
            *await self._ledger.documents(decision=Decision.DEFERRED),
        ]
        return datetime.fromtimestamp(min([begin, *(one.decided_at - DAY for one in waiting)]), UTC)

    async def _answer(self, api: PaymentApi, kind: DocumentKind, document_id: str, document: Any, amount: str) -> None:
        decided = await self.decide(kind, document_id, document.agreement_id, amount)
        suffix = kind.value
        if decided.decision is Decision.ACCEPTED:
            allocation = await self._allocation(api, document, decided.amount)
            if allocation is None:
                log.warning("%s of %s GLM waits: no allocation covers it", suffix.replace("_", " "), amount)
                return
            body: object = Acceptance(total_amount_accepted=amount, allocation_id=allocation)
            call = getattr(api, f"accept_{suffix}")
        elif decided.decision is Decision.REFUSED and kind is DocumentKind.INVOICE:
            # yagna cannot reject a debit note (501); one that is left alone is not paid either.
            reason: Any = "INCORRECT_AMOUNT" if "bills" in decided.reason else "BAD_SERVICE"
            body = Rejection(rejection_reason=reason, total_amount_accepted="0", message=decided.reason[:200])
            call = getattr(api, f"reject_{suffix}")
        else:
            return
        try:
            await call(document_id, body, _request_timeout=_CALL_SECONDS)
        except (aiohttp.ClientError, TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - yagna's refusal: tried again at the next sweep
            log.warning("yagna does not take our answer to a document: %s", str(getattr(error, "body", error))[:200])

    async def _allocation(self, api: PaymentApi, document: Any, amount: int) -> str | None:
        for allocation in await api.get_allocations(_request_timeout=_CALL_SECONDS):
            if (
                allocation.address == document.payer_addr
                and allocation.payment_platform == document.payment_platform
                and to_amount(allocation.remaining_amount) >= amount
            ):
                return str(allocation.allocation_id)
        return None

    async def _settled(self, agreement_id: str) -> None:
        for document in await self._ledger.documents(agreement_id=agreement_id):
            if document.decision is Decision.ACCEPTED and not document.settled:
                await self._ledger.save_document(replace(document, settled=True))

    def _is_late(self, timestamp: Any) -> bool:
        return bool(self._now() - timestamp.timestamp() > _LATE)

    @asynccontextmanager
    async def _api(self, kind: str) -> AsyncIterator[Any]:
        config = Configuration(ApiConfig(app_key=self._terms.app_key, api_url=self._terms.api_url))
        async with getattr(config, kind)() as client:
            yield client


def _read_amount(text: str) -> int | None:
    try:
        glm = Decimal(text)
    except InvalidOperation:
        return None
    return to_amount(glm) if glm.is_finite() and 0 <= glm <= _MOST_GLM else None
