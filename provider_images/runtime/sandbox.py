"""What a model process gives up before it touches anything it was sent; standard library only."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def enter(*, memory_mb: int, threads: int) -> bool:
    """Take on the limits and the environment of a model process; whether it has no network from now on.

    Call it before an engine is imported, while the process has one thread.
    """
    limit_memory(memory_mb)
    isolated = leave_network()
    # TensorFlow's log is noise, and its arithmetic must stay float32 on every CPU.
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="2", ONEDNN_DEFAULT_FPMATH_MODE="STRICT", OMP_NUM_THREADS=str(threads))
    # The products of the numpy engine are small: threads wait for each other longer than they compute.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    return isolated


def limit_processor(seconds: int) -> None:
    """Have the kernel end this process after that much more processor time, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = math.ceil(used.ru_utime + used.ru_stime) + seconds
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def limit_memory(megabytes: int) -> None:
    """Let allocations beyond this fail inside this process, instead of the machine running out."""
    # Data rather than address space: TensorFlow reserves far more addresses than it ever fills.
    limit = megabytes * 1024 * 1024
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def leave_network() -> bool:
    """Move into a network namespace of our own, in which there is nothing; whether the system allowed it.

    Call it while the process has one thread.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def die_with_parent(parent: int) -> None:
    """Be killed when the parent process ends, however it ends. Call it last: changing namespaces undoes it."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the call above.
    if os.getppid() != parent:
        sys.exit(1)


def own_stdout() -> int:
    """Keep the real stdout for the protocol under a new descriptor and send everything else that prints to stderr."""
    with contextlib.suppress(ValueError, OSError):
        sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    return kept
