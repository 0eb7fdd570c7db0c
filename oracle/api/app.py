"""The app: routers, middlewares and what every answer carries."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oracle.api import problems
from oracle.api.ports import World
from oracle.settings import Settings
from oracle.telemetry import logger

_log = logger("api")

Router = Callable[[World, Settings], APIRouter]
"""Makes the routes of one subject."""

ROUTERS: tuple[Router, ...] = ()
_EXPOSED = ("ETag", "Location", "Retry-After", "X-Request-Id", "X-Sibyl-Result-CID")


def create_app(world: World, settings: Settings) -> FastAPI:
    """The API of one deployment. Nothing is read before the first request."""
    app = FastAPI(title="Sibyl", version=version("sibyl"), docs_url=None, redoc_url=None)
    problems.install(app)
    for make in ROUTERS:
        app.include_router(make(world, settings))
    # The last one added is the outermost.
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
            scope = {**scope, "method": "GET"}
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
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"], extra={"request_id": identifier})
            if started:
                raise
            await problems.unexpected().response(scope)(scope, receive, enveloped)
