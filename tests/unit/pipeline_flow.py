"""The pipeline from intake to settler over the real store and doubles of the rest, for the tests of all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from doubles import (
    REQUESTER,
    FolderSpool,
    MemoryChain,
    MemoryContent,
    NamingIllustrator,
    PrefixInspector,
    ScriptedBackend,
    SteppedClock,
    a_request,
    block,
    cid_of,
    seen,
)

from oracle.domain import RequestStatus
from oracle.pipeline.batcher import BatchLimits
from oracle.pipeline.duty import Bell
from oracle.pipeline.intake import Intake
from oracle.pipeline.models import ModelCatalogue
from oracle.pipeline.runner import Runner
from oracle.pipeline.settler import Settler
from oracle.pipeline.worth import Worth
from oracle.store import DirectoryWishes, SqliteRequestStore

NOW = 2_000_000_000.0
WEIGHTS = b"weights"
S = RequestStatus


@dataclass
class Oracle:
    store: SqliteRequestStore
    chain: MemoryChain
    content: MemoryContent
    backend: ScriptedBackend
    spool: FolderSpool
    clock: SteppedClock
    intake: Intake
    runner: Runner
    settler: Settler
    illustrator: NamingIllustrator
    nonce: int = 0

    async def ask(
        self,
        data: bytes,
        *,
        model_id: int = 1,
        deadline: float = 600,
        absent: bool = False,
        callback_gas: int = 0,
        requester: str = REQUESTER,
        payment: int = 10**15,
    ) -> bytes:
        image = cid_of(data) if absent else self.content.hold(data)
        self.nonce += 1
        request = a_request(
            self.nonce,
            image=image,
            deadline=int(NOW + deadline),
            model_id=model_id,
            callback_gas=callback_gas,
            requester=requester,
            payment=payment,
        )
        at = block(50)
        await self.store.commit_scan([seen(request, at)], [at], at)
        await self.store.confirm(50)
        return request.request_id

    async def run(self, steps: int = 30) -> None:
        for _ in range(steps):
            await self.intake.step()
            await self.runner.step()
            await asyncio.sleep(0.001)
            await self.settler.step()

    async def run_for(self, *, rounds: int, steps: int, pause: float) -> None:
        """Run again and again, with seconds of the clock in between."""
        for _ in range(rounds):
            await self.run(steps)
            self.clock.time += pause

    async def take_in(self, request_id: bytes) -> None:
        """Let intake alone work, until the request is ready."""
        async with asyncio.timeout(10):
            while await self.status(request_id) is not S.READY:
                await self.intake.step()

    async def die(self) -> None:
        """End with the work as it is; another on the same database takes it up."""
        await self.runner.close()
        await self.store.close()

    async def status(self, request_id: bytes) -> RequestStatus:
        row = await self.store.get(request_id)
        assert row is not None
        return row.status


def manifest(**changes: object) -> bytes:
    document = json.loads((Path("provider_images/mnist/manifest.json")).read_text())
    document["weights"] |= {"cid": cid_of(WEIGHTS).text, "sha256": cid_of(WEIGHTS).digest.hex(), "bytes": len(WEIGHTS)}
    return json.dumps(document | changes).encode()


Build = Callable[..., Oracle]


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    built: list[Oracle] = []

    def make(
        backend: ScriptedBackend | None = None,
        database: str = "one",
        prices: dict[str, Fraction] | None = None,
        hold: float = 0.0,
    ) -> Oracle:
        content = MemoryContent()
        content.hold(WEIGHTS)
        models = {1: content.hold(manifest()), 2: content.hold(manifest(engine="abacus"))}
        chain, clock = MemoryChain(models), SteppedClock(NOW)
        spool = FolderSpool(tmp_path)
        backend = backend or ScriptedBackend()
        store = SqliteRequestStore(tmp_path / f"{database}.sqlite3", now=clock.now, hold=hold)
        catalogue = ModelCatalogue(chain=chain, content=content, spool=spool, backend=backend, clock=clock, timeout=5.0)
        worth = Worth(catalogue, prices or {})
        settler = Settler(
            store=store, chain=chain, sender=chain, spool=spool, worth=worth, clock=clock,
            confirmations=1, items=16, in_flight=2, replace_after=60.0, posting_time=2.5, cost_ratio=1000.0,
            wall=clock.now,
        )  # fmt: skip
        upstream, illustrator = Bell(), NamingIllustrator()
        wishes = DirectoryWishes(tmp_path / "wishes")
        intake = Intake(
            store=store, content=content, inspector=PrefixInspector(), spool=spool, models=catalogue, worth=worth,
            clock=clock, bell=Bell(), downstream=Bell(), failures=settler.bell,
            concurrency=8, max_bytes=1000, timeout=5.0, margin=5.0,
        )  # fmt: skip
        runner = Runner(
            store=store, backend=backend, content=content, illustrator=illustrator, spool=spool, models=catalogue,
            wishes=wishes, clock=clock, bell=Bell(), downstream=settler.bell, upstream=upstream,
            coming=lambda: intake.coming, limits=BatchLimits(linger=0.0), timeout=60.0, margin=5.0, max_attempts=3,
        )  # fmt: skip
        oracle = Oracle(store, chain, content, backend, spool, clock, intake, runner, settler, illustrator)
        built.append(oracle)
        return oracle

    yield make
    for oracle in built:
        await oracle.intake.close()
        await oracle.runner.close()
        await oracle.store.close()
