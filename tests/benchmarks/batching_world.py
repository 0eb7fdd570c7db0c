"""The world in which ``make bench-batching`` compares schedules: virtual time, requests, and a pool of providers.

Nothing here decides when a batch starts. A schedule (in ``batching.py``) is told when a request comes, when its picture
is ready and when its task ends, and hands tasks to the pool. Every schedule meets the very same requests.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from oracle.domain import Cid, ImageFacts, InferenceRequest, RequestStatus
from oracle.ports import RequestRow

MIB = 1024 * 1024
EPOCH = 1_000_000_000.0  # Unix seconds at which every simulation begins


@dataclass(frozen=True, slots=True)
class Model:
    """Seconds of inference an image once warm, and what its pictures weigh: log-normal, ``median`` bytes."""

    seconds: float
    median: float
    sigma: float


WEB, CAMERA = (150e3, 1.0), (4e6, 0.5)
# DenseNet121, InceptionV3, Xception and ViT-B/16 on two cores in batches of 16 (measured), each at two places.
MODELS = [Model(0.019, *WEB), Model(0.029, *WEB), Model(0.048, *WEB), Model(0.098, *CAMERA)] * 2
ZIPF = [1 / rank for rank in range(1, len(MODELS) + 1)]  # how often each model is asked
LIVES = {120: 1, 600: 5, 3600: 4}  # seconds from a request to its deadline, and how often: 600 is the client's default
HASTY = {60: 5, 600: 2, 3600: 3}
FETCH = (0.15, 0.5, 20e6)  # seconds until a picture is there: log-normal (median, sigma), and bytes a second


@dataclass(frozen=True, slots=True)
class Terms:
    """What a provider takes: seconds for each part of a task, and money (in seconds of a provider) beside its time."""

    cold: float = 12.0  # agreement, activity, image, engine and the first model, once a worker
    load: float = 3.0  # a further model into a running worker
    warm: int = 4  # models that a worker keeps, the last used
    task: float = 0.5  # script, polling and result, once a task
    bandwidth: float = 10e6  # bytes a second to one provider
    spread: float = 0.25  # sigma of the providers' slowness, log-normal around 1
    fee: float = 0.1  # money, once a task


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, when it may be worked on, and when its picture is there."""

    row: RequestRow
    at: float
    ready: float


def requests(
    rate: float, seconds: float, *, seed: int, most_bytes: int, lives: dict[int, int] | None = None
) -> list[Asked]:
    """Poisson arrivals of ``rate`` a second for so long. No picture is above ``most_bytes``: intake refuses those."""
    dice = random.Random(seed)
    lives = lives or LIVES
    numbers = range(1, len(MODELS) + 1)
    asked: list[Asked] = []
    at = EPOCH + dice.expovariate(rate)
    while at < EPOCH + seconds:
        number = len(asked)
        (model_id,) = dice.choices(numbers, ZIPF)
        model = MODELS[model_id - 1]
        size = most_bytes + 1
        while size > most_bytes:
            size = round(dice.lognormvariate(math.log(model.median), model.sigma))
        (life,) = dice.choices(list(lives), list(lives.values()))
        request = InferenceRequest(
            request_id=number.to_bytes(32, "big"),
            model_id=model_id,
            requester="0x" + "11" * 20,
            image_cid=Cid(b"\x01\x55\x12\x20" + number.to_bytes(32, "big")),
            payment=1,
            callback_gas=0,
            deadline=int(at) + life,
            nonce=number,
            created_at=int(at),
        )
        row = RequestRow(request, RequestStatus.READY, block=number, image=ImageFacts("JPEG", 640, 480, size))
        median, sigma, bandwidth = FETCH
        asked.append(Asked(row, at, at + dice.lognormvariate(math.log(median), sigma) + size / bandwidth))
        at += dice.expovariate(rate)
    return asked


class Agenda:
    """Virtual time: what happens next, and when."""

    def __init__(self) -> None:
        self.now = EPOCH
        self._entries: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do ``action`` then; of two at the same time, first the one entered first."""
        heapq.heappush(self._entries, (time, next(self._order), action))

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self._entries:
            self.now, _, action = heapq.heappop(self._entries)
            action()


@dataclass(eq=False, slots=True)
class Task:
    """One batch at the pool; ``ended`` is called when it is done, unless it was withdrawn."""

    rows: list[RequestRow]
    ended: Callable[[Task], None]
    withdrawn: bool = False

    @property
    def model_id(self) -> int:
        """The one model of its rows."""
        return self.rows[0].request.model_id

    @property
    def payload(self) -> int:
        """Bytes to carry."""
        return sum(row.image.size for row in self.rows if row.image)


@dataclass(eq=False, slots=True)
class _Worker:
    slowness: float
    held_since: float | None = None  # None: not held, and not paid
    free_since: float | None = None  # None: not held, or at work
    warm: list[int] = field(default_factory=list)  # its models, the last used last


class Pool:
    """Providers that are taken when there is work, kept for ``release`` idle seconds, and paid for all of that time.

    Tasks are done in the order in which they came, none before ``opens``. ``begins``, when given, thins out a task's
    rows when its turn has come.
    """

    def __init__(
        self,
        agenda: Agenda,
        size: int,
        *,
        release: float,
        terms: Terms,
        seed: int,
        opens: float = EPOCH,
        begins: Callable[[Task], None] | None = None,
    ) -> None:
        dice = random.Random(seed)
        self._agenda, self._release, self._terms, self._begins, self._opens = agenda, release, terms, begins, opens
        self._workers = [_Worker(dice.lognormvariate(0.0, terms.spread)) for _ in range(size)]
        self._waiting: deque[Task] = deque()
        self.tasks, self.items, self.oversized, self.loads = 0, 0, 0, 0
        self.held, self.busy = 0.0, 0.0  # seconds
        agenda.at(opens, self._dispatch)

    @property
    def cost(self) -> float:
        """What all of it has cost, in seconds of a provider."""
        return self.held + self.tasks * self._terms.fee

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._waiting.append(task)
        self._dispatch()

    def _dispatch(self) -> None:
        if self._agenda.now < self._opens:
            return
        while self._waiting:
            task = self._waiting[0]
            if self._begins is not None:
                self._begins(task)
            if task.withdrawn or not task.rows:
                self._waiting.popleft()
                continue
            worker = self._choose(task.model_id)
            if worker is None:
                return
            self._waiting.popleft()
            self._start(task, worker)

    def _choose(self, model_id: int) -> _Worker | None:
        """A free one that has the model, else the one used last; a new one when all that are held are at work."""
        free = [worker for worker in self._workers if worker.free_since is not None]
        if free:
            return max(free, key=lambda worker: (model_id in worker.warm, worker.free_since or 0.0))
        return next((worker for worker in self._workers if worker.held_since is None), None)

    def _start(self, task: Task, worker: _Worker) -> None:
        terms, model = self._terms, MODELS[task.model_id - 1]
        seconds = terms.task + len(task.rows) * model.seconds * worker.slowness + task.payload / terms.bandwidth
        if worker.held_since is None:
            worker.held_since = self._agenda.now
            seconds += terms.cold
        elif task.model_id not in worker.warm:
            seconds += terms.load
            self.loads += 1
        worker.warm = [*(other for other in worker.warm if other != task.model_id), task.model_id][-terms.warm :]
        worker.free_since = None
        self.tasks += 1
        self.items += len(task.rows)
        self.oversized += task.payload > 64 * MIB
        self.busy += seconds
        self._agenda.at(self._agenda.now + seconds, lambda: self._end(task, worker))

    def _end(self, task: Task, worker: _Worker) -> None:
        freed = worker.free_since = self._agenda.now
        if not task.withdrawn:
            task.ended(task)
        self._dispatch()
        self._agenda.at(freed + self._release, lambda: self._let_go(worker, freed))

    def _let_go(self, worker: _Worker, freed: float) -> None:
        if worker.held_since is not None and worker.free_since == freed:
            self.held += self._agenda.now - worker.held_since
            worker.held_since = worker.free_since = None
            worker.warm = []


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of them lies; NaN when there are none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else math.nan
