"""What an unmodified yapapi makes of providers that misbehave. The stories run all at once: yapapi sleeps a lot."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from golem_scenario import InOrder, start  # isort: skip  # imports yapapi without its warning
import yapapi
from ya_activity import ApiException
from yapapi import events
from yapapi.config import ApiConfig
from yapapi.rest.activity import BatchError, BatchTimeoutError, CommandExecutionError
from yapapi.strategy import DecreaseScoreForUnconfirmedAgreement

from oracle.compute.golem import Image
from oracle.compute.golem.package import ImagePackage
from oracle.devnet.golem.double import (
    EVERY_TIME,
    RECEIVER_CANCELLED,
    Charge,
    Corrupt,
    Deed,
    DemandPaymentBy,
    Die,
    Fail,
    Hang,
    Ignore,
    Moment,
    ProviderDouble,
    Readdress,
    Refuse,
    Reject,
    RunResult,
    SendTwice,
    TerminateActivity,
    TerminateAgreement,
    Withhold,
    YagnaDouble,
)
from oracle.devnet.golem.double.payments import Document
from oracle.devnet.golem.pricing import Terms

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # yapapi leaves pipes and generators of what failed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

TEXTS = ("one", "two")


class WrongResult(Exception):
    """The application found other bytes than it should."""


@dataclass
class Outcome:
    """What came of a story: (text, provider), failures by provider, yapapi's events, documents."""

    results: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    events: list[events.Event] = field(default_factory=list)
    invoices: list[Document] = field(default_factory=list)
    debit_notes: list[Document] = field(default_factory=list)
    terminations: list[str] = field(default_factory=list)
    spent: Decimal = Decimal(0)
    cancelled: bool = False

    def seen(self, kind: type[events.Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class Story:
    """``first`` misbehaves, ``second`` does not; who failed is not asked again."""

    first: ProviderDouble
    moment: Moment | None = None
    deed: Deed | None = None
    nth: int = 1
    times: int = 1
    alone: bool = False
    restart: bool = False
    seconds: float = 30.0

    async def play(self, directory: Path) -> Outcome:
        told = Outcome()
        if self.moment is not None and self.deed is not None:
            self.first.plan(self.moment, self.deed, nth=self.nth, times=self.times)
        second = ProviderDouble("second", handler=copy)
        async with YagnaDouble(directory, [self.first, *([] if self.alone else [second])], patience=0.1) as yagna:
            strategy = InOrder(["first", "second"])
            # As yapapi's own: who did not come to an agreement is liked less.
            wary = DecreaseScoreForUnconfirmedAgreement(strategy, 0.5)
            golem = yapapi.Golem(
                budget=1.0,
                strategy=wary,
                subnet_tag=yagna.subnet,
                payment_driver=yagna.payment_driver,
                payment_network=yagna.payment_network,
                event_consumer=told.events.append,
                api_config=ApiConfig(app_key=yagna.app_key, api_url=yagna.api_url),
            )
            golem.add_event_consumer(wary.on_event, [events.AgreementConfirmed, events.AgreementRejected])
            await start(golem, str(yagna.gftp_dir))
            try:
                tasks = [yapapi.Task(data=text) for text in TEXTS]
                package = ImagePackage(Image("copy", yagna.image_hash, yagna.image_url), 0.5)
                running = golem.execute_tasks(
                    self._worker(told, strategy, yagna), tasks, package, max_workers=2, timeout=timedelta(minutes=10)
                )
                async with asyncio.timeout(60):
                    async for task in running:
                        told.results.append(task.result)
                await asyncio.sleep(2.5)  # yapapi looks for documents every second
            except asyncio.CancelledError:
                # yapapi lets the cancellation of one worker end the whole job.
                told.cancelled = True
            finally:
                # yapapi waits half a minute for missing invoices, or forgets to stop looking for them.
                golem._engine._process_invoices_job.cancel()
                await golem.stop(wait_for_payments=False)
            told.invoices, told.debit_notes = yagna.payments.invoices, yagna.payments.debit_notes
            told.terminations = [a.reason for a in yagna.market.agreements.values() if a.state == "Terminated"]
            told.spent = sum((spent for _, spent, _ in yagna.payments.accepted), Decimal(0))
            held = sum((a.spent for a in yagna.payments.allocations.values()), Decimal(0))
            assert told.spent == held
        return told

    def _worker(self, told: Outcome, strategy: InOrder, yagna: YagnaDouble) -> Any:
        async def worker(context: yapapi.WorkContext, tasks: Any) -> AsyncIterator[Any]:
            async for task in tasks:
                got: list[bytes] = []

                async def keep(data: bytes, into: list[bytes] = got) -> None:
                    into.append(data)

                script = context.new_script(timeout=timedelta(seconds=self.seconds))
                script.upload_bytes(task.data.encode(), "/golem/work/in")
                script.run("/bin/cp", "/golem/work/in", "/golem/work/out")
                script.download_bytes("/golem/work/out", keep)
                try:
                    if self.restart and not told.results:
                        await yagna.restart()
                    yield script
                    if got != [task.data.encode()]:
                        raise WrongResult(got)
                except Exception as error:
                    told.failures.append((context.provider_name, error))
                    strategy.failed.add(context.provider_name)
                    task.reject_result(retry=True)
                    raise
                task.accept_result((task.data, context.provider_name))

        return worker


async def copy(words: Sequence[str], directory: Path) -> RunResult:
    shutil.copy(directory / "in", directory / "out")
    return RunResult()


def first(**how: Any) -> ProviderDouble:
    return ProviderDouble("first", handler=copy, **how)


def early() -> ProviderDouble:
    """A provider that hangs until it has sent a debit note."""
    provider = first(terms=Terms(debit_note_interval=0.5))
    provider.plan(Moment.RUN, Hang())
    return provider


CHEAP = {"golem.com.pricing.model.linear.coeffs": [1, 0, 0]}

STORIES = {
    "honest": Story(first()),
    "dies": Story(first(), Moment.RUN, Die(), nth=2),
    "dies on its bus": Story(first(), Moment.RUN, Die(RECEIVER_CANCELLED), nth=2),
    "hangs": Story(first(), Moment.RUN, Hang(), seconds=4),
    "fails": Story(first(), Moment.RUN, Fail(3, stderr="broken")),
    "loses files": Story(first(), Moment.UPLOAD, Fail(-1, message="Transfer error: hash mismatch")),
    "corrupts": Story(first(), Moment.DOWNLOAD, Corrupt(bytes.upper)),
    "ends the activity": Story(first(), Moment.RUN, TerminateActivity("tired", "no more")),
    "ends the agreement": Story(first(), Moment.RUN, TerminateAgreement()),
    "rejects": Story(first(), Moment.AGREEMENT, Reject(), times=EVERY_TIME),
    "ignores": Story(first(), Moment.AGREEMENT, Ignore(), times=EVERY_TIME),
    "turns down": Story(first(), Moment.PROPOSAL, Reject(), times=EVERY_TIME),
    "overprices": Story(first(terms=Terms(start=5.0))),
    "misprices": Story(first(properties=CHEAP)),
    "has no activity": Story(first(), Moment.ACTIVITY, Refuse(), times=EVERY_TIME),
    "charges too much": Story(first(), Moment.INVOICE, Charge(amount=Decimal(2)), alone=True),
    "bills another": Story(first(), Moment.INVOICE, Readdress(payer="0x" + "2" * 40), alone=True),
    "sends no invoice": Story(first(), Moment.INVOICE, Withhold(), alone=True),
    "sends two invoices": Story(first(), Moment.INVOICE, SendTwice(), alone=True),
    "wants money early": Story(early(), Moment.DEBIT_NOTE, DemandPaymentBy(60), alone=True),
    "loses the daemon": Story(first(), restart=True, alone=True),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    directory = tmp_path_factory.mktemp("stories")
    outcomes = await asyncio.gather(*(story.play(directory / name) for name, story in STORIES.items()))
    return dict(zip(STORIES, outcomes, strict=True))


async def test_an_honest_provider_does_all_and_is_paid(told: dict[str, Outcome]) -> None:
    outcome = told["honest"]
    assert sorted(outcome.results) == [("one", "first"), ("two", "first")]
    assert outcome.failures == []
    (invoice,) = outcome.invoices
    assert (invoice.status, invoice.amount) == ("ACCEPTED", outcome.spent)
    assert outcome.terminations == ["Successfully finished all work"]


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("dies", ApiException, "endpoint address not found"),
        ("dies on its bus", ApiException, "Service receiver was cancelled"),
        ("hangs", BatchTimeoutError, ""),
        ("fails", CommandExecutionError, "exited with code 3'; stderr: 'broken'"),
        ("loses files", CommandExecutionError, "hash mismatch"),
        ("corrupts", WrongResult, "ONE"),
        ("ends the activity", BatchError, "Activity terminated by provider"),
        ("ends the agreement", BatchError, "Activity terminated by provider"),
    ],
)
async def test_what_one_provider_fails_to_do_another_does(
    told: dict[str, Outcome], name: str, kind: type[Exception], says: str
) -> None:
    outcome = told[name]
    ((provider, error),) = outcome.failures
    assert (provider, type(error), says in str(error)) == ("first", kind, True)
    assert sorted(text for text, _ in outcome.results) == ["one", "two"]
    assert ("two" if "dies" in name else "one", "second") in outcome.results


async def test_a_provider_that_died_sends_no_bill(told: dict[str, Outcome]) -> None:
    for name, bills in (("dies", 1), ("dies on its bus", 1), ("fails", 2), ("ends the activity", 2)):
        assert len(told[name].invoices) == bills, name
        assert {invoice.status for invoice in told[name].invoices} == {"ACCEPTED"}


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("rejects", events.AgreementRejected),
        ("ignores", events.AgreementRejected),
        ("has no activity", events.ActivityCreateFailed),
        ("overprices", events.ProposalRejected),
        ("misprices", events.ProposalRejected),
    ],
)
async def test_who_does_not_come_to_terms_is_passed_over(
    told: dict[str, Outcome], name: str, event: type[events.Event]
) -> None:
    assert told[name].seen(event)
    assert sorted(told[name].results) == [("one", "second"), ("two", "second")]
    assert told[name].failures == []


async def test_a_price_too_high_and_one_that_is_none_are_told_apart(told: dict[str, Outcome]) -> None:
    reasons = {name: told[name].seen(events.ProposalRejected)[0].reason for name in ("overprices", "misprices")}
    assert reasons == {"overprices": "Score too low", "misprices": "Unknown error in score offer"}


async def test_a_rejected_proposal_is_passed_over_in_silence(told: dict[str, Outcome]) -> None:
    outcome = told["turns down"]
    assert sorted(outcome.results) == [("one", "second"), ("two", "second")]
    assert len(outcome.seen(events.ProposalConfirmed)) == 1


@pytest.mark.parametrize(
    ("name", "statuses", "failed"),
    [
        ("charges too much", ["RECEIVED"], True),
        ("bills another", ["RECEIVED"], True),
        ("sends no invoice", [], False),
        ("sends two invoices", ["ACCEPTED", "RECEIVED"], False),
    ],
)
async def test_a_bill_that_is_wrong_is_not_paid(
    told: dict[str, Outcome], name: str, statuses: list[str], failed: bool
) -> None:
    outcome = told[name]
    assert sorted(outcome.results) == [("one", "first"), ("two", "first")]
    assert [invoice.status for invoice in outcome.invoices] == statuses
    assert bool(outcome.seen(events.PaymentFailed)) is failed
    assert outcome.spent < 1


async def test_a_debit_note_that_is_due_early_ends_the_agreement_and_yapapi_with_it_the_job(
    told: dict[str, Outcome],
) -> None:
    outcome = told["wants money early"]
    assert outcome.cancelled
    assert "Payable debit note received when mid-agreement payments inactive." in outcome.terminations[0]
    assert outcome.debit_notes[0].status == "RECEIVED"


async def test_a_restart_of_the_daemon_ends_the_job_and_leaves_the_bill(told: dict[str, Outcome]) -> None:
    outcome = told["loses the daemon"]
    assert outcome.results == []
    assert [invoice.status for invoice in outcome.invoices] == ["RECEIVED"]
