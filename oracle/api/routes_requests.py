"""Requests: a list by account, one, its timeline."""

from __future__ import annotations

import base64
import struct
from typing import Annotated

from eth_utils.address import is_address, to_checksum_address
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from oracle.api import schemas, shapes
from oracle.api.answers import NO_CACHE, answer, problems, unless_known
from oracle.api.book import SETTLED, identifier, settled
from oracle.api.desk import Desk
from oracle.api.problems import Problem
from oracle.domain import RequestStatus
from oracle.views import Place

RequestId = Annotated[
    str, Path(description="The request's id: 0x and 64 hex digits.", examples=["0x" + "5c" * 32], max_length=70)
]

_PLACE = struct.Struct(">QQ32s")


def router(desk: Desk) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/requests", tags=["requests"])
    book, reads, registry = desk.book, desk.world.reads, desk.registry

    @routes.get("", response_model=schemas.Requests, responses=problems(422, 503))
    async def list_requests(
        request: Request,
        account: Annotated[
            str | None, Query(description="Who asked.", max_length=42, examples=[schemas.EXAMPLE_ADDRESS])
        ] = None,
        model: Annotated[int | None, Query(ge=1, lt=2**63, description="Which model.", examples=[1])] = None,
        status: Annotated[RequestStatus | None, Query(description="Where it stands.")] = None,
        cursor: Annotated[str | None, Query(max_length=64, description="What `next` of the last page said.")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """Requests, the newest first."""
        if account is not None and not is_address(account):
            raise Problem(
                422, "bad-address", "Not an address", "an account is 0x and 40 hex digits", remedy="Copy it whole."
            )
        found = await reads.requests(
            account=str(to_checksum_address(account)) if account else None,
            model=model,
            status=status,
            after=None if cursor is None else read_cursor(cursor),
            limit=limit,
        )
        items = [shapes.request(view, registry.at_hand(view.row.request.model_id)) for view in found.items]
        following = None if found.next is None else write_cursor(found.next)
        return answer(request, {"items": items, "next": following})

    @routes.get("/{request_id}", response_model=schemas.Request, responses=problems(404, 422, 503))
    async def one_request(request: Request, request_id: RequestId) -> Response:
        """One request: what was asked, where it stands, what came of it."""
        found = await book.one(identifier(request_id))
        return unless_known(request.scope, found.answer)

    @routes.get("/{request_id}/timeline", response_model=schemas.Timeline, responses=problems(404, 422, 503))
    async def request_timeline(request: Request, request_id: RequestId) -> Response:
        """Every step of a request with its time."""
        found = await book.one(identifier(request_id))
        items = {"items": shapes.timeline(found.view.moves)}
        return answer(request, items, cache=SETTLED if settled(found.view) else NO_CACHE)

    return routes


def write_cursor(place: Place) -> str:
    """A place as opaque text."""
    return base64.urlsafe_b64encode(_PLACE.pack(place.block, place.log_index, place.request_id)).decode()


def read_cursor(text: str) -> Place:
    """The place in a cursor. Raises Problem 422."""
    try:
        place = Place(*_PLACE.unpack(base64.b64decode(text, altchars=b"-_", validate=True)))
        if place.block < 2**63 and place.log_index < 2**63 and write_cursor(place) == text:
            return place
    except (ValueError, struct.error):
        pass
    raise Problem(
        422, "bad-cursor", "Not a cursor", "this is no cursor of an earlier page", remedy="Leave it out to begin anew."
    )
