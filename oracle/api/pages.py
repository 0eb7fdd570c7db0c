"""The page as static files, and one that says what the API offers. Neither needs anything from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import html
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from oracle.api.answers import IMMUTABLE, NO_CACHE, Ready, ready, tag_of, unless_known
from oracle.settings import MIB

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".map": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
}
_PACKED = {".html", ".js", ".mjs", ".css", ".json", ".webmanifest", ".map", ".txt", ".svg", ".wasm"}
LARGEST = 16 * MIB
HELD = 32 * MIB
_HASHED = re.compile(r"[.-][A-Za-z0-9_-]{8,}\.[a-z0-9]+$")  # Vite's names: index-B2x4q9aZ.js
_UNBUILT = (
    "The page is not built here. Run `make page`, then load this again.\nThe API's own pages: /docs, /openapi.json\n"
)


def page_policy(rpc_url: str | None, gateways: Sequence[str] = ()) -> str:
    """The Content-Security-Policy of the page: itself, and the RPC endpoint and the gateways that it was told of."""
    reach = ["'self'"]
    if rpc_url:
        parts = urlsplit(rpc_url)
        reach += [f"{parts.scheme}://{parts.netloc}", f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}"]
    reach += gateways
    return "; ".join(
        [
            "default-src 'self'",
            "img-src 'self' blob: data:",
            f"connect-src {' '.join(reach)}",
            "style-src 'self'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "object-src 'none'",
        ]
    )


@dataclass(frozen=True, slots=True)
class _File:
    plain: Ready
    packed: Ready | None
    size: int


class Pages:
    """Files below a folder; read once for each state of the file, packed once."""

    def __init__(self, folder: Path, rpc_url: str | None, gateways: Sequence[str] = ()) -> None:
        self._folder, self._policy = folder, page_policy(rpc_url, gateways)
        self._held: OrderedDict[tuple[str, int, int], _File] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the router calls for a path of nobody else's."""
        if scope["type"] != "http":
            return
        if scope["method"] != "GET":
            raise HTTPException(404)
        await (await self._answer(scope))(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        name = str(scope["path"]).lstrip("/") or "index.html"
        if not re.fullmatch(r"[A-Za-z0-9_.@-]+(/[A-Za-z0-9_.@-]+)*", name) or any(
            part.startswith(".") for part in name.split("/")
        ):
            raise HTTPException(404)
        found = await asyncio.to_thread(self._read, name)
        if found is None:
            if name == "index.html":
                return self._unbuilt()
            raise HTTPException(404)
        if found.packed is not None and _takes_gzip(scope):
            return unless_known(scope, found.packed)
        return unless_known(scope, found.plain)

    def _unbuilt(self) -> Response:
        return ready(_UNBUILT.encode(), kind="text/plain; charset=utf-8", Content_Security_Policy=self._policy)

    def _read(self, name: str) -> _File | None:
        path = self._folder / name
        try:
            state = path.stat()
            # A link must not lead out of the folder.
            if not path.resolve().is_relative_to(self._folder.resolve()) or state.st_size > LARGEST:
                return None
            key = (name, state.st_mtime_ns, state.st_size)
            held = self._held.get(key)
            if held is not None:
                return held
            data = path.read_bytes()
        except OSError:
            return None
        found = self._made(name, path.suffix.lower(), data)
        with self._lock:
            if key not in self._held:
                self._held[key] = found
                self._bytes += found.size
            while self._bytes > HELD:
                _, old = self._held.popitem(last=False)
                self._bytes -= old.size
        return found

    def _made(self, name: str, ending: str, data: bytes) -> _File:
        kind = KINDS.get(ending, "application/octet-stream")
        cache = IMMUTABLE if name.startswith("assets/") and _HASHED.search(name) else NO_CACHE
        more = {"Content_Security_Policy": self._policy, "Vary": "Accept-Encoding"}
        plain = ready(data, kind=kind, cache=cache, **more)
        packed = None
        if ending in _PACKED and len(data) > 1024:
            squeezed = gzip.compress(data, 9, mtime=0)
            tag = tag_of(squeezed)
            packed = ready(squeezed, kind=kind, cache=cache, tag=tag, Content_Encoding="gzip", **more)
        return _File(plain, packed, len(data) + (len(packed.body) if packed else 0))


def _takes_gzip(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            for one in value.decode("latin-1").split(","):
                coding, _, weight = one.strip().partition(";")
                if coding.strip().lower() == "gzip":
                    return weight.replace(" ", "") not in ("q=0", "q=0.0")
    return False


# ---------------------------------------------------------------------------------------------------------------
# The API's own page
# ---------------------------------------------------------------------------------------------------------------

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "h2{margin-top:2.5rem;font-size:1.1rem}code,pre{font-family:ui-monospace,monospace;font-size:.9em}"
    "pre{overflow:auto;padding:.75rem;border:1px solid #8884;border-radius:6px}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}"
)
_DOCS_POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def add_docs(app: FastAPI) -> None:
    """``/docs``: every route with its parameters and answers, as plain HTML."""
    made: list[Ready] = []

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        if not made:
            body = docs_page(app.openapi()).encode()
            made.append(ready(body, kind="text/html; charset=utf-8", Content_Security_Policy=_DOCS_POLICY))
        return unless_known(request.scope, made[0])


def docs_page(openapi: dict[str, Any]) -> str:
    """The documentation as one page without scripts."""
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Sibyl: API</title>',
        f"<style>{_STYLE}</style></head><body><h1>Sibyl: API</h1>",
        '<p>For programs: <a href="openapi.json">openapi.json</a>. Errors are application/problem+json, each with a '
        "remedy.</p>",
    ]
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(method.upper(), path, operation, openapi["components"]["schemas"]))
    parts.append("</body></html>")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    text = html.escape
    lines = [f"<h2><code>{text(method)} {text(path)}</code></h2>", f"<p>{text(operation.get('description', ''))}</p>"]
    if parameters := operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{text(one['name'])}</code></td><td>{text(one['in'])}</td>"
            f"<td>{text(one.get('description', ''))}</td></tr>"
            for one in parameters
        )
        lines.append(f"<table><tr><th>parameter</th><th>in</th><th></th></tr>{rows}</table>")
    if body := operation.get("requestBody"):
        rows = "".join(_body(kind, content, schemas) for kind, content in body["content"].items())
        lines.append(f"<table><tr><th>body</th><th>field</th><th></th></tr>{rows}</table>")
    rows = "".join(
        f"<tr><td>{text(str(status))}</td><td>{text(', '.join(one.get('content', {})))}</td>"
        f"<td>{text(one.get('description', ''))}</td></tr>"
        for status, one in operation.get("responses", {}).items()
    )
    lines.append(f"<table><tr><th>answer</th><th>kind</th><th></th></tr>{rows}</table>")
    for one in operation.get("responses", {}).values():
        for content in one.get("content", {}).values():
            if "example" in content:
                example = content["example"]
                shown = example if isinstance(example, str) else json.dumps(example, indent=2)
                lines.append(f"<pre>{text(shown)}</pre>")
    return "\n".join(lines)


def _body(kind: str, content: dict[str, Any], schemas: dict[str, Any]) -> str:
    """A row for each field of a body, or one for a body that has none."""
    text = html.escape
    schema = content["schema"]
    schema = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    rows = []
    for name, field in schema.get("properties", {"": schema}).items():
        told = [field.get("description", "")]
        if name and name not in schema.get("required", ()):
            told.append("May be left out.")
        if field.get("format") == "binary":
            told.append("The bytes of a file.")
        if examples := field.get("examples"):
            told.append(f"Such as {json.dumps(examples[0])}")
        said = text(" ".join(filter(None, told)))
        rows.append(f"<tr><td>{text(kind)}</td><td><code>{text(name)}</code></td><td>{said}</td></tr>")
    return "".join(rows)
