"""The coordinator's ABI in Python: calldata, logs, request ids and custom errors.

Logs and results are decoded with eth_abi directly, since they come by the hundred. The types are written out here and
a test holds them against the compiled ABI; only bytecode and custom errors are read from the ABI files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from oracle.domain import FailureReason, Fulfilment, InferenceRequest, OnChainStatus
from oracle.errors import ConfigurationError

ABI_FOLDER = Path(__file__).parent / "abi"
ETHER = "0x" + "00" * 20
"""The zero address, which stands for ether where the coordinator names a token."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


EVENTS: Mapping[str, tuple[str, ...]] = {
    "InferenceRequested": _words("bytes32 uint256 address bytes uint256 uint256 uint256 uint256"),
    "InferenceFulfilled": _words("bytes32 bytes bytes"),
    "InferenceFailed": _words("bytes32 uint8"),
    "InferenceRefunded": _words("bytes32 address uint256"),
    "InferenceCancelled": _words("bytes32 address uint256"),
    "CallbackFailed": _words("bytes32"),
    "FulfilmentSkipped": _words("bytes32 uint8"),
    "ModelPublished": _words("uint256 address address uint256 bytes"),
    "EarningsWithdrawn": _words("uint256 address uint256"),
}
"""Events that Sibyl reads, with the types of all their parameters."""

FUNCTIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "publishModel": (_words("bytes uint256 address address"), _words("uint256")),
    "publishingFee": ((), _words("uint256")),
    "modelCount": ((), _words("uint256")),
    "modelOf": (_words("uint256"), _words("(address,address,address,bool,uint256,uint256,bytes)")),
    "earningsOf": (_words("uint256"), _words("uint256")),
    "withdrawEarnings": (_words("uint256 address"), _words("uint256")),
    "quote": (_words("uint256 uint256"), _words("uint256")),
    "request": (_words("uint256 bytes uint256 uint256"), _words("bytes32")),
    "requestMany": (_words("uint256 bytes[] uint256 uint256"), _words("bytes32[]")),
    "requestManyFromBalance": (_words("uint256 bytes[] uint256 uint256 uint256"), _words("bytes32[]")),
    "cancel": (_words("(uint256,uint256,bytes,uint256,uint256,uint256,uint256)"), ()),
    "cancelWindow": ((), _words("uint256")),
    "report": (_words("(bytes32,uint8,bytes,bytes)[]"), ()),
    "refund": (_words("bytes32"), ()),
    "deposit": ((), ()),
    "withdraw": (_words("address address uint256"), ()),
    "requestOf": (_words("bytes32"), _words("(address,uint256,uint256,uint256,uint256,uint8,uint8)")),
    "balanceOf": (_words("address address"), _words("uint256")),
    "isOperator": (_words("address"), _words("bool")),
    "quorum": ((), _words("uint256")),
    "verifyResult": (_words("bytes32 bytes bytes"), _words("bool")),
}
"""Functions of the coordinator that Sibyl calls: parameter types and result types."""

CONSUMER_FUNCTIONS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ask": (_words("bytes uint256"), _words("bytes32")),
    "price": ((), _words("uint256")),
    "reclaim": (_words("bytes32"), ()),
    "readings": (_words("bytes32"), _words("bool uint8 uint16")),
    "resultCidOf": (_words("bytes32"), _words("bytes")),
}
"""Functions of the example consumer ``DigitReader``."""


def _signature(name: str, types: Iterable[str]) -> bytes:
    return keccak(f"{name}({','.join(types)})".encode())


TOPICS: Mapping[str, bytes] = {name: _signature(name, types) for name, types in EVENTS.items()}
"""First topic of each event."""

_ALL_FUNCTIONS = {**FUNCTIONS, **CONSUMER_FUNCTIONS}
_SELECTORS = {name: _signature(name, parameters)[:4] for name, (parameters, _) in _ALL_FUNCTIONS.items()}
_ERROR_STRING = _signature("Error", ["string"])[:4]
_PANIC = _signature("Panic", ["uint256"])[:4]
_ENUMS: Mapping[str, type[OnChainStatus] | type[FailureReason]] = {
    "Status": OnChainStatus,
    "FailureReason": FailureReason,
}


class InvalidData(ValueError):
    """Bytes that the coordinator cannot have written."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled contract: its ABI and its creation bytecode."""

    abi: Sequence[Mapping[str, Any]]
    bytecode: bytes


@cache
def artifact(name: str) -> Artifact:
    """A compiled contract by name. Raises ConfigurationError when it was not compiled yet."""
    try:
        document = json.loads((ABI_FOLDER / f"{name}.json").read_text())
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"the compiled contract {name} is missing", remedy="compile the contracts: make abi"
        ) from error
    return Artifact(abi=document["abi"], bytecode=bytes.fromhex(document["bytecode"].removeprefix("0x")))


# ---------------------------------------------------------------------------------------------------------------
# Hex of the JSON-RPC (EIP-1474)
# ---------------------------------------------------------------------------------------------------------------


def hexed(data: bytes) -> str:
    """Bytes as the RPC writes them: 0x and hex digits."""
    return "0x" + data.hex()


def unhexed(text: object, size: int | None = None) -> bytes:
    """Bytes from the RPC's hex, of ``size`` bytes when given. Raises InvalidData."""
    if isinstance(text, str) and text.startswith("0x"):
        try:
            data = bytes.fromhex(text[2:])
        except ValueError:
            data = None
        if data is not None and (size is None or len(data) == size):
            return data
    raise InvalidData(f"{size or 'some'} bytes in hex expected, not {str(text)[:80]!r}")


def quantity(text: object) -> int:
    """A number from the RPC's hex. Raises InvalidData."""
    if isinstance(text, str) and text.startswith("0x"):
        try:
            return int(text, 16)
        except ValueError:
            pass
    raise InvalidData(f"a number in hex expected, not {str(text)[:80]!r}")


# ---------------------------------------------------------------------------------------------------------------
# Functions
# ---------------------------------------------------------------------------------------------------------------


def encode_call(function: str, *arguments: object) -> bytes:
    """Calldata of a function of the coordinator or of the example consumer."""
    return _SELECTORS[function] + encode(_ALL_FUNCTIONS[function][0], arguments)


def decode_result(function: str, data: bytes) -> tuple[Any, ...]:
    """What a function returned. Raises InvalidData."""
    try:
        return tuple(decode(_ALL_FUNCTIONS[function][1], data))
    except DecodingError as error:
        raise InvalidData(f"not what {function} returns: {error}") from error


def encode_report(items: Sequence[Fulfilment]) -> bytes:
    """Calldata of ``report`` for these items, in order."""
    rows = [
        (item.request_id, int(item.failure), item.result_cid.value if item.result_cid else b"", item.answer)
        for item in items
    ]
    return encode_call("report", rows)


def terms_of(request: InferenceRequest) -> tuple[object, ...]:
    """A request's ``RequestTerms``: everything that its id commits to besides chain, coordinator and requester."""
    return (
        request.nonce,
        request.model_id,
        request.image_cid.value,
        request.payment,
        request.callback_gas,
        request.deadline,
        request.created_at,
    )


def request_id_of(chain_id: int, coordinator: str, request: InferenceRequest) -> bytes:
    """The id that the coordinator gives a request: keccak256 of everything that was asked, so it is the commitment."""
    types = _words("uint256 address address uint256 uint256 bytes uint256 uint256 uint256 uint256")
    return keccak(encode(types, (chain_id, coordinator, request.requester, *terms_of(request))))


# ---------------------------------------------------------------------------------------------------------------
# Logs
# ---------------------------------------------------------------------------------------------------------------


def decode_log(event: str, topics: Sequence[bytes], data: bytes, indexed: int) -> tuple[Any, ...]:
    """The parameters of a log in the order of the event, of which the first ``indexed`` are topics.

    Raises InvalidData when the log does not have exactly the event's form: every event of the coordinator has its
    indexed parameters first, and Solidity writes one encoding only.
    """
    types = EVENTS[event]
    if len(topics) != indexed + 1 or any(len(topic) != 32 for topic in topics):
        raise InvalidData(f"{event} has {indexed + 1} topics of 32 bytes")
    try:
        values = (*decode(types[:indexed], b"".join(topics[1:])), *decode(types[indexed:], data))
        canonical = encode(types[indexed:], values[indexed:]) == data
    except DecodingError as error:
        raise InvalidData(f"not an {event}: {error}") from error
    if not canonical:
        raise InvalidData(f"the data of {event} is not encoded as the coordinator encodes it")
    return values


# ---------------------------------------------------------------------------------------------------------------
# Reverts
# ---------------------------------------------------------------------------------------------------------------


@cache
def _errors() -> Mapping[bytes, Mapping[str, Any]]:
    found: dict[bytes, Mapping[str, Any]] = {}
    for name in ("InferenceCoordinator", "DigitReader"):
        for entry in artifact(name).abi:
            if entry["type"] == "error":
                found[_signature(entry["name"], [item["type"] for item in entry["inputs"]])[:4]] = entry
    return found


def describe_revert(data: bytes) -> str:
    """Revert data in words: the custom error with its values by name, the reason of a require, or a panic's code."""
    selector, body = data[:4], data[4:]
    try:
        if not data:
            return "reverted without a reason"
        if selector == _ERROR_STRING:
            return str(decode(["string"], body)[0])
        if selector == _PANIC:
            return f"Panic(0x{decode(['uint256'], body)[0]:02x})"
        entry = _errors().get(selector)
        if entry is not None:
            inputs = entry["inputs"]
            values = decode([item["type"] for item in inputs], body)
            named = ", ".join(
                f"{item['name']}={_shown(item, value)}" for item, value in zip(inputs, values, strict=True)
            )
            return f"{entry['name']}({named})"
    except DecodingError:
        pass
    return f"unknown error {hexed(data[:68])}"


def _shown(parameter: Mapping[str, Any], value: object) -> str:
    if isinstance(value, bytes):
        return hexed(value)
    if parameter["type"] == "address":
        return to_checksum_address(str(value))
    enum = _ENUMS.get(str(parameter.get("internalType", "")).rpartition(".")[2])
    if enum is not None and isinstance(value, int) and value in set(enum):
        return enum(value).name
    return str(value)
