"""Requests as they go out, rendered once for each state of the database, and the pulse that tells of a change."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from oracle.api import shapes
from oracle.api.answers import NO_CACHE, Ready, as_json, ready, unless_known
from oracle.api.ports import Reads
from oracle.api.problems import Problem
from oracle.api.registry import Registry
from oracle.domain import TERMINAL
from oracle.errors import StoreError
from oracle.views import RequestView

HELD = 4096  # rendered requests
LOOK = 0.1  # seconds between two looks for a change, while anyone waits for one
SETTLED = "public, max-age=5"
_PREFIX = "/v1/requests/0x"
_LENGTH = len(_PREFIX) + 64


def identifier(text: str) -> bytes:
    """A request id from a path. Raises Problem 422."""
    # bytes.fromhex alone would read over white space.
    if re.fullmatch("(0x)?[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text.removeprefix("0x"))
    raise Problem(422, "bad-id", "Not a request id", "a request id is 0x and 64 hex digits", remedy="Copy it whole.")


def unknown_request(
    detail: str = "the oracle has not seen this request",
    *,
    remedy: str = "Check the id; a new request shows up once its block was scanned.",
) -> Problem:
    """404 for an id that the database does not hold."""
    return Problem(404, "unknown-request", "No such request", detail, remedy=remedy)


def settled(view: RequestView) -> bool:
    """Whether nothing more is to be expected."""
    return view.row.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Rendered:
    """A request ready to be sent: ``body`` is its JSON, of the registry's ``version`` and after its ``last_move``."""

    view: RequestView
    body: bytes
    answer: Ready
    version: object
    last_move: object | None


class Book:
    """Every request by its id, from memory while the database says nothing new."""

    def __init__(self, reads: Reads, registry: Registry) -> None:
        self._reads, self._registry = reads, registry
        self._held: OrderedDict[bytes, tuple[object, Rendered]] = OrderedDict()
        self._coming: dict[tuple[bytes, object], asyncio.Task[Rendered | None]] = {}

    def mark(self) -> object | None:
        """Differs from the last when a request may look otherwise; None while there is no database."""
        of_database = self._reads.mark()
        return None if of_database is None else (of_database, self._registry.version)

    def at_hand(self, request_id: bytes) -> Rendered | None:
        """A request as it is now, if it was rendered before and nothing has changed since; without waiting."""
        held = self._held.get(request_id)
        if held is None:
            return None
        mark = self.mark()
        if held[0] != mark:
            if mark is None or not self._stands(request_id, held[1]):
                return None
            self._held[request_id] = (mark, held[1])
        self._held.move_to_end(request_id)
        return held[1]

    async def find(self, request_id: bytes) -> Rendered | None:
        """A request as it is now; None for an unknown one. Raises StoreError while there is no database."""
        mark = self.mark()
        if mark is None:
            raise StoreError("the database is absent")
        held = self.at_hand(request_id)
        if held is not None:
            return held
        # Many who ask for the same request at once are served by one look.
        key = (request_id, mark)
        task = self._coming.get(key)
        if task is None:
            task = self._coming[key] = asyncio.create_task(self._render(request_id, mark))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    async def one(self, request_id: bytes) -> Rendered:
        """The same, but Problem 404 for an unknown one."""
        found = await self.find(request_id)
        if found is None:
            raise unknown_request()
        return found

    def _stands(self, request_id: bytes, rendered: Rendered) -> bool:
        """Whether an ended request is as it was, whatever else was written: it changes with a move alone.

        One on its way also changes otherwise, such as by a report that is replaced.
        """
        return (
            settled(rendered.view)
            and rendered.last_move is not None
            and rendered.version == self._registry.version
            and rendered.last_move == self._reads.last_move(request_id)
        )

    def _done(self, key: tuple[bytes, object], task: asyncio.Task[Rendered | None]) -> None:
        self._coming.pop(key, None)
        if not task.cancelled():
            task.exception()  # everyone who waited may have gone

    async def _render(self, request_id: bytes, mark: object) -> Rendered | None:
        # Before the request itself: what moves in between is found to have moved.
        version, last_move = self._registry.version, self._reads.last_move(request_id)
        view = await self._reads.request(request_id)
        if view is None:
            return None
        body = as_json(shapes.request(view, self._registry.at_hand(view.row.request.model_id)))
        answer = ready(body, cache=SETTLED if settled(view) else NO_CACHE)
        rendered = Rendered(view, body, answer, version, last_move)
        self._held[request_id] = (mark, rendered)
        self._held.move_to_end(request_id)
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return rendered


class Quick:
    """A request that is at hand goes out before anyone looks for its route: the one answer that is asked for most.

    Everything else, and every question that is not plain, goes on to the route, whose answer is the same.
    """

    def __init__(self, app: ASGIApp, *, book: Book) -> None:
        self._app, self._book = app, book

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] == "GET":
            path = scope["path"]
            if len(path) == _LENGTH and path.startswith(_PREFIX):
                with contextlib.suppress(ValueError):
                    found = self._book.at_hand(bytes.fromhex(path[len(_PREFIX) :]))
                    if found is not None:
                        await unless_known(scope, found.answer)(scope, receive, send)
                        return
        await self._app(scope, receive, send)


class Pulse:
    """Wakes everyone who waits when the database or the registry says something new. One look serves all."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._changed = asyncio.Event()
        self._waiting = 0
        self._looking: asyncio.Task[None] | None = None
        self.over = False
        """Whether everyone is to go home."""

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """While anyone is in here, changes are looked for."""
        self._waiting += 1
        if self._looking is None:
            # Marked before anyone reads: what changes until the task begins is not missed.
            self._looking = asyncio.create_task(self._look(self._book.mark()), name="pulse")
        try:
            yield
        finally:
            self._waiting -= 1
            if self._waiting == 0 and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    @property
    def listeners(self) -> int:
        """How many wait."""
        return self._waiting

    def end(self) -> None:
        """Send everyone home, so that the server need not wait for them."""
        self.over = True
        self._changed.set()

    def next(self) -> asyncio.Event:
        """What is set at the next change; take it before looking, so that none is missed."""
        return self._changed

    async def _look(self, last: object | None) -> None:
        while True:
            await asyncio.sleep(LOOK)
            mark = self._book.mark()
            if mark != last:
                last = mark
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()
