"""The routes of the double: yagna's REST API as far as a requestor uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from oracle.devnet.golem.double.activities import Activities
from oracle.devnet.golem.double.faults import RestFault
from oracle.devnet.golem.double.http import (
    IDENTITY,
    Refusal,
    answer,
    body_of,
    count_of,
    empty,
    object_of,
    seconds_of,
    since_of,
)
from oracle.devnet.golem.double.identifiers import stamp
from oracle.devnet.golem.double.market import Market, Proposition
from oracle.devnet.golem.double.payments import Payments
from oracle.devnet.golem.double.pulse import Pulse

_VERSION = "0.17.6"
_POLL = 5.0
_MANY = 1_000_000
_MARKET, _ACTIVITY, _PAYMENT = "/market-api/v1", "/activity-api/v1", "/payment-api/v1"

Call = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """Handlers and middlewares. ``keys`` maps app keys to (identity, name); ``faults`` are those of the daemon.

    ``errors``: what went wrong in a handler that should not, a mistake of the double's own.
    """

    def __init__(
        self,
        market: Market,
        activities: Activities,
        payments: Payments,
        pulse: Pulse,
        *,
        keys: dict[str, tuple[str, str]],
        patience: float,
    ) -> None:
        self._market, self._activities, self._payments, self._pulse = market, activities, payments, pulse
        self._keys, self._patience = keys, patience
        self.faults: list[RestFault] = []
        self.errors: list[BaseException] = []

    def routes(self) -> list[web.RouteDef]:
        """Every call that is known."""
        invoices, notes = f"{_PAYMENT}/invoices", f"{_PAYMENT}/debitNotes"
        calls: list[tuple[str, str, Call]] = [
            ("GET", "/me", self._me),
            ("GET", "/version/get", self._version),
            ("GET", f"{_MARKET}/demands", self._demands),
            ("POST", f"{_MARKET}/demands", self._subscribe),
            ("DELETE", f"{_MARKET}/demands/{{demand}}", self._unsubscribe),
            ("GET", f"{_MARKET}/demands/{{demand}}/events", self._collect),
            ("POST", f"{_MARKET}/demands/{{demand}}/proposals/{{proposal}}", self._counter),
            ("POST", f"{_MARKET}/demands/{{demand}}/proposals/{{proposal}}/reject", self._reject_proposal),
            ("GET", f"{_MARKET}/agreements", self._agreements),
            ("POST", f"{_MARKET}/agreements", self._agree),
            ("GET", f"{_MARKET}/agreements/{{agreement}}", self._agreement),
            ("POST", f"{_MARKET}/agreements/{{agreement}}/confirm", self._confirm),
            ("POST", f"{_MARKET}/agreements/{{agreement}}/wait", self._await_approval),
            ("POST", f"{_MARKET}/agreements/{{agreement}}/terminate", self._terminate),
            ("GET", f"{_MARKET}/agreementEvents", self._agreement_events),
            ("POST", f"{_ACTIVITY}/activity", self._create_activity),
            ("DELETE", f"{_ACTIVITY}/activity/{{activity}}", self._destroy_activity),
            ("GET", f"{_ACTIVITY}/activity/{{activity}}/state", self._activity_state),
            ("GET", f"{_ACTIVITY}/activity/{{activity}}/usage", self._activity_usage),
            ("POST", f"{_ACTIVITY}/activity/{{activity}}/exec", self._execute),
            ("GET", f"{_ACTIVITY}/activity/{{activity}}/exec/{{batch}}", self._results),
            ("GET", f"{_PAYMENT}/requestorAccounts", self._accounts),
            ("GET", f"{_PAYMENT}/allocations", self._allocations),
            ("POST", f"{_PAYMENT}/allocations", self._allocate),
            ("GET", f"{_PAYMENT}/allocations/{{allocation}}", self._allocation),
            ("PUT", f"{_PAYMENT}/allocations/{{allocation}}", self._amend),
            ("DELETE", f"{_PAYMENT}/allocations/{{allocation}}", self._release),
            ("GET", f"{_PAYMENT}/demandDecorations", self._decorations),
            ("GET", f"{_PAYMENT}/payments", self._nothing_paid),
        ]
        for base, kind in ((invoices, "invoice"), (notes, "debitNote")):
            calls += [
                ("GET", base, self._listing(kind)),
                ("GET", f"{_PAYMENT}/{kind}Events", self._events(kind)),
                ("GET", f"{base}/{{document}}", self._document(kind)),
                ("POST", f"{base}/{{document}}/accept", self._accept(kind)),
                ("POST", f"{base}/{{document}}/reject", self._reject_document(kind)),
                ("GET", f"{base}/{{document}}/payments", self._nothing_paid),
            ]
        return [web.route(method, path, call) for method, path, call in calls]

    # Around every call -------------------------------------------------------------------------------------------

    @web.middleware
    async def misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: scripted faults of the daemon itself."""
        due = [fault for fault in self.faults if fault.due(request.method, request.path)]
        if due:
            await asyncio.sleep(due[0].seconds)
            if due[0].drop and request.transport is not None:
                request.transport.abort()
            if due[0].status is not None:
                return Refusal(due[0].status, due[0].message).response()
        return await handler(request)

    @web.middleware
    async def authorise(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: an app key is an identity; without one only the version is told."""
        if request.path == "/version/get" or request.match_info.route.name == "image":
            return await handler(request)
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        key = key if scheme.lower() == "bearer" else request.query.get("authToken", "")
        if key not in self._keys:
            said = "Invalid application key" if key else "Missing application key"
            return web.Response(status=401, text=said)
        request[IDENTITY] = self._keys[key][0]
        return await handler(request)

    @web.middleware
    async def refuse(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Middleware: what breaks a rule is answered in yagna's words."""
        try:
            return await handler(request)
        except Refusal as refusal:
            return refusal.response()
        except web.HTTPNotFound:
            return empty(404)
        except Exception as error:
            self.errors.append(error)
            raise

    # Root --------------------------------------------------------------------------------------------------------

    async def _me(self, request: web.Request) -> web.Response:
        identity = request[IDENTITY]
        name = next(name for owner, name in self._keys.values() if owner == identity)
        return answer({"identity": identity, "name": name, "role": "manager"})

    async def _version(self, _: web.Request) -> web.Response:
        then = "2026-03-13T00:00:00"
        release = {"version": _VERSION, "name": "double", "seen": True, "releaseTs": then, "insertionTs": then}
        return answer({"current": {**release, "updateTs": then}, "pending": None})

    # Market ------------------------------------------------------------------------------------------------------

    async def _demands(self, request: web.Request) -> web.Response:
        mine = [demand for demand in self._market.demands.values() if demand.requestor == request[IDENTITY]]
        return answer(
            [
                {
                    "properties": dict(demand.terms.properties),
                    "constraints": demand.terms.constraints,
                    "demandId": demand.id,
                    "requestorId": demand.requestor,
                    "timestamp": stamp(demand.created),
                }
                for demand in mine
            ]
        )

    async def _subscribe(self, request: web.Request) -> web.Response:
        return answer(self._market.subscribe(request[IDENTITY], await _terms(request)).id, 201)

    async def _unsubscribe(self, request: web.Request) -> web.Response:
        self._market.unsubscribe(request[IDENTITY], request.match_info["demand"])
        return empty(204)

    async def _collect(self, request: web.Request) -> web.Response:
        most = count_of(request, "maxEvents", 20)
        events = await self._market.collect(
            request[IDENTITY], request.match_info["demand"], seconds_of(request, _POLL), most
        )
        return answer(events)

    async def _counter(self, request: web.Request) -> web.Response:
        named = request.match_info
        terms = await _terms(request)
        return answer(self._market.counter(request[IDENTITY], named["demand"], named["proposal"], terms).id)

    async def _reject_proposal(self, request: web.Request) -> web.Response:
        named = request.match_info
        await object_of(request, "message")
        self._market.reject(request[IDENTITY], named["demand"], named["proposal"])
        return empty(204)

    async def _agreements(self, request: web.Request) -> web.Response:
        mine = [a for a in self._market.agreements.values() if a.demand.requestor == request[IDENTITY]]
        shown: list[dict[str, str]] = []
        for agreement in mine:
            item = {"id": agreement.id, "timestamp": stamp(agreement.created), "role": "Requestor"}
            shown.append(item if agreement.approved is None else {**item, "approvedDate": stamp(agreement.approved)})
        return answer(shown)

    async def _agree(self, request: web.Request) -> web.Response:
        body = await object_of(request, "proposalId", "validTo")
        return answer(self._market.agree(request[IDENTITY], str(body["proposalId"]), str(body["validTo"])).id)

    async def _agreement(self, request: web.Request) -> web.Response:
        return answer(self._market.view(self._market.agreement(request[IDENTITY], request.match_info["agreement"])))

    async def _confirm(self, request: web.Request) -> web.Response:
        self._market.confirm(request[IDENTITY], request.match_info["agreement"], request.query.get("appSessionId"))
        return empty(204)

    async def _await_approval(self, request: web.Request) -> web.Response:
        seconds = seconds_of(request, _POLL) * self._patience
        await self._market.await_approval(request[IDENTITY], request.match_info["agreement"], seconds)
        return empty(204)

    async def _terminate(self, request: web.Request) -> web.Response:
        reason = await object_of(request, "message")
        self._market.terminate(request[IDENTITY], request.match_info["agreement"], reason)
        return empty(200)

    async def _agreement_events(self, request: web.Request) -> web.Response:
        since, session = since_of(request), request.query.get("appSessionId")

        def found() -> list[dict[str, Any]]:
            return [
                event
                for at, requestor, event in self._market.agreement_events
                if requestor == request[IDENTITY]
                and (since is None or at > since)
                and session in (None, self._market.agreements[event["agreementId"]].session)
            ]

        events = await self._pulse.until(found, seconds_of(request, _POLL))
        return answer(events[: count_of(request, "maxEvents", 20)])

    # Activity ----------------------------------------------------------------------------------------------------

    async def _create_activity(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        bare = isinstance(body, str)
        agreement = body if bare else (await object_of(request, "agreementId"))["agreementId"]
        seconds = seconds_of(request, _POLL) if "timeout" in request.query else None
        activity = await self._activities.create(request[IDENTITY], str(agreement), seconds)
        return answer(activity.id if bare else {"activityId": activity.id})

    async def _destroy_activity(self, request: web.Request) -> web.Response:
        await self._activities.destroy(request[IDENTITY], request.match_info["activity"])
        return answer(None)

    async def _activity_state(self, request: web.Request) -> web.Response:
        return answer(self._activities.state(request[IDENTITY], request.match_info["activity"]))

    async def _activity_usage(self, request: web.Request) -> web.Response:
        return answer(self._activities.usage(request[IDENTITY], request.match_info["activity"]))

    async def _execute(self, request: web.Request) -> web.Response:
        body = await object_of(request, "text")
        return answer(await self._activities.execute(request[IDENTITY], request.match_info["activity"], body["text"]))

    async def _results(self, request: web.Request) -> web.Response:
        named = request.match_info
        index = count_of(request, "commandIndex", 0) if "commandIndex" in request.query else None
        seconds = seconds_of(request, _POLL)
        results = await self._activities.results(request[IDENTITY], named["activity"], named["batch"], seconds, index)
        return answer(results)

    # Payment -----------------------------------------------------------------------------------------------------

    async def _accounts(self, request: web.Request) -> web.Response:
        return answer([self._payments.account(request[IDENTITY])])

    async def _allocations(self, request: web.Request) -> web.Response:
        return answer([allocation.view() for allocation in self._payments.open_allocations(request[IDENTITY])])

    async def _allocate(self, request: web.Request) -> web.Response:
        return answer(self._payments.allocate(request[IDENTITY], await object_of(request, "totalAmount")).view(), 201)

    async def _allocation(self, request: web.Request) -> web.Response:
        return answer(self._payments.allocation(request[IDENTITY], request.match_info["allocation"]).view())

    async def _amend(self, request: web.Request) -> web.Response:
        body = await object_of(request)
        return answer(self._payments.amend(request[IDENTITY], request.match_info["allocation"], body).view())

    async def _release(self, request: web.Request) -> web.Response:
        self._payments.release(request[IDENTITY], request.match_info["allocation"])
        return answer(None)

    async def _decorations(self, request: web.Request) -> web.Response:
        named = [name for name in request.query.get("allocationIds", "").split(",") if name]
        return answer(self._payments.decorations(request[IDENTITY], named))

    async def _nothing_paid(self, _: web.Request) -> web.Response:
        return answer([])

    def _listing(self, kind: str) -> Call:
        async def call(request: web.Request) -> web.Response:
            most = count_of(request, "maxItems", _MANY)
            found = self._payments.received(request[IDENTITY], kind, since_of(request), most)
            return answer([document.view() for document in found])

        return call

    def _events(self, kind: str) -> Call:
        async def call(request: web.Request) -> web.Response:
            since, seconds = since_of(request), seconds_of(request, _POLL)
            most = count_of(request, "maxEvents", _MANY)
            return answer(await self._payments.events(request[IDENTITY], kind, since, seconds, most))

        return call

    def _document(self, kind: str) -> Call:
        async def call(request: web.Request) -> web.Response:
            return answer(self._payments.document(request[IDENTITY], kind, request.match_info["document"]).view())

        return call

    def _accept(self, kind: str) -> Call:
        async def call(request: web.Request) -> web.Response:
            body = await object_of(request, "totalAmountAccepted", "allocationId")
            self._payments.accept(request[IDENTITY], kind, request.match_info["document"], body)
            return answer(None)

        return call

    def _reject_document(self, kind: str) -> Call:
        async def call(request: web.Request) -> web.Response:
            body = await object_of(request, "rejectionReason")
            self._payments.reject(request[IDENTITY], kind, request.match_info["document"], body)
            return answer(None)

        return call


async def _terms(request: web.Request) -> Proposition:
    body = await object_of(request, "properties", "constraints")
    if not isinstance(body["properties"], dict):
        raise Refusal(400, "Json deserialize error: properties: invalid type, expected a map")
    return Proposition(body["properties"], str(body["constraints"]))
