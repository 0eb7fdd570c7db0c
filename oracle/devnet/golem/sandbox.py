"""Runs the commands of a job inside its image: own mounts, no network, limits, and all of it killed as one tree.

The work is done by ``jail.py``, which becomes process 1 of new user, mount, process, network, IPC and host name
namespaces. The image's root file system lies below a small overlay in memory, its volumes are empty folders of the
host. Needs Linux with unprivileged user namespaces; no root.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from oracle.devnet.child import die_with
from oracle.errors import ConfigurationError, MissingTool, SibylError

JAIL: Final = Path(__file__).with_name("jail.py")
MAX_OUTPUT: Final = 1024 * 1024  # bytes of one stream of one command that are kept
_MESSAGE_LIMIT = 256 * 1024
_READY = 0  # the number of the answer to the plan
_START_SECONDS = 15.0
_STOP_SECONDS = 5.0
_LATE_OUTPUT_SECONDS = 0.2
_GIB = 1024**3


class SandboxRefused(ConfigurationError):
    """The machine does not let us make a sandbox."""


class SandboxLost(SibylError):
    """The sandbox has ended, and with it whatever ran in it."""


class CommandTimeout(SibylError):
    """A command ran longer than it may; it was killed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may use. Sizes in GiB: ``memory`` of address space for each process, ``file`` for each file.

    ``speed`` below 1 makes everything in the sandbox stand still for the rest of the time.
    """

    memory: float = 4.0
    file: float = 1.0
    cpus: int = 1
    processes: int = 256
    open_files: int = 1024
    speed: float = 1.0

    def for_jail(self) -> Mapping[str, int]:
        """As ``jail.py`` takes them."""
        return {
            "AS": int(self.memory * _GIB),
            "FSIZE": int(self.file * _GIB),
            "NPROC": self.processes,
            "NOFILE": self.open_files,
            "CORE": 0,
            "cpus": self.cpus,
        }


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: its exit code, or minus the signal; what it wrote, up to ``MAX_OUTPUT`` each."""

    code: int
    stdout: bytes
    stderr: bytes


class Sandbox:
    """One sandbox, from ``start`` to ``close``. ``volumes`` are paths inside, each with a folder of the host behind."""

    def __init__(self, root: Path, volumes: Mapping[str, Path], limits: Limits) -> None:
        self._root, self._volumes, self._limits = root, volumes, limits
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}

    async def start(self) -> None:
        """Make it. Raises SandboxRefused when the system does not allow that, SandboxLost for any other reason."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._control = ours
        try:
            await self._launch(theirs)
        except OSError as error:
            raise SandboxLost(f"the sandbox cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
        ready = self._expect(_READY)
        asyncio.get_running_loop().add_reader(ours, self._receive)
        plan = {
            "root": str(self._root.resolve()),
            "volumes": {inside: str(folder.resolve()) for inside, folder in self._volumes.items()},
            "limits": self._limits.for_jail(),
            "speed": self._limits.speed,
        }
        try:
            self._send(plan)
            async with asyncio.timeout(_START_SECONDS):
                answer = await ready
        except TimeoutError:
            await self.close()
            raise SandboxLost(f"the sandbox does not start within {_START_SECONDS:g} s") from None
        except BaseException:
            await self.close()
            raise
        if "error" in answer:
            await self.close()
            if answer.get("refused"):
                raise refused(str(answer["error"]))
            raise SandboxLost(f"the sandbox does not start: {answer['error']}")

    async def close(self) -> None:
        """Kill everything in it. Bounded, and safe to call twice."""
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        process, self._process = self._process, None
        if process is not None:
            # Process 1 ends with its socket; the one that made it goes last, when all the others are gone.
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._give_up()

    async def run(self, arguments: Sequence[str], *, within: float) -> Finished:
        """Run one command, the program by its absolute path, for ``within`` seconds at most.

        What it leaves running in the background goes on. Raises CommandTimeout, SandboxLost.
        """
        number = next(self._numbers)
        done = self._expect(number)
        outputs = [_Output(), _Output()]
        try:
            writers = [await output.open() for output in outputs]
            try:
                self._send({"run": list(arguments), "id": number}, writers)
            finally:
                for writer in writers:
                    os.close(writer)
            try:
                async with asyncio.timeout(within):
                    answer = await done
            except TimeoutError:
                self._send({"kill": number})
                raise CommandTimeout(f"it ran longer than {within:g} s") from None
            except asyncio.CancelledError:
                with contextlib.suppress(SandboxLost):
                    self._send({"kill": number})
                raise
            # A program left in the background may hold the streams open for ever.
            await asyncio.wait([output.ended for output in outputs], timeout=_LATE_OUTPUT_SECONDS)
            return Finished(int(answer["code"]), bytes(outputs[0].kept), bytes(outputs[1].kept))
        finally:
            for output in outputs:
                output.close()

    async def cpu_seconds(self) -> float:
        """Processor time that everything in it has used so far. Raises SandboxLost."""
        number = next(self._numbers)
        answer = self._expect(number)
        self._send({"usage": True, "id": number})
        async with asyncio.timeout(_STOP_SECONDS):
            return float((await answer)["cpu"])

    async def _launch(self, theirs: socket.socket) -> None:
        parent, inherited = os.getpid(), theirs.fileno()
        die = die_with(parent)

        def arrange() -> None:
            if die is not None:
                die()
            # dup2 onto itself would leave it to be closed.
            if inherited == 3:
                os.set_inheritable(3, True)
            else:
                os.dup2(inherited, 3)

        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(JAIL)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            pass_fds=(3,),
            start_new_session=True,
            preexec_fn=arrange,
        )

    def _expect(self, key: int) -> asyncio.Future[Mapping[str, Any]]:
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        return future

    def _send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        data = json.dumps(message).encode()
        if self._control is None:
            raise SandboxLost("the sandbox has ended")
        if len(data) > _MESSAGE_LIMIT:
            raise SandboxLost(f"a command of {len(data)} bytes is longer than a sandbox takes")
        try:
            socket.send_fds(self._control, [data], descriptors)
        except OSError as error:
            raise SandboxLost(f"the sandbox does not listen: {error.strerror}") from error

    def _receive(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(_MESSAGE_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._control)
            self._give_up()
            return
        message = json.loads(data)
        future = self._waiting.pop(message.get("id", _READY), None)
        if future is not None and not future.done():
            future.set_result(message)

    def _give_up(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(SandboxLost("the sandbox has ended"))
                future.exception()  # seen: whoever waited may have been cancelled
        self._waiting.clear()


class _Output:
    """One stream of a command, read to its end and kept up to a limit."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self._transport: asyncio.BaseTransport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> int:
        """Start to read; the descriptor to write to, which the caller closes."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        output = self

        class Reader(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                output.kept += data[: MAX_OUTPUT - len(output.kept)]

            def connection_lost(self, _: Exception | None) -> None:
                if not output.ended.done():
                    output.ended.set_result(None)

        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(Reader, os.fdopen(reader, "rb", 0))
        return writer

    def close(self) -> None:
        """Stop reading."""
        if self._transport is not None:
            self._transport.close()


def refused(reason: str) -> SandboxRefused:
    """What to say when namespaces are not to be had."""
    return SandboxRefused(
        f"this machine allows no sandbox for Golem's jobs: {reason}",
        remedy="Allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
        "kernel.apparmor_restrict_unprivileged_userns=0; a container needs its seccomp profile to let unshare and "
        "mount pass), or use the local backend.",
    )


async def probe(folder: Path) -> None:
    """See whether a sandbox can be made here; ``folder`` must exist. Raises SandboxRefused, MissingTool."""
    if not sys.platform.startswith("linux"):
        raise MissingTool("sandboxes need Linux", remedy="Use the local backend on this machine.")
    root = folder / "probe"
    root.mkdir(parents=True, exist_ok=True)
    sandbox = Sandbox(root, {}, Limits())
    try:
        await sandbox.start()
    finally:
        await sandbox.close()
        shutil.rmtree(root, ignore_errors=True)
