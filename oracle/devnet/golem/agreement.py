"""The agreement that a provider keeps, and the file that lets it bill what a killed one has left."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from oracle.devnet.golem.exeunit import ExeUnit
from oracle.devnet.golem.negotiation import COEFFICIENTS, EXPIRATION, NOTE_INTERVAL, TASK_PACKAGE
from oracle.devnet.golem.pricing import Terms, activity_cost


@dataclass(slots=True)
class Activity:
    """An activity and what it used so far, in seconds; ``unit`` while it runs."""

    id: str
    unit: ExeUnit | None = None
    usage: tuple[float, float] = (0.0, 0.0)
    noted: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Agreement:
    """An agreement: prices in GLM as its offer states them, ``note_interval`` in seconds, ``expires`` in Unix seconds.

    ``interval_agreed``: the requestor counts the debit notes.
    """

    id: str
    package: str
    coefficients: Sequence[float]
    expires: float
    note_interval: float
    interval_agreed: bool
    idle_since: float = field(default_factory=time.monotonic)
    activities: dict[str, Activity] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Mapping[str, Any], terms: Terms) -> Agreement:
        """From yagna's document of it."""
        offer, demand = document["offer"]["properties"], document["demand"]["properties"]
        return cls(
            id=str(document["agreementId"]),
            package=str(demand.get(TASK_PACKAGE, "")),
            coefficients=[float(value) for value in offer[COEFFICIENTS]],
            expires=float(demand[EXPIRATION]) / 1000,
            note_interval=float(offer.get(NOTE_INTERVAL, terms.debit_note_interval)),
            interval_agreed=NOTE_INTERVAL in offer,
        )

    @property
    def running(self) -> Sequence[Activity]:
        """The activities that have not ended."""
        return [activity for activity in self.activities.values() if activity.unit is not None]

    def cost(self) -> Decimal:
        """What all of it has come to, in GLM."""
        return sum((activity_cost(self.coefficients, one.usage) for one in self.activities.values()), Decimal(0))


class Notebook:
    """The file that holds the agreement while there is one."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def write(self, agreement: Agreement) -> None:
        """Note how it stands, in one step."""
        document = {
            "id": agreement.id,
            "package": agreement.package,
            "coefficients": list(agreement.coefficients),
            "expires": agreement.expires,
            "note_interval": agreement.note_interval,
            "interval_agreed": agreement.interval_agreed,
            "activities": {activity.id: activity.usage for activity in agreement.activities.values()},
        }
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(document), encoding="utf-8")
        fresh.replace(self._file)

    def clear(self) -> None:
        """The agreement has ended and is billed."""
        self._file.unlink(missing_ok=True)

    def read(self) -> Agreement | None:
        """What a run before this one has left; None when it ended in order."""
        try:
            document = json.loads(self._file.read_text(encoding="utf-8"))
            activities = document.pop("activities")
            agreement = Agreement(**document)
        except (OSError, ValueError, TypeError, KeyError):
            return None
        agreement.activities = {key: Activity(key, usage=(used[0], used[1])) for key, used in activities.items()}
        return agreement
