"""``ports.ComputeBackend`` on Golem: tasks wait here until a leased worker takes them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import yapapi
from yapapi.config import ApiConfig

from oracle.compute.book import TaskBook, TaskRecord
from oracle.compute.golem.connection import allocation_refused, check_connection
from oracle.compute.golem.market import Market, SibylStrategy
from oracle.compute.golem.payments import Paymaster
from oracle.compute.golem.pool import AgreementWatch, Fleet, Lease
from oracle.compute.golem.scan import scan
from oracle.compute.golem.terms import GolemTerms, Image
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
from oracle.errors import BudgetExhausted, MalformedResult, ModelUnservable, NoOffers, WorkerLost
from oracle.manifests import TASKS
from oracle.market import GLM, Provider, Verdict, Work, to_glm
from oracle.ports import ProviderLedger
from oracle.telemetry import logger
from provider_images.runtime.job import MAX_INPUTS, Job, JobError, JobResult

log = logger("golem")

MAX_PAYLOAD = 64 * 1024 * 1024
_ALLOCATION = "allocation"
_MODEL_REFUSED = "model:"  # how the runtime begins when it cannot load the model
_ELSEWHERE = 3.0  # seconds for a task to find a worker before those of other images make room
_TICK = 0.5  # seconds between two looks at how many workers are wanted
_HOPELESS = 3  # workers in a row that did not come up, after which waiting tasks are told
_QUICKEST = 2.0  # seconds under which no task is taken for a straggler
_LAST_RESORT = 5.0  # seconds after which a task may go to a provider that failed it before
_STOP_SECONDS = 25.0
_LAST_BILLS = 4.0  # seconds for the last invoices to come in when the backend closes
_SCAN = 600.0  # seconds between two looks at the market
_SCAN_SECONDS = 8.0
_PATIENCE = 30  # tenths of a second for which quotes wait for the first offers


@dataclass(slots=True)
class _Effort:
    """What was tried for a task."""

    queued: float
    tried: set[str] = field(default_factory=set)
    tries: int = 0
    receipts: list[Receipt] = field(default_factory=list)
    refusals: set[str] = field(default_factory=set)  # providers that say they cannot load the model


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
        self._terms, self._ledger, self._sweep_every = terms, ledger, sweep_every
        self._book = TaskBook(
            directory,
            backend="golem",
            max_pixels=max_pixels,
            max_seconds=terms.run_limit,
            clock=clock,
            on_end=self._ended,
        )
        self._market = Market(terms, ledger, clock=clock)
        self._paymaster = Paymaster(terms, ledger, self._market, clock=clock)
        self._watch = AgreementWatch(terms, self._paymaster, clock=clock)
        self._directory, self._allocation = directory, ""
        self._golem: yapapi.Golem | None = None
        self._fleets: dict[str, Fleet] = {}
        self._waiting: list[TaskRecord] = []
        self._efforts: dict[str, _Effort] = {}
        self._takers: dict[str, dict[str, str]] = {}  # of tasks kept apart: provider -> key of the one it took
        self._arrived = asyncio.Event()
        self._warm: dict[str, float] = {}
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
            event_consumer=self._watch.on_event,
            api_config=ApiConfig(app_key=self._terms.app_key, api_url=self._terms.api_url),
        )
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
        for family, image in self._terms.images.items():
            self._fleets[family] = Fleet(golem, image, self._terms, self, self._market, self._paymaster)
        self._services = [
            asyncio.create_task(_kept(self._tend), name="golem workers"),
            asyncio.create_task(_kept(self._sweep), name="golem documents"),
            asyncio.create_task(_kept(self._scan), name="golem market"),
            asyncio.create_task(_kept(self._watch.write), name="golem agreements"),
        ]

    async def close(self) -> None:
        """End workers and agreements and give the reserved money back; within half a minute."""
        self._book.close()
        self._arrived.set()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.gather(*(fleet.close() for fleet in self._fleets.values()))
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
        family = str(model.manifest.document.get("family"))
        if family in self._fleets:
            self._warm[family] = time.monotonic() + self._terms.idle_release

    @property
    def workers(self) -> Mapping[str, Sequence[str]]:
        """The providers whose workers are up now, by image."""
        return {family: [lease.node_id for lease in fleet.leases] for family, fleet in self._fleets.items()}

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
            seconds = self._expected(provider.node_id, inputs)
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
        if record is None or record.outcome is not None:
            return
        self._efforts[record.key] = _Effort(queued=time.monotonic())
        self._waiting.append(record)
        self._wake()

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
        effort = self._efforts.get(key)
        return [] if effort is None else list(effort.receipts)

    async def settle(self, key: str, *, accepted: bool) -> None:
        """Forget a task. A result that is not accepted is a lie: nothing more is paid for the agreement it came from.

        Golem pays agreements, not tasks, so a lie costs its provider what it had not been paid yet.
        """
        record = self._book.find(key)
        if record is None:
            return
        self._efforts.pop(key, None)
        if record.task is not None and key in (takers := self._takers.get(record.task.apart, {})).values():
            for node_id in [node_id for node_id, taken in takers.items() if taken == key]:
                del takers[node_id]
            if not takers:
                del self._takers[record.task.apart]
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
    # The workers' desk
    # -----------------------------------------------------------------------------------------------------------

    async def next_task(self, image: Image, lease: Lease, *, idle_until: float, retire_at: float) -> TaskRecord | None:
        """Wait for a task that this worker may do; None ends the lease: there was none for long, or its time is up."""
        while (now := time.monotonic()) < retire_at and not self._market.refusal(lease.node_id):
            record = self._take(image, lease) or self._straggler(image, lease)
            if record is not None:
                self._book.take_up(record, lease.node_id)
                if record.task is not None and record.task.apart:
                    self._takers.setdefault(record.task.apart, {})[lease.node_id] = record.key
                return record
            if now >= idle_until or self._in_the_way(image, lease) or self._needed_elsewhere(image, lease):
                return None
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(idle_until - now, _TICK)):
                    await self._arrived.wait()
        return None

    def time_for(self, record: TaskRecord, lease: Lease) -> float:
        """Seconds that the task may take there: its deadline, the limit, and what its budget buys.

        Never less than the provider needs at its usual pace: one that is cut short is lost, for no fault of its own.
        What comes too late is thrown away.
        """
        assert record.task is not None
        rate = lease.price.rate(lease.threads)
        bought = self._left(record) / rate if rate else self._terms.run_limit
        left = max(record.task.deadline - self._book.now(), self._patience(lease.node_id, len(record.job.inputs)))
        return max(1.0, min(self._terms.run_limit, bought, left))

    async def returned(self, record: TaskRecord, lease: Lease, remote: Job, document: bytes, started: float) -> None:
        """A result document came back: keep it, or find the provider wanting."""
        finished = self._book.now()
        try:
            # Beside the loop: megabytes that a stranger sends take a second to be checked.
            document = await asyncio.to_thread(_in_our_terms, document, remote, record.job)
            result = await asyncio.to_thread(
                self._book.check_result, record, document, lease.node_id, started, finished
            )
        except JobError as error:
            self._book.put_down(record)
            reason = f"its result is malformed: {error}"
            await self._paymaster.refuse(lease.agreement_id, reason)
            await self._note(record, lease, started, Verdict.FAILED, reason)
            self._try_again(record, lease, MalformedResult(f"{lease.name}: {reason}"))
            return
        await self._note(record, lease, started, Verdict.GOOD)
        await self._market.worked(lease.node_id, len(record.job.inputs), finished - started)
        # Another may have been quicker, or the task was taken back.
        if record.outcome is None and self._book.held(record):
            try:
                self._book.keep_result(record, document, result, agreement_id=lease.agreement_id)
            except OSError as error:
                log.error("the result of task %s is not on disk: %s", record.key[:8], error)
            self._book.finish(record, result, provider=lease.node_id)
        self._book.put_down(record)

    async def failed(self, record: TaskRecord, lease: Lease, reason: str, started: float) -> None:
        """The worker was lost, or did not do it."""
        self._book.put_down(record)
        await self._note(record, lease, started, Verdict.FAILED, reason)
        error: WorkerLost | ModelUnservable = WorkerLost(f"{lease.name} was lost: {reason}")
        effort = self._efforts.get(record.key)
        if effort is not None and reason.startswith(_MODEL_REFUSED):
            effort.refusals.add(lease.node_id)
            # One may say so to be rid of work, or to harm; two that agree are believed.
            if len(effort.refusals) >= min(2, self._terms.tries):
                error = ModelUnservable(f"{lease.name} cannot load the model: {reason}")
                self._book.finish(record, error, provider=lease.node_id)
        self._try_again(record, lease, error)

    def abandoned(self, record: TaskRecord) -> None:
        """The worker was taken down with the task, by us or with its job: somebody else does it."""
        self._book.put_down(record)
        self._requeue(record)

    def unsendable(self, record: TaskRecord, reason: str) -> None:
        """The task's files cannot be read here, which is no fault of the worker's."""
        self._book.put_down(record)
        self._book.finish(record, WorkerLost(f"the task's files cannot be read: {reason}"))

    # -----------------------------------------------------------------------------------------------------------
    # Inside
    # -----------------------------------------------------------------------------------------------------------

    def _take(self, image: Image, lease: Lease) -> TaskRecord | None:
        for record in self._waiting:
            if self._may(record, image, lease):
                self._waiting.remove(record)
                return record
        return None

    def _straggler(self, image: Image, lease: Lease) -> TaskRecord | None:
        """A task that takes its worker far longer than it should, for an idle one to do as well."""
        for other in self._fleets[image.family].leases:
            record = other.record
            if record is None or record.outcome is not None or record.hands > 1 or other.node_id == lease.node_id:
                continue
            patience = self._patience(other.node_id, len(record.job.inputs))
            if self._book.now() - other.since > patience and self._may(record, image, lease):
                log.info("task %s takes %s long; %s does it as well", record.key[:8], other.name, lease.name)
                return record
        return None

    def _may(self, record: TaskRecord, image: Image, lease: Lease) -> bool:
        """Whether a worker may do a task."""
        task = record.task
        if task is None or task.model.manifest.document.get("family") != image.family or lease.node_id in task.avoid:
            return False
        if self._takers.get(task.apart, {}).get(lease.node_id, record.key) != record.key:
            return False
        if task.provider and self._market.find(task.provider) != lease.node_id:
            return False
        effort = self._efforts.get(record.key)
        if effort is None or record.outcome is not None:
            return False
        if lease.node_id in effort.tried and time.monotonic() - effort.queued < _LAST_RESORT:
            return False
        return self._left(record) >= lease.price.rate(lease.threads)

    def _in_the_way(self, image: Image, lease: Lease) -> bool:
        """Whether an idle worker takes the place of one that a waiting task must have: the provider it names."""
        fleet = self._fleets[image.family]
        if len(fleet.leases) < self._terms.workers:
            return False
        idle = [other for other in fleet.leases if other.record is None]
        return (
            bool(idle)
            and idle[0] is lease
            and any(
                record.task is not None
                and record.task.model.manifest.document.get("family") == image.family
                and not any(self._may(record, image, other) for other in fleet.leases)
                for record in self._waiting
            )
        )

    def _needed_elsewhere(self, image: Image, lease: Lease) -> bool:
        """Whether an idle worker keeps its provider from a task of another image that has found none for a while."""
        idle = [other for other in self._fleets[image.family].leases if other.record is None]
        for record in self._waiting:
            effort, task = self._efforts.get(record.key), record.task
            family = task.model.manifest.document.get("family") if task else image.family
            if task is None or effort is None or family == image.family or family not in self._fleets:
                continue
            if time.monotonic() - effort.queued < _ELSEWHERE:
                continue
            fleet = self._fleets[family]
            if any(self._may(record, fleet.image, other) for other in fleet.leases):
                continue
            # The provider that the task names, or one of those that would do.
            if lease.node_id == self._market.find(task.provider) if task.provider else idle[:1] == [lease]:
                return True
        return False

    def _left(self, record: TaskRecord) -> int:
        """What is left of a task's budget after its earlier tries."""
        assert record.task is not None
        effort = self._efforts.get(record.key)
        spent = sum(receipt.amount for receipt in effort.receipts) if effort else 0
        return max(0, self._budget(record.task) - spent)

    def _budget(self, task: ComputeTask) -> int:
        most = min(self._terms.budget_batch, self._terms.budget_request * len(task.inputs))
        return min(task.budget, most) if task.budget else most

    def _check_budget(self, task: ComputeTask) -> None:
        budget = self._budget(task)
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

    def _patience(self, node_id: str, inputs: int) -> float:
        """Seconds after which a task at a provider takes too long; what it claims of itself does not buy it more."""
        usual = self._terms.hedge_factor * self._expected(node_id, inputs)
        return min(max(_QUICKEST, usual), self._terms.run_limit / 4)

    def _expected(self, node_id: str, inputs: int) -> float:
        provider = self._market.provider(node_id)
        speed = provider.images_per_second if provider else 0.0
        return inputs / speed if speed else 1.0

    async def _note(self, record: TaskRecord, lease: Lease, started: float, verdict: Verdict, detail: str = "") -> None:
        seconds = max(0.0, self._book.now() - started)
        cost = lease.price.cost(seconds, seconds * lease.threads) - lease.price.cost(0, 0)
        effort = self._efforts.get(record.key)
        if effort is not None:
            effort.receipts.append(Receipt(record.key, lease.node_id, cost))
        await self._ledger.save_work(
            Work(
                record.key,
                record.job.model.manifest_cid,
                lease.agreement_id,
                lease.node_id,
                len(record.job.inputs),
                started,
                self._book.now(),
                cost,
                verdict,
            )
        )
        await self._market.judge(lease.node_id, verdict, detail)

    def _try_again(
        self, record: TaskRecord, lease: Lease, error: WorkerLost | MalformedResult | ModelUnservable
    ) -> None:
        """Back into the queue, for another provider, unless it was tried often enough or somebody else is at it."""
        effort = self._efforts.get(record.key)
        if effort is None or record.outcome is not None:
            return
        effort.tries += 1
        effort.tried.add(lease.node_id)
        if effort.tries >= self._terms.tries and not record.hands:
            self._book.finish(record, error, provider=lease.node_id)
        else:
            self._requeue(record)

    def _requeue(self, record: TaskRecord) -> None:
        effort = self._efforts.get(record.key)
        if effort is None or record.outcome is not None or record.hands or record in self._waiting:
            return
        effort.queued = time.monotonic()
        self._waiting.insert(0, record)
        self._wake()

    def _ended(self, record: TaskRecord) -> None:
        self._waiting = [other for other in self._waiting if other is not record]

    def _wake(self) -> None:
        self._arrived.set()
        self._staff()

    def _staff(self) -> None:
        """Say how many workers each image should have: those at work, one for each task that waits, and a spare one."""
        now = time.monotonic()
        self._market.named = frozenset(
            self._market.find(record.task.provider)
            for record in self._waiting
            if record.task is not None and record.task.provider
        )
        for family, fleet in self._fleets.items():
            waiting = [record for record in self._waiting if record.job.model.manifest.get("family") == family]
            busy = sum(1 for lease in fleet.leases if lease.record is not None)
            idle = [lease for lease in fleet.leases if lease.record is None]
            # A task that no idle worker may do needs one more, however many are idle.
            odd = sum(
                1 for record in waiting if idle and not any(self._may(record, fleet.image, lease) for lease in idle)
            )
            needed = len(waiting) + busy
            wanted = max(needed + 1, len(fleet.leases) + 1 if odd else 0) if needed else 0
            fleet.want(wanted or int(self._warm.get(family, 0.0) > now))
            if fleet.failures >= _HOPELESS and not fleet.leases:
                fleet.failures = 0
                for record in waiting:
                    self._book.finish(record, WorkerLost(f"no worker comes up; the last one: {fleet.last_failure}"))

    async def _tend(self) -> None:
        while True:
            self._staff()
            await self._market.flush()
            await asyncio.sleep(_TICK)

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
            await asyncio.sleep(_TICK)


def _in_our_terms(document: bytes, remote: Job, job: Job) -> bytes:
    """A result whose inputs bear the names that the provider saw, as a document about the job as we know it.

    Raises JobError.
    """
    result = JobResult.from_json(document, remote)
    items = tuple(replace(item, input=known.id) for item, known in zip(result.items, job.inputs, strict=True))
    return replace(result, job=job.id, items=items).to_json().encode()
