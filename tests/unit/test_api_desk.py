"""What the API keeps in memory of contents."""

from __future__ import annotations

import pytest

from oracle.api.desk import Shelf
from oracle.domain import Cid
from tests.unit.doubles import cid_of

pytestmark = pytest.mark.unit


class Store:
    """``Content`` that has every CID, as one byte, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        self.asked += 1
        return b"x"

    async def fetch_block(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        return await self.fetch(cid, limit=limit, timeout=timeout)


async def test_given_many_tiny_contents_when_fetched_then_those_kept_are_bounded_in_number_too() -> None:
    store = Store()
    shelf = Shelf(store, held=8 * 1024, at_once=1)
    for number in range(20):
        await shelf.file(cid_of(str(number).encode()), limit=1, timeout=1)
    await shelf.file(cid_of(b"19"), limit=1, timeout=1)
    assert store.asked == 20
    await shelf.file(cid_of(b"0"), limit=1, timeout=1)
    assert store.asked == 21
