"""The other end of ``resident.py``: asks the resident process of a work folder, and starts it when there is none.

Standard library only, and little of it: a command inside a provider is mostly the time this takes to import.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

_QUEUE_LIMIT = 900.0  # seconds for the engine to load, and for the jobs of others before ours
_GRACE = 15.0  # seconds beyond a job's own limit, at which the process should have ended itself
_LOCK_LIMIT = 10.0
_CONNECT_LIMIT = 10.0
_LAST_WORDS = 200
_ELSEWHERE = "sibyl-resident-"


class ResidentError(Exception):
    """The order was not carried out; the message says why, in one line."""


class _Gone(Exception):
    """The process ended before it began with our order, so another one may be asked."""


class Client:
    """Asks the resident process of one work folder. ``memory_mb`` is for a process that has yet to be started."""

    def __init__(self, work: Path, *, memory_mb: int) -> None:
        self._folder, self._memory_mb = work / ".resident", memory_mb

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        """Give an order and wait for its reply, whose ``"ok"`` is true. Raises ResidentError."""
        for _ in range(3):
            connection = self._connect() or self._start()
            with connection, contextlib.suppress(_Gone):
                return self._exchange(connection, order)
        raise ResidentError(f"the model process ends before it does anything: {self._last_words()}")

    def _exchange(self, connection: socket.socket, order: dict[str, Any]) -> dict[str, Any]:
        started = False
        try:
            connection.settimeout(_QUEUE_LIMIT)
            connection.sendall(json.dumps(order).encode() + b"\n")
            with connection.makefile("rb") as reader:
                reply = _read(reader.readline())
                if "started" in reply:
                    started = True
                    connection.settimeout(reply["started"] + _GRACE)
                    reply = _read(reader.readline())
        except TimeoutError:
            # It can only be hung; the next command starts another.
            _kill_peer(connection)
            raise ResidentError("the model process does not answer and was ended") from None
        except (OSError, EOFError) as error:
            if not started:
                raise _Gone from error
            raise ResidentError(f"the model process ended during the job: {self._last_words()}") from None
        if reply.get("ok") is not True:
            raise ResidentError(str(reply.get("error")))
        return reply

    def _connect(self) -> socket.socket | None:
        """A connection to a process that listens, or None."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_CONNECT_LIMIT)
        until = time.monotonic() + _CONNECT_LIMIT
        while True:
            try:
                connection.connect((self._folder / "address").read_text(encoding="utf-8"))
            except BlockingIOError:  # many wait in the queue already
                if time.monotonic() > until:
                    connection.close()
                    raise ResidentError("too many wait for the model process") from None
                time.sleep(0.05)
            except OSError:
                connection.close()
                return None
            else:
                return connection

    def _start(self) -> socket.socket:
        """Start the process, unless another command just did, and connect to it. Raises ResidentError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._lock():
                if (connection := self._connect()) is not None:
                    return connection
                with self._bind() as listener:
                    if (child := os.fork()) == 0:
                        self._become_resident(listener)
                return self._await(child)
        except OSError as error:
            raise ResidentError(f"the model process cannot be started: {error}") from error

    def _await(self, child: int) -> socket.socket:
        """Connect as soon as the process listens, which is the first thing it does. Raises ResidentError."""
        until = time.monotonic() + _CONNECT_LIMIT
        while (connection := self._connect()) is None:
            if os.waitpid(child, os.WNOHANG)[0] or time.monotonic() > until:
                raise ResidentError(f"the model process does not start: {self._last_words()}")
            time.sleep(0.002)
        return connection

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Let one command at a time start a process."""
        until = time.monotonic() + _LOCK_LIMIT
        with (self._folder / "lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise ResidentError("another command has been starting the model process too long") from None
                    time.sleep(0.02)
                except OSError:
                    # The file servers of some providers have no locks; there, commands come one after the other anyway.
                    break
                else:
                    break
            yield

    def _bind(self) -> socket.socket:
        """A socket where this file system allows one, and where that is written down. Raises OSError."""
        self._forget()
        listener = socket.socket(socket.AF_UNIX)
        address = str(self._folder / "socket")
        try:
            try:
                listener.bind(address)
            except OSError:
                # Volumes of some providers hold no sockets, and a long path does not fit into an address.
                import tempfile

                address = f"{tempfile.mkdtemp(prefix=_ELSEWHERE)}/socket"
                listener.bind(address)
            unfinished = self._folder / "address.part"
            unfinished.write_text(address, encoding="utf-8")
            unfinished.replace(self._folder / "address")
        except BaseException:
            listener.close()
            raise
        return listener

    def _forget(self) -> None:
        """Remove the socket of a process that is no more."""
        with contextlib.suppress(OSError):
            stale = Path((self._folder / "address").read_text(encoding="utf-8"))
            stale.unlink(missing_ok=True)
            if stale.parent.name.startswith(_ELSEWHERE):
                stale.parent.rmdir()

    def _become_resident(self, listener: socket.socket) -> NoReturn:
        """What the forked child does: leave the command behind and serve."""
        code = 1
        try:
            # In this process: it is the one that a client sees at the other end.
            listener.listen(64)
            os.setsid()
            os.chdir("/")
            log = os.open(self._folder / "log", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
            for descriptor in (0, 1, 2):  # nobody may wait for our output to close
                os.dup2(log, descriptor)
            kept = os.dup2(listener.detach(), 3)
            os.closerange(4, os.sysconf("SC_OPEN_MAX"))
            # It closes with the process and not before: a client that sees it close reads the log at once.
            own = socket.socket(fileno=kept)
            self._serve(own)
            code = 0
        except BaseException:  # noqa: BLE001 - it goes to the log; nothing of it may reach the command's own code
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _serve(self, listener: socket.socket) -> None:
        from provider_images.runtime import sandbox
        from provider_images.runtime.resident import serve

        memory_mb = min(self._memory_mb, _physical_mb() * 4 // 5)
        place = Path(listener.getsockname())
        try:
            serve(listener, self._folder, memory_mb=memory_mb, threads=sandbox.cpus())
        finally:
            # In the folder, another process may listen at the same path by now; elsewhere nobody knows it.
            if place.parent.name.startswith(_ELSEWHERE):
                place.unlink(missing_ok=True)
                place.parent.rmdir()

    def _last_words(self) -> str:
        """The line of the log that says what happened: the last of a traceback, the first of whatever else there is."""
        try:
            text = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "it left no log"
        lines = text.split("\n") if text else ["it said nothing, as when there is no memory left"]
        return (lines[-2] if lines[0].startswith("Traceback") and len(lines) > 1 else lines[0])[:_LAST_WORDS]


def _read(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise EOFError
    reply: dict[str, Any] = json.loads(line)
    return reply


def _kill_peer(connection: socket.socket) -> None:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    with contextlib.suppress(ProcessLookupError):
        os.kill(struct.unpack("3i", credentials)[0], signal.SIGKILL)


def _physical_mb() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
