"""The ABI written out in Python is the compiled one, and nothing malformed is decoded."""

from __future__ import annotations

import hashlib
import time

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from oracle.chain import codec
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.rpc import Rpc
from oracle.domain import Cid, FailureReason, Fulfilment, InferenceRequest, OnChainStatus, RequestSeen, RequestSettled
from oracle.errors import ConfigurationError, RpcUnavailable

pytestmark = pytest.mark.unit

COORDINATOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
REQUESTER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CHAIN = 31337
BORN = 1_700_000_000  # time of block 0


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def cid(text: str) -> Cid:
    return Cid(b"\x01\x55\x12\x20" + digest(text))


def abi_type(parameter: dict[str, object]) -> str:
    kind = str(parameter["type"])
    if not kind.startswith("tuple"):
        return kind
    parts = parameter["components"]
    assert isinstance(parts, list)
    return f"({','.join(abi_type(part) for part in parts)}){kind.removeprefix('tuple')}"


@pytest.mark.parametrize(
    ("contract", "functions"), [("InferenceCoordinator", codec.FUNCTIONS), ("DigitReader", codec.CONSUMER_FUNCTIONS)]
)
def test_the_functions_are_those_of_the_compiled_contract(contract: str, functions: dict[str, object]) -> None:
    compiled = {
        entry["name"]: (tuple(map(abi_type, entry["inputs"])), tuple(map(abi_type, entry["outputs"])))
        for entry in codec.artifact(contract).abi
        if entry["type"] == "function"
    }
    assert {name: compiled[name] for name in functions} == dict(functions)


def test_the_events_are_those_of_the_compiled_contract() -> None:
    compiled = {
        entry["name"]: entry["inputs"]
        for entry in codec.artifact("InferenceCoordinator").abi
        if entry["type"] == "event"
    }
    assert {name: tuple(map(abi_type, compiled[name])) for name in codec.EVENTS} == dict(codec.EVENTS)
    for name in codec.EVENTS:
        indexed = [bool(parameter["indexed"]) for parameter in compiled[name]]
        assert indexed == sorted(indexed, reverse=True), (
            "indexed parameters come first, as decode_log takes for granted"
        )


def test_the_statuses_and_reasons_are_those_of_the_contract() -> None:
    # The order of the Solidity enums; the compiled ABI holds only their width.
    assert [status.name for status in OnChainStatus] == [
        "UNKNOWN",
        "PENDING",
        "FULFILLED",
        "CALLBACK_FAILED",
        "FAILED",
        "REFUNDED",
        "CANCELLED",
    ]
    assert max(FailureReason) == 6


def test_a_contract_that_was_not_compiled_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(codec, "ABI_FOLDER", tmp_path)
    with pytest.raises(ConfigurationError, match="is missing") as caught:
        codec.artifact("Nothing")
    assert "compile" in caught.value.remedy


def test_the_request_id_is_the_hash_of_everything_asked() -> None:
    request = InferenceRequest(bytes(32), 3, REQUESTER, cid("cat"), 10**15, 200_000, 1_800_000_000, 7, 1_700_000_005)
    image = cid("cat").value
    terms = [7, 3, 10 * 32, 10**15, 200_000, 1_800_000_000, 1_700_000_005]
    words = [CHAIN, int(COORDINATOR, 16), int(REQUESTER, 16), *terms, len(image)]
    by_hand = b"".join(word.to_bytes(32, "big") for word in words) + image.ljust(64, b"\0")
    assert codec.request_id_of(CHAIN, COORDINATOR, request) == keccak(by_hand)


def test_a_report_is_encoded_as_an_array_of_fulfilments() -> None:
    items = [
        Fulfilment(digest("a"), result_cid=cid("r"), answer=b"\x01" * 32),
        Fulfilment(digest("b"), failure=FailureReason.IMAGE_TOO_LARGE),
    ]
    rows = [(digest("a"), 0, cid("r").value, b"\x01" * 32), (digest("b"), 2, b"", b"")]
    expected = keccak(b"report((bytes32,uint8,bytes,bytes)[])")[:4] + encode(["(bytes32,uint8,bytes,bytes)[]"], [rows])
    assert codec.encode_report(items) == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "reverted without a reason"),
        (keccak(b"Error(string)")[:4] + encode(["string"], ["no"]), "no"),
        (keccak(b"Panic(uint256)")[:4] + encode(["uint256"], [0x11]), "Panic(0x11)"),
        (
            keccak(b"PaymentTooLow(uint256,uint256)")[:4] + encode(["uint256", "uint256"], [1, 2]),
            "PaymentTooLow(paid=1, required=2)",
        ),
        (
            keccak(b"NotOperator(address)")[:4] + encode(["address"], [REQUESTER]),
            f"NotOperator(account={REQUESTER})",
        ),
        (
            keccak(b"NotRefundable(bytes32,uint8,uint256)")[:4]
            + encode(["bytes32", "uint8", "uint256"], [b"\xaa" * 32, 2, 9]),
            f"NotRefundable(requestId=0x{'aa' * 32}, status=FULFILLED, deadline=9)",
        ),
        (b"\xde\xad\xbe\xef", "unknown error 0xdeadbeef"),
        (
            keccak(b"NotOperator(address)")[:4] + b"\xff",
            f"unknown error 0x{keccak(b'NotOperator(address)')[:4].hex()}ff",
        ),
    ],
)
def test_reverts_are_told_in_words(data: bytes, words: str) -> None:
    assert codec.describe_revert(data) == words


# ---------------------------------------------------------------------------------------------------------------
# The reader
# ---------------------------------------------------------------------------------------------------------------


class ScriptedRpc(Rpc):
    """An endpoint that answers from tables instead of a network."""

    def __init__(self, logs: list[dict[str, object]], headers: dict[int, bytes]) -> None:
        super().__init__("http://node.example:8545")
        self.logs, self.headers = logs, headers

    async def call(self, method: str, params: object = (), *, retry: bool = True) -> object:
        if method == "eth_getLogs":
            return self.logs
        if method == "eth_getBlockByNumber":
            number = int(params[0], 16)  # type: ignore[index]
            if number not in self.headers:
                return None
            return {
                "number": hex(number),
                "hash": "0x" + self.headers[number].hex(),
                "timestamp": hex(BORN + number),
                # Proof-of-authority chains put signatures here, 97 bytes and more (EIP-225).
                "extraData": "0x" + "00" * 400,
            }
        raise AssertionError(method)

    async def many(self, calls: object, *, retry: bool = True) -> list[object]:
        return [await self.call(method, params) for method, params in calls]  # type: ignore[attr-defined]


def block_hash(number: int) -> bytes:
    return digest(f"block {number}")


def word(value: int | bytes) -> str:
    return "0x" + (value if isinstance(value, bytes) else value.to_bytes(32, "big")).hex()


def a_log(event: str, topics: list[str], data: bytes, block: int, index: int, tx: str = "tx") -> dict[str, object]:
    return {
        "address": COORDINATOR.lower(),
        "topics": [word(codec.TOPICS[event]), *topics],
        "data": "0x" + data.hex(),
        "blockNumber": hex(block),
        "blockHash": word(block_hash(block)),
        "transactionHash": word(digest(tx)),
        "logIndex": hex(index),
        "removed": False,
    }


def requested(nonce: int, block: int, index: int, *, image: bytes | None = None) -> dict[str, object]:
    image = cid(f"image {nonce}").value if image is None else image
    request_id = keccak(
        encode(
            ["uint256", "address", "address", "uint256", "uint256", "bytes", *["uint256"] * 4],
            [CHAIN, COORDINATOR, REQUESTER, nonce, 3, image, 10**15, 0, 1_800_000_000, BORN + block],
        )
    )
    data = encode(["bytes", "uint256", "uint256", "uint256", "uint256"], [image, 10**15, 0, 1_800_000_000, nonce])
    return a_log("InferenceRequested", [word(request_id), word(3), word(int(REQUESTER, 16))], data, block, index)


def reader(logs: list[dict[str, object]], headers: dict[int, bytes] | None = None) -> CoordinatorReader:
    every = {number: block_hash(number) for number in range(100)}
    return CoordinatorReader(ScriptedRpc(logs, {**every, **(headers or {})}), COORDINATOR, CHAIN)


async def test_a_request_log_becomes_what_was_asked_and_where() -> None:
    (event,) = await reader([requested(7, 5, 0)]).events(0, 10)
    assert isinstance(event, RequestSeen)
    assert event.request == InferenceRequest(
        event.request.request_id, 3, REQUESTER, cid("image 7"), 10**15, 0, 1_800_000_000, 7, BORN + 5
    )
    assert (event.position.block.hash, event.position.block.timestamp) == (block_hash(5), BORN + 5)


async def test_the_refund_of_a_failure_is_the_failures_money() -> None:
    failed, refunded, cancelled = digest("failed"), digest("refunded"), digest("cancelled")
    money = [word(int(REQUESTER, 16))]
    logs = [
        a_log("InferenceRefunded", [word(failed), *money], encode(["uint256"], [1]), 4, 0, "report"),
        a_log("InferenceFailed", [word(failed)], encode(["uint8"], [3]), 4, 1, "report"),
        a_log("InferenceRefunded", [word(refunded), *money], encode(["uint256"], [1]), 4, 2, "refund"),
        a_log("InferenceCancelled", [word(cancelled), *money], encode(["uint256"], [1]), 4, 3, "cancel"),
    ]
    events = await reader(logs).events(0, 10)
    assert [
        (event.request_id, event.status, event.reason) for event in events if isinstance(event, RequestSettled)
    ] == [
        (failed, OnChainStatus.FAILED, FailureReason.IMAGE_UNREADABLE),
        (refunded, OnChainStatus.REFUNDED, FailureReason.NONE),
        (cancelled, OnChainStatus.CANCELLED, FailureReason.NONE),
    ]


async def test_events_come_in_chain_order_whatever_the_endpoint_does() -> None:
    fulfilled = a_log(
        "InferenceFulfilled", [word(digest("x"))], encode(["bytes", "bytes"], [cid("r").value, b"answer"]), 5, 1
    )
    events = await reader([requested(2, 6, 0), fulfilled, requested(1, 5, 0)]).events(0, 10)
    assert [(event.position.block.number, event.position.log_index) for event in events] == [(5, 0), (5, 1), (6, 0)]
    settled = events[1]
    assert isinstance(settled, RequestSettled)
    assert (settled.result_cid, settled.answer) == (cid("r"), b"answer")


def changed(log: dict[str, object], **fields: object) -> dict[str, object]:
    return {**log, **fields}


def with_data(log: dict[str, object], change: int) -> dict[str, object]:
    data = bytearray.fromhex(str(log["data"])[2:])
    data[change] ^= 1
    return changed(log, data="0x" + data.hex())


GOOD = requested(7, 5, 0)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(with_data(GOOD, 63), id="another payment"),
        pytest.param(with_data(GOOD, 159), id="another nonce"),
        pytest.param(with_data(GOOD, 200), id="another picture"),
        pytest.param(with_data(GOOD, -1), id="padding that is not zero"),
        pytest.param(changed(GOOD, topics=[*GOOD["topics"][:2], word(4), GOOD["topics"][3]]), id="another model"),
        pytest.param(changed(GOOD, topics=[*GOOD["topics"][:3], word(1)]), id="another requester"),
        pytest.param(changed(GOOD, topics=GOOD["topics"][:3]), id="a topic missing"),
        pytest.param(changed(GOOD, data="0x"), id="no data"),
        pytest.param(changed(GOOD, data=str(GOOD["data"]) + "00" * 32), id="data after the end"),
        pytest.param(changed(GOOD, data="0xzz"), id="not hex"),
        pytest.param(changed(GOOD, address=REQUESTER), id="another contract"),
        pytest.param(changed(GOOD, blockHash=word(digest("fork"))), id="a block that is not canonical"),
        pytest.param(changed(GOOD, blockNumber="0x32"), id="a block that was not asked for"),
        pytest.param(changed(GOOD, blockNumber=None), id="a log without a block"),
        pytest.param(changed(GOOD, removed=True), id="a removed log"),
        pytest.param(changed(GOOD, topics=[word(digest("Other()"))]), id="an event that was not asked for"),
        pytest.param("log", id="not a log"),
    ],
)
async def test_a_log_that_lies_is_refused_whole(lie: dict[str, object]) -> None:
    with pytest.raises(RpcUnavailable, match=r"node\.example:8545 sent a log that cannot be trusted"):
        await reader([requested(6, 4, 0), lie]).events(0, 10)


async def test_a_log_left_out_shows_as_a_gap_in_the_coordinators_count() -> None:
    logs = [requested(nonce, nonce, 0) for nonce in range(5)]
    assert len(await reader(logs).events(0, 10)) == 5
    with pytest.raises(RpcUnavailable, match="request 3 of the coordinator follows request 1; a log is missing"):
        await reader([*logs[:2], *logs[3:]]).events(0, 10)


async def test_logs_of_a_node_that_lags_are_not_taken_for_all() -> None:
    with pytest.raises(RpcUnavailable, match="has not seen block 120 yet"):
        await reader([]).events(100, 120)


async def test_one_log_twice_is_refused() -> None:
    with pytest.raises(RpcUnavailable, match="two logs"):
        await reader([GOOD, GOOD]).events(0, 10)


async def test_an_unreadable_picture_cid_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    events = await reader([requested(1, 5, 0, image=b"\x01\x71" + bytes(34)), requested(2, 5, 1)]).events(0, 10)
    assert [event.request.nonce for event in events if isinstance(event, RequestSeen)] == [2]
    assert "unknown form" in caplog.text


async def test_512_requests_are_decoded_in_half_a_second_of_cpu() -> None:
    logs = [requested(nonce, nonce // 16, nonce % 16) for nonce in range(512)]
    started = time.process_time()
    events = await reader(logs).events(0, 99)
    assert len(events) == 512
    assert time.process_time() - started < 0.5
