"""Progress as it happens: a request's server-sent events (HTML Living Standard, 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from oracle.api.answers import problems
from oracle.api.book import Rendered, identifier, settled
from oracle.api.desk import Desk
from oracle.api.problems import HEAD, Problem
from oracle.api.routes_requests import RequestId
from oracle.errors import StoreError

HEARTBEAT = 15.0  # seconds without an event until a comment keeps the connection alive
LONGEST = 1800.0  # seconds of one stream
UNKNOWN = 600.0  # seconds to wait for a request that was not seen yet
EVERYBODY = 2000  # streams in all
RETRY = 2000  # milliseconds until a browser connects again
_SAMPLE = 'retry: 2000\n\nid: 3\nevent: request\ndata: {"id":"0x5c...","status":"computing"}\n\n: still here\n\n'


def router(desk: Desk) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1/requests", tags=["requests"])

    @routes.get(
        "/{request_id}/events",
        response_class=Response,
        responses={
            200: {
                "description": "Events: `request` with the whole request as data, first at once and then whenever it "
                "changes, until it has ended; `waiting` while it was not seen yet. The id counts its steps.",
                "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _SAMPLE}},
            },
            204: {"description": "It has ended, and its last event was received: nothing more is to come."},
            **problems(422, 429, 503),
        },
    )
    async def request_events(
        request_id: RequestId,
        last_event_id: Annotated[
            str, Header(description="What a browser sends that connects again.", max_length=20)
        ] = "",
    ) -> Response:
        """Follow a request."""
        wanted = identifier(request_id)
        if desk.pulse.listeners >= EVERYBODY:
            raise Problem(
                503,
                "busy",
                "Too many event streams",
                "all event streams are taken",
                remedy="Ask for the request itself from time to time.",
                headers={"Retry-After": "10"},
            )
        found = await desk.book.find(wanted)  # no database, no stream
        if found is not None and settled(found.view) and last_event_id == str(len(found.view.moves)):
            # A browser connects again whenever a stream ends; this alone tells it not to.
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        return EventStream(_follow(desk, wanted))

    return routes


async def _follow(desk: Desk, request_id: bytes) -> AsyncIterator[bytes]:
    """The stream's pieces, until the request has ended or the time is over."""
    began = time.monotonic()
    yield b"retry: %d\n\n" % RETRY
    last: bytes | None = None
    waiting = False
    async with desk.pulse.listening():
        while (age := time.monotonic() - began) < LONGEST and not desk.pulse.over:
            changed = desk.pulse.next()
            try:
                found = await desk.book.find(request_id)
            except StoreError:
                found = None  # being replaced; it comes back, or the time ends
            if found is None:
                if age > UNKNOWN and last is None:
                    return
                if not waiting and last is None:
                    waiting = True
                    yield b"event: waiting\ndata: {}\n\n"
            elif found.body != last:
                last = found.body
                yield _event(found)
                if settled(found.view):
                    return
            try:
                async with asyncio.timeout(min(HEARTBEAT, LONGEST - age)):
                    await changed.wait()
            except TimeoutError:
                yield b": still here\n\n"


def _event(found: Rendered) -> bytes:
    # JSON without line ends, so that one data line holds it.
    return b"id: %d\nevent: request\ndata: %b\n\n" % (len(found.view.moves), found.body)


class EventStream(Response):
    """Sends pieces as they come, until they end, whoever listens is gone, or twice the longest time is over."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.status_code, self.background, self.body = 200, None, b""
        self.raw_headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope.get(HEAD):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_gone(receive))
        try:
            # A listener that does not read holds the sending up; it cannot do so for ever.
            await asyncio.wait({sending, leaving}, timeout=2 * LONGEST, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            for task in (sending, leaving):
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _send(self, send: Send) -> None:
        try:
            async with contextlib.aclosing(self._pieces) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            pass  # whoever listened is gone


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
