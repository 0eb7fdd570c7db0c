"""Blocks and their names: what a CID promises about bytes, and the varints that both are written with.

Sources: the multiformats CID, multihash and unsigned-varint specifications.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from oracle.domain import CODEC_DAG_PB, CODEC_RAW, Cid

_SHA2_256 = b"\x12\x20"
_MAX_VARINT_BYTES = 9  # the specification's bound: 63 bits


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes with the CID that names them."""

    cid: Cid
    data: bytes


def name_block(data: bytes, *, version: int, codec: int) -> Cid:
    """The CID of a block's bytes. Raises ValueError for a version or codec that Sibyl does not speak."""
    digest = hashlib.sha256(data).digest()
    if version == 0 and codec == CODEC_DAG_PB:
        return Cid(_SHA2_256 + digest)
    if version == 1 and codec in (CODEC_RAW, CODEC_DAG_PB):
        return Cid(bytes((1, codec)) + _SHA2_256 + digest)
    raise ValueError(f"no CID of version {version} with codec {codec:#x}")


def is_named(cid: Cid, data: bytes) -> bool:
    """Whether the bytes are the ones the CID names."""
    return hashlib.sha256(data).digest() == cid.digest


def encode_varint(value: int) -> bytes:
    """An unsigned varint, shortest form. ``value`` is 0 to 2**63 - 1."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, offset: int) -> tuple[int, int]:
    """A varint at ``offset`` and the offset after it.

    Raises ValueError when it is cut off, longer than nine bytes or not in its shortest form: one value must have one
    spelling, or one file could have many names.
    """
    value = shift = 0
    for position in range(offset, min(len(data), offset + _MAX_VARINT_BYTES)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                raise ValueError("varint is not in its shortest form")
            return value, position + 1
        shift += 7
    raise ValueError("varint is cut off or longer than nine bytes")
