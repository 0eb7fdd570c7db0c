"""Errors as application/problem+json (RFC 9457): what went wrong, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from oracle import errors
from oracle.errors import SibylError
from oracle.telemetry import logger

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "sibyl.request_id"
"""Key of the request's id in an ASGI scope."""
HEAD = "sibyl.head"
"""Key in an ASGI scope of what says that nobody wants the body."""

_log = logger("api")


class Problem(Exception):
    """An answer that is an error. ``slug`` names its kind for programs, ``title`` and ``detail`` are for people."""

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str = "",
        *,
        remedy: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or title)
        self.status, self.slug, self.title, self.detail = status, slug, title, detail
        self.remedy, self.headers = remedy, dict(headers or {})

    def response(self, scope: Scope) -> Response:
        """The problem as it goes out; never cached."""
        body: dict[str, Any] = {
            "type": f"/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail or self.title,
            "remedy": self.remedy,
        }
        if identifier := scope.get(REQUEST_ID):
            body["request_id"] = identifier
        headers = {"Cache-Control": "no-store", **self.headers}
        return Response(json.dumps(body), self.status, headers, MEDIA_TYPE)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How an error of ours is told. ``detail`` stands for the error's own text where that names paths, hosts or
    settings of this machine; the log has it.
    """

    error: type[SibylError]
    status: int
    slug: str
    title: str
    detail: str = ""
    remedy: str = ""
    retry_after: int | None = None


_LATER = "Try again in a moment; if it stays so, tell the operator."
_KINDS = (
    _Kind(errors.KeyNeeded, 401, "key-needed", "An API key is needed"),
    _Kind(errors.BalanceTooLow, 402, "balance-too-low", "The gateway cannot pay now"),
    _Kind(errors.DayLimitReached, 429, "day-limit-reached", "The limit of the day is reached"),
    _Kind(errors.ModelNotSold, 422, "model-not-sold", "The gateway cannot ask this model"),
    _Kind(errors.AskedOtherwise, 422, "asked-otherwise", "The idempotency key was used for another request"),
    _Kind(errors.StillAsking, 409, "still-asking", "The same request is still being made"),
    _Kind(errors.WishTaken, 409, "wish-taken", "Another provider was wished for"),
    _Kind(errors.WishNotSigned, 403, "wish-not-signed", "Only who asks chooses the provider"),
    _Kind(errors.AddressRefused, 422, "address-refused", "Sibyl does not fetch from this address"),
    _Kind(errors.FetcherBusy, 503, "busy", "Too much is being fetched", retry_after=5),
    _Kind(errors.TooMuchUploaded, 429, "day-of-uploads-used-up", "Too much was uploaded"),
    _Kind(errors.UploadsFull, 507, "uploads-full", "There is no room for uploads now"),
    _Kind(
        errors.ImageRejected, 422, "image-rejected", "The picture is not accepted",
        remedy="Send a whole PNG, JPEG, WebP or GIF with a single frame, within the limits that /v1 names.",
    ),
    _Kind(errors.ManifestInvalid, 422, "manifest-invalid", "The manifest breaks a rule"),
    _Kind(errors.ContentTooLarge, 413, "too-large", "The content is too large"),
    _Kind(errors.ContentMalformed, 422, "not-a-file", "The CID does not name a file"),
    _Kind(errors.ContentCorrupt, 502, "content-corrupt", "The content store served something else"),
    _Kind(
        errors.ContentUnavailable, 504, "content-unavailable", "The content did not come in time",
        "No node delivered the content in time.", "Try again; if it stays so, nobody may hold the content any more.", 5,
    ),
    _Kind(
        errors.StoreBusy, 503, "busy", "Too much is being looked up",
        "As many wait for the oracle's database as may.", "Try again in a moment.", 2,
    ),
    _Kind(
        errors.StoreError, 503, "database-not-ready", "The oracle's database is not ready",
        "The oracle's database is absent, being made, or cannot be read now.",
        "Start the oracle (`sibyl up`, or `sibyl oracle`) with the same data directory; this API then finds it.", 2,
    ),
    _Kind(
        errors.WrongChain, 503, "wrong-chain", "The endpoint serves another chain",
        "The RPC endpoint serves another chain than the one configured, or no coordinator.", "Tell the operator.", 30,
    ),
    _Kind(
        errors.RpcUnavailable, 503, "chain-unreachable", "The chain cannot be read now",
        "The RPC endpoint does not answer.", _LATER, 2,
    ),
    _Kind(
        errors.RpcRangeRefused, 503, "chain-unreachable", "The chain cannot be read now",
        "The RPC endpoint refuses to look at a single block.", _LATER, 30,
    ),
    _Kind(errors.ChainError, 422, "chain-refuses", "The chain refuses this"),
    _Kind(
        errors.ConfigurationError, 503, "not-configured", "Not configured here",
        "This API is not set up for that.", "Tell the operator.",
    ),
    _Kind(errors.PermanentFailure, 422, "cannot-be-done", "This cannot be done"),
    _Kind(errors.Retryable, 503, "busy", "Not possible now", "Something that this takes is not ready.", _LATER, 2),
)  # fmt: skip


def problem_of(error: SibylError) -> Problem:
    """An error of ours as people on the other side should see it."""
    for kind in _KINDS:
        if isinstance(error, kind.error):
            headers = {}
            after = getattr(error, "retry_after", kind.retry_after)
            if after is not None:
                headers["Retry-After"] = str(after)
            if kind.status == HTTPStatus.UNAUTHORIZED:
                headers["WWW-Authenticate"] = "Bearer"
            if kind.detail:
                _log.info("%s: %s", kind.slug, error)
            return Problem(
                kind.status, kind.slug, kind.title, kind.detail or str(error),
                remedy=kind.remedy or error.remedy, headers=headers,
            )  # fmt: skip
    _log.error("an error without a kind: %s", error)
    return unexpected()


def unexpected() -> Problem:
    """What is said of an error that nobody foresaw; the log has the rest."""
    return Problem(
        500, "unexpected", "Something went wrong here", remedy="Tell the operator the request id; the log explains it."
    )


def _methods(request: Request) -> set[str]:
    """Every method of the path asked for: several routes can share it, each knowing its own alone."""
    same = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    spelled_out = [route for route in same if getattr(route, "path", "") == request.url.path]
    return {method for route in spelled_out or same for method in getattr(route, "methods", None) or ()}


def install(app: FastAPI) -> None:
    """Have every error of the app told as a problem."""

    async def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response(request.scope)

    async def of_ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, SibylError)
        return problem_of(error).response(request.scope)

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        detail = error.detail if error.detail != phrase else ""
        remedy = "See /docs for what there is." if error.status_code in (404, 405) else ""
        slug = phrase.lower().replace(" ", "-")
        headers = error.headers
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers = {"Allow": ", ".join(sorted(_methods(request)))}
        return Problem(error.status_code, slug, phrase, detail, remedy=remedy, headers=headers).response(request.scope)

    async def of_input(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
        return Problem(
            422, "bad-input", "The request cannot be read", "; ".join(told)[:1000], remedy="See /docs for its form."
        ).response(request.scope)

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(SibylError, of_ours)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_input)
