"""What the API needs of the world, as Protocols; only ``oracle.web`` names the adapters behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from oracle.domain import BlockRef, Cid, ModelManifest, OnChainModel, RequestStatus
from oracle.market import Provider
from oracle.views import Figures, ModelSpeed, Place, RequestPage, RequestView


class Reads(Protocol):
    """The oracle's database, read beside it. Every method raises StoreError while there is none."""

    def mark(self) -> object | None:
        """Something that differs from the last when the database may say something else; None while there is none.

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


@dataclass(frozen=True, slots=True)
class World:
    """All that the API reads and writes. What is None is not offered here."""

    reads: Reads
    chain: ChainView
    content: Content
    open_content: Content
    """For CIDs that anybody may name: what hangs there keeps nothing else waiting."""
    examples: Examples | None = None
