"""The workers' desk on Golem: tasks wait here until a leased worker takes them, and go back when it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import yapapi

from oracle.compute.book import TaskBook, TaskRecord
from oracle.compute.golem.market import Market
from oracle.compute.golem.payments import Paymaster
from oracle.compute.golem.pool import Fleet, Lease
from oracle.compute.golem.terms import GolemTerms, Image
from oracle.domain import Receipt
from oracle.errors import MalformedResult, ModelUnservable, WorkerLost
from oracle.market import Verdict, Work
from oracle.ports import ProviderLedger
from oracle.telemetry import logger
from provider_images.runtime.job import Job, JobError, JobResult

log = logger("golem")

TICK = 0.5  # seconds between two looks at how many workers are wanted
_MODEL_REFUSED = "model:"  # how the runtime begins when it cannot load the model
_ELSEWHERE = 3.0  # seconds for a task to find a worker before those of other images make room
_HOPELESS = 3  # workers in a row that did not come up, after which waiting tasks are told
_QUICKEST = 2.0  # seconds under which no task is taken for a straggler
_LAST_RESORT = 5.0  # seconds after which a task may go to a provider that failed it before


@dataclass(slots=True)
class _Effort:
    """What was tried for a task."""

    queued: float
    tried: set[str] = field(default_factory=set)
    tries: int = 0
    receipts: list[Receipt] = field(default_factory=list)
    refusals: set[str] = field(default_factory=set)  # providers that say they cannot load the model


class WorkersDesk:
    """``pool.Desk`` over one queue: who does which task, what is tried again, and how many workers there should be.

    The tasks are those of ``book``. Call ``staff`` every ``TICK`` seconds while it is open.
    """

    def __init__(
        self, terms: GolemTerms, ledger: ProviderLedger, market: Market, paymaster: Paymaster, book: TaskBook
    ) -> None:
        self._terms, self._ledger, self._market = terms, ledger, market
        self._paymaster, self._book = paymaster, book
        self._fleets: dict[str, Fleet] = {}
        self._waiting: list[TaskRecord] = []
        self._efforts: dict[str, _Effort] = {}
        self._takers: dict[str, dict[str, str]] = {}  # of tasks kept apart: provider -> key of the one it took
        self._arrived = asyncio.Event()
        self._warm: dict[str, float] = {}

    # -----------------------------------------------------------------------------------------------------------
    # For the backend
    # -----------------------------------------------------------------------------------------------------------

    def open(self, golem: yapapi.Golem) -> None:
        """Have a fleet of workers for each image, over a requestor that has started."""
        for family, image in self._terms.images.items():
            self._fleets[family] = Fleet(golem, image, self._terms, self, self._market, self._paymaster)

    async def close(self) -> None:
        """End every worker and agreement, within about ten seconds."""
        self._arrived.set()
        await asyncio.gather(*(fleet.close() for fleet in self._fleets.values()))

    def warm(self, family: str) -> None:
        """Have a worker of an image up before its first task; it is kept for as long as an idle one is."""
        if family in self._fleets:
            self._warm[family] = time.monotonic() + self._terms.idle_release

    @property
    def workers(self) -> Mapping[str, Sequence[str]]:
        """The providers whose workers are up now, by image."""
        return {family: [lease.node_id for lease in fleet.leases] for family, fleet in self._fleets.items()}

    def add(self, record: TaskRecord) -> None:
        """A task to be done."""
        self._efforts[record.key] = _Effort(queued=time.monotonic())
        self._waiting.append(record)
        self._wake()

    def ended(self, record: TaskRecord) -> None:
        """A task has its outcome: nobody need take it any more."""
        self._waiting = [other for other in self._waiting if other is not record]

    def receipts(self, key: str) -> Sequence[Receipt]:
        """What a task may have cost at each provider that had it, by our own clock."""
        effort = self._efforts.get(key)
        return [] if effort is None else list(effort.receipts)

    def forget(self, record: TaskRecord) -> None:
        """A task is settled."""
        self._efforts.pop(record.key, None)
        if record.task is not None and record.key in (takers := self._takers.get(record.task.apart, {})).values():
            for node_id in [node_id for node_id, taken in takers.items() if taken == record.key]:
                del takers[node_id]
            if not takers:
                del self._takers[record.task.apart]

    def staff(self) -> None:
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

    # -----------------------------------------------------------------------------------------------------------
    # For the workers
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
                async with asyncio.timeout(min(idle_until - now, TICK)):
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
        return max(0, self._terms.budget(record.task) - spent)

    def _patience(self, node_id: str, inputs: int) -> float:
        """Seconds after which a task at a provider takes too long; what it claims of itself does not buy it more."""
        usual = self._terms.hedge_factor * self._market.expected(node_id, inputs)
        return min(max(_QUICKEST, usual), self._terms.run_limit / 4)

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

    def _wake(self) -> None:
        self._arrived.set()
        self.staff()


def _in_our_terms(document: bytes, remote: Job, job: Job) -> bytes:
    """A result whose inputs bear the names that the provider saw, as a document about the job as we know it.

    Raises JobError.
    """
    result = JobResult.from_json(document, remote)
    items = tuple(replace(item, input=known.id) for item, known in zip(result.items, job.inputs, strict=True))
    return replace(result, job=job.id, items=items).to_json().encode()
