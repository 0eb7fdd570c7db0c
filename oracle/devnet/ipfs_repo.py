"""The disk of the one-machine IPFS node: blocks by their hash, and a journal of what is pinned."""

from __future__ import annotations

import base64
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from oracle.content.cid import Block
from oracle.content.unixfs import FileNode, links_of, read_block
from oracle.domain import Cid
from oracle.errors import ConfigurationError, ContentMalformed, ContentUnavailable

_MAX_DEPTH = 32


class Repo:
    """Blocks and pins in a directory of their own; one process at a time.

    What ``put`` and ``pin`` were given is on disk when they return. Raises ConfigurationError when the directory cannot
    be used or another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self._blocks = directory / "blocks"
        self._journal_path = directory / "pins"
        try:
            self._blocks.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the content directory {directory} cannot be used: {error}",
                remedy="Choose a directory that this user may write.",
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise ConfigurationError(
                f"another process uses the content directory {directory}",
                remedy="Stop it, or choose another directory.",
            ) from error
        self._shards: set[str] = set()
        self._pins = self._read_journal()
        self._write_compact()
        self._journal = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND)

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._journal)
        os.close(self._lock)

    # Blocks ------------------------------------------------------------------------------------------------------

    def put(self, blocks: Iterable[Block]) -> None:
        """Store blocks, each of them whole or not at all, whatever happens to this process."""
        touched: set[Path] = set()
        for block in blocks:
            path = self._place(block.cid)
            if path.exists():
                continue
            if path.parent.name not in self._shards:
                path.parent.mkdir(exist_ok=True)
                self._shards.add(path.parent.name)
                touched.add(self._blocks)
            # A name of its own for each writer: two uploads may bring the same block at the same time.
            unfinished = path.with_suffix(f".{id(block)}.part")
            _write_durably(unfinished, block.data)
            unfinished.replace(path)
            touched.add(path.parent)
        for directory in touched:
            _sync_directory(directory)

    def get(self, cid: Cid) -> bytes:
        """A block's bytes. Raises ContentUnavailable, in Kubo's words, when it is not here."""
        try:
            return self._place(cid).read_bytes()
        except FileNotFoundError as error:
            raise ContentUnavailable(f"block was not found locally (offline): ipld: could not find {cid}") from error

    def node(self, cid: Cid) -> FileNode:
        """A decoded block. Raises ContentUnavailable and ContentMalformed."""
        return read_block(cid, self.get(cid))

    def read(self, cid: Cid, start: int = 0, length: int | None = None, *, depth: int = 0) -> Iterator[bytes]:
        """A file's bytes from ``start``, ``length`` of them or all, piece by piece; subtrees outside are not read.

        Raises ContentUnavailable and ContentMalformed.
        """
        if depth > _MAX_DEPTH:
            raise ContentMalformed(f"{cid} is nested too deep")
        node = self.node(cid)
        end = node.size if length is None else min(node.size, start + length)
        if own := node.payload[start:end]:
            yield own
        offset = len(node.payload)
        for child, size in node.children:
            first, last = max(start - offset, 0), min(end - offset, size)
            if first < last:
                yield from self.read(child, first, last - first, depth=depth + 1)
            offset += size

    def walk(self, root: Cid) -> Iterator[Cid]:
        """Every block of a file or folder, each once, the root first. Raises ContentUnavailable when one is missing."""
        seen = {root}
        waiting = [root]
        while waiting:
            cid = waiting.pop()
            yield cid
            try:
                children = links_of(cid, self.get(cid))
            except ContentMalformed:
                continue  # of another kind: it can be kept and pinned all the same
            for child in children:
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)

    def _place(self, cid: Cid) -> Path:
        # By hash, not by CID: version 0 and version 1 of a name are the same block.
        name = base64.b32encode(cid.digest).decode().rstrip("=").lower()
        return self._blocks / name[-3:-1] / name

    # Pins --------------------------------------------------------------------------------------------------------

    @property
    def pins(self) -> frozenset[Cid]:
        """The roots that are pinned, with everything below them."""
        return frozenset(self._pins)

    def pin(self, roots: Iterable[Cid]) -> None:
        """Pin files."""
        self._record(b"+", [root for root in dict.fromkeys(roots) if root not in self._pins])

    def unpin(self, root: Cid) -> None:
        """Unpin a file. Raises KeyError when it is not pinned itself."""
        if root not in self._pins:
            raise KeyError(root)
        self._record(b"-", [root])

    def _record(self, sign: bytes, roots: list[Cid]) -> None:
        if not roots:
            return
        os.write(self._journal, b"".join(b"%s %s\n" % (sign, root.text.encode()) for root in roots))
        os.fsync(self._journal)
        if sign == b"+":
            self._pins.update(dict.fromkeys(roots))
        else:
            for root in roots:
                del self._pins[root]

    def _read_journal(self) -> dict[Cid, None]:
        pins: dict[Cid, None] = {}
        if not self._journal_path.exists():
            return pins
        for line in self._journal_path.read_text().splitlines():
            sign, _, text = line.partition(" ")
            try:
                root = Cid.parse(text)
            except ValueError:
                continue  # the last line of a process that was killed while it wrote
            if sign == "+":
                pins[root] = None
            else:
                pins.pop(root, None)
        return pins

    def _write_compact(self) -> None:
        unfinished = self._journal_path.with_suffix(".part")
        _write_durably(unfinished, "".join(f"+ {root.text}\n" for root in self._pins).encode())
        unfinished.replace(self._journal_path)
        _sync_directory(self._journal_path.parent)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
