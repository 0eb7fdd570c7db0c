"""The provider agent: whom it answers what, what it sends when, and when it breaks an agreement. yagna is a double."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bus_double import bus_double

from oracle.devnet.golem import provider as provider_module
from oracle.devnet.golem.agreement import Activity, Agreement, Notebook
from oracle.devnet.golem.gsb import Bus, BusError
from oracle.devnet.golem.negotiation import CHOSEN_PLATFORM, EXPIRATION, NOTE_INTERVAL, TASK_PACKAGE
from oracle.devnet.golem.pricing import Terms, write_terms
from oracle.devnet.golem.provider import READY_FILE, Provider, ProviderConfig
from oracle.devnet.golem.rest import RestRefused

pytestmark = pytest.mark.unit

PLATFORM = "erc20-hoodi-tglm"
MARKET, PAYMENT = "/market-api/v1", "/payment-api/v1"
USUAL = Terms(per_second=1.0)


class RestDouble:
    """yagna's REST: answers polls from queues, writes down what is sent, refuses what it is told to."""

    def __init__(self, *_: str) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.refused: dict[str, int] = {}
        self.queues: dict[str, asyncio.Queue[Any]] = {
            kind: asyncio.Queue() for kind in ("offer", "agreement", "activity")
        }
        self._changed = asyncio.Event()
        self._numbers = iter(range(1, 1000))

    async def close(self) -> None:
        pass

    async def get(self, path: str, *, wait: float = 0.0, **_: Any) -> Any:
        kind = "offer" if "/offers/" in path else "agreement" if "agreementEvents" in path else "activity"
        try:
            async with asyncio.timeout(0.05):
                event = await self.queues[kind].get()
        except TimeoutError:
            if kind == "activity":
                raise RestRefused(path, 408, "Timeout") from None
            return []
        if isinstance(event, Exception):
            raise event
        return [event]

    def note(self, path: str, body: Any = None) -> None:
        self.sent.append((path, body))
        self._changed.set()

    async def post(self, path: str, body: Any = None, **_: Any) -> Any:
        self.note(path, body)
        for part, status in self.refused.items():
            if part in path:
                raise RestRefused(path, status, "no")
        number = next(self._numbers)
        if path == f"{MARKET}/offers":
            return f"offer-{number}"
        return {"debitNoteId": f"n{number}", "invoiceId": f"i{number}"}

    async def delete(self, path: str) -> None:
        self.note(f"DELETE {path}")

    async def until(self, condition: Callable[[str, Any], bool]) -> Any:
        """Wait for something that is sent; its body."""
        async with asyncio.timeout(5):
            while True:
                for path, body in self.sent:
                    if condition(path, body):
                        return body
                self._changed.clear()
                await self._changed.wait()

    async def until_path(self, end: str) -> Any:
        return await self.until(lambda path, _: path.endswith(end))

    def paths(self, part: str) -> list[str]:
        return [path for path, _ in self.sent if part in path]


def demand(seconds: float = 1200, **more: Any) -> dict[str, Any]:
    return {
        CHOSEN_PLATFORM: PLATFORM,
        EXPIRATION: int((time.time() + seconds) * 1000),
        TASK_PACKAGE: f"hash:sha3:{'ab' * 28}:x",
        **more,
    }


def proposal(number: int, issuer: str = "0x1", **properties: Any) -> dict[str, Any]:
    body = {"proposalId": f"R-{number}", "issuerId": issuer, "properties": demand(**properties)}
    return {"eventType": "ProposalEvent", "proposal": body}


class Running:
    """An agent at work, and yagna as it sees it."""

    def __init__(self, agent: Provider, rest: RestDouble, home: Path, task: asyncio.Task[None]) -> None:
        self.agent, self.rest, self.home, self.task = agent, rest, home, task

    def agreement_event(self, agreement_id: str, **properties: Any) -> dict[str, Any]:
        offer = next(body["properties"] for path, body in self.rest.sent if path == f"{MARKET}/offers")
        offered = {key: value for key, value in offer.items() if key != NOTE_INTERVAL or NOTE_INTERVAL in properties}
        return {
            "eventType": "AgreementEvent",
            "agreement": {
                "agreementId": agreement_id,
                "offer": {"properties": offered},
                "demand": {"properties": demand(**properties)},
            },
        }

    async def agree(self, agreement_id: str = "a1", **properties: Any) -> None:
        await self.rest.queues["offer"].put(self.agreement_event(agreement_id, **properties))
        await self.rest.until_path(f"/{agreement_id}/approve")

    async def activity(self, activity_id: str, kind: str = "CreateActivity", agreement_id: str = "a1") -> None:
        event = {"eventType": {kind: {}}, "activityId": activity_id, "agreementId": agreement_id, "eventDate": "then"}
        await self.rest.queues["activity"].put(event)

    async def terminated(self, agreement_id: str = "a1") -> None:
        event = {"eventType": "AgreementTerminatedEvent", "agreementId": agreement_id, "eventDate": "then"}
        await self.rest.queues["agreement"].put(event)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_module, "_TICK", 0.02)


@asynccontextmanager
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: Terms = USUAL) -> AsyncIterator[Running]:
    rest = RestDouble()
    monkeypatch.setattr(provider_module, "Rest", lambda *_: rest)
    home = tmp_path / "ada"
    home.mkdir(exist_ok=True)
    write_terms(tmp_path / "terms.json", {"ada": terms})
    config = ProviderConfig(
        name="ada",
        node_id="0xada",
        api_url="http://127.0.0.1:1",
        bus_url=f"unix:{tmp_path}/gsb.sock",
        subnet="sibyl",
        platform=PLATFORM,
        terms_file=tmp_path / "terms.json",
        images=tmp_path / "images",
        home=home,
    )
    config.write(home / "config.json")
    assert ProviderConfig.read(home / "config.json") == config

    async def daemon(method: str, body: Any) -> None:
        rest.note(method, body)

    async with bus_double(tmp_path) as double:
        yagna = await Bus.connect(double.url)
        await yagna.register("/local/activity", daemon)
        agent = Provider(config, "key")
        task = asyncio.create_task(agent.run())
        try:
            await rest.until_path(f"{MARKET}/offers")
            yield Running(agent, rest, home, task)
        finally:
            task.cancel()
            await asyncio.wait([task])
            await yagna.close()


@pytest.mark.usefixtures("quick")
async def test_given_a_demand_when_it_comes_then_it_is_countered_and_the_agreement_approved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        await it.rest.queues["offer"].put(proposal(1))
        counter = await it.rest.until_path("/proposals/R-1")
        assert counter["properties"]["golem.node.id.name"] == "ada"
        await it.agree()
        assert (it.home / READY_FILE).exists()


@pytest.mark.usefixtures("quick")
async def test_given_an_agreement_when_others_ask_then_they_wait_and_are_answered_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        await it.agree()
        for number, issuer in ((2, "0x1"), (3, "0x2"), (4, "0x2")):
            await it.rest.queues["offer"].put(proposal(number, issuer))
            reason = await it.rest.until_path(f"/proposals/R-{number}/reject")
            assert reason["golem.proposal.rejection.is-final"] is False
        await it.rest.queues["offer"].put(it.agreement_event("a2"))
        await it.rest.until_path("/agreements/a2/reject")
        await it.terminated()
        await it.rest.until_path("/proposals/R-2")
        await it.rest.until_path("/proposals/R-4")
        assert not [path for path in it.rest.paths("R-3") if not path.endswith("reject")]
        await it.agree("a5")


@pytest.mark.usefixtures("quick")
async def test_given_an_approval_that_fails_when_the_next_agreement_comes_then_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        it.rest.refused["/a1/approve"] = 410
        await it.agree("a1")
        await it.agree("a2")
        assert not it.rest.paths("/a2/reject")


@pytest.mark.usefixtures("quick")
async def test_given_activities_when_they_and_the_agreement_end_then_notes_and_one_invoice_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        await it.agree()
        await it.activity("x")
        await it.rest.until(lambda path, body: path == "SetActivityState" and body["activityId"] == "x")
        await it.activity("stranger", agreement_id="another")
        await it.activity("x", "DestroyActivity")
        note = await it.rest.until_path(f"{PAYMENT}/debitNotes")
        assert note["activityId"] == "x"
        await it.activity("y")
        await it.rest.until(lambda path, body: path == "SetActivityState" and body["activityId"] == "y")
        await it.terminated()
        invoice = await it.rest.until_path(f"{PAYMENT}/invoices")
        assert invoice["activityIds"] == ["x", "y"]
        notes = [body for path, body in it.rest.sent if path == f"{PAYMENT}/debitNotes"]
        assert float(invoice["amount"]) == pytest.approx(sum(float(one["totalAmountDue"]) for one in notes), abs=1e-8)
        await it.rest.until(lambda path, _: path.startswith(f"{PAYMENT}/invoices/") and path.endswith("/send"))
        await it.terminated()
        await asyncio.sleep(0.1)
        assert len(it.rest.paths(f"{PAYMENT}/invoices")) == 2
        assert not (it.home / "agreement.json").exists()


@pytest.mark.usefixtures("quick")
async def test_given_an_agreed_interval_when_an_activity_is_shorter_then_no_note_comes_before_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        await it.agree(**{NOTE_INTERVAL: 60})
        await it.activity("x")
        await it.rest.until(lambda path, body: path == "SetActivityState" and body["activityId"] == "x")
        await it.terminated()
        await it.rest.until_path(f"{PAYMENT}/invoices")
        assert not it.rest.paths("debitNotes")


@pytest.mark.usefixtures("quick")
async def test_given_a_short_interval_of_our_own_when_an_activity_goes_on_then_notes_come_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch, Terms(per_second=1.0, debit_note_interval=0.05)) as it:
        await it.agree()
        await it.activity("x")
        async with asyncio.timeout(5):
            while len(it.rest.paths("/send")) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_given_an_agreement_that_nobody_uses_when_time_passes_then_it_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "IDLE_AGREEMENT", 0.1)
    async with running(tmp_path, monkeypatch) as it:
        await it.agree()
        reason = await it.rest.until_path("/a1/terminate")
        assert reason["golem.provider.code"] == "NoActivity"
        invoice = await it.rest.until_path(f"{PAYMENT}/invoices")
        assert (invoice["amount"], invoice["activityIds"]) == ("0", [])


@pytest.mark.usefixtures("quick")
async def test_given_an_agreement_that_expires_when_its_time_is_over_then_it_is_terminated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        await it.agree(seconds=0.2)
        assert (await it.rest.until_path("/a1/terminate"))["golem.provider.code"] == "Expired"


@pytest.mark.usefixtures("quick")
async def test_given_an_offer_that_ran_out_when_polled_then_there_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        await it.rest.queues["offer"].put(RestRefused("GET", 404, "expired"))
        async with asyncio.timeout(5):
            while len([path for path, _ in it.rest.sent if path == f"{MARKET}/offers"]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_given_other_terms_when_the_file_changes_then_the_offer_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        write_terms(tmp_path / "terms.json", {"ada": Terms(per_second=2.0)})
        coefficients = "golem.com.pricing.model.linear.coeffs"
        await it.rest.until(
            lambda path, body: path == f"{MARKET}/offers" and body["properties"][coefficients][0] == 2.0
        )
        await it.rest.until(lambda path, _: path.startswith(f"DELETE {MARKET}/offers/offer-"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("spoilt", ["{", '{"ada": {"speed": 7}}', "{}", None])
async def test_given_a_bad_edit_of_the_terms_when_the_agent_sees_it_then_the_old_hold_until_a_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spoilt: str | None
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        file = tmp_path / "terms.json"
        if spoilt is None:
            file.unlink()
        else:
            file.write_text(spoilt)
        async with asyncio.timeout(5):
            while "the terms of before hold" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not it.task.done()
        assert len([path for path, _ in it.rest.sent if path == f"{MARKET}/offers"]) == 1
        write_terms(file, {"ada": Terms(per_second=3.0)})
        coefficients = "golem.com.pricing.model.linear.coeffs"
        await it.rest.until(
            lambda path, body: path == f"{MARKET}/offers" and body["properties"][coefficients][0] == 3.0
        )
    assert caplog.text.count("the terms of before hold") == 1


@pytest.mark.usefixtures("quick")
async def test_given_what_an_activity_left_behind_when_the_agent_starts_again_then_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "ada" / "work" / "an old activity"
    left.mkdir(parents=True)
    folder = os.open(left, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("x", dir_fd=folder)
        folder, above = os.open("x", os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    async with running(tmp_path, monkeypatch), asyncio.timeout(60):
        while left.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_given_an_agent_that_was_killed_when_it_starts_again_then_it_ends_and_bills_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ada").mkdir()
    left = Agreement("old", "hash:sha3:ab:x", [1.0, 0.0, 0.0], time.time() + 600, 120.0, interval_agreed=False)
    left.activities["x"] = Activity("x", usage=(2.5, 1.0))
    Notebook(tmp_path / "ada" / "agreement.json").write(left)
    async with running(tmp_path, monkeypatch) as it:
        assert (await it.rest.until_path("/old/terminate"))["golem.provider.code"] == "Restart"
        invoice = await it.rest.until_path(f"{PAYMENT}/invoices")
        assert (invoice["agreementId"], invoice["amount"]) == ("old", "2.500000000")
        state = await it.rest.until_path("SetActivityState")
        assert state["state"]["state"] == ["Terminated", None]
        await it.agree("a1")


@pytest.mark.usefixtures("quick")
async def test_given_an_agent_that_is_stopped_when_it_keeps_an_agreement_then_it_ends_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        await it.agree()
        it.task.cancel()
        await asyncio.wait([it.task])
        assert it.rest.paths("/a1/terminate")
        assert it.rest.paths(f"{PAYMENT}/invoices")
        assert it.rest.paths("DELETE")


@pytest.mark.usefixtures("quick")
async def test_given_a_yagna_that_is_gone_when_the_agent_notices_then_it_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, monkeypatch) as it:
        bus = it.agent._bus
        assert bus is not None
        bus.lost.set()
        with pytest.raises(ExceptionGroup) as caught:
            await it.task
        assert caught.value.subgroup(BusError) is not None


def test_given_a_configuration_that_is_half_when_read_then_the_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"name": "ada"}))
    with pytest.raises(provider_module.ConfigurationError, match=r"config\.json"):
        ProviderConfig.read(tmp_path / "config.json")
