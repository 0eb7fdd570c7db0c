"""Which provider a requester wants: who may say so, for how long, and how many may."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from oracle import web
from oracle.api.ports import SignedWish
from oracle.errors import Retryable, WishNotSigned, WishTaken
from oracle.store import DirectoryWishes, wishes
from tests.unit.doubles import REQUESTER, a_request, cid_of

pytestmark = pytest.mark.unit

PICTURE = cid_of(b"a picture")


async def test_given_a_wish_when_a_stranger_leaves_another_then_the_first_stands_for_its_hour(tmp_path: Path) -> None:
    box = DirectoryWishes(tmp_path / "wishes")
    await box.leave(REQUESTER, PICTURE, "oak")
    await box.leave(REQUESTER, PICTURE, "oak")
    with pytest.raises(WishTaken):
        await box.leave(REQUESTER, PICTURE, "elm")
    await box.leave(REQUESTER, cid_of(b"another"), "elm")
    for file in (tmp_path / "wishes").iterdir():
        os.utime(file, (0, 0))
    await box.leave(REQUESTER, PICTURE, "elm")


async def test_given_signed_wishes_when_they_differ_then_the_newest_counts_and_an_older_one_never_again(
    tmp_path: Path,
) -> None:
    box = DirectoryWishes(tmp_path / "wishes")
    asked = a_request(1, image=PICTURE, deadline=10)
    now = time.time()
    await box.sign(REQUESTER, PICTURE, "oak", now - 20)
    assert await box.of([asked]) == {asked.request_id: "oak"}
    await box.sign(REQUESTER, PICTURE, "elm", now - 10)
    with pytest.raises(WishTaken):
        await box.sign(REQUESTER, PICTURE, "oak", now - 20)
    assert await box.of([asked]) == {asked.request_id: "elm"}
    await box.sign(REQUESTER, PICTURE, "", now)
    with pytest.raises(WishTaken):
        await box.sign(REQUESTER, PICTURE, "elm", now - 10)
    assert await box.of([asked]) == {}
    late = a_request(2, image=cid_of(b"another"), deadline=10)
    await box.sign(REQUESTER, late.image_cid, "oak", now - wishes.LIFE - 1)  # over before it came
    assert await box.of([late]) == {}


async def test_given_more_wishes_than_fit_when_one_more_is_left_then_it_is_refused_and_none_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wishes, "MOST", 3)
    box = DirectoryWishes(tmp_path / "wishes")
    for i in range(3):
        await box.leave(REQUESTER, cid_of(bytes([i])), "oak")
    for i in range(3, 6):
        with pytest.raises(Retryable):
            await box.leave(REQUESTER, cid_of(bytes([i])), "oak")
    assert len(list((tmp_path / "wishes").iterdir())) == 3


async def test_given_a_provider_that_is_no_name_when_wished_for_then_it_is_refused(tmp_path: Path) -> None:
    box = DirectoryWishes(tmp_path / "wishes")
    for name in ("", "x" * 101, "a\nb", "\x1b[2J"):
        with pytest.raises(ValueError, match="provider"):
            await box.leave(REQUESTER, PICTURE, name)


@pytest.mark.parametrize(
    ("age", "genuine", "words"),
    [
        (0, True, None),
        (web.WISH_AGE - 5, True, None),
        (5 - web.WISH_AHEAD, True, None),
        (web.WISH_AGE + 5, True, "minutes"),
        (-web.WISH_AHEAD - 5, True, "minutes"),
        (0, False, "not this account's"),
    ],
)
async def test_given_a_wish_when_it_is_old_of_the_future_or_another_accounts_then_it_is_not_taken(
    age: int, genuine: bool, words: str | None, tmp_path: Path
) -> None:
    class Chain:
        async def signed(self, wish: SignedWish) -> bool:
            return genuine

    folder = DirectoryWishes(tmp_path)
    wish = SignedWish(REQUESTER, cid_of(b"a"), "oak", int(time.time()) - age, b"")
    asked = a_request(1, image=wish.image_cid, deadline=10)
    box = web._Wishes(Chain(), folder)  # type: ignore[arg-type]
    if words is None:
        await box.take(wish)
        assert await folder.of([asked]) == {asked.request_id: "oak"}
    else:
        with pytest.raises(WishNotSigned, match=words):
            await box.take(wish)
        assert await folder.of([asked]) == {}
