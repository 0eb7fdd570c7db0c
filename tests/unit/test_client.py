"""The requester's side: which model a name means, asking and paying, options, and all of it without asyncio."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oracle.chain.account import Ask, Asked
from oracle.client import (
    DEFAULT_MAX_PRICE,
    CallTimedOut,
    Client,
    ListedModel,
    NotCancellable,
    NotYours,
    SyncClient,
    UnknownRequest,
    connect,
)
from oracle.client.sync import LoopThread
from oracle.domain import Cid, OnChainModel
from oracle.errors import SibylError
from tests.unit.client_doubles import ADDRESS, RAW, REQUEST, Content, answered, client_of, registry
from tests.unit.doubles import cid_of

pytestmark = pytest.mark.unit


async def test_given_a_model_named_like_a_number_when_that_number_is_asked_then_the_number_wins_and_alone_is_read() -> (
    None
):
    chain, content = registry("mnist-cnn", "1", "1")
    chosen = await client_of(chain, content).model("1")
    assert (chosen.on_chain.model_id, chosen.name) == (1, "mnist-cnn")
    assert len(content.asked) == 1
    assert chain.listed == 0


async def test_given_two_active_models_of_one_name_when_it_is_asked_then_all_are_named() -> None:
    chain, content = registry("mnist-cnn", "other", "mnist-cnn")
    with pytest.raises(SibylError) as caught:
        await client_of(chain, content).model("mnist-cnn")
    for piece in ("1 (0.0001 ETH", "3 (0.0003 ETH", ADDRESS):
        assert piece in str(caught.value)
    assert "number" in caught.value.remedy


async def test_given_a_double_of_the_deployments_own_model_when_its_name_is_asked_then_its_own_is_taken() -> None:
    chain, content = registry("mnist-cnn", "mnist-cnn")
    chosen = await client_of(chain, content, default_model=1).model("mnist-cnn")
    assert chosen.on_chain.model_id == 1
    assert len(content.asked) == 1


async def test_given_a_paused_double_and_an_unreadable_manifest_when_a_name_is_asked_then_they_do_not_count() -> None:
    chain, content = registry("mnist-cnn", "mnist-cnn", None, paused=frozenset({2}))
    chosen = await client_of(chain, content).model("mnist-cnn")
    assert chosen.on_chain.model_id == 1
    assert max(timeout for _, timeout in content.asked) <= 5


async def test_given_a_registry_flooded_with_dead_manifests_when_a_name_is_asked_then_it_ends_and_asks_for_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oracle.client.models.REGISTRY_SECONDS", -1.0)
    chain, content = registry("mnist-cnn", *[None] * 50)
    with pytest.raises(SibylError, match="slow") as caught:
        await client_of(chain, content).model("mnist-cnn")
    assert "number" in caught.value.remedy
    assert content.asked == []


@pytest.mark.parametrize("choice", ["9", "0", "9" * 300, "2", "nobody", "unseen"])
async def test_given_no_such_active_model_when_it_is_asked_then_the_error_has_a_remedy(choice: str) -> None:
    chain, content = registry("mnist-cnn", "paused", None, paused=frozenset({2}))
    with pytest.raises(SibylError) as caught:
        await client_of(chain, content).model(choice)
    assert caught.value.remedy


async def test_given_no_choice_when_a_model_is_asked_then_the_deployments_own_or_an_error_with_a_remedy() -> None:
    chain, content = registry("mnist-cnn", "other")
    assert (await client_of(chain, content, default_model=2).model()).name == "other"
    with pytest.raises(SibylError) as caught:
        await client_of(chain, content).model()
    assert "--model" in caught.value.remedy


# ---------------------------------------------------------------------------------------------------------------
# Asking and cancelling
# ---------------------------------------------------------------------------------------------------------------


async def test_given_a_deadline_within_the_cancel_window_when_asked_then_a_later_one_is_named_first() -> None:
    chain, content = registry("mnist-cnn")
    client = client_of(chain, content)
    (model,) = await chain.models()
    with pytest.raises(SibylError, match="60 s are over") as caught:
        await client.ask(model, [cid_of(b"picture")], deadline=80)
    assert "deadline=720 (command line: --deadline 720)" in caught.value.remedy


async def test_given_a_model_priced_in_a_token_when_asked_in_ether_then_the_balance_is_named() -> None:
    chain, content = registry("mnist-cnn")
    model = OnChainModel(1, cid_of(b"manifest"), 5, ADDRESS, True, "0x" + "70" * 20)
    with pytest.raises(SibylError, match="priced in the token") as caught:
        await client_of(chain, content).ask(model, [cid_of(b"picture")])
    assert "from_balance=True (command line: --from-balance)" in caught.value.remedy


async def test_given_a_request_that_cannot_be_taken_back_when_cancelled_then_the_error_says_why() -> None:
    chain, content = answered(RAW)
    client = client_of(chain, content, requester_key="0x" + "01" * 32)
    (whole,) = chain.logs
    with pytest.raises(NotCancellable, match="has ended: fulfilled"):
        await client.cancel(REQUEST)
    chain.logs = [whole[:1]]
    with pytest.raises(NotYours, match=ADDRESS):
        await client.cancel(REQUEST)
    chain.logs = [[]]
    with pytest.raises(UnknownRequest):
        await client.cancel(REQUEST)
    chain.window = 0
    with pytest.raises(NotCancellable, match="no cancel window"):
        await client.cancel(REQUEST)


# ---------------------------------------------------------------------------------------------------------------
# Asking by name, with pictures as they come
# ---------------------------------------------------------------------------------------------------------------


class Sender:
    """A double of the requester's account: what it was told to ask."""

    address = ADDRESS

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Cid, ...], int | None]] = []
        self.sent = [b"\x01" * 32]

    async def request_inference(self, coordinator: str, ask: Ask, *, max_price: int | None) -> Asked:
        self.asked.append(((ask.image_cid,), max_price))
        return Asked(REQUEST, b"\x09" * 32, 7, 10**14, ask.deadline, 60_000)

    async def request_many(
        self, coordinator: str, model: int, images: list[Cid], until: int, *, max_price: int | None, from_balance: bool
    ) -> list[Asked]:
        self.asked.append((tuple(images), max_price))
        return [Asked(bytes([n]) * 32, b"\x09" * 32, 7, 10**14, until, 60_000) for n in range(len(images))]


class Wishes:
    """A double of where wishes go."""

    def __init__(self, sender: Sender) -> None:
        self.sender = sender
        self.taken: list[tuple[str, Cid, str, bool]] = []

    async def wish(self, sender: Sender, image: Cid, provider: str) -> None:
        self.taken.append((sender.address, image, provider, bool(self.sender.asked)))


def asking(*names: str | None, **settings: Any) -> tuple[Client, Sender, Wishes, Content]:
    chain, content = registry(*names)
    sender = Sender()
    wishes = Wishes(sender)
    client = client_of(chain, content, **settings)
    client._senders["requester"], client._wishes = sender, wishes  # type: ignore[assignment]
    return client, sender, wishes, content


async def test_given_pictures_by_path_bytes_and_cid_when_asked_then_their_order_stays_and_only_new_ones_are_pinned(
    tmp_path: Path,
) -> None:
    client, sender, _, content = asking("mnist-cnn")
    (tmp_path / "a.png").write_bytes(b"from a file")
    images = [
        str(tmp_path / "a.png"),
        cid_of(b"pinned long ago"),
        b"bytes",
        tmp_path / "a.png",
        cid_of(b"as text").text,
    ]
    asked = await client.request("mnist-cnn", images)
    wanted = tuple(cid_of(data) for data in (b"from a file", b"pinned long ago", b"bytes", b"from a file", b"as text"))
    assert sender.asked == [(wanted, DEFAULT_MAX_PRICE)]
    assert len(asked) == 5
    assert content.added == [b"from a file", b"bytes", b"from a file"]
    (single,) = await client.request(1, b"bytes", max_price=7)
    assert sender.asked[-1] == ((cid_of(b"bytes"),), 7)
    assert single.request_id == REQUEST


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_given_a_pictures_bytes_of_any_kind_when_uploaded_alone_or_in_a_list_then_they_are_one_picture(
    kind: type[bytes],
) -> None:
    client, _, _, content = asking("mnist-cnn")
    assert await client.upload(kind(b"picture")) == await client.upload([kind(b"picture")]) == [cid_of(b"picture")]
    assert content.added == [b"picture", b"picture"]


async def test_given_no_limit_when_a_listed_model_is_asked_then_the_default_bounds_it_as_for_a_named_one() -> None:
    client, sender, _, _ = asking("mnist-cnn")
    (model,) = await client.reader.models()
    for images in ([cid_of(b"one")], [cid_of(b"one"), cid_of(b"two")]):
        await client.ask(model, images)
        assert sender.asked[-1] == (tuple(images), DEFAULT_MAX_PRICE)
    with pytest.raises(SibylError, match="priced in the token") as caught:
        await client.ask(replace(model, token=ADDRESS), [cid_of(b"one")], from_balance=True)
    assert "max_price" in caught.value.remedy


async def test_given_a_provider_when_asked_then_the_wish_is_left_before_anything_is_paid() -> None:
    client, _, wishes, _ = asking("mnist-cnn")
    await client.request("mnist-cnn", b"bytes", provider="curie")
    assert wishes.taken == [(ADDRESS, cid_of(b"bytes"), "curie", False)]


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ("no-such-file.png", "neither a file nor a CID"),
        ([], "no picture"),
        (Path("no-such-file.png"), "neither a file nor a CID"),
        ("no\0file.png", "neither a file nor a CID"),
        ("data:image/png;base64," + "A" * 9_000, "'data:image/png;base64,A{78}' cannot be read"),
        (b"x" * 101, "more than 100 bytes"),
        (bytearray(101), "more than 100 bytes"),
    ],
)
async def test_given_pictures_that_are_none_when_asked_then_nothing_is_pinned_or_paid(
    images: Any, problem: str
) -> None:
    client, sender, _, content = asking("mnist-cnn", image_max_bytes=100)
    with pytest.raises(SibylError, match=problem) as caught:
        await client.request("mnist-cnn", images)
    assert caught.value.remedy
    assert sender.asked == []
    assert content.added == []


async def test_given_a_token_when_asked_without_a_limit_then_one_is_wanted_first() -> None:
    client, sender, _, _ = asking("mnist-cnn")
    token = OnChainModel(1, cid_of(b"manifest"), 5, ADDRESS, True, "0x" + "70" * 20)
    with pytest.raises(SibylError, match="priced in the token") as caught:
        await client.request(ListedModel(token, None), b"bytes", from_balance=True)
    assert "max_price" in caught.value.remedy
    assert sender.asked == []


async def test_given_a_model_when_quoted_then_the_price_of_all_pictures_is_told() -> None:
    client, *_ = asking("mnist-cnn", default_model=1)
    price = await client.quote(pictures=3)
    assert (price.model, price.payment, price.total, price.token) == ("mnist-cnn", 10**14, 3 * 10**14, None)


# ---------------------------------------------------------------------------------------------------------------
# Options
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"api_url": "ftp://x"}, "API's address"),
        ({"api_url": "http://user:secret@host"}, "API's address"),
        ({"api_url": "http://["}, "API's address"),
        ({"coordinator": "0x" + "12" * 20, "chain_id": "seven"}, "chain_id"),
        ({"coordinator": "0x" + "12" * 20, "colour": "red"}, "no option colour"),
        ({"coordinator": "0x12"}, "not an address"),
        ({"coordinator": "0x" + "12" * 20, "rpc_url": "ws://x"}, "not an http"),
    ],
)
async def test_given_options_that_make_no_sense_when_connecting_then_each_is_named_and_no_value(
    options: Any, problem: str
) -> None:
    with pytest.raises(SibylError, match=problem) as caught:
        async with connect(**options):
            pass
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------
# Without asyncio
# ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()
    assert not any(one.name == "sibyl-client" for one in threading.enumerate())


def test_given_the_synchronous_client_when_called_then_it_returns_and_raises_what_the_other_does(
    loop: LoopThread,
) -> None:
    chain, content = answered(RAW)
    client = SyncClient(client_of(chain, content), loop, 5.0)
    assert client.wait("0x" + REQUEST.hex(), timeout=1).label == "7"
    with pytest.raises(SibylError, match="not a CID"):
        client.fetch("nonsense")
    with pytest.raises(TimeoutError, match="its own"):
        client.run(_raising(TimeoutError("its own")))


def test_given_a_call_that_never_ends_when_its_time_is_over_then_it_is_called_off(loop: LoopThread) -> None:
    ended = threading.Event()
    with pytest.raises(CallTimedOut, match=r"0\.05 s") as caught:
        loop.run(_forever(ended), 0.05)
    assert caught.value.remedy
    assert ended.wait(5)


def test_given_work_that_ends_within_its_time_when_run_then_no_rounding_ends_it_early(loop: LoopThread) -> None:
    assert loop.run(asyncio.sleep(0.6, "done"), 0.74) == "done"


def test_given_a_payment_on_its_way_when_a_calls_time_is_over_then_the_error_names_its_transaction_alone(
    loop: LoopThread,
) -> None:
    client, sender, *_ = asking("mnist-cnn")

    async def sent_and_never_mined(*_: object, **__: object) -> Asked:
        sender.sent.append(b"\x02" * 32)
        await asyncio.sleep(3600)
        raise AssertionError

    sender.request_inference = sent_and_never_mined  # type: ignore[method-assign]
    with pytest.raises(CallTimedOut, match="0x" + "02" * 32) as caught:
        SyncClient(client, loop, 0.3).request("mnist-cnn", b"picture")
    assert "01" * 32 not in str(caught.value)
    assert "before you ask again" in caught.value.remedy


@pytest.fixture
def ctrl_c_heard() -> Iterator[None]:
    """What a terminal's Python has; one that was started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_heard")
def test_given_a_long_call_when_ctrl_c_comes_then_it_ends_at_once_and_the_work_is_called_off(loop: LoopThread) -> None:
    ended = threading.Event()
    pressed = threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    pressed.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        loop.run(_forever(ended), 30)
    pressed.join()
    assert time.monotonic() - started < 5
    assert ended.wait(5)


def test_given_a_closed_client_when_called_then_the_error_says_so_and_nothing_is_left_behind() -> None:
    thread = LoopThread()
    thread.close()
    with pytest.raises(SibylError, match="closed") as caught:
        thread.run(_raising(ValueError()), 1)
    assert caught.value.remedy


async def _forever(ended: threading.Event) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        ended.set()


async def _raising(error: Exception) -> None:
    raise error
