"""An offer is answered by the job that asked for it.

When an agreement fails, yapapi 0.13 has every job answer its offer anew, each with its own demand: a provider then runs
another job's image, or nobody's proposal stands.
"""

from __future__ import annotations

import asyncio
from typing import Any

from yapapi import events

from oracle.telemetry import logger

log = logger("golem")


class OwnOffers:
    """Whose offers are whose, by the subscriptions of the jobs of one yapapi engine."""

    def __init__(self) -> None:
        self._jobs: dict[str, Any] = {}  # subscription -> job
        self._answers: set[asyncio.Task[None]] = set()

    def bind(self, engine: Any) -> None:
        """Take the engine's part, before it has jobs."""
        engine.recycle_offer = self.recycle

    def on_event(self, event: events.Event) -> None:
        """Called by yapapi for every event; must not wait."""
        if isinstance(event, events.SubscriptionCreated):
            self._jobs = {name: job for name, job in self._jobs.items() if not job.finished.is_set()}
            self._jobs[event.subscription.id] = event.job

    def recycle(self, offer: Any) -> None:
        """Negotiate anew about an offer whose agreement came to nothing."""
        job = self._jobs.get(offer._subscription.id)
        if job is not None and not job.finished.is_set():
            task = asyncio.get_running_loop().create_task(self._answer(job, offer))
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)

    async def _answer(self, job: Any, offer: Any) -> None:
        try:
            await job._handle_proposal(offer, ignore_draft=True)
        except Exception as error:  # noqa: BLE001 - its provider makes another offer
            log.debug("an offer is not taken up again: %s", error)


__all__ = ["OwnOffers"]
