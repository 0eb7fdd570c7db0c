"""Files as DAGs of blocks: the balanced layout of Kubo's profile ``unixfs-v0-2015``, and a strict reader of it.

The layout: chunks of 262,144 bytes, at most 174 links to a node, leaves all at one depth. Version 0 wraps each leaf in
dag-pb; version 1 has raw leaves. Sources: the dag-pb and UnixFS specifications; the vectors in the tests come from a
real Kubo.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from oracle.content.cid import Block, decode_varint, encode_varint, name_block
from oracle.domain import CODEC_DAG_PB, CODEC_RAW, Cid
from oracle.errors import ContentMalformed

CHUNK_BYTES = 262_144
MAX_LINKS = 174

MAX_BLOCK_BYTES = 4 * 1024 * 1024
"""No block that we read may be larger. Nodes exchange blocks up to 2 MiB; the rest is room for odd writers."""

MAX_NODE_LINKS = 65_536
"""No node that we read may have more links; the widest layouts in use have 8,192 at most."""

_TYPE_RAW = 0
_TYPE_DIRECTORY = 1
_TYPE_FILE = 2
_TYPE_NAMES = {1: "directory", 3: "metadata node", 4: "symbolic link", 5: "directory"}

_WIRE_VARINT = 0
_WIRE_BYTES = 2


# ---------------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Child:
    """A finished subtree: its root, the file bytes below it and the bytes of all its blocks (dag-pb's Tsize)."""

    cid: Cid
    content: int
    total: int


def chunk(data: bytes) -> Iterator[bytes]:
    """Cut a file into leaves' payloads; an empty file is one empty payload."""
    view = memoryview(data)
    for offset in range(0, len(data) or 1, CHUNK_BYTES):
        yield bytes(view[offset : offset + CHUNK_BYTES])


def rechunk(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same for a file that arrives in pieces of any size; holds at most one chunk and one piece."""
    cutter = Cutter()
    for piece in pieces:
        yield from cutter.feed(piece)
    yield from cutter.finish()


class Cutter:
    """Cuts a stream into leaves' payloads as it arrives."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._cut = False

    def feed(self, piece: bytes) -> list[bytes]:
        """Take a piece; the payloads that are now complete."""
        self._buffer += piece
        whole = len(self._buffer) // CHUNK_BYTES * CHUNK_BYTES
        payloads = [bytes(self._buffer[at : at + CHUNK_BYTES]) for at in range(0, whole, CHUNK_BYTES)]
        del self._buffer[:whole]
        self._cut = self._cut or bool(payloads)
        return payloads

    def finish(self) -> list[bytes]:
        """The last payload: the remainder, or the empty one of an empty file."""
        return [bytes(self._buffer)] if self._buffer or not self._cut else []


class FileBuilder:
    """Builds a file's DAG leaf by leaf; memory holds only the unfinished right edge of the tree.

    ``raw_leaves`` is Kubo's option of that name; unless said otherwise it holds for version 1 and not for version 0.
    """

    def __init__(self, *, version: int = 1, raw_leaves: bool | None = None) -> None:
        if version not in (0, 1):
            raise ValueError(f"CID version {version} is neither 0 nor 1")
        self._version = version
        self._raw_leaves = version == 1 if raw_leaves is None else raw_leaves
        self._levels: list[list[_Child]] = [[]]

    def add(self, payload: bytes) -> list[Block]:
        """Append one leaf's payload; the blocks this completes, the leaf first."""
        if self._raw_leaves:
            leaf = Block(name_block(payload, version=1, codec=CODEC_RAW), payload)
        else:
            leaf = self._named(_encode_node((), _encode_file(payload, len(payload), ())))
        blocks = [leaf]
        self._levels[0].append(_Child(leaf.cid, len(payload), len(leaf.data)))
        level = 0
        while len(self._levels[level]) == MAX_LINKS:
            blocks.append(self._close(level))
            level += 1
        return blocks

    def finish(self) -> tuple[Cid, int, list[Block]]:
        """The root's CID, the bytes of all blocks (Kubo's ``Size``) and the blocks that were still open.

        Raises ValueError when nothing was added: an empty file has one empty leaf.
        """
        blocks: list[Block] = []
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                blocks.append(self._close(level))
            level += 1
        if not self._levels[level]:
            raise ValueError("a file has at least one leaf")
        root = self._levels[level][0]
        return root.cid, root.total, blocks

    def _close(self, level: int) -> Block:
        children = self._levels[level]
        block = self._named(
            _encode_node(children, _encode_file(b"", sum(c.content for c in children), [c.content for c in children]))
        )
        if level + 1 == len(self._levels):
            self._levels.append([])
        total = len(block.data) + sum(c.total for c in children)
        self._levels[level + 1].append(_Child(block.cid, sum(c.content for c in children), total))
        self._levels[level] = []
        return block

    def _named(self, data: bytes) -> Block:
        return Block(name_block(data, version=self._version, codec=CODEC_DAG_PB), data)


def blocks_of(payloads: Iterable[bytes], *, version: int = 1) -> Iterator[Block]:
    """Every block of a file given its leaves' payloads (see ``chunk`` and ``rechunk``); the root comes last."""
    builder = FileBuilder(version=version)
    last: Block | None = None
    for payload in payloads:
        for block in builder.add(payload):
            if last is not None:
                yield last
            last = block
    _, _, blocks = builder.finish()
    if last is not None:
        yield last
    yield from blocks


def cid_of(data: bytes, *, version: int = 1) -> Cid:
    """The CID that ``ipfs add`` gives a file (``--cid-version=1 --raw-leaves`` for version 1)."""
    builder = FileBuilder(version=version)
    for payload in chunk(data):
        builder.add(payload)
    return builder.finish()[0]


def folder_of(cid: Cid) -> Block:
    """A folder with this one file in it: a root by which the file can be pinned, apart from every other pin of it.

    It follows from the CID alone, and is no part of any file.
    """
    link = _encode_bytes(1, cid.value) + _encode_bytes(2, b"upload")
    data = _encode_bytes(2, link) + _encode_bytes(1, _encode_number(1, _TYPE_DIRECTORY))
    return Block(name_block(data, version=1, codec=CODEC_DAG_PB), data)


def _field(number: int, wire: int) -> bytes:
    return bytes((number << 3 | wire,))


def _encode_bytes(number: int, value: bytes) -> bytes:
    return _field(number, _WIRE_BYTES) + encode_varint(len(value)) + value


def _encode_number(number: int, value: int) -> bytes:
    return _field(number, _WIRE_VARINT) + encode_varint(value)


def _encode_node(children: Iterable[_Child], data: bytes) -> bytes:
    # Links go before data although their field number is higher: dag-pb's canonical order.
    links = (
        _encode_bytes(2, _encode_bytes(1, c.cid.value) + _encode_bytes(2, b"") + _encode_number(3, c.total))
        for c in children
    )
    return b"".join((*links, _encode_bytes(1, data)))


def _encode_file(payload: bytes, size: int, child_sizes: Iterable[int]) -> bytes:
    body = _encode_number(1, _TYPE_FILE)
    if payload:
        body += _encode_bytes(2, payload)
    return body + _encode_number(3, size) + b"".join(_encode_number(4, s) for s in child_sizes)


# ---------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FileNode:
    """One verified block of a file: its own bytes, then its children in order with the bytes that each must hold."""

    payload: bytes
    children: tuple[tuple[Cid, int], ...]
    size: int


def read_block(cid: Cid, data: bytes) -> FileNode:
    """Decode a block that is already known to hash to ``cid``. Sizes in bytes.

    Raises ContentMalformed, and nothing else, when the block is not part of a file: a directory or a symbolic link,
    bytes that break dag-pb or UnixFS, sizes that do not add up, a link that is no CID of ours.
    """
    if cid.codec == CODEC_RAW:
        return FileNode(data, (), len(data))
    try:
        return _read_node(data)
    except ValueError as error:
        raise ContentMalformed(f"{cid} is not a readable file: {error}") from error


def links_of(cid: Cid, data: bytes) -> Sequence[Cid]:
    """What a block links to, be it of a file or of a folder. Raises ContentMalformed when it cannot be read."""
    if cid.codec == CODEC_RAW:
        return ()
    try:
        return _parts(data)[0]
    except ValueError as error:
        raise ContentMalformed(f"{cid} is not a readable node: {error}") from error


def _read_node(data: bytes) -> FileNode:
    links, unixfs = _parts(data)
    return _read_unixfs(unixfs, links)


def _parts(data: bytes) -> tuple[list[Cid], bytes]:
    """A dag-pb node's links and its UnixFS data."""
    links: list[Cid] = []
    unixfs: bytes | None = None
    previous = 0
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            raise ValueError(f"dag-pb field {number} is a number")
        if number == 2:
            # Links may stand before or after the data (old writers), never around it.
            if links and previous != 2:
                raise ValueError("dag-pb links stand around the data")
            if len(links) == MAX_NODE_LINKS:
                raise ValueError(f"more than {MAX_NODE_LINKS} links in one node")
            links.append(_read_link(value))
        elif number == 1:
            if unixfs is not None:
                raise ValueError("dag-pb data appears twice")
            unixfs = value
        else:
            raise ValueError(f"dag-pb has no field {number}")
        previous = number
    if unixfs is None:
        raise ValueError("the node holds no UnixFS data")
    return links, unixfs


def _read_link(data: bytes) -> Cid:
    target: bytes | None = None
    previous = 0
    for number, value in _fields(data):
        if number <= previous:
            raise ValueError("a dag-pb link's fields are repeated or out of order")
        previous = number
        if number == 1 and isinstance(value, bytes):
            target = value
        elif not (number == 2 and isinstance(value, bytes)) and not (number == 3 and isinstance(value, int)):
            raise ValueError(f"a dag-pb link has an unknown field {number}")
    if target is None:
        raise ValueError("a dag-pb link has no hash")
    return Cid(target)


def _read_unixfs(data: bytes, links: list[Cid]) -> FileNode:
    kind: int | None = None
    payload: bytes | None = None
    size: int | None = None
    child_sizes: list[int] = []
    for number, value in _fields(data):
        if number == 4:
            # Protobuf allows a packed spelling of repeated numbers.
            child_sizes.extend([value] if isinstance(value, int) else _packed(value))
            if len(child_sizes) > len(links):
                raise ValueError(f"{len(links)} links but at least {len(child_sizes)} sizes")
        elif number == 1 and isinstance(value, int) and kind is None:
            kind = value
        elif number == 2 and isinstance(value, bytes) and payload is None:
            payload = value
        elif number == 3 and isinstance(value, int) and size is None:
            size = value
        elif number not in (7, 8):  # mode and modification time say nothing about the bytes
            raise ValueError(f"UnixFS field {number} is repeated, unknown or of the wrong type")
    if kind not in (_TYPE_RAW, _TYPE_FILE):
        raise ValueError(f"it is a {_TYPE_NAMES.get(kind, 'node of unknown type')}" if kind else "it has no type")
    if len(child_sizes) != len(links):
        raise ValueError(f"{len(links)} links but {len(child_sizes)} sizes")
    own = payload or b""
    held = len(own) + sum(child_sizes)
    if size is not None and size != held:
        raise ValueError(f"it declares {size} bytes and holds {held}")
    if links and not all(child_sizes):
        raise ValueError("a child holds no bytes")
    return FileNode(own, tuple(zip(links, child_sizes, strict=True)), held)


def _packed(data: bytes) -> list[int]:
    values = []
    offset = 0
    while offset < len(data):
        value, offset = decode_varint(data, offset)
        values.append(value)
    return values


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """A protobuf message's fields in order of appearance. Raises ValueError."""
    offset = 0
    while offset < len(data):
        key, offset = decode_varint(data, offset)
        number, wire = key >> 3, key & 7
        value, offset = decode_varint(data, offset)
        if wire == _WIRE_VARINT:
            yield number, value
        elif wire == _WIRE_BYTES:
            if value > len(data) - offset:
                raise ValueError("a field reaches past the end of the block")
            yield number, data[offset : offset + value]
            offset += value
        else:
            raise ValueError(f"wire type {wire} has no place here")
