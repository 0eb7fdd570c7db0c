"""How ipfshttpclient speaks HTTP in this project: on the standard library, under a leash.

ipfshttpclient 0.7.0 has exchangeable HTTP backends (``ClientSyncBase``). Its own, on requests, reads a whole response
body in one call, so a node that sends for ever, or one byte a second, holds the thread and its memory without bound:
its timeout restarts with every byte. This backend checks one deadline and one byte budget at every read, ignores proxy
settings of the environment (a node is reached directly) and costs a fraction of the time.
"""

from __future__ import annotations

import base64
import http.client
import json
import select
import socket
import ssl
import time
import urllib.parse
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NoReturn, Protocol

from ipfshttpclient import exceptions
from ipfshttpclient.http_common import ClientSyncBase, multiaddr_to_url_data

from oracle.errors import ConfigurationError

_PIECE = 64 * 1024
_BUFFERED_UPLOAD = 1024 * 1024
_ERROR_BODY = 64 * 1024
_WAKE = 0.5  # seconds after which a waiting read looks whether it was called off


class Leash:
    """How long a piece of work may still take: a deadline on the monotonic clock that can be pulled in."""

    __slots__ = ("_deadline",)

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left. Raises TimeoutError when none are."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time allowed is over")
        return left

    def pull(self) -> None:
        """End it now: whoever waits under this leash stops within half a second."""
        self._deadline = 0.0


class _LeashedMixin:
    """Every read and write of the socket waits no longer than the leash allows."""

    leash: Leash

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        while True:
            self.settimeout(min(self.leash.left(), _WAKE))  # type: ignore[attr-defined]
            try:
                return super().recv_into(*args, **kwargs)  # type: ignore[misc, no-any-return]
            except TimeoutError:
                continue

    def sendall(self, *args: Any, **kwargs: Any) -> None:
        self.settimeout(self.leash.left())  # type: ignore[attr-defined]
        super().sendall(*args, **kwargs)  # type: ignore[misc]


class _LeashedSocket(_LeashedMixin, socket.socket):
    pass


class _LeashedTlsSocket(_LeashedMixin, ssl.SSLSocket):
    pass


class _Connection(http.client.HTTPConnection):
    """One kept-alive connection to the node: TCP, TLS or a Unix socket."""

    def __init__(self, host: str, port: int, *, tls: bool, unix_path: str | None, family: int) -> None:
        super().__init__(host, port)
        self.leash = Leash(0)
        self._unix_path = unix_path
        self._family = family
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.create_default_context()
            self._tls.sslsocket_class = _LeashedTlsSocket

    def connect(self) -> None:
        raw = self._dial()
        leashed: _LeashedSocket | _LeashedTlsSocket
        if self._tls is not None:
            raw.settimeout(self.leash.left())
            wrapped = self._tls.wrap_socket(raw, server_hostname=self.host)
            assert isinstance(wrapped, _LeashedTlsSocket)
            leashed = wrapped
        else:
            leashed = _LeashedSocket(raw.family, raw.type, raw.proto, fileno=raw.detach())
        leashed.leash = self.leash
        self.sock = leashed

    def _dial(self) -> socket.socket:
        if self._unix_path is not None:
            candidates: Iterable[tuple[int, Any]] = [(socket.AF_UNIX, self._unix_path)]
        else:
            found = socket.getaddrinfo(self.host, self.port, self._family, socket.SOCK_STREAM)
            candidates = [(family, address) for family, _, _, _, address in found]
        failure: OSError = OSError(f"{self.host} has no address")
        for family, address in candidates:
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(self.leash.left())
                sock.connect(address)
                if family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def take(self, leash: Leash) -> None:
        """Put the next exchange under this leash, on a connection that is not known to be dead."""
        self.leash = leash
        sock = self.sock
        if sock is None:
            return
        # Between exchanges nothing may arrive: a readable socket was closed by the node, or babbles.
        idle = select.poll()
        idle.register(sock, select.POLLIN)
        if idle.poll(0):
            self.close()
        else:
            assert isinstance(sock, _LeashedMixin)
            sock.leash = leash

    def interrupt(self) -> None:
        """Wake whoever waits on this connection in another thread, for good."""
        self.leash.pull()
        sock = self.sock
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # already closed, which is what we want


class TooMuch(exceptions.ProtocolError):  # type: ignore[misc]
    """The node sent more bytes than the call allows."""


class _Closable(Protocol):
    def close(self) -> None: ...


class Transport(ClientSyncBase):  # type: ignore[misc]
    """An ipfshttpclient backend over one connection; for one thread at a time.

    Set ``leash`` (time) and ``budget`` (bytes of the answer's body) before each call; they replace the ``timeout``
    argument of the single call.
    """

    __slots__ = ("_base", "_connection", "_headers", "budget", "leash")

    def _init(
        self,
        addr: str,
        base: str,
        *,
        auth: tuple[str, str] | None,
        cookies: object,
        headers: Mapping[str, str] | None,
        params: object,
        timeout: object,
    ) -> None:
        del cookies, params, timeout  # a node uses no cookies; parameters and time are set call by call
        url, unix_path, family, _ = multiaddr_to_url_data(addr, base)
        parts = urllib.parse.urlsplit(url)
        tls = parts.scheme == "https"
        # A Unix socket's path stands where the host would; it may not be read as one.
        host, port = ("localhost", 80) if unix_path else (parts.hostname or "", parts.port or (443 if tls else 80))
        self._connection = _Connection(host, port, tls=tls, unix_path=unix_path, family=int(family))
        self._base = parts.path
        self._headers = {"User-Agent": "sibyl", **(headers or {})}
        if auth is not None:
            token = base64.b64encode(f"{auth[0]}:{auth[1]}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self.leash = Leash(0)
        self.budget = 0

    def _make_session(self) -> _Connection:
        return self._connection

    def interrupt(self) -> None:
        """End the exchange that another thread is in, now."""
        self._connection.interrupt()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def _request(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]],
        *,
        auth: object,
        data: Iterator[bytes] | None,
        headers: Mapping[str, str] | None,
        timeout: object,
        chunk_size: int | None,
    ) -> tuple[list[_Closable], Generator[bytes, None, None]]:
        del auth, timeout, chunk_size
        target = f"{self._base}{path.lstrip('/')}?{urllib.parse.urlencode(params)}"
        body = _upload(data)
        connection = self._connection
        try:
            connection.take(self.leash)
            reused = connection.sock is not None
            try:
                response = self._exchange(method, target, body, headers)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                # The node closed an idle connection just as we used it. Reading and adding are both safe to repeat.
                if not reused or not isinstance(body, bytes):
                    raise
                connection.close()
                response = self._exchange(method, target, body, headers)
            if response.status != http.client.OK:
                _refuse(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise _translate(error) from error
        except BaseException:
            connection.close()
            raise
        return [_Exchange(connection, response)], _pieces(response, self.budget)

    def _exchange(
        self, method: str, target: str, body: bytes | Iterator[bytes], headers: Mapping[str, str] | None
    ) -> http.client.HTTPResponse:
        connection = self._connection
        connection.request(
            method,
            target,
            body=body,
            headers={**self._headers, **(headers or {})},
            encode_chunked=not isinstance(body, bytes),
        )
        return connection.getresponse()


class _Exchange:
    """Closes the connection when its response was not read to the end: the rest would be taken for the next answer."""

    def __init__(self, connection: _Connection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._response = response

    def close(self) -> None:
        if not self._response.isclosed() and self._response.length != 0:
            self._connection.close()
        self._response.close()


def _upload(data: Iterator[bytes] | None) -> bytes | Iterator[bytes]:
    """A small body as one piece, which is sent in one packet and can be repeated; a large one stays a stream."""
    if data is None:
        return b""
    held: list[bytes] = []
    size = 0
    for piece in data:
        held.append(piece)
        size += len(piece)
        if size > _BUFFERED_UPLOAD:
            return chain(held, data)
    return b"".join(held)


def _pieces(response: http.client.HTTPResponse, budget: int) -> Generator[bytes, None, None]:
    try:
        while piece := response.read1(_PIECE):
            budget -= len(piece)
            if budget < 0:
                raise TooMuch(None, "the node sent more than the answer may hold")
            yield piece
        if response.length:
            # read1 ends quietly when the node hangs up early.
            raise http.client.IncompleteRead(b"", response.length)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _translate(error) from error


def _refuse(response: http.client.HTTPResponse) -> NoReturn:
    """Raises what a node says instead of an answer, in its own words where it has any."""
    body = b""
    while len(body) < _ERROR_BODY and (piece := response.read1(_PIECE)):
        body += piece
    response.close()
    try:
        message = json.loads(body)["Message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise exceptions.StatusError(OSError(f"HTTP {response.status} {response.reason}")) from None
    raise exceptions.ErrorResponse(str(message)[:500], None)


def _translate(error: Exception) -> Exception:
    """The error in ipfshttpclient's own vocabulary."""
    kind = exceptions.ProtocolError
    if isinstance(error, TimeoutError):
        kind = exceptions.TimeoutError
    elif isinstance(error, OSError):
        kind = exceptions.ConnectionError
    translated: Exception = kind(error)
    return translated


def check_address(address: str) -> None:
    """Raises ConfigurationError when ``address`` is not the multiaddr of a node's RPC."""
    try:
        multiaddr_to_url_data(address, "api/v0")
    except Exception as error:  # multiaddr 0.2 raises many unrelated types
        raise ConfigurationError(
            f"{address!r} is not the multiaddr of an IPFS node's RPC",
            remedy="Write it like /ip4/127.0.0.1/tcp/5001/http.",
        ) from error


__all__ = ["Leash", "TooMuch", "Transport", "check_address"]
