"""An IPFS node for one machine: Kubo's RPC as far as Sibyl uses it, and ``/ipfs/<cid>`` for browsers.

It names content exactly as Kubo does (profile ``unixfs-v0-2015``), keeps it on disk, listens on 127.0.0.1 only and
speaks to no other node: what is missing is refused at once, as by an offline Kubo. Run it by itself with
``python -m oracle.devnet.ipfs --data DIR --port N``. Source: Kubo's RPC reference and the behaviour of Kubo 0.41.
"""

from __future__ import annotations

import argparse
import asyncio
import codecs
import contextlib
import errno
import json
import platform
import signal
import sys
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from oracle.content.cid import Block, name_block
from oracle.content.unixfs import CHUNK_BYTES, MAX_BLOCK_BYTES, MAX_LINKS, Cutter, FileBuilder
from oracle.devnet.ipfs_repo import Repo
from oracle.domain import CODEC_DAG_PB, CODEC_RAW, Cid
from oracle.errors import ContentError, PortTaken, SibylError

_HOST = "127.0.0.1"
_KUBO = "0.41.0"
_FLUSH_BYTES = 4 * 1024 * 1024
_PIECE = 256 * 1024
_SNIFF = 512
_YEAR = 31_536_000

_RPC_HEADERS = {"Server": f"sibyl-devnet-ipfs/{_KUBO}"}
_GATEWAY_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Range, User-Agent, X-Requested-With",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, X-Ipfs-Path, X-Ipfs-Roots",
    "X-Content-Type-Options": "nosniff",
    # Whatever somebody stored here, it is shown as data: this origin also carries the RPC.
    "Content-Security-Policy": "sandbox; default-src 'none'",
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the node listens: ``rpc`` is a multiaddr for ``IpfsContentStore``, ``gateway`` a URL without ``/ipfs``."""

    rpc: str
    gateway: str


class _Refused(Exception):
    """A call that fails as it would in Kubo; ``status`` is HTTP's."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class DevnetIpfs:
    """The node as a part of this process; ``directory`` holds its blocks and pins.

    ``allowed_origins`` are web pages that may call the RPC; like Kubo's, it refuses browsers otherwise.
    """

    def __init__(self, directory: Path, *, allowed_origins: Sequence[str] = ()) -> None:
        self._directory = directory
        self._allowed_origins = frozenset(allowed_origins)
        self._runner: web.AppRunner | None = None
        self._open_repo: Repo | None = None
        self._commands: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "version": self._version,
            "id": self._id,
            "add": self._add,
            "cat": self._cat,
            "block/get": self._block_get,
            "block/put": self._block_put,
            "block/stat": self._block_stat,
            "pin/add": self._pin_add,
            "pin/ls": self._pin_ls,
            "pin/rm": self._pin_rm,
        }

    async def start(self, port: int = 0) -> Addresses:
        """Listen on 127.0.0.1; port 0 takes a free one.

        Raises PortTaken, and ConfigurationError when the directory cannot be used.
        """
        self._open_repo = Repo(self._directory)
        app = web.Application()
        app.router.add_route("*", "/api/v0/{command:.+}", self._rpc)
        app.router.add_get("/ipfs/{cid}", self._gateway)
        app.router.add_route("OPTIONS", "/ipfs/{cid}", self._gateway_options)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, _HOST, port)
            await site.start()
        except OSError as error:
            await self.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise PortTaken(
                f"port {port} on {_HOST} is in use, so the IPFS node cannot listen there",
                remedy="Stop the program that uses it (perhaps another Sibyl or Kubo), or choose another port.",
            ) from error
        bound = self._runner.addresses[0][1]
        return Addresses(rpc=f"/ip4/{_HOST}/tcp/{bound}/http", gateway=f"http://{_HOST}:{bound}")

    async def close(self) -> None:
        """Stop listening and let go of the directory; calls in flight get two seconds."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._open_repo is not None:
            self._open_repo.close()
            self._open_repo = None

    @property
    def _repo(self) -> Repo:
        assert self._open_repo is not None, "the node is not started"
        return self._open_repo

    # RPC ---------------------------------------------------------------------------------------------------------

    async def _rpc(self, request: web.Request) -> web.StreamResponse:
        handler = self._commands.get(request.match_info["command"])
        if self._is_foreign_browser(request):
            return _plain(403, "403 - Forbidden")
        if request.method != "POST":
            return _plain(405, "405 - Method Not Allowed", {"Allow": "POST"})
        if handler is None:
            return _plain(404, "404 page not found")
        try:
            return await handler(request)
        except _Refused as error:
            if error.status != 500:
                return _plain(error.status, str(error))
            message = str(error)
        except ContentError as error:
            message = str(error)
        except OSError as error:
            message = f"the node's disk: {error}"
        return _json({"Message": message, "Code": 0, "Type": "error"}, status=500)

    def _is_foreign_browser(self, request: web.Request) -> bool:
        """Kubo's rule: a web page may call only when its origin is allowed, and browsers that hide it may not."""
        origin = request.headers.get("Origin")
        if origin is not None:
            return origin not in self._allowed_origins
        referer = request.headers.get("Referer")
        if referer is not None:
            parts = urllib.parse.urlsplit(referer)
            return f"{parts.scheme}://{parts.netloc}" not in self._allowed_origins
        return request.headers.get("User-Agent", "").startswith("Mozilla")

    async def _version(self, _: web.Request) -> web.StreamResponse:
        system = f"{platform.machine()}/{platform.system().lower()}"
        return _json({"Version": _KUBO, "Commit": "sibyl-devnet", "Repo": "18", "System": system, "Golang": ""})

    async def _id(self, _: web.Request) -> web.StreamResponse:
        return _json(
            {
                "ID": "sibyl-devnet",
                "PublicKey": "",
                "Addresses": None,
                "AgentVersion": f"sibyl-devnet/{_KUBO}",
                "Protocols": None,
            }
        )

    async def _add(self, request: web.Request) -> web.StreamResponse:
        _accept_only(request, "chunker", f"size-{CHUNK_BYTES}", "default")
        _accept_only(request, "max-file-links", str(MAX_LINKS))
        _accept_only(request, "hash", "sha2-256")
        for option in ("trickle", "wrap-with-directory", "nocopy", "inline"):
            if _flag(request, option, default=False):
                raise _Refused(f"option {option} is not supported by this node")
        version = _number(request, "cid-version", 0)
        if version not in (0, 1):
            raise _Refused(f"unknown CID version {version}")
        raw_leaves = _flag(request, "raw-leaves", default=version == 1)
        only_hash = _flag(request, "only-hash", default=False)
        pending: list[Block] = []
        pending_bytes = 0

        async def store(blocks: list[Block], *, now: bool = False) -> None:
            # On disk in the order leaves, then roots; whatever was interrupted is only unreferenced blocks.
            nonlocal pending_bytes
            if only_hash:
                return
            pending.extend(blocks)
            pending_bytes += sum(len(block.data) for block in blocks)
            if pending and (now or pending_bytes > _FLUSH_BYTES):
                await asyncio.to_thread(self._repo.put, list(pending))
                pending.clear()
                pending_bytes = 0

        lines: list[dict[str, str]] = []
        roots: list[Cid] = []
        async for name, pieces in _files(request, "path"):
            cutter, builder = Cutter(), FileBuilder(version=version, raw_leaves=raw_leaves)
            async for piece in pieces:
                for payload in cutter.feed(piece):
                    await store(builder.add(payload))
            for payload in cutter.finish():
                await store(builder.add(payload))
            root, total, blocks = builder.finish()
            await store(blocks)
            roots.append(root)
            lines.append({"Name": name or root.text, "Hash": root.text, "Size": str(total)})
        await store([], now=True)
        if _flag(request, "pin", default=True) and not only_hash:
            await asyncio.to_thread(self._repo.pin, roots)
        return _lines(lines)

    async def _cat(self, request: web.Request) -> web.StreamResponse:
        cid = _cid(request, "ipfs-path")
        start = _number(request, "offset", 0)
        length = _number(request, "length", -1)
        size = self._repo.node(cid).size
        if start < 0 or start > size:
            raise _Refused(f"offset {start} is outside of the file's {size} bytes")
        last = size if length < 0 else min(size, start + length)
        return await self._send(request, cid, start, last - start, web.StreamResponse(headers=_RPC_HEADERS))

    async def _block_get(self, request: web.Request) -> web.StreamResponse:
        data = self._repo.get(_cid(request, "cid"))
        return web.Response(body=data, content_type="application/vnd.ipld.raw", headers=_RPC_HEADERS)

    async def _block_put(self, request: web.Request) -> web.StreamResponse:
        codecs = {"raw": (1, CODEC_RAW), "dag-pb": (1, CODEC_DAG_PB), "v0": (0, CODEC_DAG_PB)}
        codec = request.query.get("format") or request.query.get("cid-codec") or "raw"
        if codec not in codecs:
            raise _Refused(f"codec {codec} is not supported by this node")
        _accept_only(request, "mhtype", "sha2-256")
        version, code = codecs[codec]
        blocks: list[Block] = []
        async for _, pieces in _files(request, "data"):
            data = bytearray()
            async for piece in pieces:
                data += piece
                if len(data) > MAX_BLOCK_BYTES:
                    raise _Refused(f"produced block is over {MAX_BLOCK_BYTES} bytes")
            blocks.append(Block(name_block(bytes(data), version=version, codec=code), bytes(data)))
        await asyncio.to_thread(self._repo.put, blocks)
        if _flag(request, "pin", default=False):
            await asyncio.to_thread(self._repo.pin, [block.cid for block in blocks])
        return _lines([{"Key": block.cid.text, "Size": len(block.data)} for block in blocks])

    async def _block_stat(self, request: web.Request) -> web.StreamResponse:
        cid = _cid(request, "cid")
        return _json({"Key": cid.text, "Size": len(self._repo.get(cid))})

    async def _pin_add(self, request: web.Request) -> web.StreamResponse:
        cids = _cids(request, "ipfs-path")
        for cid in cids:
            try:
                for _ in self._repo.walk(cid):
                    await asyncio.sleep(0)
            except ContentError as error:
                raise _Refused(f"pin: {error}") from error
        await asyncio.to_thread(self._repo.pin, cids)
        return _json({"Pins": [cid.text for cid in cids]})

    async def _pin_rm(self, request: web.Request) -> web.StreamResponse:
        cids = _cids(request, "ipfs-path")
        for cid in cids:
            try:
                await asyncio.to_thread(self._repo.unpin, cid)
            except KeyError as error:
                raise _Refused("not pinned or pinned indirectly") from error
        return _json({"Pins": [cid.text for cid in cids]})

    async def _pin_ls(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("type", "all")
        if wanted not in ("all", "recursive", "direct", "indirect"):
            raise _Refused(f"invalid type '{wanted}', must be one of {{direct, indirect, recursive, all}}")
        pins = self._repo.pins
        asked = _cids(request, "ipfs-path") if "arg" in request.query else None
        kinds: dict[Cid, str] = {}
        if wanted in ("all", "recursive"):
            kinds.update((cid, "recursive") for cid in (pins if asked is None else pins.intersection(asked)))
        if wanted in ("all", "indirect"):
            for root in pins:
                for cid in self._repo.walk(root):
                    if cid != root and cid not in pins and (asked is None or cid in asked):
                        kinds.setdefault(cid, "indirect" if asked is None else f"indirect through {root}")
                    await asyncio.sleep(0)
        for cid in asked or ():
            if cid not in kinds:
                raise _Refused(f"path '{cid}' is not pinned")
        return _json({"Keys": {cid.text: {"Type": kind, "Name": ""} for cid, kind in kinds.items()}})

    # Gateway -----------------------------------------------------------------------------------------------------

    async def _gateway_options(self, _: web.Request) -> web.StreamResponse:
        return web.Response(status=204, headers=_GATEWAY_HEADERS)

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        text = request.match_info["cid"]
        try:
            cid = Cid.parse(text)
        except ValueError as error:
            return _plain(400, f'invalid path "/ipfs/{text}": {error}', _GATEWAY_HEADERS)
        path = {"X-Ipfs-Path": f"/ipfs/{text}", "X-Ipfs-Roots": cid.text}
        tag = f'"{cid}"'
        try:
            size = self._repo.node(cid).size
            head = b"".join(self._repo.read(cid, 0, _SNIFF))
        except ContentError as error:
            return _plain(404, f"failed to resolve /ipfs/{text}: {error}", {**_GATEWAY_HEADERS, **path})
        headers = {
            **_GATEWAY_HEADERS,
            **path,
            "Etag": tag,
            "Cache-Control": f"public, max-age={_YEAR}, immutable",
            "Accept-Ranges": "bytes",
        }
        if tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = _media_type(head)
        if name := request.query.get("filename"):
            kind = "attachment" if request.query.get("download") == "true" else "inline"
            headers["Content-Disposition"] = f"{kind}; filename*=UTF-8''{urllib.parse.quote(name, safe='')}"
        start, end, status = 0, size, 200
        if wanted := _range(request, size):
            start, end = wanted
            if start >= end:
                return _plain(416, "range not satisfiable", {**_GATEWAY_HEADERS, "Content-Range": f"bytes */{size}"})
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return await self._send(request, cid, start, end - start, web.StreamResponse(status=status, headers=headers))

    async def _send(
        self, request: web.Request, cid: Cid, start: int, length: int, response: web.StreamResponse
    ) -> web.StreamResponse:
        response.content_length = length
        await response.prepare(request)
        if request.method != "HEAD":
            try:
                for piece in self._repo.read(cid, start, length):
                    await response.write(piece)
            except ContentError:
                # The status line is out; a cut connection is the only way left to say that the content is incomplete.
                if request.transport is not None:
                    request.transport.abort()
                return response
        await response.write_eof()
        return response


# ---------------------------------------------------------------------------------------------------------------
# Requests and answers
# ---------------------------------------------------------------------------------------------------------------


async def _files(request: web.Request, argument: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
    """The uploaded files of a multipart body with their names, one after the other as they arrive."""
    required = _Refused(f"file argument '{argument}' is required", 400)
    if not request.content_type.startswith("multipart/"):
        raise required
    with _reading_upload():
        parts = aiter(await request.multipart())
    found = False
    while True:
        try:
            with _reading_upload():
                part = await anext(parts)
        except StopAsyncIteration:
            break
        if not isinstance(part, BodyPartReader):
            raise _Refused("nested multipart bodies are not supported", 400)
        if part.headers.get("Content-Type") == "application/x-directory":
            raise _Refused("directories are not supported by this node")
        found = True
        yield urllib.parse.unquote(part.filename or ""), _pieces(part)
    if not found:
        raise required


async def _pieces(part: BodyPartReader) -> AsyncIterator[bytes]:
    while True:
        with _reading_upload():
            piece = await part.read_chunk(_PIECE)
        if not piece:
            return
        yield piece


@contextlib.contextmanager
def _reading_upload() -> Iterator[None]:
    """A body that is cut off or damaged is the caller's fault; aiohttp says so in many ways, assertions included."""
    try:
        yield
    except (ValueError, AssertionError, HttpProcessingError) as error:
        raise _Refused(f"the multipart body is damaged: {error}", 400) from error


def _cids(request: web.Request, argument: str) -> list[Cid]:
    texts = request.query.getall("arg", [])
    if not texts:
        raise _Refused(f'argument "{argument}" is required', 400)
    try:
        return [Cid.parse(text) for text in texts]
    except ValueError as error:
        raise _Refused(f"invalid path: {error}") from error


def _cid(request: web.Request, argument: str) -> Cid:
    return _cids(request, argument)[0]


def _flag(request: web.Request, name: str, *, default: bool) -> bool:
    text = request.query.get(name)
    if text is None:
        return default
    if text.lower() in ("1", "t", "true", ""):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise _Refused(f'invalid value "{text}" for option {name}', 400)


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise _Refused(f'invalid value "{text}" for option {name}', 400) from error


def _accept_only(request: web.Request, name: str, *values: str) -> None:
    text = request.query.get(name)
    if text is not None and text not in values:
        raise _Refused(f"{name} {text} is not supported by this node, only {values[0]}")


def _range(request: web.Request, size: int) -> tuple[int, int] | None:
    """The one byte range asked for, as start and end; None for the whole file, or for a form we may ignore."""
    try:
        wanted = request.http_range
    except ValueError:
        return None
    if wanted.start is None and wanted.stop is None:
        return None
    start, end, _ = wanted.indices(size)
    return start, end


def _media_type(head: bytes) -> str:
    """What a browser may take the content for, by its first bytes; never anything that runs."""
    for start, kind in (
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF8", "image/gif"),
    ):
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    try:
        # Incrementally, because the cut may go through a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < _SNIFF)
    except UnicodeDecodeError:
        return "application/octet-stream"
    if "\0" in text:
        return "application/octet-stream"
    if text.lstrip()[:1] in ("{", "["):
        return "application/json"
    return "text/plain; charset=utf-8"


def _plain(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)


def _json(document: object, *, status: int = 200) -> web.Response:
    return web.Response(status=status, text=_compact(document), content_type="application/json", headers=_RPC_HEADERS)


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"


def _lines(documents: Sequence[object]) -> web.Response:
    text = "".join(_compact(document) for document in documents)
    headers = {**_RPC_HEADERS, "X-Chunked-Output": "1"}
    return web.Response(text=text, content_type="application/json", headers=headers)


# ---------------------------------------------------------------------------------------------------------------
# As a process of its own
# ---------------------------------------------------------------------------------------------------------------


async def _run(directory: Path, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = DevnetIpfs(directory)
    addresses = await node.start(port)
    try:
        sys.stdout.write(json.dumps({"rpc": addresses.rpc, "gateway": addresses.gateway}) + "\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await node.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until SIGTERM or SIGINT. Prints one JSON line with its addresses when it listens."""
    parser = argparse.ArgumentParser(prog="python -m oracle.devnet.ipfs", description="An IPFS node for one machine.")
    parser.add_argument("--data", type=Path, required=True, help="directory for blocks and pins")
    parser.add_argument("--port", type=int, default=5001, help="port on 127.0.0.1; 0 takes a free one")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_run(options.data, options.port))
    except SibylError as error:
        sys.stderr.write(f"{error}\n{error.remedy}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
