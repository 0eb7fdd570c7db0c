"""Content by its CID, hashed here before a byte of it goes out; or the one block, for those who hash themselves.

Anybody may have stored anything, so nothing that comes from here can run in a browser: only pictures and JSON are told
what they are, all else is a download, and every answer is sandboxed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response

from oracle.api.answers import IMMUTABLE, JSON, Ready, problems, ready, unless_known
from oracle.api.desk import OPEN_BYTES, OPEN_SECONDS, Desk
from oracle.api.problems import Problem
from oracle.domain import Cid
from oracle.errors import ContentTooLarge
from oracle.settings import MIB

RAW = "application/vnd.ipld.raw"
BLOCK_BYTES = 2 * MIB
SANDBOX = "default-src 'none'; sandbox"
_OTHER = "application/octet-stream"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def router(desk: Desk) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["content"])
    seconds = min(OPEN_SECONDS, desk.settings.fetch_timeout)

    @routes.get(
        "/ipfs/{cid}",
        response_class=Response,
        responses={
            200: {
                "description": "The file's bytes, or the block's.",
                "content": dict.fromkeys(("image/png", "image/jpeg", JSON, _OTHER, RAW), _BINARY),
            },
            **problems(413, 422, 502, 503, 504),
        },
    )
    async def content(
        request: Request,
        cid: Annotated[
            str,
            Path(
                description="Version 0 or 1, sha2-256.",
                max_length=120,
                examples=["bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"],
            ),
        ],
        format: Annotated[  # noqa: A002 - the name is the gateway specification's
            Literal["raw"] | None, Query(description="`raw` for the one block.")
        ] = None,
        accept: Annotated[str, Header(description=f"`{RAW}` for the one block.", max_length=2000)] = "",
    ) -> Response:
        """Content by its CID (as a trustless gateway with `format=raw`)."""
        try:
            named = Cid.parse(cid)
        except ValueError:
            raise Problem(
                422,
                "bad-cid",
                "Not a CID",
                "a CID of version 0 or 1 with sha2-256 is expected",
                remedy="Copy it whole.",
            ) from None
        raw = format == "raw" or RAW in accept
        tag = f'"{named}.raw"' if raw else f'"{named}"'
        # A name of the bytes themselves: who has them need not wait for them.
        known = unless_known(request.scope, _headed(b"", RAW if raw else _OTHER, named, tag))
        if known.status_code == 304:
            return known
        if raw:
            data = await desk.open.block(named, limit=BLOCK_BYTES, timeout=seconds)
            return _headed(data, RAW, named, tag)
        try:
            data = await desk.open.file(named, limit=OPEN_BYTES, timeout=seconds)
        except ContentTooLarge as error:
            raise Problem(
                413,
                "too-large",
                "The content is too large",
                str(error),
                remedy="Fetch it block by block with ?format=raw, or from an IPFS gateway.",
            ) from None
        return _headed(data, sniffed(data), named, tag)

    return routes


def sniffed(data: bytes) -> str:
    """What bytes are by their beginning, if they are a picture or JSON; else no more than bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    # Decoding it would hold everybody up; what only looks like JSON runs nowhere either.
    return JSON if data[:1] in (b"{", b"[") else _OTHER


def _headed(data: bytes, kind: str, cid: Cid, tag: str) -> Ready:
    shown = kind not in (_OTHER, RAW)
    ending = ".bin" if kind == RAW else ""
    more = {} if shown else {"Content_Disposition": f'attachment; filename="{cid}{ending}"'}
    return ready(
        data,
        kind=kind,
        cache=IMMUTABLE,
        tag=tag,
        Content_Security_Policy=SANDBOX,
        X_Ipfs_Path=f"/ipfs/{cid}",
        Vary="Accept",
        **more,
    )
