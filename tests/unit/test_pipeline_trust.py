"""A backend that lies, and the one above it that finds out."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

import provider_images.mnist
from oracle.content.spool import DirectorySpool
from oracle.domain import (
    Capabilities,
    ComputeEvent,
    ComputeTask,
    FailureReason,
    ItemResult,
    LabelScore,
    ModelManifest,
    Quote,
    Receipt,
    ServableModel,
    TaskInput,
    TaskPhase,
    TaskResult,
)
from oracle.errors import MalformedResult, TaskConflict, TaskTimeout, UnknownTask, WorkerLost
from oracle.manifests import read_manifest
from oracle.pipeline.trust import MOST_COPIES, TrustedBackend, TrustPolicy
from oracle.store import SqliteRequestStore
from tests.unit.doubles import SteppedClock, cid_of

pytestmark = pytest.mark.unit

MNIST = Path(provider_images.mnist.__file__).parent
MANIFEST = (MNIST / "manifest.json").read_bytes()
MODEL = ServableModel(1, cid_of(MANIFEST), read_manifest(MANIFEST), MNIST / "weights.npz")
TWICE = TrustPolicy(redundancy=1.0, known_answers=0.0)

Answer = Callable[[TaskInput], int]


def truth(asked: TaskInput) -> int:
    return asked.image_cid.digest[0] % 10


def lie(asked: TaskInput) -> int:
    return (truth(asked) + 1) % 10


class ProvidersDouble:
    """A compute backend whose providers, each used once for tasks that are kept apart, answer as told or fail."""

    def __init__(self, **providers: Answer | Exception) -> None:
        self.providers = providers
        self.tasks: dict[str, ComputeTask] = {}
        self.at: dict[str, str] = {}
        self.settled: dict[str, bool] = {}
        self.kept: set[str] = set()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def capabilities(self) -> Capabilities:
        return Capabilities("double", frozenset({"classification"}), frozenset({"keras"}), 4)

    async def quotes(self, manifest: ModelManifest, inputs: int) -> Sequence[Quote]:
        return [Quote(name, 1, 1.0) for name in self.providers]

    async def submit(self, task: ComputeTask) -> None:
        assert len(task.inputs) <= 16
        self.tasks[task.key] = task
        used = {self.at[key] for key, other in self.tasks.items() if key in self.at and other.apart == task.apart}
        free = [name for name in self.providers if name not in used | task.avoid]
        if task.key not in self.at:
            self.at[task.key] = free[0] if free else "nobody"

    async def events(self) -> AsyncIterator[ComputeEvent]:
        for key in self.tasks:
            yield ComputeEvent(key, TaskPhase.QUEUED, 0.0)

    async def collect(self, key: str) -> TaskResult:
        await asyncio.sleep(0)
        if key not in self.tasks:
            raise UnknownTask(key)
        name, task = self.at[key], self.tasks[key]
        answer = self.providers.get(name, TaskTimeout("no provider is left"))
        if isinstance(answer, Exception):
            raise answer
        items = tuple(
            ItemResult(
                asked.request_id,
                tuple(
                    LabelScore(index, str(index), probability)
                    for index, probability in (
                        (answer(asked), 0.9),
                        ((answer(asked) + 3) % 10, 0.08),
                        ((answer(asked) + 6) % 10, 0.01),
                    )
                ),
            )
            for asked in task.inputs
        )
        return TaskResult(key, name, items, 0.0, 1.0, 0.1)

    async def cancel(self, key: str) -> None: ...

    async def receipts(self, key: str) -> Sequence[Receipt]:
        return [Receipt(key, self.at[key], 5)]

    async def settle(self, key: str, *, accepted: bool) -> None:
        if key in self.tasks:
            self.settled[key] = accepted

    async def recover(self, keys: Sequence[str]) -> Sequence[str]:
        return [key for key in keys if key in self.kept]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteRequestStore]:
    store = SqliteRequestStore(":memory:")
    yield store
    await store.close()


@pytest.fixture
def above(store: SqliteRequestStore, tmp_path: Path) -> Callable[..., TrustedBackend]:
    def build(backend: ProvidersDouble, policy: TrustPolicy) -> TrustedBackend:
        spool = DirectorySpool(tmp_path / "known")
        return TrustedBackend(backend, ledger=store.ledger, spool=spool, clock=SteppedClock(1_000.0), policy=policy)

    return build


def task(tmp_path: Path, key: str = "k", count: int = 3) -> ComputeTask:
    inputs = []
    for number in range(count):
        data = f"picture {key} {number}".encode()
        path = tmp_path / hashlib.sha256(data).hexdigest()
        path.write_bytes(data)
        inputs.append(TaskInput(hashlib.sha256(b"id" + data).digest(), cid_of(data), path, len(data)))
    return ComputeTask(key, MODEL, tuple(inputs), deadline=2_000.0)


def answers(result: TaskResult) -> list[int]:
    return [item.labels[0].index for item in result.items]


async def test_given_no_sample_a_task_runs_once(above: Callable[..., TrustedBackend], tmp_path: Path) -> None:
    backend = ProvidersDouble(a=truth, b=truth)
    trusted = above(backend, TrustPolicy(0.0, 0.0))
    asked = task(tmp_path)
    await trusted.submit(asked)
    result = await trusted.collect("k")
    assert (result.key, result.provider) == ("k", "a")
    assert answers(result) == [truth(item) for item in asked.inputs]
    await trusted.settle("k", accepted=True)
    assert backend.settled == {"k/1": True}
    with pytest.raises(UnknownTask):
        await trusted.collect("k")


async def test_given_two_that_agree_the_answer_stands_and_one_picture_is_remembered(
    above: Callable[..., TrustedBackend], tmp_path: Path, store: SqliteRequestStore
) -> None:
    backend = ProvidersDouble(a=truth, b=truth)
    trusted = above(backend, TWICE)
    asked = task(tmp_path)
    await trusted.submit(asked)
    assert answers(await trusted.collect("k")) == [truth(item) for item in asked.inputs]
    assert set(backend.at.values()) == {"a", "b"}
    (known,) = await store.ledger.known_answers(MODEL.manifest_cid.text)
    assert known.image_cid in [item.image_cid.text for item in asked.inputs]
    assert [receipt.key for receipt in await trusted.receipts("k")] == ["k", "k"]
    assert [event.key async for event in trusted.events()] == ["k", "k"]
    await trusted.settle("k", accepted=True)
    assert backend.settled == {"k/1": True, "k/2": True}


@pytest.mark.parametrize("liar", ["a", "b"])
async def test_given_a_liar_a_third_decides_and_the_liar_is_not_paid(
    above: Callable[..., TrustedBackend], tmp_path: Path, liar: str
) -> None:
    backend = ProvidersDouble(**({"a": truth, "b": truth, "c": truth} | {liar: lie}))
    trusted = above(backend, TWICE)
    asked = task(tmp_path)
    await trusted.submit(asked)
    result = await trusted.collect("k")
    assert answers(result) == [truth(item) for item in asked.inputs]
    assert result.provider != liar
    await trusted.settle("k", accepted=True)
    paid = {backend.at[key]: accepted for key, accepted in backend.settled.items()}
    assert paid == {"a": liar != "a", "b": liar != "b", "c": True}


async def test_given_one_wrong_item_among_many_it_is_found(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    asked = task(tmp_path, count=16)
    target = asked.inputs[11].request_id
    backend = ProvidersDouble(a=lambda item: lie(item) if item.request_id == target else truth(item), b=truth, c=truth)
    trusted = above(backend, TWICE)
    await trusted.submit(asked)
    assert answers(await trusted.collect("k")) == [truth(item) for item in asked.inputs]
    await trusted.settle("k", accepted=True)
    assert backend.settled["k/1"] is False


async def test_given_everybody_says_something_else_there_is_no_answer(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    backend = ProvidersDouble(
        **{name: lambda item, n=n: (truth(item) + n) % 10 for n, name in enumerate("abcdef")}  # type: ignore[misc]
    )
    trusted = above(backend, TWICE)
    await trusted.submit(task(tmp_path))
    with pytest.raises(MalformedResult, match="differ"):
        await trusted.collect("k")
    assert len(backend.tasks) == MOST_COPIES
    await trusted.settle("k", accepted=False)
    # Nobody knows who lied, so nobody is refused.
    assert all(backend.settled.values())


async def test_given_two_that_differ_and_no_third_there_is_no_answer(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    trusted = above(ProvidersDouble(a=truth, b=lie), TWICE)
    await trusted.submit(task(tmp_path))
    with pytest.raises(MalformedResult):
        await trusted.collect("k")


async def test_given_a_copy_that_nobody_can_compute_the_other_stands(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    trusted = above(ProvidersDouble(a=WorkerLost("it died"), b=truth), TWICE)
    asked = task(tmp_path)
    await trusted.submit(asked)
    assert answers(await trusted.collect("k")) == [truth(item) for item in asked.inputs]


async def test_given_a_copy_that_does_not_come_the_first_answer_does_not_wait_for_ever(
    store: SqliteRequestStore, tmp_path: Path
) -> None:
    backend = ProvidersDouble(a=truth, b=truth)
    collect, cancelled = backend.collect, []

    async def second_hangs(key: str) -> TaskResult:
        if key == "k/2":
            await asyncio.sleep(3600)
        return await collect(key)

    async def cancel(key: str) -> None:
        cancelled.append(key)

    backend.collect, backend.cancel = second_hangs, cancel  # type: ignore[method-assign]
    spool = DirectorySpool(tmp_path / "known")
    trusted = TrustedBackend(
        backend, ledger=store.ledger, spool=spool, clock=SteppedClock(1_000.0), policy=TWICE, patience=0.1
    )
    asked = task(tmp_path)
    await trusted.submit(asked)
    assert answers(await trusted.collect("k")) == [truth(item) for item in asked.inputs]
    assert cancelled == ["k/2"]
    assert not await store.ledger.known_answers(MODEL.manifest_cid.text)


async def test_a_named_provider_answers_and_another_is_compared(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    backend = ProvidersDouble(a=truth, b=truth)
    await above(backend, TWICE).submit(dataclasses.replace(task(tmp_path), provider="a"))
    assert [asked.provider for asked in backend.tasks.values()] == ["a", ""]


async def test_given_no_copy_that_anybody_can_compute_the_error_is_the_backends(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    trusted = above(ProvidersDouble(a=WorkerLost("it died"), b=WorkerLost("it died too")), TWICE)
    await trusted.submit(task(tmp_path))
    with pytest.raises(WorkerLost, match="it died"):
        await trusted.collect("k")


async def test_a_liar_is_found_by_a_picture_whose_answer_is_known(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    first = above(ProvidersDouble(a=truth, b=truth), TWICE)
    await first.submit(task(tmp_path, "earlier"))
    await first.collect("earlier")

    backend = ProvidersDouble(liar=lie, honest=truth)
    trusted = above(backend, TrustPolicy(redundancy=0.0, known_answers=1.0))
    asked = task(tmp_path, "later")
    await trusted.submit(asked)
    sent = backend.tasks["later/1"].inputs
    assert len(sent) == len(asked.inputs) + 1
    result = await trusted.collect("later")
    assert result.provider == "honest"
    assert [item.request_id for item in result.items] == [item.request_id for item in asked.inputs]
    assert answers(result) == [truth(item) for item in asked.inputs]
    await trusted.settle("later", accepted=True)
    assert backend.settled == {"later/1": False, "later/2": True}


async def test_a_full_task_carries_no_known_answer(above: Callable[..., TrustedBackend], tmp_path: Path) -> None:
    first = above(ProvidersDouble(a=truth, b=truth), TWICE)
    await first.submit(task(tmp_path, "earlier"))
    await first.collect("earlier")
    backend = ProvidersDouble(a=truth)
    trusted = above(backend, TrustPolicy(redundancy=0.0, known_answers=1.0))
    await trusted.submit(task(tmp_path, "later", count=16))
    assert len(backend.tasks["later/1"].inputs) == 16


async def test_a_submission_that_the_backend_refuses_leaves_nothing(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    backend = ProvidersDouble(a=truth, b=truth)
    submit, calls = backend.submit, 0

    async def second_refused(asked: ComputeTask) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise WorkerLost("the backend is closed")
        await submit(asked)

    backend.submit = second_refused  # type: ignore[method-assign]
    trusted = above(backend, TWICE)
    with pytest.raises(WorkerLost):
        await trusted.submit(task(tmp_path))
    assert backend.settled == {"k/1": True}
    with pytest.raises(UnknownTask):
        await trusted.collect("k")


async def test_after_a_restart_a_task_is_held_only_with_all_its_copies(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    backend = ProvidersDouble(a=truth, b=truth)
    await above(backend, TWICE).submit(task(tmp_path))
    backend.kept = {"k/1"}
    restarted = above(backend, TWICE)
    assert await restarted.recover(["k"]) == []
    backend.kept = {"k/1", "k/2"}
    assert await restarted.recover(["k", "other"]) == ["k"]
    assert len(answers(await restarted.collect("k"))) == 3
    await restarted.settle("k", accepted=True)
    assert backend.settled == {"k/1": True, "k/2": True}


async def test_a_picture_the_oracle_could_read_but_one_provider_could_not_is_asked_again(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    backend = ProvidersDouble(a=truth, b=truth, c=truth)
    collect = backend.collect

    async def unreadable(key: str) -> TaskResult:
        result = await collect(key)
        if result.provider != "a":
            return result
        failed = ItemResult(result.items[0].request_id, failure=FailureReason.IMAGE_UNREADABLE)
        return TaskResult(result.key, result.provider, (failed, *result.items[1:]), 0.0, 1.0, 0.1)

    backend.collect = unreadable  # type: ignore[method-assign]
    trusted = above(backend, TWICE)
    asked = task(tmp_path)
    await trusted.submit(asked)
    assert answers(await trusted.collect("k")) == [truth(item) for item in asked.inputs]


async def test_a_failure_that_one_provider_alone_reports_is_not_believed(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    backend = ProvidersDouble(a=truth, b=truth, c=truth)
    collect = backend.collect

    async def unreadable(key: str) -> TaskResult:
        result = await collect(key)
        if result.provider != "a":
            return result
        items = tuple(ItemResult(i.request_id, failure=FailureReason.IMAGE_UNREADABLE) for i in result.items)
        return dataclasses.replace(result, items=items)

    backend.collect = unreadable  # type: ignore[method-assign]
    trusted = above(backend, TrustPolicy(0.0, 0.0))
    asked = task(tmp_path)
    await trusted.submit(asked)
    assert answers(await trusted.collect("k")) == [truth(item) for item in asked.inputs]
    await trusted.settle("k", accepted=True)
    assert backend.settled == {"k/1": False, "k/2": True, "k/3": True}


async def test_a_known_answer_that_two_providers_contradict_is_forgotten(
    above: Callable[..., TrustedBackend], tmp_path: Path, store: SqliteRequestStore
) -> None:
    # Two who are in league teach a wrong answer.
    first = above(ProvidersDouble(x=lie, y=lie), TWICE)
    await first.submit(task(tmp_path, "earlier"))
    await first.collect("earlier")
    backend = ProvidersDouble(a=truth, b=truth)
    trusted = above(backend, TrustPolicy(redundancy=0.0, known_answers=1.0))
    asked = task(tmp_path, "later")
    await trusted.submit(asked)
    assert answers(await trusted.collect("later")) == [truth(item) for item in asked.inputs]
    assert not await store.ledger.known_answers(MODEL.manifest_cid.text)


async def test_a_known_picture_takes_only_room_that_there_is(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    first = above(ProvidersDouble(a=truth, b=truth), TWICE)
    await first.submit(task(tmp_path, "earlier"))
    await first.collect("earlier")
    backend = ProvidersDouble(a=truth)
    trusted = above(backend, TrustPolicy(redundancy=0.0, known_answers=1.0))
    asked = task(tmp_path, "later", count=1)
    full = dataclasses.replace(asked, inputs=(dataclasses.replace(asked.inputs[0], size=64 * 1024 * 1024),))
    await trusted.submit(full)
    assert len(backend.tasks["later/1"].inputs) == 1


async def test_the_same_key_for_other_pictures_is_a_conflict(
    above: Callable[..., TrustedBackend], tmp_path: Path
) -> None:
    trusted = above(ProvidersDouble(a=truth), TrustPolicy(0.0, 0.0))
    await trusted.submit(task(tmp_path))
    await trusted.submit(task(tmp_path))
    with pytest.raises(TaskConflict):
        await trusted.submit(task(tmp_path, count=4))
