"""The content store over an IPFS node's RPC: ipfshttpclient, with every byte that comes back hashed here."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import ipfshttpclient
from ipfshttpclient import exceptions

from oracle.content.cid import is_named
from oracle.content.transport import Leash, TooMuch, Transport, check_address
from oracle.content.unixfs import (
    CHUNK_BYTES,
    MAX_BLOCK_BYTES,
    MAX_LINKS,
    FileBuilder,
    FileNode,
    cid_of,
    folder_of,
    read_block,
    rechunk,
)
from oracle.content.walk import Placed, Target, Write, check_size, put, walk
from oracle.domain import Cid
from oracle.errors import ContentCorrupt, ContentTooLarge, ContentUnavailable

T = TypeVar("T")

_PIECE = 1024 * 1024
_SLOWEST = 1024 * 1024  # bytes a second that a node must store at least, beside the time for any file
_REPLY_BYTES = 64 * 1024  # of JSON that a node may answer for each file added
_NOT_PINNED = "not pinned or pinned indirectly"  # Kubo's words
_BROKEN_REPLY = (AssertionError, KeyError, TypeError, AttributeError, RecursionError)


class _Client(ipfshttpclient.Client):  # type: ignore[misc]
    """ipfshttpclient, built directly (``connect`` refuses every Kubo since 0.8 by its version), on our transport."""

    def __init__(self, address: str, headers: Mapping[str, str] | None) -> None:
        super().__init__(address, chunk_size=CHUNK_BYTES)
        self._client = Transport(address, "api/v0", headers=dict(headers or {}))

    @property
    def transport(self) -> Transport:
        """The backend whose leash and budget bound the next call."""
        return self._client


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""


class _Upload:
    """One of several files on their way: a stream under the name that the answer will repeat."""

    def __init__(self, stream: BinaryIO, index: int) -> None:
        self.read = stream.read
        self.name = str(index)


class IpfsContentStore:
    """``ports.ContentStore`` on a Kubo-compatible RPC.

    ``address`` is the RPC's multiaddr (``/ip4/127.0.0.1/tcp/5001/http``; dns, https and unix work as well),
    ``headers`` go with every call (a token for a remote node), ``threads`` bounds the calls in flight,
    ``add_timeout`` is in seconds.
    Raises ConfigurationError for an address that is none. Nothing is contacted before the first call.
    """

    def __init__(
        self,
        address: str,
        *,
        threads: int = 8,
        add_timeout: float = 60.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        check_address(address)
        self._address = address
        self._headers = headers
        self._threads = threads
        self._add_timeout = add_timeout
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ipfs")
        self._local = threading.local()
        self._transports: list[Transport] = []
        self._lock = threading.Lock()
        self._closed = False

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """The file's bytes; see ``ports.ContentStore.fetch``. ``limit`` in bytes, ``timeout`` in seconds.

        Raises ContentTooLarge, ContentUnavailable, ContentCorrupt, ContentMalformed.
        """
        try:
            return await self._bounded(timeout, lambda leash: self._fetch(cid, limit, leash))
        except TimeoutError as error:
            raise _undelivered(cid, timeout) from error

    async def fetch_block(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        """The bytes of the one block that the CID names, whatever it holds. Raises what ``fetch`` raises."""
        try:
            data = await self._bounded(timeout, lambda leash: self._in_thread(self._read_raw, cid, leash))
        except TimeoutError as error:
            raise _undelivered(cid, timeout) from error
        if len(data) > limit:
            raise ContentTooLarge(f"the block {cid} has {len(data):,} bytes and {limit:,} are allowed")
        return data

    async def fetch_file(self, cid: Cid, path: Path, *, limit: int, timeout: float) -> int:
        """Write the file's bytes to ``path``; see ``ports.ContentStore.fetch_file``.

        In memory is a block for each thread at most. Raises what ``fetch`` raises, and OSError.
        """
        try:
            return await self._bounded(timeout, lambda leash: self._fetch_file(cid, path, limit, leash))
        except TimeoutError as error:
            raise _undelivered(cid, timeout) from error

    async def add(self, files: Sequence[bytes]) -> Sequence[Cid]:
        """Store and pin files in one call; see ``ports.ContentStore.add``.

        Raises ContentUnavailable when the node does not answer, ContentCorrupt when its CIDs are not ours.
        """
        if not files:
            return ()

        def work(leash: Leash) -> Sequence[Cid]:
            return self._upload([io.BytesIO(data) for data in files], [cid_of(data) for data in files], leash)

        return await self._added(work, self._add_timeout)

    async def add_file(self, path: Path) -> Cid:
        """Store and pin one file of any size, read piece by piece; see ``ports.ContentStore.add_file``.

        Its time grows with it, by a second for each MiB. Raises what ``add`` raises, and OSError.
        """

        def work(leash: Leash) -> Sequence[Cid]:
            with _opened(path) as file:
                ours = file_cid(file, leash)
                file.seek(0)
                return self._upload([file], [ours], leash)

        size = (await asyncio.to_thread(path.stat)).st_size
        (cid,) = await self._added(work, self._add_timeout + size / _SLOWEST)
        return cid

    async def name(self, content: bytes | Path) -> Cid:
        """The CID that ``add`` would give; nothing is stored. Raises OSError."""

        def work() -> Cid:
            with _opened(content) as file:
                return file_cid(file)

        return await asyncio.to_thread(work)

    async def hold(self, content: bytes | Path) -> Cid:
        """Store one file, and pin it by a folder of its own: letting go of that touches no other pin of the file.

        Its time grows as that of ``add_file``. Raises what ``add_file`` raises.
        """

        def work(leash: Leash) -> Cid:
            with _opened(content) as file:
                ours = file_cid(file, leash)
                file.seek(0)
                self._upload([file], [ours], leash, pin=False)
            folder = folder_of(ours)

            def pin(client: Any) -> str:
                put = client.block.put(io.BytesIO(folder.data), opts={"cid-codec": "dag-pb", "mhtype": "sha2-256"})
                client.pin.add(folder.cid.text)
                return str(put["Key"])

            if self._stored(pin, leash) != folder.cid.text:
                raise ContentCorrupt("the IPFS node's answer to add makes no sense")
            return ours

        size = len(content) if isinstance(content, bytes) else (await asyncio.to_thread(content.stat)).st_size
        return await self._added(work, self._add_timeout + size / _SLOWEST)

    async def let_go(self, cid: Cid) -> None:
        """Unpin what ``hold`` pinned; the node may then delete it, unless something else pins it. Twice is no error.

        Raises ContentUnavailable.
        """

        def work(leash: Leash) -> None:
            try:
                self._client(leash, _REPLY_BYTES).pin.rm(folder_of(cid).cid.text)
            except exceptions.ErrorResponse as error:
                if _NOT_PINNED not in str(error):
                    raise ContentUnavailable(f"the IPFS node does not unpin {cid}: {error}") from error
            except exceptions.Error as error:
                raise self._unreachable(error) from error

        await self._added(work, self._add_timeout)

    async def version(self, *, timeout: float = 5.0) -> str:
        """The node's version, as a sign of life. ``timeout`` in seconds. Raises ContentUnavailable."""

        async def call(leash: Leash) -> str:
            return await self._in_thread(self._read_version, leash)

        try:
            return await self._bounded(timeout, call)
        except TimeoutError as error:
            raise self._unreachable(error) from error

    async def close(self) -> None:
        """Break off calls in flight, which end as ContentUnavailable, and release threads and connections."""
        self._closed = True
        with self._lock:
            transports = list(self._transports)
        for transport in transports:
            transport.interrupt()
        await asyncio.to_thread(self._pool.shutdown)
        for transport in transports:
            transport.close()

    # The part that runs on the event loop ------------------------------------------------------------------------

    async def _bounded(self, seconds: float, work: Callable[[Leash], Awaitable[T]]) -> T:
        leash = Leash(seconds)
        try:
            async with asyncio.timeout(seconds):
                return await work(leash)
        finally:
            # Threads that still work for us, because of a time-out, an error elsewhere or a cancellation, let go.
            leash.pull()

    async def _added(self, work: Callable[[Leash], T], seconds: float) -> T:
        try:
            return await self._bounded(seconds, lambda leash: self._in_thread(work, leash))
        except TimeoutError as error:
            raise ContentUnavailable(f"the IPFS node did not store within {seconds:g} s") from error

    async def _in_thread(self, function: Callable[..., T], *args: object) -> T:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(function, *args))

    async def _fetch(self, cid: Cid, limit: int, leash: Leash) -> bytes:
        root = await self._root(cid, limit, leash)
        if not root.children:
            return root.payload
        content = bytearray(root.size)

        def write(offset: int, payload: bytes) -> None:
            content[offset : offset + len(payload)] = payload

        await self._assemble(cid, root, write, leash)
        return bytes(content)

    async def _fetch_file(self, cid: Cid, path: Path, limit: int, leash: Leash) -> int:
        root = await self._root(cid, limit, leash)
        target = await asyncio.to_thread(Target, path)
        try:
            await self._assemble(cid, root, target.write, leash)
        finally:
            target.close()
        return root.size

    async def _root(self, cid: Cid, limit: int, leash: Leash) -> FileNode:
        root = await self._in_thread(self._read_node, cid, leash)
        check_size(cid, root, limit)
        return root

    async def _assemble(self, cid: Cid, root: FileNode, write: Write, leash: Leash) -> None:
        """Fetch what is below a root, a few blocks at a time, each into its place."""

        def place(child: Cid, size: int, offset: int) -> Placed:
            return put(cid, self._read_node(child, leash), size, offset, write)

        write(0, root.payload)
        await walk(cid, root, partial(self._in_thread, place), at_once=self._threads)

    # The part that runs in threads -------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise ContentUnavailable("the content store is closed")

    def _client(self, leash: Leash, budget: int) -> Any:
        self._check_open()
        client: _Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = _Client(self._address, self._headers)
            with self._lock:
                self._transports.append(client.transport)
        client.transport.leash = leash
        client.transport.budget = budget
        return client

    def _read_node(self, cid: Cid, leash: Leash) -> FileNode:
        return read_block(cid, self._read_raw(cid, leash))

    def _read_raw(self, cid: Cid, leash: Leash) -> bytes:
        try:
            data: bytes = self._client(leash, MAX_BLOCK_BYTES).block.get(cid.text)
        except exceptions.ErrorResponse as error:
            raise ContentUnavailable(f"the IPFS node does not deliver {cid}: {error}") from error
        except TooMuch as error:
            raise ContentCorrupt(f"the IPFS node sent more than a block for {cid}") from error
        except exceptions.Error as error:
            raise self._unreachable(error) from error
        except MemoryError as error:
            raise ContentUnavailable(f"not enough memory to read {cid}") from error
        if not is_named(cid, data):
            raise ContentCorrupt(f"the IPFS node served {len(data):,} bytes for {cid} that do not hash to it")
        return data

    def _upload(
        self, files: Sequence[BinaryIO], ours: Sequence[Cid], leash: Leash, *, pin: bool = True
    ) -> Sequence[Cid]:
        def add(client: Any) -> Mapping[str, str]:
            reply = client.add(
                *(_Upload(file, index) for index, file in enumerate(files)),
                pin=pin,
                cid_version=1,
                raw_leaves=True,
                chunker=f"size-{CHUNK_BYTES}",
                # Said in full, so that a node whose own defaults differ builds the same file.
                opts={"max-file-links": str(MAX_LINKS), "hash": "sha2-256"},
            )
            entries = [reply] if isinstance(reply, Mapping) else reply
            return {str(entry["Name"]): str(entry["Hash"]) for entry in entries}

        theirs = self._stored(add, leash, budget=_REPLY_BYTES * len(files))
        for index, cid in enumerate(ours):
            answer = theirs.get(str(index), "no CID")
            if answer != cid.text:
                raise ContentCorrupt(f"the IPFS node names a file {answer} whose CID is {cid}")
        return ours

    def _stored(self, call: Callable[[Any], T], leash: Leash, *, budget: int = 2 * _REPLY_BYTES) -> T:
        """What a call that stores says."""
        try:
            return call(self._client(leash, budget))
        except exceptions.ErrorResponse as error:
            raise ContentUnavailable(f"the IPFS node does not store: {error}") from error
        except exceptions.Error as error:
            raise self._unreachable(error) from error
        except _BROKEN_REPLY as error:
            raise ContentCorrupt("the IPFS node's answer to add makes no sense") from error

    def _read_version(self, leash: Leash) -> str:
        try:
            return str(self._client(leash, _REPLY_BYTES).version()["Version"])
        except exceptions.Error as error:
            raise self._unreachable(error) from error
        except _BROKEN_REPLY as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> ContentUnavailable:
        return ContentUnavailable(
            f"the IPFS node at {self._address} does not answer as one: {error}",
            remedy="Check that the node runs and that the address is its RPC's (Kubo: Addresses.API).",
        )


def _opened(content: bytes | Path) -> BinaryIO:
    return io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def file_cid(file: Readable, leash: Leash | None = None) -> Cid:
    """The CID that ``add`` gives the rest of an open file, read piece by piece. Raises TimeoutError and OSError."""
    builder = FileBuilder()

    def pieces() -> Iterator[bytes]:
        while piece := file.read(_PIECE):
            if leash is not None:
                leash.left()
            yield piece

    for payload in rechunk(pieces()):
        builder.add(payload)
    return builder.finish()[0]


def _undelivered(cid: Cid, timeout: float) -> ContentUnavailable:
    return ContentUnavailable(
        f"no node delivered {cid} within {timeout:g} s",
        remedy="Pin the content on a node that is reachable, then try again.",
    )
