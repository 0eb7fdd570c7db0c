"""What the API keeps in memory of contents."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from oracle.api import desk
from oracle.api.desk import Lately, Results, Shelf
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


async def test_given_a_document_when_many_look_into_it_then_its_masks_are_checked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked = 0

    def read(data: bytes) -> Mapping[str, Any]:
        nonlocal checked
        checked += 1
        found: Mapping[str, Any] = json.loads(data)
        return found

    class Documents(Store):
        async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
            return b'{"labels": [{"label": "7", "probability": 0.5, "index": 7}]}'

    monkeypatch.setattr(desk, "read_result", read)
    results = Results(Documents(), timeout=1)
    for _ in range(3):
        found = await results.findings(cid_of(b"a"))
        assert (found.predictions, found.files) == ([{"label": "7", "probability": 0.5}], {})
    assert checked == 1


async def test_given_what_was_said_lately_when_its_time_is_over_then_it_is_kept_no_longer() -> None:
    made = 0

    async def find() -> int:
        nonlocal made
        made += 1
        return made

    lately: Lately[int] = Lately(0.05)
    for key in ("a", "b", "a"):
        await lately.get(key, find)
    assert made == 2
    await asyncio.sleep(0.1)
    assert await lately.get("c", find) == 3
    assert list(lately._known) == ["c"]
