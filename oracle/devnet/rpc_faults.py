"""An RPC endpoint that misbehaves on purpose: a proxy in front of a development chain.

A double, named as one. It plays what anvil does not: range limits, HTTP errors, silence, receipts that come late, a
lie about a log, and the rule that a replacement must pay at least 10% more.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

Log = dict[str, Any]


@dataclass(slots=True)
class Faults:
    """Which faults are on. Everything is off at first; change them at any time."""

    max_log_range: int | None = None
    """Most blocks of one ``eth_getLogs``."""
    range_error: tuple[int, str] = (-32005, "query returned more than 10000 results")
    """Code and message of the refusal of a range."""
    http_status: dict[str, list[int]] = field(default_factory=dict)
    """For a method, the HTTP statuses of its next answers, one each."""
    silent: Counter[str] = field(default_factory=Counter)
    """For a method, how many of its next calls get no answer until the proxy closes."""
    late_receipts: int = 0
    """How many times the receipt of a transaction is asked for in vain."""
    alter_log: Callable[[Log], Log] | None = None
    """Changes each log of ``eth_getLogs``."""
    replacement_percent: int = 0
    """Least raise of both fees for a replacement, in percent."""
    refuse_batches: bool = False
    """Answer a batch with one error, as endpoints without batches do."""


@dataclass(frozen=True, slots=True)
class _Sent:
    raw: str
    fees: tuple[int, int]


class FaultyRpc:
    """A JSON-RPC proxy on 127.0.0.1 with scripted faults; ``calls`` counts what was asked, by method."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        self.round_trips = 0
        self._asked: Counter[str] = Counter()
        self._pending: dict[tuple[str, int], _Sent] = {}
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._port = 0

    async def __aenter__(self) -> FaultyRpc:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Its JSON-RPC URL."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Listen on a free port."""
        self._session = aiohttp.ClientSession()
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop; calls kept in silence end."""
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.round_trips += 1
        body = await request.json()
        if isinstance(body, list) and self.faults.refuse_batches:
            return web.json_response(_error(None, -32600, "batches are not supported"))
        for call in body if isinstance(body, list) else [body]:
            method = call["method"]
            self.calls[method] += 1
            if self.faults.silent[method] > 0:
                self.faults.silent[method] -= 1
                await self._closing.wait()
            if statuses := self.faults.http_status.get(method):
                return web.Response(status=statuses.pop(0), text="scripted fault")
        if isinstance(body, list):
            return web.json_response([await self._one(call) for call in body])
        return web.json_response(await self._one(body))

    async def _one(self, call: dict[str, Any]) -> dict[str, Any]:
        refusal = await self._refusal(call)
        if refusal is not None:
            return _error(call["id"], *refusal)
        answer = await self._forward(call)
        result = answer.get("result")
        if call["method"] == "eth_getLogs" and isinstance(result, list) and self.faults.alter_log is not None:
            answer["result"] = [self.faults.alter_log(log) for log in result]
        if call["method"] == "eth_getTransactionReceipt" and result is not None:
            transaction_hash = call["params"][0]
            self._asked[transaction_hash] += 1
            if self._asked[transaction_hash] <= self.faults.late_receipts:
                answer["result"] = None
        return answer

    async def _forward(self, call: dict[str, Any]) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("the proxy was not started")
        async with self._session.post(self._upstream, json=call) as response:
            answer: dict[str, Any] = json.loads(await response.read())
            return answer

    async def _refusal(self, call: dict[str, Any]) -> tuple[int, str] | None:
        method, params = call["method"], call["params"]
        if method == "eth_getLogs" and self.faults.max_log_range is not None:
            first, last = (int(params[0][end], 16) for end in ("fromBlock", "toBlock"))
            if last - first + 1 > self.faults.max_log_range:
                return self.faults.range_error
        if method == "eth_sendRawTransaction" and self.faults.replacement_percent:
            return await self._underpriced(params[0])
        return None

    async def _underpriced(self, raw: str) -> tuple[int, str] | None:
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        sender, nonce = str(Account.recover_transaction(raw)), int(fields["nonce"])
        sent = _Sent(raw, (int(fields["maxFeePerGas"]), int(fields["maxPriorityFeePerGas"])))
        old = self._pending.get((sender, nonce))
        if old is not None and old.raw != raw:
            count = {"jsonrpc": "2.0", "id": 0, "method": "eth_getTransactionCount", "params": [sender, "latest"]}
            pending = int((await self._forward(count))["result"], 16) <= nonce
            percent = 100 + self.faults.replacement_percent
            if pending and any(new * 100 < before * percent for new, before in zip(sent.fees, old.fees, strict=True)):
                return -32000, "replacement transaction underpriced"
        self._pending[sender, nonce] = sent
        return None


def _error(call_id: object, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}
