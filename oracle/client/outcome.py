"""What a requester gets to see: how a request ended, and what the model says of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from oracle.answers import Answer, ClassificationAnswer, tally
from oracle.chain.account import Asked
from oracle.domain import Cid, LabelScore, OnChainStatus, RequestSeen, RequestSettled, SegmentScore
from oracle.errors import SibylError


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: the settlement on-chain and, when it was answered, the verified result document."""

    asked: RequestSeen
    settled: RequestSettled
    answer: Answer | None
    document: Mapping[str, Any] | None
    raw: bytes = field(default=b"", repr=False)

    @property
    def request_id(self) -> bytes:
        """The request's id, 32 bytes."""
        return self.settled.request_id

    @property
    def status(self) -> str:
        """``fulfilled``, ``failed``, ``refunded`` or ``cancelled``; after the last three the money went back."""
        return self.settled.status.name.lower()

    @property
    def reason(self) -> str:
        """Why there is no answer, for people; empty where there is one."""
        ended = {
            OnChainStatus.REFUNDED: "the deadline passed unanswered",
            OnChainStatus.CANCELLED: "its requester took it back",
            OnChainStatus.FAILED: self.settled.reason.text,
        }
        return ended.get(self.settled.status, "")

    @property
    def result_cid(self) -> Cid | None:
        """Where the result document lies; None where there is none."""
        return self.settled.result_cid

    @property
    def label(self) -> str:
        """The best label, or how many segments there are of each; an empty text where there is no answer."""
        if self.document is None:
            return ""
        if "labels" in self.document:
            return str(self.document["labels"][0]["label"])
        return tally(str(segment["label"]) for segment in self.document["segments"])

    @property
    def confidence(self) -> float | None:
        """The best label's, or the best segment's; None where there is neither."""
        if isinstance(self.answer, ClassificationAnswer):
            return self.answer.entries[0].confidence_bps / 10_000
        return self.answer.instances[0].score_bps / 10_000 if self.answer and self.answer.instances else None

    @property
    def labels(self) -> tuple[LabelScore, ...]:
        """The labels of a classification, the most probable first; none of a segmentation."""
        found = self.document.get("labels", ()) if self.document else ()
        return tuple(LabelScore(one["index"], one["label"], one["probability"]) for one in found)

    @property
    def segments(self) -> tuple[SegmentScore, ...]:
        """What a segmentation found, the surest first; none of a classification."""
        return tuple(_segment(one) for one in (self.document.get("segments", ()) if self.document else ()))

    @property
    def familiarity(self) -> float | None:
        """From 0 to 1, how typical the picture is of what the model was trained on; None where it was not measured."""
        return self.document.get("familiarity") if self.document else None

    @property
    def drawings(self) -> Mapping[str, Cid]:
        """The CIDs of the drawings that belong to the result, PNG, by name; ``Client.files`` reads them."""
        named = self.document.get("files", {}) if self.document else {}
        return {name: Cid.parse(file["cid"]) for name, file in named.items()}


@dataclass(frozen=True, slots=True)
class Price:
    """What asking a model costs now, in wei, or in smallest parts of the ``token`` that it is priced in.

    ``payment`` is for one picture, ``total`` for all.
    """

    model_id: int
    model: str
    payment: int
    pictures: int
    token: str | None = None

    @property
    def total(self) -> int:
        """For all pictures."""
        return self.payment * self.pictures


RequestLike = bytes | str | Asked | Outcome
"""A request: its id in 32 bytes or as 0x and 64 hex digits, or what asking or waiting returned."""


def id_of(request: RequestLike) -> bytes:
    """A request's id. Raises SibylError for what is none."""
    if isinstance(request, Asked | Outcome):
        return request.request_id
    try:
        found = bytes.fromhex(request.removeprefix("0x")) if isinstance(request, str) else request
    except ValueError:
        found = b""
    if len(found) != 32:
        raise SibylError("this is not a request's id", remedy="Give 0x and 64 hex digits, or what was returned.")
    return found


def cid_from(cid: Cid | str) -> Cid:
    """A CID, or one written as text. Raises SibylError for what is none."""
    try:
        return cid if isinstance(cid, Cid) else Cid.parse(cid)
    except ValueError as error:
        raise SibylError(str(error), remedy="Give a CID of IPFS, such as bafkrei...") from None


def _segment(one: Mapping[str, Any]) -> SegmentScore:
    x, y, width, height = one["bbox"]
    box = (y, x, y + height, x + width)
    return SegmentScore(one["index"], one["label"], one["score"], box, one["area"], one["segmentation"]["counts"])
