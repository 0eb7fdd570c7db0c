"""What a provider double can do wrong, and when: ``provider.plan(Moment.TASK, Die(), nth=2)``."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import get_args

from oracle.devnet.golem.double.pulse import Pulse

ENDPOINT_NOT_FOUND = "GSB error: GSB failure: Bad request: endpoint address not found"
"""What yagna says when the provider's node has no such exe-unit; yapapi asks again three times."""
RECEIVER_CANCELLED = "GSB error: Service receiver was cancelled"
"""What yagna says when the exe-unit on its own bus went away; yapapi gives up at once."""


class Moment(StrEnum):
    """When something can happen. The detail that ``matching`` is shown stands behind each."""

    PROPOSAL = "proposal"
    """A counter-proposal arrives: the demand's id."""
    AGREEMENT = "agreement"
    """A confirmed agreement waits for approval: its id."""
    ACTIVITY = "activity"
    """An activity is asked for: the agreement's id."""
    DEPLOY = "deploy"
    START = "start"
    RUN = "run"
    """Any command is run: its words, quoted as a shell would."""
    WARM_UP = "warm-up"
    """The image's resident process is started: likewise."""
    TASK = "task"
    """The image's resident process gets a task: likewise."""
    UPLOAD = "upload"
    """A file comes from the requestor: its path in the image."""
    DOWNLOAD = "download"
    """A file goes to the requestor: its path in the image."""
    DEBIT_NOTE = "debit note"
    """A debit note is about to be sent: the activity's id."""
    INVOICE = "invoice"
    """An invoice is about to be sent: the agreement's id."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Say no."""

    message: str = "No capacity available. Reached Agreements limit: 1"


@dataclass(frozen=True, slots=True)
class Ignore:
    """Do not answer at all; yagna's call runs into its timeout."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait so many seconds, then go on as if nothing was."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Refuse:
    """Fail to create the activity, with this answer of yagna's."""

    status: int = 500
    message: str = "Error in activity creation: ExeUnit process exited"


@dataclass(frozen=True, slots=True)
class Fail:
    """The command ends with this exit code; -1 is a failure of the exe-unit itself, told by its message."""

    code: int = 1
    stderr: str = ""
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Die:
    """The whole provider is gone: no exe-unit, no agent, no invoice."""

    symptom: str = ENDPOINT_NOT_FOUND


@dataclass(frozen=True, slots=True)
class Crash:
    """The exe-unit is gone; the agent lives on and will send its invoice."""

    symptom: str = ENDPOINT_NOT_FOUND


@dataclass(slots=True, eq=False)
class Hang:
    """Do not end until the test says ``release()`` or the activity is destroyed; ``reached`` is set meanwhile."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Go on as if nothing was."""
        self.released.set()


@dataclass(frozen=True, slots=True)
class TerminateActivity:
    """The provider ends the activity under the requestor's hands."""

    reason: str = "Finished"
    message: str = "terminated by the provider"


@dataclass(frozen=True, slots=True)
class TerminateAgreement:
    """The provider ends the agreement, and the activity with it."""

    message: str = "Agreement broken by the provider"


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Other bytes arrive than were sent."""

    alter: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Charge:
    """Ask ``factor`` times what is due, or this very ``amount`` of GLM."""

    factor: Decimal = Decimal(1)
    amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Withhold:
    """Never send the document."""


@dataclass(frozen=True, slots=True)
class Readdress:
    """Write another payer or another payment platform on the document."""

    payer: str | None = None
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class DemandPaymentBy:
    """Make a debit note payable within so many seconds, which is not what was agreed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SendTwice:
    """Send the document, then a second one for the same work."""


Negotiating = Reject | Ignore | Delay | Die
Creating = Refuse | Ignore | Delay | Die
Executing = Fail | Die | Crash | Hang | Delay | TerminateActivity | TerminateAgreement
Transferring = Executing | Corrupt
Billing = Charge | Withhold | Delay | Readdress | DemandPaymentBy | SendTwice | Die
Deed = Negotiating | Creating | Transferring | Billing

_EXECUTING = (Moment.DEPLOY, Moment.START, Moment.RUN, Moment.WARM_UP, Moment.TASK)
_SUITS: dict[Moment, tuple[type, ...]] = {
    Moment.PROPOSAL: get_args(Negotiating),
    Moment.AGREEMENT: get_args(Negotiating),
    Moment.ACTIVITY: get_args(Creating),
    **dict.fromkeys(_EXECUTING, get_args(Executing)),
    Moment.UPLOAD: get_args(Transferring),
    Moment.DOWNLOAD: get_args(Transferring),
    Moment.DEBIT_NOTE: get_args(Billing),
    Moment.INVOICE: get_args(Billing),
}

EVERY_TIME = 1_000_000_000
"""As ``times``: from the nth on, for ever."""


@dataclass(slots=True)
class Planned:
    """A deed and its turn: the ``nth`` time from now on that the moment comes and matches, and ``times`` in a row."""

    moment: Moment
    deed: Deed
    nth: int
    times: int
    matching: Callable[[str], bool] | None
    seen: int = 0

    def due(self, moment: Moment, detail: str) -> bool:
        """Count one occurrence; true when it is this deed's turn."""
        if moment is not self.moment or (self.matching is not None and not self.matching(detail)):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Script:
    """What a provider will do wrong, what came to pass so far, and who waits for it."""

    def __init__(self, pulse: Pulse) -> None:
        self.happened: Counter[Moment] = Counter()
        self._planned: list[Planned] = []
        self._pulse = pulse

    def plan(self, moment: Moment, deed: Deed, *, nth: int, times: int, matching: Callable[[str], bool] | None) -> None:
        """Put a deed on the list. Raises ValueError when it cannot be done at that moment."""
        if not isinstance(deed, _SUITS[moment]):
            raise ValueError(f"{type(deed).__name__} is nothing a provider can do at the moment '{moment}'")
        self._planned.append(Planned(moment, deed, nth, times, matching))

    def take(self, moment: Moment, detail: str) -> Deed | None:
        """The moment has come; the first deed whose turn it is, if any."""
        self.happened[moment] += 1
        due = [planned.deed for planned in self._planned if planned.due(moment, detail)]
        self._pulse.beat()
        return due[0] if due else None

    async def reached(self, moment: Moment, nth: int, seconds: float) -> None:
        """Wait until the moment came for the ``nth`` time. Raises TimeoutError."""
        if not await self._pulse.until(lambda: self.happened[moment] >= nth, seconds):
            raise TimeoutError(f"'{moment}' came {self.happened[moment]} times in {seconds} s, not {nth}")


@dataclass(slots=True)
class RestFault:
    """The daemon itself misbehaves: for calls of ``method`` whose path contains ``path``.

    ``seconds`` is the delay; then ``status`` with ``message`` is answered, or, with ``drop``, the connection is cut.
    """

    method: str
    path: str
    status: int | None = None
    message: str = "scripted fault"
    seconds: float = 0.0
    drop: bool = False
    nth: int = 1
    times: int = 1
    seen: int = 0

    def due(self, method: str, path: str) -> bool:
        """Count one call; true when it is this fault's turn."""
        if method != self.method or self.path not in path:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times
