"""Doubles of what a client reads: a coordinator that is scripted, content by CID, a registry, an answered request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from oracle.answers import AnswerEntry, ClassificationAnswer
from oracle.chain.coordinator import OnChainRequest
from oracle.client import Client
from oracle.client.wishes import NoWishes
from oracle.devnet.pictures import MANIFEST
from oracle.domain import (
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
from oracle.errors import ContentUnavailable
from oracle.settings import Settings
from tests.unit.doubles import cid_of

ADDRESS = "0x" + "12" * 20
REQUEST = b"\x07" * 32
BLOCK = BlockRef(5, b"\x05" * 32, 1_700_000_000)
SETTLED_AT = LogPosition(BLOCK, b"\x06" * 32, 1)


_SHIPPED = json.loads(MANIFEST.read_text())


def manifest(name: str, number: int) -> bytes:
    return json.dumps(_SHIPPED | {"name": name, "description": f"model {number}"}).encode()


def document(**changes: object) -> dict[str, Any]:
    return {
        "schema": "sibyl/result/1",
        "request": "0x" + REQUEST.hex(),
        "task": "classification",
        "model": {
            "name": "mnist-cnn",
            "manifest": cid_of(manifest("mnist-cnn", 1)).text,
            "weights_sha256": _SHIPPED["weights"]["sha256"],
        },
        "input": {"cid": cid_of(b"picture").text, "bytes": 7},
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
        self.hiccups = 0  # so many are not delivered first

    async def add(self, files: Sequence[bytes]) -> Sequence[Cid]:
        self.added += files
        return [cid_of(data) for data in files]

    async def fetch(self, cid: Cid, *, limit: int, timeout: float) -> bytes:
        self.asked.append((cid, timeout))
        self.hiccups -= 1
        if self.hiccups >= 0 or cid not in self.files:
            raise ContentUnavailable("nobody has it")
        return self.files[cid]


def client_of(chain: Chain, content: Content, **settings: Any) -> Client:
    return Client(
        Settings(poll_interval=0.01, **settings),
        *(None, chain, 1, content, NoWishes()),  # type: ignore[arg-type]
    )


def registry(*names: str | None, paused: frozenset[int] = frozenset()) -> tuple[Chain, Content]:
    """Models numbered from 1; None is one whose manifest nobody has."""
    files, models = {}, []
    for number, name in enumerate(names, 1):
        data = manifest(name or "unseen", number)
        if name is not None:
            files[cid_of(data)] = data
        models.append(OnChainModel(number, cid_of(data), 10**14 * number, ADDRESS, number not in paused))
    return Chain(models), Content(files)


def answered(raw: bytes, answer: bytes | None = None) -> tuple[Chain, Content]:
    word = ClassificationAnswer((AnswerEntry(7, 9900),)).encode() if answer is None else answer
    seen = RequestSeen(
        InferenceRequest(REQUEST, 1, ADDRESS, cid_of(b"picture"), 1, 0, 2_000_000_000, 0, BLOCK.timestamp),
        LogPosition(BLOCK, b"\x01" * 32, 0),
    )
    settled = RequestSettled(REQUEST, OnChainStatus.FULFILLED, SETTLED_AT, result_cid=cid_of(raw), answer=word)
    chain, content = registry("mnist-cnn")
    chain.logs = [[seen, settled]]
    content.files = {**content.files, cid_of(raw): raw}
    return chain, content


RAW = json.dumps(document()).encode()
