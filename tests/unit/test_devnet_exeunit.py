"""The exe-unit: its states, its scripts, what it answers and reports; the sandbox is a double."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from bus_double import NODE, bus_double

from oracle.devnet.golem import exeunit
from oracle.devnet.golem.exeunit import CommandFailed, ExeUnit, Machine, State
from oracle.devnet.golem.gftp import Publisher
from oracle.devnet.golem.gsb import Bus, ServiceError
from oracle.devnet.golem.images import Image, ImageUnknown
from oracle.devnet.golem.sandbox import Finished, Limits, SandboxLost

pytestmark = pytest.mark.unit


def test_given_the_states_when_commands_come_in_order_then_they_lead_from_one_to_the_next() -> None:
    machine = Machine()
    for command, after in (
        ("deploy", State.DEPLOYED),
        ("start", State.READY),
        ("run", State.READY),
        ("transfer", State.READY),
    ):
        machine.begin(command)
        assert machine.pending is after
        machine.finish(done=True)
        assert (machine.state, machine.pending) == (after, None)


@pytest.mark.parametrize(
    ("state", "command", "message"),
    [
        (State.INITIALIZED, "start", "deploy"),
        (State.INITIALIZED, "run", "deploy"),
        (State.DEPLOYED, "deploy", "start"),
        (State.DEPLOYED, "run", "start"),
        (State.READY, "deploy", "after a successful start"),
        (State.READY, "start", "after a successful start"),
        (State.READY, "sign", "not allowed"),
        (State.TERMINATED, "run", "not allowed"),
    ],
)
def test_given_a_state_when_a_command_is_not_its_turn_then_it_is_refused(
    state: State, command: str, message: str
) -> None:
    machine = Machine(state)
    with pytest.raises(CommandFailed, match=message):
        machine.begin(command)
    assert machine.pair() == [state, None]


def test_given_a_command_that_runs_when_another_comes_then_the_activity_is_busy() -> None:
    machine = Machine(State.READY)
    machine.begin("run")
    with pytest.raises(CommandFailed, match="Busy"):
        machine.begin("run")


def test_given_a_command_that_fails_when_it_ends_then_the_state_is_as_before() -> None:
    machine = Machine()
    machine.begin("deploy")
    machine.finish(done=False)
    assert machine.pair() == ["Initialized", None]


class SandboxDouble:
    """Runs nothing: ``exit N``, ``hang``, ``say TEXT`` are understood."""

    alive: ClassVar[list[SandboxDouble]] = []

    def __init__(self, root: Path, volumes: Any, limits: Limits) -> None:
        self.root, self.volumes, self.limits = root, volumes, limits

    async def start(self) -> None:
        self.alive.append(self)

    async def close(self) -> None:
        self.alive.remove(self)

    async def cpu_seconds(self) -> float:
        return 1.25

    async def run(self, arguments: Sequence[str], *, within: float) -> Finished:
        match arguments:
            case ["exit", code]:
                return Finished(int(code), b"", b"why")
            case ["hang"]:
                await asyncio.sleep(60)
            case ["die"]:
                raise SandboxLost("the sandbox has ended")
        return Finished(0, arguments[1].encode(), b"")


class Requestor:
    """Talks to one exe-unit through the bus, as yagna does for a requestor."""

    def __init__(self, bus: Bus, reports: dict[str, list[Any]]) -> None:
        self._bus, self.reports, self._batch = bus, reports, 0

    async def call(self, method: str, **body: Any) -> Any:
        return await self._bus.call(f"/public/exeunit/a1/{method}", {"activityId": "a1", **body})

    async def execute(self, *script: dict[str, Any], timeout: float = 5.0) -> list[dict[str, Any]]:
        self._batch += 1
        batch = await self.call("Exec", batchId=f"b{self._batch}", exeScript=list(script), timeout=None)
        results: list[dict[str, Any]] = await self.call(
            "GetExecBatchResults", batchId=batch, timeout=timeout, commandIndex=None
        )
        return results


@asynccontextmanager
async def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ExeUnit, Requestor]]:
    monkeypatch.setattr(exeunit, "Sandbox", SandboxDouble)
    monkeypatch.setattr(exeunit, "_HEARTBEAT", 0.02)
    SandboxDouble.alive.clear()
    reports: dict[str, list[Any]] = {"SetActivityState": [], "SetActivityUsage": []}

    async def daemon(method: str, body: Any) -> None:
        reports[method].append(body)

    async with bus_double(tmp_path) as double:
        yagna, provider, caller = [await Bus.connect(double.url) for _ in range(3)]
        await yagna.register("/local/activity", daemon)
        image = Image(tmp_path / "root", ["/golem/work", "/golem/out"])
        made = ExeUnit(provider, "a1", image=lambda: image, folder=tmp_path / "work", limits=Limits())
        await made.start()
        try:
            yield made, Requestor(caller, reports)
        finally:
            await made.close()
            for bus in (yagna, provider, caller):
                await bus.close()


RUN = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}


def run(*words: str, capture: Any = RUN) -> dict[str, Any]:
    return {"run": {"entry_point": words[0], "args": list(words[1:]), "capture": capture}}


DEPLOY, START = {"deploy": {}}, {"start": {"args": []}}


async def test_given_a_script_when_executed_then_each_command_has_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unit(tmp_path, monkeypatch) as (_, requestor):
        results = await requestor.execute(DEPLOY, START, run("say", "hello"))
        assert [one["index"] for one in results] == [0, 1, 2]
        assert [one["result"] for one in results] == ["Ok"] * 3
        assert [one["isBatchFinished"] for one in results] == [False, False, True]
        assert results[2]["stdout"] == "hello"
        assert results[2]["eventDate"].endswith("Z")
        assert (await requestor.call("GetState", timeout=None))["state"] == ["Ready", None]
        states = [report["state"]["state"] for report in requestor.reports["SetActivityState"]]
        assert states[:3] == [["Initialized", None], ["Initialized", "Deployed"], ["Deployed", None]]


async def test_given_a_command_that_fails_when_executed_then_the_script_stops_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unit(tmp_path, monkeypatch) as (_, requestor):
        await requestor.execute(DEPLOY, START)
        results = await requestor.execute(run("exit", "3"), run("say", "never"), timeout=0.2)
        (failed,) = results
        assert failed["result"] == "Error"
        assert failed["message"] == "ExeScript command exited with code 3"
        assert failed["stderr"] == "why"
        assert failed["isBatchFinished"]
        (after,) = await requestor.execute(run("exit", "-9"))
        assert after["message"] == "ExeScript command was ended by signal 9"
        assert (await requestor.execute(run("say", "on")))[0]["result"] == "Ok"
        (lost,) = await requestor.execute(run("die"))
        assert lost["message"] == "the sandbox has ended"


async def test_given_a_script_that_takes_its_time_when_asked_then_what_is_done_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unit(tmp_path, monkeypatch) as (_, requestor):
        assert [one["result"] for one in await requestor.execute(DEPLOY, START, run("hang"), timeout=0.1)] == ["Ok"] * 2
        assert (await requestor.call("GetRunningCommand", timeout=None))[0]["command"] == "run"
        (busy,) = await requestor.execute(run("say", "x"))
        assert busy["message"].startswith("Busy")
        with pytest.raises(ServiceError, match="Timeout"):
            await requestor.call("GetExecBatchResults", batchId="b1", timeout=0.05, commandIndex=2)
        assert len(await requestor.call("GetExecBatchResults", batchId="b1", timeout=1.0, commandIndex=1)) == 2


async def test_given_a_hanging_run_when_terminated_then_the_activity_can_be_deployed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unit(tmp_path, monkeypatch) as (_, requestor):
        await requestor.execute(DEPLOY, START, run("hang"), timeout=0.1)
        assert len(SandboxDouble.alive) == 1
        assert (await requestor.execute({"terminate": {}}))[0]["result"] == "Ok"
        assert not SandboxDouble.alive
        assert not (tmp_path / "work").exists()
        assert [one["result"] for one in await requestor.execute(DEPLOY, START)] == ["Ok", "Ok"]


async def test_given_an_image_that_is_not_here_when_deployed_then_the_requestor_reads_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unit(tmp_path, monkeypatch) as (made, requestor):

        def unknown() -> Image:
            raise ImageUnknown("the image abc is not in this network")

        monkeypatch.setattr(made, "_find_image", unknown)
        (failed,) = await requestor.execute(DEPLOY)
        assert failed["message"] == "the image abc is not in this network"
        assert (await requestor.call("GetState", timeout=None))["state"] == ["Initialized", None]


async def test_given_files_when_transferred_then_they_go_in_and_come_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"some content")
    async with unit(tmp_path, monkeypatch) as (_, requestor):
        publisher = Publisher(f"unix:{tmp_path}/gsb.sock")
        await publisher.start()
        results = await requestor.execute(
            DEPLOY,
            START,
            {"transfer": {"from": await publisher.publish(source), "to": "container:/golem/work/deep/in"}},
            {"transfer": {"from": "container:/golem/work/deep/in", "to": await publisher.receive(target)}},
        )
        assert [one["message"] for one in results] == [None] * 4
        assert target.read_bytes() == source.read_bytes()
        for wrong, message in (
            (
                {"from": "container:/golem/work/none", "to": f"gftp://{NODE}/x"},
                "path not found in container: /golem/work/none",
            ),
            ({"from": f"gftp://{NODE}/x", "to": "container:/etc/passwd"}, "path not found in container: /etc/passwd"),
            ({"from": f"gftp://{NODE}/x", "to": "container:/golem/work/y"}, "cannot be fetched"),
            ({"from": "http://127.0.0.1/x", "to": "container:/golem/work/y"}, "not supported"),
        ):
            (failed,) = await requestor.execute({"transfer": wrong})
            assert message in failed["message"]
        await publisher.close()


@pytest.mark.parametrize(
    ("capture", "seen"),
    [
        (RUN, "0123456789"),
        (None, None),
        ({}, None),
        ({"stdout": {"atEnd": {"head": 3, "format": "str"}}}, "012"),
        ({"stdout": {"atEnd": {"tail": 3, "format": "str"}}}, "789"),
        ({"stdout": {"atEnd": {"tail": 0, "format": "str"}}}, ""),
        ({"stdout": {"atEnd": {"headTail": 5, "format": "str"}}}, "01789"),
        ({"stdout": {"atEnd": {"headTail": 50, "format": "str"}}}, "0123456789"),
    ],
)
async def test_given_a_capture_when_run_then_that_part_of_the_output_is_in_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: Any, seen: str | None
) -> None:
    async with unit(tmp_path, monkeypatch) as (_, requestor):
        results = await requestor.execute(DEPLOY, START, run("say", "0123456789", capture=capture))
        assert results[2]["stdout"] == seen


async def test_given_an_activity_when_it_lives_and_ends_then_usage_and_end_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unit(tmp_path, monkeypatch) as (made, requestor):
        await requestor.execute(DEPLOY, START)
        await asyncio.sleep(0.1)
        usages = [report["usage"]["currentUsage"] for report in requestor.reports["SetActivityUsage"]]
        assert len(usages) > 2
        assert usages == sorted(usages)
        assert usages[-1][1] == 1.25
        await made.close()
        assert made.usage[1] == 1.25
        assert made.usage[0] >= usages[-1][0]
        assert requestor.reports["SetActivityState"][-1]["state"]["state"] == ["Terminated", None]
        assert not SandboxDouble.alive
        with pytest.raises(ServiceError, match="not found"):
            await requestor.call("GetState", timeout=None)


async def test_given_what_it_does_not_know_when_asked_then_the_answer_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with unit(tmp_path, monkeypatch) as (_, requestor):
        with pytest.raises(ServiceError, match="NotFound"):
            await requestor.call("GetExecBatchResults", batchId="none", timeout=1.0, commandIndex=None)
        with pytest.raises(ServiceError, match="not offered"):
            await requestor.call("Dance")
        with pytest.raises(ServiceError, match="NotFound"):
            await requestor.call("GetRunningCommand", timeout=None)
        await requestor.call("Exec", batchId="x", exeScript=[DEPLOY], timeout=None)
        with pytest.raises(ServiceError, match="already exists"):
            await requestor.call("Exec", batchId="x", exeScript=[DEPLOY], timeout=None)
