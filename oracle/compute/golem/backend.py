"""``ports.ComputeBackend`` on Golem: a requestor that takes tasks in and hands results out; workers are the desk's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yapapi
from yapapi import events
from yapapi.config import ApiConfig

from oracle.compute.book import TaskBook
from oracle.compute.golem.connection import allocation_refused, check_connection
from oracle.compute.golem.desk import TICK, WorkersDesk
from oracle.compute.golem.market import Market, SibylStrategy
from oracle.compute.golem.offers import OwnOffers
from oracle.compute.golem.payments import Paymaster
from oracle.compute.golem.pool import AgreementWatch
from oracle.compute.golem.scan import scan
from oracle.compute.golem.terms import GolemTerms
from oracle.domain import (
    Capabilities,
    ComputeEvent,
    ComputeTask,
    ModelManifest,
    Quote,
    Receipt,
    ServableModel,
    TaskResult,
)
from oracle.errors import BudgetExhausted, NoOffers
from oracle.manifests import TASKS
from oracle.market import GLM, Provider, Verdict, to_glm
from oracle.ports import ProviderLedger
from oracle.telemetry import logger
from provider_images.runtime.job import MAX_INPUTS

log = logger("golem")

MAX_PAYLOAD = 64 * 1024 * 1024
_ALLOCATION = "allocation"
_STOP_SECONDS = 25.0
_LAST_BILLS = 4.0  # seconds for the last invoices to come in when the backend closes
_SCAN = 600.0  # seconds between two looks at the market
_SCAN_SECONDS = 8.0
_PATIENCE = 30  # tenths of a second for which quotes wait for the first offers


class GolemBackend:
    """A requestor with a pool of warm workers. Amounts are in the smallest part of GLM.

    ``directory`` holds one folder a task until it is settled, so results survive a restart; tasks that were running do
    not, and the agreements they ran in are ended at the next start. Every ``sweep_every`` seconds documents that wait
    are decided on, and settled ones noted. Create and start it on the event loop it runs on.
    """

    def __init__(
        self,
        directory: Path,
        terms: GolemTerms,
        ledger: ProviderLedger,
        *,
        max_pixels: int = 40_000_000,
        sweep_every: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._terms, self._sweep_every = terms, sweep_every
        self._book = TaskBook(
            directory,
            backend="golem",
            max_pixels=max_pixels,
            max_seconds=terms.run_limit,
            clock=clock,
            on_end=lambda record: self._desk.ended(record),
        )
        self._market = Market(terms, ledger, clock=clock)
        self._paymaster = Paymaster(terms, ledger, self._market, clock=clock)
        self._desk = WorkersDesk(terms, ledger, self._market, self._paymaster, self._book)
        self._watch = AgreementWatch(terms, self._paymaster, clock=clock)
        self._offers = OwnOffers()
        self._directory, self._allocation = directory, ""
        self._golem: yapapi.Golem | None = None
        self._services: list[asyncio.Task[None]] = []

    # -----------------------------------------------------------------------------------------------------------
    # Life
    # -----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect to yagna, reserve the budget of a day, end what an earlier run left open.

        Raises ConfigurationError, MissingTool.
        """
        self._book.open()
        await check_connection(self._terms)
        await self._market.load()
        # What a killed run had reserved yagna would keep for years, and we may need it.
        note = self._directory / _ALLOCATION
        if note.exists():
            await self._paymaster.release(note.read_text().strip())
        # Here and not before: it captures the running loop.
        golem = yapapi.Golem(
            budget=Decimal(self._terms.budget_day) / GLM,
            strategy=SibylStrategy(self._market, self._paymaster.accepted_amount),
            subnet_tag=self._terms.subnet,
            payment_driver=self._terms.payment_driver,
            payment_network=self._terms.payment_network,
            event_consumer=self._on_event,
            api_config=ApiConfig(app_key=self._terms.app_key, api_url=self._terms.api_url),
        )
        self._offers.bind(golem._engine)
        try:
            await golem.start()
        except Exception as error:
            raise allocation_refused(self._terms, error) from error
        self._golem = golem
        self._allocation = str(golem._engine._budget_allocations[0].id)
        fresh = note.with_suffix(".new")
        fresh.write_text(self._allocation)
        fresh.replace(note)
        left = await self._paymaster.close_leftovers()
        if left:
            log.info("ended %d agreements of an earlier run", left)
        self._desk.open(golem)
        self._services = [
            asyncio.create_task(_kept(self._tend), name="golem workers"),
            asyncio.create_task(_kept(self._sweep), name="golem documents"),
            asyncio.create_task(_kept(self._scan), name="golem market"),
            asyncio.create_task(_kept(self._watch.write), name="golem agreements"),
        ]

    def _on_event(self, event: events.Event) -> None:
        self._offers.on_event(event)
        self._watch.on_event(event)

    async def close(self) -> None:
        """End workers and agreements and give the reserved money back; within half a minute."""
        self._book.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._desk.close()
                # What comes later is the sweep's, at the next start.
                await self._watch.written()
                await self._paymaster.await_bills(_LAST_BILLS)
                if self._golem is not None:
                    # Which yapapi forgets to end when it does not wait for payments.
                    invoices = self._golem._engine._process_invoices_job
                    if invoices is not None:
                        invoices.cancel()
                    await self._golem.stop(wait_for_payments=False)
                    (self._directory / _ALLOCATION).unlink(missing_ok=True)
        except TimeoutError:
            log.warning("yagna takes too long to end what runs; it is ended at the next start")
        except Exception as error:  # noqa: BLE001 - yagna may be gone already; what it holds is ended at the next start
            log.warning("yagna was not left in order: %s", str(getattr(error, "body", "") or error)[:200])
        for service in self._services:
            service.cancel()
        await asyncio.gather(*self._services, return_exceptions=True)

    def prepare(self, model: ServableModel) -> None:
        """Have a worker up before the model's first task; it is kept for as long as an idle one is."""
        self._desk.warm(str(model.manifest.document.get("family")))

    @property
    def workers(self) -> Mapping[str, Sequence[str]]:
        """The providers whose workers are up now, by image."""
        return self._desk.workers

    def providers(self) -> Sequence[Provider]:
        """Every provider ever seen, best first."""
        return self._market.providers()

    # -----------------------------------------------------------------------------------------------------------
    # The port
    # -----------------------------------------------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        """What can run here, and how much at once."""
        return Capabilities(
            backend="golem",
            tasks=TASKS,
            engines=frozenset({"keras"}),
            slots=self._terms.workers,
            max_inputs=MAX_INPUTS,
            max_payload=MAX_PAYLOAD,
        )

    async def quotes(self, manifest: ModelManifest, inputs: int) -> Sequence[Quote]:
        """What each provider with a fresh offer would take for a task of that size, best first.

        Empty when no image here can run the model. Raises NoOffers when nobody offers to now.
        """
        if self._unservable(manifest) or inputs > MAX_INPUTS:
            return []
        for _ in range(_PATIENCE):
            if self._market.fresh():
                break
            await asyncio.sleep(0.1)
        quotes = []
        for provider in self._market.fresh():
            if self._market.refusal(provider.node_id):
                continue
            seconds = self._market.expected(provider.node_id, inputs)
            quotes.append(Quote(provider.node_id, provider.price.cost(seconds, seconds * provider.threads), seconds))
        if not quotes:
            raise NoOffers(
                "no provider offers to run it now",
                remedy="Look at `sibyl providers`: they may be too dear, or blocked for a while.",
            )
        return quotes

    async def submit(self, task: ComputeTask) -> None:
        """Accept a task. The same key with the same content again is no error and no second run.

        Raises TaskConflict, PayloadTooLarge, ModelUnservable, WorkerLost, NoOffers when the provider that is named does
        not offer to now, and BudgetExhausted when a cap is reached or the task's budget buys nothing at any provider.
        """
        self._book.check_open()
        if self._book.find(task.key) is None:
            if reason := await self._paymaster.exhausted():
                raise BudgetExhausted(reason, remedy="Raise SIBYL_GOLEM_BUDGET_DAY, or wait.")
            self._check_budget(task)
            named = self._market.find(task.provider) if task.provider else ""
            if named and named not in [provider.node_id for provider in self._market.fresh()]:
                raise NoOffers(f"provider {task.provider} does not offer to work now", remedy="Name another, or none.")
        record = self._book.admit(task, self._unservable)
        if record is not None and record.outcome is None:
            self._desk.add(record)

    def events(self) -> AsyncIterator[ComputeEvent]:
        """Progress of every task from now on; a listener that falls far behind loses the oldest events."""
        return self._book.events()

    async def collect(self, key: str) -> TaskResult:
        """Wait for a task and return its schema-checked result; may be asked again until the task is settled.

        Raises UnknownTask, WorkerLost, TaskTimeout, TaskCancelled, MalformedResult, ModelUnservable.
        """
        return await self._book.collect(key)

    async def cancel(self, key: str) -> None:
        """Stop a task; a finished or unknown one is left as it is. A worker that is at it is let finish."""
        self._book.cancel(key)

    async def receipts(self, key: str) -> Sequence[Receipt]:
        """What the task may have cost at each provider that had it, by our own clock."""
        return self._desk.receipts(key)

    async def settle(self, key: str, *, accepted: bool) -> None:
        """Forget a task. A result that is not accepted is a lie: nothing more is paid for the agreement it came from.

        Golem pays agreements, not tasks, so a lie costs its provider what it had not been paid yet.
        """
        record = self._book.find(key)
        if record is None:
            return
        self._desk.forget(record)
        if not accepted and isinstance(record.outcome, TaskResult):
            reason = "a result of it was contradicted"
            await self._market.judge(record.outcome.provider, Verdict.LIED, reason)
            agreement_id = self._book.agreement_of(record)
            if agreement_id:
                await self._paymaster.refuse(agreement_id, reason)
        self._book.forget(key)

    async def recover(self, keys: Sequence[str]) -> Sequence[str]:
        """The tasks of this run, and those an earlier run finished: their results lie in the directory."""
        return [key for key in keys if self._book.find(key) is not None]

    # -----------------------------------------------------------------------------------------------------------
    # Inside
    # -----------------------------------------------------------------------------------------------------------

    def _check_budget(self, task: ComputeTask) -> None:
        budget = self._terms.budget(task)
        fresh = self._market.fresh()
        if fresh and all(provider.price.rate(provider.threads) > budget for provider in fresh):
            raise BudgetExhausted(
                f"{to_glm(budget)} GLM buys no second of any provider's time",
                remedy="Raise SIBYL_GOLEM_BUDGET_BATCH or SIBYL_GOLEM_BUDGET_REQUEST.",
            )

    def _unservable(self, manifest: ModelManifest) -> str:
        able = self.capabilities()
        family = manifest.document.get("family")
        if manifest.task not in able.tasks:
            return f"{manifest.name}: no image here does {manifest.task}"
        if manifest.engine not in able.engines:
            return f"{manifest.name}: no image here has the engine {manifest.engine}"
        image = self._terms.images.get(str(family))
        if image is None:
            return f"{manifest.name}: there is no provider image for the family {family!r}"
        if image.sealed and manifest.weights_sha256 not in image.weights:
            # No provider could answer, and each would be thought the worse of for it.
            return f"{manifest.name}: the provider image for the family {family!r} holds other weights"
        return ""

    async def _tend(self) -> None:
        while True:
            self._desk.staff()
            await self._market.flush()
            await asyncio.sleep(TICK)

    async def _scan(self) -> None:
        while True:
            for image in self._terms.images.values():
                try:
                    found = await scan(self._terms, image, self._market, seconds=_SCAN_SECONDS)
                    log.info("%d providers offer to run %s", found, image.family)
                except Exception as error:  # noqa: BLE001 - yagna may be away for a while; the next look comes
                    log.warning("the market cannot be read: %s", str(getattr(error, "body", error))[:200])
            await asyncio.sleep(_SCAN)

    async def _sweep(self) -> None:
        while True:
            try:
                await self._paymaster.sweep()
                await self._paymaster.top_up(self._allocation)
            except Exception as error:  # noqa: BLE001 - yagna may be away for a while; the next look comes
                log.warning("yagna's documents cannot be read: %s", str(getattr(error, "body", error))[:200])
            await asyncio.sleep(self._sweep_every)


async def _kept(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Keep a service going whatever it meets; nobody else would notice that it ended."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("a service of the Golem backend met an error of ours, and goes on")
            await asyncio.sleep(TICK)
