"""What a connection may take before it asks for anything.

uvicorn closes a connection that idles between two requests. It bounds neither how long nor how large the head of a
request may be, nor how many connections there are: whoever opens many and never ends a head would shut all others out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from oracle.api.limits import client_of
from oracle.api.problems import Problem

HEAD_SECONDS = 20.0  # for a request's head, from the first byte; of a new connection, from its beginning
HEAD_BYTES = 64 * 1024  # of a head that takes more than one reading
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
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            begun = self._late is not None
            if self.cycle is None or self.cycle.response_complete:
                # Whatever comes now, be it line breaks alone, has ended uvicorn's own patience.
                self._expect_head()
            super().data_received(data)
            if begun and self._late is not None:
                self._head += len(data)
                if self._head > HEAD_BYTES:
                    self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._expect_head()

        def on_headers_complete(self) -> None:
            self._end_of_head()
            super().on_headers_complete()

        def _expect_head(self) -> None:
            if self._late is None:
                self._head = 0
                self._late = self.loop.call_later(HEAD_SECONDS, self.transport.close)

        def _end_of_head(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Bounded


__all__ = ["EACH", "MOST", "bounded"]
