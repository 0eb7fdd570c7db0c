"""The table of legal moves, and CIDs as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracle.domain import TERMINAL, TRANSITIONS, Cid, FailureReason, RequestStatus

pytestmark = pytest.mark.unit


def test_every_status_has_a_row_and_every_failure_reason_a_sentence() -> None:
    assert set(TRANSITIONS) == set(RequestStatus)
    assert all(reason.text for reason in FailureReason)


def test_from_every_status_an_end_can_be_reached() -> None:
    for start in RequestStatus:
        reached, frontier = {start}, [start]
        while frontier:
            new = [status for status in TRANSITIONS[frontier.pop()] if status not in reached]
            reached |= set(new)
            frontier += new
        assert reached & TERMINAL, start


@given(st.binary(min_size=32, max_size=32), st.sampled_from([b"\x12\x20", b"\x01\x55\x12\x20", b"\x01\x70\x12\x20"]))
def test_a_cid_reads_back_from_its_text_in_every_dress(digest: bytes, prefix: bytes) -> None:
    cid = Cid(prefix + digest)
    for text in (cid.text, f"/ipfs/{cid.text}", f"ipfs://{cid.text}/", f"  {cid.text}\n"):
        assert Cid.parse(text) == cid


@given(st.text(max_size=80))
def test_any_text_is_a_cid_or_a_value_error(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except ValueError:
        return
    assert Cid.parse(cid.text) == cid


@pytest.mark.parametrize(
    "value", [b"", b"\x12\x20" + bytes(31), b"\x01\x71\x12\x20" + bytes(32), b"\x01\x55\x1b\x20" + bytes(32)]
)
def test_bytes_of_another_form_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="not a CID"):
        Cid(value)
