"""What a requester does: upload a picture, ask, wait, read the result, take the money back. Signs on this machine."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from oracle.answers import MAX_INSTANCES, Answer, ClassificationAnswer, SegmentationAnswer, decode_answer
from oracle.chain.account import AccountSender, Ask, Asked, money
from oracle.chain.checks import verify_deployment
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.deployment import Role, account_of, coordinator_address, fee_policy
from oracle.chain.rpc import Rpc
from oracle.content.ipfs import IpfsContentStore
from oracle.documents import pixel_box, read_result
from oracle.domain import ChainEvent, Cid, ModelManifest, OnChainModel, OnChainStatus, RequestSeen, RequestSettled
from oracle.errors import ContentCorrupt, PermanentFailure, Retryable, RpcRangeRefused, RpcUnavailable, SibylError
from oracle.manifests import MAX_BYTES as MANIFEST_MAX_BYTES
from oracle.manifests import read_manifest
from oracle.settings import Settings

RESULT_LIMIT = 8 * 1024 * 1024
DEFAULT_DEADLINE = 600  # seconds
SHORTEST_DEADLINE = 30  # seconds, the coordinator's own rule
LAG = 5.0  # seconds in which the nodes behind one address come to agree on a new block
MANIFEST_SECONDS = 5.0  # for one manifest of the registry, which anyone may have published
REGISTRY_SECONDS = 30.0  # for all of them
_UNREAD = "not read: too many manifests are slow to come"
_MANIFESTS_AT_ONCE = 8
_SHOWN = 8  # models that an error names
_PNG = b"\x89PNG\r\n\x1a\n"
_DISTRUST = "Do not trust either."


class UnknownRequest(SibylError):
    """The coordinator holds no request with this id."""


class NotAnsweredYet(SibylError):
    """The wait ended before the request did."""


class NothingToWithdraw(SibylError):
    """The coordinator holds nothing for the account, or nothing that the model earned."""


class NotYours(SibylError):
    """Another account made the request."""


class NotCancellable(SibylError):
    """The coordinator takes no request back, or this one has ended."""


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
    answer: Answer | None
    document: Mapping[str, Any] | None
    raw: bytes = b""

    @property
    def confidence(self) -> float | None:
        """The best label's, or the best segment's; None where there is neither."""
        if isinstance(self.answer, ClassificationAnswer):
            return self.answer.entries[0].confidence_bps / 10_000
        return self.answer.instances[0].score_bps / 10_000 if self.answer and self.answer.instances else None

    @property
    def label(self) -> str:
        """The best label, or how many segments there are of each; an empty text where there is no answer."""
        if self.document is None:
            return ""
        if "labels" in self.document:
            return str(self.document["labels"][0]["label"])
        return tally(str(segment["label"]) for segment in self.document["segments"])


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
        return await self._with_manifests(await self.reader.models())

    async def model(self, choice: str | None = None) -> ListedModel:
        """The model of that number or name; None means the deployment's own.

        Anyone may publish a model of any name. So digits are a number and nothing else, and a name counts when one
        active model alone bears it, or the deployment's own does. Raises SibylError with what there is to choose.
        """
        if choice is None:
            if self.settings.default_model is None:
                raise SibylError(
                    "this deployment names no model of its own",
                    remedy="Choose one by number with --model (`sibyl models` lists them), or set SIBYL_DEFAULT_MODEL.",
                )
            return await self._numbered(self.settings.default_model)
        if choice.isascii() and choice.isdigit():
            return await self._numbered(int(choice) if len(choice) < 78 else 0)  # a uint256 has at most 78 digits
        return await self._named(choice)

    async def _numbered(self, number: int) -> ListedModel:
        model = await self.registered(number)
        if not model.active:
            raise SibylError(
                f"model {number} is paused by its publisher", remedy="Choose another: `sibyl models` lists them."
            )
        (listed,) = await self._with_manifests([model])
        return listed

    async def registered(self, number: int) -> OnChainModel:
        """A model of the registry by its number, active or not. Raises SibylError."""
        model = await self.reader.model(number) if number else None
        if model is None:
            raise SibylError(f"the registry holds no model {number}", remedy="See `sibyl models`.")
        return model

    async def _named(self, name: str) -> ListedModel:
        active = [model for model in await self.reader.models() if model.active]
        trusted = [model for model in active if model.model_id == self.settings.default_model]
        for own in await self._with_manifests(trusted):
            if own.manifest is not None and own.name == name:
                return own
        known = await self._with_manifests(active)
        bearers = [model for model in known if model.manifest is not None and model.name == name]
        if any(model.problem == _UNREAD for model in known):
            raise SibylError(
                f"the registry's manifests are too slow to come to know which models bear the name {name!r}",
                remedy="Choose by number: --model NUMBER.",
            )
        if len(bearers) == 1:
            return bearers[0]
        if bearers:
            listed = "; ".join(
                f"{model.on_chain.model_id} ({money(model.on_chain.price, model.on_chain.token)}, "
                f"paid to {model.on_chain.payout})"
                for model in bearers[:_SHOWN]
            )
            more = f"; and {len(bearers) - _SHOWN} more" if len(bearers) > _SHOWN else ""
            raise SibylError(
                f"{len(bearers)} active models bear the name {name!r}: {listed}{more}",
                remedy="Choose by number, the publisher that you trust: --model NUMBER.",
            )
        names = sorted({model.name for model in known})
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise SibylError(
            f"there is no active model {name!r}", remedy=f"Choose one of: {shown or 'none'}. See `sibyl models`."
        )

    async def upload(self, pictures: Sequence[bytes]) -> Sequence[Cid]:
        """Pin pictures; their CIDs."""
        return await self.content.add(pictures) if pictures else []

    async def ask(
        self,
        model: OnChainModel,
        images: Sequence[Cid],
        *,
        deadline: float = DEFAULT_DEADLINE,
        max_price: int | None = None,
        from_balance: bool = False,
    ) -> list[Asked]:
        """Ask one model about pictures in one transaction, from the account's balance if so chosen.

        ``max_price`` in the model's token bounds each. Raises TooDear and SibylError before anything is sent.
        """
        window = await self.reader.cancel_window()
        if deadline < window + SHORTEST_DEADLINE:
            raise SibylError(
                f"nobody begins before the {window} s are over in which a request can be cancelled, so a deadline "
                f"{deadline:g} s from now would pass unanswered",
                remedy=f"Choose a later one: --deadline {2 * window + DEFAULT_DEADLINE}.",
            )
        if model.token is not None and not from_balance:
            raise SibylError(
                f"model {model.model_id} is priced in the token {model.token}",
                remedy="Put tokens into your balance with the coordinator's depositToken, then use --from-balance.",
            )
        until, address = await self.deadline(deadline), self.reader.address
        if len(images) == 1 and not from_balance:
            ask = Ask(model.model_id, images[0], until)
            return [await self.sender.request_inference(address, ask, max_price=max_price)]
        return await self.sender.request_many(
            address, model.model_id, images, until, max_price=max_price, from_balance=from_balance
        )

    async def deadline(self, seconds: float) -> int:
        """A deadline that many seconds after the chain's own time (or this machine's, whichever is later)."""
        return int(max(time.time(), (await self.reader.head()).timestamp) + seconds)

    async def wait(self, request_id: bytes, *, timeout: float) -> Outcome:
        """Wait until the request ends, through an endpoint's bad moments.

        Raises NotAnsweredYet after ``timeout`` seconds, UnknownRequest, and what ``outcome`` raises.
        """
        until = time.monotonic() + timeout
        pause = min(0.1, self.settings.poll_interval)
        ended: float | None = None  # when a node first said so; the node that serves the logs may lag behind it
        while True:
            trouble: SibylError | None = None
            try:
                if (await self.reader.request_of(request_id)).status is OnChainStatus.PENDING:
                    ended = None
                else:
                    ended = ended or time.monotonic()
                    return await self.outcome(request_id)
            except (RpcUnavailable, NotAnsweredYet, UnknownRequest) as error:
                trouble = error
            agreed = ended is None or time.monotonic() > ended + LAG
            if agreed and isinstance(trouble, NotAnsweredYet | UnknownRequest):
                raise trouble
            if agreed and time.monotonic() > until:
                why = f" ({trouble})" if trouble else ""
                raise NotAnsweredYet(
                    f"no answer to 0x{request_id.hex()} within {timeout:g} s{why}",
                    remedy="It may still come: `sibyl result ID` later, or `sibyl refund ID` after its deadline.",
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, self.settings.poll_interval)

    async def outcome(self, request_id: bytes) -> Outcome:
        """How a request ended, its result read by CID and compared with the chain.

        Raises UnknownRequest, NotAnsweredYet, ContentUnavailable, and ContentCorrupt when the document and the chain
        disagree.
        """
        asked, settled = await self.history(request_id)
        if asked is None:
            raise _unknown(request_id)
        if settled is None:
            raise NotAnsweredYet(f"0x{request_id.hex()} is still pending", remedy="Wait, or look at `sibyl status`.")
        if settled.status is not OnChainStatus.FULFILLED or settled.result_cid is None:
            return Outcome(asked, settled, None, None)
        raw = await self.content.fetch(settled.result_cid, limit=RESULT_LIMIT, timeout=self.settings.fetch_timeout)
        try:
            answer = decode_answer(settled.answer)
        except ValueError as error:
            raise ContentCorrupt(
                f"the answer on-chain cannot be read: {error}", remedy="A newer Sibyl may know its form."
            ) from None
        document = read_result(raw)
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

    async def cancel(self, request_id: bytes) -> bytes:
        """Take a request of this account back while that is possible; the transaction's hash.

        Raises UnknownRequest, NotYours and NotCancellable before anything is sent.
        """
        if await self.reader.cancel_window() == 0:
            raise NotCancellable(
                "this coordinator has no cancel window", remedy="After its deadline: `sibyl refund ID`."
            )
        asked, settled = await self.history(request_id)
        if asked is None:
            raise _unknown(request_id)
        if settled is not None:
            raise NotCancellable(
                f"0x{request_id.hex()} has ended: {settled.status.name.lower()}", remedy="See `sibyl result ID`."
            )
        if asked.request.requester != self.sender.address:
            raise NotYours(
                f"{asked.request.requester} made 0x{request_id.hex()}, not {self.sender.address}",
                remedy="Use the key of the account that asked.",
            )
        return (await self.sender.cancel(self.reader.address, asked.request)).transaction_hash

    async def deposit(self, amount: int) -> tuple[str, int]:
        """Put ``amount`` wei into the requester's balance; its address and the balance then."""
        await self.sender.deposit(self.reader.address, amount)
        return self.sender.address, await self.reader.balance_of(None, self.sender.address)

    async def withdraw(self, role: Role, token: str | None = None) -> tuple[str, int]:
        """Pull an account's whole balance in a token (None: ether); its address and what was paid out.

        Raises NothingToWithdraw before anything is sent.
        """
        sender = self._sender_of(role)
        if await self.reader.balance_of(token, sender.address) == 0:
            raise NothingToWithdraw(
                f"{sender.address} has no balance at the coordinator",
                remedy="Money comes into it with answered requests, refunds and deposits.",
            )
        return sender.address, await sender.withdraw(self.reader.address, token=token)

    async def withdraw_earnings(self, role: Role, model_id: int) -> tuple[str, int]:
        """Pull what a model has earned, as its payout account; that account and what was paid out in its token.

        Raises NothingToWithdraw and NotYours before anything is sent.
        """
        model, sender = await self.registered(model_id), self._sender_of(role)
        if model.payout != sender.address:
            raise NotYours(
                f"what model {model_id} earns is {model.payout}'s, not {sender.address}'s",
                remedy="Use that account's key (SIBYL_PUBLISHER_KEY_FILE), or --role.",
            )
        if await self.reader.earnings_of(model_id) == 0:
            raise NothingToWithdraw(
                f"model {model_id} has earned nothing since the last time", remedy="Wait for answered requests."
            )
        return sender.address, await sender.withdraw_earnings(self.reader.address, model_id)

    def _sender_of(self, role: Role) -> AccountSender:
        if role == "requester":
            return self.sender
        account = account_of(role, self.settings)
        return AccountSender(self.rpc, account, self._chain_id, fee_policy(self.settings))

    async def _with_manifests(self, models: Sequence[OnChainModel]) -> list[ListedModel]:
        turn = asyncio.Semaphore(_MANIFESTS_AT_ONCE)
        until = time.monotonic() + REGISTRY_SECONDS
        seconds = min(MANIFEST_SECONDS, self.settings.fetch_timeout)

        async def listed(model: OnChainModel) -> ListedModel:
            async with turn:
                if time.monotonic() > until:
                    return ListedModel(model, None, _UNREAD)
                try:
                    data = await self.content.fetch(model.manifest_cid, limit=MANIFEST_MAX_BYTES, timeout=seconds)
                    return ListedModel(model, read_manifest(data))
                except (PermanentFailure, Retryable) as error:
                    return ListedModel(model, None, str(error))

        return list(await asyncio.gather(*(listed(model) for model in models)))

    async def files(self, outcome: Outcome) -> dict[str, bytes]:
        """The drawings that belong to a result, PNG, by name: each hashed here against its CID.

        Raises ContentCorrupt for what is no PNG, and what the content store raises, such as ContentUnavailable.
        """
        named = outcome.document.get("files", {}) if outcome.document else {}
        found = {}
        for name, file in named.items():
            cid = Cid.parse(file["cid"])
            data = await self.content.fetch(cid, limit=file["bytes"], timeout=self.settings.fetch_timeout)
            if len(data) != file["bytes"] or not data.startswith(_PNG):
                raise ContentCorrupt(f"the drawing {name} ({cid}) is not what the result says", remedy=_DISTRUST)
            found[name] = data
        return found

    async def _compare(
        self, asked: RequestSeen, settled: RequestSettled, answer: Answer, document: Mapping[str, Any]
    ) -> None:
        request, cid = asked.request, settled.result_cid
        same = (
            document["request"] == "0x" + request.request_id.hex()
            and document["input"]["cid"] == request.image_cid.text
            and round(document.get("familiarity", 0) * 255) == answer.familiarity
            and (
                _same_classes(answer, document)
                if isinstance(answer, ClassificationAnswer)
                else _same_instances(answer, document)
            )
        )
        if cid is None or not same:
            raise ContentCorrupt("the result document and the answer on-chain disagree", remedy=_DISTRUST)
        if not await self.reader.verify_result(request.request_id, cid, settled.answer):
            raise ContentCorrupt("the coordinator does not vouch for this result", remedy="Do not trust it.")


def tally(labels: Iterable[str]) -> str:
    """How many there are of each, the most frequent first: ``2 x star, circle``."""
    counted = sorted(Counter(labels).items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(label if count == 1 else f"{count} x {label}" for label, count in counted) or "nothing"


def _same_classes(answer: ClassificationAnswer, document: Mapping[str, Any]) -> bool:
    labels = document.get("labels", [])
    return len(labels) >= len(answer.entries) and all(
        label["index"] == entry.class_index and abs(label["probability"] * 10_000 - entry.confidence_bps) <= 1
        for label, entry in zip(labels, answer.entries, strict=False)
    )


def _same_instances(answer: SegmentationAnswer, document: Mapping[str, Any]) -> bool:
    image, segments = document.get("image", {}), document.get("segments", [])
    return (
        (image.get("width"), image.get("height"), document.get("found")) == (answer.width, answer.height, answer.found)
        and len(answer.instances) == min(len(segments), MAX_INSTANCES)
        and all(
            segment["index"] == one.class_index
            and segment["area"] == one.area
            and pixel_box(segment["bbox"], answer.width, answer.height) == one.box
            and abs(segment["score"] * 10_000 - one.score_bps) <= 1
            for segment, one in zip(segments, answer.instances, strict=False)
        )
    )


def _unknown(request_id: bytes) -> UnknownRequest:
    return UnknownRequest(
        f"the coordinator has no request 0x{request_id.hex()}", remedy="Check the id, the chain and the address."
    )


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
