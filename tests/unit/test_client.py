"""The requester's side: which model a name means, a wait through bad moments, documents that lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from oracle.answers import AnswerEntry, ClassificationAnswer
from oracle.chain.coordinator import OnChainRequest
from oracle.client import Client, NotAnsweredYet, NotCancellable, NotYours, UnknownRequest
from oracle.content.cid import name_block
from oracle.devnet.pictures import MANIFEST
from oracle.documents import read_result
from oracle.domain import (
    CODEC_RAW,
    BlockRef,
    Cid,
    FailureReason,
    InferenceRequest,
    LogPosition,
    OnChainModel,
    OnChainStatus,
    RequestSeen,
    RequestSettled,
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


class Content:
    """Files by CID; a CID that is not there is unavailable. ``asked`` counts what was wanted."""

    def __init__(self, files: Mapping[Cid, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[Cid, float]] = []

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
