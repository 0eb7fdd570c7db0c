"""The frozen types that every room speaks, the statuses of a request and the legal moves between them.

"Model" always means a machine-learning model. Money is an ``int`` of wei, or of the smallest part of a model's token;
time is a ``float`` of Unix seconds.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import base58

# ---------------------------------------------------------------------------------------------------------------
# Content identifiers
# ---------------------------------------------------------------------------------------------------------------

CODEC_RAW = 0x55
CODEC_DAG_PB = 0x70
_SHA2_256 = b"\x12\x20"


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """A content identifier in bytes: 34 for version 0, 36 for version 1, always sha2-256 of a raw or dag-pb block.

    ``Cid(value)`` and ``Cid.parse(text)`` raise ValueError on any other form. Source: the multiformats CID
    specification.
    """

    value: bytes

    def __post_init__(self) -> None:
        v = self.value
        is_v0 = len(v) == 34 and v[:2] == _SHA2_256
        is_v1 = len(v) == 36 and v[0] == 1 and v[1] in (CODEC_RAW, CODEC_DAG_PB) and v[2:4] == _SHA2_256
        if not (is_v0 or is_v1):
            raise ValueError("not a CID of version 0 or 1 with sha2-256 and the raw or dag-pb codec")

    @property
    def version(self) -> int:
        """0 or 1."""
        return 0 if len(self.value) == 34 else 1

    @property
    def codec(self) -> int:
        """The multicodec of the block: ``CODEC_RAW`` or ``CODEC_DAG_PB``."""
        return CODEC_DAG_PB if self.version == 0 else self.value[1]

    @property
    def digest(self) -> bytes:
        """The 32 bytes of the block's sha2-256."""
        return self.value[-32:]

    @property
    def text(self) -> str:
        """Base58btc for version 0, lower-case base32 for version 1, as every IPFS tool prints them."""
        if self.version == 0:
            return base58.b58encode(self.value).decode()
        return "b" + base64.b32encode(self.value).decode().rstrip("=").lower()

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read base58btc (version 0, or version 1 with prefix z) or base32 text, with or without ``/ipfs/`` or ``ipfs://``."""
        bare = text.strip().removeprefix("ipfs://").removeprefix("/ipfs/").rstrip("/")
        try:
            if bare.startswith("Qm") and len(bare) == 46:
                return cls(base58.b58decode(bare))
            if bare.startswith("z"):
                return cls(base58.b58decode(bare[1:]))
            if bare[:1] in ("b", "B"):
                body = bare[1:].upper()
                return cls(base64.b32decode(body + "=" * (-len(body) % 8)))
        except ValueError as error:
            raise ValueError(f"{text!r} is not a CID: {error}") from error
        raise ValueError(f"{text!r} is not a CID (base58 or base32 expected)")

    def __str__(self) -> str:
        return self.text


# ---------------------------------------------------------------------------------------------------------------
# Requests
# ---------------------------------------------------------------------------------------------------------------


class FailureReason(IntEnum):
    """Why a request cannot be answered; the numbers are the contract's ``FailureReason``."""

    NONE = 0
    IMAGE_UNAVAILABLE = 1
    IMAGE_TOO_LARGE = 2
    IMAGE_UNREADABLE = 3
    IMAGE_UNSUPPORTED = 4
    MODEL_UNAVAILABLE = 5
    COMPUTE_FAILED = 6

    @property
    def text(self) -> str:
        """A sentence for the person who asked."""
        return _REASON_TEXT[self]


_REASON_TEXT = {
    FailureReason.NONE: "no failure",
    FailureReason.IMAGE_UNAVAILABLE: "no node delivered the picture in time; pin it and ask again",
    FailureReason.IMAGE_TOO_LARGE: "the picture has too many bytes or pixels; send a smaller one",
    FailureReason.IMAGE_UNREADABLE: "the CID does not name a whole, readable picture",
    FailureReason.IMAGE_UNSUPPORTED: (
        "the picture's format is not accepted; send PNG, JPEG, WebP or GIF without animation"
    ),
    FailureReason.MODEL_UNAVAILABLE: "nobody here can run this model",
    FailureReason.COMPUTE_FAILED: "every attempt to run the model failed",
}


class OnChainStatus(IntEnum):
    """The contract's ``Status`` of a request."""

    UNKNOWN = 0
    PENDING = 1
    FULFILLED = 2
    CALLBACK_FAILED = 3
    FAILED = 4
    REFUNDED = 5
    CANCELLED = 6


class RequestStatus(StrEnum):
    """Where a request stands in the oracle; the column is the queue. ``TRANSITIONS`` lists the legal moves."""

    SEEN = "seen"  # its log is in a block that may still be reorganised away
    ORPHANED = "orphaned"  # its block is gone; waits to be mined again
    CONFIRMED = "confirmed"  # deep enough to spend on; waits for intake
    READY = "ready"  # picture fetched, verified and checked; waits for a batch
    COMPUTING = "computing"  # member of a batch at a compute backend
    COMPUTED = "computed"  # result pinned, answer known; waits for a report
    FAILED = "failed"  # permanent failure with a reason; waits for a report
    POSTING = "posting"  # inside a signed and saved transaction
    FULFILLED = "fulfilled"  # answer on-chain, receipt confirmed
    REJECTED = "rejected"  # failure on-chain, money back, receipt confirmed
    EXPIRED = "expired"  # deadline passed unanswered; refundable by anyone with the id
    REFUNDED = "refunded"  # money back after the deadline
    CANCELLED = "cancelled"  # taken back by its requester before anything was spent on it


_S = RequestStatus
_SETTLED_ELSEWHERE = frozenset({_S.ORPHANED, _S.FULFILLED, _S.REJECTED, _S.REFUNDED, _S.CANCELLED})
# Where a request stands again when a reorg takes its settlement away: in our open report, with the answer or the
# failure we hold, or at the start when somebody else had settled it before we held either.
_UNSETTLED = frozenset({_S.ORPHANED, _S.SEEN, _S.COMPUTED, _S.FAILED, _S.POSTING})

TRANSITIONS: Mapping[RequestStatus, frozenset[RequestStatus]] = {
    _S.SEEN: frozenset({_S.CONFIRMED}) | _SETTLED_ELSEWHERE,
    _S.ORPHANED: frozenset({_S.SEEN}),
    _S.CONFIRMED: frozenset({_S.CONFIRMED, _S.READY, _S.FAILED, _S.EXPIRED}) | _SETTLED_ELSEWHERE,
    _S.READY: frozenset({_S.CONFIRMED, _S.COMPUTING, _S.FAILED, _S.EXPIRED}) | _SETTLED_ELSEWHERE,
    _S.COMPUTING: frozenset({_S.COMPUTED, _S.READY, _S.FAILED, _S.EXPIRED}) | _SETTLED_ELSEWHERE,
    _S.COMPUTED: frozenset({_S.COMPUTED, _S.POSTING, _S.EXPIRED}) | _SETTLED_ELSEWHERE,
    _S.FAILED: frozenset({_S.FAILED, _S.POSTING, _S.EXPIRED}) | _SETTLED_ELSEWHERE,
    _S.POSTING: frozenset({_S.COMPUTED, _S.FAILED, _S.EXPIRED}) | _SETTLED_ELSEWHERE,
    _S.FULFILLED: _UNSETTLED,
    _S.REJECTED: _UNSETTLED,
    _S.EXPIRED: _SETTLED_ELSEWHERE,
    _S.REFUNDED: frozenset({_S.EXPIRED}) | _UNSETTLED,
    _S.CANCELLED: _UNSETTLED,
}
"""Every legal move; one from a status to itself is a try that will be repeated later.

A settled request moves again only when a reorg takes its settlement away.
"""

TERMINAL = frozenset({_S.FULFILLED, _S.REJECTED, _S.REFUNDED, _S.CANCELLED})


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block by number and hash (32 bytes), with its timestamp in Unix seconds."""

    number: int
    hash: bytes
    timestamp: int


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where a log was found."""

    block: BlockRef
    transaction_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """What an ``InferenceRequested`` log and its block say: who asks which model about which picture, for how much."""

    request_id: bytes  # 32 bytes
    model_id: int
    requester: str  # checksum address
    image_cid: Cid
    payment: int  # smallest parts of the model's token, wei for ether
    callback_gas: int
    deadline: int  # Unix seconds
    nonce: int
    created_at: int  # Unix seconds, the time of its block


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """An ``InferenceRequested`` log at its position."""

    request: InferenceRequest
    position: LogPosition


@dataclass(frozen=True, slots=True)
class RequestSettled:
    """A log that ends a request on-chain, whoever posted it: fulfilled, failed with a reason, refunded or cancelled.

    ``status`` is FULFILLED, FAILED, REFUNDED or CANCELLED.
    """

    request_id: bytes
    status: OnChainStatus
    position: LogPosition
    reason: FailureReason = FailureReason.NONE
    result_cid: Cid | None = None
    answer: bytes = b""


ChainEvent = RequestSeen | RequestSettled


@dataclass(frozen=True, slots=True)
class OnChainModel:
    """A model as the registry holds it. ``token`` is the ERC-20 that it is priced in, None for ether.

    ``share`` is the publisher's part of each payment, in basis points; the operator gets the rest.
    """

    model_id: int
    manifest_cid: Cid
    price: int  # smallest parts of the token
    payout: str
    active: bool
    token: str | None = None
    share: int = 0


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the image check learnt: ``format`` is Pillow's name (PNG, JPEG ...), sizes in pixels and bytes."""

    format: str
    width: int
    height: int
    size: int


# ---------------------------------------------------------------------------------------------------------------
# Models
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """A model's manifest, checked. ``document`` is the whole JSON as published; the oracle acts on the fields."""

    name: str
    task: str  # "classification", "instance-segmentation" or "semantic-segmentation"
    engine: str  # "keras" or "tflite"
    weights_cid: Cid
    weights_sha256: str
    labels: tuple[str, ...]
    top_k: int  # labels, or segments at most, in a result
    document: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServableModel:
    """A model whose manifest and weights are on this machine, verified, and that a backend can run."""

    model_id: int
    manifest_cid: Cid
    manifest: ModelManifest
    weights: Path


# ---------------------------------------------------------------------------------------------------------------
# Compute
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskInput:
    """One picture of a task: the request it answers, its CID, where its bytes lie and how many there are."""

    request_id: bytes
    image_cid: Cid
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class ComputeTask:
    """A batch as a backend receives it. ``key`` makes submission idempotent; ``budget`` is in the backend's unit.

    Zero is no bound. It runs at ``provider`` alone if one is named, at none of ``avoid``, and no two tasks of the same
    ``apart`` run at one provider. A backend without providers to choose from takes no notice.
    """

    key: str
    model: ServableModel
    inputs: tuple[TaskInput, ...]
    deadline: float
    budget: int = 0
    provider: str = ""
    avoid: frozenset[str] = frozenset()
    apart: str = ""


class TaskPhase(StrEnum):
    """What a compute event tells."""

    QUEUED = "queued"
    STARTED = "started"
    FINISHED = "finished"
    LOST = "lost"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ComputeEvent:
    """Progress of a task at a provider."""

    key: str
    phase: TaskPhase
    at: float
    provider: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One class of a classification; probability 0 to 1."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class SegmentScore:
    """One object of a segmentation, or all that is of one class; score 0 to 1.

    ``box`` is (y1, x1, y2, x2) in pixels of the upright picture, y2 and x2 outside; ``mask`` is COCO's run-length
    encoding of its ``area`` pixels.
    """

    index: int
    label: str
    score: float
    box: tuple[float, float, float, float]
    area: int
    mask: str = field(repr=False)

    @property
    def pixel_box(self) -> tuple[int, int, int, int]:
        """The box in whole pixels, none of its own left out."""
        y1, x1, y2, x2 = self.box
        return math.floor(y1), math.floor(x1), math.ceil(y2), math.ceil(x2)


@dataclass(frozen=True, slots=True)
class ItemResult:
    """The outcome for one input: what the model's task gives, or the reason it failed.

    Of a classification, ``labels`` by falling probability. Of a segmentation, the ``size`` of the upright picture
    (width, height), ``segments`` by falling score and how many were ``found`` in all. ``familiarity``: 1 to 255, how
    close the picture is to what the model was trained on; 0 when it was not measured.
    """

    request_id: bytes
    labels: tuple[LabelScore, ...] = ()
    failure: FailureReason = FailureReason.NONE
    detail: str = ""
    size: tuple[int, int] | None = None
    segments: tuple[SegmentScore, ...] = ()
    found: int = 0
    familiarity: int = 0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a provider returned for a task, schema-checked. Seconds; ``inference`` excludes the model's load."""

    key: str
    provider: str
    items: tuple[ItemResult, ...]
    started: float
    finished: float
    inference: float
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can run and how much at once."""

    backend: str
    tasks: frozenset[str]
    engines: frozenset[str]
    slots: int
    max_inputs: int = 16
    max_payload: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Quote:
    """A provider's offer for a task: price in the backend's unit, expected seconds."""

    provider: str
    price: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a provider was paid for a task, in the backend's unit."""

    key: str
    provider: str
    amount: int


# ---------------------------------------------------------------------------------------------------------------
# Reports
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fulfilment:
    """One item of a report: an answer with its result CID, or a failure with its reason."""

    request_id: bytes
    failure: FailureReason = FailureReason.NONE
    result_cid: Cid | None = None
    answer: bytes = b""
    callback_gas: int = 0


@dataclass(frozen=True, slots=True)
class Fees:
    """EIP-1559 fees in wei per gas."""

    max_fee: int
    max_priority_fee: int


@dataclass(frozen=True, slots=True)
class SignedReport:
    """A signed transaction that carries a report; saved before it is broadcast."""

    transaction_hash: bytes
    raw: bytes
    nonce: int
    fees: Fees
    gas_limit: int
    request_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReportReceipt:
    """What the chain made of a report. ``settled`` and ``skipped`` come from its logs."""

    transaction_hash: bytes
    block: BlockRef
    succeeded: bool
    gas_used: int
    effective_gas_price: int
    settled: tuple[RequestSettled, ...]
    skipped: Mapping[bytes, OnChainStatus]
    callback_failed: frozenset[bytes]
