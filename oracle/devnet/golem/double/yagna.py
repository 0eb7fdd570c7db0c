"""The double of a yagna daemon with its providers, in this process, on 127.0.0.1.

It speaks yagna's REST API to an unmodified yapapi. No coin moves and nobody else is on the network. Unlike the real
daemon it does what a test says, when the test says so: see ``ProviderDouble.plan`` and ``YagnaDouble.fail``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from oracle.devnet.golem.double import spool
from oracle.devnet.golem.double.activities import Activities
from oracle.devnet.golem.double.faults import RestFault
from oracle.devnet.golem.double.identifiers import Clock, Identifiers, node_id
from oracle.devnet.golem.double.journal import Journal
from oracle.devnet.golem.double.market import Market
from oracle.devnet.golem.double.payments import Payments
from oracle.devnet.golem.double.provider import ProviderDouble
from oracle.devnet.golem.double.pulse import Pulse
from oracle.devnet.golem.double.rest import Rest

_HOST = "127.0.0.1"
_IMAGE = b"This stands for an image; nobody mounts it.\n"
_DEFAULT_KEYS = {"requestor-key": "requestor", "other-key": "other requestor"}

T = TypeVar("T")


class YagnaDouble:
    """A yagna daemon for tests: ``async with YagnaDouble(folder, [ProviderDouble("one")]) as yagna``.

    ``directory``: folders of activities and the spool of file transfers, removed at the end. ``keys``: app keys and
    the name of the identity behind each. ``funds``: GLM that each identity owns. ``patience`` scales the seconds for
    which a call waits for a provider (15 for an agreement, 5 for an activity, 0.75 for its begin and end); polls keep
    theirs.
    """

    payment_driver = "erc20"
    payment_network = "hoodi"
    platform = "erc20-hoodi-tglm"

    def __init__(
        self,
        directory: Path,
        providers: Sequence[ProviderDouble] = (),
        *,
        keys: Mapping[str, str] | None = None,
        subnet: str = "double",
        funds: Decimal = Decimal(1000),
        patience: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.subnet = subnet
        self.clock = Clock()
        self.journal = Journal()
        self.providers = list(providers)
        self.keys = {key: (node_id(name), name) for key, name in (keys or _DEFAULT_KEYS).items()}
        self.gftp_dir = directory / "bin"
        self._directory = directory
        self._pulse = Pulse()
        ids = Identifiers(seed)
        self.market = Market(ids, self.clock, self._pulse)
        self.payments = Payments(ids, self.clock, self._pulse, funds, self.platform)
        self.activities = Activities(
            self.market,
            directory / "activities",
            spool.Spool(directory / "spool"),
            ids=ids,
            clock=self.clock,
            pulse=self._pulse,
            patience=patience,
        )
        self._rest = Rest(self.market, self.activities, self.payments, self._pulse, keys=self.keys, patience=patience)
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> YagnaDouble:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Where it is -------------------------------------------------------------------------------------------------

    @property
    def api_url(self) -> str:
        """Its REST API."""
        return f"http://{_HOST}:{self._port}"

    @property
    def app_key(self) -> str:
        """The first app key."""
        return next(iter(self.keys))

    @property
    def image_url(self) -> str:
        """Where something stands that can pass for an image."""
        return f"{self.api_url}/image.gvmi"

    @property
    def image_hash(self) -> str:
        """SHA3-224 of what stands there."""
        return hashlib.sha3_224(_IMAGE).hexdigest()

    @property
    def environment(self) -> dict[str, str]:
        """What a requestor that uses yapapi must find in its environment."""
        return {
            "YAGNA_API_URL": self.api_url,
            "YAGNA_APPKEY": self.app_key,
            "YAGNA_PAYMENT_NETWORK": self.payment_network,
            "YAGNA_PAYMENT_DRIVER": self.payment_driver,
            "YAGNA_SUBNET": self.subnet,
            "PATH": f"{self.gftp_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }

    def provider(self, name: str) -> ProviderDouble:
        """A provider by its name. Raises KeyError."""
        for provider in self.providers:
            if provider.name == name:
                return provider
        raise KeyError(name)

    # Life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen on a free port, or after ``stop`` on the same as before; the first time, providers join."""
        first = self._port == 0
        app = web.Application(
            client_max_size=64 * 1024 * 1024,
            middlewares=[
                self.journal.middleware,
                self._rest.refuse,
                self._rest.misbehave,
                self._rest.authorise,
            ],
        )
        app.add_routes(self._rest.routes())
        app.router.add_get("/image.gvmi", _image, name="image")
        # A poll whose caller went away must not take events with it.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, self._port, reuse_address=True).start()
        self._port = int(self._runner.addresses[0][1])
        if first:
            spool.install(self.gftp_dir, self._directory / "spool", next(iter(self.keys.values()))[0])
            for provider in self.providers:
                self._welcome(provider)

    async def stop(self) -> None:
        """Stop answering, as a daemon that was killed; ``start`` brings it back with all its documents."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def restart(self) -> None:
        """Break every connection; documents, agreements and demands stay."""
        await self.stop()
        await self.start()

    async def close(self) -> None:
        """Stop, and remove the folder. Raises the first error that the double itself made in the background."""
        await self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.activities.close()
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)
        if self._rest.errors:
            raise self._rest.errors[0]

    # What a test says --------------------------------------------------------------------------------------------

    def add(self, provider: ProviderDouble) -> None:
        """Another provider joins."""
        self.providers.append(provider)
        self._welcome(provider)

    def fail(self, method: str, path: str, **how: Any) -> None:
        """The daemon itself misbehaves: see ``RestFault`` for the rest of the arguments."""
        self._rest.faults.append(RestFault(method, path, **how))

    def expire_demands(self) -> None:
        """Every demand's hour is over."""
        for demand in list(self.market.demands.values()):
            self.market.expire(demand)

    async def until(self, ready: Callable[[], T], *, seconds: float = 30.0) -> T:
        """Wait until ``ready`` says something true of the double's state, and return it. Raises TimeoutError."""
        found = await self._pulse.until(ready, seconds)
        if not found:
            raise TimeoutError(f"it did not come to pass within {seconds} s")
        return found

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background until the double closes."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            if (error := task.exception()) is not None:
                self._rest.errors.append(error)

    def _welcome(self, provider: ProviderDouble) -> None:
        self.activities.hire(provider, provider.node_id)
        provider.join(self)


async def _image(_: web.Request) -> web.Response:
    return web.Response(body=_IMAGE)
