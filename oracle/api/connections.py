"""What a connection may take: before it asks for anything, and while it does not read what it asked for.

uvicorn closes a connection that idles between two requests. It bounds neither how long nor how large the head of a
request may be, nor how many connections there are, nor for how long an answer waits to be read: whoever opens many and
never ends a head, or never reads, would shut all others out, or fill the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from oracle.api.limits import client_of
from oracle.api.problems import Problem

HEAD_SECONDS = 20.0  # for a request's head, from the first byte; of a new connection, from its beginning
HEAD_BYTES = 64 * 1024  # of a head that takes more than one reading
READ_SECONDS = 30.0  # for an answer that waits to be read, and more by its size:
READ_RATE = 64 * 1024  # bytes a second that a reader takes at least
MOST = 800  # connections; a process may usually have 1,024 files open
EACH = 128  # of one client

_SAID = Problem(
    503,
    "too-many-connections",
    "Too many connections",
    "this API, or this client, has as many connections open as it may",
    remedy="Close some, or use one for several requests.",
    headers={"Retry-After": "5", "Connection": "close"},
).response({})
_HEAD = b"".join(b"%b: %b\r\n" % header for header in _SAID.raw_headers)
_REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (_HEAD, bytes(_SAID.body))


def bounded(*, each: int | None = EACH) -> type[HttpToolsProtocol]:
    """Uvicorn's protocol within these bounds; ``each`` is None where all clients come through a proxy of ours."""

    class Bounded(HttpToolsProtocol):
        _peer = ""
        _late: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None
        _head = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._peer = client_of({"client": self.client}, 0)
            same = sum(isinstance(one, Bounded) and one._peer == self._peer for one in self.connections)
            if len(self.connections) > MOST or (each is not None and same > each):
                transport.write(_REFUSAL)
                transport.close()
            else:
                self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end_of_head()
            self._end_of_reading()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._expect_reading()

        def resume_writing(self) -> None:
            self._end_of_reading()
            super().resume_writing()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.transport.is_closing():
                self._expect_reading()

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._expect_reading()

        def data_received(self, data: bytes) -> None:
            begun = self._late is not None
            if self.cycle is None or self.cycle.response_complete:
                # Whatever comes now, be it line breaks alone, has ended uvicorn's own patience.
                self._expect_head()
            super().data_received(data)
            if begun and self._late is not None:
                self._head += len(data)
                if self._head > HEAD_BYTES:
                    self._leave()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._expect_head()

        def on_headers_complete(self) -> None:
            self._end_of_head()
            super().on_headers_complete()

        def _expect_head(self) -> None:
            if self._late is None:
                self._head = 0
                self._late = self.loop.call_later(HEAD_SECONDS, self._leave)

        def _end_of_head(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _leave(self) -> None:
            self.transport.close()
            self._expect_reading()

        def _expect_reading(self) -> None:
            # A transport that is closed sends first what it holds: what nobody reads would keep it for ever.
            size = self.transport.get_write_buffer_size()
            if self._unread is None and size:
                self._unread = self.loop.call_later(READ_SECONDS + size / READ_RATE, self.transport.abort)

        def _end_of_reading(self) -> None:
            if self._unread is not None:
                self._unread.cancel()
                self._unread = None

    return Bounded


__all__ = ["EACH", "MOST", "bounded"]
