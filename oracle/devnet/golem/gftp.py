"""Golem's file transfer (GFTP) over yagna's bus: what a requestor publishes and receives, what a provider fetches and
sends, and the program ``gftp server`` that yapapi starts, since the wheel of yagna comes without it.

``python -m oracle.devnet.golem.gftp server`` speaks JSON-RPC 2.0 on stdin and stdout, a message a line. The bus is
``GSB_URL``, yagna's default unless set.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import string
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from oracle.devnet.golem.gsb import Bus, BusError, BusLost, Handler, ServiceError
from oracle.errors import SibylError

CHUNK: Final = 40 * 1024
MAX_RECEIVED: Final = 1024 * 1024 * 1024  # bytes of one file that a stranger sends
DEFAULT_BUS: Final = "unix:/tmp/yagna.sock"
VERSION: Final = "0.17.6"  # the yagna whose gftp this does the work of
_IN_FLIGHT = 8  # chunks asked for before the first has come
_RECONNECT_SECONDS = 0.5
_LINE_LIMIT = 1024 * 1024
_ALPHABET = string.ascii_letters + string.digits


class TransferFailed(SibylError):
    """A file could not be fetched or sent; the message says why."""


def split_url(url: str) -> tuple[str, str]:
    """Node id and name of a ``gftp://<node id>/<name>`` URL. Raises TransferFailed."""
    parts = urlsplit(url)
    node, name = parts.netloc.lower(), parts.path.removeprefix("/")
    if parts.scheme != "gftp" or not node.startswith("0x") or not name or "/" in name:
        raise TransferFailed(f"{url[:200]} is no gftp URL")
    return node, name


def _sha3(descriptor: int) -> str:
    digest = hashlib.sha3_256()
    at = 0
    while block := os.pread(descriptor, 1024 * 1024, at):
        digest.update(block)
        at += len(block)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------------
# The requestor's side
# ---------------------------------------------------------------------------------------------------------------


class _Published:
    """A file that others may read; held open, so it may be deleted before they do."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    async def __call__(self, method: str, body: Any) -> Any:
        match method, body:
            case "GetMetadata", _:
                return {"fileSize": self._size}
            case "GetChunk", {"offset": int(offset), "size": int(size)}:
                if not 0 <= offset <= self._size or not size >= 0:
                    raise ServiceError("ReadError", f"offset {offset} in a file of {self._size} bytes")
                wanted = min(size, 25 * CHUNK)
                return {"offset": offset, "content": os.pread(self.descriptor, wanted, offset)}
        raise ServiceError("ReadError", f"{method} is not offered")


class _Receiving:
    """A file that somebody else writes, of ``MAX_RECEIVED`` bytes at most."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    async def __call__(self, method: str, body: Any) -> Any:
        match method, body:
            case "UploadChunk", {"chunk": {"offset": int(offset), "content": bytes() | bytearray() as content}}:
                if not 0 <= offset <= MAX_RECEIVED - len(content):
                    raise ServiceError("WriteError", f"more than {MAX_RECEIVED} bytes")
                try:
                    os.pwrite(self.descriptor, content, offset)
                except OSError as error:
                    raise ServiceError("WriteError", str(error.strerror)) from error
                return None
            case "UploadFinished", {**stated}:
                expected = stated.get("hash")
                if expected is not None and await asyncio.to_thread(_sha3, self.descriptor) != expected:
                    raise ServiceError("IntegrityError")
                return None
        raise ServiceError("WriteError", f"{method} is not offered")


class Publisher:
    """Publishes and receives files under the node id of the daemon's default identity. Survives a restart of yagna."""

    def __init__(self, bus_url: str) -> None:
        self._bus_url = bus_url
        self._node = ""
        self._bus: Bus | None = None
        self._open: dict[str, _Published | _Receiving] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect. Raises BusError when yagna is not there."""
        self._bus = await Bus.connect(self._bus_url)
        identity = await self._bus.call("/local/identity/Get", {"byDefault": None})
        self._node = str(identity["nodeId"])
        self._keeper = asyncio.create_task(self._keep(), name="gftp's bus")

    async def close(self) -> None:
        """Withdraw everything."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._bus is not None:
            await self._bus.close()
        for served in self._open.values():
            os.close(served.descriptor)
        self._open.clear()

    async def publish(self, path: Path) -> str:
        """Let others read a file; its URL, the same for the same content. Raises OSError, BusError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            name = await asyncio.to_thread(_sha3, descriptor)
            if name not in self._open:
                await self._serve(name, _Published(descriptor))
                descriptor = -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return self._url(name)

    async def receive(self, path: Path) -> str:
        """Let somebody write a file at ``path``; the URL to give them. Raises OSError, BusError."""
        name = "".join(secrets.choice(_ALPHABET) for _ in range(65))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            await self._serve(name, _Receiving(descriptor))
        except BusError:
            os.close(descriptor)
            raise
        return self._url(name)

    async def withdraw(self, url: str) -> bool:
        """Stop serving a URL; False when it is not one of ours."""
        served = self._open.pop(split_url(url)[1], None)
        if served is None:
            return False
        with contextlib.suppress(BusError):
            await self._connected().unregister(_address(split_url(url)[1]))
        os.close(served.descriptor)
        return True

    def _url(self, name: str) -> str:
        return f"gftp://{self._node}/{name}"

    def _connected(self) -> Bus:
        if self._bus is None:
            raise BusLost("gftp is not connected to yagna")
        return self._bus

    async def _serve(self, name: str, served: _Published | _Receiving) -> None:
        handler: Handler = served
        await self._connected().register(_address(name), handler)
        self._open[name] = served

    async def _keep(self) -> None:
        """Connect again whenever yagna comes back, with everything that was offered."""
        while True:
            bus = self._connected()
            await bus.lost.wait()
            await bus.close()
            while True:
                await asyncio.sleep(_RECONNECT_SECONDS)
                with contextlib.suppress(BusError):
                    self._bus = await Bus.connect(self._bus_url)
                    for name, served in self._open.items():
                        await self._bus.register(_address(name), served)
                    break


def _address(name: str) -> str:
    return f"/public/gftp/{name}"


# ---------------------------------------------------------------------------------------------------------------
# The provider's side
# ---------------------------------------------------------------------------------------------------------------


async def download(bus: Bus, url: str, target: BinaryIO, *, limit: int) -> int:
    """Fetch what a requestor published into ``target``; its size, at most ``limit`` bytes. Raises TransferFailed."""
    node, name = split_url(url)
    remote = f"/net/{node}/gftp/{name}"
    try:
        metadata = await bus.call(f"{remote}/GetMetadata", {})
        size = int(metadata["fileSize"])
        if size > limit:
            raise TransferFailed(f"a file of {size} bytes, where {limit} are allowed")

        async def piece(offset: int) -> bytes:
            answer = await bus.call(f"{remote}/GetChunk", {"offset": offset, "size": CHUNK})
            content = bytes(answer["content"])
            if len(content) != min(CHUNK, size - offset):
                raise TransferFailed(f"a piece of {len(content)} bytes at {offset} of {size}")
            return content

        await _windowed(range(0, size, CHUNK), piece, target.write)
    except (BusError, KeyError, TypeError, ValueError) as error:
        raise TransferFailed(f"{name[:16]} cannot be fetched: {error}") from error
    return size


async def upload(bus: Bus, source: BinaryIO, url: str) -> int:
    """Send ``source`` to where a requestor waits for it; its size. Raises TransferFailed."""
    node, name = split_url(url)
    remote = f"/net/{node}/gftp/{name}"
    digest = hashlib.sha3_256()
    size = os.fstat(source.fileno()).st_size

    async def piece(offset: int) -> bytes:
        content = os.pread(source.fileno(), CHUNK, offset)
        await bus.call(f"{remote}/UploadChunk", {"chunk": {"offset": offset, "content": content}})
        return content

    try:
        await _windowed(range(0, size, CHUNK), piece, digest.update)
        await bus.call(f"{remote}/UploadFinished", {"hash": digest.hexdigest()})
    except (BusError, OSError) as error:
        raise TransferFailed(f"{name[:16]} cannot be sent: {error}") from error
    return size


async def _windowed(offsets: range, piece: Callable[[int], Awaitable[bytes]], use: Callable[[bytes], object]) -> None:
    """Handle the pieces in order, a few of them under way at a time."""
    for start in range(0, len(offsets), _IN_FLIGHT):
        window = offsets[start : start + _IN_FLIGHT]
        for content in await asyncio.gather(*(piece(offset) for offset in window)):
            use(content)


# ---------------------------------------------------------------------------------------------------------------
# gftp server
# ---------------------------------------------------------------------------------------------------------------


async def answer(publisher: Publisher, line: bytes) -> str | None:
    """The answer to one JSON-RPC message; None when it wants none. Never raises."""
    request: object = None
    try:
        request = json.loads(line)
    except ValueError:
        return _failure(None, -32700, "no JSON")
    match request:
        case {"method": str(method), **rest}:
            given = rest.get("params")
        case _:
            return _failure(None, -32600, "no JSON-RPC request")
    number = rest.get("id")
    parameters: Mapping[str, Any] = given if isinstance(given, dict) else {}
    try:
        result = await _carry_out(publisher, method, parameters)
    except (SibylError, OSError) as error:
        return _failure(number, -32000, str(error))
    except LookupError:
        return _failure(number, -32601, f"{method} is no method of gftp, or lacks a parameter")
    if number is None:
        return None
    return json.dumps({"jsonrpc": "2.0", "result": result, "id": number})


async def _carry_out(publisher: Publisher, method: str, parameters: Mapping[str, Any]) -> Any:
    match method:
        case "version":
            return VERSION
        case "publish":
            return [{"file": str(file), "url": await publisher.publish(Path(file))} for file in parameters["files"]]
        case "close":
            return ["ok" if await publisher.withdraw(str(url)) else "error" for url in parameters["urls"]]
        case "receive":
            file = parameters["output_file"]
            return {"file": str(file), "url": await publisher.receive(Path(file))}
        case "shutdown":
            return "ok"
    raise LookupError(method)


def _failure(number: object, code: int, message: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "error": {"code": code, "message": message}, "id": number})


async def serve(bus_url: str) -> None:
    """Answer the messages on stdin until it ends or ``shutdown`` comes. Raises BusError when yagna is not there."""
    publisher = Publisher(bus_url)
    await publisher.start()
    try:
        reader = asyncio.StreamReader(limit=_LINE_LIMIT)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            reply = await answer(publisher, line)
            if reply is not None:
                sys.stdout.write(reply + "\n")
                sys.stdout.flush()
            if b'"shutdown"' in line:
                break
    finally:
        await publisher.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Prints answers alone on stdout."""
    parser = argparse.ArgumentParser(prog="gftp", description="File transfer of a Golem requestor.")
    parser.add_argument("command", choices=["server"], help="answer JSON-RPC on stdin and stdout")
    parser.parse_args(arguments)
    try:
        asyncio.run(serve(os.environ.get("GSB_URL", DEFAULT_BUS)))
    except SibylError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
