from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.content.cid import decode_varint, encode_varint, is_named, name_block
from oracle.domain import CODEC_DAG_PB, CODEC_RAW

pytestmark = pytest.mark.unit


@given(st.integers(0, 2**63 - 1))
def test_a_varint_reads_back_as_it_was_written(value: int) -> None:
    data = encode_varint(value)
    assert decode_varint(b"\xff" + data + b"\xff", 1) == (value, 1 + len(data))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "cut off"),
        (b"\x80", "cut off"),
        (b"\x80" * 9 + b"\x01", "longer than nine"),
        (b"\x81\x00", "shortest"),
        (b"\x80\x00", "shortest"),
    ],
)
def test_a_varint_in_any_other_spelling_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_varint(data, 0)


def test_a_block_is_named_by_its_sha256_and_no_other_bytes_pass_for_it() -> None:
    cid = name_block(b"abc", version=1, codec=CODEC_RAW)
    assert cid.digest == hashlib.sha256(b"abc").digest()
    assert is_named(cid, b"abc")
    assert not is_named(cid, b"abd")


@pytest.mark.parametrize(("version", "codec"), [(0, CODEC_RAW), (1, 0x71), (2, CODEC_DAG_PB)])
def test_a_version_or_codec_that_we_do_not_speak_has_no_name(version: int, codec: int) -> None:
    with pytest.raises(ValueError, match="no CID"):
        name_block(b"", version=version, codec=codec)
