"""What the routes share: the world, the settings, and what is kept at hand of both."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from oracle.api.book import Book, Pulse
from oracle.api.ports import Content, World
from oracle.api.problems import Problem
from oracle.api.registry import Registry
from oracle.documents import read_result
from oracle.domain import Cid
from oracle.settings import MIB, Settings

T = TypeVar("T")

RESULT_BYTES = 8 * MIB
OPEN_BYTES = 16 * MIB
OPEN_SECONDS = 10.0  # for a CID that anybody may name
_LONG = 86_400.0  # seconds for which what a CID holds is remembered, which never changes
_ROOM = 1024  # bytes that a content takes in memory beside its own: many small ones are to be bounded, too


class Shelf:
    """Contents by CID, each fetched once by all who ask, the latest kept in memory up to so many bytes.

    At most ``at_once`` are fetched at a time and ``waiting`` more wait; beyond them Problem 503.
    """

    def __init__(self, content: Content, *, held: int, at_once: int, waiting: int = 64) -> None:
        self._content, self._most, self._crowd = content, held, at_once + waiting
        self._turn = asyncio.Semaphore(at_once)
        self._held: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0
        self._coming: dict[Hashable, asyncio.Task[bytes]] = {}

    async def file(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """A file's bytes. Raises what ``Content.fetch`` raises."""
        return await self._get((cid, limit), lambda: self._content.fetch(cid, limit=limit, timeout=timeout))

    async def block(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """A block's bytes. Raises what ``Content.fetch_block`` raises."""
        return await self._get(
            (cid, limit, "raw"), lambda: self._content.fetch_block(cid, limit=limit, timeout=timeout)
        )

    async def close(self) -> None:
        """Let go of what is on its way."""
        tasks = list(self._coming.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(self, key: Hashable, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
            return held
        task = self._coming.get(key)
        if task is None:
            if len(self._coming) >= self._crowd:
                raise Problem(
                    503,
                    "busy",
                    "Too much is being fetched",
                    "the content store has its hands full",
                    remedy="Try again in a moment.",
                    headers={"Retry-After": "2"},
                )
            task = self._coming[key] = asyncio.create_task(self._bring(key, fetch))
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    async def _bring(self, key: Hashable, fetch: Callable[[], Awaitable[bytes]]) -> bytes:
        async with self._turn:
            data = await fetch()
        if len(data) <= self._most // 4:
            self._held[key] = data
            self._bytes += len(data) + _ROOM
            while self._bytes > self._most:
                _, old = self._held.popitem(last=False)
                self._bytes -= len(old) + _ROOM
        return data

    def _done(self, key: Hashable, task: asyncio.Task[bytes]) -> None:
        self._coming.pop(key, None)
        if not task.cancelled():
            task.exception()  # everyone who waited may have gone


class Lately(Generic[T]):
    """What takes a moment to find out, found out once for all who ask within some seconds."""

    def __init__(self, seconds: float, *, most: int = 256) -> None:
        self._seconds, self._most = seconds, most
        self._known: OrderedDict[Hashable, tuple[float, asyncio.Task[T]]] = OrderedDict()

    async def get(self, key: Hashable, find: Callable[[], Awaitable[T]]) -> T:
        """What ``find`` says, or said lately. What it raises is not remembered."""
        now = time.monotonic()
        while self._known and _over(next(iter(self._known.values())), now):
            self._known.popitem(last=False)
        known = self._known.get(key)
        if known is None or _over(known, now) or (known[1].done() and _failed(known[1])):
            known = (now + self._seconds, asyncio.create_task(_awaited(find)))
            known[1].add_done_callback(_failed)
            self._known[key] = known
            self._known.move_to_end(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return await asyncio.shield(known[1])


async def _awaited(find: Callable[[], Awaitable[T]]) -> T:
    return await find()


def _over(known: tuple[float, asyncio.Task[T]], now: float) -> bool:
    return known[1].done() and now > known[0]


def _failed(task: asyncio.Task[T]) -> bool:
    return task.cancelled() or task.exception() is not None


@dataclass(frozen=True, slots=True)
class Findings:
    """A checked result document without its masks: its predictions, as they go out, and its drawings by name."""

    predictions: Sequence[Mapping[str, Any]]
    files: Mapping[str, Mapping[str, Any]]


class Results(Shelf):
    """Result documents and their drawings by CID."""

    def __init__(self, content: Content, *, timeout: float) -> None:
        super().__init__(content, held=32 * MIB, at_once=8)
        self._timeout = timeout
        self._found: Lately[Findings] = Lately(_LONG, most=256)

    async def document(self, cid: Cid) -> bytes:
        """A document's bytes, unchecked. Raises what ``Content.fetch`` raises."""
        return await self.file(cid, limit=RESULT_BYTES, timeout=self._timeout)

    async def findings(self, cid: Cid) -> Findings:
        """What a document says. Raises ContentCorrupt too.

        Masks take tens of milliseconds to check: once for a document, and not where everybody waits.
        """

        async def find() -> Findings:
            return await asyncio.to_thread(_findings, await self.document(cid))

        return await self._found.get(cid, find)

    async def drawing(self, file: Mapping[str, Any]) -> bytes:
        """The bytes of one of ``Findings.files``."""
        return await self.file(Cid.parse(file["cid"]), limit=file["bytes"], timeout=self._timeout)


def _findings(data: bytes) -> Findings:
    document = read_result(data)
    if "labels" in document:
        predictions = [{"label": one["label"], "probability": one["probability"]} for one in document["labels"]]
    else:
        predictions = [
            {"label": one["label"], "score": one["score"], "box": one["bbox"], "area": one["area"]}
            for one in document["segments"]
        ]
    return Findings(predictions, document.get("files", {}))


@dataclass(frozen=True, slots=True)
class Desk:
    """The shared parts of one app."""

    world: World
    settings: Settings
    registry: Registry = field(init=False)
    book: Book = field(init=False)
    pulse: Pulse = field(init=False)
    results: Results = field(init=False)
    open: Shelf = field(init=False)
    """What anybody names by its CID."""

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("registry", Registry(self.world.chain, self.world.content))
        put("book", Book(self.world.reads, self.registry))
        put("pulse", Pulse(self.book))
        put("results", Results(self.world.content, timeout=self.settings.fetch_timeout))
        put("open", Shelf(self.world.open_content, held=64 * MIB, at_once=8))

    async def close(self) -> None:
        """Stop what goes on in the background."""
        await self.registry.close()
        await self.results.close()
        await self.open.close()
