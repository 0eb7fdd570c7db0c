"""The compute market as the oracle sees it: providers, their prices and standing, agreements, documents and work.

Amounts are ``int`` of the payment token's smallest part (10^-18 GLM), times ``float`` of Unix seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

from oracle.domain import ItemResult

GLM = 10**18
"""Smallest parts in one GLM."""

HALF_LIFE = 7 * 86_400.0  # seconds in which what a provider did counts for half
_WEIGHT_OF_A_LIE = 10.0
_FIRST_BLOCK = 60.0  # seconds without work after the first failure; each further one doubles them
_LONGEST_BLOCK = 3_600.0
_BLOCK_FOR_A_LIE = 86_400.0
_LONGEST_BLOCK_FOR_A_LIE = 30 * 86_400.0


def to_amount(glm: Decimal | str) -> int:
    """Smallest parts in so many GLM, rounded up. Raises ValueError, decimal.InvalidOperation."""
    return int((Decimal(glm) * GLM).to_integral_value(ROUND_CEILING))


def to_glm(amount: int) -> str:
    """An amount in GLM as plain decimal text, without trailing zeros."""
    text = f"{Decimal(amount) / GLM:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True)
class Price:
    """A linear price in GLM: for a start, for a second, for a second of one processor."""

    start: Decimal
    second: Decimal
    cpu_second: Decimal

    def cost(self, seconds: float, cpu_seconds: float) -> int:
        """What so much usage costs, rounded up."""
        return to_amount(self.start + self.second * Decimal(seconds) + self.cpu_second * Decimal(cpu_seconds))

    def rate(self, threads: int) -> int:
        """The most that a second can cost on so many threads."""
        return to_amount(self.second + self.cpu_second * threads)


class Verdict(StrEnum):
    """What a task says about the provider that had it."""

    GOOD = "good"
    FAILED = "failed"  # lost, too slow, malformed: trouble, not a lie
    LIED = "lied"  # a result that others, or a known answer, contradict


class Standing(StrEnum):
    """What the operator says about a provider, whatever it did."""

    NONE = ""
    TRUSTED = "trusted"
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider as the oracle remembers it. ``good``, ``failed`` and ``lied`` count tasks; ``HALF_LIFE`` decays them.

    ``images_per_second`` and ``load_seconds`` come from its own warm-up, then from the tasks it did; zero: not known.
    """

    node_id: str
    name: str
    price: Price
    threads: int
    first_seen: float
    last_seen: float
    images_per_second: float = 0.0
    load_seconds: float = 0.0
    avx: bool | None = None
    good: float = 0.0
    failed: float = 0.0
    lied: float = 0.0
    judged_at: float = 0.0
    blocked_until: float = 0.0
    standing: Standing = Standing.NONE
    detail: str = ""

    def decayed(self, now: float) -> Provider:
        """The same provider with its counts as of ``now``."""
        kept = 0.5 ** (max(0.0, now - self.judged_at) / HALF_LIFE)
        return replace(
            self, good=self.good * kept, failed=self.failed * kept, lied=self.lied * kept, judged_at=max(now, 0.0)
        )

    def judged(self, verdict: Verdict, now: float, detail: str = "") -> Provider:
        """The provider after a task; a failure or a lie blocks it for a time that doubles with each one remembered."""
        known = self.decayed(now)
        if verdict is Verdict.GOOD:
            return replace(known, good=known.good + 1)
        if verdict is Verdict.FAILED:
            block = min(_LONGEST_BLOCK, _FIRST_BLOCK * 2.0 ** min(known.failed, 30.0))
            return replace(
                known, failed=known.failed + 1, blocked_until=max(known.blocked_until, now + block), detail=detail
            )
        block = min(_LONGEST_BLOCK_FOR_A_LIE, _BLOCK_FOR_A_LIE * 2.0 ** min(known.lied, 30.0))
        return replace(known, lied=known.lied + 1, blocked_until=max(known.blocked_until, now + block), detail=detail)

    def reputation(self, now: float) -> float:
        """From 0 to 1; a provider that nobody knows has 0.5, and a lie weighs as much as ten failures."""
        known = self.decayed(now)
        return (known.good + 1) / (known.good + known.failed + _WEIGHT_OF_A_LIE * known.lied + 2)

    def blocked(self, now: float) -> str:
        """Why it gets no work now, or nothing."""
        if self.standing is Standing.BANNED:
            return "banned by the operator"
        if self.standing is not Standing.TRUSTED and self.avx is False:
            return "its processor lacks AVX"
        if self.standing is not Standing.TRUSTED and now < self.blocked_until:
            return f"blocked for {self.blocked_until - now:.0f} s more: {self.detail}"
        return ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement and the time its activities ran by our own clock, which bounds what may be billed for it.

    Nothing runs in it after ``expires_at``. ``refused``: why nothing (more) is paid for it; empty when all is well.
    """

    agreement_id: str
    node_id: str
    price: Price
    threads: int
    opened_at: float
    expires_at: float
    closed_at: float | None = None
    refused: str = ""

    def most(self, now: float) -> int:
        """The most that can honestly be billed: one start and every second since it was opened, all threads busy."""
        seconds = min(now if self.closed_at is None else self.closed_at, self.expires_at) - self.opened_at
        return self.price.cost(max(0.0, seconds), max(0.0, seconds) * self.threads)


class DocumentKind(StrEnum):
    """What a provider sends to be paid."""

    INVOICE = "invoice"
    DEBIT_NOTE = "debit_note"


class Decision(StrEnum):
    """What became of a document."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # never to be paid
    DEFERRED = "deferred"  # a cap is reached; looked at again later


@dataclass(frozen=True, slots=True)
class Document:
    """An invoice or a debit note and what was decided about it. ``amount`` of a debit note is cumulative."""

    document_id: str
    kind: DocumentKind
    agreement_id: str
    amount: int
    decision: Decision
    decided_at: float
    reason: str = ""
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """A task at a provider: what it may have cost by our own clock, and what it came to."""

    task: str
    model: str  # the manifest's CID
    agreement_id: str
    node_id: str
    inputs: int
    started: float
    finished: float
    cost: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """A picture whose outcome two providers agreed on; its request id means nothing."""

    model: str  # the manifest's CID
    image_cid: str
    size: int
    outcome: ItemResult
    learnt_at: float
