"""The child's side of ``children.py``: frames in, frames out, each with a processor's time of its own.

A frame is a 4-byte big-endian length and as many bytes; each is answered with one. The child ends when its input does,
so it never outlives its parent. Standard library only.
"""

from __future__ import annotations

import resource
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO


def serve(work: Callable[[bytes], bytes], seconds: int) -> None:
    """Answer the frames on standard input; the kernel ends this process when one takes more processor seconds."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    # Nothing that a library prints may end up between the frames.
    sys.stdout = sys.stderr
    while (header := _read(requests, 4)) is not None:
        data = _read(requests, struct.unpack(">I", header)[0])
        if data is None:
            return
        # The limit counts the process's whole life, and this process lives for many frames.
        used = resource.getrusage(resource.RUSAGE_SELF)
        allowed = int(used.ru_utime + used.ru_stime) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))
        answer = work(data)
        replies.write(struct.pack(">I", len(answer)) + answer)
        replies.flush()


def _read(stream: BinaryIO, count: int) -> bytes | None:
    data = stream.read(count)
    return data if len(data) == count else None
