"""Providers and statistics."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from oracle.api import schemas, shapes
from oracle.api.answers import Ready, answer, as_json, problems, ready, unless_known
from oracle.api.desk import Desk, Lately
from oracle.errors import ChainError
from oracle.views import Figures

SAMPLE = 5000  # newest answers that figures by model come from
YEAR = 366 * 86_400
_LATELY = 3.0  # seconds for which figures are not read again
_SPANS = 8  # of those that anybody may choose, whose figures are kept
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would run

Range = Annotated[
    int, Query(ge=60, le=YEAR, description="Seconds back from now, a year of 366 days at most.", examples=[86_400])
]


@dataclass(frozen=True, slots=True)
class _Told:
    """Figures ready to be sent, as JSON and as CSV."""

    stats: Ready
    table: Ready


def router(desk: Desk) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["figures"])
    reads, registry, settings = desk.world.reads, desk.registry, desk.settings
    lately: Lately[_Told] = Lately(_LATELY, most=_SPANS)

    async def told(seconds: int) -> _Told:
        async def find() -> _Told:
            found = await reads.figures(time.time() - seconds, SAMPLE)
            try:
                names = {known.on_chain.model_id: known.name for known in await registry.models()}
            except ChainError:
                names = {}
            return await asyncio.to_thread(_render, found, names)

        return await lately.get(seconds, find)

    @routes.get("/providers", response_model=schemas.Providers, responses=problems(503))
    async def list_providers(request: Request) -> Response:
        """Every provider ever seen: costs, speed, reputation and why."""
        now = time.time()
        items = [
            shapes.provider(
                one,
                now,
                banned=one.node_id in settings.golem_banned,
                trusted=one.node_id in settings.golem_trusted,
            )
            for one in await reads.providers()
        ]
        return answer(request, {"items": items, "next": None})

    @routes.get("/stats", response_model=schemas.Stats, responses=problems(422, 503))
    async def stats(request: Request, range: Range = 86_400) -> Response:  # noqa: A002 - the query's name
        """What was asked and answered lately: counts, times by model, points for a scatter plot."""
        return unless_known(request.scope, (await told(range)).stats)

    @routes.get(
        "/stats.csv",
        response_class=Response,
        responses={
            200: {"description": "The points, one a line.", "content": {"text/csv": {"schema": {"type": "string"}}}},
            **problems(422, 503),
        },
    )
    async def stats_csv(request: Request, range: Range = 86_400) -> Response:  # noqa: A002
        """The points of the statistics as CSV."""
        return unless_known(request.scope, (await told(range)).table)

    return routes


def _render(found: Figures, names: Mapping[int, str]) -> _Told:
    return _Told(
        ready(as_json(shapes.stats(found, names))),
        ready(
            table(shapes.points(found)).encode(),
            kind="text/csv; charset=utf-8",
            Content_Disposition='attachment; filename="sibyl-stats.csv"',
        ),
    )


def table(points: list[dict[str, Any]]) -> str:
    """Points as CSV (RFC 4180); text that a spreadsheet would run is quoted."""
    out = io.StringIO()
    writer = csv.writer(out)
    names = ("id", "model", "provider", "bytes", "pixels", "compute_s", "total_s", "at")
    writer.writerow(names)
    for point in points:
        cells = ("" if point[name] is None else point[name] for name in names)
        writer.writerow([f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells])
    return out.getvalue()
