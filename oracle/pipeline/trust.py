"""Trust in providers: a backend above a backend, which asks some things twice and some things it knows the answer to.

A share of the tasks is computed at two providers and compared; where they differ, a third one decides. Another share
carries a picture whose answer two providers agreed on before. Who is contradicted lied: that task is not settled as
accepted, and what it answered is computed elsewhere. Which tasks these are follows from the task's key, which no
provider sees.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from oracle.domain import (
    Capabilities,
    Cid,
    ComputeEvent,
    ComputeTask,
    FailureReason,
    ItemResult,
    ModelManifest,
    Quote,
    Receipt,
    TaskInput,
    TaskResult,
)
from oracle.errors import ComputeError, MalformedResult, PermanentFailure, TaskConflict, TaskTimeout, UnknownTask
from oracle.market import KnownAnswer
from oracle.pipeline.comparison import agree
from oracle.ports import Clock, ComputeBackend, ProviderLedger, Spool
from oracle.telemetry import logger

log = logger("trust")

MOST_COPIES = 4
"""Tasks that one task may become: two, a third to decide, and one more when somebody lied alone."""

_REMEMBERED = 32  # known answers for each model
_SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class TrustPolicy:
    """Shares from 0 to 1: of tasks computed twice, and of tasks with a known answer mixed in where there is room."""

    redundancy: float = 0.1
    known_answers: float = 0.1


@dataclass(slots=True)
class _Case:
    """A task and what became of its copies; ``task`` is None for one of an earlier run."""

    task: ComputeTask | None
    copies: list[str]
    lied: set[str] = field(default_factory=set)
    known: dict[str, tuple[TaskInput, KnownAnswer]] = field(default_factory=dict)  # by copy
    outcome: asyncio.Task[TaskResult] | None = None


class TrustedBackend:
    """``ports.ComputeBackend`` over another one, whose results are not taken on trust.

    Once there is one result, another is waited for ``patience`` seconds.
    """

    def __init__(
        self,
        backend: ComputeBackend,
        *,
        ledger: ProviderLedger,
        spool: Spool,
        clock: Clock,
        policy: TrustPolicy,
        max_inputs: int = 16,
        patience: float = 30.0,
    ) -> None:
        self._backend, self._ledger, self._spool, self._clock = backend, ledger, spool, clock
        self._policy, self._max_inputs, self._patience = policy, max_inputs, patience
        self._cases: dict[str, _Case] = {}
        self._doubts: dict[tuple[str, str], set[str]] = {}

    async def start(self) -> None:
        """Bring the backend up. Raises ConfigurationError with a remedy."""
        await self._backend.start()

    async def close(self) -> None:
        """Stop judging and stop the backend."""
        judging = [case.outcome for case in self._cases.values() if case.outcome is not None]
        for outcome in judging:
            outcome.cancel()
        await asyncio.gather(*judging, return_exceptions=True)
        await self._backend.close()

    def capabilities(self) -> Capabilities:
        """Those of the backend."""
        return self._backend.capabilities()

    async def quotes(self, manifest: ModelManifest, inputs: int) -> Sequence[Quote]:
        """Those of the backend; what trust costs besides is the policy's share."""
        return await self._backend.quotes(manifest, inputs)

    async def submit(self, task: ComputeTask) -> None:
        """Accept a task, as one or as several. Raises what the backend raises; then nothing of it runs."""
        known = self._cases.get(task.key)
        if known is not None:
            if known.task is not None and _content(known.task) != _content(task):
                raise TaskConflict(f"task {task.key} is in use for other inputs or another model")
            return
        case = _Case(task, [_copy_key(task.key, number) for number in range(1, self._planned(task.key) + 1)])
        self._cases[task.key] = case
        try:
            for key in case.copies:
                await self._backend.submit(await self._copy(case, task, key))
        except BaseException:
            del self._cases[task.key]
            for key in case.copies:
                await self._backend.settle(key, accepted=True)
            raise

    async def events(self) -> AsyncIterator[ComputeEvent]:
        """The backend's events, each under the key of the task that it belongs to."""
        async for event in self._backend.events():
            yield replace(event, key=event.key.rpartition(_SEPARATOR)[0] or event.key)

    async def collect(self, key: str) -> TaskResult:
        """Wait for the copies, judge them, and return the result that stands.

        Raises what the backend raises, and MalformedResult when providers differ and nobody decides.
        """
        case = self._cases.get(key)
        if case is None:
            raise UnknownTask(f"no task {key} here")
        if case.outcome is None:
            case.outcome = asyncio.create_task(self._judge(key, case), name=f"judging {key[:8]}")
        # Shielded: one of several who wait may be cancelled.
        return await asyncio.shield(case.outcome)

    async def cancel(self, key: str) -> None:
        """Stop every copy."""
        case = self._cases.get(key)
        for copy in case.copies if case else ():
            await self._backend.cancel(copy)

    async def receipts(self, key: str) -> Sequence[Receipt]:
        """What every copy cost, under the task's key."""
        case = self._cases.get(key)
        found: list[Receipt] = []
        for copy in case.copies if case else ():
            found += [replace(receipt, key=key) for receipt in await self._backend.receipts(copy)]
        return found

    async def settle(self, key: str, *, accepted: bool) -> None:  # noqa: ARG002 - what else went wrong is no lie
        """Settle every copy: as accepted, unless its provider lied."""
        case = self._cases.pop(key, None)
        if case is None:
            return
        if case.outcome is not None and not case.outcome.done():
            case.outcome.cancel()
            await asyncio.gather(case.outcome, return_exceptions=True)
        for copy in case.copies:
            await self._backend.settle(copy, accepted=copy not in case.lied)

    async def recover(self, keys: Sequence[str]) -> Sequence[str]:
        """After a restart: the tasks of which the backend still holds every planned copy."""
        copies = {
            key: [_copy_key(key, number) for number in range(1, self._planned(key) + 1)]
            for key in keys
            if key not in self._cases
        }
        held = set(await self._backend.recover([copy for some in copies.values() for copy in some]))
        for key, some in copies.items():
            if held.issuperset(some):
                self._cases[key] = _Case(None, list(some))
        return [key for key in keys if key in self._cases]

    # -----------------------------------------------------------------------------------------------------------
    # What is asked
    # -----------------------------------------------------------------------------------------------------------

    def _planned(self, key: str) -> int:
        return 2 if _fraction("copies", key) < self._policy.redundancy else 1

    async def _copy(
        self, case: _Case, task: ComputeTask, key: str, *, avoid: frozenset[str] = frozenset()
    ) -> ComputeTask:
        """A task as one provider gets it: kept apart from its copies, perhaps with a known answer among its inputs."""
        inputs = task.inputs
        if len(inputs) < self._max_inputs and _fraction("known", key) < self._policy.known_answers:
            picked = await self._pick(task, key)
            if picked is not None:
                case.known[key] = picked
                place = int(_fraction("place", key) * (len(inputs) + 1))
                inputs = (*inputs[:place], picked[0], *inputs[place:])
        # A requester names who answers, not who is compared.
        provider = task.provider if key == _copy_key(task.key, 1) else ""
        return replace(task, key=key, inputs=inputs, provider=provider, avoid=task.avoid | avoid, apart=task.key)

    async def _pick(self, task: ComputeTask, key: str) -> tuple[TaskInput, KnownAnswer] | None:
        """A picture with a known answer that the task has room for, and does not ask about anyway."""
        asked = {item.image_cid.text for item in task.inputs}
        room = self._backend.capabilities().max_payload - sum(item.size for item in task.inputs)
        usable = []
        for answer in await self._ledger.known_answers(task.model.manifest_cid.text):
            cid = Cid.parse(answer.image_cid)
            path = self._spool.path(cid)
            if path is not None and answer.image_cid not in asked and answer.size <= room:
                usable.append((TaskInput(_known_id(key, cid), cid, path, answer.size), answer))
        usable.sort(key=lambda pair: hashlib.sha256(key.encode() + pair[0].image_cid.value).digest())
        return usable[0] if usable else None

    # -----------------------------------------------------------------------------------------------------------
    # What is answered
    # -----------------------------------------------------------------------------------------------------------

    async def _judge(self, key: str, case: _Case) -> TaskResult:
        results: dict[str, TaskResult] = {}
        errors: list[ComputeError | PermanentFailure] = []
        for copy in case.copies:
            await self._gather(case, copy, results, errors)
        while True:
            honest = {copy: result for copy, result in results.items() if copy not in case.lied}
            # Beside the loop: what strangers send may take a while to compare.
            standing = self._alone(key, case, honest, errors) or await asyncio.to_thread(self._majority, case, honest)
            if standing is not None:
                await self._learn(case, honest, standing)
                return replace(standing, key=key)
            if errors and not honest:
                raise errors[0]
            if errors or case.task is None or len(case.copies) >= MOST_COPIES:
                raise MalformedResult("the providers' results differ, and nobody decides between them")
            another = _copy_key(key, len(case.copies) + 1)
            log.warning("task %s is computed once more: %d results, none stands", key[:8], len(results))
            case.copies.append(another)
            avoid = frozenset(result.provider for result in results.values())
            await self._backend.submit(await self._copy(case, case.task, another, avoid=avoid))
            await self._gather(case, another, results, errors)

    async def _gather(
        self,
        case: _Case,
        copy: str,
        results: dict[str, TaskResult],
        errors: list[ComputeError | PermanentFailure],
    ) -> None:
        """Add one copy's result, its known answers checked and taken out, or the error that it came to."""
        try:
            # The first answer waits for what it is compared with, but not for ever: there may be one provider alone.
            compared = case.task is not None and any(other not in case.lied for other in results)
            async with asyncio.timeout(self._patience if compared else None):
                result = await self._backend.collect(copy)
        except TimeoutError:
            await self._backend.cancel(copy)
            log.warning("task %s is not compared: nobody else was to be had in time", copy[:8])
            errors.append(TaskTimeout(f"nobody else computed the task within {self._patience:g} s"))
            return
        except (ComputeError, PermanentFailure) as error:
            errors.append(error)
            return
        known = case.known.get(copy)
        if known is not None:
            asked, answer = known
            (item,) = [item for item in result.items if item.request_id == asked.request_id]
            if not await self._confirms(case, result.provider, item, answer):
                case.lied.add(copy)
            result = replace(result, items=tuple(other for other in result.items if other is not item))
        results[copy] = result

    async def _confirms(self, case: _Case, provider: str, item: ItemResult, answer: KnownAnswer) -> bool:
        """Whether a provider answers a known picture as it must. One that two providers contradict is known no more."""
        assert case.task is not None
        if await asyncio.to_thread(agree, case.task.model.manifest, item, answer.outcome):
            return True
        if item.failure is FailureReason.COMPUTE_FAILED:
            return True  # trouble, and no answer that could be wrong
        doubters = self._doubts.setdefault((answer.model, answer.image_cid), set())
        doubters.add(provider)
        log.warning("provider %s answers a known picture wrongly", provider)
        if len(doubters) > 1:
            await self._ledger.forget_known_answer(answer.model, answer.image_cid)
            await self._spool.discard([Cid.parse(answer.image_cid)])
            del self._doubts[answer.model, answer.image_cid]
            return True
        return False

    def _alone(
        self, key: str, case: _Case, honest: Mapping[str, TaskResult], errors: Sequence[Exception]
    ) -> TaskResult | None:
        """The one result there is, where one is enough: no comparison was planned, or nobody else could compute it."""
        if len(honest) != 1 or not (errors or self._planned(key) == 1):
            return None
        (only,) = honest.values()
        # A picture that one alone cannot read was found good here before.
        if case.task is not None and any(item.failure is not FailureReason.NONE for item in only.items):
            return None
        return only

    def _majority(self, case: _Case, honest: Mapping[str, TaskResult]) -> TaskResult | None:
        """A result that another one agrees with; whoever they contradict has lied. None while there is no such pair."""
        for copy, result in honest.items():
            friends = [other for other, its in honest.items() if other != copy and _same(case, result, its)]
            if friends:
                case.lied |= honest.keys() - {copy, *friends}
                return result
        return None

    async def _learn(self, case: _Case, honest: Mapping[str, TaskResult], standing: TaskResult) -> None:
        """Two providers agree, so one of the pictures becomes one whose answer is known."""
        if case.task is None or len(honest) - len(case.lied & honest.keys()) < 2:
            return
        answered = [item for item in standing.items if item.failure is FailureReason.NONE]
        if not answered:
            return
        item = answered[int(_fraction("learn", case.task.key) * len(answered))]
        source = next((asked for asked in case.task.inputs if asked.request_id == item.request_id), None)
        if source is None:
            return
        try:
            data = await asyncio.to_thread(Path(source.path).read_bytes)
        except OSError:
            return  # no longer needed, and gone
        await self._spool.put(source.image_cid, data)
        answer = KnownAnswer(
            case.task.model.manifest_cid.text,
            source.image_cid.text,
            source.size,
            item,
            self._clock.now(),
        )
        forgotten = await self._ledger.save_known_answer(answer, keep=_REMEMBERED)
        await self._spool.discard(Cid.parse(cid) for cid in forgotten)


def _same(case: _Case, left: TaskResult, right: TaskResult) -> bool:
    theirs = {item.request_id: item for item in right.items}
    return all(
        _agree(case, item, theirs[item.request_id])
        for item in left.items
        # Each copy of a task of an earlier run may hold a known answer of its own, which nobody knows any more.
        if case.task is not None or item.request_id in theirs
    )


def _agree(case: _Case, left: ItemResult, right: ItemResult) -> bool:
    if case.task is not None:
        return agree(case.task.model.manifest, left, right)
    # The manifest is not at hand after a restart; the first class decides, or how many segments there are of each.
    return (
        left.failure is right.failure
        and left.size == right.size
        and [s.index for s in left.labels[:1]] == [s.index for s in right.labels[:1]]
        and sorted(s.index for s in left.segments) == sorted(s.index for s in right.segments)
    )


def _content(task: ComputeTask) -> tuple[object, ...]:
    return (task.model.manifest_cid, *((item.request_id, item.image_cid) for item in task.inputs))


def _copy_key(key: str, number: int) -> str:
    return f"{key}{_SEPARATOR}{number}"


def _known_id(key: str, cid: Cid) -> bytes:
    """The request id that a known picture bears in one copy: as random as a real one."""
    return hashlib.sha256(b"known answer" + key.encode() + cid.value).digest()


def _fraction(purpose: str, key: str) -> float:
    """A number from 0 to 1 that follows from a key and looks random to whoever does not know it."""
    return int.from_bytes(hashlib.sha256(f"{purpose}:{key}".encode()).digest()[:7]) / 2**56
