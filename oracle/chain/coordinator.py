"""The coordinator as seen through one RPC endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import TypeVar

from eth_utils.address import to_checksum_address

from oracle.chain.calls import CallReverted, UnexpectedAnswer, decode_view, read_number, view
from oracle.chain.codec import (
    ETHER,
    TOPICS,
    InvalidData,
    decode_log,
    encode_call,
    hexed,
    quantity,
    request_id_of,
    unhexed,
)
from oracle.chain.rpc import Rpc
from oracle.domain import (
    BlockRef,
    ChainEvent,
    Cid,
    FailureReason,
    InferenceRequest,
    LogPosition,
    OnChainModel,
    OnChainStatus,
    RequestSeen,
    RequestSettled,
)
from oracle.errors import RpcUnavailable
from oracle.telemetry import logger

_log = logger("chain")

_NAMES = {
    TOPICS[name]: (name, indexed)
    for name, indexed in (
        ("InferenceRequested", 3),
        ("InferenceFulfilled", 1),
        ("InferenceFailed", 1),
        ("InferenceRefunded", 2),
        ("InferenceCancelled", 2),
        ("CallbackFailed", 1),
        ("FulfilmentSkipped", 1),
        ("ModelPublished", 3),
        ("EarningsWithdrawn", 2),
    )
}
_SCANNED = (
    "InferenceRequested",
    "InferenceFulfilled",
    "InferenceFailed",
    "InferenceRefunded",
    "InferenceCancelled",
)


@dataclass(frozen=True, slots=True)
class OnChainRequest:
    """A request as the coordinator still knows it. Once it is answered, only status, model and callback gas are left:
    ``requester`` is then the zero address, ``payment`` (in the model's token) and ``deadline`` (Unix seconds) are 0.
    """

    requester: str
    model_id: int
    payment: int
    callback_gas: int
    deadline: int
    status: OnChainStatus
    failure: FailureReason


@dataclass(frozen=True, slots=True)
class CoordinatorLog:
    """A log of the coordinator in its block, decoded: ``values`` are the event's parameters in order."""

    event: str
    values: tuple[object, ...]
    block_number: int
    block_hash: bytes
    transaction_hash: bytes
    log_index: int


def read_header(host: str, header: object) -> BlockRef:
    """A block header of the RPC as a BlockRef; extra data of any length is fine. Raises RpcUnavailable."""
    try:
        if not isinstance(header, Mapping):
            raise InvalidData("a block expected")
        return BlockRef(
            number=quantity(header.get("number")),
            hash=unhexed(header.get("hash"), 32),
            timestamp=quantity(header.get("timestamp")),
        )
    except InvalidData as error:
        raise RpcUnavailable(f"{host} sent a block that cannot be read: {error}") from error


def read_log(raw: object, coordinator: str) -> CoordinatorLog | None:
    """A log of the RPC, checked and decoded; None when it is another contract's or an event that Sibyl ignores.

    Raises InvalidData when the coordinator cannot have written it.
    """
    if not isinstance(raw, Mapping):
        raise InvalidData("a log expected")
    if str(raw.get("address")).lower() != coordinator.lower():
        return None
    topics = raw.get("topics")
    if not isinstance(topics, list) or not topics:
        return None
    words = [unhexed(topic, 32) for topic in topics]
    name, indexed = _NAMES.get(words[0], ("", 0))
    if not name:
        return None
    if raw.get("removed"):
        raise InvalidData("a log marked as removed")
    return CoordinatorLog(
        event=name,
        values=decode_log(name, words, unhexed(raw.get("data")), indexed),
        block_number=quantity(raw.get("blockNumber")),
        block_hash=unhexed(raw.get("blockHash"), 32),
        transaction_hash=unhexed(raw.get("transactionHash"), 32),
        log_index=quantity(raw.get("logIndex")),
    )


def settlements(logs: Sequence[CoordinatorLog], positions: Sequence[LogPosition]) -> list[RequestSettled]:
    """The settlements among logs. A refund that goes with a failure of the same transaction is the failure's money."""
    failed = {(log.transaction_hash, log.values[0]) for log in logs if log.event == "InferenceFailed"}
    found: list[RequestSettled] = []
    for log, position in zip(logs, positions, strict=True):
        match log.event, log.values:
            case "InferenceFulfilled", (bytes(request_id), bytes(cid), bytes(answer)):
                found.append(
                    RequestSettled(
                        request_id, OnChainStatus.FULFILLED, position, result_cid=_cid_or_none(cid), answer=answer
                    )
                )
            case "InferenceFailed", (bytes(request_id), int(reason)):
                found.append(
                    RequestSettled(request_id, OnChainStatus.FAILED, position, reason=_checked(FailureReason, reason))
                )
            case "InferenceRefunded", (bytes(request_id), *_) if (log.transaction_hash, request_id) not in failed:
                found.append(RequestSettled(request_id, OnChainStatus.REFUNDED, position))
            case "InferenceCancelled", (bytes(request_id), *_):
                found.append(RequestSettled(request_id, OnChainStatus.CANCELLED, position))
    return found


class CoordinatorReader:
    """Reads one coordinator on one chain; implements ``ports.ChainReader``.

    Nothing the endpoint says is taken on trust where it can be checked: logs must have exactly the form the
    coordinator writes, sit in the canonical block they name, and carry an id that commits to what they say.
    """

    def __init__(self, rpc: Rpc, address: str, chain_id: int) -> None:
        self._rpc = rpc
        self.address = to_checksum_address(address)
        self._chain_id = chain_id

    async def chain_id(self) -> int:
        """The chain id that the endpoint serves (EIP-155)."""
        return await read_number(self._rpc, "eth_chainId")

    async def head(self) -> BlockRef:
        """The newest block."""
        return read_header(self._rpc.host, await self._rpc.call("eth_getBlockByNumber", ["latest", False]))

    async def block(self, number: int) -> BlockRef | None:
        """The canonical block at a height, or None above the head."""
        header = await self._rpc.call("eth_getBlockByNumber", [hex(number), False])
        return None if header is None else self._at(number, header)

    async def events(self, first: int, last: int, *, request_id: bytes | None = None) -> Sequence[ChainEvent]:
        """The coordinator's request and settlement logs in [first, last], in chain order, or those of one request.

        Raises RpcRangeRefused when the endpoint wants a smaller range, RpcUnavailable also when it lies.
        """
        topics: list[object] = [[hexed(TOPICS[name]) for name in _SCANNED]]
        if request_id is not None:
            topics.append(hexed(request_id))
        wanted = {"address": self.address, "fromBlock": hex(first), "toBlock": hex(last), "topics": topics}
        # Behind one address there may be nodes of which one lags, and a node that has not seen a block answers with
        # fewer logs, not with an error. In one round trip both answers come from the same node.
        answer, header = await self._rpc.many([("eth_getLogs", [wanted]), ("eth_getBlockByNumber", [hex(last), False])])
        if header is None:
            raise RpcUnavailable(f"{self._rpc.host} has not seen block {last} yet")
        end = self._at(last, header)
        try:
            logs = self._read_logs(answer, first, last)
            if request_id is not None and any(log.values[0] != request_id for log in logs):
                raise InvalidData("it belongs to another request")
            blocks = {last: end} | await self._blocks({log.block_number for log in logs} - {last})
            positions = []
            for log in logs:
                block = blocks[log.block_number]
                if block.hash != log.block_hash:
                    # A reorg between the two calls looks the same; the next try settles it.
                    raise InvalidData(f"it is in another block {log.block_number} than the canonical one")
                positions.append(LogPosition(block, log.transaction_hash, log.log_index))
            found: list[ChainEvent] = [*settlements(logs, positions)]
            _check_nonces(logs)
            for log, position in zip(logs, positions, strict=True):
                if log.event == "InferenceRequested" and (seen := self._request_seen(log, position)) is not None:
                    found.append(seen)
        except InvalidData as error:
            raise RpcUnavailable(f"{self._rpc.host} sent a log that cannot be trusted: {error}") from error
        found.sort(key=lambda event: (event.position.block.number, event.position.log_index))
        return found

    def _read_logs(self, answer: object, first: int, last: int) -> list[CoordinatorLog]:
        if not isinstance(answer, list):
            raise InvalidData("a list of logs expected")
        logs: dict[tuple[int, int], CoordinatorLog] = {}
        for raw in answer:
            log = read_log(raw, self.address)
            if log is None or log.event not in _SCANNED:
                raise InvalidData("it was not asked for")
            if not first <= log.block_number <= last:
                raise InvalidData(f"block {log.block_number} was not asked for")
            place = (log.block_number, log.log_index)
            if place in logs:
                raise InvalidData(f"two logs have index {log.log_index} in block {log.block_number}")
            logs[place] = log
        return [logs[place] for place in sorted(logs)]

    async def _blocks(self, numbers: set[int]) -> dict[int, BlockRef]:
        ordered = sorted(numbers)
        headers = await self._rpc.many([("eth_getBlockByNumber", [hex(number), False]) for number in ordered])
        return {number: self._at(number, header) for number, header in zip(ordered, headers, strict=True)}

    def _at(self, number: int, header: object) -> BlockRef:
        block = read_header(self._rpc.host, header)
        if block.number != number:
            raise RpcUnavailable(f"{self._rpc.host} sent block {block.number} for block {number}")
        return block

    def _request_seen(self, log: CoordinatorLog, position: LogPosition) -> RequestSeen | None:
        match log.values:
            case (
                bytes(request_id),
                int(model_id),
                str(requester),
                bytes(image_cid),
                int(payment),
                int(callback_gas),
                int(deadline),
                int(nonce),
            ):
                pass
            case _:
                raise InvalidData("an InferenceRequested of another shape")
        cid = _cid_or_none(image_cid)
        if cid is None:
            # The coordinator checks the form, so this is a coordinator of another version. Stopping here for ever
            # would cost every later request; this one is refunded after its deadline.
            _log.error("request %s names its picture by a CID of an unknown form; left to its refund", request_id.hex())
            return None
        request = InferenceRequest(
            request_id=request_id,
            model_id=model_id,
            requester=to_checksum_address(requester),
            image_cid=cid,
            payment=payment,
            callback_gas=callback_gas,
            deadline=deadline,
            nonce=nonce,
            created_at=position.block.timestamp,
        )
        if request_id_of(self._chain_id, self.address, request) != request_id:
            raise InvalidData(f"request {hexed(request_id)} does not commit to what the log says")
        return RequestSeen(request, position)

    async def model(self, model_id: int) -> OnChainModel | None:
        """A registered model, or None."""
        try:
            values = await view(self._rpc, self.address, "modelOf", model_id)
        except CallReverted as error:
            if error.error.startswith("UnknownModel("):
                return None
            raise
        return _read_model(self._rpc, model_id, values)

    async def models(self) -> Sequence[OnChainModel]:
        """Every registered model by id."""
        (count,) = await view(self._rpc, self.address, "modelCount")
        ids = range(1, count + 1)
        answers = await self._rpc.many(
            [
                ("eth_call", [{"to": self.address, "data": hexed(encode_call("modelOf", model_id))}, "latest"])
                for model_id in ids
            ]
        )
        return [
            _read_model(self._rpc, model_id, decode_view(self._rpc, "modelOf", answer))
            for model_id, answer in zip(ids, answers, strict=True)
        ]

    async def quote(self, model_id: int, callback_gas: int = 0) -> int:
        """What a request costs now, in the model's token.

        Raises CallReverted (UnknownModel, ModelInactive, CallbackGasTooHigh, CallbackNotSold).
        """
        (payment,) = await view(self._rpc, self.address, "quote", model_id, callback_gas)
        return int(payment)

    async def request_of(self, request_id: bytes) -> OnChainRequest:
        """What the chain still knows of a request; an id never seen has status UNKNOWN."""
        ((requester, model_id, payment, callback_gas, deadline, status, failure),) = await view(
            self._rpc, self.address, "requestOf", request_id
        )
        try:
            return OnChainRequest(
                requester=to_checksum_address(requester),
                model_id=model_id,
                payment=payment,
                callback_gas=callback_gas,
                deadline=deadline,
                status=_checked(OnChainStatus, status),
                failure=_checked(FailureReason, failure),
            )
        except InvalidData as error:
            raise UnexpectedAnswer(f"{self._rpc.host} gave a request that no coordinator holds: {error}") from error

    async def balance_of(self, token: str | None, account: str) -> int:
        """An account's balance at the coordinator in the token's smallest part; None is ether."""
        (amount,) = await view(self._rpc, self.address, "balanceOf", token or ETHER, account)
        return int(amount)

    async def earnings_of(self, model_id: int) -> int:
        """What a model has earned for its publisher and not paid out yet, in its token. Raises CallReverted."""
        (amount,) = await view(self._rpc, self.address, "earningsOf", model_id)
        return int(amount)

    async def cancel_window(self) -> int:
        """Seconds after a request in which its requester can cancel it; 0 for never."""
        (seconds,) = await view(self._rpc, self.address, "cancelWindow")
        return int(seconds)

    async def verify_result(self, request_id: bytes, result_cid: Cid, answer: bytes) -> bool:
        """Whether the request was fulfilled with this result and this answer."""
        (same,) = await view(self._rpc, self.address, "verifyResult", request_id, result_cid.value, answer)
        return bool(same)


def _check_nonces(logs: Sequence[CoordinatorLog]) -> None:
    """The coordinator counts its requests, so a log that was left out shows as a gap."""
    nonces = [log.values[-1] for log in logs if log.event == "InferenceRequested"]
    for before, after in pairwise(nonces):
        if not isinstance(before, int) or after != before + 1:
            raise InvalidData(f"request {after} of the coordinator follows request {before}; a log is missing")


def _read_model(rpc: Rpc, model_id: int, values: tuple[object, ...]) -> OnChainModel:
    match values:
        case ((str(), str(payout), str(token), bool(active), int(price), int(share), bytes(manifest)),):
            cid = _cid_or_none(manifest)
            if cid is not None:
                priced_in = None if token == ETHER else to_checksum_address(token)
                return OnChainModel(model_id, cid, price, to_checksum_address(payout), active, priced_in, share)
    raise RpcUnavailable(f"{rpc.host} gave a model {model_id} that no coordinator holds")


def _cid_or_none(value: bytes) -> Cid | None:
    try:
        return Cid(value)
    except ValueError:
        return None


_Member = TypeVar("_Member", bound=IntEnum)


def _checked(enum: type[_Member], value: int) -> _Member:
    try:
        return enum(value)
    except ValueError:
        raise InvalidData(f"{value} is no {enum.__name__}") from None
