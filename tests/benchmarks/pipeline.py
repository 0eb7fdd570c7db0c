"""``make bench-pipeline``: requests settled per second, overhead of a lone request, memory of the oracle process.

512 requests wait in the chain's pool while the oracle is warm, then are mined at once; the clock runs from the first
``seen`` to the last ``fulfilled`` of the oracle's own timeline. Lone requests follow, one after the other, with instant
blocks; a lone request's overhead is the wall time from its transaction to its confirmed receipt less its inference.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from oracle.chain.account import Ask
from oracle.client import Client, connect
from oracle.devnet.pictures import digits
from oracle.devnet.stack import Ports, Stack, run_stack
from oracle.domain import OnChainModel, RequestStatus
from oracle.store import SqliteRequestStore
from tests.benchmarks.machine import machine, versions

PATIENCE = 300.0


async def main(requests: int, lone: int, keep: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="sibyl-bench-") as name:
        folder = keep or Path(name)
        async with run_stack(folder, ports=Ports(), progress=note) as stack, connect(stack.settings) as client:
            chosen = (await client.model()).on_chain
            model = chosen.model_id
            pictures = digits(requests)
            note(f"pinning {requests} pictures ({pictures.source})")
            cids = []
            for start in range(0, requests, 64):
                cids += await client.content.add([digit.png for digit in pictures.items[start : start + 64]])
            note("warming up: one request loads the model")
            (warm,) = await client.ask(chosen, [cids[0]])
            await client.wait(warm.request_id, timeout=PATIENCE)

            note(f"{requests} requests wait in the pool, then are mined at once")
            before = cpu_seconds(stack)
            burst = await ask_together(stack, client, [Ask(model, cid, await client.deadline(3600)) for cid in cids])
            store = SqliteRequestStore(stack.settings.database, read_only=True)
            try:
                await settled(store, requests + 1)
                first, last, stages = await timing(store, burst)
                rate = requests / (last - first)
                note(f"{requests} settled in {last - first:.2f} s: {rate:.1f} a second")
                for stage, seconds in stages.items():
                    note(f"  {stage:10} median {seconds:6.2f} s after being seen")
                for process, seconds in cpu_seconds(stack).items():
                    note(f"  {process:40} {seconds - before.get(process, 0.0):6.2f} s of processor time")
                note(f"{lone} lone requests with instant blocks")
                overheads = [
                    await lone_overhead(client, store, chosen, cids[index % len(cids)]) for index in range(lone)
                ]
            finally:
                await store.close()
            memory = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{stack.oracle.pid}/status").read_text())
            maps = Path(f"/proc/{stack.oracle.pid}/maps").read_text()
            if "tensorflow" in maps:
                raise SystemExit("the oracle process has TensorFlow loaded")
        ordered = sorted(overheads)
        return {
            "settled_per_s": round(rate, 1),
            "overhead_p50_ms": round(statistics.median(ordered) * 1000, 1),
            "overhead_p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1000, 1),
            "oracle_rss_mb": round(int(memory[1]) / 1024, 1) if memory else -1.0,
        }


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """Processor time so far of each process of the stack, by what it runs."""
    found: dict[str, float] = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times, words = process.cpu_times(), process.cmdline()
            name = next((word for word in words if word.startswith(("oracle.", "provider_images"))), words[0][-20:])
            found[f"{name} ({process.pid})"] = times.user + times.system
    return found


async def ask_together(stack: Stack, client: Client, asks: list[Ask]) -> list[bytes]:
    """Send every request into the pool with mining off, then mine them all."""
    await stack.chain.set_automine(False)
    sending = asyncio.create_task(client.sender.request_inferences(client.reader.address, asks, window=len(asks)))
    while int((await stack.chain.call("txpool_status"))["pending"], 16) < len(asks):
        if sending.done():
            break
        await asyncio.sleep(0.05)
    await stack.chain.set_automine(True)
    await stack.chain.mine()
    return [asked.request_id for asked in await sending]


async def settled(store: SqliteRequestStore, count: int) -> None:
    until = time.monotonic() + PATIENCE
    while (await store.counts()).get(RequestStatus.FULFILLED, 0) < count:
        if time.monotonic() > until:
            raise SystemExit(f"not all settled within {PATIENCE:g} s: {dict(await store.counts())}")
        await asyncio.sleep(0.25)


async def timing(store: SqliteRequestStore, ids: list[bytes]) -> tuple[float, float, dict[str, float]]:
    first, last = float("inf"), 0.0
    after: dict[str, list[float]] = {}
    for request_id in ids:
        row = await store.get(request_id)
        times: Any = row.times if row else None
        seen, fulfilled = times[RequestStatus.SEEN], times[RequestStatus.FULFILLED]
        first, last = min(first, seen), max(last, fulfilled)
        for status in RequestStatus:
            if status in times:
                after.setdefault(status.value, []).append(times[status])
    return first, last, {name: statistics.median(at) - first for name, at in after.items()}


async def lone_overhead(client: Client, store: SqliteRequestStore, model: OnChainModel, cid: Any) -> float:
    """Seconds from the mined request to its confirmed receipt, less the inference."""
    (asked,) = await client.ask(model, [cid])
    began = time.time()
    outcome = await client.wait(asked.request_id, timeout=PATIENCE)
    while True:
        row = await store.get(asked.request_id)
        if row is not None and row.status is RequestStatus.FULFILLED and row.times is not None:
            # The block is mined within the send, so the oracle may see the request before the client has its receipt.
            start = min(began, row.times[RequestStatus.SEEN])
            inference = outcome.document["timings"]["batch_inference_seconds"] if outcome.document else 0.0
            return float(row.times[RequestStatus.FULFILLED] - start - inference)
        await asyncio.sleep(0.01)


def note(text: str) -> None:
    sys.stderr.write(f"· {text}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=512)
    parser.add_argument("--lone", type=int, default=100)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    figures = asyncio.run(main(options.requests, options.lone, options.keep))
    print(machine())
    print(versions("web3", "tensorflow-cpu", "sqlalchemy", "aiohttp") + ", anvil 1.7.1")
    print(json.dumps(figures))
