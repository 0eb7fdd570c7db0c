"""An offer belongs to the job that asked for it, whatever yapapi makes of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from oracle.compute.golem.offers import OwnOffers

pytestmark = pytest.mark.unit


class Job:
    """A yapapi job that notes the offers it answers."""

    def __init__(self, *, fails: bool = False) -> None:
        self.finished = asyncio.Event()
        self.answered: list[tuple[Any, bool]] = []
        self.fails = fails

    async def _handle_proposal(self, offer: Any, ignore_draft: bool = False) -> None:
        self.answered.append((offer, ignore_draft))
        if self.fails:
            raise ConnectionError("410")


def subscribed(job: Job, name: str) -> Any:
    from yapapi import events  # once our own package has seen to the warning of its import

    return events.SubscriptionCreated(job=job, subscription=SimpleNamespace(id=name))


def offer(subscription: str) -> Any:
    return SimpleNamespace(_subscription=SimpleNamespace(id=subscription))


async def test_given_two_jobs_when_an_agreement_fails_then_only_the_job_of_its_offer_negotiates_again() -> None:
    digits, scenes, engine = Job(), Job(fails=True), SimpleNamespace()
    offers = OwnOffers()
    offers.bind(engine)
    for event in (subscribed(digits, "a"), subscribed(scenes, "b"), subscribed(digits, "c")):
        offers.on_event(event)
    first, second, later = offer("a"), offer("b"), offer("c")
    for one in (first, second, later, offer("unknown")):
        engine.recycle_offer(one)
    await asyncio.sleep(0)
    assert digits.answered == [(first, True), (later, True)]
    assert scenes.answered == [(second, True)]
    await asyncio.gather(*offers._answers)  # what fails is nobody's unhandled error


async def test_given_a_job_that_is_over_when_its_offer_comes_back_then_nobody_answers() -> None:
    job, engine = Job(), SimpleNamespace()
    offers = OwnOffers()
    offers.bind(engine)
    offers.on_event(subscribed(job, "a"))
    job.finished.set()
    engine.recycle_offer(offer("a"))
    await asyncio.sleep(0)
    assert job.answered == []
