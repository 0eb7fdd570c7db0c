"""``make bench-golem``: 96 MNIST pictures over three providers of the real yagna daemon, beside the local backend.

Four runs, all on this machine: the local backend warm, Golem cold to settled on the payment chain, Golem warm, and
Golem with one provider killed while it has a batch, at several moments.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import provider_images.mnist
from oracle.compute.golem import GolemBackend, GolemTerms, read_images
from oracle.compute.local import LocalBackend
from oracle.devnet.child import Child
from oracle.devnet.stack import provider_images as build_images
from oracle.domain import Cid, ComputeTask, ServableModel, TaskInput, TaskPhase
from oracle.errors import SibylError
from oracle.manifests import read_manifest
from oracle.market import to_glm
from oracle.ports import ComputeBackend
from oracle.store import SqliteRequestStore
from provider_images.mnist.draw import draw_digit
from tests.benchmarks.machine import machine

BATCHES, ITEMS = 6, 16
MNIST = Path(provider_images.mnist.__file__).parent
SETTLE_SECONDS = 60.0
KILLS = (0.0, 0.03, 0.08, 0.12)
"""Seconds after a provider took a batch at which it is killed: the worst of these counts."""


def cid_of(data: bytes) -> Cid:
    """The CID of a raw block."""
    return Cid(b"\x01\x55\x12\x20" + hashlib.sha256(data).digest())


def tasks(name: str, folder: Path, model: ServableModel) -> list[ComputeTask]:
    """The 96 pictures in tasks of 16."""
    made = []
    for batch in range(BATCHES):
        inputs = []
        for item in range(ITEMS):
            number = batch * ITEMS + item
            path = folder / f"{number}.png"
            if not path.exists():
                draw_digit(number % 10, number).save(path)
            data = path.read_bytes()
            request_id = hashlib.sha256(f"{name} {number}".encode()).digest()
            inputs.append(TaskInput(request_id, cid_of(data), path, len(data)))
        made.append(ComputeTask(f"{name}-{batch}", model, tuple(inputs), time.time() + 120))
    return made


async def one_by_one(backend: ComputeBackend, batches: Sequence[ComputeTask]) -> list[float]:
    """Seconds of each batch when they come one after the other."""
    seconds = []
    for task in batches:
        began = time.monotonic()
        await backend.submit(task)
        await backend.collect(task.key)
        seconds.append(time.monotonic() - began)
        await backend.settle(task.key, accepted=True)
    return seconds


async def at_once(backend: ComputeBackend, batches: Sequence[ComputeTask]) -> tuple[float, int]:
    """Seconds until all batches are there, and how many requests got no answer."""
    began = time.monotonic()
    for task in batches:
        await backend.submit(task)
    outcomes = await asyncio.gather(*(backend.collect(task.key) for task in batches), return_exceptions=True)
    seconds = time.monotonic() - began
    lost = sum(len(task.inputs) for task, done in zip(batches, outcomes, strict=True) if isinstance(done, SibylError))
    for task, done in zip(batches, outcomes, strict=True):
        if isinstance(done, BaseException) and not isinstance(done, SibylError):
            raise done
        await backend.settle(task.key, accepted=True)
    return seconds, lost


async def settled(store: SqliteRequestStore, began: float) -> float:
    """Seconds from ``began`` until every accepted document is settled on the payment network's chain."""
    while True:
        _, books = await store.books()
        if books.accepted and not books.owed:
            return time.monotonic() - began
        if time.monotonic() - began > SETTLE_SECONDS:
            raise SystemExit(f"{to_glm(books.owed)} GLM were not settled within {SETTLE_SECONDS:g} s")
        await asyncio.sleep(0.2)


async def three_up(backend: GolemBackend, name: str, folder: Path, model: ServableModel) -> None:
    """Wait until three workers are up, with work that makes them wanted."""
    for attempt in range(30):
        await at_once(backend, tasks(f"{name}-{attempt}", folder, model))
        if len(backend.workers["mnist"]) >= 3:
            return
        await asyncio.sleep(1.0)
    raise SystemExit("three workers did not come up within a minute")


async def kill_one(
    backend: GolemBackend, pids: Path, names: dict[str, str], after: float, batches: Sequence[ComputeTask]
) -> tuple[float, int]:
    """The same work; the first provider that takes a batch is killed with it, so many seconds after it took it."""
    events = backend.events()

    async def strike() -> None:
        async for event in events:
            if event.phase is TaskPhase.STARTED and event.provider in names:
                await asyncio.sleep(after)
                os.kill(int((pids / names[event.provider]).read_text()), signal.SIGKILL)
                return

    striking = asyncio.create_task(strike())
    try:
        return await at_once(backend, batches)
    finally:
        striking.cancel()


async def measure(folder: Path) -> dict[str, Any]:
    """All figures."""
    manifest = (MNIST / "manifest.json").read_bytes()
    model = ServableModel(1, cid_of(manifest), read_manifest(manifest), MNIST / "weights.npz")
    (descriptor,) = build_images(lambda text: print(text, file=sys.stderr))

    local = LocalBackend(folder / "local", workers=1, threads=1)
    await local.start()
    await one_by_one(local, tasks("local-cold", folder, model)[:1])
    local_seconds = await one_by_one(local, tasks("local", folder, model))
    await local.close()

    began = time.monotonic()
    command = [sys.executable, "-m", "oracle.devnet.golem", "--data", str(folder / "golem"), "--image", descriptor]
    network = Child("the Golem network", command, log=folder / "golem.log")
    try:
        ready = await network.start(within=90.0)
        os.environ["PATH"] = f"{ready['gftp_dir']}{os.pathsep}{os.environ['PATH']}"
        store = SqliteRequestStore(folder / "oracle.sqlite3")
        terms = GolemTerms(
            api_url=ready["yagna_api_url"],
            app_key=Path(ready["yagna_appkey_file"]).read_text().strip(),
            payment_network=ready["payment_network"],
            payment_driver=ready["payment_driver"],
            subnet=ready["subnet"],
            images=read_images(Path(descriptor).parent),
            workers=3,
            idle_release=5.0,
            # A provider that was killed comes back, and is asked again at once.
            trusted=frozenset(provider["node_id"] for provider in ready["providers"]),
        )
        backend = GolemBackend(folder / "tasks", terms, store.ledger, sweep_every=1.0)
        await backend.start()
        startup = time.monotonic() - began
        began = time.monotonic()
        cold, lost = await at_once(backend, tasks("cold", folder, model))
        warm_seconds = await one_by_one(backend, tasks("warm", folder, model))
        to_settled = await settled(store, began)

        # Three workers up, each with the model loaded, for what is compared.
        names = {provider["node_id"]: provider["name"] for provider in ready["providers"]}
        usual, killed = [], []
        for place, after in enumerate(KILLS):
            await three_up(backend, f"up{place}", folder, model)
            usual.append((await at_once(backend, tasks(f"usual{place}", folder, model)))[0])
            batches = tasks(f"killed{place}", folder, model)
            seconds, more = await kill_one(backend, folder / "golem" / "pids", names, after, batches)
            killed.append(seconds)
            lost += more
        _, books = await store.books()
        await backend.close()
        await store.close()
    finally:
        await network.close()
    overhead = statistics.median(warm_seconds) - statistics.median(local_seconds)
    return {
        "batches": BATCHES,
        "overhead_s_per_batch": round(overhead, 3),
        "kill_cost_s": round(max(killed) - statistics.median(usual), 2),
        "lost": lost,
        "startup_s": round(startup, 2),
        "local_batch_s": round(statistics.median(local_seconds), 3),
        "golem_batch_s": round(statistics.median(warm_seconds), 3),
        "cold_96_s": round(cold, 2),
        "warm_96_s": round(statistics.median(usual), 2),
        "killed_96_s": [round(seconds, 2) for seconds in killed],
        "settled_s": round(to_settled, 2),
        "paid_glm": to_glm(books.accepted),
    }


def main() -> None:
    """Print the table, the machine and one line of JSON."""
    with tempfile.TemporaryDirectory(prefix="sibyl-bench-") as name:
        figures = asyncio.run(measure(Path(name)))
    for label, key in (
        ("start-up of network and requestor, s", "startup_s"),
        ("one warm batch of 16, local, s", "local_batch_s"),
        ("one warm batch of 16, Golem, s", "golem_batch_s"),
        ("overhead of a batch, s (aim: under 1)", "overhead_s_per_batch"),
        ("96 pictures, no worker up, s", "cold_96_s"),
        ("96 pictures, three workers up, s", "warm_96_s"),
        ("96 pictures, one provider killed, s", "killed_96_s"),
        ("cost of the kill, s (aim: under 10)", "kill_cost_s"),
        ("first submission to settled on the chain, s", "settled_s"),
        ("paid for everything, GLM", "paid_glm"),
        ("requests lost (aim: 0)", "lost"),
    ):
        print(f"{label:46} {figures[key]}")
    print(machine())
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
