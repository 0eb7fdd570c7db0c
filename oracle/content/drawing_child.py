"""The process that draws results: a frame with a result document and its picture in, drawings out.

In: a frame of a 4-byte big-endian length, the document in as many bytes, then the picture's bytes. Out: a frame of a
4-byte length, a JSON object of sizes by name in as many bytes, then the drawings in that order; an object with the key
``error`` where there is none. Frames and life: ``children.py``. Arguments: most pixels, most memory in bytes, most
processor seconds a drawing.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
from typing import BinaryIO

from oracle.content.drawing import draw
from provider_images.runtime.pictures import decode_picture


def _answer(data: bytes, most_pixels: int) -> bytes:
    (length,) = struct.unpack(">I", data[:4])
    document, picture = json.loads(data[4 : 4 + length]), data[4 + length :]
    try:
        drawn = draw(document, lambda: decode_picture(picture, most_pixels))
    except Exception as error:  # noqa: BLE001 - a result without drawings is still a result
        return _packed({"error": f"{type(error).__name__}: {error}"[:300]}, b"")
    return _packed({name: len(png) for name, png in drawn.items()}, b"".join(drawn.values()))


def _packed(head: dict[str, object], body: bytes) -> bytes:
    text = json.dumps(head).encode()
    return struct.pack(">I", len(text)) + text + body


def _serve(requests: BinaryIO, replies: BinaryIO, most_pixels: int, seconds: int) -> None:
    while len(header := requests.read(4)) == 4:
        (length,) = struct.unpack(">I", header)
        if len(data := requests.read(length)) != length:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        # The limit counts the process's whole life, and this process lives for many pictures.
        allowed = int(used.ru_utime + used.ru_stime) + seconds + 1
        resource.setrlimit(resource.RLIMIT_CPU, (allowed, resource.RLIM_INFINITY))
        answer = _answer(data, most_pixels)
        replies.write(struct.pack(">I", len(answer)) + answer)
        replies.flush()


def main() -> None:
    """Set the limits and serve until the input ends."""
    most_pixels, memory, seconds = (int(argument) for argument in sys.argv[1:4])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = sys.stdout.buffer
    # Nothing that a library prints may end up between the frames.
    sys.stdout = sys.stderr
    _serve(sys.stdin.buffer, replies, most_pixels, seconds)


if __name__ == "__main__":
    main()
