"""What a requester does: upload a picture, ask, wait, read the result, take the money back. Signs on this machine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from oracle.answers import ClassificationAnswer
from oracle.chain.account import AccountSender, Ask, Asked
from oracle.chain.checks import verify_deployment
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.deployment import account_of, coordinator_address, fee_policy
from oracle.chain.rpc import Rpc
from oracle.content.ipfs import IpfsContentStore
from oracle.domain import ChainEvent, Cid, ModelManifest, OnChainModel, OnChainStatus, RequestSeen, RequestSettled
from oracle.errors import ContentCorrupt, PermanentFailure, Retryable, RpcRangeRefused, SibylError
from oracle.manifests import MAX_BYTES as MANIFEST_MAX_BYTES
from oracle.manifests import read_manifest
from oracle.settings import Settings

RESULT_LIMIT = 64 * 1024 * 1024
DEFAULT_DEADLINE = 600  # seconds


class UnknownRequest(SibylError):
    """The coordinator holds no request with this id."""


class NotAnsweredYet(SibylError):
    """The wait ended before the request did."""


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of the registry with its manifest, or why that cannot be read."""

    on_chain: OnChainModel
    manifest: ModelManifest | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The manifest's name, or the number."""
        return self.manifest.name if self.manifest else f"model {self.on_chain.model_id}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: the settlement on-chain and, when it was answered, the verified result document."""

    asked: RequestSeen
    settled: RequestSettled
    answer: ClassificationAnswer | None
    document: Mapping[str, Any] | None
    raw: bytes = b""

    @property
    def label(self) -> str:
        """The best label, or an empty text."""
        return str(self.document["labels"][0]["label"]) if self.document else ""


class Client:
    """A requester's view of one deployment. Every method raises SibylError's leaves, each with a remedy."""

    def __init__(self, settings: Settings, rpc: Rpc, reader: CoordinatorReader, chain_id: int) -> None:
        self.settings, self.rpc, self.reader, self._chain_id = settings, rpc, reader, chain_id
        self.content = IpfsContentStore(settings.ipfs_api)
        self._sender: AccountSender | None = None

    @property
    def sender(self) -> AccountSender:
        """The requester's account; its key is read on first use. Raises ConfigurationError."""
        if self._sender is None:
            account = account_of("requester", self.settings)
            self._sender = AccountSender(self.rpc, account, self._chain_id, fee_policy(self.settings))
        return self._sender

    async def models(self) -> list[ListedModel]:
        """Every model of the registry, in the order of publication."""
        return list(await asyncio.gather(*(self._listed(model) for model in await self.reader.models())))

    async def model(self, name: str) -> ListedModel:
        """The newest active model of that name, or the one with that number. Raises SibylError when there is none."""
        known = await self.models()
        for model in reversed(known):
            if name == str(model.on_chain.model_id) or (model.on_chain.active and name == model.name):
                return model
        names = ", ".join(sorted({model.name for model in known if model.on_chain.active})) or "none"
        raise SibylError(f"there is no model {name!r}", remedy=f"Choose one of: {names}. See `sibyl models`.")

    async def upload(self, picture: bytes) -> Cid:
        """Pin a picture; its CID."""
        (cid,) = await self.content.add([picture])
        return cid

    async def ask(
        self, model_id: int, image: Cid, *, deadline: float = DEFAULT_DEADLINE, callback_gas: int = 0
    ) -> Asked:
        """Pay for one prediction; ``deadline`` in seconds from the newest block."""
        until = await self.deadline(deadline)
        return await self.sender.request_inference(self.reader.address, Ask(model_id, image, until, callback_gas))

    async def deadline(self, seconds: float) -> int:
        """A deadline that many seconds after the chain's own time (or this machine's, whichever is later)."""
        return int(max(time.time(), (await self.reader.head()).timestamp) + seconds)

    async def wait(self, request_id: bytes, *, timeout: float) -> Outcome:
        """Wait until the request ends. Raises NotAnsweredYet after ``timeout`` seconds, UnknownRequest."""
        until = time.monotonic() + timeout
        pause = min(0.1, self.settings.poll_interval)
        while (await self.reader.request_of(request_id)).status is OnChainStatus.PENDING:
            if time.monotonic() > until:
                raise NotAnsweredYet(
                    f"no answer to 0x{request_id.hex()} within {timeout:g} s",
                    remedy="It may still come: `sibyl result ID` later, or `sibyl refund ID` after its deadline.",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self.settings.poll_interval)
        return await self.outcome(request_id)

    async def outcome(self, request_id: bytes) -> Outcome:
        """How a request ended, its result read by CID and compared with the chain.

        Raises UnknownRequest, NotAnsweredYet, ContentUnavailable, and ContentCorrupt when the document and the chain
        disagree.
        """
        asked, settled = await self.history(request_id)
        if asked is None:
            raise UnknownRequest(
                f"the coordinator has no request 0x{request_id.hex()}",
                remedy="Check the id, the chain and the address.",
            )
        if settled is None:
            raise NotAnsweredYet(f"0x{request_id.hex()} is still pending", remedy="Wait, or look at `sibyl status`.")
        if settled.status is not OnChainStatus.FULFILLED or settled.result_cid is None:
            return Outcome(asked, settled, None, None)
        raw = await self.content.fetch(settled.result_cid, limit=RESULT_LIMIT, timeout=self.settings.fetch_timeout)
        answer = ClassificationAnswer.decode(settled.answer)
        document = json.loads(raw)
        await self._compare(asked, settled, answer, document)
        return Outcome(asked, settled, answer, document, raw)

    async def history(self, request_id: bytes) -> tuple[RequestSeen | None, RequestSettled | None]:
        """A request's logs: how it was asked and how it ended, as far as it has."""
        head = await self.reader.head()
        asked: RequestSeen | None = None
        settled: RequestSettled | None = None
        for event in await self._events(request_id, self.settings.start_block, head.number):
            if isinstance(event, RequestSeen):
                asked = event
            else:
                settled = event
        return asked, settled

    async def _events(self, request_id: bytes, first: int, last: int) -> list[ChainEvent]:
        """A request's logs in [first, last], in halves where the endpoint refuses the whole."""
        try:
            return list(await self.reader.events(first, last, request_id=request_id))
        except RpcRangeRefused:
            if first >= last:
                raise
            middle = (first + last) // 2
            older = await self._events(request_id, first, middle)
            return older + await self._events(request_id, middle + 1, last)

    async def refund(self, request_id: bytes) -> bytes:
        """Send the money of an unanswered request back after its deadline; the transaction's hash."""
        return (await self.sender.refund(self.reader.address, request_id)).transaction_hash

    async def _listed(self, model: OnChainModel) -> ListedModel:
        try:
            data = await self.content.fetch(
                model.manifest_cid, limit=MANIFEST_MAX_BYTES, timeout=self.settings.fetch_timeout
            )
            return ListedModel(model, read_manifest(data))
        except (PermanentFailure, Retryable) as error:
            return ListedModel(model, None, str(error))

    async def _compare(
        self, asked: RequestSeen, settled: RequestSettled, answer: ClassificationAnswer, document: Mapping[str, Any]
    ) -> None:
        request, cid = asked.request, settled.result_cid
        top = document["labels"][0]
        same = (
            document["request"] == "0x" + request.request_id.hex()
            and document["input"]["cid"] == request.image_cid.text
            and top["index"] == answer.entries[0].class_index
            and abs(top["probability"] * 10_000 - answer.entries[0].confidence_bps) <= 1
        )
        if cid is None or not same:
            raise ContentCorrupt("the result document and the answer on-chain disagree", remedy="Do not trust either.")
        if not await self.reader.verify_result(request.request_id, request.requester, cid, settled.answer):
            raise ContentCorrupt("the coordinator does not vouch for this result", remedy="Do not trust it.")


@asynccontextmanager
async def connect(settings: Settings) -> AsyncIterator[Client]:
    """A client of the configured deployment. Raises WrongChain, RpcUnavailable, ConfigurationError."""
    rpc = Rpc(settings.rpc_url, timeout=settings.rpc_timeout)
    client: Client | None = None
    try:
        address = coordinator_address(settings)
        chain_id = await verify_deployment(rpc, address, settings.chain_id)
        client = Client(settings, rpc, CoordinatorReader(rpc, address, chain_id), chain_id)
        yield client
    finally:
        if client is not None:
            await client.content.close()
        await rpc.close()
