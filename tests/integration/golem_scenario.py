"""One scenario for yapapi, played on the double and on the real yagna, and what was said while it was played.

Two of its three providers work. In the first job, the first does two batches and the requestor is billed. In the second
job a command fails at the first provider, whose activity is then destroyed, and the other one does the work.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from oracle.compute.golem import Image  # isort: skip  # imports yapapi without its warning
import yapapi
from yapapi import events
from yapapi.config import ApiConfig
from yapapi.rest.activity import BatchError
from yapapi.strategy import SCORE_REJECTED, LeastExpensiveLinearPayuMS

from oracle.compute.golem.package import ImagePackage
from oracle.devnet.golem.double.journal import Exchange, Journal, shape

Tracks = dict[str, list[str]]
"""What was said, in order, about one thing with one party; between tracks there is no order."""


@dataclass(frozen=True, slots=True)
class Job:
    """Texts to copy at providers; ``fails_at`` is the place of the provider where the first try of each fails."""

    texts: tuple[str, ...]
    workers: int = 1
    fails_at: int | None = None


SCENARIO = (Job(("one", "two")), Job(("three",), workers=2, fails_at=0))


@dataclass(frozen=True, slots=True)
class Place:
    """Where to play: a daemon's API, and the names of three providers there."""

    api_url: str
    app_key: str
    subnet: str
    driver: str
    network: str
    gftp_dir: str
    image: Image
    providers: Sequence[str]


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it: (text, provider) by job, the REST conversation, and yapapi's events.

    Debit notes stand apart, in every form that was seen: an activity's last note comes with its end, and whether yapapi
    reads it, and accepts it, before the activity or the whole ``Golem`` is gone, is a matter of time.
    """

    results: list[list[tuple[str, str]]]
    conversation: Tracks
    debit_notes: set[str]
    events: Tracks


async def play(place: Place) -> Told:
    """Run every job of the scenario under one ``Golem``, with all its calls noted."""
    listener = Listener()
    strategy = InOrder(place.providers)
    async with recorded(place.api_url) as (journal, api_url):
        golem = yapapi.Golem(
            budget=1.0,
            strategy=strategy,
            subnet_tag=place.subnet,
            payment_driver=place.driver,
            payment_network=place.network,
            event_consumer=listener,
            api_config=ApiConfig(app_key=place.app_key, api_url=api_url),
        )
        await start(golem, place.gftp_dir)
        try:
            results = [await _run(golem, job, place, strategy) for job in SCENARIO]
        finally:
            await golem.stop()
    said = [_undo(exchange) for exchange in journal.exchanges]
    notes = {exchange.form() for exchange in said if "debitNote" in exchange.path and not exchange.idle}
    return Told(results, conversation(said), notes, listener.tracks)


# A lock belongs to its loop, and every test has one of its own.
_starting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


async def start(golem: yapapi.Golem, gftp_dir: str) -> None:
    """Start with the ``gftp`` of a folder. yapapi looks for it here alone, so that others may start with another."""
    async with _starting.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{gftp_dir}{os.pathsep}{os.environ['PATH']}")
            await golem.start()


class InOrder(LeastExpensiveLinearPayuMS):
    """Prefers providers by their place in a list, and none that failed or asks more than 1 GLM to start."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(max_fixed_price=Decimal(1))
        self._names = names
        self.failed: set[str] = set()

    async def score_offer(self, offer: Any) -> float:
        name = offer.props["golem.node.id.name"]
        if await super().score_offer(offer) == SCORE_REJECTED or name in self.failed:
            return SCORE_REJECTED
        return 10.0 - self._names.index(name)


async def _run(golem: yapapi.Golem, job: Job, place: Place, strategy: InOrder) -> list[tuple[str, str]]:
    async def worker(context: yapapi.WorkContext, tasks: Any) -> AsyncIterator[Any]:
        async for task in tasks:
            got: list[bytes] = []

            async def keep(data: bytes, into: list[bytes] = got) -> None:
                into.append(data)

            bad = job.fails_at is not None and context.provider_name == place.providers[job.fails_at]
            script = context.new_script(timeout=timedelta(seconds=60))
            script.upload_bytes(task.data.encode(), "/golem/work/in")
            command = "echo broken >&2; exit 3" if bad else "cp /golem/work/in /golem/work/out; echo done"
            script.run("/bin/sh", "-c", command)
            if not bad:
                script.download_bytes("/golem/work/out", keep)
            try:
                yield script
            except BatchError:
                strategy.failed.add(context.provider_name)
                task.reject_result(retry=True)
                raise
            task.accept_result((got[0].decode(), context.provider_name))

    tasks = [yapapi.Task(data=text) for text in job.texts]
    package = ImagePackage(place.image, 0.5)
    running = golem.execute_tasks(worker, tasks, package, max_workers=job.workers, timeout=timedelta(minutes=10))
    return [task.result async for task in running]


# What yapapi saw -------------------------------------------------------------------------------------------------


class Listener:
    """Collects yapapi's events: a track for each job, provider and subject."""

    def __init__(self) -> None:
        self._tracks: defaultdict[str, list[str]] = defaultdict(list)
        self._jobs: list[str] = []

    @property
    def tracks(self) -> Tracks:
        return dict(self._tracks)

    def __call__(self, event: events.Event) -> None:
        job = getattr(event, "job", None)
        if job is not None and job.id not in self._jobs:
            self._jobs.append(job.id)
        about = f"job {self._jobs.index(job.id)}" if job is not None else "all"
        line = type(event).__name__
        if isinstance(event, events.CommandExecuted):
            command = type(event.command).__name__
            line += f" {command} {event.success} {event.message} {event.stdout!r} {event.stderr!r}"
        if isinstance(event, events.ProposalEvent):
            about += f", {event.proposal.props['golem.node.id.name']}, proposals"
        elif isinstance(event, events.AgreementEvent):
            about += f", {event.agreement.details.provider_node_info.name}, {_subject(line)}"
        if not line.startswith("DebitNote"):
            self._tracks[about].append(line)


def _subject(line: str) -> str:
    return "invoice" if line.startswith("Invoice") else "work"


# What was said ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def recorded(api_url: str) -> AsyncIterator[tuple[Journal, str]]:
    """A proxy in front of a daemon that notes every call; its journal and its URL."""
    journal = Journal()
    # yagna closes a connection that was idle for five seconds, perhaps in the moment when it is used again.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:

        async def forward(request: web.Request) -> web.StreamResponse:
            headers = {
                name: request.headers[name] for name in ("Authorization", "Content-Type") if name in request.headers
            }
            url, body = api_url + request.raw_path, await request.read()
            async with session.request(request.method, url, data=body, headers=headers) as answer:
                text = await answer.text()
                return web.Response(status=answer.status, text=text, content_type=answer.content_type)

        app = web.Application(middlewares=[journal.middleware])
        app.router.add_route("*", "/{path:.*}", forward)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield journal, f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def conversation(exchanges: Sequence[Exchange]) -> Tracks:
    """The calls by whom and what they are about, without ids, times and amounts, and without idle polls.

    How often somebody asked for results is a matter of time, so only the last answer counts; events of a poll stand
    with those they are about, and debit notes nowhere: see ``Told``.
    """
    about = _subjects(exchanges)
    tracks: defaultdict[str, list[str]] = defaultdict(list)
    last = {exchange.path: exchange for exchange in exchanges if "/exec/" in exchange.path}
    for exchange in exchanges:
        if "debitNote" in exchange.path:
            assert exchange.status == 200
        elif exchange.path.endswith(("/events", "/invoiceEvents")) and exchange.status == 200:
            for event in exchange.answer:
                (track,) = {about[text] for text in _ids(event) if text in about}
                tracks[track].append(f"event {shape(event)}")
        elif "/exec/" not in exchange.path or last[exchange.path] is exchange:
            named = [about[text] for text in (*exchange.path.split("/"), *_ids(exchange.body)) if text in about]
            tracks[named[-1] if named else "requestor"].append(exchange.form())
    return dict(tracks)


def _undo(exchange: Exchange) -> Exchange:
    # yagna lets an activity's first debit note follow itself when both parties share a daemon, as nobody else does.
    if isinstance(exchange.answer, dict) and "previousDebitNoteId" in exchange.answer:
        answer = {key: value for key, value in exchange.answer.items() if key != "previousDebitNoteId"}
        return replace(exchange, answer=answer)
    return exchange


def _subjects(exchanges: Sequence[Exchange]) -> Mapping[str, str]:
    """What each id stands for: the job, the provider and the kind of thing."""
    about: dict[str, str] = {}
    demands = 0
    for exchange in exchanges:
        path, answer = exchange.path.split("/"), exchange.answer
        match exchange.method, path[2:]:
            case "POST", ["v1", "demands"]:
                about[answer] = f"job {demands}"
                demands += 1
            case "GET", ["v1", "demands", demand, "events"] if exchange.status == 200:
                for event in answer:
                    if (proposal := event.get("proposal")) is not None:
                        name = proposal["properties"]["golem.node.id.name"]
                        about[proposal["proposalId"]] = f"{about[demand]}, {name}, market"
            case "POST", ["v1", "demands", _, "proposals", proposal]:
                about[answer] = about[proposal]
            case "POST", ["v1", "agreements"]:
                about[answer] = about[exchange.body["proposalId"]].replace("market", "agreement")
            case "POST", ["v1", "activity"]:
                about[answer] = about[exchange.body].replace("agreement", "activity")
            case "GET", ["v1", "invoices", document]:
                about[document] = about[answer["agreementId"]].replace("agreement", "invoice")
    return about


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key in ("proposalId", "agreementId", "invoiceId", "proposal"):
            yield from _ids(value.get(key))
