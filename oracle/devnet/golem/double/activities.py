"""The activities of the double, as yagna's activity API shows them to a requestor."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Protocol

from oracle.devnet.golem.double.exeunit import Activity, Host
from oracle.devnet.golem.double.faults import RECEIVER_CANCELLED
from oracle.devnet.golem.double.http import Refusal
from oracle.devnet.golem.double.identifiers import Clock, Identifiers
from oracle.devnet.golem.double.market import Agreement, Market
from oracle.devnet.golem.double.pulse import Pulse
from oracle.devnet.golem.double.spool import Spool

_DEFAULT_WAIT = 5.0
_LOOK = 0.75
"""After so many seconds yagna looks again whether an activity has begun or ended; its first look is too early."""


class Worker(Host, Protocol):
    """A provider as far as activities go."""

    alive: bool

    async def create_activity(self, agreement: Agreement) -> Activity | None:
        """Start an exe-unit; None when it never gets that far. Raises Refusal."""
        ...

    async def end_activity(self, activity: Activity) -> None:
        """Destroy an exe-unit."""
        ...


class Activities:
    """Every activity; ``patience`` scales the seconds for which a call waits for a provider that does not answer."""

    def __init__(
        self,
        market: Market,
        directory: Path,
        spool: Spool,
        *,
        ids: Identifiers,
        clock: Clock,
        pulse: Pulse,
        patience: float,
    ) -> None:
        self._market, self._directory, self._spool = market, directory, spool
        self._ids, self._clock, self._pulse, self._patience = ids, clock, pulse, patience
        self._activities: dict[str, Activity] = {}
        self._workers: dict[str, Worker] = {}

    def all(self) -> list[Activity]:
        """In the order of their creation."""
        return list(self._activities.values())

    def of(self, agreement: Agreement) -> list[Activity]:
        """Those of one agreement."""
        return [activity for activity in self._activities.values() if activity.agreement is agreement]

    def open(self, agreement: Agreement, host: Host) -> Activity:
        """A new exe-unit at a provider."""
        id_ = self._ids.activity()
        activity = Activity(id_, agreement, host, self._directory / id_, self._spool, self._clock, self._pulse)
        self._activities[id_] = activity
        return activity

    def hire(self, worker: Worker, node_id: str) -> None:
        """Let a provider's agreements have activities."""
        self._workers[node_id] = worker

    async def create(self, requestor: str, agreement_id: str, seconds: float | None) -> Activity:
        """A new activity of an approved agreement. Raises Refusal."""
        agreement = self._market.agreements.get(agreement_id)
        if agreement is None or agreement.demand.requestor != requestor or agreement.state == "Proposal":
            raise Refusal(404, f"Not found: {agreement_id}")
        if agreement.state != "Approved":
            raise Refusal(
                400, f"Bad request: Agreement {agreement_id} is not Approved. Current state: {agreement.state}"
            )
        wait = (_DEFAULT_WAIT if seconds is None else seconds) * self._patience
        began = time.monotonic()
        try:
            async with asyncio.timeout(wait):
                activity = await self._workers[agreement.seller.node_id].create_activity(agreement)
        except TimeoutError:
            raise Refusal(408, "Timeout") from None
        if activity is None:
            await asyncio.sleep(max(0.0, wait - (time.monotonic() - began)))
            raise Refusal(408, "Timeout")
        await asyncio.sleep(_LOOK * self._patience)
        return activity

    async def destroy(self, requestor: str, activity_id: str) -> None:
        """End an activity. Raises Refusal."""
        activity = self.activity(requestor, activity_id)
        worker = self._workers[activity.agreement.seller.node_id]
        if not worker.alive:
            await asyncio.sleep(_DEFAULT_WAIT * self._patience)
            raise Refusal(408, "Timeout")
        await worker.end_activity(activity)
        await asyncio.sleep(_LOOK * self._patience)

    async def execute(self, requestor: str, activity_id: str, text: object) -> str:
        """Queue a script; the id of its batch. Raises Refusal."""
        activity = self._reachable(self.activity(requestor, activity_id))
        if not isinstance(text, str):
            raise Refusal(400, "Json deserialize error: missing field `text`")
        return activity.submit(self._ids.activity(), text).id

    async def results(
        self, requestor: str, activity_id: str, batch_id: str, seconds: float, index: int | None
    ) -> list[dict[str, Any]]:
        """Results so far, once the whole batch is done or the time is up. Raises Refusal.

        As in yagna, a batch that failed midway keeps the call waiting; with ``index``, one command's end is enough.
        """
        activity = self._reachable(self.activity(requestor, activity_id))
        batch = activity.batches.get(batch_id)
        if batch is None:
            raise Refusal(500, f"GSB error: Batch {batch_id} not found")
        failed_midway = seconds * min(1.0, self._patience)
        await self._pulse.until(
            lambda: batch.finished or not activity.alive or (index is not None and len(batch.results) > index), seconds
        )
        if batch.finished and not batch.complete:
            await self._pulse.until(lambda: not activity.alive, failed_midway)
        self._reachable(activity)
        if index is None:
            return batch.results
        if len(batch.results) <= index:
            raise Refusal(408, "Timeout")
        return batch.results[: index + 1]

    def state(self, requestor: str, activity_id: str) -> dict[str, Any]:
        """State as yagna's view of it. Raises Refusal."""
        activity = self.activity(requestor, activity_id)
        if activity.lost is not None:
            raise Refusal(500, activity.lost)
        view: dict[str, Any] = {"state": [activity.state, None]}
        if activity.reason is not None:
            view["reason"] = activity.reason
        if activity.message is not None:
            view["errorMessage"] = activity.message
        return view

    def usage(self, requestor: str, activity_id: str) -> dict[str, Any]:
        """Counters in the order of the offer's usage vector. Raises Refusal."""
        activity = self.activity(requestor, activity_id)
        if activity.lost is not None:
            raise Refusal(500, activity.lost)
        return {"currentUsage": list(activity.usage), "timestamp": int(time.time())}

    def activity(self, requestor: str, activity_id: str) -> Activity:
        """An activity of this requestor's. Raises Refusal."""
        activity = self._activities.get(activity_id)
        if activity is None or activity.agreement.demand.requestor != requestor:
            raise Refusal(500, f"DAO error: Not found: agreement id for activity: {activity_id}")
        return activity

    async def close(self) -> None:
        """Stop every exe-unit and remove its folder."""
        for activity in self._activities.values():
            await activity.end()

    def _reachable(self, activity: Activity) -> Activity:
        if activity.lost is not None:
            raise Refusal(500, activity.lost)
        if not activity.alive:
            raise Refusal(500, RECEIVER_CANCELLED)
        return activity
