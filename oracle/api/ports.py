"""What the API needs of the world, as Protocols; only ``oracle.web`` names the adapters behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from oracle.domain import BlockRef, Cid, ModelManifest, OnChainModel, RequestStatus
from oracle.market import Provider
from oracle.ports import ImageInspector
from oracle.views import Figures, ModelSpeed, Place, RequestPage, RequestView, Upload


class Reads(Protocol):
    """The oracle's database, read beside it. Every method raises StoreError while there is none."""

    def mark(self) -> object | None:
        """Something that differs from the last when the database may say something else; None while there is none.

        Microseconds, on the event loop.
        """

    def last_move(self, request_id: bytes) -> object | None:
        """Something that differs from the last when the request has moved since; None where that cannot be told.

        Microseconds, on the event loop.
        """

    async def request(self, request_id: bytes) -> RequestView | None:
        """One request, or None."""

    async def requests(
        self,
        *,
        account: str | None = None,
        model: int | None = None,
        status: RequestStatus | None = None,
        after: Place | None = None,
        limit: int = 20,
    ) -> RequestPage:
        """Requests of an account (checksum address), a model, in a status, newest first, beyond a place."""

    async def figures(self, since: float, points: int) -> Figures:
        """What was asked and answered since a time (Unix seconds)."""

    async def speeds(self) -> Mapping[int, ModelSpeed]:
        """How each model did."""

    async def providers(self) -> Sequence[Provider]:
        """Every provider ever seen."""

    async def named(self, cids: Sequence[Cid]) -> frozenset[Cid]:
        """Which of these a request names as its picture."""

    async def scanned(self) -> BlockRef | None:
        """The last block that the oracle looked at."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The chain and the coordinator that the API speaks for."""

    chain_id: int
    coordinator: str
    cancel_window: int


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """An ERC-20's symbol, as it came, and its decimals."""

    symbol: str
    decimals: int


class ChainView(Protocol):
    """The coordinator through an RPC endpoint. Every method raises RpcUnavailable."""

    async def deployment(self) -> Deployment:
        """What the coordinator's rules are; remembered."""

    async def head(self) -> BlockRef:
        """The newest block."""

    async def models(self) -> Sequence[OnChainModel]:
        """Every registered model by number."""

    async def quote(self, model_id: int, callback_gas: int) -> int:
        """What one request costs now, in the model's token. Raises ChainError where it is not sold."""

    async def token(self, address: str) -> TokenFacts:
        """What an ERC-20 says of itself. Raises ChainError where it says nothing."""


class Content(Protocol):
    """Content by CID, every byte hashed here. Raises ContentError's leaves."""

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """The file's bytes."""

    async def fetch_block(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """The bytes of the one block that the CID names."""

    async def version(self, *, timeout: float = 5.0) -> str:
        """A sign of life."""


class Examples(Protocol):
    """Example pictures of our own pen."""

    def has(self, manifest: ModelManifest) -> bool:
        """Whether there is one for such a model."""

    async def picture(self, manifest: ModelManifest) -> bytes | None:
        """A PNG, or None."""


class Pins(Protocol):
    """Stores content. Raises ContentUnavailable and ContentCorrupt."""

    async def name(self, content: bytes | Path) -> Cid:
        """The CID that a file will have; nothing is stored."""

    async def hold(self, content: bytes | Path) -> Cid:
        """Store and pin a file, in a way that ``let_go`` undoes without touching anybody else's pin of it."""

    async def let_go(self, cid: Cid) -> None:
        """Unpin what ``hold`` pinned; twice is no error."""


class UploadBook(Protocol):
    """What was uploaded and nobody has asked about yet. Every method raises StoreError."""

    async def note(self, cid: Cid, size: int, client: str, *, client_limit: int, total_limit: int) -> None:
        """Count an upload before it is pinned, within limits in bytes: for a client in 24 hours, and for all.

        One that is in here begins anew. Raises TooMuchUploaded, UploadsFull.
        """

    async def page(self, after: Cid | None, limit: int) -> Sequence[Upload]:
        """What is in here, in the order of CIDs, beyond one."""

    async def came(self, cid: Cid) -> float | None:
        """When an upload last came; None for what is not in here."""

    async def forget(self, cids: Sequence[Cid]) -> None:
        """Count these no more."""


class Web(Protocol):
    """Fetches from addresses that anybody may name."""

    async def fetch(self, url: str, *, limit: int, client: str = "") -> bytes:
        """At most ``limit`` bytes, one address of a client at a time.

        Raises AddressRefused, ContentTooLarge, ContentUnavailable, FetcherBusy.
        """


@dataclass(frozen=True, slots=True)
class SignedWish:
    """That an account wants a picture computed by a provider, or, empty, by any; signed by it at a time (Unix seconds).

    The signature is over typed data (EIP-712), or what the account's contract takes for one (ERC-1271).
    """

    requester: str
    image_cid: Cid
    provider: str
    signed_at: int
    signature: bytes


class Wishes(Protocol):
    """Where requesters leave their wishes for a provider."""

    async def take(self, wish: SignedWish) -> None:
        """Before the request is made; the newest wish of an account for a picture stands for an hour.

        Raises WishNotSigned, WishTaken, Retryable, ConfigurationError, RpcUnavailable, and ValueError for what can be
        no provider's name.
        """


@dataclass(frozen=True, slots=True)
class Holder:
    """On whose account the gateway asks: a key's name, or nobody's; ``limit`` in wei for 24 hours.

    ``scope`` is within what an idempotency key counts.
    """

    name: str
    limit: int
    scope: str


@dataclass(frozen=True, slots=True)
class Paid:
    """A request that the gateway paid for, in wei, and that is on-chain; ``deadline`` in Unix seconds."""

    request_id: bytes
    transaction_hash: bytes
    payment: int
    model_id: int
    image_cid: Cid
    deadline: int


class Payer(Protocol):
    """Pays for requests of the API's users from a prepaid balance."""

    @property
    def address(self) -> str:
        """The account that pays."""

    async def holder(self, token: str | None, client: str) -> Holder:
        """Who pays with this key, or without one as this client; never waits for the chain. Raises KeyNeeded."""

    async def affordable(self, holder: Holder, model_id: int) -> int:
        """What the model costs, in wei, if it can be asked now. Raises what ``ask`` raises; nothing is reserved."""

    async def ask(
        self, holder: Holder, model_id: int, image_cid: Cid, *, provider: str = "", idempotency: str | None = None
    ) -> Paid:
        """Pay and ask; the same idempotency key again gives the same request.

        Raises ModelNotSold, BalanceTooLow, DayLimitReached, AskedOtherwise, StillAsking, WishTaken, ChainError.
        """

    async def begun(self, holder: Holder, model_id: int, image_cid: Cid, idempotency: str) -> Paid | None:
        """The request that this idempotency key gave already, or None. Raises what ``ask`` raises."""

    async def paid(self, request_id: bytes) -> Paid | None:
        """A request that it paid for, or None; never waits for the chain."""


@dataclass(frozen=True, slots=True)
class Writes:
    """What takes part when something is uploaded or asked. ``folder`` is for files on their way; without ``payer``
    nobody pays here."""

    pins: Pins
    book: UploadBook
    inspector: ImageInspector
    web: Web
    wishes: Wishes
    folder: Path
    payer: Payer | None = None


@dataclass(frozen=True, slots=True)
class World:
    """All that the API reads and writes. What is None is not offered here."""

    reads: Reads
    chain: ChainView
    content: Content
    open_content: Content
    """For CIDs that anybody may name: what hangs there keeps nothing else waiting."""
    examples: Examples | None = None
    gateway: str | None = None
    """Address of the account that pays for users, where there is one."""
    writes: Writes | None = None
