"""The app: routers, middlewares and what every answer carries."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oracle.api import (
    pages,
    problems,
    routes_asking,
    routes_events,
    routes_figures,
    routes_info,
    routes_ipfs,
    routes_models,
    routes_requests,
    routes_results,
    routes_uploads,
)
from oracle.api.book import Quick
from oracle.api.desk import Desk
from oracle.api.limits import BodyLimit, RateLimit, StreamLimit
from oracle.api.ports import World
from oracle.settings import Settings
from oracle.telemetry import logger

_log = logger("api")

READING = (
    routes_info.router,
    routes_models.router,
    routes_requests.router,
    routes_events.router,
    routes_results.router,
    routes_figures.router,
    routes_ipfs.router,
)
BODIES = {
    "/v1/weights": routes_uploads.WEIGHTS_BYTES,
    "/v1/manifests": routes_uploads.MANIFEST_BYTES,
    "/v1/requests": routes_uploads.DOCUMENT_BYTES,
    "/v1/requests/wish": routes_uploads.DOCUMENT_BYTES,
}
"""The largest bodies where that is not a picture, in bytes."""
_SHOWN = 200  # characters of a path that the log shows
_EXPOSED = ("ETag", "Location", "Retry-After", "X-Request-Id", "X-Sibyl-Result-CID")


def create_app(world: World, settings: Settings) -> FastAPI:
    """The API of one deployment. Nothing is read before the first request."""
    desk = Desk(world, settings)
    uploads = routes_uploads.Uploads(desk)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(desk.registry.warm(), name="warm-up")]
        if world.writes is not None:
            tasks.append(asyncio.create_task(uploads.holding.watch(), name="uploads"))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await desk.close()

    app = FastAPI(
        title="Sibyl",
        version=version("sibyl"),
        description="Paid predictions about pictures: models, prices, requests, results.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.desk, app.state.uploads = desk, uploads
    problems.install(app)
    for read in READING:
        app.include_router(read(desk))
    app.include_router(routes_uploads.router(uploads))
    app.include_router(routes_asking.router(desk, uploads))
    pages.add_docs(app)
    app.router.default = pages.Pages(settings.page_dir, settings.page_rpc_url, settings.page_gateways)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limit=settings.api_body_bytes, paths=BODIES)
    app.add_middleware(Quick, book=desk.book)
    app.add_middleware(StreamLimit, streams=settings.api_streams, proxies=settings.api_proxies)
    app.add_middleware(RateLimit, rate=settings.api_rate, burst=settings.api_burst, proxies=settings.api_proxies)
    if settings.api_cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.api_cors),
            allow_methods=["GET", "HEAD", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-API-Key"],
            expose_headers=list(_EXPOSED),
            max_age=3600,
        )
    app.add_middleware(Envelope)
    return app


class Envelope:
    """What goes around every answer: its id, headers that keep browsers from guessing, and no trace of a crash.

    HEAD is GET without the body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identifier = f"{self._prefix}-{next(self._numbers):x}"
        scope[problems.REQUEST_ID] = identifier
        headers = [
            (b"x-request-id", identifier.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]
        bodiless = scope["method"] == "HEAD"
        if bodiless:
            scope = {**scope, "method": "GET", problems.HEAD: True}
        started = False

        async def enveloped(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *headers]
            elif bodiless and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._app(scope, receive, enveloped)
        except ClientDisconnect:
            pass  # nobody is there to hear
        except Exception:
            path = ascii(scope["path"])[:_SHOWN]
            _log.exception("%s %s failed", scope["method"], path, extra={"request_id": identifier})
            if started:
                raise
            await problems.unexpected().response(scope)(scope, receive, enveloped)
