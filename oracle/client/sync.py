"""The client without asyncio: each call runs on an event loop in a thread of its own, and has an end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, Unpack

from oracle.chain.account import Asked
from oracle.chain.deployment import Role
from oracle.client.asking import DEFAULT_DEADLINE, ModelLike, Picture
from oracle.client.connecting import Client, Options, connect
from oracle.client.errors import CallTimedOut
from oracle.client.models import ListedModel
from oracle.client.outcome import Outcome, Price, RequestLike
from oracle.client.reading import PATIENCE, RESULT_LIMIT
from oracle.domain import Cid
from oracle.errors import ConfigurationError
from oracle.settings import Settings

T = TypeVar("T")

CALL_SECONDS = 300.0
"""Within which a call ends unless told otherwise: more than a transaction may take to be mined."""
_CLOSE_SECONDS = 10.0
_SLICE = 0.5  # seconds that the caller sleeps at once, so that Ctrl-C is heard on every system


class LoopThread:
    """An event loop in a thread, for callers that have none, or one that is busy, such as a notebook's."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sibyl-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What the work returns or raises. Raises CallTimedOut after ``seconds``; the work is then called off,
        as it is on Ctrl-C.
        """
        if not self._thread.is_alive():
            work.close()
            raise ConfigurationError("the client is closed", remedy="Call it within its `with` block.")
        until = time.monotonic() + seconds
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while (left := until - time.monotonic()) > 0:
                try:
                    return future.result(min(_SLICE, left))
                except TimeoutError:
                    if future.done():  # the work's own error, or the result came this very moment
                        return future.result(0)
        except BaseException:
            future.cancel()
            raise
        future.cancel()
        raise CallTimedOut(
            f"the call did not end within {seconds:g} s",
            remedy="What was sent may still be mined: look at the account before you ask again.",
        )

    def close(self) -> None:
        """Call off what still runs, and end the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            if pending := asyncio.all_tasks(self._loop):
                for task in pending:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(pending, timeout=_CLOSE_SECONDS / 2))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()


class SyncClient:
    """``Client`` for code without asyncio: the same methods, which return when they are done.

    ``client`` is the asynchronous one; ``run`` runs any of its coroutines. Every call ends within ``call_timeout``
    seconds, or raises CallTimedOut. For one thread at a time or several.
    """

    def __init__(self, client: Client, loop: LoopThread, call_timeout: float) -> None:
        self.client = client
        self._loop = loop
        self._seconds = call_timeout

    def run(self, work: Coroutine[Any, Any, T], *, timeout: float | None = None) -> T:
        """What a coroutine of ``client`` returns or raises. Raises CallTimedOut, which names what was sent in it."""
        before = set(self.client.sent)
        try:
            return self._loop.run(work, self._seconds if timeout is None else timeout)
        except CallTimedOut as error:
            sent = ["0x" + one.hex() for one in self.client.sent if one not in before]
            if not sent:
                raise
            raise CallTimedOut(f"{error}; sent since it began: {', '.join(sent)}", remedy=error.remedy) from None

    @property
    def address(self) -> str:
        """The account that asks and pays. Raises ConfigurationError when there is no key."""
        return self.client.sender.address

    def models(self) -> list[ListedModel]:
        """As ``Client.models``."""
        return self.run(self.client.models())

    def model(self, choice: str | None = None) -> ListedModel:
        """As ``Client.model``."""
        return self.run(self.client.model(choice))

    def quote(self, model: ModelLike = None, *, pictures: int = 1) -> Price:
        """As ``Client.quote``."""
        return self.run(self.client.quote(model, pictures=pictures))

    def upload(self, pictures: Picture | Cid | Iterable[Picture | Cid]) -> list[Cid]:
        """As ``Client.upload``."""
        return self.run(self.client.upload(pictures))

    def request(
        self,
        model: ModelLike,
        images: Picture | Cid | Iterable[Picture | Cid],
        *,
        provider: str | None = None,
        deadline: float = DEFAULT_DEADLINE,
        max_price: int | None = None,
        from_balance: bool = False,
    ) -> list[Asked]:
        """As ``Client.request``."""
        work = self.client.request(
            *(model, images),
            provider=provider,
            deadline=deadline,
            max_price=max_price,
            from_balance=from_balance,
        )
        return self.run(work)

    def wait(self, request: RequestLike, *, timeout: float = PATIENCE) -> Outcome:
        """As ``Client.wait``."""
        return self.run(self.client.wait(request, timeout=timeout), timeout=timeout + self._seconds)

    def outcome(self, request: RequestLike) -> Outcome:
        """As ``Client.outcome``."""
        return self.run(self.client.outcome(request))

    def verify(self, request: RequestLike) -> Outcome:
        """As ``Client.verify``."""
        return self.run(self.client.verify(request))

    def files(self, outcome: Outcome) -> dict[str, bytes]:
        """As ``Client.files``."""
        return self.run(self.client.files(outcome))

    def fetch(self, cid: Cid | str, *, limit: int = RESULT_LIMIT) -> bytes:
        """As ``Client.fetch``."""
        return self.run(self.client.fetch(cid, limit=limit))

    def cancel(self, request: RequestLike) -> bytes:
        """As ``Client.cancel``."""
        return self.run(self.client.cancel(request))

    def refund(self, request: RequestLike) -> bytes:
        """As ``Client.refund``."""
        return self.run(self.client.refund(request))

    def deposit(self, amount: int) -> tuple[str, int]:
        """As ``Client.deposit``."""
        return self.run(self.client.deposit(amount))

    def withdraw(self, role: Role = "requester", token: str | None = None) -> tuple[str, int]:
        """As ``Client.withdraw``."""
        return self.run(self.client.withdraw(role, token))


@contextmanager
def connect_sync(
    settings: Settings | None = None, *, call_timeout: float = CALL_SECONDS, **options: Unpack[Options]
) -> Iterator[SyncClient]:
    """``connect`` without asyncio, with the same options; also where an event loop already runs, as in a notebook."""
    loop = LoopThread()
    try:
        context = connect(settings, **options)
        client = loop.run(context.__aenter__(), call_timeout)
        try:
            yield SyncClient(client, loop, call_timeout)
        finally:
            loop.run(context.__aexit__(None, None, None), _CLOSE_SECONDS)
    finally:
        loop.close()
