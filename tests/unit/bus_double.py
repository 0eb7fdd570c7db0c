"""A double of yagna's service bus: registrations, calls, and the way of ``/net/<node>/...`` back to the same bus."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from oracle.devnet.golem.gsb import Fields, frame, pack, unframe

NODE = "0x" + "ab" * 20
HELLO, REGISTER, REGISTERED, UNREGISTER, UNREGISTERED, CALL, REPLY = range(1, 8)
PING, PONG = 14, 15


class BusDouble:
    """The bus as a server on a socket. ``deflate`` compresses the calls that it carries, as yagna does."""

    def __init__(self, socket: Path) -> None:
        self.url = f"unix:{socket}"
        self.deflate = True
        self.services: dict[str, asyncio.StreamWriter] = {}
        self.registered = asyncio.Event()
        self.pongs = 0
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._calls: dict[str, tuple[asyncio.StreamWriter, str]] = {}
        self._writers: list[asyncio.StreamWriter] = []
        self._instances: set[bytes] = set()

    async def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._socket)

    async def stop(self) -> None:
        """Hang up on everybody, as a killed yagna does."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        self.services.clear()
        await asyncio.sleep(0)

    def ping(self) -> None:
        for writer in self._writers:
            writer.write(frame(PING, {}))

    def send_raw(self, data: bytes) -> None:
        for writer in self._writers:
            writer.write(data)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                (size,) = struct.unpack(">I", await reader.readexactly(4))
                kind, fields = unframe(await reader.readexactly(size))
                self._receive(kind, fields, writer)
        except (EOFError, OSError):
            pass
        finally:
            writer.close()

    def _receive(self, kind: int, fields: Fields, writer: asyncio.StreamWriter) -> None:
        address = _text(fields, 1 if kind in (REGISTER, UNREGISTER) else 2)
        if kind == HELLO:
            # The real one mixes up connections that say they are the same instance.
            instance = bytes(fields[3])  # type: ignore[arg-type]
            assert instance not in self._instances
            self._instances.add(instance)
            writer.write(frame(HELLO, {1: "double", 2: "0.7.0", 3: b"x"}))
        elif kind == REGISTER:
            taken = address in self.services
            self.services.setdefault(address, writer)
            self.registered.set()
            writer.write(frame(REGISTERED, {1: 409 if taken else 0}))
        elif kind == UNREGISTER:
            known = self.services.pop(address, None)
            writer.write(frame(UNREGISTERED, {1: 0 if known else 404}))
        elif kind == CALL:
            self._call(address, fields, writer)
        elif kind == REPLY:
            caller, request = self._calls.pop(_text(fields, 1))
            caller.write(frame(REPLY, {**fields, 1: request}))
        elif kind == PONG:
            self.pongs += 1

    def _call(self, address: str, fields: Fields, writer: asyncio.StreamWriter) -> None:
        request, data = _text(fields, 3), fields.get(4, b"")
        if address == "/local/identity/Get":
            writer.write(frame(REPLY, {1: request, 4: zlib.compress(pack({"Ok": {"nodeId": NODE}}))}))
            return
        over_net = address.startswith(f"/net/{NODE}/")
        place = address.replace(f"/net/{NODE}/", "/public/", 1)
        service = self.services.get(place.rpartition("/")[0])
        if service is None:
            # The network layer says nothing, the bus itself says it in words.
            refused = {1: request} if over_net else {1: request, 2: 400, 4: b"endpoint address not found"}
            writer.write(frame(REPLY, refused))
            return
        ours = f"c{len(self._calls)}-{request}"
        self._calls[ours] = (writer, request)
        assert isinstance(data, bytes)
        carried = zlib.compress(data) if self.deflate else data
        service.write(frame(CALL, {1: NODE, 2: place, 3: ours, 4: carried}))


def _text(fields: Fields, number: int) -> str:
    value = fields.get(number, b"")
    assert isinstance(value, bytes)
    return value.decode()


@asynccontextmanager
async def bus_double(folder: Path) -> AsyncIterator[BusDouble]:
    double = BusDouble(folder / "gsb.sock")
    await double.start()
    try:
        yield double
    finally:
        await double.stop()
