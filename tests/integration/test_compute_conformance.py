"""What every compute backend must do, run against each of them. A backend joins by a kit in ``KITS``."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

import psutil
import pytest

import provider_images.mnist
from oracle.compute.golem import GolemBackend, GolemTerms, Image
from oracle.compute.local import LocalBackend
from oracle.devnet.golem.double import FakeRuntime, ProviderDouble, RunResult, YagnaDouble
from oracle.domain import (
    Cid,
    ComputeEvent,
    ComputeTask,
    FailureReason,
    ServableModel,
    TaskInput,
    TaskPhase,
    TaskResult,
)
from oracle.errors import (
    BudgetExhausted,
    MalformedResult,
    ModelUnservable,
    PayloadTooLarge,
    TaskCancelled,
    TaskConflict,
    TaskTimeout,
    UnknownTask,
    WorkerLost,
)
from oracle.manifests import read_manifest
from oracle.ports import ComputeBackend
from oracle.store import SqliteRequestStore
from provider_images.mnist.draw import draw_digit
from tests.integration.double_worker import spoil
from tests.integration.golem_network import GolemNetwork

pytestmark = pytest.mark.integration

MNIST = Path(provider_images.mnist.__file__).parent
MANIFEST = (MNIST / "manifest.json").read_bytes()


def cid_of(data: bytes) -> Cid:
    return Cid(b"\x01\x55\x12\x20" + hashlib.sha256(data).digest())


MODEL = ServableModel(1, cid_of(MANIFEST), read_manifest(MANIFEST), MNIST / "weights.npz")


B = TypeVar("B", bound=ComputeBackend)


@asynccontextmanager
async def started(backend: B, *, closes_within: float = 30.0) -> AsyncIterator[B]:
    """A backend that is started, and closed in so many seconds."""
    await backend.start()
    try:
        yield backend
    finally:
        began = time.monotonic()
        await backend.close()
        assert time.monotonic() - began < closes_within


class Kit(Protocol):
    """How to bring a backend up, with workers of a named behaviour, and how to hurt it."""

    cannot: frozenset[str]
    paid: bool  # whether somebody is paid for a task
    slowness: float  # how much longer a worker takes to come up than a process of this machine does
    races: int

    def __call__(self, directory: Path, behaviour: str = "") -> AbstractAsyncContextManager[ComputeBackend]: ...

    async def kill_worker(self, backend: ComputeBackend) -> None: ...

    async def runs(self, directory: Path) -> int:
        """How often a worker did a task in this directory."""


class LocalKit:
    """Worker processes on this machine. The double stands in for the runtime, so that faults come on demand."""

    cannot: frozenset[str] = frozenset()
    paid = False
    slowness = 1.0
    races = 40

    @asynccontextmanager
    async def __call__(self, directory: Path, behaviour: str = "honest") -> AsyncIterator[ComputeBackend]:
        command = (sys.executable, str(Path(__file__).parent / "double_worker.py"), behaviour)
        local = LocalBackend(directory / "tasks", command=command, backoff=0.05)
        async with started(local, closes_within=3):
            yield local
            pids = list(local.processes.values())
        assert not any(map(psutil.pid_exists, pids))

    async def kill_worker(self, backend: ComputeBackend) -> None:
        assert isinstance(backend, LocalBackend)
        for pid in backend.processes.values():
            os.kill(pid, signal.SIGKILL)

    async def runs(self, directory: Path) -> int:
        return logged(directory)


class GolemDoubleKit:
    """The requestor, with yapapi between it and a double of yagna whose providers misbehave on demand."""

    # What a provider does is seen through yagna alone: there is no process whose last words could be read.
    cannot = frozenset({"babbles", "dies"})
    paid = True
    races = 40
    slowness = 8.0  # yapapi starts a worker every two seconds, and looks for one that ended every few

    @asynccontextmanager
    async def __call__(self, directory: Path, behaviour: str = "honest") -> AsyncIterator[ComputeBackend]:
        self._provider = ProviderDouble("oak", handler=MisbehavingRuntime(directory / "runs.log", behaviour))
        store = SqliteRequestStore(":memory:")
        async with YagnaDouble(directory / "yagna", [self._provider], patience=0.1) as yagna:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PATH", yagna.environment["PATH"])
                golem = GolemBackend(directory / "tasks", golem_terms(yagna, [self._provider]), store.ledger)
                try:
                    async with started(golem, closes_within=20):
                        yield golem
                finally:
                    await store.close()

    async def kill_worker(self, backend: ComputeBackend) -> None:
        await self._provider.terminate_activities()

    async def runs(self, directory: Path) -> int:
        return logged(directory)


def logged(directory: Path) -> int:
    return len((directory / "runs.log").read_text().splitlines())


def golem_terms(yagna: YagnaDouble, providers: list[ProviderDouble]) -> GolemTerms:
    """One worker and one try, so that a fault is seen; trusted providers, so that one who failed is asked again."""
    return GolemTerms(
        api_url=yagna.api_url,
        app_key=yagna.app_key,
        payment_network=yagna.payment_network,
        payment_driver=yagna.payment_driver,
        subnet=yagna.subnet,
        images={"mnist": Image("mnist", yagna.image_hash, yagna.image_url)},
        workers=1,
        tries=1,
        trusted=frozenset(provider.node_id for provider in providers),
    )


@dataclass
class MisbehavingRuntime:
    """The fake runtime of the double, and results that are spoilt as ``double_worker`` spoils them."""

    log: Path
    behaviour: str
    honest: FakeRuntime = field(default_factory=FakeRuntime)

    async def __call__(self, words: Sequence[str], directory: Path) -> RunResult:
        kind, _, number = self.behaviour.partition(":")
        if "run" not in words:
            return await self.honest(words, directory)
        if kind in ("slow", "hangs"):
            await asyncio.sleep(float(number) if kind == "slow" else 3600)
        if kind == "refuses":
            return RunResult(1, stderr="model: weights: their sha256 is not the manifest's\n")
        done = await self.honest(words, directory)
        with self.log.open("a") as log:
            log.write(self.honest.jobs[-1] + "\n")
        result = directory / Path(words[5]).relative_to("/golem/work")
        text = json.dumps(spoil(json.loads(result.read_text()), kind))
        result.write_text("" if kind == "no-file" else text[:-20] if kind == "half-file" else text)
        return done


@dataclass
class GolemKit:
    """The requestor over the real yagna and three providers of this machine, in whose image somebody meddled."""

    network: GolemNetwork
    cannot = frozenset({"babbles", "dies"})
    paid = True
    slowness = 16.0
    races = 15

    @asynccontextmanager
    async def __call__(self, directory: Path, behaviour: str = "honest") -> AsyncIterator[ComputeBackend]:
        self.network.behave(behaviour)
        store = SqliteRequestStore(directory / "oracle.sqlite3")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{self.network.ready['gftp_dir']}{os.pathsep}{os.environ['PATH']}")
            golem = GolemBackend(directory / "tasks", self.network.terms(), store.ledger)
            try:
                async with started(golem):
                    yield golem
            finally:
                await store.close()

    async def kill_worker(self, backend: ComputeBackend) -> None:
        """Kill the provider that has the task, as ``kill -9`` would."""
        assert isinstance(backend, GolemBackend)
        for node_id in backend.workers["mnist"]:
            os.kill(self.network.pid(node_id), signal.SIGKILL)

    async def runs(self, directory: Path) -> int:
        with closing(sqlite3.connect(directory / "oracle.sqlite3")) as connection:
            (count,) = connection.execute("SELECT count(*) FROM work WHERE verdict = 'good'").fetchone()
        return int(count)


@pytest.fixture(params=["local", "golem-double", "golem"])
def kit(request: pytest.FixtureRequest) -> Kit:
    if request.param == "golem":
        return GolemKit(request.getfixturevalue("golem_network"))
    return LocalKit() if request.param == "local" else GolemDoubleKit()


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[TaskInput, ...]:
    inputs = []
    for digit in range(16):
        path = tmp_path / f"{digit}.png"
        draw_digit(digit % 10, digit).save(path)
        data = path.read_bytes()
        inputs.append(TaskInput(hashlib.sha256(b"%d" % digit).digest(), cid_of(data), path, len(data)))
    return tuple(inputs)


def task(key: str, inputs: tuple[TaskInput, ...], *, seconds: float = 30, model: ServableModel = MODEL) -> ComputeTask:
    return ComputeTask(key, model, inputs, time.time() + seconds)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a process is watched from outside
            await asyncio.sleep(0.01)


async def test_one_result_for_each_input_in_order(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path) as backend:
        events = backend.events()
        before = time.time()
        await backend.submit(task("a", pictures))
        result = await backend.collect("a")
        assert [item.request_id for item in result.items] == [item.request_id for item in pictures]
        for item in result.items:
            assert item.failure is FailureReason.NONE
            assert [label.label for label in item.labels] == ["1", "0", "2"]
            assert 0 <= sum(label.probability for label in item.labels) <= 1.001
        assert before <= result.started <= result.finished <= time.time()
        assert result.provider
        assert [event.phase for event in [await anext(events) for _ in range(3)]] == [
            TaskPhase.QUEUED,
            TaskPhase.STARTED,
            TaskPhase.FINISHED,
        ]
        receipts = await backend.receipts("a")
        assert [(receipt.key, receipt.provider) for receipt in receipts] == [("a", result.provider)] * kit.paid
        assert all(receipt.amount > 0 for receipt in receipts)


async def test_capabilities_and_quotes(kit: Kit, tmp_path: Path) -> None:
    async with kit(tmp_path) as backend:
        able = backend.capabilities()
        assert able.max_inputs == 16
        assert able.slots >= 1
        quotes = await backend.quotes(MODEL.manifest, 16)
        assert [quote.price for quote in quotes] == sorted(quote.price for quote in quotes)
        assert quotes
        assert not await backend.quotes(MODEL.manifest, 17)


async def test_duplicate_submit_runs_once(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path, "slow:0.1") as backend:
        await asyncio.gather(*(backend.submit(task("a", pictures[:2], seconds=30 + i)) for i in range(5)))
        with pytest.raises(TaskConflict):
            await backend.submit(task("a", pictures[:3]))
        first, second = await asyncio.gather(backend.collect("a"), backend.collect("a"))
        assert first == second
        await backend.submit(task("a", pictures[:2]))
        assert await backend.collect("a") == first
        with pytest.raises(TaskConflict):
            await backend.submit(task("a", pictures[1:3]))
        assert await kit.runs(tmp_path) == 1


async def test_a_settled_task_is_forgotten(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path) as backend:
        await backend.submit(task("a", pictures[:1]))
        await backend.collect("a")
        await backend.collect("a")
        await backend.settle("a", accepted=True)
        with pytest.raises(UnknownTask):
            await backend.collect("a")
        await backend.settle("a", accepted=False)
        await backend.submit(task("a", pictures[:2]))
        assert len((await backend.collect("a")).items) == 2


async def test_a_cancelled_task_does_not_run(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path, "slow:0.3") as backend:
        await backend.submit(task("running", pictures[:1]))
        await backend.submit(task("waiting", pictures[:1]))
        await backend.cancel("waiting")
        with pytest.raises(TaskCancelled):
            await backend.collect("waiting")
        await backend.collect("running")
        await backend.cancel("running")
        await backend.cancel("unknown")
        assert isinstance(await backend.collect("running"), TaskResult)
        assert await kit.runs(tmp_path) == 1


async def test_a_cancelled_task_stays_so_when_its_worker_dies(
    kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]
) -> None:
    async with kit(tmp_path, "hangs") as backend:
        events = backend.events()
        await backend.submit(task("a", pictures[:1]))
        while (await anext(events)).phase is not TaskPhase.STARTED:
            pass
        await backend.cancel("a")
        await kit.kill_worker(backend)
        assert (await anext(events)).phase is TaskPhase.CANCELLED
        await backend.submit(task("b", pictures[:1]))
        phases = [(event.key, event.phase) for event in [await anext(events) for _ in range(2)]]
        assert phases == [("b", TaskPhase.QUEUED), ("b", TaskPhase.STARTED)]
        with pytest.raises(TaskCancelled):
            await backend.collect("a")


async def test_cancel_racing_the_result_has_one_outcome(
    kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]
) -> None:
    rng = random.Random(7)
    outcomes = set()
    usual = 0.0  # seconds that the last task took which was let be
    async with kit(tmp_path, "slow:0.02") as backend:
        for i in range(kit.races):
            key = f"race-{i}"
            await backend.submit(task(key, pictures[:1]))
            collecting = asyncio.create_task(backend.collect(key))
            await asyncio.sleep(rng.uniform(0, min(2 * usual, 1.0)))
            await backend.cancel(key)
            first = await asyncio.gather(collecting, return_exceptions=True)
            again = await asyncio.gather(backend.collect(key), return_exceptions=True)
            assert type(first[0]) is type(again[0])
            outcomes.add(type(first[0]))
            # The same key may be used at once, even while a worker is still busy with the abandoned task.
            await backend.settle(key, accepted=False)
            began = time.monotonic()
            await backend.submit(task(key, pictures[:2]))
            assert len((await backend.collect(key)).items) == 2
            usual = time.monotonic() - began
            await backend.settle(key, accepted=True)
    assert outcomes == {TaskResult, TaskCancelled}
    assert not list((tmp_path / "tasks").glob("*/"))


async def test_a_lost_worker_costs_one_task(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path, "slow:0.5") as backend:
        events = backend.events()
        await backend.submit(task("a", pictures[:1]))
        await backend.submit(task("b", pictures[:1]))
        while (await anext(events)).phase is not TaskPhase.STARTED:
            pass
        await kit.kill_worker(backend)
        with pytest.raises(WorkerLost):
            await backend.collect("a")
        with pytest.raises(WorkerLost):
            await backend.collect("a")
        assert len((await backend.collect("b")).items) == 1
        await backend.settle("a", accepted=False)
        await backend.submit(task("a", pictures[:1]))
        await backend.collect("a")


async def test_a_worker_that_dies_says_why(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    if "dies" in kit.cannot:
        pytest.skip("its workers have no last words")
    async with kit(tmp_path, "dies") as backend:
        for key in "abc":
            await backend.submit(task(key, pictures[:1]))
            with pytest.raises(WorkerLost, match=r"exit code 11: Segmentation fault, says the double"):
                await backend.collect(key)


async def test_an_oversized_payload_is_refused(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path) as backend:
        huge = TaskInput(bytes(32), pictures[0].image_cid, pictures[0].path, 65 * 1024 * 1024)
        for inputs in ((*pictures, huge), (huge,)):
            with pytest.raises(PayloadTooLarge):
                await backend.submit(task("a", inputs))
        with pytest.raises(UnknownTask):
            await backend.collect("a")


async def test_a_budget_that_buys_nothing_is_refused(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path) as backend:
        assert await backend.quotes(MODEL.manifest, 1)
        poor = replace(task("a", pictures[:1]), budget=1)
        if kit.paid:
            with pytest.raises(BudgetExhausted) as caught:
                await backend.submit(poor)
            assert caught.value.remedy
            with pytest.raises(UnknownTask):
                await backend.collect("a")
        else:
            await backend.submit(poor)
            await backend.collect("a")


@pytest.mark.parametrize(
    "behaviour",
    ["no-file", "half-file", "other-input", "too-few", "not-a-number", "too-sure", "no-such-class", "other-job"],
)
async def test_a_malformed_result_is_refused(
    kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...], behaviour: str
) -> None:
    async with kit(tmp_path, behaviour) as backend:
        for key in "ab":
            await backend.submit(task(key, pictures[:3]))
            with pytest.raises(MalformedResult):
                await backend.collect(key)


async def test_a_worker_that_babbles_is_replaced(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    if "babbles" in kit.cannot:
        pytest.skip("its workers do not talk in lines")
    async with kit(tmp_path, "babbles") as backend:
        for key in "ab":
            await backend.submit(task(key, pictures[:1]))
            with pytest.raises(WorkerLost, match="not JSON"):
                await backend.collect(key)


async def test_a_deadline_ends_a_hanging_task(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path, "hangs") as backend:
        events = backend.events()
        await backend.submit(task("a", pictures[:1], seconds=0.6 * kit.slowness))
        await backend.submit(task("b", pictures[:1], seconds=1.2 * kit.slowness))
        await backend.submit(task("late", pictures[:1], seconds=-5))
        for key in ("late", "a", "b"):
            with pytest.raises(TaskTimeout):
                await backend.collect(key)
        seen: list[ComputeEvent] = []
        while sum(event.phase is TaskPhase.LOST for event in seen) < 3:
            seen.append(await anext(events))
        # The second task got a worker of its own before its deadline: the first one's was replaced.
        assert [event.key for event in seen if event.phase is TaskPhase.STARTED] == ["a", "b"]


async def test_a_restart_keeps_finished_tasks(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path) as backend:
        await backend.submit(task("finished", pictures))
        finished = await backend.collect("finished")
        await backend.submit(task("settled", pictures[:1]))
        await backend.collect("settled")
        await backend.settle("settled", accepted=True)
    async with kit(tmp_path, "hangs") as backend:
        await backend.submit(task("unfinished", pictures))
        assert set(await backend.recover(["unfinished", "finished", "nobody's"])) == {"unfinished", "finished"}
    async with kit(tmp_path) as backend:
        assert await backend.recover(["unfinished", "finished", "settled", "nobody's"]) == ["finished"]
        await backend.submit(task("finished", pictures))
        assert (await backend.collect("finished")).items == finished.items
        with pytest.raises(TaskConflict):
            await backend.submit(task("finished", pictures[:1]))
        await backend.submit(task("unfinished", pictures))
        await backend.collect("unfinished")
        await backend.settle("finished", accepted=True)
        assert await backend.recover(["finished"]) == []
        assert await kit.runs(tmp_path) == 3


async def test_a_model_it_cannot_run_is_refused(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    manifest = read_manifest(MANIFEST.replace(b'"family": "mnist"', b'"family": "unheard-of"'))
    async with kit(tmp_path, "refuses") as backend:
        assert not await backend.quotes(manifest, 1)
        for model in (
            ServableModel(2, MODEL.manifest_cid, manifest, MODEL.weights),
            ServableModel(2, MODEL.manifest_cid, MODEL.manifest, tmp_path / "nowhere"),
        ):
            with pytest.raises(ModelUnservable):
                await backend.submit(task("a", pictures, model=model))
        await backend.submit(task("b", pictures))
        with pytest.raises(ModelUnservable, match="sha256"):
            await backend.collect("b")


async def test_closing_ends_waiters_and_listeners(kit: Kit, tmp_path: Path, pictures: tuple[TaskInput, ...]) -> None:
    async with kit(tmp_path, "hangs") as backend:
        events = backend.events()
        await backend.submit(task("a", pictures[:1]))
        collecting = asyncio.create_task(backend.collect("a"))
        assert (await anext(events)).phase is TaskPhase.QUEUED
        assert (await anext(events)).phase is TaskPhase.STARTED
    with pytest.raises(WorkerLost):
        await collecting
    assert [event.phase async for event in events] == [TaskPhase.LOST]
    assert [event async for event in backend.events()] == []
    with pytest.raises(WorkerLost):
        await backend.submit(task("b", pictures[:1]))
