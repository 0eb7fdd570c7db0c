"""The layout is held against CIDs that Kubo 0.41.0 gave (profile unixfs-v0-2015, ``ipfs add --only-hash``, and with
``--cid-version=1 --raw-leaves``). A vector's file is the first ``size`` bytes of SHAKE128 of ``sibyl``.
"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.content.cid import Block, encode_varint, is_named
from oracle.content.unixfs import (
    CHUNK_BYTES,
    MAX_LINKS,
    Cutter,
    FileBuilder,
    blocks_of,
    chunk,
    cid_of,
    read_block,
    rechunk,
)
from oracle.domain import Cid
from oracle.errors import ContentMalformed

pytestmark = pytest.mark.unit

VECTORS = [
    (
        0,
        "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
        "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    ),
    (
        1,
        "QmXRrTsh88fjrmsuFp4GrYm7Joct5XJC2i9dtbtKYvTnzj",
        "bafkreicy66yhqbmsamxe3bqcupugsd5sy4a3fyo5krxhancfvk6wi2ltju",
    ),
    (
        100,
        "QmVFVyNz91tKSzxEQUuTkoRaiKSzgY1cAAEKncmqxNTzBp",
        "bafkreigv267td3mmmhzn22qy3jq6uvtkv54njz6fi3llkaefxclog2pmtu",
    ),
    (
        CHUNK_BYTES - 1,
        "QmZxoaVJAZbV9MVwsLvcHYt2Z2vYNHFC31aMihiqS3P4Y2",
        "bafkreiavce6lgkuoctebsi6bfhrsqyxpslrrjizhcfumzrn5bz3rqyliem",
    ),
    (
        CHUNK_BYTES,
        "QmdJSJNzesxDrP2BJc1YRNpVgcCW331NQpCe3TRpwLwkSN",
        "bafkreigofgqgpz6arwhyrd7wq25n5jdm7n4yebjn3wr4zjlgvfgfbuw4je",
    ),
    (
        CHUNK_BYTES + 1,
        "QmTKijx6ihvYFjvT558FZL56TQvKt9NVhYrRuAfWhAHYQt",
        "bafybeidrnxe2jovftadxgnlfiiogr3g2rkeip45l3x67aahmwwbdu2rtca",
    ),
    (
        1_000_000,
        "QmT5zmVdb3VNzi7SF2EhxQdEwGfmCg31MRkkz9vdGvnGSJ",
        "bafybeif3tstsvgmzg73knzdmjjeehovkda2gqugvuafllda2kasqjtiqsi",
    ),
    (
        MAX_LINKS * CHUNK_BYTES,
        "Qmanh5UqZyrejmgbJ18pYmDUs6t9QNgz7TFUiLQmPgEjw2",
        "bafybeihqnlodqodx6jds2oej4jlh5g7emg5ytimpajfnazs63vq6ywiu7a",
    ),
    (
        MAX_LINKS * CHUNK_BYTES + 1,
        "QmXCcuP6Y6SZE2KvkmstiKFmaFVEE7exNTP3E2UxsAZ8FZ",
        "bafybeicsb6rpzrsmsztdyy6cgosknjdfizoclquqlkqvxtg7mj5afo4dpa",
    ),
]


def sample(size: int) -> bytes:
    return hashlib.shake_128(b"sibyl").digest(size)


@pytest.mark.parametrize(("size", "version_0", "version_1"), VECTORS, ids=[str(v[0]) for v in VECTORS])
def test_a_file_gets_the_cid_that_kubo_gives_it(size: int, version_0: str, version_1: str) -> None:
    data = sample(size)
    assert cid_of(data, version=0).text == version_0
    assert cid_of(data, version=1).text == version_1


def test_well_known_texts_get_their_well_known_cids() -> None:
    assert cid_of(b"hello\n", version=0).text == "QmZULkCELmmk5XNfCgTnCyFgAVxBRBXyDHGGMVoLFLiXEN"
    assert cid_of(b"hello world\n", version=0).text == "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"


def assemble(blocks: dict[Cid, bytes], cid: Cid) -> bytes:
    assert is_named(cid, blocks[cid])
    node = read_block(cid, blocks[cid])
    content = node.payload
    for child, size in node.children:
        below = assemble(blocks, child)
        assert len(below) == size
        content += below
    assert len(content) == node.size
    return content


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, MAX_LINKS * CHUNK_BYTES + 1])
def test_the_blocks_of_a_file_give_it_back_and_the_root_comes_last(size: int, version: int) -> None:
    data = sample(size)
    blocks = list(blocks_of(chunk(data), version=version))
    assert blocks[-1].cid == cid_of(data, version=version)
    assert assemble({block.cid: block.data for block in blocks}, blocks[-1].cid) == data


def test_the_layout_does_not_hold_a_whole_file_in_memory() -> None:
    builder = FileBuilder()
    payload = bytes(1000)
    handed_over = 0
    for _ in range(MAX_LINKS * 3):
        handed_over += sum(len(block.data) for block in builder.add(payload))
    assert handed_over > MAX_LINKS * 3 * 1000  # every leaf and every full node has left already


@given(st.lists(st.binary(max_size=700), max_size=12))
def test_cutting_does_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    stretched = [piece * 700 for piece in pieces]
    assert list(rechunk(stretched)) == list(chunk(b"".join(stretched)))


def test_a_cutter_that_ended_on_a_boundary_adds_no_empty_leaf() -> None:
    cutter = Cutter()
    assert len(cutter.feed(bytes(2 * CHUNK_BYTES))) == 2
    assert cutter.finish() == []


def test_a_file_of_no_leaves_and_a_foreign_version_are_programming_errors() -> None:
    with pytest.raises(ValueError, match="at least one leaf"):
        FileBuilder().finish()
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        FileBuilder(version=2)


def test_raw_leaves_can_be_chosen_apart_from_the_version() -> None:
    builder = FileBuilder(version=0, raw_leaves=True)
    builder.add(b"hello\n")
    assert builder.finish()[0] == cid_of(b"hello\n", version=1)


# -- reading what others wrote -----------------------------------------------------------------------------------


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value)
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


CHILD = cid_of(b"child")
LINK = field(1, CHILD.value) + field(2, b"") + field(3, 5)
LEAF = field(1, 2) + field(2, b"abc") + field(3, 3)
PARENT = field(1, 2) + field(3, 5) + field(4, 5)
EMPTY_DIRECTORY = field(1, field(1, 1))

MALFORMED = {
    "a directory": (EMPTY_DIRECTORY, "directory"),
    "a sharded directory": (field(1, field(1, 5)), "directory"),
    "a symbolic link": (field(1, field(1, 4) + field(2, b"/etc/passwd")), "symbolic link"),
    "an unknown type": (field(1, field(1, 9)), "unknown type"),
    "no type": (field(1, field(3, 0)), "no type"),
    "no data": (field(2, LINK), "no UnixFS data"),
    "nothing": (b"", "no UnixFS data"),
    "data twice": (field(1, LEAF) + field(1, LEAF), "twice"),
    "links around the data": (field(2, LINK) + field(1, PARENT) + field(2, LINK), "around"),
    "an unknown node field": (field(1, LEAF) + field(3, b""), "no field 3"),
    "a number for a node field": (field(1, 7), "is a number"),
    "an unknown file field": (field(1, LEAF + field(9, 1)), "unknown"),
    "a repeated type": (field(1, LEAF + field(1, 2)), "repeated"),
    "a repeated size": (field(1, LEAF + field(3, 3)), "repeated"),
    "a size that is too large": (field(1, field(1, 2) + field(2, b"abc") + field(3, 4)), "declares 4 bytes"),
    "a sum that is wrong": (field(2, LINK) + field(1, field(1, 2) + field(3, 6) + field(4, 5)), "declares 6"),
    "more links than sizes": (field(2, LINK) * 2 + field(1, PARENT), "2 links but 1 sizes"),
    "more sizes than links": (field(1, PARENT), "sizes"),
    "an empty child": (field(2, LINK) + field(1, field(1, 2) + field(3, 0) + field(4, 0)), "no bytes"),
    "a link without a hash": (field(2, field(2, b"")) + field(1, PARENT), "no hash"),
    "a link with fields out of order": (field(2, field(2, b"") + field(1, CHILD.value)) + field(1, PARENT), "order"),
    "a link with an unknown field": (field(2, field(1, CHILD.value) + field(4, b"")) + field(1, PARENT), "unknown"),
    "a link to a foreign hash": (field(2, field(1, b"\x01\x55\x00\x01a")) + field(1, PARENT), "not a CID"),
    "a field that reaches past the end": (b"\x0a\x7fabc", "past the end"),
    "a foreign wire type": (b"\x0d\x00\x00\x00\x00", "wire type"),
    "more links than any layout has": (field(2, LINK) * 65_537 + field(1, PARENT), "more than 65536"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_block_that_is_no_file_is_refused_with_its_fault(name: str) -> None:
    data, words = MALFORMED[name]
    with pytest.raises(ContentMalformed, match=words):
        read_block(cid_of(b"", version=0), data)


@pytest.mark.parametrize(
    ("data", "payload", "size"),
    [
        (field(1, LEAF), b"abc", 3),
        (field(1, field(1, 0) + field(2, b"abc")), b"abc", 3),  # type raw, size not declared
        (field(1, LEAF + field(7, 0o644) + field(8, field(1, 1))), b"abc", 3),  # mode and time
        (field(1, PARENT) + field(2, LINK), b"", 5),  # data before links
        (field(2, LINK) + field(1, field(1, 2) + field(3, 5) + field(4, b"\x05")), b"", 5),  # packed sizes
        (field(2, LINK) + field(1, field(1, 2) + field(2, b"ab") + field(3, 7) + field(4, 5)), b"ab", 7),
    ],
)
def test_files_of_other_writers_are_read(data: bytes, payload: bytes, size: int) -> None:
    node = read_block(cid_of(b"", version=0), data)
    assert (node.payload, node.size) == (payload, size)


def read_or_refuse(data: bytes) -> None:
    try:
        node = read_block(cid_of(b"", version=0), data)
    except ContentMalformed:
        return
    assert node.size == len(node.payload) + sum(size for _, size in node.children)


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused_and_nothing_else_happens(data: bytes) -> None:
    read_or_refuse(data)


VALID: list[Block] = list(blocks_of((bytes([n]) * 9 for n in range(6)), version=0))


@given(st.data())
@settings(max_examples=300)
def test_a_damaged_block_is_read_or_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    block = bytearray(data.draw(st.sampled_from(VALID)).data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(block) - 1))
        match data.draw(st.sampled_from(["change", "cut", "repeat"])):
            case "change":
                block[at] = data.draw(st.integers(0, 255))
            case "cut":
                del block[at + 1 :]
            case "repeat":
                block[at:at] = block[: at + 1]
    read_or_refuse(bytes(block))
