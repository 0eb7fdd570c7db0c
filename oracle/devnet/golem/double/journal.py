"""The log of REST calls, and its normal form: the same conversation gives the same text whenever and wherever held."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

_MAX_EXCHANGES = 20_000
_KINDS = (
    ("subscription", re.compile(r"[0-9a-f]{32}-[0-9a-f]{64}")),
    ("proposal", re.compile(r"[RP]-[0-9a-f]{64}")),
    ("agreement", re.compile(r"[0-9a-f]{64}")),
    ("document", re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")),
    ("node", re.compile(r"0x[0-9a-f]{40}")),
    ("activity", re.compile(r"[0-9a-f]{32}")),
    ("time", re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")),
    ("amount", re.compile(r"\d+(?:\.\d+)?(?:E[+-]?\d+)?")),
)
_SAID_AS_IS = frozenset({"state", "status", "eventType", "result", "key", "golem.requestor.code"})
_OPEN = frozenset({"properties", "constraints", "capture", "usageCounterVector", "currentUsage", "reason", "text"})
"""Fields whose content is not a matter of the API's form."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call and its answer; bodies are decoded, or text where they are not JSON."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: Any
    status: int
    answer: Any

    @property
    def idle(self) -> bool:
        """A poll that brought nothing, which says only how long somebody waited."""
        return self.method == "GET" and self.answer == [] and "vents" in self.path

    def form(self) -> str:
        """Method, path, status and the shape of both bodies, without ids, times and amounts."""
        path = "/".join(_kind(part) or part for part in self.path.split("/"))
        asked = "" if self.body is None else f" {json.dumps(shape(self.body))}"
        names = ",".join(sorted(name for name, _ in self.query))
        answered = "" if self.answer in (None, "") else f" {json.dumps(shape(self.answer))}"
        return f"{self.method} {path}{'?' + names if names else ''}{asked} -> {self.status}{answered}"


class Journal:
    """Every exchange, oldest first; the oldest are dropped beyond 20,000."""

    def __init__(self) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=_MAX_EXCHANGES)

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What was said so far."""
        return tuple(self._exchanges)

    def count(self, method: str, path: str) -> int:
        """How many calls of ``method`` had ``path`` in theirs."""
        return sum(exchange.method == method and path in exchange.path for exchange in self._exchanges)

    def forms(self) -> list[str]:
        """The normal form of all that was said, without the polls that brought nothing."""
        return [exchange.form() for exchange in self._exchanges if not exchange.idle]

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """For an aiohttp application: note every call that is answered."""
        body = await request.text() if request.can_read_body else ""
        response = await handler(request)
        said = response.text if isinstance(response, web.Response) else None
        self.note(request.method, request.path, tuple(request.query.items()), body, response.status, said)
        return response

    def note(
        self, method: str, path: str, query: tuple[tuple[str, str], ...], body: str, status: int, said: str | None
    ) -> None:
        """Note one exchange."""
        self._exchanges.append(Exchange(method, path, query, _decoded(body), status, _decoded(said)))


def shape(value: Any, field: str = "") -> Any:
    """A value with every id, time, amount and free text replaced by what kind of thing it is."""
    if field in _OPEN:
        return "..."
    if isinstance(value, dict):
        return {key: shape(item, key) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(item, field) for item in value]
    if isinstance(value, str) and field not in _SAID_AS_IS:
        return f"<{_kind(value) or 'text'}>" if value else ""
    if isinstance(value, int | float) and not isinstance(value, bool) and field != "index":
        return "<number>"
    return value


def _kind(text: str) -> str | None:
    return next((f"{kind}" for kind, form in _KINDS if form.fullmatch(text)), None)


def _decoded(text: str | None) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
