"""``make bench-api``: requests a second of the API beside LitServe and BentoML, and how slow its reads get.

All serve the JSON of one request of many, chosen by its id, from one worker process each, to the same load generator,
in rounds that take turns. Ours does all that it does for a user: it sends each answer from memory, as rendered, after
it has looked whether the oracle's database, into which a block is written every two seconds, says otherwise. Theirs
have the documents in memory and render them anew, and are asked both ways: by their own API (which hands over to a
worker: that is what they are for) and by a plain route on their server, whichever is faster.

Before, ours alone is asked for more requests than it holds in memory, so that each is read from the database and
rendered (``ours_cold_32``). Afterwards reads of every kind, about changing requests, come to ours at 100 a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oracle.api.book import HELD
from tests.benchmarks.api_world import World, example_document, world
from tests.benchmarks.machine import machine, versions

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers" / "bin"
PLACE = Path(__file__).parent / "peers"
HOST = "127.0.0.1"
START = 60.0
CLIENTS = (1, 32)
RATE = 100.0
COLD = HELD + 512  # requests in the database, so that one comes round again only when it was dropped from memory
TURNS = 64  # of all kinds of read, each about other requests
OURS = "Sibyl"


@dataclass(frozen=True, slots=True)
class Server:
    """A way to get the documents: ``requests`` are whole HTTP requests, one for each document."""

    name: str
    port: int
    requests: tuple[str, ...]


class Load:
    """The load generator's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.api_load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def run(self, server: Server, **job: float) -> dict[str, Any]:
        """One measurement."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"host": HOST, "port": server.port, "requests": server.requests, **job}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            raise SystemExit("the load generator died")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@asynccontextmanager
async def process(
    name: str, command: Sequence[str | Path], log: Path, ready: str, **environment: str
) -> AsyncIterator[None]:
    """A server, until ``ready`` (a URL) answers; ended with all that it started."""
    running = launch([str(part) for part in command], log, {**os.environ, **environment})
    try:
        until = time.monotonic() + START
        while not await asyncio.to_thread(answers, ready):
            if running.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{name} did not start:\n{log.read_text()[-4000:]}")
            await asyncio.sleep(0.1)
        yield
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        try:
            await asyncio.to_thread(running.wait, 10)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def launch(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process group of its own, with what it says in a file."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=ROOT, start_new_session=True
        )


def answers(url: str) -> bool:
    """Whether anything speaks HTTP there; a refusal is an answer."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def get(path: str) -> str:
    """A GET as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n"


def post(path: str, body: Mapping[str, str]) -> str:
    """A POST of JSON as it goes over the wire."""
    data = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n{data}"


async def read(port: int, path: str) -> Any:
    """A JSON document of ours."""

    def fetch() -> Any:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as answer:
            return json.load(answer)

    return await asyncio.to_thread(fetch)


async def start_ours(stack: AsyncExitStack, made: World, logs: Path, port: int) -> None:
    """The API as ``sibyl api`` runs it, with limits that no benchmark reaches (they are counted all the same)."""
    command = [sys.executable, "-m", "oracle.cli", "api", "--data-dir", made.folder]
    limits = {"SIBYL_API_RATE": "1000000000", "SIBYL_API_BURST": "1000000000"}
    where = f"http://{HOST}:{port}/v1"
    await stack.enter_async_context(
        process("the API", command, logs / "ours.log", where, SIBYL_API_PORT=str(port), **limits)
    )


async def start_peers(stack: AsyncExitStack, documents: Mapping[str, Any], logs: Path) -> list[Server]:
    """LitServe and BentoML, each asked both ways."""
    file = logs / "documents.json"
    file.write_text(json.dumps(documents))
    ids = list(documents)
    lit, bento = free_port(), free_port()
    litserve = [PEERS / "python", PLACE / "litserve_server.py", "--port", str(lit), "--documents", file]
    await stack.enter_async_context(process("LitServe", litserve, logs / "litserve.log", f"http://{HOST}:{lit}/health"))
    bentoml = [PEERS / "bentoml", "serve", "bentoml_server:Documents", "--working-dir", PLACE]
    bentoml += ["--host", HOST, "--port", str(bento)]
    environment = {"DOCUMENTS": str(file), "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(logs / "bentoml")}
    await stack.enter_async_context(
        process("BentoML", bentoml, logs / "bentoml.log", f"http://{HOST}:{bento}/readyz", **environment)
    )
    plain = tuple(get(f"/v1/requests/{one}") for one in ids)
    asked = tuple(post("/predict", {"id": one}) for one in ids)
    return [
        Server("LitServe, its API", lit, asked),
        Server("LitServe, a plain route", lit, plain),
        Server("BentoML, its API", bento, asked),
        Server("BentoML, a mounted route", bento, plain),
    ]


def read_routes(made: World, chance: random.Random) -> tuple[str, ...]:
    """One of every kind of read, in any order, each about something else."""
    one, other, third = chance.sample(made.requests, 3)
    picture, block = chance.sample(made.pinned, 2)
    account, answered = chance.choice(made.accounts), chance.choice(made.answered)
    routes = (
        *("/v1", "/v1/health", "/v1/models", "/v1/models/1", "/v1/providers", "/v1/quote?model=1&pictures=3"),
        *(f"/v1/requests/{one}", f"/v1/requests/{other}", f"/v1/requests/{third}/timeline"),
        *("/v1/requests?limit=20", f"/v1/requests?account={account}&limit=100"),
        *(f"/v1/results/{answered}", f"/ipfs/{picture}", f"/ipfs/{block}?format=raw"),
        *("/v1/stats", "/v1/stats.csv"),
    )
    return tuple(chance.sample(routes, len(routes)))


async def cold(load: Load, port: int, ids: Sequence[str], rounds: int, seconds: float) -> float:
    """The median rate at the most clients when no request is in memory; ``ids`` are more than there is room for."""
    asked, rates = 0, []
    for _ in range(rounds):
        # On from where the last round ended.
        paths = tuple(get(f"/v1/requests/{ids[(asked + at) % len(ids)]}") for at in range(len(ids)))
        measured = await load.run(Server(OURS, port, paths), clients=CLIENTS[-1], seconds=seconds)
        if measured["bad"]:
            raise SystemExit(f"{measured['bad']} requests were not answered with 200")
        asked += measured["asked"]
        rates.append(measured["per_s"])
    return statistics.median(rates)


async def main(
    requests: int, rounds: int, seconds: float, *, block_seconds: float, without_ours: bool
) -> dict[str, float]:
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sibyl-bench-")))
        load = Load()
        stack.callback(load.close)
        servers: list[Server] = []
        result: dict[str, float] = {}
        if without_ours:
            documents = {document["id"]: document for document in map(example_document, range(requests))}
        else:
            count = max(requests, COLD)
            note(f"a chain, and a database of {count} requests")
            (logs / "state").mkdir()
            made = await stack.enter_async_context(world(logs / "state", count, block_seconds))
            port = free_port()
            await start_ours(stack, made, logs, port)
            result["ours_cold_32"] = round(await cold(load, port, made.requests, rounds, seconds), 1)
            note(f"from the database, at {CLIENTS[-1]} clients: {result['ours_cold_32']:,.0f} requests a second")
            documents = {one: await read(port, f"/v1/requests/{one}") for one in made.requests[-requests:]}
            servers.append(Server(OURS, port, tuple(get(f"/v1/requests/{one}") for one in documents)))
        size = len(json.dumps(next(iter(documents.values()))))
        note(f"{len(documents)} documents of about {size:,} bytes; the same for all servers")
        servers += await start_peers(stack, documents, logs)
        rates = await take_turns(load, servers, rounds, seconds)
        for clients in CLIENTS:
            best = max((name for name in rates if name != OURS), key=lambda name: rates[name][clients])
            result |= {f"ours_{clients}": round(rates.get(OURS, {}).get(clients, 0.0), 1)}
            result |= {f"best_peer_{clients}": round(rates[best][clients], 1)}
            note(f"best of the others at {clients}: {best}")
        if not without_ours:
            chance = random.Random(6)
            turns = [read_routes(made, chance) for _ in range(TURNS)]
            paths = [path for turn in turns for path in turn]
            reads = Server(OURS, port, tuple(get(path) for path in paths))
            await load.run(reads, rate=RATE, seconds=min(2.0, seconds))
            found = await load.run(reads, rate=RATE, seconds=max(5.0, 5 * seconds))
            note(f"open loop, {RATE:g} reads a second of {len(turns[0])} kinds: p50 {found['p50_ms']:.1f} ms")
            for kind, slowest in sorted(found["slowest_ms"].items(), key=lambda pair: -pair[1])[:5]:
                note(f"  slowest {slowest:7.1f} ms  {paths[int(kind)][:60]}")
            if found["bad"]:
                raise SystemExit(f"{found['bad']} reads were not answered with 200")
            result["p99_ms_at_100"] = round(found["p99_ms"], 1)
        return result


async def take_turns(load: Load, servers: Sequence[Server], rounds: int, seconds: float) -> dict[str, dict[int, float]]:
    """The median rate of each server for each number of clients."""
    for server in servers:
        await load.run(server, clients=4, seconds=min(1.0, seconds))
    found: dict[str, dict[int, list[float]]] = {one.name: {clients: [] for clients in CLIENTS} for one in servers}
    late: dict[str, dict[int, list[float]]] = {one.name: {clients: [] for clients in CLIENTS} for one in servers}
    for turn in range(rounds):
        # Who goes first changes, so that no server always follows the same one.
        for server in [*servers[turn % len(servers) :], *servers[: turn % len(servers)]]:
            for clients in CLIENTS:
                measured = await load.run(server, clients=clients, seconds=seconds)
                if measured["bad"]:
                    raise SystemExit(f"{server.name} answered {measured['bad']} requests with something else than 200")
                found[server.name][clients].append(measured["per_s"])
                late[server.name][clients].append(measured["p99_ms"])
    note(f"{'requests a second, median of ' + str(rounds):32}" + "".join(f"{c:>10} clients   p99 ms" for c in CLIENTS))
    for name, by_clients in found.items():
        cells = (f"{statistics.median(by_clients[c]):18,.0f} {statistics.median(late[name][c]):8.1f}" for c in CLIENTS)
        note(f"  {name:30}" + "".join(cells))
    return {name: {c: statistics.median(rates) for c, rates in found[name].items()} for name in found}


def peer_versions() -> str:
    """The other servers' versions, from their own environment."""
    names = ("litserve", "bentoml", "fastapi", "starlette", "uvicorn")
    code = f"from importlib.metadata import version; print(', '.join(n + ' ' + version(n) for n in {names!r}))"
    return subprocess.run([PEERS / "python", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def note(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=3000, help="in the database, and asked for")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--block-seconds", type=float, default=2.0, help="between two writes to the database")
    parser.add_argument("--without-ours", action="store_true", help="the other servers alone")
    chosen = parser.parse_args()
    note(machine())
    note(versions("fastapi", "starlette", "uvicorn", "uvloop", "httptools"))
    note(f"beside: {peer_versions()}")
    work = main(
        *(chosen.requests, chosen.rounds, chosen.seconds),
        block_seconds=chosen.block_seconds,
        without_ours=chosen.without_ours,
    )
    print(json.dumps(asyncio.run(work)))
