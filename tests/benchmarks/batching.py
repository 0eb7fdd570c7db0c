"""``make bench-batching``: latency and cost of the oracle's batches, beside a fixed schedule and none, in virtual time.

The rules are the oracle's own: ``plan_batches`` is called as the runner calls it, with the default settings' limits.
Latency runs from the moment a request may be worked on to its result; cost is counted in seconds of a provider, idle
ones included. What providers take, and what is asked, stands in ``batching_world.py``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from oracle.pipeline.batcher import BatchLimits, plan_batches
from oracle.pipeline.duty import backoff
from oracle.ports import RequestRow
from oracle.service import LOOK, URGENT
from oracle.settings import Settings
from tests.benchmarks.batching_world import EPOCH, HASTY, Agenda, Asked, Pool, Task, Terms, percentile, requests
from tests.benchmarks.machine import machine, versions

SETTINGS = Settings.model_construct(backend="golem")  # its defaults, whatever the environment says
MARGIN = SETTINGS.deadline_margin
LIMITS = BatchLimits(
    SETTINGS.batch_items,
    SETTINGS.batch_bytes,
    SETTINGS.linger,
    slack=4 * MARGIN,
    urgent=MARGIN + min(URGENT, 2 * MARGIN),
)
STEP = 0.005  # seconds that the oracle takes for one look at the queue
EVERY = 600.0  # seconds of the fixed schedule

RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # requests a second
LEAST, SHORTEST, LONGEST = 1000, 1200.0, 7200.0  # requests at each rate, in so many seconds of arrivals
SHUT = 700.0  # seconds without any provider
RECOVERY = 3600.0  # seconds of arrivals, these included; what was asked in the last third tells
TROUBLE: Mapping[str, tuple[float, float, dict[int, int]]] = {
    "after 700 s without a provider, 4/s": (4.0, SHUT, {600: 1}),
    "after 700 s without a provider, 10/s": (10.0, SHUT, {600: 1}),
    "half of all deadlines a minute away, 12/s": (12.0, 0.0, HASTY),
}
KEEP = SETTINGS.golem_idle_release
CHOICES: Mapping[str, tuple[float, float]] = {  # seconds to wait for company; seconds that an idle provider is kept
    "as set by default": (LIMITS.linger, KEEP),
    "SIBYL_BATCH_LINGER=0.05": (0.05, KEEP),
    "SIBYL_BATCH_LINGER=0.5": (0.5, KEEP),
    "SIBYL_GOLEM_IDLE_RELEASE=15": (LIMITS.linger, 15.0),
    "both, 0.05 and 15": (0.05, 15.0),
}
CHOICE_RATES = (0.3, 3.0, 30.0)


class Outcome:
    """What a schedule has done: when each request was made and how long its result took, NaN for none in time."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.seconds: list[float] = []

    def answer(self, asked: Asked, now: float) -> None:
        """A result is there; it counts while there is time to post it."""
        self.asked.append(asked.at)
        self.seconds.append(math.nan if slack(asked.row, now) < 0 else now - asked.at)

    def miss(self, asked: Asked) -> None:
        """There will be none."""
        self.asked.append(asked.at)
        self.seconds.append(math.nan)


def slack(row: RequestRow, now: float) -> float:
    """Seconds that are left to compute it."""
    return row.request.deadline - MARGIN - now


class Ours:
    """The oracle's: what ``Runner`` does around ``plan_batches``, down to its time-outs and second tries."""

    begins: Callable[[Task], None] | None = None

    def __init__(
        self, agenda: Agenda, slots: int, asked: Sequence[Asked], outcome: Outcome, *, limits: BatchLimits
    ) -> None:
        self.pool: Pool
        self._agenda, self._slots, self._outcome, self._limits = agenda, slots, outcome, limits
        self._asked = {entry.row.request_id: entry for entry in asked}
        self._ready: list[tuple[int, int, RequestRow]] = []
        self._view = 2 * limits.items * (slots + 1)  # rows that the runner reads for one look
        self._coming: Counter[int] = Counter()
        self._running: set[Task] = set()
        self._idle_since: float | None = None
        self._wakes = math.inf

    def arrive(self, asked: Asked) -> None:
        """Its picture is being fetched."""
        self._coming[asked.row.request.model_id] += 1

    def ready(self, asked: Asked) -> None:
        """Its picture is there."""
        self._coming[asked.row.request.model_id] -= 1
        self._queue(asked.row)

    def _queue(self, row: RequestRow) -> None:
        insort(self._ready, (row.request.deadline, row.block, row))
        self._wake(STEP)

    def _wake(self, seconds: float) -> None:
        at = self._agenda.now + seconds
        if at < self._wakes:
            self._wakes = at
            self._agenda.at(at, lambda: self._step(at))

    def _step(self, at: float) -> None:
        if at != self._wakes:
            return
        self._wakes = math.inf
        room = self._slots + 1 - len(self._running)
        if room <= 0 or not self._ready:
            return
        now = self._agenda.now
        view = [row for _, _, row in self._ready[: self._view] if row.not_before <= now]
        idle = len(self._running) < self._slots
        if not view or not idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        waited = 0.0 if self._idle_since is None else now - self._idle_since
        planned = plan_batches(
            view, now=now, slots=room, idle=idle, coming=self._coming, waited=waited, limits=self._limits
        )
        for batch in planned:
            self._start(batch.rows)
        if planned:
            self._idle_since = None
            self._wake(STEP)
        else:
            self._wake(min(0.01, self._limits.linger) if view and idle else LOOK)

    def _start(self, rows: Sequence[RequestRow]) -> None:
        now = self._agenda.now
        taken = {row.request_id for row in rows}
        self._ready[: self._view] = [entry for entry in self._ready[: self._view] if entry[2].request_id not in taken]
        kept = []
        for row in rows:
            if slack(row, now) > 0:
                kept.append(row)
            else:
                self._outcome.miss(self._asked[row.request_id])
        if kept:
            task = Task(kept, self._ended)
            self._running.add(task)
            time_out = min(SETTINGS.compute_timeout, max(1.0, max(slack(row, now) for row in kept)))
            self._agenda.at(now + time_out, lambda: self._expire(task))
            self.pool.submit(task)

    def _ended(self, task: Task) -> None:
        self._running.discard(task)
        for row in task.rows:
            self._outcome.answer(self._asked[row.request_id], self._agenda.now)
        self._wake(STEP)

    def _expire(self, task: Task) -> None:
        if task not in self._running:
            return
        task.withdrawn = True
        self._running.discard(task)
        for row in task.rows:
            attempts = row.attempts + 1
            again = self._agenda.now + backoff(attempts)
            if attempts >= SETTINGS.max_attempts or slack(row, again) <= 0:
                self._outcome.miss(self._asked[row.request_id])
            else:
                self._queue(replace(row, attempts=attempts, not_before=again))
        self._wake(STEP)


class Alone:
    """No batches: each request is a task as soon as its picture is there."""

    def __init__(self, agenda: Agenda, asked: Sequence[Asked], outcome: Outcome) -> None:
        self.pool: Pool
        self._agenda, self._outcome = agenda, outcome
        self._asked = {entry.row.request_id: entry for entry in asked}

    def arrive(self, asked: Asked) -> None:
        """Nothing to do before its picture is there."""

    def ready(self, asked: Asked) -> None:
        """Off it goes."""
        self.pool.submit(Task([asked.row], self._ended))

    def begins(self, task: Task) -> None:
        """MLG knew no deadlines. This much it is given, so that nobody is paid for what comes too late."""
        for row in [row for row in task.rows if slack(row, self._agenda.now) <= 0]:
            task.rows.remove(row)
            self._outcome.miss(self._asked[row.request_id])

    def _ended(self, task: Task) -> None:
        for row in task.rows:
            self._outcome.answer(self._asked[row.request_id], self._agenda.now)


class Cron(Alone):
    """MLG's: every ten minutes all that is there, by model, 16 a task; its 64 MB were stated and not enforced."""

    def __init__(self, agenda: Agenda, asked: Sequence[Asked], outcome: Outcome) -> None:
        super().__init__(agenda, asked, outcome)
        self._ready: dict[int, list[RequestRow]] = defaultdict(list)
        self._waits = False

    def ready(self, asked: Asked) -> None:
        """It waits for the next full ten minutes."""
        self._ready[asked.row.request.model_id].append(asked.row)
        if not self._waits:
            self._waits = True
            self._agenda.at((self._agenda.now // EVERY + 1) * EVERY, self._tick)

    def _tick(self) -> None:
        self._waits = False
        for rows in self._ready.values():
            for start in range(0, len(rows), 16):
                self.pool.submit(Task(rows[start : start + 16], self._ended))
        self._ready.clear()


SCHEDULES = ("ours", "cron", "none")


def simulate(
    name: str,
    rate: float,
    seconds: float,
    providers: int,
    *,
    seed: int = 1,
    shut: float = 0.0,
    lives: dict[int, int] | None = None,
    tell_from: float = 0.0,
    linger: float = LIMITS.linger,
    release: float = KEEP,
) -> dict[str, Any]:
    """One schedule at one rate of arrivals for so many seconds, until each request has a result or never will.

    No provider is to be had in the first ``shut`` seconds. Figures are of what is asked from ``tell_from`` on; cost,
    batches and idle time are of all. Raises AssertionError when a request was lost or answered twice.
    """
    agenda, outcome = Agenda(), Outcome()
    asked = requests(rate, seconds, seed=seed, most_bytes=SETTINGS.image_max_bytes, lives=lives)
    schedule: Ours | Alone
    if name == "ours":
        schedule = Ours(agenda, providers, asked, outcome, limits=replace(LIMITS, linger=linger))
    else:
        schedule = Cron(agenda, asked, outcome) if name == "cron" else Alone(agenda, asked, outcome)
    pool = schedule.pool = Pool(
        agenda,
        providers,
        # Nothing comes before the next ten minutes, so the fixed schedule keeps no provider.
        release=0.0 if name == "cron" else release,
        terms=Terms(),
        seed=seed,
        opens=EPOCH + shut,
        begins=schedule.begins,
    )
    for entry in asked:
        agenda.at(entry.at, partial(schedule.arrive, entry))
        agenda.at(entry.ready, partial(schedule.ready, entry))
    agenda.run()
    if sorted(outcome.asked) != [entry.at for entry in asked]:
        raise AssertionError(f"{name} at {rate:g}/s: of {len(asked)} requests {len(outcome.asked)} came to an end")
    told = [took for at, took in zip(outcome.asked, outcome.seconds, strict=True) if at >= EPOCH + tell_from]
    answered = sorted(took for took in told if not math.isnan(took))
    count = sum(not math.isnan(took) for took in outcome.seconds)
    return {
        "requests": len(told),
        "p50_s": round(percentile(answered, 0.5), 2) if answered else None,
        "p99_s": round(percentile(answered, 0.99), 2) if answered else None,
        "batch": round(pool.items / max(1, pool.tasks), 2),
        "cost": round(pool.cost / count, 3) if count else None,
        "idle_share": round(max(0.0, 1 - pool.busy / pool.held), 3) if pool.held else 0.0,
        "missed_share": round(1 - len(answered) / len(told), 4),
        "over_64_mib": pool.oversized,
    }


def compare(providers: int, seed: int) -> dict[str, Any]:
    """Every schedule at every rate; then the oracle's with other settings; then in trouble, with few providers."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as processes:

        def run(name: str, rate: float, seconds: float = 0.0, size: int = providers, **more: Any) -> Future[Any]:
            seconds = seconds or min(LONGEST, max(SHORTEST, LEAST / rate))
            return processes.submit(simulate, name, rate, seconds, size, seed=seed, **more)

        # The longest first, so that no process is left with it at the end.
        rates = {rate: {name: run(name, rate) for name in SCHEDULES} for rate in reversed(RATES)}
        settings = {
            text: {rate: run("ours", rate, linger=linger, release=release) for rate in CHOICE_RATES}
            for text, (linger, release) in CHOICES.items()
        }
        last: dict[str, Any] = {"seconds": RECOVERY, "size": few(providers), "tell_from": RECOVERY * 2 / 3}
        trouble = {
            text: run("ours", rate, shut=shut, lives=lives, **last) for text, (rate, shut, lives) in TROUBLE.items()
        }
        return {
            "rates": {f"{rate:g}": {name: one.result() for name, one in rates[rate].items()} for rate in RATES},
            "settings": {
                text: {f"{rate:g}": one.result() for rate, one in ones.items()} for text, ones in settings.items()
            },
            "trouble": {text: one.result() for text, one in trouble.items()},
        }


def few(providers: int) -> int:
    """How many providers an oracle in trouble has."""
    return max(1, providers // 8)


def show(figures: dict[str, Any], providers: int) -> None:
    """The tables, and the latencies as a chart."""
    print(f"{providers} providers; cost in seconds of a provider for each request answered")
    print(f"{'rate':>5} {'':5}{HEAD}{'> 64 MiB':>9}")
    for rate, schedules in figures["rates"].items():
        for name, one in schedules.items():
            print(f"{rate if name == 'ours' else '':>5} {name:5}{_row(one)}{one['over_64_mib']:>9}")
    print("\nlatency, p50 to p99, in seconds")
    scale = "".join(f"{mark:<{_column(after) - _column(mark)}g}" for mark, after in itertools.pairwise(MARKS))
    print(f"{'':11}{scale}{MARKS[-1]}")
    for rate, schedules in figures["rates"].items():
        for name, one in schedules.items():
            if one["p50_s"] is not None:
                left, right = _column(one["p50_s"]), _column(one["p99_s"])
                bar = name[0] + "-" * (right - left - 1) + (name[0] if right > left else "")
                print(f"{rate if name == 'ours' else '':>5} {name:5}{' ' * left}{bar}")
    print(f"\n{'the oracle with other settings':34}{'rate':>5}{HEAD}")
    for text, ones in figures["settings"].items():
        for rate, one in ones.items():
            print(f"{text if rate == f'{CHOICE_RATES[0]:g}' else '':34}{rate:>5}{_row(one)}")
    print(f"\nthe oracle in trouble: {few(providers)} providers, requests of the last third of an hour")
    print(f"{'':42}{HEAD}")
    for text, one in figures["trouble"].items():
        print(f"{text:42}{_row(one)}")


def _row(one: dict[str, Any]) -> str:
    p50, p99, cost = (math.nan if one[name] is None else one[name] for name in ("p50_s", "p99_s", "cost"))
    return f"{p50:>8.2f}{p99:>8.2f}{one['batch']:>7.2f}{cost:>8.2f}{one['idle_share']:>6.0%}{one['missed_share']:>8.1%}"


HEAD = f"{'p50 s':>8}{'p99 s':>8}{'batch':>7}{'cost':>8}{'idle':>6}{'missed':>8}"
MARKS = (0.5, 1, 3, 10, 30, 100, 300, 1000)


def _column(seconds: float) -> int:
    return max(0, round(20 * math.log10(max(seconds, 0.5) / 0.5)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--providers", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result = compare(options.providers, options.seed)
    show(result, options.providers)
    print(machine())
    print(versions("sibyl"))
    print(json.dumps(result))
