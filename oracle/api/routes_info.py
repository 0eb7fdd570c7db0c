"""What this API speaks for, and whether what it leans on is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import Response

from oracle.api import schemas, shapes
from oracle.api.answers import answer, as_json, problems, ready, unless_known
from oracle.api.desk import Desk, Lately
from oracle.errors import SibylError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_LATELY = 1.0  # seconds for which health is not looked at again
_PATIENCE = 3.0  # seconds for one look

T = TypeVar("T")


def router(desk: Desk) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["deployment"])
    world, settings = desk.world, desk.settings
    lately: Lately[dict[str, Any]] = Lately(_LATELY)

    @routes.get("", response_model=schemas.Config, responses=problems(503))
    async def config(request: Request) -> Response:
        """The deployment: chain, coordinator, limits."""
        deployed = await world.chain.deployment()
        facts = {
            "name": "sibyl",
            "version": version("sibyl"),
            "chain_id": deployed.chain_id,
            "chain_name": shapes.chain_name(deployed.chain_id),
            "currency": {"symbol": shapes.coin(deployed.chain_id), "decimals": 18},
            "coordinator": deployed.coordinator,
            "start_block": settings.start_block,
            "default_model": settings.default_model,
            "rpc_url": settings.page_rpc_url,
            "explorer_url": None,
            "cancel_window": deployed.cancel_window,
            "confirmations": settings.confirmations,
            "backend": settings.backend,
            "gateway": {"open": settings.gateway_open and world.gateway is not None, "address": world.gateway},
            "gateways": list(settings.page_gateways),
            "limits": {
                "image_bytes": settings.image_max_bytes,
                "image_pixels": settings.image_max_pixels,
                "formats": list(FORMATS),
            },
        }
        return answer(request, facts)

    @routes.get(
        "/health",
        response_model=schemas.Health,
        responses={503: {"model": schemas.Health, "description": "Something that this API leans on is not well."}},
    )
    async def health(request: Request) -> Response:
        """Whether the database, the chain and the content store answer."""
        facts = await lately.get("health", look)
        whole = ready(as_json(facts), cache="no-store")
        if facts["ok"]:
            return unless_known(request.scope, whole)
        whole.status_code = 503
        return whole

    async def look() -> dict[str, Any]:
        (scanned, database), (head, chain), (_, content) = await asyncio.gather(
            _tried(world.reads.scanned), _tried(world.chain.head), _tried(world.content.version)
        )
        age = None if scanned is None else round(max(0.0, time.time() - scanned.timestamp), 1)
        return {
            "ok": database and chain and content,
            "database": {"ok": database, "scanned": scanned.number if scanned else None, "age_s": age},
            "chain": {"ok": chain, "head": head.number if head else None},
            "content": {"ok": content},
        }

    return routes


async def _tried(look: Callable[[], Awaitable[T]]) -> tuple[T | None, bool]:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await look(), True
    except (SibylError, TimeoutError):
        return None, False
