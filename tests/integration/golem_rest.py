"""A requestor made of bare REST calls, and a double of yagna for it to call."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from oracle.devnet.golem.double import ProviderDouble, YagnaDouble

MARKET, ACTIVITY, PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"
LATER = "2066-01-01T00:00:00.000000+00:00"
NOWHERE = "0" * 64


class RestRequestor:
    """Says what it is told to one API under one app key, and keeps nothing but its demand."""

    def __init__(self, session: aiohttp.ClientSession, api_url: str, key: str, subnet: str, platform: str) -> None:
        self._session, self._api_url, self._key = session, api_url, key
        self.subnet, self.platform = subnet, platform

    async def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, self._api_url + path, data=data, headers=headers) as response:
            text = await response.text()
            try:
                return response.status, json.loads(text) if text else None
            except ValueError:
                return response.status, text

    async def get(self, path: str, body: Any = None, *, method: str = "GET", status: int = 200) -> Any:
        """The answer of a call that must have this status."""
        found, value = await self(method, path, body)
        assert found == status, (method, path, found, value)
        return value

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        return await self.get(path, body, method="POST", status=status)

    async def me(self) -> str:
        return (await self.get("/me"))["identity"]

    def demand(self, seconds: float = 1500, **more: Any) -> dict[str, Any]:
        address = f"golem.com.payment.platform.{self.platform}.address"
        return {
            "properties": {
                "golem.srv.comp.expiration": int((time.time() + seconds) * 1000),
                "golem.node.debug.subnet": self.subnet,
                "golem.com.payment.protocol.version": "3",
                **more,
            },
            "constraints": f"(&(golem.node.debug.subnet={self.subnet})\n\t({address}=*)\n\t(golem.runtime.name=vm))",
        }

    async def subscribe(self, **more: Any) -> str:
        return await self.post(f"{MARKET}/demands", self.demand(**more), 201)

    async def events(self, demand: str, seconds: float = 2) -> list[dict[str, Any]]:
        return await self.get(f"{MARKET}/demands/{demand}/events?timeout={seconds}&maxEvents=10")

    async def initial(self, demand: str) -> dict[str, Any]:
        """The first proposal of a demand for one provider."""
        (event,) = await self.events(demand)
        assert event["proposal"]["state"] == "Initial"
        return event["proposal"]

    def answer(self, **more: Any) -> dict[str, Any]:
        return self.demand(**{"golem.com.payment.chosen-platform": self.platform, **more})

    async def counter(self, demand: str, proposal: str, **more: Any) -> str:
        return await self.post(f"{MARKET}/demands/{demand}/proposals/{proposal}", self.answer(**more))

    async def draft(self, demand: str, **more: Any) -> dict[str, Any]:
        """Counter the first proposal and wait for the provider's answer."""
        await self.counter(demand, (await self.initial(demand))["proposalId"], **more)
        (event,) = await self.events(demand)
        assert event["eventType"] == "ProposalEvent", event
        return event["proposal"]

    async def propose(self, draft: Mapping[str, Any]) -> str:
        agreement = await self.post(f"{MARKET}/agreements", {"proposalId": draft["proposalId"], "validTo": LATER})
        await self.post(f"{MARKET}/agreements/{agreement}/confirm", status=204)
        return agreement

    async def agree(self, demand: str | None = None) -> str:
        agreement = await self.propose(await self.draft(demand or await self.subscribe()))
        await self.post(f"{MARKET}/agreements/{agreement}/wait?timeout=5", status=204)
        return agreement

    async def terminate(self, agreement: str) -> None:
        await self.post(f"{MARKET}/agreements/{agreement}/terminate", {"message": "done"})

    async def execute(self, activity: str, *commands: Any) -> str:
        return await self.post(f"{ACTIVITY}/activity/{activity}/exec", {"text": json.dumps(commands)})

    async def results(self, activity: str, batch: str, seconds: float = 5) -> list[dict[str, Any]]:
        return await self.get(f"{ACTIVITY}/activity/{activity}/exec/{batch}?timeout={seconds}")

    async def ready(self, agreement: str) -> str:
        """An activity that was deployed and started."""
        activity = await self.post(f"{ACTIVITY}/activity", agreement)
        results = await self.results(activity, await self.execute(activity, {"deploy": {}}, {"start": {"args": []}}))
        assert [result["result"] for result in results] == ["Ok", "Ok"]
        return activity

    async def allocate(self, amount: str) -> str:
        body = {"paymentPlatform": self.platform, "totalAmount": amount}
        return (await self.post(f"{PAYMENT}/allocations", body, 201))["allocationId"]

    async def accept(self, kind: str, document: str, amount: str, allocation: str) -> tuple[int, Any]:
        body = {"totalAmountAccepted": amount, "allocationId": allocation}
        return await self("POST", f"{PAYMENT}/{kind}/{document}/accept", body)


def run(*words: str) -> dict[str, Any]:
    """A command with both outputs captured, as yapapi sends it."""
    capture = {"stdout": {"stream": {}}, "stderr": {"stream": {}}}
    return {"run": {"entry_point": words[0], "args": words[1:], "capture": capture}}


def transfer(source: str, target: str) -> dict[str, Any]:
    return {"transfer": {"from": source, "to": target}}


def states(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(result["result"]) for result in results]


@asynccontextmanager
async def world(directory: Path, *providers: ProviderDouble, **how: Any) -> AsyncIterator[tuple[YagnaDouble, Any]]:
    """A double, and a function that makes a requestor of one of its keys."""
    how.setdefault("patience", 0.02)
    async with YagnaDouble(directory / "yagna", providers, **how) as yagna, aiohttp.ClientSession() as session:

        def requestor(key: str = yagna.app_key) -> RestRequestor:
            return RestRequestor(session, yagna.api_url, key, yagna.subnet, yagna.platform)

        yield yagna, requestor
    assert not (directory / "yagna").exists()
