"""What a provider asks: so much a second of an activity, so much a second of processor, so much to start.

Amounts are ``Decimal`` GLM, rounded down to ``PLACES`` decimals, so that no document ever asks for more than price
times usage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any, Final

from oracle.errors import ConfigurationError

USAGE_VECTOR: Final = ("golem.usage.duration_sec", "golem.usage.cpu_sec")
PLACES: Final = 9
_QUANTUM = Decimal(1).scaleb(-PLACES)


@dataclass(frozen=True, slots=True)
class Terms:
    """One provider's terms. Prices in GLM: ``per_second`` of an activity, ``per_cpu_second``, ``start`` of each.

    ``speed`` from 0.1 to 1 is how fast its machine is; ``threads`` how many processors a job may use;
    ``debit_note_interval`` in seconds.
    """

    per_second: float = 0.00002
    per_cpu_second: float = 0.0001
    start: float = 0.0
    speed: float = 1.0
    threads: int = 1
    debit_note_interval: float = 120.0

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """Prices in the order of ``USAGE_VECTOR``, then the start, as an offer states them."""
        # yapapi's check of the price model wants floats, and 0 is none.
        return float(self.per_second), float(self.per_cpu_second), float(self.start)


def activity_cost(coefficients: Sequence[float], usage: Sequence[float]) -> Decimal:
    """What one activity costs; ``coefficients`` as in an offer, ``usage`` in the order of ``USAGE_VECTOR``."""
    *prices, start = (Decimal(str(value)) for value in coefficients)
    total = sum((price * Decimal(str(used)) for price, used in zip(prices, usage, strict=True)), start)
    return total.quantize(_QUANTUM, rounding=ROUND_DOWN)


def money(amount: Decimal) -> str:
    """An amount as yagna takes it: plain digits."""
    return f"{amount:f}"


def covers(demanded: object, ours: Sequence[float]) -> bool:
    """Whether a demanded price vector is at least ours in every place."""
    if not isinstance(demanded, list) or len(demanded) != len(ours):
        return False
    return all(isinstance(theirs, int | float) and theirs >= own for theirs, own in zip(demanded, ours, strict=True))


# ---------------------------------------------------------------------------------------------------------------
# The file of terms
# ---------------------------------------------------------------------------------------------------------------


def read_terms(file: Path) -> Mapping[str, Terms]:
    """Terms by provider name. Raises ConfigurationError when the file cannot be read or holds anything else."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): _terms(fields) for name, fields in document.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"the providers' terms in {file} cannot be used: {error}",
            remedy="Correct the file, or delete it; it is then written anew with the usual terms.",
        ) from None


def write_terms(file: Path, terms: Mapping[str, Terms]) -> None:
    """Write the file in one step, for providers look at it all the time."""
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({name: asdict(one) for name, one in terms.items()}, indent=2) + "\n", encoding="utf-8")
    fresh.replace(file)


def _terms(fields: Mapping[str, Any]) -> Terms:
    terms = Terms(**fields)
    if not all(isinstance(value, int | float) for value in asdict(terms).values()):
        raise ValueError("every term is a number")
    if min(terms.coefficients) < 0 or terms.threads < 1 or terms.debit_note_interval <= 0:
        raise ValueError("prices are not negative, threads and intervals are above zero")
    if not 0.1 <= terms.speed <= 1:
        raise ValueError("speed is from 0.1 to 1")
    return terms
