"""Results by request: the document's exact bytes, and the drawings that it names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from oracle.api.answers import JSON, problems, ready, unless_known
from oracle.api.book import identifier
from oracle.api.desk import Desk
from oracle.api.problems import Problem
from oracle.api.routes_requests import RequestId
from oracle.domain import Cid, RequestStatus
from oracle.errors import ContentCorrupt

PNG = b"\x89PNG\r\n\x1a\n"
SHORTLY = "public, max-age=60"  # a reorg may give the request another result
_ENDED = (RequestStatus.REJECTED, RequestStatus.REFUNDED, RequestStatus.CANCELLED, RequestStatus.EXPIRED)
_HEADERS = {
    "X-Sibyl-Result-CID": {"description": "The result's CID, as the chain holds it.", "schema": {"type": "string"}},
    "ETag": {"description": "The CID of the bytes, in quotes.", "schema": {"type": "string"}},
}


def router(desk: Desk) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/results", tags=["results"])

    async def result_cid(request_id: str) -> Cid:
        row = (await desk.book.one(identifier(request_id))).view.row
        if row.status is RequestStatus.FULFILLED and row.result_cid is not None:
            return row.result_cid
        if row.status in _ENDED:
            raise Problem(
                410,
                "ended-without-answer",
                "It ended without an answer",
                f"the request is {row.status.value}",
                remedy="Its money went back, or goes back with a refund. Ask again.",
            )
        raise Problem(
            409,
            "not-answered-yet",
            "Not answered yet",
            f"the request is {row.status.value}",
            remedy="Follow /v1/requests/{id}/events, or come back.",
            headers={"Retry-After": "1"},
        )

    @routes.get(
        "/{request_id}",
        response_class=Response,
        responses={
            200: {
                "description": "The document's exact bytes: they hash to the CID.",
                "content": {"application/json": {"example": _EXAMPLE}},
                "headers": _HEADERS,
            },
            **problems(404, 409, 410, 422, 502, 503, 504),
        },
    )
    async def result(request: Request, request_id: RequestId) -> Response:
        """A result document."""
        cid = await result_cid(request_id)
        data = await desk.results.document(cid)
        whole = ready(data, kind=JSON, cache=SHORTLY, tag=f'"{cid}"', X_Sibyl_Result_CID=cid.text)
        return unless_known(request.scope, whole)

    @routes.get(
        "/{request_id}/{name}.png",
        response_class=Response,
        responses={
            200: {
                "description": "A drawing of the result.",
                "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
                "headers": _HEADERS,
            },
            **problems(404, 409, 410, 422, 502, 503, 504),
        },
    )
    async def drawing(
        request: Request,
        request_id: RequestId,
        name: Annotated[str, Path(description="labels, overlay or mask.", max_length=32, examples=["labels"])],
    ) -> Response:
        """A drawing that a result document names."""
        cid = await result_cid(request_id)
        files = (await desk.results.findings(cid)).files
        if name not in files:
            there = ", ".join(sorted(files)) or "none"
            raise Problem(
                404,
                "no-such-drawing",
                "No such drawing",
                "the result names no drawing of this name",
                remedy=f"There is: {there}.",
            )
        data = await desk.results.drawing(files[name])
        if not data.startswith(PNG):
            raise ContentCorrupt("the drawing is no PNG", remedy="Do not trust it.")
        whole = ready(data, kind="image/png", cache=SHORTLY, tag=f'"{files[name]["cid"]}"', X_Sibyl_Result_CID=cid.text)
        return unless_known(request.scope, whole)

    return routes


_EXAMPLE = {
    "schema": "sibyl/result/1",
    "request": "0x" + "5c" * 32,
    "labels": [{"index": 7, "label": "7", "probability": 0.9987}],
}
