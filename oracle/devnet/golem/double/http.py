"""How the double answers over HTTP: yagna's errors, bodies and query parameters."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from aiohttp import web

from oracle.devnet.golem.double.identifiers import parse_time

IDENTITY = web.RequestKey("identity", str)
"""The node id that the caller's app key stands for."""


class Refusal(Exception):
    """A call that fails as it would in yagna. ``problem`` makes it ``application/problem+json``, ``plain`` text."""

    def __init__(
        self, status: int, message: str | None, *, problem: dict[str, Any] | None = None, plain: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.problem = problem
        self.plain = plain

    def response(self) -> web.Response:
        """As yagna would put it."""
        if self.plain:
            return web.Response(status=self.status, text=self.message, charset="utf-8")
        if self.problem is not None:
            body, kind = self.problem, "application/problem+json"
        else:
            body, kind = {"message": self.message}, "application/json"
        return web.Response(status=self.status, text=compact(body), content_type=kind)


def compact(value: object) -> str:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"))


def answer(value: object, status: int = 200) -> web.Response:
    """JSON, as yagna writes it."""
    return web.Response(status=status, text=compact(value), content_type="application/json")


def empty(status: int) -> web.Response:
    """No body."""
    return web.Response(status=status)


async def body_of(request: web.Request) -> Any:
    """The decoded body. Raises Refusal when it is not JSON."""
    try:
        return json.loads(await request.text())
    except ValueError as error:
        raise Refusal(400, f"Json deserialize error: {error}") from error


async def object_of(request: web.Request, *fields: str) -> dict[str, Any]:
    """The decoded body, an object with these fields. Raises Refusal."""
    body = await body_of(request)
    if not isinstance(body, dict):
        raise Refusal(400, "Json deserialize error: invalid type, expected a map")
    for field in fields:
        if field not in body:
            raise Refusal(400, f"Json deserialize error: missing field `{field}`")
    return body


def seconds_of(request: web.Request, default: float) -> float:
    """The query's ``timeout``. Raises Refusal."""
    try:
        return max(0.0, float(request.query.get("timeout", default)))
    except ValueError as error:
        raise Refusal(400, "Query deserialize error: invalid digit found in string", plain=True) from error


def count_of(request: web.Request, name: str, default: int) -> int:
    """A whole number of the query. Raises Refusal."""
    try:
        return int(request.query.get(name, default))
    except ValueError as error:
        raise Refusal(400, "Query deserialize error: invalid digit found in string", plain=True) from error


def since_of(request: web.Request) -> datetime | None:
    """The query's ``afterTimestamp``. Raises Refusal."""
    text = request.query.get("afterTimestamp")
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise Refusal(400, "Query deserialize error: input contains invalid characters", plain=True) from error
