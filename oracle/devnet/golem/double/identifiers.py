"""Identifiers and times in the forms that yagna gives them. The same seed gives the same identifiers."""

from __future__ import annotations

import hashlib
import random
import uuid
from datetime import UTC, datetime, timedelta


def node_id(name: str) -> str:
    """The node id of the double's participant of this name; the same in every run."""
    return "0x" + hashlib.sha256(name.encode()).hexdigest()[:40]


class Identifiers:
    """New names for everything that yagna names."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable names are what is wanted here

    def subscription(self) -> str:
        """Of a demand or an offer."""
        return f"{self._hex(32)}-{self._hex(64)}"

    def proposal(self) -> str:
        """As the requestor sees it."""
        return f"R-{self._hex(64)}"

    def agreement(self) -> str:
        """Of an agreement."""
        return self._hex(64)

    def activity(self) -> str:
        """Of an activity or a batch."""
        return self._hex(32)

    def document(self) -> str:
        """Of an allocation, an invoice or a debit note."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def _hex(self, digits: int) -> str:
        return f"{self._random.getrandbits(4 * digits):0{digits}x}"


class Clock:
    """The time of day, never the same twice: events are told apart by it."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        """UTC, to the microsecond, later than ever before."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return self._last


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, with microseconds and a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """RFC 3339 with an offset or a Z, of any precision. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text}: no offset from UTC")
    return moment.astimezone(UTC)
