"""What an endpoint's answers mean, and what an error may say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from oracle.chain import rpc as rpc_module
from oracle.chain.calls import CallReverted, revert_of, view
from oracle.chain.rpc import Rpc, RpcFault, _RequestRefused
from oracle.chain.tokens import read_token
from oracle.errors import ConfigurationError, RpcRangeRefused, RpcUnavailable

pytestmark = pytest.mark.unit

SECRET_URL = "https://user:passw0rd@rpc.example/v3/0123456789abcdef?token=topsecret"
SECRETS = ("passw0rd", "0123456789abcdef", "topsecret")

Answer = Callable[[object], object] | Exception | object


class WireRpc(Rpc):
    """Answers each post from a script: an exception to raise, or what to make of the posted JSON."""

    def __init__(self, script: list[Answer], url: str = SECRET_URL) -> None:
        super().__init__(url)
        self.script = script
        self.posts: list[object] = []

    async def _post(self, body: bytes) -> bytes:
        posted = json.loads(body)
        self.posts.append(posted)
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return answer
        return json.dumps(answer(posted) if callable(answer) else answer).encode()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "RETRY_PAUSE_SECONDS", 0)


def result(value: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 0, "result": value}


def error(code: int, message: str, data: object = None) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": message, "data": data}}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-32005, "query returned more than 10000 results"),
        (-32000, "block range is too wide"),
        (-32602, "eth_getLogs is limited to a 10,000 block range"),
        (-32005, "limit exceeded"),
        (-32602, "Log response size exceeded. You can make requests with up to a 2K block range"),
        (-32000, "exceed maximum block range: 5000"),
        (-32614, "eth_getLogs and eth_newFilter are limited to a 10,000 blocks range"),
    ],
)
async def test_a_range_that_is_too_large_is_told_apart(code: int, message: str) -> None:
    with pytest.raises(RpcRangeRefused):
        await WireRpc([error(code, message)]).call("eth_getLogs", [{}])


async def test_http_413_for_logs_is_a_range_too_large() -> None:
    with pytest.raises(RpcRangeRefused):
        await WireRpc([_RequestRefused(413)]).call("eth_getLogs", [{}])
    with pytest.raises(RpcUnavailable):
        await WireRpc([_RequestRefused(413)]).call("eth_call", [{}])
    with pytest.raises(RpcRangeRefused):
        await WireRpc([_RequestRefused(413)]).many([("eth_getLogs", [{}]), ("eth_getBlockByNumber", ["0x1", False])])


async def test_a_rate_limit_is_not_a_range_limit() -> None:
    for message in ("daily request count exceeded, request rate limited", "Too Many Requests, 25 per second"):
        with pytest.raises(RpcFault):
            await WireRpc([error(-32005, message)]).call("eth_getLogs", [{}])


@pytest.mark.parametrize("failure", [_RequestRefused(429), _RequestRefused(502), TimeoutError(), OSError()])
async def test_a_passing_failure_is_tried_once_more(failure: Exception) -> None:
    endpoint = WireRpc([failure, result("0x1")])
    assert await endpoint.call("eth_chainId") == "0x1"

    endpoint = WireRpc([failure, failure])
    with pytest.raises(RpcUnavailable):
        await endpoint.call("eth_chainId")

    endpoint = WireRpc([failure])
    with pytest.raises(RpcUnavailable):
        await endpoint.call("anvil_mine", retry=False)


@pytest.mark.parametrize(
    "failure",
    [
        _RequestRefused(401),
        _RequestRefused(500),
        TimeoutError(),
        aiohttp.InvalidURL(SECRET_URL),
        aiohttp.ClientConnectionError(SECRET_URL),
        error(-32000, f"project 0123456789abcdef is over its quota, see {SECRET_URL}"),
        b"<html>not json</html>",
        b"[" * 100_000,
        result("0x1") | {"result": None, "error": "boom"},
        {"id": 1},
        3,
    ],
)
async def test_an_error_names_the_host_and_never_the_key(failure: Answer) -> None:
    with pytest.raises(RpcUnavailable) as caught:
        await WireRpc([failure, failure]).call("eth_chainId")
    told = f"{caught.value} {caught.value.remedy} {caught.value.__cause__!r}"
    assert "rpc.example" in str(caught.value)
    assert not any(secret in told for secret in SECRETS)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ftp://node", "http://", "http://node:port"])
def test_a_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Rpc(url)
    assert caught.value.remedy


async def test_a_batch_is_put_back_in_order_by_id() -> None:
    def backwards(posted: object) -> object:
        assert isinstance(posted, list)
        return [{"id": call["id"], "result": call["params"][0]} for call in reversed(posted)]

    endpoint = WireRpc([backwards])
    assert await endpoint.many([("eth_getBlockByNumber", [i]) for i in range(5)]) == [0, 1, 2, 3, 4]
    assert len(endpoint.posts) == 1


async def test_a_batch_with_a_missing_answer_is_an_error() -> None:
    endpoint = WireRpc([lambda posted: [{"id": posted[0]["id"], "result": 1}]])  # type: ignore[index]
    with pytest.raises(RpcUnavailable):
        await endpoint.many([("a", []), ("b", [])])


async def test_an_endpoint_without_batches_is_asked_one_by_one_from_then_on() -> None:
    def echo(posted: object) -> object:
        assert isinstance(posted, dict)
        return {"id": posted["id"], "result": posted["params"][0]}

    endpoint = WireRpc([error(-32600, "no batches"), echo, echo, echo, echo])
    assert await endpoint.many([("m", [1]), ("m", [2])]) == [1, 2]
    assert await endpoint.many([("m", [3]), ("m", [4])]) == [3, 4]
    assert [isinstance(post, list) for post in endpoint.posts] == [True, False, False, False, False]


@pytest.mark.parametrize(
    "data",
    ["0x08c379a0" + "20".zfill(64) + "02".zfill(64) + "6e6f".ljust(64, "0"), None],
)
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"data": data}, lambda data: {"x": {}, "data": data}])
def test_a_revert_is_read_wherever_a_node_puts_it(data: str | None, wrap: Callable[[object], object]) -> None:
    fault = RpcFault("node", "eth_call", 3, "execution reverted: no", wrap(data))
    assert revert_of(fault) == ("no" if data else "execution reverted: no")


def test_a_fault_that_is_no_revert_is_none() -> None:
    assert revert_of(RpcFault("node", "eth_call", -32000, "header not found", None)) is None


async def test_a_view_tells_the_contracts_error_and_what_to_do() -> None:
    selector = "0x7da9f1ff"
    endpoint = WireRpc([error(3, "execution reverted", selector)])
    with pytest.raises(CallReverted, match="unknown error"):
        await view(endpoint, "0x" + "11" * 20, "modelCount")

    endpoint = WireRpc([result("0x")])
    with pytest.raises(RpcUnavailable, match="not modelCount's"):
        await view(endpoint, "0x" + "11" * 20, "modelCount")


SIX = "0x" + "6".zfill(64)
USDX = "0x" + "20".zfill(64) + "4".zfill(64) + b"USDX".hex().ljust(64, "0")


def token_saying(symbol: dict[str, object], decimals: dict[str, object]) -> WireRpc:
    """An endpoint whose token answers so; ids are those of the batch."""

    def answer(posted: Any) -> object:
        return [said | {"id": one["id"]} for said, one in zip((symbol, decimals), posted, strict=True)]

    return WireRpc([answer])


@pytest.mark.parametrize(
    ("symbol", "told"),
    [
        (result(USDX), "USDX"),
        (result("0x" + b"MKR".hex().ljust(64, "0")), "MKR"),
        (error(3, "execution reverted", "0x"), ""),
        (result("0x"), ""),
        (result("0x" + "ff" * 64), ""),
        (result(None), ""),
    ],
)
async def test_given_a_token_with_any_symbol_or_none_when_read_then_its_decimals_stand_alone(
    symbol: dict[str, object], told: str
) -> None:
    assert await read_token(token_saying(symbol, result(SIX)), "0x" + "11" * 20) == (told, 6)


@pytest.mark.parametrize(
    ("symbol", "decimals"),
    [
        (result(USDX), error(3, "execution reverted", "0x")),
        (result(USDX), result("0x")),
        (result(USDX), result("0x" + "ff" * 32)),
        (error(-32005, "limit exceeded"), result(SIX)),  # says nothing of the token
    ],
)
async def test_given_a_token_whose_decimals_nobody_knows_or_a_node_that_is_busy_when_read_then_it_is_asked_again(
    symbol: dict[str, object], decimals: dict[str, object]
) -> None:
    with pytest.raises(RpcUnavailable):
        await read_token(token_saying(symbol, decimals), "0x" + "11" * 20)
