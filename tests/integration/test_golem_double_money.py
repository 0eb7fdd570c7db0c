"""Money in the double, call by call: allocations, acceptance, and documents that are wrong on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from golem_rest import (
    ACTIVITY,
    LATER,
    PAYMENT,
    run,
    world,
)

from oracle.devnet.golem.double import (
    Charge,
    Deed,
    DemandPaymentBy,
    Die,
    Moment,
    ProviderDouble,
    Readdress,
    RunResult,
    SendTwice,
    Withhold,
)
from oracle.devnet.golem.double.payments import Document
from oracle.devnet.golem.pricing import Terms

pytestmark = pytest.mark.integration

NOBODY = "00000000-0000-4000-8000-000000000000"


# Allocations -----------------------------------------------------------------------------------------------------


async def test_an_allocation_is_made_topped_up_and_released(tmp_path: Path) -> None:
    async with world(tmp_path, funds=Decimal(3)) as (yagna, requestor):
        ask = requestor()
        # As yapapi sends it: with fields that only the answer should have.
        body = {"allocationId": "", "address": await ask.me(), "paymentPlatform": yagna.platform, "totalAmount": "1",
                "spentAmount": "", "remainingAmount": "", "timestamp": LATER, "timeout": LATER,
                "makeDeposit": False}  # fmt: skip
        made = await ask.post(f"{PAYMENT}/allocations", body, 201)
        path = f"{PAYMENT}/allocations/{made['allocationId']}"
        assert (made["totalAmount"], made["spentAmount"], made["remainingAmount"]) == ("1", "0", "1")
        assert await ask.get(path) == made
        assert (await ask.get(path, {"totalAmount": "2.5"}, method="PUT"))["remainingAmount"] == "2.5"
        key = f"golem.com.payment.platform.{yagna.platform}.address"
        assert await ask.get(f"{PAYMENT}/demandDecorations?allocationIds={made['allocationId']}") == {
            "properties": [
                {"key": key, "value": await ask.me()},
                {"key": "golem.com.payment.protocol.version", "value": "3"},
            ],
            "constraints": [f"({key}=*)", "(golem.com.payment.protocol.version>1)"],
        }
        assert await ask.get(path, method="DELETE") is None
        gone = f"Allocation {made['allocationId']} has been already released"
        assert await ask("DELETE", path) == (410, {"message": gone})
        assert await ask("GET", path) == (404, {"message": None})
        assert await ask("GET", f"{PAYMENT}/demandDecorations?allocationIds={NOBODY}") == (404, {"message": None})


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"totalAmount": "3.1"}, 400, "validation-error/insufficient-account-funds"),
        ({"timeout": "2016-01-01T00:00:00Z"}, 400, "validation-error/timeout-passed"),
        ({"paymentPlatform": "erc20-holesky-tglm"}, 400, "bad-payment-platform"),
        ({"address": "0x" + "1" * 40}, 500, "internal-error"),
    ],
)
async def test_an_allocation_that_cannot_be_made_is_a_problem(
    tmp_path: Path, change: dict[str, str], status: int, kind: str
) -> None:
    async with world(tmp_path, funds=Decimal(3)) as (_, requestor):
        found, problem = await requestor()("POST", f"{PAYMENT}/allocations", {"totalAmount": "1", **change})
        said = problem.get("instance", problem["type"])
        assert (found, said) == (status, f"/payment-api/v1/allocations/{kind}")


# Money -----------------------------------------------------------------------------------------------------------


async def test_acceptance_spends_what_is_new_and_no_more_than_there_is(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one")) as (yagna, requestor):
        ask = requestor()
        agreement = yagna.market.agreements[await ask.agree()]
        activity = await ask.ready(agreement.id)

        def note(amount: str) -> str:
            return yagna.payments.send(agreement, Decimal(amount), activities=[activity], activity=activity).id

        def invoice(amount: str) -> Document:
            return yagna.payments.send(agreement, Decimal(amount), activities=[activity])

        async def money(allocation: str) -> tuple[str, str]:
            view = await ask.get(f"{PAYMENT}/allocations/{allocation}")
            return view["spentAmount"], view["remainingAmount"]

        small, large, released = await ask.allocate("0.3"), await ask.allocate("1"), await ask.allocate("1")
        await ask.get(f"{PAYMENT}/allocations/{released}", method="DELETE")
        first = note("0.1")
        assert await ask.accept("debitNotes", first, "0.2", small) == (400, {"message": "Invalid amount accepted"})
        for wrong in (NOBODY, released):
            said = {"message": f"Allocation {wrong} not found"}
            assert await ask.accept("debitNotes", first, "0.1", wrong) == (400, said)
        for _ in range(2):
            assert await ask.accept("debitNotes", first, "0.1", small) == (200, None)
        assert await money(small) == ("0.1", "0.2")
        assert (await ask.accept("debitNotes", note("0.3"), "0.3", small))[0] == 200
        assert await money(small) == ("0.3", "0.0")
        assert (await ask.accept("debitNotes", note("0.2"), "0.2", small))[0] == 200
        said = {"message": "Not enough funds. Allocated: 0.0 Needed: 0.2"}
        assert await ask.accept("debitNotes", note("0.5"), "0.5", small) == (400, said)
        assert (await ask.accept("invoices", invoice("0.2").id, "0.2", large))[0] == 400
        last = invoice("0.6")
        path = f"{PAYMENT}/invoices/{last.id}"
        assert (await ask("POST", f"{path}/reject", {"rejectionReason": "BAD_SERVICE"}))[0] == 200
        assert (await ask.get(path))["status"] == "REJECTED"
        assert (await ask.accept("invoices", last.id, "0.60", large))[0] == 200
        assert (await ask("POST", f"{path}/reject", {"rejectionReason": "BAD_SERVICE"}))[0] == 400
        assert await money(large) == ("0.3", "0.7")
        assert sum(spent for _, spent, _ in yagna.payments.accepted) == Decimal("0.6")
        yagna.payments.settle(last)
        assert (await ask.get(path))["status"] == "SETTLED"
        assert (await ask.accept("invoices", last.id, "0.6", large))[0] == 200
        yagna.payments.cancel(cancelled := invoice("0.7"))
        assert (await ask.accept("invoices", cancelled.id, "0.7", large))[0] == 400
        # yagna 0.17 has no way to reject a debit note.
        body = {"rejectionReason": "BAD_SERVICE"}
        assert (await ask("POST", f"{PAYMENT}/debitNotes/{note('1')}/reject", body))[0] == 501


async def test_events_of_documents_are_told_after_a_moment(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one")) as (_, requestor):
        ask = requestor()
        start = datetime.now(UTC).isoformat().replace("+", "%2B")
        agreement = await ask.agree()
        activity = await ask.ready(agreement)
        polling = asyncio.create_task(ask.get(f"{PAYMENT}/invoiceEvents?timeout=20&afterTimestamp={start}"))
        await ask.get(f"{ACTIVITY}/activity/{activity}", method="DELETE")
        await ask.terminate(agreement)
        (event,) = await polling
        assert event["eventType"] == "InvoiceReceivedEvent"
        assert await ask.get(f"{PAYMENT}/invoiceEvents?timeout=0&afterTimestamp={event['eventDate']}") == []
        (note,) = await ask.get(f"{PAYMENT}/debitNoteEvents?timeout=0&afterTimestamp={start}")
        document = await ask.get(f"{PAYMENT}/debitNotes/{note['debitNoteId']}")
        invoice = await ask.get(f"{PAYMENT}/invoices/{event['invoiceId']}")
        assert (document["activityId"], invoice["activityIds"]) == (activity, [activity])
        assert invoice["amount"] == document["totalAmountDue"]
        assert invoice["payerAddr"] == invoice["recipientId"] == await ask.me()
        assert (await ask("GET", f"{PAYMENT}/invoiceEvents?afterTimestamp=yesterday"))[0] == 400
        assert await ask("GET", f"{PAYMENT}/invoices/{NOBODY}") == (404, {"message": None})


async def test_a_provider_charges_what_it_offered_for_what_was_used(tmp_path: Path) -> None:
    async def handler(words: Any, directory: Path) -> RunResult:
        return RunResult(cpu_seconds=3.0)

    terms = Terms(per_second=0.0, per_cpu_second=0.25, start=0.5)
    async with world(tmp_path, ProviderDouble("one", terms=terms, handler=handler)) as (yagna, requestor):
        ask = requestor()
        agreement = await ask.agree()
        for _ in range(2):
            activity = await ask.ready(agreement)
            await ask.results(activity, await ask.execute(activity, run("work")))
            await ask.get(f"{ACTIVITY}/activity/{activity}", method="DELETE")
        await ask.terminate(agreement)
        (invoice,) = await yagna.until(lambda: yagna.payments.invoices)
        assert invoice.amount == 2 * Decimal("1.25")
        assert [note.amount for note in yagna.payments.debit_notes] == [Decimal("1.25")] * 2


@pytest.mark.parametrize(
    ("deed", "expected"),
    [
        (Charge(Decimal(3)), lambda due, bills: [bill.amount for bill in bills] == [3 * due]),
        (Charge(amount=Decimal("9.5")), lambda due, bills: [bill.amount for bill in bills] == [Decimal("9.5")]),
        (Withhold(), lambda due, bills: bills == []),
        (Die(), lambda due, bills: bills == []),
        (SendTwice(), lambda due, bills: [bill.amount for bill in bills] == [due, due]),
        (Readdress(payer="0x" + "2" * 40), lambda due, bills: bills[0].view()["payerAddr"] == "0x" + "2" * 40),
        (Readdress(platform="zksync-x-y"), lambda due, bills: bills[0].view()["paymentPlatform"] == "zksync-x-y"),
    ],
)
async def test_an_invoice_may_be_wrong_doubled_or_missing(
    tmp_path: Path, deed: Deed, expected: Callable[[Decimal, list[Document]], bool]
) -> None:
    provider = ProviderDouble("one", invoice_delay=0.0, terms=Terms(0.0, 0.0, 0.5))
    provider.plan(Moment.INVOICE, deed)
    async with world(tmp_path, provider) as (yagna, requestor):
        ask = requestor()
        agreement = await ask.agree()
        await ask.ready(agreement)
        await ask.terminate(agreement)
        await provider.reached(Moment.INVOICE, seconds=5)
        await asyncio.sleep(0.05)
        assert expected(Decimal("0.5"), yagna.payments.invoices)


async def test_debit_notes_come_at_intervals_and_may_be_wrong(tmp_path: Path) -> None:
    provider = ProviderDouble("one", terms=Terms(debit_note_interval=1))
    provider.plan(Moment.DEBIT_NOTE, DemandPaymentBy(60))
    provider.plan(Moment.DEBIT_NOTE, Charge(Decimal(100)), nth=2)
    async with world(tmp_path, provider) as (yagna, requestor):
        ask = requestor()
        await ask.ready(await ask.agree())
        first, second = await yagna.until(lambda: len(n := yagna.payments.debit_notes) > 1 and n, seconds=5)
        assert first.view()["paymentDueDate"]
        assert "paymentDueDate" not in second.view()
        assert second.amount > 100 * first.amount
        assert second.view()["previousDebitNoteId"] == first.id
