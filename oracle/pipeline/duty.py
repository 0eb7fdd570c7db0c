"""A duty is one stage of the pipeline: claim, work, commit. ``keep`` runs it for as long as the oracle lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from oracle.errors import ConfigurationError, SibylError
from oracle.telemetry import logger

log = logger("pipeline")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
MOST_DOUBLINGS = 32


class Bell:
    """Wakes a duty before its next look at the store: rung by the stage upstream when it has committed work."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the duty, now or at its next wait."""
        self._rung.set()

    async def wait(self, timeout: float) -> None:
        """Return when rung, or after ``timeout`` seconds."""
        with contextlib.suppress(TimeoutError):
            # Not wait_for, which in Python 3.11 may swallow the cancellation that ends the duty.
            async with asyncio.timeout(timeout):
                await self._rung.wait()
        self._rung.clear()


class Duty(Protocol):
    """One stage. ``step`` does a bounded piece of work and says whether there may be more at once."""

    name: str
    bell: Bell

    async def step(self) -> bool:
        """Claim, work, commit; True when another step should follow without a pause."""


async def keep(duty: Duty, *, idle: Callable[[], float]) -> None:
    """Run a duty until cancelled, looking for work at least every ``idle()`` seconds.

    An error ends the step, never the oracle: it is logged with its remedy and the duty pauses, longer each time up to
    30 s. Only a ConfigurationError is raised, for then no further step can succeed.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            busy = await duty.step()
            pause = FIRST_PAUSE
        except ConfigurationError:
            raise
        except Exception as error:
            # The stage's state is in the store, so the next step starts clean whatever went wrong in this one.
            remedy = error.remedy if isinstance(error, SibylError) else ""
            log.warning(
                "%s: %s%s; next try in %.1f s",
                duty.name,
                error or type(error).__name__,
                f" ({remedy})" if remedy else "",
                pause,
                exc_info=None if isinstance(error, SibylError) else error,
            )
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            continue
        if not busy:
            await duty.bell.wait(idle())


def backoff(attempts: int, *, first: float = 0.5, longest: float = 60.0) -> float:
    """Seconds to wait before try number ``attempts`` + 1."""
    # A request may be tried for days: the power is bounded, for a float is.
    return min(longest, first * 2.0 ** min(max(0, attempts - 1), MOST_DOUBLINGS))
