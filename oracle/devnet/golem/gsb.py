"""yagna's service bus (GSB): a connection that calls services and offers some of its own, as a real exe-unit does.

A frame is a length of four bytes and a protobuf ``Packet``; the payload of a call is a FlexBuffer, deflated or not. A
reply is a map with one key, ``Ok`` or ``Err``. Source: ``gsb_api.proto`` of ya-service-bus and the behaviour of yagna
0.17.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import struct
import uuid
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flatbuffers import flexbuffers  # type: ignore[import-untyped]

from oracle.errors import ConfigurationError, Retryable, SibylError

MAX_FRAME: Final = 16 * 1024 * 1024
_CALL_SECONDS = 30.0
_CONNECT_SECONDS = 5.0
_LENGTH = struct.Struct(">I")

_HELLO, _REGISTER, _REGISTERED, _UNREGISTER, _UNREGISTERED, _CALL, _REPLY = range(1, 8)
_PING, _PONG = 14, 15
_PARTIAL = 1  # a reply that others follow

Fields = dict[int, "int | bytes"]
Handler = Callable[[str, Any], Awaitable[Any]]
"""Takes the method (the last part of the address) and its body; what it returns is the answer."""

_log = logging.getLogger(__name__)


class BusError(SibylError):
    """Base of what the bus, or a service on it, answers to a call."""


class BusLost(BusError, Retryable):
    """The connection to the bus is gone; yagna has ended or is restarting."""


class ServiceError(BusError):
    """A service answered with an error, or does so by raising this: ``kind`` is the name of its variant."""

    def __init__(self, kind: str, text: str = "") -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind, self.text = kind, text


class MalformedPacket(BusError):
    """Bytes that are no packet of the bus."""


# ---------------------------------------------------------------------------------------------------------------
# Wire format
# ---------------------------------------------------------------------------------------------------------------


def encode_fields(fields: Mapping[int, int | bytes | str]) -> bytes:
    """A protobuf message of varints and byte strings; zero and empty fields are left out, as proto3 does."""
    out = bytearray()
    for number, value in fields.items():
        if isinstance(value, int):
            if value:
                out += _varint(number << 3) + _varint(value)
        elif value:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return bytes(out)


def decode_fields(data: bytes) -> Fields:
    """The fields of a protobuf message; of one that repeats, the last. Raises MalformedPacket."""
    fields: Fields = {}
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            fields[tag >> 3], at = _read_varint(data, at)
        elif kind == 2:
            size, at = _read_varint(data, at)
            if at + size > len(data):
                raise MalformedPacket(f"a field of {size} bytes goes beyond the end of its message")
            fields[tag >> 3] = data[at : at + size]
            at += size
        else:
            raise MalformedPacket(f"a field has the wire type {kind}")
    return fields


def frame(kind: int, fields: Mapping[int, int | bytes | str]) -> bytes:
    """One packet as it goes over the wire; ``kind`` is its number in the oneof of ``Packet``."""
    message = encode_fields(fields)
    # Not through encode_fields, for a packet may be empty (Ping) and must be there all the same.
    packet = _varint(kind << 3 | 2) + _varint(len(message)) + message
    return _LENGTH.pack(len(packet)) + packet


def unframe(packet: bytes) -> tuple[int, Fields]:
    """The kind of a packet (without its length) and its fields. Raises MalformedPacket."""
    for kind, message in decode_fields(packet).items():
        if isinstance(message, bytes):
            return kind, decode_fields(message)
    raise MalformedPacket("a packet without content")


def pack(value: object) -> bytes:
    """A payload: maps with text keys, lists, text, bytes, numbers, booleans, None."""
    return bytes(flexbuffers.Dumps(value))


def unpack(data: bytes) -> Any:
    """A payload as Python values; bytes come as ``bytearray``. Raises MalformedPacket."""
    try:
        inflater = zlib.decompressobj()
        inflated = inflater.decompress(data, MAX_FRAME)
        if inflater.unconsumed_tail:
            raise MalformedPacket(f"a payload of more than {MAX_FRAME} bytes")
        if inflater.eof:
            data = inflated
    except zlib.error:
        pass  # not deflated
    try:
        return flexbuffers.Loads(data)
    # The codec meets bytes of strangers with whatever error its arithmetic comes to.
    except Exception as error:  # noqa: BLE001
        raise MalformedPacket(f"a payload of {len(data)} bytes is no FlexBuffer ({type(error).__name__})") from None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise MalformedPacket("a number goes beyond the end of its message")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise MalformedPacket("a number longer than ten bytes")


def _text(fields: Fields, number: int) -> str:
    value = fields.get(number, b"")
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


def _bytes(fields: Fields, number: int) -> bytes:
    value = fields.get(number, b"")
    return value if isinstance(value, bytes) else b""


# ---------------------------------------------------------------------------------------------------------------
# Connection
# ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Registration:
    """An answer that the bus owes us; it answers registrations in the order in which they were asked."""

    address: str
    done: asyncio.Future[None]


class Bus:
    """One connection. Made by ``connect``; ended by ``close`` or by yagna, which ``lost`` tells."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._services: dict[str, Handler] = {}
        self._registering: list[_Registration] = []
        self._unregistering: list[_Registration] = []
        self._answering: set[asyncio.Task[None]] = set()
        self.lost = asyncio.Event()
        """Set once the connection is gone."""
        self._listener = asyncio.create_task(self._listen(), name="the bus")

    @classmethod
    async def connect(cls, url: str) -> Bus:
        """Connect to ``unix:<path>``. Raises BusLost, and ConfigurationError for another URL."""
        place = url.removeprefix("unix:")
        if place in ("", url):
            raise ConfigurationError(f"{url} is no address of a service bus", remedy="give GSB_URL as unix:<path>")
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                with _short(Path(place)) as path:
                    reader, writer = await asyncio.open_unix_connection(path)
        except (OSError, TimeoutError) as error:
            raise BusLost(f"the service bus at {url} does not answer ({type(error).__name__})") from error
        bus = cls(reader, writer)
        bus._send(_HELLO, {1: "sibyl", 2: "0.7.0", 3: uuid.uuid4().bytes})
        return bus

    async def close(self) -> None:
        """Hang up; the services of this connection vanish from the bus, calls under way raise BusLost."""
        self._listener.cancel()
        await asyncio.wait([self._listener])
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def register(self, address: str, handler: Handler) -> None:
        """Offer a service at ``/public/...``. Raises ServiceError when the address is taken, BusLost."""
        self._services[address] = handler
        try:
            await self._registration(self._registering, _REGISTER, address)
        except BusError:
            del self._services[address]
            raise

    async def unregister(self, address: str) -> None:
        """Withdraw a service. Raises ServiceError when there is none, BusLost."""
        await self._registration(self._unregistering, _UNREGISTER, address)
        self._services.pop(address, None)

    async def call(self, address: str, body: object, *, timeout: float = _CALL_SECONDS) -> Any:
        """Call a method of a service, ``timeout`` in seconds; what it answers.

        Raises ServiceError for its error or its silence, BusLost when yagna has gone.
        """
        request = str(next(self._ids))
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[request] = answer
        try:
            async with asyncio.timeout(timeout):
                self._send(_CALL, {2: address, 3: request, 4: pack(body)})
                await self._drain()
                return await answer
        except TimeoutError:
            raise ServiceError("Timeout", f"{address} did not answer within {timeout:g} s") from None
        finally:
            self._calls.pop(request, None)

    async def _registration(self, queue: list[_Registration], kind: int, address: str) -> None:
        entry = _Registration(address, asyncio.get_running_loop().create_future())
        queue.append(entry)
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                self._send(kind, {1: address})
                await self._drain()
                await entry.done
        except TimeoutError:
            raise ServiceError("Timeout", f"the bus did not answer for {address}") from None

    def _send(self, kind: int, fields: Mapping[int, int | bytes | str]) -> None:
        if self.lost.is_set() or self._writer.is_closing():
            raise BusLost("the connection to yagna's service bus is gone")
        self._writer.write(frame(kind, fields))

    async def _drain(self) -> None:
        try:
            await self._writer.drain()
        except OSError as error:
            raise BusLost("the connection to yagna's service bus broke") from error

    async def _listen(self) -> None:
        try:
            while True:
                size = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
                if size > MAX_FRAME:
                    raise MalformedPacket(f"a packet of {size} bytes")
                self._receive(*unframe(await self._reader.readexactly(size)))
        except (OSError, EOFError):
            pass  # yagna hung up
        except MalformedPacket as error:
            _log.warning("the bus sent %s; hanging up", error)
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        self.lost.set()
        self._writer.close()
        for task in self._answering:
            task.cancel()
        waiting: Iterator[asyncio.Future[Any]] = itertools.chain(
            self._calls.values(), (entry.done for entry in self._registering + self._unregistering)
        )
        for future in waiting:
            if not future.done():
                future.set_exception(BusLost("the connection to yagna's service bus is gone"))
                future.exception()  # seen: its caller may have been cancelled

    def _receive(self, kind: int, fields: Fields) -> None:
        if kind == _CALL:
            task = asyncio.create_task(self._answer(fields))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif kind == _REPLY:
            self._settle_call(fields)
        elif kind == _REGISTERED and self._registering:
            _settle_registration(self._registering.pop(0), fields)
        elif kind == _UNREGISTERED and self._unregistering:
            _settle_registration(self._unregistering.pop(0), fields)
        elif kind == _PING:
            with contextlib.suppress(BusLost):
                self._send(_PONG, {})

    def _settle_call(self, fields: Fields) -> None:
        answer = self._calls.get(_text(fields, 1))
        # Nobody here asks for streams; one that comes all the same ends with its full reply.
        if answer is None or answer.done() or fields.get(3) == _PARTIAL:
            return
        if fields.get(2, 0):
            answer.set_exception(ServiceError("Bus", _text(fields, 4)))
            return
        data = _bytes(fields, 4)
        if not data:
            # How the network layer says that nobody offers the address.
            answer.set_exception(ServiceError("Bus", "an empty answer, so nobody is there"))
            return
        try:
            answer.set_result(_opened(unpack(data)))
        except BusError as error:
            answer.set_exception(error)

    async def _answer(self, fields: Fields) -> None:
        """Carry out a call of somebody else."""
        request, address = _text(fields, 3), _text(fields, 2)
        service, _, method = address.rpartition("/")
        handler = self._services.get(service)
        try:
            if handler is None:
                raise ServiceError("NotFound", address)
            reply: object = {"Ok": await handler(method, unpack(_bytes(fields, 4)))}
        except ServiceError as error:
            reply = {"Err": {error.kind: error.text}} if error.text else {"Err": error.kind}
        # A fault of one service must neither end the others nor leave its caller without an answer.
        except Exception as error:  # noqa: BLE001
            _log.exception("%s failed", address)
            reply = {"Err": {"Service": f"{type(error).__name__}: {error}"}}
        with contextlib.suppress(BusLost):
            self._send(_REPLY, {1: request, 4: pack(reply)})
            await self._drain()


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A socket's path in a form that the system takes: it allows 107 bytes, and folders may lie deep."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _settle_registration(entry: _Registration, fields: Fields) -> None:
    if entry.done.done():
        return
    if code := fields.get(1, 0):
        entry.done.set_exception(ServiceError("Bus", f"{entry.address} is refused with code {code!r}"))
    else:
        entry.done.set_result(None)


def _opened(reply: Any) -> Any:
    """The value of an ``Ok``. Raises ServiceError for an ``Err``, MalformedPacket for neither."""
    match reply:
        case {"Ok": value}:
            return value
        case {"Err": str(kind)}:
            raise ServiceError(kind)
        case {"Err": {**variants}} if len(variants) == 1:
            raise ServiceError(*map(str, *variants.items()))
    raise MalformedPacket(f"a reply that is neither Ok nor Err: {str(reply)[:80]}")
