"""Doubles of what the API writes to, and an API on them that needs no network."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from oracle.api.app import create_app
from oracle.api.ports import Deployment, Holder, Paid, SignedWish, World, Writes
from oracle.domain import BlockRef, Cid, ImageFacts, OnChainModel
from oracle.errors import ContentUnavailable, ImageRejected, KeyNeeded
from oracle.market import Provider
from oracle.settings import Settings
from oracle.store.uploads import SqliteUploadBook
from oracle.views import ModelSpeed, RequestView
from tests.unit.doubles import cid_of

PRICE = 10**14
PAYOUT = "0x" + "44" * 20
GATEWAY = "0x" + "99" * 20
PICTURE = b"PICTURE of a kitten"


@dataclass
class Log:
    """What happened, in order."""

    events: list[str] = field(default_factory=list)

    def __call__(self, event: str) -> None:
        self.events.append(event)


class MemoryPins:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.held: dict[Cid, bytes] = {}
        self.problem: Exception | None = None

    async def name(self, content: bytes | Path) -> Cid:
        return cid_of(content if isinstance(content, bytes) else content.read_bytes())

    async def hold(self, content: bytes | Path) -> Cid:
        if self.problem is not None:
            raise self.problem
        self.log("pinned")
        data = content if isinstance(content, bytes) else content.read_bytes()
        self.held[cid_of(data)] = data
        return cid_of(data)

    async def let_go(self, cid: Cid) -> None:
        if self.problem is not None:
            raise self.problem
        self.log("let go")
        self.held.pop(cid, None)


class PrefixInspector:
    """Takes what begins with PICTURE for one."""

    def __init__(self, log: Log) -> None:
        self.log = log

    async def inspect(self, data: bytes) -> ImageFacts:
        self.log("inspected")
        if not data.startswith(b"PICTURE"):
            raise ImageRejected("it is no picture")
        return ImageFacts("PNG", 28, 28, len(data))


class ScriptedWeb:
    def __init__(self) -> None:
        self.pages: dict[str, bytes | Exception] = {}
        self.clients: list[str] = []

    async def fetch(self, url: str, *, limit: int, client: str = "") -> bytes:
        self.clients.append(client)
        found = self.pages.get(url, ContentUnavailable("the address answers 404", remedy="Check it."))
        if isinstance(found, Exception):
            raise found
        return found


class MemoryWishes:
    def __init__(self) -> None:
        self.taken: list[SignedWish] = []
        self.problem: Exception | None = None

    async def take(self, wish: SignedWish) -> None:
        if self.problem is not None:
            raise self.problem
        self.taken.append(wish)


class ScriptedPayer:
    """Pays whoever it knows; ``problem`` is raised instead, at the step that is named."""

    address = GATEWAY

    def __init__(self, log: Log, *, is_open: bool = True) -> None:
        self.log, self.open = log, is_open
        self.keys: dict[str, str] = {}
        self.problems: dict[str, Exception] = {}
        self.asked: list[tuple[Holder, int, Cid, str, str | None]] = []
        self.known: dict[bytes, Paid] = {}
        self.by_key: dict[tuple[str, str], Paid] = {}

    async def holder(self, token: str | None, client: str) -> Holder:
        if token is None and self.open:
            return Holder("", 10**17, f"client {client}")
        if token not in self.keys:
            raise KeyNeeded("no such key", remedy="Ask for one.")
        return Holder(self.keys[token], 10**17, f"key {self.keys[token]}")

    async def affordable(self, holder: Holder, model_id: int) -> int:
        self._fail("affordable")
        return PRICE

    async def ask(
        self, holder: Holder, model_id: int, image_cid: Cid, *, provider: str = "", idempotency: str | None = None
    ) -> Paid:
        self._fail("ask")
        self.log("paid")
        self.asked.append((holder, model_id, image_cid, provider, idempotency))
        number = hashlib.sha256(image_cid.value + bytes([len(self.asked)])).digest()
        self.known[number] = Paid(number, b"\x22" * 32, PRICE, model_id, image_cid, int(time.time()) + 600)
        if idempotency is not None:
            self.by_key[holder.scope, idempotency] = self.known[number]
        return self.known[number]

    async def begun(self, holder: Holder, model_id: int, image_cid: Cid, idempotency: str) -> Paid | None:
        self._fail("begun")
        return self.by_key.get((holder.scope, idempotency))

    async def paid(self, request_id: bytes) -> Paid | None:
        return self.known.get(request_id)

    def _fail(self, step: str) -> None:
        if step in self.problems:
            raise self.problems[step]


class ScriptedReads:
    def __init__(self) -> None:
        self.views: dict[bytes, RequestView] = {}
        self.seen: list[Provider] = []
        self.pictures: set[Cid] = set()
        self.at: float | None = None

    def mark(self) -> object | None:
        return len(self.views)

    def last_move(self, request_id: bytes) -> object | None:
        view = self.views.get(request_id)
        return None if view is None else len(view.moves)

    async def request(self, request_id: bytes) -> RequestView | None:
        return self.views.get(request_id)

    async def speeds(self) -> Mapping[int, ModelSpeed]:
        return {}

    async def providers(self) -> Sequence[Provider]:
        return self.seen

    async def named(self, cids: Sequence[Cid]) -> frozenset[Cid]:
        return frozenset(self.pictures.intersection(cids))

    async def scanned(self) -> BlockRef | None:
        return None if self.at is None else BlockRef(1, bytes(32), int(self.at))


class ScriptedChain:
    def __init__(self, models: Sequence[OnChainModel]) -> None:
        self.listed = models

    async def deployment(self) -> Deployment:
        return Deployment(31337, "0x" + "c0" * 20, 0)

    async def head(self) -> BlockRef:
        return BlockRef(1, bytes(32), 1_000_000)

    async def models(self) -> Sequence[OnChainModel]:
        return self.listed


class MemoryFiles:
    def __init__(self) -> None:
        self.held: dict[Cid, bytes] = {}

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        if cid not in self.held:
            raise ContentUnavailable("nobody delivers it")
        return self.held[cid]


@dataclass
class Api:
    """An API on doubles, and a client of it."""

    client: httpx.AsyncClient
    log: Log
    pins: MemoryPins
    web: ScriptedWeb
    wishes: MemoryWishes
    payer: ScriptedPayer
    reads: ScriptedReads
    files: MemoryFiles
    folder: Path


@asynccontextmanager
async def api(
    folder: Path,
    manifests: Mapping[int, bytes],
    *,
    pays: bool = True,
    is_open: bool = True,
    tune: Callable[[ScriptedChain], None] | None = None,
    now: Callable[[], float] = time.time,
    **changes: Any,
) -> AsyncIterator[Api]:
    log = Log()
    files = MemoryFiles()
    for data in manifests.values():
        files.held[cid_of(data)] = data
    chain = ScriptedChain(
        [OnChainModel(number, cid_of(data), PRICE, PAYOUT, True) for number, data in manifests.items()]
    )
    if tune is not None:
        tune(chain)
    pins, web, wishes, reads = MemoryPins(log), ScriptedWeb(), MemoryWishes(), ScriptedReads()
    payer = ScriptedPayer(log, is_open=is_open)
    uploads = folder / "uploads"
    book = SqliteUploadBook(folder / "uploads.sqlite3", now=now)
    writes = Writes(pins, book, PrefixInspector(log), web, wishes, uploads, payer if pays else None)
    world = World(reads=reads, chain=chain, content=files, open_content=files, writes=writes)  # type: ignore[arg-type]
    settings = Settings(data_dir=folder, default_model=1, **changes)
    app = create_app(world, settings)
    transport = httpx.ASGITransport(app=app, client=("192.0.2.7", 4711))
    async with (
        AsyncExitStack() as stack,
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api") as client,
    ):
        stack.push_async_callback(book.close)
        yield Api(client, log, pins, web, wishes, payer, reads, files, uploads)
