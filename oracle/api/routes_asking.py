"""Asking through the gateway, which pays: a request, a wish for a provider, and the two lines that need only curl."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from eth_utils.address import is_address, to_checksum_address
from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.responses import Response

from oracle.api import schemas
from oracle.api.answers import JSON, NO_CACHE, Ready, as_json, hexed, made, problems, ready, unless_known
from oracle.api.book import SETTLED, identifier, settled, unknown_request
from oracle.api.desk import OPEN_SECONDS, Desk, Findings
from oracle.api.limits import Buckets, client_of
from oracle.api.ports import Holder, Paid, Payer, SignedWish
from oracle.api.problems import Problem
from oracle.api.registry import KnownModel
from oracle.api.routes_requests import RequestId
from oracle.api.routes_uploads import PICTURE_BODY, Uploads
from oracle.domain import Cid, FailureReason, RequestStatus
from oracle.errors import KeyNeeded
from oracle.settings import Settings
from oracle.views import RequestView

_SHOWN = 8  # models that an error names
_MOST_NAME = 100
LOST = 600  # seconds after its deadline in which the oracle may still come upon a request that was paid for
WISHES = 100
"""Wishes that one client may leave at once, and in an hour: the box holds 10,000 of all."""

Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
Key = Annotated[str | None, Depends(APIKeyHeader(name="X-API-Key", auto_error=False))]
Once = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="The same key with the same question again gives the same request, paid once.",
        examples=["4f1c0c9e-6f0b-4f4e-9a54-6f6f1a4f8f27"],
    ),
]
ModelChoice = Annotated[
    str, Path(description="A model's number or name.", min_length=1, max_length=_MOST_NAME, examples=["1"])
]


def payer_of(desk: Desk) -> Payer:
    """Who pays here. Raises KeyNeeded where nobody does."""
    if desk.world.writes is None or desk.world.writes.payer is None:
        raise KeyNeeded(
            "this API pays for nobody", remedy="Pay with a wallet: the page does it, and the client library."
        )
    return desk.world.writes.payer


async def holder(request: Request, bearer: Bearer, key: Key) -> Holder:
    """On whose account it is asked. Raises KeyNeeded."""
    desk: Desk = request.app.state.desk
    token = key if key is not None else bearer.credentials if bearer is not None else None
    if token is None and _from_a_strangers_page(request, desk.settings):
        raise KeyNeeded(
            "without a key the gateway does not pay for what another site's page sends",
            remedy="Send an API key, or have the operator name that site in SIBYL_API_CORS.",
        )
    return await payer_of(desk).holder(token, client_of(request.scope, desk.settings.api_proxies))


Payee = Annotated[Holder, Depends(holder)]


def _from_a_strangers_page(request: Request, settings: Settings) -> bool:
    """Whether a browser says so: it sends forms from anywhere, asks nobody first, and names where they come from."""
    origin = request.headers.get("origin")
    if origin is None or "*" in settings.api_cors or origin in settings.api_cors:
        return False
    ours = {request.headers.get("host", "").lower(), urlsplit(settings.api_url or "").netloc.lower()} - {""}
    return urlsplit(origin).netloc.lower() not in ours


def router(desk: Desk, uploads: Uploads) -> APIRouter:
    """The routes."""
    routes = APIRouter()
    settings = desk.settings
    wished = Buckets(WISHES / 3600, WISHES)

    def payer() -> Payer:
        return payer_of(desk)

    @routes.put(
        "/v1/requests/wish",
        status_code=204,
        tags=["requests"],
        responses=problems(400, 403, 408, 409, 413, 422, 429, 503),
    )
    async def wish(request: Request, body: schemas.Wish) -> Response:
        """Say which provider shall compute a picture, before the request is made: the newest counts for an hour."""
        wished.spend(
            uploads.client(request),
            1,
            "too-many-wishes",
            "Too many wishes",
            f"one client may leave {WISHES} wishes at once, and as many an hour from then on",
            remedy="Ask without naming a provider, or wait as long as Retry-After says.",
        )
        if not is_address(body.requester):
            raise Problem(422, "bad-address", "Not an address", "requester is 0x and 40 hex digits")
        if body.provider:
            await _check_provider(desk, body.provider)
        signature = bytes.fromhex(body.signature.removeprefix("0x"))
        requester, image = to_checksum_address(body.requester), _cid(body.image_cid)
        await uploads.writes.wishes.take(SignedWish(requester, image, body.provider, body.signed_at, signature))
        return Response(status_code=204)

    @routes.post(
        "/v1/requests",
        status_code=202,
        tags=["requests"],
        response_model=schemas.Asked,
        responses=problems(400, 401, 402, 404, 408, 409, 413, 422, 429, 502, 503, 504),
    )
    async def ask(request: Request, body: schemas.Question, payee: Payee, once: Once = None) -> Response:
        """Have the gateway ask a model about a picture that is pinned already. Back when the request is on-chain."""
        model = await choose(desk, str(body.model))
        image = _cid(body.image_cid)
        provider = body.provider or ""
        number = model.on_chain.model_id
        paid = None if once is None else await payer().begun(payee, number, image, once)
        if paid is None:
            if provider:
                await _check_provider(desk, provider)
            await payer().affordable(payee, number)
            # A picture that nobody can read would cost the network's fee, and be refunded at best.
            async with uploads.turn(request):
                data = await desk.open.file(image, limit=settings.image_max_bytes, timeout=OPEN_SECONDS)
                await uploads.writes.inspector.inspect(data)
            paid = await payer().ask(payee, number, image, provider=provider, idempotency=once)
        document = {
            "id": hexed(paid.request_id),
            "transaction": hexed(paid.transaction_hash),
            "payment": str(paid.payment),
            "model": paid.model_id,
            "image_cid": paid.image_cid.text,
        }
        return made(document, f"/v1/requests/{hexed(paid.request_id)}", 202)

    @routes.post(
        "/requestPrediction/{model}",
        status_code=202,
        tags=["in two lines"],
        response_model=schemas.PredictionAsked,
        responses=problems(400, 401, 402, 404, 408, 409, 413, 415, 422, 429, 502, 503, 504, 507),
        openapi_extra=PICTURE_BODY,
    )
    async def request_prediction(request: Request, model: ModelChoice, payee: Payee, once: Once = None) -> Response:
        """Upload a picture and have the gateway ask about it: `curl -X POST -F image=@kitten.jpg ...`."""
        chosen = await choose(desk, model)
        # Whoever cannot be paid for need not send a picture, and nothing is pinned for nothing.
        if once is None:  # else it may have been paid for already
            await payer().affordable(payee, chosen.on_chain.model_id)
        async with uploads.turn(request):
            picture = await uploads.picture(request)
            image = await uploads.pin(picture)
        paid = await payer().ask(payee, chosen.on_chain.model_id, image, idempotency=once)
        where = _address(desk, f"/readPrediction/{hexed(paid.request_id)}")
        document = {
            "request_id": hexed(paid.request_id),
            "status_url": where,
            "payment": str(paid.payment),
            "image_cid": paid.image_cid.text,
        }
        return made(document, where, 202)

    async def read_prediction(request: Request, request_id: RequestId) -> Response:
        """Where a request stands, and its predictions once it is answered: `curl -X POST ...`."""
        wanted = identifier(request_id)
        found = await desk.book.find(wanted)
        if found is None:
            ours = uploads.writes.payer
            paid = await ours.paid(wanted) if ours is not None else None
            if paid is None:
                raise unknown_request()
            if time.time() > paid.deadline + LOST:
                raise unknown_request(
                    f"transaction {hexed(paid.transaction_hash)} paid for this request, its deadline has passed, and "
                    "the oracle has not seen it",
                    remedy="Ask again: nobody may answer this one any more, and the gateway takes its money back.",
                )
            return _pending(_unseen(desk, paid))
        view = found.view
        document = _summary(desk, view)
        if not settled(view):
            return _pending(document)
        if view.row.status is RequestStatus.FULFILLED and view.row.result_cid is not None:
            document |= _predicted(desk, document, await desk.results.findings(view.row.result_cid))
        return unless_known(request.scope, ready(as_json(document), cache=SETTLED))

    for method in ("GET", "POST"):
        routes.add_api_route(
            "/readPrediction/{request_id}",
            read_prediction,
            methods=[method],
            operation_id=f"{method.lower()}_prediction",
            tags=["in two lines"],
            response_model=schemas.Predictions,
            responses={
                202: {"model": schemas.Predictions, "description": "Not answered yet; predictions are null."},
                **problems(404, 422, 429, 502, 503, 504),
            },
        )
    return routes


async def choose(desk: Desk, choice: str) -> KnownModel:
    """The model of that number or name. Anyone may publish a model of any name, so a name counts when one active model
    alone bears it, or the deployment's own does. Raises Problem 404 and 409.
    """
    if choice.isascii() and choice.isdigit():
        return await desk.registry.model(int(choice) if len(choice) < 20 else 0)
    bearers = [
        known
        for known in await desk.registry.models()
        if known.on_chain.active and known.manifest is not None and known.manifest.name == choice
    ]
    own = [known for known in bearers if known.on_chain.model_id == desk.settings.default_model]
    if own or len(bearers) == 1:
        return (own or bearers)[0]
    if bearers:
        numbers = ", ".join(str(known.on_chain.model_id) for known in bearers[:_SHOWN])
        raise Problem(
            409,
            "ambiguous-model",
            "Several models bear this name",
            "more than one active model bears this name",
            remedy=f"Choose by number the one whose publisher you trust: {numbers}.",
        )
    raise Problem(
        404,
        "unknown-model",
        "No such model",
        "no active model bears this name",
        remedy="See /v1/models for those that there are.",
    )


async def _check_provider(desk: Desk, provider: str) -> None:
    known = await desk.world.reads.providers()
    if provider not in {name for one in known for name in (one.node_id, one.name)}:
        raise Problem(
            422,
            "unknown-provider",
            "No such provider",
            "the oracle has seen no provider of this id or name",
            remedy="See /v1/providers, or leave the choice to the oracle.",
        )


def _cid(text: str) -> Cid:
    try:
        return Cid.parse(text)
    except ValueError as error:
        raise Problem(
            422,
            "bad-cid",
            "Not a CID",
            "image_cid is no CID of version 0 or 1 with sha2-256",
            remedy="Upload the picture with POST /v1/images; it answers with the CID.",
        ) from error


def _summary(desk: Desk, view: RequestView) -> dict[str, Any]:
    row = view.row
    failure = None
    if row.failure is not FailureReason.NONE:
        failure = {"reason": row.failure.name.lower(), "text": row.failure.text}
    known = desk.registry.at_hand(row.request.model_id)
    return {
        "request_id": hexed(row.request_id),
        "status": row.status.value,
        "model": known.name if known is not None else f"model {row.request.model_id}",
        "predictions": None,
        "failure": failure,
        "result_cid": None if row.result_cid is None else row.result_cid.text,
        "links": _links(desk, row.request_id),
    }


def _unseen(desk: Desk, paid: Paid) -> dict[str, Any]:
    """A request of ours that the oracle has not read from the chain yet."""
    known = desk.registry.at_hand(paid.model_id)
    return {
        "request_id": hexed(paid.request_id),
        "status": RequestStatus.SEEN.value,
        "model": known.name if known is not None else f"model {paid.model_id}",
        "predictions": None,
        "failure": None,
        "result_cid": None,
        "links": _links(desk, paid.request_id),
    }


def _links(desk: Desk, request_id: bytes) -> dict[str, str]:
    path = f"/v1/requests/{hexed(request_id)}"
    return {"request": _address(desk, path), "events": _address(desk, f"{path}/events")}


def _predicted(desk: Desk, summary: Mapping[str, Any], found: Findings) -> dict[str, Any]:
    """What a result document adds to a summary."""
    result = f"/v1/results/{summary['request_id']}"
    links = {**summary["links"], "result": _address(desk, result)}
    links |= {name: _address(desk, f"{result}/{name}.png") for name in found.files}
    return {"predictions": found.predictions, "links": links}


def _address(desk: Desk, path: str) -> str:
    """A path as its user reaches it, as far as that is known."""
    return f"{desk.settings.api_url or ''}{path}"


def _pending(document: dict[str, Any]) -> Response:
    headers = {"Content-Type": JSON, "Cache-Control": NO_CACHE, "Retry-After": "1"}
    return Ready(as_json(document), headers, 202)


__all__ = ["choose", "router"]
