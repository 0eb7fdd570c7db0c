"""Uploads: pictures (a form, the bytes, a web address), manifests and weights. Looked at first, then pinned."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.responses import Response

from oracle.api import schemas
from oracle.api.answers import JSON, made, problems
from oracle.api.desk import Desk
from oracle.api.holding import Holding
from oracle.api.limits import Buckets, client_of
from oracle.api.ports import Writes
from oracle.api.problems import Problem
from oracle.domain import Cid, ImageFacts
from oracle.errors import ConfigurationError, ContentUnavailable
from oracle.manifests import read_manifest
from oracle.settings import MIB

MANIFEST_BYTES = 256 * 1024
WEIGHTS_BYTES = 64 * MIB
DOCUMENT_BYTES = 16 * 1024  # a JSON body that names something
AT_ONCE = 32  # uploads in memory
EACH = 4  # of one client
PATIENCE = 10.0  # seconds to wait for a turn
SAVED = 512 * MIB  # bytes that one client may upload at once
FLOW = 1 * MIB  # bytes a second that it may go on with
_PIECE = MIB
_FIELDS = ("image", "file")
_FIELD_BYTES = 4096  # of what is no file
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii")  # others may take minutes to decode, such as punycode
_UNFINISHED = ".part"
_FORMATS = ".npz, .keras, .tflite and .safetensors"

PICTURE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"image": {"type": "string", "format": "binary"}},
                    "required": ["image"],
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"url": {"type": "string", "format": "uri", "maxLength": 2048}},
                    "required": ["url"],
                },
                "example": {"url": "https://example.org/kitten.jpg"},
            },
        },
    }
}
_MANIFEST_BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
_WEIGHTS_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was accepted, and whose it is."""

    data: bytes
    facts: ImageFacts
    client: str


class Uploads:
    """Takes uploads in, a bounded number at a time and a bounded amount from each client."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._open: dict[str, int] = {}
        self._bytes = Buckets(FLOW, SAVED)
        writes = desk.world.writes
        self._holding = None if writes is None else Holding(desk, writes)

    @property
    def writes(self) -> Writes:
        """The world's other half. Raises ConfigurationError where nothing is written."""
        if self._desk.world.writes is None:
            raise ConfigurationError("this API takes no uploads")
        return self._desk.world.writes

    @property
    def holding(self) -> Holding:
        """Who pins. Raises ConfigurationError where nothing is written."""
        if self._holding is None:
            raise ConfigurationError("this API takes no uploads")
        return self._holding

    def client(self, request: Request) -> str:
        """Whose request it is."""
        return client_of(request.scope, self._desk.settings.api_proxies)

    @contextlib.asynccontextmanager
    async def turn(self, request: Request) -> AsyncIterator[None]:
        """While it is this upload's turn. Raises Problem 429 and 503."""
        client = self.client(request)
        if self._open.get(client, 0) >= EACH:
            raise Problem(
                429,
                "too-many-uploads",
                "Too many uploads at once",
                f"one client may have {EACH} uploads on their way",
                remedy="Wait until one is done.",
                headers={"Retry-After": "2"},
            )
        self._open[client] = self._open.get(client, 0) + 1
        try:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._turn.acquire()
            except TimeoutError:
                raise Problem(
                    503,
                    "busy",
                    "Too many uploads",
                    "other uploads are on their way",
                    remedy="Try again in a moment.",
                    headers={"Retry-After": "5"},
                ) from None
            try:
                yield
            finally:
                self._turn.release()
        finally:
            left = self._open.pop(client) - 1
            if left:
                self._open[client] = left

    def count(self, request: Request, size: int) -> None:
        """Put bytes on the client's account. Raises Problem 429."""
        self._bytes.spend(
            self.client(request),
            size,
            "too-much-uploaded",
            "Too much was uploaded",
            f"one client may upload {SAVED // MIB} MiB at once and {FLOW // MIB} MiB a second from then on",
            remedy="Wait as long as Retry-After says.",
        )

    async def picture(self, request: Request) -> Picture:
        """The picture of a request in any of its forms, checked. Raises Problem, ImageRejected, AddressRefused."""
        kind = media_type(request)
        limit = self._desk.settings.image_max_bytes
        if kind == "multipart/form-data":
            data = await _form_file(request)
        elif kind.startswith("image/") or kind == "application/octet-stream":
            data = await request.body()
        elif kind == JSON:
            data = await self._from_web(_url(await read_document(request)), limit, self.client(request))
        else:
            raise unsupported("multipart/form-data with a field `image`, image/* or application/json with a `url`")
        # Also what is then refused took a connection, memory and a look.
        self.count(request, len(data))
        facts = await self.writes.inspector.inspect(data)
        return Picture(data, facts, self.client(request))

    async def pin(self, picture: Picture) -> Cid:
        """Pin a picture; its CID. Raises what ``Holding.pin`` raises."""
        return await self.holding.pin(picture.data, len(picture.data), picture.client)

    async def _from_web(self, url: str, limit: int, client: str) -> bytes:
        try:
            return await self.writes.web.fetch(url, limit=limit, client=client)
        except ContentUnavailable as error:
            raise Problem(
                422, "address-unreachable", "The address gives no picture", str(error), remedy=error.remedy
            ) from error


def router(uploads: Uploads) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["uploads"])

    @routes.post(
        "/images",
        status_code=201,
        response_model=schemas.Pinned,
        responses=problems(400, 408, 413, 415, 422, 429, 502, 503, 504, 507),
        openapi_extra=PICTURE_BODY,
    )
    async def upload_image(request: Request) -> Response:
        """Pin a picture: its CID, before anything is paid. PNG, JPEG, WebP or GIF with a single frame."""
        uploads.writes  # noqa: B018 - refused before the body is read
        async with uploads.turn(request):
            picture = await uploads.picture(request)
            cid = await uploads.pin(picture)
        facts = picture.facts
        return made(
            {
                "cid": cid.text,
                "bytes": facts.size,
                "format": facts.format,
                "width": facts.width,
                "height": facts.height,
            },
            f"/ipfs/{cid}",
        )

    @routes.post(
        "/manifests",
        status_code=201,
        response_model=schemas.PinnedManifest,
        responses=problems(408, 413, 415, 422, 429, 502, 503, 504, 507),
        openapi_extra=_MANIFEST_BODY,
    )
    async def upload_manifest(request: Request) -> Response:
        """Check a model's manifest and pin exactly these bytes, so that it can be published on-chain."""
        if media_type(request) != JSON:
            raise unsupported(JSON)
        async with uploads.turn(request):
            data = await request.body()
            read_manifest(data)
            uploads.count(request, len(data))
            cid = await uploads.holding.pin(data, len(data), uploads.client(request))
        return made({"cid": cid.text}, f"/ipfs/{cid}")

    @routes.post(
        "/weights",
        status_code=201,
        response_model=schemas.PinnedWeights,
        responses=problems(408, 413, 415, 422, 429, 502, 503, 504, 507),
        openapi_extra=_WEIGHTS_BODY,
    )
    async def upload_weights(request: Request) -> Response:
        """Pin a model's weights (.npz, .keras, .tflite or .safetensors, at most 64 MiB); their CID and SHA-256."""
        folder = uploads.writes.folder
        async with uploads.turn(request), _file_in(folder) as (file, path):
            size, sha256 = await _save(request, file)
            uploads.count(request, size)
            cid = await uploads.holding.pin(path, size, uploads.client(request))
        return made({"cid": cid.text, "bytes": size, "sha256": sha256}, f"/ipfs/{cid}")

    return routes


def media_type(request: Request) -> str:
    """The body's media type, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def unsupported(wanted: str) -> Problem:
    """415, and what would do."""
    return Problem(
        415,
        "unsupported-media-type",
        "The body is of another kind",
        "this kind of body is not read here",
        remedy=f"Send {wanted}.",
    )


async def read_document(request: Request) -> dict[str, Any]:
    """A small JSON object. Raises Problem 422."""
    data = await request.body()
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(data) if len(data) <= DOCUMENT_BYTES else None
        if isinstance(document, dict):
            return document
    raise Problem(
        422, "bad-input", "The request cannot be read", "the body is no JSON object", remedy="See /docs for its form."
    )


def _url(document: dict[str, Any]) -> str:
    url = document.get("url")
    if not isinstance(url, str):
        raise Problem(
            422, "bad-input", "The request cannot be read", "body.url: a text is missing", remedy='Send {"url": "..."}.'
        )
    return url


async def _form_file(request: Request) -> bytes:
    """The file of a form. Raises Problem 415 and 422, and HTTPException 400 for what is no form."""
    _, options = parse_options_header(request.headers.get("content-type"))
    if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
        raise unsupported("a form in UTF-8")
    async with request.form(max_files=1, max_fields=8, max_part_size=_FIELD_BYTES) as form:
        for name in _FIELDS:
            part = form.get(name)
            if isinstance(part, UploadFile):
                return await part.read()
    raise Problem(
        422,
        "bad-input",
        "The request cannot be read",
        "the form has no file named image",
        remedy="With curl: -F image=@kitten.jpg",
    )


@contextlib.asynccontextmanager
async def _file_in(folder: Path) -> AsyncIterator[tuple[BinaryIO, Path]]:
    """A file of our own to write to, which is gone afterwards."""

    def make() -> tuple[BinaryIO, Path]:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=_UNFINISHED)
        return os.fdopen(handle, "wb"), Path(name)

    file, path = await asyncio.to_thread(make)
    try:
        yield file, path
    finally:
        file.close()
        path.unlink(missing_ok=True)


async def _save(request: Request, file: BinaryIO) -> tuple[int, str]:
    """Write the body down piece by piece: its size and SHA-256. Raises Problem 413, 415 and 422."""
    digest, size, held = hashlib.sha256(), 0, bytearray()

    def write(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    async for piece in request.stream():
        held += piece
        size += len(piece)
        if size > WEIGHTS_BYTES:
            raise Problem(413, "body-too-large", "Body too large", f"weights have at most {WEIGHTS_BYTES:,} bytes here")
        if len(held) >= _PIECE:
            if size == len(held):
                _check_weights(held)
            await asyncio.to_thread(write, bytes(held))
            held.clear()
    if size == len(held):
        _check_weights(held)
    await asyncio.to_thread(write, bytes(held))
    await asyncio.to_thread(file.flush)
    return size, digest.hexdigest()


def _check_weights(head: bytes | bytearray) -> None:
    """Raises Problem 415 where a file begins like none that holds weights."""
    is_zip = head.startswith(b"PK\x03\x04")  # .npz and .keras
    is_tflite = head[4:8] == b"TFL3"
    is_safetensors = len(head) > 8 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 100 * MIB
    if not (is_zip or is_tflite or is_safetensors):
        raise Problem(
            415,
            "not-weights",
            "Not a file of weights",
            "it begins like none of the files that hold weights",
            remedy=f"Send one of {_FORMATS}.",
        )


def clear(folder: Path) -> None:
    """Remove what an earlier process left unfinished."""
    for leftover in folder.glob(f"*{_UNFINISHED}"):
        leftover.unlink(missing_ok=True)


__all__ = ["DOCUMENT_BYTES", "MANIFEST_BYTES", "WEIGHTS_BYTES", "Picture", "Uploads", "clear", "router"]
