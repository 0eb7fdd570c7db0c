"""The process that draws results: a frame with a result document and its picture in, drawings out.

In: a frame (``frames.py``) of a 4-byte big-endian length, the document in as many bytes, then the picture's bytes.
Out: a frame of a 4-byte length, a JSON object of sizes by name in as many bytes, then the drawings in that order; an
object with the key ``error`` where there is none. Arguments: most pixels, most memory in bytes, most processor seconds.
"""

from __future__ import annotations

import json
import resource
import struct
import sys

from oracle.content.drawing import draw
from oracle.content.frames import serve
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


def main() -> None:
    """Set the limits and serve."""
    most_pixels, memory, seconds = (int(argument) for argument in sys.argv[1:4])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    serve(lambda data: _answer(data, most_pixels), seconds)


if __name__ == "__main__":
    main()
