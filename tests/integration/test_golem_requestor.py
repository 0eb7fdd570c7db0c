"""The requestor among providers that misbehave: yapapi is real, yagna and the providers are the double."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from oracle.compute.golem import GolemBackend, GolemTerms, Image
from oracle.content.spool import DirectorySpool
from oracle.devnet.golem.double import (
    EVERY_TIME,
    Charge,
    Corrupt,
    Die,
    Fail,
    FakeRuntime,
    Ignore,
    Moment,
    ProviderDouble,
    Refuse,
    Reject,
    RunResult,
    TerminateActivity,
    TerminateAgreement,
    Withhold,
    YagnaDouble,
)
from oracle.devnet.golem.pricing import Terms
from oracle.domain import ServableModel, TaskInput, TaskResult
from oracle.errors import BudgetExhausted, ConfigurationError, MissingTool, NoOffers
from oracle.market import GLM, Decision, DocumentKind, Standing, to_amount
from oracle.pipeline.clock import ChainClock
from oracle.pipeline.trust import TrustedBackend, TrustPolicy
from oracle.store import ProviderBooks, SqliteRequestStore
from provider_images.runtime.job import ItemOutput, Job, JobInput
from tests.integration.test_compute_conformance import MODEL, pictures, started, task

pytestmark = pytest.mark.integration

__all__ = ["pictures"]  # a fixture

DEAR = Terms(per_second=0.0003, per_cpu_second=0.0004)


@dataclass
class Market:
    """A double of yagna, the requestor's store, and requestors over them."""

    yagna: YagnaDouble
    providers: Sequence[ProviderDouble]
    store: SqliteRequestStore
    folder: Path

    def terms(self, **changes: Any) -> GolemTerms:
        terms = GolemTerms(
            api_url=self.yagna.api_url,
            app_key=self.yagna.app_key,
            payment_network=self.yagna.payment_network,
            payment_driver=self.yagna.payment_driver,
            subnet=self.yagna.subnet,
            images={"mnist": Image("mnist", self.yagna.image_hash, self.yagna.image_url)},
            workers=2,
        )
        return replace(terms, **changes)

    @contextlib.asynccontextmanager
    async def requestor(self, **changes: Any) -> AsyncIterator[GolemBackend]:
        backend = GolemBackend(self.folder / "tasks", self.terms(**changes), self.store.ledger, sweep_every=0.3)
        async with started(backend):
            yield backend

    def invoice_of(self, provider: ProviderDouble) -> str:
        """The status of a provider's one invoice, or nothing."""
        found = [one.status for one in self.yagna.payments.invoices if one.view()["issuerId"] == provider.node_id]
        return found[0] if found else ""

    async def provider(self, name: str) -> Any:
        return next(one for one in await self.store.ledger.providers() if one.name == name)

    async def decision(self) -> tuple[Decision, str]:
        """What was decided about the first invoice, once it was."""
        for _ in range(300):
            documents = [one for one in await self.store.ledger.documents() if one.kind is DocumentKind.INVOICE]
            if documents:
                return documents[0].decision, documents[0].reason
            await asyncio.sleep(0.1)
        pytest.fail("no invoice was decided on within half a minute")

    async def until_settled(self) -> ProviderBooks:
        """The books, once nothing is owed."""
        for _ in range(100):
            _, books = await self.store.books()
            if not books.owed:
                return books
            await asyncio.sleep(0.1)
        pytest.fail("something is still owed after ten seconds")


Open = Callable[..., contextlib.AbstractAsyncContextManager[Market]]


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    @contextlib.asynccontextmanager
    async def build(*providers: ProviderDouble, **options: Any) -> AsyncIterator[Market]:
        store = SqliteRequestStore(tmp_path / "oracle.sqlite3")
        async with YagnaDouble(tmp_path / "yagna", providers, patience=0.1, **options) as yagna:
            monkeypatch.setenv("PATH", yagna.environment["PATH"])
            try:
                yield Market(yagna, providers, store, tmp_path)
            finally:
                await store.close()

    return build


def cheap_and_dear(**first: Any) -> tuple[ProviderDouble, ProviderDouble]:
    """The first one is asked first."""
    return ProviderDouble("cheap", **first), ProviderDouble("dear", terms=DEAR)


def labels(result: TaskResult) -> list[int]:
    return [item.labels[0].index for item in result.items]


async def run(
    backend: Any, key: str, inputs: Sequence[TaskInput], seconds: float = 40, model: ServableModel = MODEL
) -> TaskResult:
    await backend.submit(task(key, tuple(inputs), seconds=seconds, model=model))
    return await backend.collect(key)


async def test_a_warm_worker_does_one_batch_after_the_other_and_is_paid_when_it_was_idle(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    async with market(ProviderDouble("oak")) as here, here.requestor(workers=1, idle_release=0.8) as backend:
        first = await run(backend, "a", pictures)
        began = time.monotonic()
        for key in "bcd":
            assert (await run(backend, key, pictures)).provider == first.provider
        assert time.monotonic() - began < 2
        (oak,) = here.providers
        assert (oak.happened(Moment.AGREEMENT), oak.happened(Moment.ACTIVITY), oak.happened(Moment.WARM_UP)) == (
            1,
            1,
            1,
        )
        await here.yagna.until(lambda: [document.status for document in here.yagna.payments.invoices] == ["ACCEPTED"])
        assert (await here.decision())[0] is Decision.ACCEPTED
        here.yagna.payments.settle(here.yagna.payments.invoices[0])
        books = await here.until_settled()
        assert books.by_model.keys() == {MODEL.manifest_cid.text}
        assert books.by_model[MODEL.manifest_cid.text][0] == 4 * len(pictures)


@pytest.mark.parametrize(
    "fault", [Die(), TerminateActivity(), TerminateAgreement(), Refuse()], ids=lambda fault: type(fault).__name__
)
async def test_a_provider_that_fails_costs_time_and_no_task(
    market: Open, pictures: tuple[TaskInput, ...], fault: Any
) -> None:
    cheap, dear = cheap_and_dear()
    cheap.plan(Moment.ACTIVITY if isinstance(fault, Refuse) else Moment.TASK, fault)
    async with market(cheap, dear) as here, here.requestor(workers=1) as backend:
        result = await run(backend, "a", pictures)
        assert len(result.items) == len(pictures)
        assert result.provider == dear.node_id
        if not isinstance(fault, Refuse):
            failed = await here.provider("cheap")
            assert failed.failed == pytest.approx(1, abs=0.01)
            assert "blocked" in failed.blocked(time.time())


@pytest.mark.parametrize(
    ("moment", "deed"),
    [(Moment.PROPOSAL, Reject()), (Moment.AGREEMENT, Reject()), (Moment.AGREEMENT, Ignore())],
    ids=["rejects the proposal", "rejects the agreement", "is silent"],
)
async def test_a_provider_that_does_not_deal_is_passed_over(
    market: Open, pictures: tuple[TaskInput, ...], moment: Moment, deed: Any
) -> None:
    cheap, dear = cheap_and_dear()
    cheap.plan(moment, deed)
    async with market(cheap, dear) as here, here.requestor() as backend:
        assert len((await run(backend, "a", pictures)).items) == len(pictures)


@dataclass
class HangsOnce:
    """A runtime whose next task never ends, once it is armed; shared by providers, it is the first to take one."""

    honest: FakeRuntime = field(default_factory=FakeRuntime)
    armed: bool = False

    async def __call__(self, words: Sequence[str], directory: Path) -> RunResult:
        if self.armed and "run" in words:
            self.armed = False
            await asyncio.sleep(3600)
        return await self.honest(words, directory)


async def test_a_straggler_is_overtaken(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    runtime = HangsOnce()
    providers = [ProviderDouble(name, handler=runtime) for name in ("oak", "elm")]
    async with market(*providers) as here, here.requestor() as backend:
        # Both workers are up and known to be quick.
        await asyncio.gather(*(run(backend, f"warm{n}", pictures[:4]) for n in range(4)))
        await here.yagna.until(lambda: len(backend.workers["mnist"]) == 2)
        runtime.armed = True
        began = time.monotonic()
        result = await run(backend, "a", pictures)
        assert not runtime.armed
        assert time.monotonic() - began < 10
        assert len(result.items) == len(pictures)


async def test_a_bill_for_more_than_was_used_is_refused(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    oak = ProviderDouble("oak", terms=Terms(per_second=0.0005, per_cpu_second=0.001))
    oak.plan(Moment.INVOICE, Charge(amount=Decimal(1)))
    async with market(oak) as here, here.requestor(idle_release=0.3) as backend:
        await run(backend, "a", pictures)
        await here.yagna.until(lambda: bool(here.yagna.payments.invoices))
        decision, reason = await here.decision()
        assert decision is Decision.REFUSED
        assert "bills 1 GLM" in reason
        assert [invoice.status for invoice in here.yagna.payments.invoices if invoice.status == "ACCEPTED"] == []
        assert (await here.provider("oak")).lied == pytest.approx(1, abs=0.01)


async def test_a_spoilt_result_is_computed_elsewhere_and_not_paid(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    cheap, dear = cheap_and_dear()
    cheap.plan(Moment.DOWNLOAD, Corrupt(lambda data: data.replace(b"0.6", b"0.9")))
    async with market(cheap, dear) as here, here.requestor(workers=1) as backend:
        assert (await run(backend, "a", pictures)).provider == dear.node_id
        known = await here.provider("cheap")
        assert known.failed == pytest.approx(1, abs=0.01)
        assert "malformed" in known.detail
        await here.yagna.until(lambda: here.invoice_of(cheap) == "REJECTED")


def lie(job: Job, picture: JobInput, data: bytes) -> ItemOutput:
    del job, data
    return ItemOutput(picture.id, ((3, 0.6), (0, 0.2), (2, 0.2)), familiarity=128)


async def test_a_liar_is_found_out_unpaid_and_blocked(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    liar = ProviderDouble("liar", handler=FakeRuntime(answer=lie))
    honest = [ProviderDouble("oak", terms=DEAR), ProviderDouble("elm", terms=DEAR)]
    async with market(liar, *honest) as here, here.requestor(workers=3) as backend:
        trusted = TrustedBackend(
            backend,
            ledger=here.store.ledger,
            spool=DirectorySpool(here.folder / "known"),
            clock=ChainClock(),
            policy=TrustPolicy(redundancy=1.0, known_answers=0.0),
        )
        result = await run(trusted, "a", pictures)
        assert set(labels(result)) == {1}
        receipts = {receipt.provider for receipt in await trusted.receipts("a")}
        await trusted.settle("a", accepted=True)
        assert liar.node_id in receipts
        known = await here.provider("liar")
        assert known.lied == pytest.approx(1, abs=0.01)
        assert "contradicted" in known.blocked(time.time())
        await here.yagna.until(lambda: here.invoice_of(liar) == "REJECTED")


async def test_a_provider_that_blames_the_model_costs_nobody_an_answer(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    cheap, dear = cheap_and_dear()
    cheap.plan(Moment.TASK, Fail(1, stderr="model: x"), times=EVERY_TIME)
    async with market(cheap, dear) as here, here.requestor(workers=1) as backend:
        assert (await run(backend, "a", pictures)).provider == dear.node_id
        assert (await here.provider("cheap")).failed == pytest.approx(1, abs=0.01)


async def test_a_task_that_two_hands_lose_at_once_waits_once(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    both = [
        ProviderDouble("oak", handler=FakeRuntime(task_seconds=4.0)),
        ProviderDouble("elm", handler=FakeRuntime(task_seconds=4.0)),
    ]
    async with market(*both) as here, here.requestor(trusted=frozenset(one.node_id for one in both)) as backend:
        await backend.submit(task("a", pictures, seconds=60))
        # The second one comes to help the first.
        await both[0].reached(Moment.TASK)
        await both[1].reached(Moment.TASK)
        await asyncio.gather(*(one.terminate_activities() for one in both))
        assert len((await backend.collect("a")).items) == len(pictures)
        await backend.settle("a", accepted=True)
        assert len((await run(backend, "b", pictures, seconds=60)).items) == len(pictures)


async def test_given_a_named_provider_while_others_are_idle_it_is_hired_for_the_task(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    cheap, dear = cheap_and_dear()
    async with market(cheap, dear) as here, here.requestor(workers=1) as backend:
        assert (await run(backend, "a", pictures)).provider == cheap.node_id
        await backend.submit(replace(task("b", pictures, seconds=40), provider="dear"))
        assert (await backend.collect("b")).provider == dear.node_id


async def test_given_the_only_provider_idle_with_one_image_a_task_of_another_image_gets_it_within_seconds(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    document = {**MODEL.manifest.document, "family": "other"}
    other = replace(MODEL, model_id=2, manifest=replace(MODEL.manifest, document=document))
    cheap, _ = cheap_and_dear()
    async with market(cheap) as here:
        image = Image("other", here.yagna.image_hash, here.yagna.image_url)
        images = {"mnist": replace(image, family="mnist"), "other": image}
        async with here.requestor(images=images, idle_release=120.0) as backend:
            assert (await run(backend, "a", pictures)).provider == cheap.node_id
            result = await run(backend, "b", pictures, seconds=40, model=other)
            assert (result.provider, len(result.items)) == (cheap.node_id, len(pictures))


async def test_a_named_provider_alone_does_the_task(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    cheap, dear = cheap_and_dear()
    async with market(cheap, dear) as here, here.requestor() as backend:
        await backend.quotes(MODEL.manifest, 1)
        await backend.submit(replace(task("a", pictures, seconds=40), provider="dear"))
        assert (await backend.collect("a")).provider == dear.node_id
        with pytest.raises(NoOffers, match="does not offer"):
            await backend.submit(replace(task("b", pictures, seconds=3), provider="0x" + "00" * 20))


async def test_a_banned_provider_gets_nothing(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    cheap, dear = cheap_and_dear()
    async with market(cheap, dear) as here, here.requestor(banned=frozenset({cheap.node_id})) as backend:
        assert (await run(backend, "a", pictures)).provider == dear.node_id
        assert (await here.provider("cheap")).standing is Standing.BANNED
        assert [quote.provider for quote in await backend.quotes(MODEL.manifest, 16)] == [dear.node_id]


async def test_budgets_bound_what_is_begun(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    async with market(ProviderDouble("oak", terms=DEAR)) as here:
        async with here.requestor(budget_request=1) as backend:
            assert await backend.quotes(MODEL.manifest, 16)
            with pytest.raises(BudgetExhausted, match="buys no second"):
                await backend.submit(task("a", pictures))
        async with here.requestor(budget_day=to_amount("0.001"), idle_release=0.2) as backend:

            async def work_on() -> None:
                for number in range(100):
                    await run(backend, f"b{number}", pictures)
                    await asyncio.sleep(0.3)

            with pytest.raises(BudgetExhausted, match="24 hours"):
                await work_on()
        assert sum(Decimal(one.amount) for one in here.yagna.payments.invoices if one.status == "ACCEPTED") <= Decimal(
            "0.001"
        )


async def test_an_invoice_that_came_while_nobody_was_there_is_paid_at_the_next_start(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    oak = ProviderDouble("oak", invoice_delay=6.0)
    async with market(oak) as here:
        async with here.requestor() as backend:
            await run(backend, "a", pictures)
        assert not await here.store.ledger.open_agreements()
        await here.yagna.until(lambda: [one.status for one in here.yagna.payments.invoices] == ["RECEIVED"])
        # For the sweep a document is one that yapapi missed once it has waited.
        backend = GolemBackend(
            here.folder / "later", here.terms(), here.store.ledger, sweep_every=0.3, clock=lambda: time.time() + 60
        )
        async with started(backend):
            await here.yagna.until(lambda: [one.status for one in here.yagna.payments.invoices] == ["ACCEPTED"])


async def test_agreements_of_a_run_that_was_killed_are_ended_at_the_next_start(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    oak = ProviderDouble("oak")
    oak.plan(Moment.INVOICE, Withhold())
    async with market(oak) as here, here.requestor() as killed:
        await run(killed, "a", pictures)
        (left,) = await here.store.ledger.open_agreements()
        async with started(GolemBackend(here.folder / "again", here.terms(), here.store.ledger)):
            ended = await here.store.ledger.agreement(left.agreement_id)
            assert ended is not None
            assert ended.closed_at is not None
            assert here.yagna.journal.count("POST", "/terminate") >= 1


async def test_what_is_reserved_is_topped_up_and_given_back_after_a_kill(
    market: Open, pictures: tuple[TaskInput, ...]
) -> None:
    dear = ProviderDouble("oak", terms=Terms(per_second=0.0005, per_cpu_second=0.001))
    async with market(dear) as here:
        async with here.requestor(budget_day=to_amount("0.002"), idle_release=0.2) as backend:
            await run(backend, "a", pictures)
            await here.yagna.until(lambda: any(one.status == "ACCEPTED" for one in here.yagna.payments.invoices))
            (allocation,) = here.yagna.payments.allocations.values()
            await here.yagna.until(lambda: Decimal(allocation.view()["remainingAmount"]) >= Decimal("0.001"))
        (here.folder / "tasks" / "allocation").write_text("one-that-is-gone")
        async with here.requestor():
            # The one of a run that was killed: nothing released it.
            left = (here.folder / "tasks" / "allocation").read_text()
            async with started(GolemBackend(here.folder / "tasks", here.terms(), here.store.ledger)):
                assert here.yagna.payments.allocations[left].released


async def test_a_job_is_left_for_a_new_one_before_it_is_too_old(market: Open, pictures: tuple[TaskInput, ...]) -> None:
    # Providers make no agreement in a job's last five minutes, so this one is left after some six seconds.
    # There is work all the time, so no worker is ever idle.
    async with (
        market(ProviderDouble("oak"), ProviderDouble("elm")) as here,
        here.requestor(lifetime=336.0, workers=1) as backend,
    ):
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < 14:
            await run(backend, f"a{number}", pictures[:2], seconds=20)
            number += 1
        assert sum(provider.happened(Moment.AGREEMENT) for provider in here.providers) >= 2
        assert len(backend.workers["mnist"]) <= 2
        assert all(one.failed == 0 for one in await here.store.ledger.providers())


async def test_what_is_wrong_at_the_start_is_said_with_a_remedy(
    market: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with market(ProviderDouble("oak")) as here:

        async def fails(kind: type[ConfigurationError], words: str, **changes: Any) -> None:
            backend = GolemBackend(tmp_path / "tasks", here.terms(**changes), here.store.ledger)
            with pytest.raises(kind, match=words) as caught:
                await backend.start()
            assert caught.value.remedy
            await backend.close()

        await fails(ConfigurationError, "refuses the app key", app_key="another")
        await fails(ConfigurationError, "does not answer", api_url="http://127.0.0.1:9")
        await fails(ConfigurationError, "reserves no money", budget_day=10**9 * GLM)
        monkeypatch.setenv("PATH", "/nowhere")
        await fails(MissingTool, "gftp")
