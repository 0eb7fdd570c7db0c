"""What the pipeline needs of the world, as Protocols. Adapters live in their rooms; only ``service.py`` names them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from oracle.domain import (
    BlockRef,
    Capabilities,
    ChainEvent,
    Cid,
    ComputeEvent,
    ComputeTask,
    FailureReason,
    Fulfilment,
    ImageFacts,
    InferenceRequest,
    ModelManifest,
    OnChainModel,
    Quote,
    Receipt,
    ReportReceipt,
    RequestStatus,
    SignedReport,
    TaskResult,
)
from oracle.market import Agreement, Decision, Document, KnownAnswer, Provider, Work

# ---------------------------------------------------------------------------------------------------------------
# Chain
# ---------------------------------------------------------------------------------------------------------------


class ChainReader(Protocol):
    """Reads one coordinator on one chain. Every method raises RpcUnavailable when the endpoint does not answer."""

    async def chain_id(self) -> int:
        """The chain id that the endpoint serves."""

    async def head(self) -> BlockRef:
        """The newest block."""

    async def block(self, number: int) -> BlockRef | None:
        """The canonical block at a height, or None above the head."""

    async def events(self, first: int, last: int) -> Sequence[ChainEvent]:
        """The coordinator's request and settlement logs in [first, last], in chain order.

        Raises RpcRangeRefused when the endpoint wants a smaller range.
        """

    async def model(self, model_id: int) -> OnChainModel | None:
        """A registered model, or None."""


class ReportSender(Protocol):
    """Builds, signs and broadcasts reports with the operator's key."""

    @property
    def address(self) -> str:
        """The operator's checksum address."""

    async def next_nonce(self) -> int:
        """The account's next nonce as the chain sees it, unmined transactions of ours not counted."""

    async def prepare(self, items: Sequence[Fulfilment], nonce: int) -> SignedReport:
        """Simulate, estimate, price and sign; nothing is broadcast.

        Raises ReportReverted when the simulation reverts, RpcUnavailable.
        """

    async def replace(self, report: SignedReport, items: Sequence[Fulfilment]) -> SignedReport:
        """The same items at the same nonce with fees raised enough for a node to accept the replacement."""

    async def gas_price(self) -> int:
        """Wei per gas that a report mined in the next block pays."""

    def signed(self, report: SignedReport) -> bool:
        """Whether this operator's key signed the report; another key's nonces say nothing about ours."""

    async def is_outbid(self, report: SignedReport) -> bool:
        """Whether the next block's transactions offer more than the report does."""

    async def broadcast(self, report: SignedReport) -> None:
        """Send the raw bytes; a node that already knows them is no error.

        Raises TransactionRefused, RpcUnavailable.
        """

    async def receipt(self, transaction_hash: bytes) -> ReportReceipt | None:
        """The receipt on the canonical chain, or None while there is none."""


# ---------------------------------------------------------------------------------------------------------------
# Content
# ---------------------------------------------------------------------------------------------------------------


class ContentStore(Protocol):
    """Content by CID. Every byte returned was hashed here against its CID."""

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """The file's bytes.

        Raises ContentTooLarge over ``limit`` bytes (before they are downloaded), ContentUnavailable when ``timeout``
        seconds pass, ContentCorrupt when the store lies, ContentMalformed when the CID is not a file's.
        """

    async def fetch_file(self, cid: Cid, path: Path, *, limit: int, timeout: float) -> int:
        """Write the file's bytes to ``path``, a few blocks in memory at a time; how many there are.

        Raises what ``fetch`` raises, and OSError; what lies at ``path`` then means nothing.
        """

    async def add(self, files: Sequence[bytes]) -> Sequence[Cid]:
        """Store and pin files, all in one call; the CIDs (version 1, raw leaves) in the same order, checked by us."""

    async def add_file(self, path: Path) -> Cid:
        """The same for one file on disk, of any size."""


class ImageInspector(Protocol):
    """Decides whether bytes are a picture that Sibyl accepts, away from this process."""

    async def inspect(self, data: bytes) -> ImageFacts:
        """Raises ImageRejected with the reason; never hangs and never takes this process down."""


class Illustrator(Protocol):
    """Draws results for people, away from this process."""

    async def draw(self, document: Mapping[str, Any], picture: bytes) -> Mapping[str, bytes]:
        """PNG files by name of a result document and its picture's bytes; none where that fails. Raises nothing."""


class Spool(Protocol):
    """Verified bytes on local disk, named by CID, for the time they are needed."""

    async def put(self, cid: Cid, data: bytes) -> Path:
        """Write atomically; the path is stable for the CID."""

    async def receive(self, cid: Cid, write: Callable[[Path], Awaitable[object]]) -> Path:
        """Have ``write`` fill a file, and keep it under the CID; nothing is left when it raises."""

    def path(self, cid: Cid) -> Path | None:
        """Where the bytes lie, or None."""

    async def cids(self, *, older_than: float) -> Sequence[Cid]:
        """What lies there and was last put more than ``older_than`` seconds ago."""

    async def discard(self, cids: Iterable[Cid]) -> None:
        """Remove what is no longer needed; unknown CIDs are ignored."""


# ---------------------------------------------------------------------------------------------------------------
# Compute
# ---------------------------------------------------------------------------------------------------------------


class ComputeBackend(Protocol):
    """Runs tasks at providers. Redundancy, comparison and payment policy live above this port."""

    async def start(self) -> None:
        """Bring the backend up. Raises ConfigurationError with a remedy."""

    async def close(self) -> None:
        """Stop every worker; bounded in time."""

    def capabilities(self) -> Capabilities:
        """What can run here, and how much at once."""

    async def quotes(self, manifest: ModelManifest, inputs: int) -> Sequence[Quote]:
        """Offers for a task of that size, best first; empty when nobody can."""

    async def submit(self, task: ComputeTask) -> None:
        """Accept a task. The same key with the same content again is no error and no second run.

        Raises TaskConflict, PayloadTooLarge, BudgetExhausted, ModelUnservable.
        """

    def events(self) -> AsyncIterator[ComputeEvent]:
        """Progress of every task from now on; ends when the backend closes."""

    async def collect(self, key: str) -> TaskResult:
        """Wait for a task and return its schema-checked result, one item for each input, in order.

        Raises UnknownTask, WorkerLost, TaskTimeout, TaskCancelled, MalformedResult, ModelUnservable.
        """

    async def cancel(self, key: str) -> None:
        """Stop a task; a finished or unknown one is left as it is."""

    async def receipts(self, key: str) -> Sequence[Receipt]:
        """What providers were paid for the task so far."""

    async def settle(self, key: str, *, accepted: bool) -> None:
        """Pay, or refuse to pay, for a collected task and forget it."""

    async def recover(self, keys: Sequence[str]) -> Sequence[str]:
        """After a restart: which of these tasks the backend still holds (running or finished)."""


class Wishes(Protocol):
    """Which provider a requester wants."""

    async def of(self, requests: Iterable[InferenceRequest]) -> Mapping[bytes, str]:
        """Providers by request id, each a node id or a name; requests without a wish are left out."""


class ProviderLedger(Protocol):
    """What is remembered of providers and of money: each ``save`` replaces what was known under the same id."""

    async def providers(self) -> Sequence[Provider]:
        """Every provider ever seen."""

    async def save_providers(self, providers: Sequence[Provider]) -> None:
        """Write providers down."""

    async def agreement(self, agreement_id: str) -> Agreement | None:
        """One agreement."""

    async def open_agreements(self) -> Sequence[Agreement]:
        """Agreements that were not closed, by this run or by an earlier one."""

    async def unbilled_agreements(self, since: float) -> Sequence[Agreement]:
        """Agreements that ended after ``since`` and whose invoice was neither accepted nor refused yet."""

    async def save_agreement(self, agreement: Agreement) -> None:
        """Write an agreement down."""

    async def document(self, document_id: str) -> Document | None:
        """One invoice or debit note."""

    async def documents(
        self, *, agreement_id: str | None = None, decision: Decision | None = None, unsettled: bool = False
    ) -> Sequence[Document]:
        """Documents of an agreement, with a decision, or accepted and not yet settled; the oldest first."""

    async def save_document(self, document: Document) -> None:
        """Write a document and its decision down."""

    async def spent(self, since: float) -> int:
        """What was accepted from ``since`` on; of an agreement's cumulative documents the largest counts."""

    async def save_work(self, work: Work) -> None:
        """Write down what a task came to."""

    async def known_answers(self, model: str) -> Sequence[KnownAnswer]:
        """Pictures with known answers for a manifest's CID, the newest first."""

    async def forget_known_answer(self, model: str, image_cid: str) -> None:
        """Forget one that turned out to be wrong."""

    async def save_known_answer(self, answer: KnownAnswer, *, keep: int) -> Sequence[str]:
        """Remember one, and forget the oldest beyond ``keep`` of its model; the CIDs of the pictures forgotten."""


# ---------------------------------------------------------------------------------------------------------------
# Store
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request as the store holds it: what was asked, where it stands and what is known so far.

    ``times`` (the first move into each status) comes with single requests, not with a queue's rows.
    """

    request: InferenceRequest
    status: RequestStatus
    block: int
    attempts: int = 0
    not_before: float = 0.0
    image: ImageFacts | None = None
    batch: str | None = None
    failure: FailureReason = FailureReason.NONE
    detail: str = ""
    result_cid: Cid | None = None
    answer: bytes = b""
    provider: str = ""
    transaction_hash: bytes | None = None
    times: Mapping[RequestStatus, float] | None = None

    @property
    def request_id(self) -> bytes:
        """The request's id."""
        return self.request.request_id


@dataclass(frozen=True, slots=True)
class Move:
    """One request's step along ``domain.TRANSITIONS`` with the columns that change with it. None leaves a column."""

    request_id: bytes
    to: RequestStatus
    attempts: int | None = None
    not_before: float | None = None
    image: ImageFacts | None = None
    failure: FailureReason | None = None
    detail: str | None = None
    result_cid: Cid | None = None
    answer: bytes | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class StoredReport:
    """A signed report as saved: ``replaces`` is the hash of the one it took the nonce from."""

    report: SignedReport
    saved_at: float
    broadcast_at: float | None = None
    replaces: bytes | None = None


class RequestStore(Protocol):
    """The one truth about requests. Each method is one database transaction; moves not in ``domain.TRANSITIONS`` raise
    IllegalTransition, except that a request which has moved on meanwhile (``expected`` no longer holds) is left alone.
    """

    async def bind(self, chain_id: int, coordinator: str, genesis: bytes) -> None:
        """Tie a new database to a deployment, or check that this one belongs to it. Raises StoreMismatch."""

    async def checkpoint(self) -> BlockRef | None:
        """The last block scanned."""

    async def scanned_block(self, number: int) -> BlockRef | None:
        """The newest remembered block at or below ``number``, for walking back to a fork."""

    async def commit_scan(self, events: Sequence[ChainEvent], blocks: Sequence[BlockRef], checkpoint: BlockRef) -> None:
        """Logs, block hashes and checkpoint in one transaction. A log already known changes nothing."""

    async def roll_back(self, fork: BlockRef | None) -> Sequence[bytes]:
        """Forget everything above the fork (None: everything): requests mined there become ORPHANED, settlements mined
        there are undone. Returns the ids touched."""

    async def confirm(self, through: int) -> int:
        """Move SEEN requests in blocks up to ``through`` to CONFIRMED; how many."""

    async def get(self, request_id: bytes) -> RequestRow | None:
        """One request."""

    async def select(
        self,
        statuses: Iterable[RequestStatus],
        *,
        due: float | None = None,
        tried: bool | None = None,
        after: float | None = None,
        limit: int | None = None,
    ) -> Sequence[RequestRow]:
        """Requests in these statuses, earliest deadline first; with ``due``, only those with ``not_before`` <= it; with
        ``tried``, only those that were (longest due first), or were not, tried before; with ``after``, only those whose
        deadline is later.
        """

    async def spent_images(self, request_ids: Iterable[bytes]) -> Sequence[Cid]:
        """The pictures of these requests that no CONFIRMED, READY or COMPUTING request needs any more."""

    async def counts(self) -> Mapping[RequestStatus, int]:
        """How many requests stand in each status."""

    async def move(self, moves: Sequence[Move], *, expected: Iterable[RequestStatus]) -> int:
        """Apply moves to the requests that still stand in one of ``expected``; how many moved."""

    async def expire(self, now: float) -> int:
        """Move requests whose deadline has passed unanswered, and that no saved report carries, to EXPIRED."""

    async def open_batch(self, key: str, request_ids: Sequence[bytes]) -> Sequence[bytes]:
        """READY requests become COMPUTING members of a new batch; the ids that did."""

    async def open_batches(self) -> Mapping[str, Sequence[RequestRow]]:
        """Batches that still have COMPUTING members, for recovery after a restart."""

    async def save_report(self, report: SignedReport, *, replaces: bytes | None = None) -> None:
        """Save a signed report before it is broadcast; its requests become POSTING."""

    async def mark_broadcast(self, transaction_hash: bytes) -> None:
        """Note that a node took the report."""

    async def open_reports(self) -> Sequence[StoredReport]:
        """Reports whose fate is not final, by nonce."""

    async def close_report(self, receipt: ReportReceipt) -> None:
        """A receipt is confirmed: settled requests become FULFILLED or REJECTED, those it did not carry go back to the
        queue, and every other report at that nonce is closed as replaced."""

    async def abandon_report(self, transaction_hash: bytes, detail: str) -> None:
        """A report can never be mined (its nonce went to a foreign transaction): its requests go back to the queue."""

    async def timeline(self, request_id: bytes) -> Sequence[tuple[RequestStatus, float, str]]:
        """Every move of a request with its time and detail."""

    async def close(self) -> None:
        """Flush and close."""


class Clock(Protocol):
    """Time, so that tests need not wait."""

    def now(self) -> float:
        """Unix seconds."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


__all__ = [
    "ChainReader",
    "Clock",
    "ComputeBackend",
    "ContentStore",
    "Illustrator",
    "ImageInspector",
    "Move",
    "ProviderLedger",
    "ReportSender",
    "RequestRow",
    "RequestStore",
    "Spool",
    "StoredReport",
    "Wishes",
]
