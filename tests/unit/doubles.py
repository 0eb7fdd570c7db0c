"""Doubles of the ports, in memory and scriptable: each shows a fault that the real part can't be made to show."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oracle.domain import (
    BlockRef,
    Capabilities,
    ChainEvent,
    Cid,
    ComputeEvent,
    ComputeTask,
    FailureReason,
    Fees,
    Fulfilment,
    ImageFacts,
    InferenceRequest,
    ItemResult,
    LabelScore,
    LogPosition,
    ModelManifest,
    OnChainModel,
    OnChainStatus,
    Quote,
    Receipt,
    ReportReceipt,
    RequestSeen,
    RequestSettled,
    SignedReport,
    TaskResult,
)
from oracle.errors import ContentUnavailable, ImageRejected, ReportReverted, UnknownTask

COORDINATOR = "0x" + "c0" * 20
REQUESTER = "0x" + "11" * 20
CREATED = 1_000_000  # when every request is made


def cid_of(data: bytes) -> Cid:
    return Cid(b"\x01\x55\x12\x20" + hashlib.sha256(data).digest())


def block(number: int, fork: str = "") -> BlockRef:
    return BlockRef(number, hashlib.sha256(f"{fork}{number}".encode()).digest(), 1_000_000 + number)


def a_request(
    nonce: int,
    *,
    image: Cid,
    deadline: int,
    model_id: int = 1,
    callback_gas: int = 0,
    requester: str = REQUESTER,
    payment: int = 10**15,
    created_at: int = CREATED,
) -> InferenceRequest:
    return InferenceRequest(
        hashlib.sha256(b"request" + nonce.to_bytes(8, "big")).digest(),
        model_id,
        requester,
        image,
        payment,
        callback_gas,
        deadline,
        nonce,
        created_at,
    )


def seen(request: InferenceRequest, at: BlockRef) -> RequestSeen:
    return RequestSeen(request, LogPosition(at, hashlib.sha256(b"tx" + request.request_id).digest(), request.nonce))


class SteppedClock:
    """Time that moves when told, or when slept on."""

    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


class MemoryContent:
    """A content store that can lose, refuse or delay what it holds."""

    def __init__(self) -> None:
        self.files: dict[Cid, bytes] = {}
        self.faults: dict[Cid, list[Exception]] = {}
        self.add_faults: list[Exception] = []
        self.fetched: list[Cid] = []

    def hold(self, data: bytes) -> Cid:
        cid = cid_of(data)
        self.files[cid] = data
        return cid

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        self.fetched.append(cid)
        await asyncio.sleep(0)
        if self.faults.get(cid):
            raise self.faults[cid].pop(0)
        if cid not in self.files:
            raise ContentUnavailable(f"{cid} was not found")
        return self.files[cid]

    async def fetch_file(self, cid: Cid, path: Path, *, limit: int, timeout: float) -> int:
        return path.write_bytes(await self.fetch(cid, limit=limit, timeout=timeout))

    async def add_file(self, path: Path) -> Cid:
        return (await self.add([path.read_bytes()]))[0]

    async def add(self, files: Sequence[bytes]) -> Sequence[Cid]:
        if self.add_faults:
            raise self.add_faults.pop(0)
        return [self.hold(data) for data in files]


class PrefixInspector:
    """Takes bytes that begin with ``picture`` for a picture."""

    async def inspect(self, data: bytes) -> ImageFacts:
        if not data.startswith(b"picture"):
            raise ImageRejected("these bytes are not a picture", reason=FailureReason.IMAGE_UNREADABLE)
        return ImageFacts("PNG", 28, 28, len(data))


class NamingIllustrator:
    """Instead of drawing, names what it was given; ``broken`` draws nothing, ``stuck`` never ends."""

    def __init__(self) -> None:
        self.broken = self.stuck = False

    async def draw(self, document: Mapping[str, Any], picture: bytes) -> Mapping[str, bytes]:
        if self.broken:
            return {}
        if self.stuck:
            await asyncio.Event().wait()
        if "segments" in document:
            return {"mask": b"mask of " + picture, "overlay": b"overlay of " + picture}
        return {"labels": json.dumps(document["labels"]).encode()}


class FolderSpool:
    """A spool without durability."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def put(self, cid: Cid, data: bytes) -> Path:
        path = self.folder / cid.text
        path.write_bytes(data)
        return path

    async def receive(self, cid: Cid, write: Callable[[Path], Awaitable[object]]) -> Path:
        await write(self.folder / cid.text)
        return self.folder / cid.text

    def path(self, cid: Cid) -> Path | None:
        path = self.folder / cid.text
        return path if path.exists() else None

    async def cids(self, *, older_than: float) -> Sequence[Cid]:
        paths = [path for path in self.folder.iterdir() if path.stat().st_mtime <= time.time() - older_than]
        return [Cid.parse(path.name) for path in paths if path.name.startswith("bafk")]

    async def discard(self, cids: Iterable[Cid]) -> None:
        for cid in cids:
            (self.folder / cid.text).unlink(missing_ok=True)


class ScriptedBackend:
    """Answers every picture with digit 7, unless ``script`` says otherwise for a task."""

    def __init__(
        self, *, slots: int = 1, script: Callable[[ComputeTask], TaskResult | Exception] | None = None
    ) -> None:
        self.slots = slots
        self.script = script
        self.tasks: dict[str, ComputeTask] = {}
        self.submitted: list[ComputeTask] = []
        self.settled: dict[str, bool] = {}
        self.gate = asyncio.Event()
        self.gate.set()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def capabilities(self) -> Capabilities:
        return Capabilities("scripted", frozenset({"classification"}), frozenset({"keras"}), self.slots)

    async def quotes(self, manifest: ModelManifest, inputs: int) -> Sequence[Quote]:
        return [Quote("scripted-0", 0, 0.1)]

    async def submit(self, task: ComputeTask) -> None:
        self.tasks[task.key] = task
        self.submitted.append(task)

    async def events(self) -> AsyncIterator[ComputeEvent]:
        return
        yield

    async def collect(self, key: str) -> TaskResult:
        if key not in self.tasks:
            raise UnknownTask(key)
        await self.gate.wait()
        task = self.tasks[key]
        outcome = self.script(task) if self.script else sevens(task)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def cancel(self, key: str) -> None: ...

    async def receipts(self, key: str) -> Sequence[Receipt]:
        return []

    async def settle(self, key: str, *, accepted: bool) -> None:
        self.settled[key] = accepted

    async def recover(self, keys: Sequence[str]) -> Sequence[str]:
        return [key for key in keys if key in self.tasks]


def sevens(task: ComputeTask) -> TaskResult:
    labels = (LabelScore(7, "7", 0.9), LabelScore(1, "1", 0.1))
    items = tuple(ItemResult(source.request_id, labels) for source in task.inputs)
    return TaskResult(task.key, "scripted-0", items, started=1.0, finished=1.1, inference=0.1, engine="keras")


class MemoryChain:
    """A coordinator of few lines: it settles each request at most once and skips the rest, as the contract does."""

    def __init__(self, models: Mapping[int, Cid]) -> None:
        self.address = "0x" + "0e" * 20
        self.models = models
        self.tokens: dict[int, str] = {}
        self.height = 100
        self.pending: dict[int, tuple[SignedReport, tuple[Fulfilment, ...]]] = {}
        self.built: dict[bytes, tuple[Fulfilment, ...]] = {}
        self.receipts: dict[bytes, ReportReceipt] = {}
        self.final: dict[bytes, RequestSettled] = {}
        self.posted_times: dict[bytes, int] = {}
        self.broadcasts: list[bytes] = []
        self.nonce = 0
        self.mining = True
        self.poison: set[bytes] = set()
        self.broadcast_faults: list[Exception] = []
        self.replace_faults: list[Exception] = []
        self.reverting: set[bytes] = set()
        self.price = 10**9
        self.outbid = False
        self.foreign: set[bytes] = set()

    async def chain_id(self) -> int:
        return 31337

    async def head(self) -> BlockRef:
        return block(self.height)

    async def block(self, number: int) -> BlockRef | None:
        return block(number) if number <= self.height else None

    async def events(self, first: int, last: int) -> Sequence[ChainEvent]:
        return []

    async def model(self, model_id: int) -> OnChainModel | None:
        cid = self.models.get(model_id)
        return OnChainModel(model_id, cid, 10**15, REQUESTER, True, self.tokens.get(model_id)) if cid else None

    async def next_nonce(self) -> int:
        return self.nonce

    async def prepare(self, items: Sequence[Fulfilment], nonce: int) -> SignedReport:
        if any(item.request_id in self.poison for item in items):
            raise ReportReverted("Poisoned()")
        return self._sign(items, nonce, 100)

    async def gas_price(self) -> int:
        return self.price

    def signed(self, report: SignedReport) -> bool:
        return report.transaction_hash not in self.foreign

    async def is_outbid(self, report: SignedReport) -> bool:
        return self.outbid

    async def replace(self, report: SignedReport, items: Sequence[Fulfilment]) -> SignedReport:
        if self.replace_faults:
            raise self.replace_faults.pop(0)
        return self._sign(items, report.nonce, report.fees.max_fee * 9 // 8 + 1)

    def _sign(self, items: Sequence[Fulfilment], nonce: int, fee: int) -> SignedReport:
        ids = tuple(item.request_id for item in items)
        digest = hashlib.sha256(b"".join(ids) + nonce.to_bytes(8, "big") + fee.to_bytes(8, "big")).digest()
        self.built[digest] = tuple(items)
        return SignedReport(digest, b"raw" + digest, nonce, Fees(fee, 1), 1_000_000, ids)

    async def broadcast(self, report: SignedReport) -> None:
        if self.broadcast_faults:
            raise self.broadcast_faults.pop(0)
        self.broadcasts.append(report.transaction_hash)
        known = self.pending.get(report.nonce)
        if known is None or known[0].fees.max_fee < report.fees.max_fee:
            self.pending[report.nonce] = (report, self.built[report.transaction_hash])
        if self.mining:
            self.mine()

    async def receipt(self, transaction_hash: bytes) -> ReportReceipt | None:
        return self.receipts.get(transaction_hash)

    def mine(self) -> None:
        while self.nonce in self.pending:
            report, items = self.pending.pop(self.nonce)
            self.nonce += 1
            self.height += 1
            at = block(self.height)
            settled, skipped = [], {}
            reverts = any(item.request_id in self.reverting for item in items)
            for index, item in enumerate(() if reverts else items):
                if item.request_id in self.final:
                    skipped[item.request_id] = self.final[item.request_id].status
                    continue
                status = OnChainStatus.FULFILLED if item.failure is FailureReason.NONE else OnChainStatus.FAILED
                log = RequestSettled(
                    item.request_id,
                    status,
                    LogPosition(at, report.transaction_hash, index),
                    item.failure,
                    item.result_cid,
                    item.answer,
                )
                self.final[item.request_id] = log
                settled.append(log)
            self.receipts[report.transaction_hash] = ReportReceipt(
                report.transaction_hash,
                at,
                not reverts,
                50_000 * len(items),
                10**9,
                tuple(settled),
                skipped,
                frozenset(),
            )
