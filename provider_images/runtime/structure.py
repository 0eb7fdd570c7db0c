"""Counts the parts of a picture's file, before a decoder that would walk over millions of them sees it.

A part takes a decoder microseconds however short it is, a compressed text milliseconds, a scan of a JPEG a walk over
the whole picture; and an allowed file has room for millions. What cameras and programs write is far from these limits.
"""

from __future__ import annotations

import re

_MAX_CHUNKS = 20_000  # of a PNG
_MAX_PACKED = 100  # compressed texts and profiles of a PNG, each of which may unpack to a megabyte
_MAX_SEGMENTS = 10_000  # of a JPEG
_MAX_SCANS = 100  # of a JPEG
_MAX_BLOCKS = 200_000  # of a GIF; full ones hold 255 bytes
_MAX_STRAY = 10_000  # bytes between the parts, which decoders skip one by one

_PACKED = (b"zTXt", b"iTXt", b"iCCP")
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # escaped bytes, restarts and fillings are none
_BARE = (0x01, 0xD8)  # JPEG markers without a length, beside the end
_END, _SCAN = 0xD9, 0xDA
_TRAILER = 0x3B  # of a GIF


class TooManyParts(Exception):
    """The file is made of so many parts that reading it takes longer than any picture is worth."""


def count_scans(data: bytes) -> int:
    """How many scans the file has if it is a JPEG, else none. Raises TooManyParts for any format."""
    if data.startswith(b"\x89PNG"):
        _walk_png(data)
    elif data.startswith(b"GIF8"):
        _walk_gif(data)
    elif data.startswith(b"\xff\xd8"):
        return _walk_jpeg(data)
    return 0


def _walk_png(data: bytes) -> None:
    chunks = packed = 0
    position = 8
    while position < len(data):
        kind = data[position + 4 : position + 8]
        if kind == b"IEND":
            return
        chunks += 1
        packed += kind in _PACKED
        if chunks > _MAX_CHUNKS:
            raise TooManyParts(f"the PNG has more than {_MAX_CHUNKS:,} chunks")
        if packed > _MAX_PACKED:
            raise TooManyParts(f"the PNG has more than {_MAX_PACKED} compressed texts and profiles")
        position += 12 + int.from_bytes(data[position : position + 4], "big")


def _walk_jpeg(data: bytes) -> int:
    segments = scans = stray = 0
    position = 2
    while (found := _MARKER.search(data, position)) is not None:
        marker = found[1][0]
        if scans == 0:
            stray += found.start() - position
        position = found.end()
        if marker == _END:
            break
        segments += 1
        scans += marker == _SCAN
        if segments > _MAX_SEGMENTS or scans > _MAX_SCANS:
            raise TooManyParts(f"the JPEG has more than {_MAX_SEGMENTS:,} segments or {_MAX_SCANS} scans")
        if marker not in _BARE:
            position += int.from_bytes(data[position : position + 2], "big")
    if scans == 0:
        stray += max(0, len(data) - position)
    if stray > _MAX_STRAY:
        raise TooManyParts("the JPEG has too much between its segments that belongs to none")
    return scans


def _walk_gif(data: bytes) -> None:
    blocks = stray = 0
    position = 13 + _palette(data[10:11])
    while position < len(data) and data[position] != _TRAILER:
        match data[position]:
            case 0x21:  # an extension: its label, then its blocks
                position += 2
            case 0x2C:  # a frame: its place, its palette, its code size, then its blocks
                position += 11 + _palette(data[position + 9 : position + 10])
            case _:
                position += 1
                stray += 1
                if stray > _MAX_STRAY:
                    raise TooManyParts("the GIF has too much between its blocks that belongs to none")
                continue
        while position < len(data) and (length := data[position]):
            position += 1 + length
            blocks += 1
            _check_blocks(blocks)
        position += 1
        blocks += 1
        _check_blocks(blocks)


def _check_blocks(blocks: int) -> None:
    if blocks > _MAX_BLOCKS:
        raise TooManyParts(f"the GIF has more than {_MAX_BLOCKS:,} blocks")


def _palette(flags: bytes) -> int:
    """Bytes of the palette that these flags announce."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
