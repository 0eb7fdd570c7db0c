"""The requester's side: which model a name means, a wait through bad moments, documents that lie."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oracle.answers import AnswerEntry, ClassificationAnswer
from oracle.chain.account import Ask, Asked
from oracle.chain.coordinator import OnChainRequest
from oracle.client import (
    DEFAULT_MAX_PRICE,
    CallTimedOut,
    Client,
    ListedModel,
    NotAnsweredYet,
    NotCancellable,
    NotYours,
    Outcome,
    SyncClient,
    UnknownRequest,
    connect,
)
from oracle.client.sync import LoopThread
from oracle.content.cid import name_block
from oracle.devnet.pictures import MANIFEST
from oracle.documents import read_result
from oracle.domain import (
    CODEC_RAW,
    BlockRef,
    Cid,
    FailureReason,
    InferenceRequest,
    LabelScore,
    LogPosition,
    OnChainModel,
    OnChainStatus,
    RequestSeen,
    RequestSettled,
    SegmentScore,
)
from oracle.errors import ContentCorrupt, ContentUnavailable, RpcUnavailable, SibylError
from oracle.settings import Settings

pytestmark = pytest.mark.unit

ADDRESS = "0x" + "12" * 20
REQUEST = b"\x07" * 32
BLOCK = BlockRef(5, b"\x05" * 32, 1_700_000_000)
SETTLED_AT = LogPosition(BLOCK, b"\x06" * 32, 1)


def cid(data: bytes) -> Cid:
    return name_block(data, codec=CODEC_RAW, version=1)


def document(**changes: object) -> dict[str, Any]:
    return {
        "schema": "sibyl/result/1",
        "request": "0x" + REQUEST.hex(),
        "input": {"cid": cid(b"picture").text, "bytes": 7},
        "labels": [{"index": 7, "label": "7", "probability": 0.99}],
        **changes,
    }


class Chain:
    """Answers of a coordinator, scripted; the last one stays."""

    def __init__(self, models: Sequence[OnChainModel] = ()) -> None:
        self.address = ADDRESS
        self._models = models
        self.statuses: list[OnChainStatus | Exception] = [OnChainStatus.FULFILLED]
        self.logs: list[list[RequestSeen | RequestSettled]] = []
        self.vouches = True
        self.window = 60
        self.listed = 0

    async def models(self) -> Sequence[OnChainModel]:
        self.listed += 1
        return self._models

    async def model(self, number: int) -> OnChainModel | None:
        return next((model for model in self._models if model.model_id == number), None)

    async def head(self) -> BlockRef:
        return BLOCK

    async def request_of(self, request_id: bytes) -> OnChainRequest:
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, Exception):
            raise answer
        return OnChainRequest(ADDRESS, 1, 0, 0, 0, answer, FailureReason.NONE)

    async def events(
        self, first: int, last: int, *, request_id: bytes | None = None
    ) -> Sequence[RequestSeen | RequestSettled]:
        return self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]

    async def verify_result(self, *_: object) -> bool:
        return self.vouches

    async def cancel_window(self) -> int:
        return self.window

    async def quote(self, number: int) -> int:
        return self._models[number - 1].price


class Content:
    """Files by CID; a CID that is not there is unavailable. ``asked`` counts what was wanted."""

    def __init__(self, files: Mapping[Cid, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[Cid, float]] = []
        self.added: list[bytes] = []

    async def add(self, files: Sequence[bytes]) -> Sequence[Cid]:
        self.added += files
        return [cid(data) for data in files]

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        self.asked.append((cid, timeout))
        if cid not in self.files:
            raise ContentUnavailable("nobody has it")
        return self.files[cid]


def client_of(chain: Chain, content: Content, **settings: Any) -> Client:
    made = Client(Settings(poll_interval=0.01, **settings), None, chain, 1)  # type: ignore[arg-type]
    made.content = content  # type: ignore[assignment]
    return made


def registry(*names: str | None, paused: frozenset[int] = frozenset()) -> tuple[Chain, Content]:
    """Models numbered from 1; None is one whose manifest nobody has."""
    shipped = json.loads(MANIFEST.read_text())
    files, models = {}, []
    for number, name in enumerate(names, 1):
        data = json.dumps(shipped | {"name": name or "unseen", "description": f"model {number}"}).encode()
        if name is not None:
            files[cid(data)] = data
        models.append(OnChainModel(number, cid(data), 10**14 * number, ADDRESS, number not in paused))
    return Chain(models), Content(files)


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
# Waiting
# ---------------------------------------------------------------------------------------------------------------


def answered(raw: bytes, answer: bytes | None = None) -> tuple[Chain, Content]:
    word = ClassificationAnswer((AnswerEntry(7, 9900),)).encode() if answer is None else answer
    seen = RequestSeen(
        InferenceRequest(REQUEST, 1, ADDRESS, cid(b"picture"), 1, 0, 2_000_000_000, 0, BLOCK.timestamp),
        LogPosition(BLOCK, b"\x01" * 32, 0),
    )
    settled = RequestSettled(REQUEST, OnChainStatus.FULFILLED, SETTLED_AT, result_cid=cid(raw), answer=word)
    chain = Chain()
    chain.logs = [[seen, settled]]
    return chain, Content({cid(raw): raw})


RAW = json.dumps(document()).encode()


async def test_given_an_endpoint_that_fails_for_a_moment_when_waiting_then_the_answer_comes_all_the_same() -> None:
    chain, content = answered(RAW)
    chain.statuses = [
        OnChainStatus.PENDING,
        RpcUnavailable("a bad moment"),
        RpcUnavailable("another"),
        OnChainStatus.FULFILLED,
    ]
    outcome = await client_of(chain, content).wait(REQUEST, timeout=5)
    assert outcome.label == "7"


async def test_given_nodes_that_lag_when_waiting_then_neither_a_missing_log_nor_an_unknown_id_ends_it() -> None:
    chain, content = answered(RAW)
    (whole,) = chain.logs
    chain.statuses = [OnChainStatus.UNKNOWN, OnChainStatus.PENDING, OnChainStatus.FULFILLED]
    chain.logs = [[], whole[:1], whole[:1], whole]
    outcome = await client_of(chain, content).wait(REQUEST, timeout=5)
    assert outcome.settled.status is OnChainStatus.FULFILLED


async def test_given_no_answer_when_the_time_is_over_then_the_error_says_what_the_endpoint_said_last() -> None:
    chain, content = answered(RAW)
    chain.statuses = [RpcUnavailable("the line is dead")]
    with pytest.raises(NotAnsweredYet, match="the line is dead"):
        await client_of(chain, content).wait(REQUEST, timeout=0.05)


async def test_given_an_id_nobody_knows_when_waiting_then_it_is_unknown_after_the_nodes_had_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("oracle.client.reading.LAG", 0.05)
    chain, content = answered(RAW)
    chain.statuses, chain.logs = [OnChainStatus.UNKNOWN], [[]]
    with pytest.raises(UnknownRequest):
        await client_of(chain, content).wait(REQUEST, timeout=60)


# ---------------------------------------------------------------------------------------------------------------
# Documents and answers that lie
# ---------------------------------------------------------------------------------------------------------------


def label(**changes: object) -> list[dict[str, object]]:
    return [{"index": 7, "label": "7", "probability": 0.99} | changes]


BAD = {
    "no JSON": b"<html>",
    "not text": b"\xff\xfe",
    "a number": b"7",
    "nested too deep": b"[" * 100_000,
    "another schema": json.dumps(document(schema="sibyl/result/2")).encode(),
    "no labels": json.dumps(document(labels=[])).encode(),
    "labels of another kind": json.dumps(document(labels=["7"])).encode(),
    "no input": json.dumps(document(input=None)).encode(),
    "no request": json.dumps(document(request=7)).encode(),
    "an infinite probability": json.dumps(document(labels=label(probability=float("inf")))).encode(),
    "no number": json.dumps(document(labels=label(probability=float("nan")))).encode(),
    "a huge probability": json.dumps(document(labels=label(probability=10**400))).encode(),
    "a long exponent": json.dumps(document()).replace("0.99", "1e999").encode(),
    "a negative probability": json.dumps(document(labels=label(probability=-0.1))).encode(),
    "a text for a probability": json.dumps(document(labels=label(probability="0.99"))).encode(),
    "yes for a class": json.dumps(document(labels=label(index=True))).encode(),
    "a terminal's escape": json.dumps(document(labels=label(label="\x1b]0;owned\x07"))).encode(),
    "half a surrogate": json.dumps(document(labels=label(label="\ud800"))).encode(),
    "no label": json.dumps(document(labels=label(label=""))).encode(),
}


@pytest.mark.parametrize("name", BAD)
async def test_given_a_result_document_that_is_none_when_read_then_it_is_corrupt_and_nothing_breaks(name: str) -> None:
    with pytest.raises(ContentCorrupt):
        read_result(BAD[name])
    chain, content = answered(BAD[name])
    with pytest.raises(ContentCorrupt):
        await client_of(chain, content).outcome(REQUEST)


async def test_given_an_answer_that_does_not_decode_when_read_then_it_is_corrupt() -> None:
    chain, content = answered(RAW, answer=b"\xff" * 32)
    with pytest.raises(ContentCorrupt, match="answer on-chain"):
        await client_of(chain, content).outcome(REQUEST)


async def test_given_a_document_of_another_request_when_read_then_it_is_corrupt() -> None:
    chain, content = answered(json.dumps(document(request="0x" + "08" * 32)).encode())
    with pytest.raises(ContentCorrupt, match="disagree"):
        await client_of(chain, content).outcome(REQUEST)


# ---------------------------------------------------------------------------------------------------------------
# Asking and cancelling
# ---------------------------------------------------------------------------------------------------------------


async def test_given_a_deadline_within_the_cancel_window_when_asked_then_a_later_one_is_named_first() -> None:
    chain, content = registry("mnist-cnn")
    client = client_of(chain, content)
    (model,) = await chain.models()
    with pytest.raises(SibylError, match="60 s are over") as caught:
        await client.ask(model, [cid(b"picture")], deadline=80)
    assert "--deadline" in caught.value.remedy


async def test_given_a_model_priced_in_a_token_when_asked_in_ether_then_the_balance_is_named() -> None:
    chain, content = registry("mnist-cnn")
    model = OnChainModel(1, cid(b"manifest"), 5, ADDRESS, True, "0x" + "70" * 20)
    with pytest.raises(SibylError, match="priced in the token") as caught:
        await client_of(chain, content).ask(model, [cid(b"picture")])
    assert "--from-balance" in caught.value.remedy


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

    async def wish(self, requester: str, image: Cid, provider: str) -> None:
        self.taken.append((requester, image, provider, bool(self.sender.asked)))


def asking(*names: str | None, **settings: Any) -> tuple[Client, Sender, Wishes, Content]:
    chain, content = registry(*names)
    sender = Sender()
    wishes = Wishes(sender)
    client = client_of(chain, content, **settings)
    client._sender, client._wishes = sender, wishes  # type: ignore[assignment]
    return client, sender, wishes, content


async def test_given_pictures_by_path_bytes_and_cid_when_asked_then_their_order_stays_and_only_new_ones_are_pinned(
    tmp_path: Path,
) -> None:
    client, sender, _, content = asking("mnist-cnn")
    (tmp_path / "a.png").write_bytes(b"from a file")
    images = [str(tmp_path / "a.png"), cid(b"pinned long ago"), b"bytes", tmp_path / "a.png", cid(b"as text").text]
    asked = await client.request("mnist-cnn", images)
    wanted = tuple(cid(data) for data in (b"from a file", b"pinned long ago", b"bytes", b"from a file", b"as text"))
    assert sender.asked == [(wanted, DEFAULT_MAX_PRICE)]
    assert len(asked) == 5
    assert content.added == [b"from a file", b"bytes", b"from a file"]
    (single,) = await client.request(1, b"bytes", max_price=7)
    assert sender.asked[-1] == ((cid(b"bytes"),), 7)
    assert single.request_id == REQUEST


async def test_given_a_provider_when_asked_then_the_wish_is_left_before_anything_is_paid() -> None:
    client, _, wishes, _ = asking("mnist-cnn")
    await client.request("mnist-cnn", b"bytes", provider="curie")
    assert wishes.taken == [(ADDRESS, cid(b"bytes"), "curie", False)]


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ("no-such-file.png", "neither a file nor a CID"),
        ([], "no picture"),
        (Path("no-such-file.png"), "cannot be read"),
        (b"x" * 101, "more than 100 bytes"),
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
    token = OnChainModel(1, cid(b"manifest"), 5, ADDRESS, True, "0x" + "70" * 20)
    with pytest.raises(SibylError, match="priced in the token") as caught:
        await client.request(ListedModel(token, None), b"bytes", from_balance=True)
    assert "max_price" in caught.value.remedy
    assert sender.asked == []


async def test_given_a_model_when_quoted_then_the_price_of_all_pictures_is_told() -> None:
    client, *_ = asking("mnist-cnn", default_model=1)
    price = await client.quote(pictures=3)
    assert (price.model, price.payment, price.total, price.token) == ("mnist-cnn", 10**14, 3 * 10**14, None)


# ---------------------------------------------------------------------------------------------------------------
# Verifying what somebody holds
# ---------------------------------------------------------------------------------------------------------------

DRAWING = b"\x89PNG\r\n\x1a\n the rest"


def with_drawing() -> bytes:
    files = {"bars": {"cid": cid(DRAWING).text, "bytes": len(DRAWING), "type": "image/png"}}
    return json.dumps(document(files=files)).encode()


@pytest.mark.parametrize("form", [REQUEST, "0x" + REQUEST.hex(), REQUEST.hex()])
async def test_given_an_answer_when_verified_by_its_id_then_all_of_it_was_read_anew(form: bytes | str) -> None:
    chain, content = answered(with_drawing())
    content.files = {**content.files, cid(DRAWING): DRAWING}
    outcome = await client_of(chain, content).verify(form)
    assert [one for one, _ in content.asked] == [cid(with_drawing()), cid(DRAWING)]
    assert (outcome.status, outcome.label, outcome.confidence, outcome.reason) == ("fulfilled", "7", 0.99, "")
    assert outcome.labels == (LabelScore(7, "7", 0.99),)
    assert outcome.segments == ()
    assert outcome.drawings == {"bars": cid(DRAWING)}
    assert await client_of(chain, content).verify(outcome) == outcome


@pytest.mark.parametrize(
    "lie",
    [
        {"raw": RAW + b" "},
        {"document": {**document(), "labels": label(label="8")}},
        {"answer": ClassificationAnswer((AnswerEntry(8, 9900),))},
    ],
)
async def test_given_an_outcome_that_was_changed_when_verified_then_it_is_corrupt(lie: dict[str, Any]) -> None:
    chain, content = answered(RAW)
    client = client_of(chain, content)
    outcome = await client.outcome(REQUEST)
    assert await client.verify(outcome) == outcome
    with pytest.raises(ContentCorrupt, match="not the one on-chain"):
        await client.verify(replace(outcome, **lie))


async def test_given_a_coordinator_that_does_not_vouch_or_a_false_drawing_when_verified_then_it_is_corrupt() -> None:
    chain, content = answered(with_drawing())
    content.files = {**content.files, cid(DRAWING): b"not a PNG at all...."[: len(DRAWING)]}
    with pytest.raises(ContentCorrupt, match="drawing bars"):
        await client_of(chain, content).verify(REQUEST)
    chain.vouches = False
    with pytest.raises(ContentCorrupt, match="vouch"):
        await client_of(chain, content).verify(REQUEST)


@pytest.mark.parametrize("text", ["", "0x", "0x12", "zz" * 32, "0x" + "ab" * 33])
async def test_given_a_text_that_is_no_id_when_waited_for_then_it_is_said_at_once(text: str) -> None:
    chain, content = answered(RAW)
    with pytest.raises(SibylError, match="not a request's id"):
        await client_of(chain, content).wait(text)
    with pytest.raises(SibylError, match="not a CID"):
        await client_of(chain, content).fetch(text)


async def test_given_a_segmentation_when_read_then_its_segments_are_objects_with_boxes_in_pixels() -> None:
    segment = {"index": 2, "label": "star", "score": 0.9, "bbox": [1, 2, 3, 4], "area": 5}
    outcome = Outcome(
        None,
        None,
        None,
        {"segments": [{**segment, "segmentation": {"size": [9, 9], "counts": "abc"}}]},  # type: ignore[arg-type]
    )
    assert outcome.segments == (SegmentScore(2, "star", 0.9, (2, 1, 6, 4), 5, "abc"),)
    assert outcome.label == "star"
    assert outcome.labels == ()


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
