"""How answers go out: bytes that are ready, with tags by which a browser that has them is spared them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

JSON = "application/json"
NO_CACHE = "no-cache"
IMMUTABLE = "public, max-age=31536000, immutable"


def as_json(value: object) -> bytes:
    """The bytes of a JSON document."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def hexed(value: bytes) -> str:
    """As ids and hashes go out."""
    return "0x" + value.hex()


def tag_of(body: bytes) -> str:
    """A strong entity tag of exactly these bytes."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


class Ready(Response):
    """Bytes with their headers already encoded. It can be sent any number of times."""

    def __init__(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
        ]
        self.raw_headers.append((b"content-length", b"%d" % len(body)))


def ready(body: bytes, *, kind: str = JSON, cache: str = NO_CACHE, tag: str | None = None, **more: str) -> Ready:
    """Bytes as an answer; ``more`` are headers, their underscores hyphens."""
    headers = {"Content-Type": kind, "Cache-Control": cache, "ETag": tag or tag_of(body)}
    return Ready(body, headers | {name.replace("_", "-"): value for name, value in more.items()})


def answer(request: Request, value: object, *, cache: str = NO_CACHE) -> Response:
    """A JSON document, or 304 when the one who asks has it."""
    return unless_known(request.scope, ready(as_json(value), cache=cache))


def made(document: Mapping[str, Any], location: str, status: int = 201) -> Response:
    """What was made by asking for it, and where it is."""
    return Ready(as_json(document), {"Content-Type": JSON, "Location": location, "Cache-Control": "no-store"}, status)


def unless_known(scope: Scope, whole: Ready) -> Ready:
    """The answer, or 304 with its headers when ``If-None-Match`` names it."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            known = {one.strip().removeprefix("W/") for one in value.decode("latin-1").split(",")}
            headers = {key.decode("latin-1"): text.decode("latin-1") for key, text in whole.raw_headers}
            if headers.get("etag") in known:
                # What a 304 says of the body counts for the one that is kept (RFC 9111, 4.3.4).
                for gone in ("content-length", "content-type", "content-disposition"):
                    headers.pop(gone, None)
                same = Ready(b"", headers, 304)
                same.raw_headers.pop()  # a 304 tells no length
                return same
            break
    return whole


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the documentation says of answers that are errors."""
    from oracle.api.schemas import ProblemShape

    return {
        status: {
            "description": _MEANING[status],
            "content": {"application/problem+json": {"schema": ProblemShape.model_json_schema()}},
        }
        for status in statuses
    }


_MEANING = {
    400: "The request is not one",
    401: "An API key is needed",
    402: "The gateway cannot pay now",
    403: "Somebody else has to say so",
    404: "There is no such thing",
    409: "Not answered yet",
    410: "It ended without an answer",
    408: "The body did not come in time",
    413: "Larger than is taken or served here",
    415: "The body is of another kind",
    422: "The input cannot be used",
    429: "Too many at once",
    502: "The content store served something else",
    503: "Not ready: the database, the chain or the content store",
    504: "No node delivered the content in time",
    507: "There is no room for uploads now",
}
