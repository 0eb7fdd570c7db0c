"""What goes wrong at a provider double, on demand, as a requestor sees it call by call."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from golem_rest import (
    ACTIVITY,
    MARKET,
    PAYMENT,
    run,
    states,
    world,
)

from oracle.devnet.golem.double import (
    ENDPOINT_NOT_FOUND,
    RECEIVER_CANCELLED,
    Crash,
    Deed,
    Delay,
    Die,
    Fail,
    FakeRuntime,
    Hang,
    Ignore,
    Moment,
    ProviderDouble,
    Refuse,
    Reject,
    TerminateActivity,
    TerminateAgreement,
    Withhold,
)

pytestmark = pytest.mark.integration

RUNTIME = ("/usr/bin/python3", "-m", "provider_images.runtime")


# What goes wrong -------------------------------------------------------------------------------------------------


async def test_a_deed_that_a_moment_does_not_know_is_refused() -> None:
    deeds: list[tuple[Moment, Deed]] = [(Moment.INVOICE, Hang()), (Moment.TASK, Withhold()), (Moment.RUN, Reject())]
    for moment, deed in deeds:
        with pytest.raises(ValueError, match="nothing a provider can do"):
            ProviderDouble("one").plan(moment, deed)


async def test_a_provider_may_refuse_or_not_answer(tmp_path: Path) -> None:
    provider = ProviderDouble("one")
    provider.plan(Moment.PROPOSAL, Reject("not you"))
    provider.plan(Moment.AGREEMENT, Reject("not now"))
    provider.plan(Moment.ACTIVITY, Refuse(500, "no"))
    provider.plan(Moment.ACTIVITY, Ignore(), nth=2)
    async with world(tmp_path, provider, patience=0.02) as (_, requestor):
        ask = requestor()
        demand = await ask.subscribe()
        await ask.counter(demand, (await ask.initial(demand))["proposalId"])
        assert (await ask.events(demand))[0]["reason"]["message"] == "not you"
        agreement = await ask.propose(await ask.draft(await ask.subscribe()))
        assert await ask("POST", f"{MARKET}/agreements/{agreement}/wait?timeout=5") == (410, {"message": "Rejected"})
        agreement = await ask.agree()
        assert await ask("POST", f"{ACTIVITY}/activity", agreement) == (500, {"message": "no"})
        assert await ask("POST", f"{ACTIVITY}/activity", agreement) == (408, {"message": "Timeout"})
        assert await ask.ready(agreement)
        assert (provider.happened(Moment.ACTIVITY), provider.happened(Moment.AGREEMENT)) == (3, 2)


GONE = (500, {"message": ENDPOINT_NOT_FOUND})
CANCELLED = (500, {"message": RECEIVER_CANCELLED})


@pytest.mark.parametrize(
    ("deed", "results", "state", "invoices"),
    [
        (Die(), GONE, GONE, 0),
        (Die(RECEIVER_CANCELLED), CANCELLED, CANCELLED, 0),
        (Crash(), GONE, GONE, 1),
        (TerminateActivity("tired", "no more"), CANCELLED,
         (200, {"state": ["Terminated", None], "reason": "tired", "errorMessage": "no more"}), 1),
        (TerminateAgreement(), CANCELLED, (200, {"state": ["Terminated", None]}), 1),
    ],
)  # fmt: skip
async def test_a_provider_goes_away_while_it_runs_the_second_task(
    tmp_path: Path, deed: Deed, results: tuple[int, Any], state: tuple[int, Any], invoices: int
) -> None:
    provider = ProviderDouble("one")
    provider.plan(Moment.RUN, deed, nth=2, matching=lambda said: "work" in said)
    async with world(tmp_path, provider, patience=0.02) as (yagna, requestor):
        ask = requestor()
        agreement = await ask.agree()
        activity = await ask.ready(agreement)
        path = f"{ACTIVITY}/activity/{activity}"
        for words in (("work",), ("rest",)):
            await ask.results(activity, await ask.execute(activity, run(*words)))
        batch = await ask.execute(activity, run("work"))
        began = time.monotonic()
        assert await ask("GET", f"{path}/exec/{batch}?timeout=20") == results
        assert time.monotonic() - began < 2
        assert await ask("GET", f"{path}/state") == state
        assert (await ask("POST", f"{path}/exec", {"text": "[]"}))[0] == 500
        await yagna.until(lambda: not yagna.activities.all()[0].directory.exists(), seconds=5)
        await ask("POST", f"{MARKET}/agreements/{agreement}/terminate", {"message": "failed"})
        await asyncio.sleep(0.3)
        assert len(yagna.payments.invoices) == invoices


async def test_a_poll_hears_at_once_of_a_provider_that_dies(tmp_path: Path) -> None:
    provider, hang = ProviderDouble("one"), Hang()
    provider.plan(Moment.RUN, hang)
    async with world(tmp_path, provider) as (_, requestor):
        ask = requestor()
        activity = await ask.ready(await ask.agree())
        batch = await ask.execute(activity, run("work"))
        polling = asyncio.create_task(ask("GET", f"{ACTIVITY}/activity/{activity}/exec/{batch}?timeout=20"))
        await hang.reached.wait()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await provider.die()
        assert await polling == GONE
        assert time.monotonic() - began < 2


async def test_a_dead_provider_says_nothing_until_it_is_revived(tmp_path: Path) -> None:
    provider = ProviderDouble("one")
    async with world(tmp_path, provider, patience=0.02) as (_, requestor):
        ask = requestor()
        demand = await ask.subscribe()
        agreement = await ask.agree(demand)
        await provider.die()
        assert await ask("POST", f"{ACTIVITY}/activity", agreement) == (408, {"message": "Timeout"})
        await ask.terminate(agreement)
        await ask.counter(demand, (await ask.initial(demand))["proposalId"])
        assert await ask.events(demand, 0.1) == []
        provider.revive()
        assert await ask.agree(demand)


async def test_a_command_hangs_until_it_is_let_go_or_killed(tmp_path: Path) -> None:
    provider, hang, forever = ProviderDouble("one", handler=FakeRuntime()), Hang(), Hang()
    provider.plan(Moment.WARM_UP, hang)
    provider.plan(Moment.WARM_UP, forever, nth=2)
    async with world(tmp_path, provider) as (_, requestor):
        ask = requestor()
        activity = await ask.ready(await ask.agree())
        batch = await ask.execute(activity, run(*RUNTIME, "start"))
        async with asyncio.timeout(5):
            await hang.reached.wait()
        assert await ask.results(activity, batch, 0.1) == []
        hang.release()
        assert states(await ask.results(activity, batch)) == ["Ok"]
        await ask.execute(activity, run(*RUNTIME, "start"))
        await provider.reached(Moment.WARM_UP, 2, seconds=5)
        await ask.get(f"{ACTIVITY}/activity/{activity}", method="DELETE")


async def test_a_command_may_fail_or_be_late_on_demand(tmp_path: Path) -> None:
    provider = ProviderDouble("one")
    provider.plan(Moment.RUN, Fail(7, stderr="broken on purpose"))
    provider.plan(Moment.RUN, Fail(-1, message="Runtime error: no memory"), nth=2)
    provider.plan(Moment.START, Delay(0.2), nth=2)
    async with world(tmp_path, provider) as (_, requestor):
        ask = requestor()
        agreement = await ask.agree()
        activity = await ask.ready(agreement)
        for message, errors in (("ExeScript command exited with code 7", "broken on purpose"),
                                ("Runtime error: no memory", "")):  # fmt: skip
            (result,) = await ask.results(activity, await ask.execute(activity, run("work")))
            assert (result["message"], result["stderr"]) == (message, errors)
        began = time.monotonic()
        await ask.ready(agreement)
        assert time.monotonic() - began >= 0.2


async def test_a_provider_breaks_an_agreement_that_nobody_uses(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one", idle_timeout=0.2)) as (yagna, requestor):
        ask = requestor()
        agreement = await ask.agree()
        activity = await ask.ready(agreement)
        await asyncio.sleep(0.4)
        assert (await ask.get(f"{MARKET}/agreements/{agreement}"))["state"] == "Approved"
        await ask.get(f"{ACTIVITY}/activity/{activity}", method="DELETE")
        await yagna.until(lambda: yagna.market.agreements[agreement].state == "Terminated", seconds=5)
        events = await ask.get(f"{MARKET}/agreementEvents?timeout=0")
        assert events[-1]["terminator"] == "Provider"


async def test_the_daemon_itself_can_fail(tmp_path: Path) -> None:
    async with world(tmp_path) as (yagna, requestor):
        ask = requestor()
        yagna.fail("GET", "/me", status=504, nth=2, times=2)
        yagna.fail("GET", "/demands", drop=True, times=2)  # aiohttp itself tries a GET twice
        yagna.fail("GET", "/agreements", seconds=0.2)
        assert [(await ask("GET", "/me"))[0] for _ in range(4)] == [200, 504, 504, 200]
        with pytest.raises(aiohttp.ClientError):
            await ask("GET", f"{MARKET}/demands")
        began = time.monotonic()
        assert await ask.get(f"{MARKET}/agreements") == []
        assert time.monotonic() - began >= 0.2


async def test_a_restart_breaks_connections_and_keeps_documents(tmp_path: Path) -> None:
    async with world(tmp_path, ProviderDouble("one")) as (yagna, requestor):
        ask = requestor()
        demand, allocation = await ask.subscribe(), await ask.allocate("1")
        agreement = await ask.agree(demand)
        await ask.ready(agreement)
        await ask.terminate(agreement)
        await ask.initial(demand)
        polling = asyncio.create_task(ask.events(demand, 20))
        await asyncio.sleep(0.05)
        await yagna.stop()
        with pytest.raises(aiohttp.ClientError):
            await polling
        with pytest.raises(aiohttp.ClientError):
            await ask.me()
        # What arrives while nobody answers is there afterwards.
        await yagna.until(lambda: yagna.payments.invoices)
        await yagna.start()
        (invoice,) = await ask.get(f"{PAYMENT}/invoices")
        assert invoice["status"] == "RECEIVED"
        assert (await ask.accept("invoices", invoice["invoiceId"], invoice["amount"], allocation))[0] == 200
        assert await ask.events(demand, 0) == []
        assert await ask.ready(await ask.agree())
