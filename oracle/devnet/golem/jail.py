"""The inside of a sandbox: makes namespaces, turns an image's root file system into the root, runs what it is told.

A program of its own (``python -I -S jail.py``) that imports the standard library alone, for after ``pivot_root``
nothing of the host can be read any more. It is process 1 of the sandbox: when it ends, the kernel kills all in there.

It talks over the sequenced-packet socket on file descriptor 3, a JSON object a message. First comes the plan:
``{"root", "volumes": {path inside: folder}, "limits": {...}, "speed"}``, answered by ``{"ready": true}`` or
``{"error": text, "refused": bool}``. Then ``{"run": argv, "id": n}`` with the descriptors of stdout and stderr,
answered in time by ``{"id": n, "code": exit code or minus signal}``; ``{"kill": n}``; ``{"usage": true, "id": n}``,
answered by ``{"id": n, "cpu": seconds}``. The end of the socket ends all.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any

_CONTROL = 3
_MESSAGE_LIMIT = 256 * 1024
_NEW_NAMESPACES = (
    0x00020000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000
)  # mount user pid net ipc uts
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT = 1, 2, 4, 8, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 24, 38
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_OVERLAY_BYTES = 128 * 1024 * 1024  # what a Golem VM lets a job write outside its volumes
_DEVICES = ("null", "zero", "full", "random", "urandom")
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_GUARD = 0.25  # seconds between two looks at how many processes there are
_SLICE = 0.1  # seconds of one turn of running and standing still, when slowed down

_libc = ctypes.CDLL(None, use_errno=True)


class _Refused(Exception):
    """The system does not let us have a sandbox."""


def _check(result: int, what: str) -> None:
    if result == 0:
        return
    number = ctypes.get_errno()
    message = f"{what}: {os.strerror(number)}"
    if number in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS, errno.ENOSYS, errno.EINVAL):
        raise _Refused(message)
    raise OSError(number, message)


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode())
    _check(result, f"mount of {kind or 'a folder'} on {target}")


def _enter_namespaces() -> None:
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_NEW_NAMESPACES), "new namespaces")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 no import that is not needed
                file.write(text)
        except OSError as error:
            raise _Refused(f"/proc/self/{name}: {error.strerror}") from None
    # A job has no use for namespaces of its own, in which it would have capabilities again. Where the system's /proc
    # cannot be written, it goes without.
    try:
        with open("/proc/sys/user/max_user_namespaces", "w") as file:  # noqa: PTH123
            file.write("0")
    except OSError:
        pass


def _build_root(plan: dict[str, Any]) -> None:
    """Mount everything and make it the root."""
    _mount("", "/", "", _MS_REC | _MS_PRIVATE)
    volumes = {path: os.open(folder, os.O_PATH | os.O_DIRECTORY) for path, folder in plan["volumes"].items()}
    # Before anything is mounted over what leads there, and by name of the working directory, for a path may hold the
    # characters that separate overlayfs' options.
    os.chdir(plan["root"])
    stage = "/tmp"  # noqa: S108 mounted over in the next line, and only in here
    _mount("tmpfs", stage, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={_OVERLAY_BYTES},mode=755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{stage}/{name}")  # noqa: PTH102
    root = f"{stage}/root"
    options = f"lowerdir=.,upperdir={stage}/upper,workdir={stage}/work,userxattr"
    _mount("overlay", root, "overlay", _MS_NOSUID | _MS_NODEV, options)
    for path, descriptor in volumes.items():
        os.makedirs(root + path, exist_ok=True)  # noqa: PTH103
        _mount(f"/proc/self/fd/{descriptor}", root + path, "", _MS_BIND | _MS_REC)
        os.close(descriptor)
    _make_devices(root)
    os.makedirs(f"{root}/proc", exist_ok=True)  # noqa: PTH103
    # Our root may be the machine's, and as the owner of /proc/sys it would need no capability to write there.
    _mount("proc", f"{root}/proc", "proc", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    os.chdir(root)
    # The old root is stacked below the new one and taken away from there; no folder is needed for it.
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise _Refused(f"pivot_root on {os.uname().machine}: its number is not known here")
    _check(_libc.syscall(number, b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount of the old root")
    os.chdir("/")


def _make_devices(root: str) -> None:
    os.makedirs(f"{root}/dev", exist_ok=True)  # noqa: PTH103
    _mount("tmpfs", f"{root}/dev", "tmpfs", _MS_NOSUID | _MS_NOEXEC, "size=1m,mode=755")
    for name in _DEVICES:
        os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY))
        _mount(f"/dev/{name}", f"{root}/dev/{name}", "", _MS_BIND)
        # The devices are the machine's own: they can be written to all the same, but not given another mode.
        kept = os.statvfs(f"{root}/dev/{name}").f_flag & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
        _mount("", f"{root}/dev/{name}", "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")  # noqa: PTH211
    shared = f"{root}/dev/shm"  # noqa: S108
    os.mkdir(shared)  # noqa: PTH102
    _mount("tmpfs", shared, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={_OVERLAY_BYTES},mode=1777")


def _limit(limits: dict[str, int]) -> None:
    """Limits that everything in here inherits; no capability survives an exec."""
    if cpus := limits.get("cpus"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cpus])
    for name in ("AS", "FSIZE", "NOFILE", "NPROC", "CORE"):
        if name in limits:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limits[name], limits[name]))
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


class _Init:
    """Process 1: starts commands, reaps whatever ends, and stops with its socket."""

    def __init__(self, control: socket.socket, limits: dict[str, int], speed: float) -> None:
        self._control = control
        self._limits = limits
        self._speed = speed
        self._running: dict[int, int] = {}  # process id -> number of the command
        self._pause_at = 0.0
        self._wake, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Until the socket ends."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            timeout = _GUARD * 1000
            if self._speed < 1 and self._running:
                if time.monotonic() >= self._pause_at:
                    self._stand_still()
                    self._pause_at = time.monotonic() + _SLICE * self._speed
                timeout = min(timeout, max(0.0, self._pause_at - time.monotonic()) * 1000)
            for descriptor, _ in poll.poll(timeout):
                if descriptor == self._wake:
                    os.read(self._wake, 4096)
                elif not self._obey():
                    return
            self._reap()
            self._guard()

    def _guard(self) -> None:
        """The kernel exempts root of the host from the limit on processes; a job that goes beyond it is ended."""
        if len(_processes()) > self._limits["NPROC"]:
            os.kill(-1, signal.SIGKILL)

    def _stand_still(self) -> None:
        """A slower machine: everybody else in here pauses for a part of each slice."""
        try:
            os.kill(-1, signal.SIGSTOP)
            time.sleep(_SLICE * (1 - self._speed))
            os.kill(-1, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def _obey(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_LIMIT, 2)
        if not data:
            return False
        message = json.loads(data)
        if "run" in message:
            pid = os.fork()
            if pid == 0:
                self._become(message["run"], descriptors)
            self._running[pid] = message["id"]
        elif "kill" in message:
            for pid, number in self._running.items():
                if number == message["kill"]:
                    os.killpg(pid, signal.SIGKILL)
        elif "usage" in message:
            self._tell({"id": message["id"], "cpu": _cpu_seconds()})
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _become(self, arguments: list[str], descriptors: list[int]) -> None:
        """The child's part: never returns."""
        code = 127
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(descriptors[0], 1)
            os.dup2(descriptors[1], 2)
            os.closerange(3, 256)
            _limit(self._limits)
            os.execve(arguments[0], arguments, _ENVIRONMENT)  # noqa: S606
        except OSError as error:
            os.write(2, f"{arguments[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._running.pop(pid, None)
            if number is not None:
                self._tell({"id": number, "code": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:
            os._exit(0)


def _processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


def _cpu_seconds() -> float:
    """What all that ever ran in here has used: the living and, through those who waited for them, the dead."""
    ticks = 0
    for name in _processes():
        try:
            descriptor = os.open(f"/proc/{name}/stat", os.O_RDONLY)
        except OSError:
            continue
        try:
            text = os.read(descriptor, 4096)
        except OSError:
            continue  # it has just ended
        finally:
            os.close(descriptor)
        # The name, in brackets, may hold spaces; utime, stime, cutime and cstime are the 12th to 15th after it.
        ticks += sum(map(int, text.rpartition(b")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Process 0: makes the namespaces, then process 1, and stays until that has ended."""
    control = socket.socket(fileno=_CONTROL)
    control.set_inheritable(False)
    try:
        plan = json.loads(control.recv(_MESSAGE_LIMIT))
        _enter_namespaces()
        child = os.fork()
    except (_Refused, OSError) as error:
        control.send(json.dumps({"error": str(error), "refused": isinstance(error, _Refused)}).encode())
        return 1
    if child:
        control.close()
        _, status = os.waitpid(child, 0)
        return max(0, os.waitstatus_to_exitcode(status))
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        _build_root(plan)
        init = _Init(control, plan["limits"], float(plan["speed"]))
        control.send(b'{"ready": true}')
    except (_Refused, OSError) as error:
        control.send(json.dumps({"error": str(error), "refused": isinstance(error, _Refused)}).encode())
        os._exit(1)
    init.serve()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
