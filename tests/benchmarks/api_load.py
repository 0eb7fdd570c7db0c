"""The load of ``make bench-api``, in a process of its own: HTTP/1.1 over kept-alive sockets, with little Python.

Reads a job as JSON from each line of standard input and answers with a line of JSON. A closed loop has so many clients,
each of which asks again once it is answered; an open loop asks at fixed times whatever became of the requests before,
and a latency runs from the time at which its request was due.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import uvloop

PATIENCE = 30.0
_WARM = 0.3  # seconds of a closed loop that do not count


class Line(asyncio.Protocol):
    """One connection: sends a request, and tells of the answer when it is whole."""

    def __init__(self, done: Callable[[Line, int, int], None]) -> None:
        self._done = done
        self._transport: Any = None
        self._held = b""
        self._whole = -1  # bytes of the answer that is under way; -1 before its head is read, -2 for chunks
        self._head = 0
        self._status = 0
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self._done(self, 0, 0)

    def send(self, request: bytes) -> None:
        self._transport.write(request)

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def data_received(self, data: bytes) -> None:
        held = self._held = self._held + data if self._held else data
        if self._whole == -1:
            end = held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = held[:end].lower()
            self._status = int(head[9:12])
            self._head = end + 4
            at = head.find(b"\r\ncontent-length:")
            if at >= 0:
                stop = head.find(b"\r\n", at + 2)
                self._whole = self._head + int(head[at + 17 : stop if stop > 0 else end])
            else:
                self._whole = -2 if b"\r\ntransfer-encoding: chunked" in head else self._head
        if self._whole == -2:
            if not held.endswith(b"0\r\n\r\n"):
                return
        elif len(held) < self._whole:
            return
        body = len(held) - self._head
        self._held, self._whole = b"", -1
        self._done(self, self._status, body)


async def closed(host: str, port: int, requests: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    state = {"at": 0, "bad": 0, "open": clients}
    start = time.perf_counter() + _WARM  # the loop's own clock counts milliseconds
    stop = start + seconds
    ended = loop.create_future()

    def done(line: Line, status: int, body: int) -> None:
        now = time.perf_counter()
        if start <= line.due and now <= stop:
            if status == 200:
                latencies.append(now - line.due)
            else:
                state["bad"] += 1
        if status == 0 or now >= stop:
            line.close()
            state["open"] -= 1
            if state["open"] == 0 and not ended.done():
                ended.set_result(None)
            return
        ask(line)

    def ask(line: Line) -> None:
        line.due = time.perf_counter()
        line.send(requests[state["at"] % len(requests)])
        state["at"] += 1

    lines = [(await loop.create_connection(lambda: Line(done), host, port))[1] for _ in range(clients)]
    for line in lines:
        ask(line)
    await asyncio.wait_for(ended, seconds + PATIENCE)
    return summary(latencies, state["bad"], seconds) | {"asked": state["at"]}


async def paced(host: str, port: int, requests: list[bytes], rate: float, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    count = int(rate * seconds)
    latencies: list[float] = []
    by_kind: dict[int, list[float]] = {}
    state = {"bad": 0, "left": count}
    free: list[Line] = []
    kinds: dict[Line, int] = {}
    ended = loop.create_future()

    def done(line: Line, status: int, body: int) -> None:
        if line not in kinds:
            if line in free:
                free.remove(line)
            return
        kind = kinds.pop(line)
        took = time.perf_counter() - line.due
        latencies.append(took)
        by_kind.setdefault(kind, []).append(took)
        state["bad"] += status != 200
        state["left"] -= 1
        if status != 0:
            free.append(line)
        if state["left"] == 0 and not ended.done():
            ended.set_result(None)

    async def ask(number: int, due: float) -> None:
        line = free.pop() if free else (await loop.create_connection(lambda: Line(done), host, port))[1]
        kinds[line] = number % len(requests)
        line.due = due
        line.send(requests[number % len(requests)])

    start = time.perf_counter() + 0.1
    asking = []
    for number in range(count):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asking.append(asyncio.ensure_future(ask(number, due)))
    await asyncio.gather(*asking)
    await asyncio.wait_for(ended, PATIENCE)
    for line in free:
        line.close()
    slowest = {kind: max(took) * 1000 for kind, took in by_kind.items()}
    return summary(latencies, state["bad"], seconds) | {"slowest_ms": slowest}


def summary(latencies: list[float], bad: int, seconds: float) -> dict[str, Any]:
    ordered = sorted(latencies)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")

    return {"per_s": len(ordered) / seconds, "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0), "bad": bad}


def main() -> None:
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for text in sys.stdin:
            job = json.loads(text)
            requests = [request.encode() for request in job["requests"]]
            where = (job["host"], job["port"], requests)
            work = (
                paced(*where, job["rate"], job["seconds"])
                if "rate" in job
                else closed(*where, job["clients"], job["seconds"])
            )
            print(json.dumps(runner.run(work)), flush=True)


if __name__ == "__main__":
    main()
