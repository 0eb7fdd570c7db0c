"""A Golem network on one machine: the yagna daemon, provider agents, and the chain that payments are settled on."""

from __future__ import annotations

import asyncio
import shlex
import stat
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from oracle.devnet.golem import sandbox
from oracle.devnet.golem.images import ImageStore, read_image
from oracle.devnet.golem.kept import Kept
from oracle.devnet.golem.pricing import Terms, read_terms, write_terms
from oracle.devnet.golem.provider import READY_FILE, ProviderConfig
from oracle.devnet.golem.settlement import (
    DRIVER,
    NETWORK,
    PLATFORM,
    Settlement,
    driver_environment,
    forget_payments,
    remembers_more,
)
from oracle.devnet.golem.yagna import Identity, Yagna
from oracle.devnet.locked import locked
from oracle.errors import ConfigurationError
from oracle.settings import local_environment
from provider_images.builder import BuiltImage

SUBNET: Final = "sibyl"
NAMES: Final = ("ada", "boole", "curie", "darwin", "euler", "fermat", "gauss", "hopper")
PROVIDER_SECONDS: Final = 30.0

_USUAL_TERMS: Final = (
    Terms(per_second=0.00002, per_cpu_second=0.0001, speed=0.8),
    Terms(per_second=0.00003, per_cpu_second=0.00015, speed=0.9),
    Terms(per_second=0.00005, per_cpu_second=0.0002, start=0.0001, speed=1.0),
)
"""The dearer, the quicker: the market has a choice."""


@dataclass(frozen=True, slots=True)
class GolemNetwork:
    """A running network, as its requestor sees it."""

    data: Path
    yagna: Yagna
    requestor: Identity
    providers: Mapping[str, tuple[Identity, Kept]]
    settlement: Settlement | None

    def describe(self) -> Mapping[str, Any]:
        """What a requestor must know, in plain JSON."""
        return {
            "yagna_api_url": self.yagna.api_url,
            "yagna_appkey_file": str(self.data / "requestor.key"),
            "payment_network": NETWORK,
            "payment_driver": DRIVER,
            "subnet": SUBNET,
            "gftp_dir": str(self.data / "bin"),
            "requestor": self.requestor.node_id,
            "settlement_rpc": self.settlement.chain.url if self.settlement else None,
            "settlement_token": self.settlement.token if self.settlement else None,
            "identities_file": str(self.yagna.identities_file),
            "providers": [
                {"name": name, "node_id": identity.node_id, "pid": process.pid}
                for name, (identity, process) in self.providers.items()
            ],
        }

    async def failed(self) -> None:
        """Wait until a part ends that is not started again. Raises ChainStopped."""
        if self.settlement is None:
            await asyncio.Event().wait()
            return
        await self.settlement.chain.stopped.wait()
        self.settlement.chain.check()


@asynccontextmanager
async def run_network(
    data: Path, *, images: Sequence[Path] = (), providers: int = 3, settlement: bool = True
) -> AsyncIterator[GolemNetwork]:
    """Bring it up below ``data``, in order, and take it down again, in reverse.

    ``images`` are descriptors of what the providers can run. A folder that was used before goes on with its identities,
    its chain and its payments. Raises MissingTool, ConfigurationError, ChainError.
    """
    data = data.resolve()
    names = NAMES[:providers]
    built = [read_image(descriptor) for descriptor in images]
    async with AsyncExitStack() as stack:
        _make_private(data)
        taken = f"another Golem network runs in {data}"
        stack.enter_context(locked(data / "lock", taken=taken, remedy="Stop it first, or choose another folder."))
        await sandbox.probe(data)
        unpacking = asyncio.create_task(asyncio.to_thread(_unpack, data / "images", built))
        stack.push_async_callback(_settled, unpacking)
        terms_file = _write_terms(data / "providers.json", names)
        yagna = Yagna(data / "yagna", log=data / "logs" / "yagna.log", pid_file=data / "pids" / "yagna")
        chain = await _start_settlement(data, yagna.requestor(), stack) if settlement else None
        stack.push_async_callback(yagna.close)
        identities = await yagna.start(names, driver_environment(data / "yagna", chain))
        _write_requestor(data, yagna, identities.requestor)
        await unpacking
        running = {
            name: (identities.providers[name], _provider(data, yagna, name, identities.providers[name], terms_file))
            for name in names
        }
        processes = [process for _, process in running.values()]
        stack.push_async_callback(_close_all, processes)
        await asyncio.gather(*(process.start(within=PROVIDER_SECONDS) for process in processes))
        yield GolemNetwork(data, yagna, identities.requestor, running, chain)


def _make_private(data: Path) -> None:
    """Make the folder, or close it to others: it holds keys, and files to which guests may give any mode.

    Raises ConfigurationError.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if data.stat().st_mode & stat.S_ISVTX:
            raise ConfigurationError(f"the folder {data} is everybody's", remedy="Choose one of your own.")
        data.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {data} cannot be used: {error.strerror}", remedy="Choose another folder."
        ) from error


def _unpack(folder: Path, images: Sequence[BuiltImage]) -> None:
    store = ImageStore(folder)
    store.keep_only({image.sha3_224 for image in images})
    for image in images:
        store.add(image)


async def _settled(task: asyncio.Task[None]) -> None:
    """A thread cannot be stopped; what it does ends by itself."""
    await asyncio.gather(task, return_exceptions=True)


async def _close_all(processes: Sequence[Kept]) -> None:
    await asyncio.gather(*(process.close() for process in processes))


async def _start_settlement(data: Path, requestor: Identity, stack: AsyncExitStack) -> Settlement:
    """The payment chain with a full wallet, and yagna's memory in step with it."""
    settlement = Settlement(data / "settlement")
    stack.push_async_callback(settlement.close)
    new = await settlement.start()
    if new or remembers_more(data / "yagna", await settlement.nonce(requestor.node_id)):
        forget_payments(data / "yagna")
    await settlement.fund(requestor.node_id)
    return settlement


def _write_terms(file: Path, names: Sequence[str]) -> Path:
    """The file of terms, with the usual ones where a provider has none."""
    known = dict(read_terms(file)) if file.exists() else {}
    usual = {name: _USUAL_TERMS[number % len(_USUAL_TERMS)] for number, name in enumerate(names)}
    if usual.keys() - known.keys():
        write_terms(file, usual | known)
    return file


def _write_requestor(data: Path, yagna: Yagna, requestor: Identity) -> None:
    """What the requestor is given: its app key in a file, and the ``gftp`` that yapapi starts."""
    key = data / "requestor.key"
    key.touch(mode=0o600)
    key.write_text(requestor.app_key + "\n")
    program = data / "bin" / "gftp"
    program.parent.mkdir(exist_ok=True)
    bus, python = shlex.quote(yagna.bus_url), shlex.quote(sys.executable)
    program.write_text(f'#!/bin/sh\nGSB_URL={bus} exec {python} -P -m oracle.devnet.golem.gftp "$@"\n')
    program.chmod(0o755)


def _provider(data: Path, yagna: Yagna, name: str, identity: Identity, terms_file: Path) -> Kept:
    home = data / "providers" / name
    home.mkdir(parents=True, exist_ok=True)
    config = ProviderConfig(
        name=name,
        node_id=identity.node_id,
        api_url=yagna.api_url,
        bus_url=yagna.bus_url,
        subnet=SUBNET,
        platform=PLATFORM,
        terms_file=terms_file,
        images=data / "images",
        home=home,
    )
    config.write(home / "config.json")

    async def ready() -> bool:
        try:
            return (home / READY_FILE).read_text() == str(process.pid)
        except OSError:
            return False

    process = Kept(
        f"the provider {name}",
        [sys.executable, "-P", "-m", "oracle.devnet.golem.provider", str(home / "config.json")],
        log=data / "logs" / f"{name}.log",
        pid_file=data / "pids" / name,
        environment={**local_environment(), "YAGNA_APPKEY": identity.app_key},
        folder=home,
        ready=ready,
    )
    return process
