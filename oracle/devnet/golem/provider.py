"""A provider agent: offers this machine on the market of the local yagna, keeps agreements, runs activities, bills.

``python -m oracle.devnet.golem.provider FILE`` is one provider as a process of its own, so that it can be killed like a
real one; the file holds its ``ProviderConfig``, the environment its app key (``YAGNA_APPKEY``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from oracle.devnet.golem.agreement import Activity, Agreement, Notebook
from oracle.devnet.golem.exeunit import ExeUnit
from oracle.devnet.golem.gsb import Bus, BusError
from oracle.devnet.golem.images import ImageStore
from oracle.devnet.golem.negotiation import (
    TASK_PACKAGE,
    Properties,
    Rejection,
    offer_constraints,
    offer_properties,
    respond,
)
from oracle.devnet.golem.pricing import Terms, activity_cost, money, read_terms
from oracle.devnet.golem.rest import Rest, RestRefused, now
from oracle.devnet.golem.sandbox import Limits
from oracle.devnet.trees import remove_tree
from oracle.errors import ConfigurationError, SibylError

IDLE_AGREEMENT: Final = 90.0  # seconds without an activity after which an agreement is broken
READY_FILE: Final = "ready"  # holds the process id of a provider that has offered
_POLL = 5.0
_TICK = 1.0
_APPROVE_SECONDS = 15.0
_DUE = timedelta(hours=24)
_MARKET, _ACTIVITY, _PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One provider. ``platform`` is the payment platform; ``terms_file`` holds what it asks, and is looked at again."""

    name: str
    node_id: str
    api_url: str
    bus_url: str
    subnet: str
    platform: str
    terms_file: Path
    images: Path
    home: Path

    @classmethod
    def read(cls, file: Path) -> ProviderConfig:
        """Raises ConfigurationError."""
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            for name in ("terms_file", "images", "home"):
                fields[name] = Path(fields[name])
            return cls(**fields)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"the provider's configuration {file} cannot be used: {error}") from None

    def write(self, file: Path) -> None:
        """Write it for ``read``."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        document = {name: str(value) if isinstance(value, Path) else value for name, value in fields.items()}
        file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


class Provider:
    """The agent. ``run`` goes on until it is cancelled, or raises when yagna is gone."""

    def __init__(self, config: ProviderConfig, app_key: str) -> None:
        self._config = config
        self._rest = Rest(config.api_url, app_key)
        self._store = ImageStore(config.images)
        self._work = config.home / "work" / secrets.token_hex(8)  # of this run alone
        self._notebook = Notebook(config.home / "agreement.json")
        self._terms = Terms()
        self._terms_read: int | None = None  # when the file that was read last had been changed, in nanoseconds
        self._bus: Bus | None = None
        self._offer_id = ""
        self._offer: Properties = {}
        self._agreement: Agreement | None = None
        self._postponed: dict[str, Mapping[str, Any]] = {}  # demand -> the newest proposal that found us busy
        self._changing = asyncio.Lock()

    async def run(self) -> None:
        """Offer, and serve whoever takes it. Raises BusError, RestUnavailable, RestRefused."""
        # Guests may have left so much behind that nobody could wait for its end, not even ours.
        threading.Thread(target=self._remove_left_over, name="left over", daemon=True).start()
        self._bus = await Bus.connect(self._config.bus_url)
        try:
            self._look_at_terms()
            await self._settle_left_over()
            await self._subscribe()
            (self._config.home / READY_FILE).write_text(str(os.getpid()))
            async with asyncio.TaskGroup() as group:
                for duty in (self._negotiate, self._follow_agreements, self._follow_activities, self._watch):
                    group.create_task(duty(), name=duty.__name__.strip("_"))
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """End in order, as far as yagna is still there: the offer withdrawn, the agreement terminated and billed."""
        with contextlib.suppress(SibylError):
            if self._agreement is not None:
                await self._terminate("The provider is shutting down", "Shutdown")
        with contextlib.suppress(SibylError):
            await self._rest.delete(f"{_MARKET}/offers/{self._offer_id}")
        if self._bus is not None:
            await self._bus.close()
        await self._rest.close()

    def _remove_left_over(self) -> None:
        """Remove the folders of activities of earlier runs."""
        for folder in self._work.parent.glob("*"):
            if folder != self._work:
                remove_tree(folder)

    async def _settle_left_over(self) -> None:
        """One of us was killed in the middle of an agreement: end it, and bill what was used until then."""
        self._agreement = self._notebook.read()
        if self._agreement is None:
            return
        assert self._bus is not None
        for activity_id in self._agreement.activities:
            unit = self._unit(activity_id)
            with contextlib.suppress(BusError):
                await unit.disown("The provider was restarted")
        await self._terminate("The provider was restarted", "Restart")

    # -----------------------------------------------------------------------------------------------------------
    # Market
    # -----------------------------------------------------------------------------------------------------------

    async def _subscribe(self) -> None:
        config = self._config
        self._offer = offer_properties(config.name, config.subnet, config.platform, config.node_id, self._terms)
        body = {"properties": self._offer, "constraints": offer_constraints(config.subnet)}
        self._offer_id = await self._rest.post(f"{_MARKET}/offers", body)
        _log.info("offered as %s", self._offer_id)

    async def _negotiate(self) -> None:
        while True:
            offer_id = self._offer_id
            try:
                events = await self._rest.get(f"{_MARKET}/offers/{offer_id}/events", wait=_POLL, maxEvents=20)
            except RestRefused as error:
                if error.status != 404:
                    raise
                if offer_id == self._offer_id:
                    await self._subscribe()  # an offer lives for an hour
                continue
            for event in events:
                match event:
                    case {"eventType": "ProposalEvent", "proposal": dict(proposal)}:
                        await self._answer(proposal)
                    case {"eventType": "AgreementEvent", "agreement": dict(agreement)}:
                        await self._consider(agreement)

    async def _answer(self, proposal: Mapping[str, Any]) -> None:
        """Counter a proposal, or reject it."""
        answer = respond(self._offer, proposal["properties"], now=time.time(), busy=self._agreement is not None)
        path = f"{_MARKET}/offers/{self._offer_id}/proposals/{proposal['proposalId']}"
        with _tolerated("the answer to a proposal"):
            if isinstance(answer, Rejection):
                _log.info("rejecting %s: %s", proposal["proposalId"], answer.message)
                if not answer.final:
                    demand = f"{proposal['issuerId']} {proposal['properties'].get(TASK_PACKAGE)}"
                    self._postponed[demand] = proposal
                reason = {"message": answer.message, "golem.proposal.rejection.is-final": answer.final}
                await self._rest.post(f"{path}/reject", reason)
            else:
                body = {"properties": answer.properties, "constraints": offer_constraints(self._config.subnet)}
                await self._rest.post(path, body)

    async def _consider(self, document: Mapping[str, Any]) -> None:
        """Approve an agreement when there is room."""
        agreement_id = str(document["agreementId"])
        path = f"{_MARKET}/agreements/{agreement_id}"
        with _tolerated("the answer to an agreement"):
            if self._agreement is not None:
                await self._rest.post(f"{path}/reject", {"message": "No capacity available"})
                return
            # Before yagna tells the requestor, for its first activity may come at once.
            self._agreement = Agreement.of(document, self._terms)
            try:
                await self._rest.post(f"{path}/approve", wait=_APPROVE_SECONDS)
            except SibylError:
                self._agreement = None
                raise
            self._notebook.write(self._agreement)
            _log.info("agreement %s", agreement_id)

    async def _follow_agreements(self) -> None:
        since, seen = now(), set[tuple[str, str]]()
        while True:
            events = await self._rest.get(f"{_MARKET}/agreementEvents", wait=_POLL, afterTimestamp=since, maxEvents=20)
            for event in events:
                since = str(event["eventDate"])
                key = (str(event["agreementId"]), str(event["eventType"]))
                # yagna may tell one event twice.
                if key in seen or not key[1].startswith(("AgreementTerminated", "AgreementCancelled")):
                    continue
                seen.add(key)
                if self._agreement is not None and self._agreement.id == key[0]:
                    await self._finish()

    async def _terminate(self, message: str, code: str) -> None:
        """Break the agreement."""
        if self._agreement is None:
            return
        _log.info("terminating %s: %s", self._agreement.id, message)
        path = f"{_MARKET}/agreements/{self._agreement.id}/terminate"
        with _tolerated("the end of an agreement"):
            await self._rest.post(path, {"message": message, "golem.provider.code": code})
        await self._finish()

    async def _finish(self) -> None:
        """The agreement has ended: stop its activities, send the invoice, take up what was postponed."""
        async with self._changing:
            agreement, self._agreement = self._agreement, None
            if agreement is None:
                return
            for activity in agreement.activities.values():
                await self._stop(agreement, activity)
            await self._invoice(agreement)
            self._notebook.clear()
        postponed, self._postponed = self._postponed, {}
        for proposal in postponed.values():
            await self._answer(proposal)

    # -----------------------------------------------------------------------------------------------------------
    # Activities
    # -----------------------------------------------------------------------------------------------------------

    async def _follow_activities(self) -> None:
        since = now()
        while True:
            try:
                events = await self._rest.get(f"{_ACTIVITY}/events", wait=_POLL, afterTimestamp=since, maxEvents=20)
            except RestRefused as error:
                if error.status != 408:  # how this call says that nothing happened
                    raise
                continue
            for event in events:
                since = str(event["eventDate"])
                kind = event["eventType"]
                kind = next(iter(kind)) if isinstance(kind, dict) else kind
                if kind == "CreateActivity":
                    await self._create(str(event["agreementId"]), str(event["activityId"]))
                elif kind == "DestroyActivity":
                    await self._destroy(str(event["activityId"]))

    async def _create(self, agreement_id: str, activity_id: str) -> None:
        agreement = self._agreement
        if agreement is None or agreement.id != agreement_id or activity_id in agreement.activities:
            return
        unit = self._unit(activity_id)
        async with self._changing:
            agreement.activities[activity_id] = Activity(activity_id, unit)
            self._notebook.write(agreement)
            await unit.start()
        _log.info("activity %s", activity_id)

    def _unit(self, activity_id: str) -> ExeUnit:
        assert self._bus is not None
        assert self._agreement is not None
        return ExeUnit(
            self._bus,
            activity_id,
            image=partial(self._store.find, self._agreement.package),
            folder=self._work / activity_id,
            limits=Limits(cpus=self._terms.threads, speed=self._terms.speed),
        )

    async def _destroy(self, activity_id: str) -> None:
        agreement = self._agreement
        activity = agreement.activities.get(activity_id) if agreement is not None else None
        if agreement is not None and activity is not None:
            async with self._changing:
                await self._stop(agreement, activity)

    async def _stop(self, agreement: Agreement, activity: Activity) -> None:
        unit, activity.unit = activity.unit, None
        if unit is None:
            return
        await unit.close()
        activity.usage = unit.usage
        agreement.idle_since = time.monotonic()
        # Where an interval was agreed, a note before its time would break the agreement.
        if not agreement.interval_agreed:
            await self._note(agreement, activity)

    # -----------------------------------------------------------------------------------------------------------
    # Money
    # -----------------------------------------------------------------------------------------------------------

    async def _note(self, agreement: Agreement, activity: Activity) -> None:
        """Send a debit note: what the activity has come to so far."""
        activity.noted = time.monotonic()
        due = activity_cost(agreement.coefficients, activity.usage)
        body = {
            "activityId": activity.id,
            "totalAmountDue": money(due),
            "usageCounterVector": list(activity.usage),
        }
        with _tolerated("a debit note"):
            document = await self._rest.post(f"{_PAYMENT}/debitNotes", body)
            await self._rest.post(f"{_PAYMENT}/debitNotes/{document['debitNoteId']}/send")

    async def _invoice(self, agreement: Agreement) -> None:
        body = {
            "agreementId": agreement.id,
            "activityIds": list(agreement.activities),
            "amount": money(agreement.cost()),
            "paymentDueDate": (datetime.now(UTC) + _DUE).isoformat().replace("+00:00", "Z"),
        }
        with _tolerated("an invoice"):
            document = await self._rest.post(f"{_PAYMENT}/invoices", body)
            await self._rest.post(f"{_PAYMENT}/invoices/{document['invoiceId']}/send")
            _log.info("invoice %s for %s GLM", document["invoiceId"], body["amount"])

    # -----------------------------------------------------------------------------------------------------------
    # Time
    # -----------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Debit notes when they are due, agreements that nobody uses or that expire, terms that change, a lost bus."""
        while True:
            assert self._bus is not None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._bus.lost.wait()
                    raise BusError("yagna's service bus is gone")
            if self._look_at_terms():
                await self._offer_anew()
            agreement = self._agreement
            if agreement is None:
                continue
            running = agreement.running
            if time.time() > agreement.expires:
                await self._terminate("The agreement has expired", "Expired")
            elif not running and time.monotonic() - agreement.idle_since > IDLE_AGREEMENT:
                await self._terminate("No activity for too long", "NoActivity")
            for activity in running:
                if activity.unit is not None:
                    activity.usage = activity.unit.usage
                    if time.monotonic() - activity.noted > agreement.note_interval:
                        await self._note(agreement, activity)
            if running:
                self._notebook.write(agreement)

    def _look_at_terms(self) -> bool:
        """Read the file of terms when it has changed; whether ours are others now.

        Terms that are good stay in force when the file is spoilt. Raises ConfigurationError when there are none yet.
        """
        file, name = self._config.terms_file, self._config.name
        try:
            changed = file.stat().st_mtime_ns
        except OSError:
            changed = 0  # reading it says why
        if changed == self._terms_read:
            return False
        first, self._terms_read = self._terms_read is None, changed
        try:
            terms = read_terms(file)
            if name not in terms:
                raise ConfigurationError(f"{file} has no terms for {name}", remedy="Add them, or delete the file.")
        except ConfigurationError as error:
            if first:
                raise
            _log.warning("%s; the terms of before hold", error)
            return False
        before, self._terms = self._terms, terms[name]
        return self._terms != before

    async def _offer_anew(self) -> None:
        old = self._offer_id
        await self._subscribe()
        with _tolerated("the withdrawal of an offer"):
            await self._rest.delete(f"{_MARKET}/offers/{old}")


@contextlib.contextmanager
def _tolerated(what: str) -> Iterator[None]:
    """Refusals of yagna belong to the game (the other side was quicker, or has gone); they are logged, not raised."""
    try:
        yield
    except RestRefused as error:
        _log.warning("%s: %s", what, error)


async def _main(config: ProviderConfig, app_key: str) -> None:
    provider = asyncio.create_task(Provider(config, app_key).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, provider.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await provider


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one provider until SIGTERM. Exit code 1 when yagna has gone; the network then starts it again."""
    parser = argparse.ArgumentParser(prog="python -m oracle.devnet.golem.provider", description="A Golem provider.")
    parser.add_argument("config", type=Path, help="file of its configuration")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    code = 0
    try:
        asyncio.run(_main(ProviderConfig.read(options.config), os.environ.get("YAGNA_APPKEY", "")))
    except* (SibylError, OSError) as group:
        _log.error("ended: %s", "; ".join(map(str, group.exceptions)))
        code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
