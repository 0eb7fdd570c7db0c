"""A Golem network on one machine: the yagna daemon, provider agents, and the chain that payments are settled on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from oracle.devnet.golem import sandbox
from oracle.devnet.golem.kept import Kept
from oracle.devnet.golem.pricing import Terms, read_terms, write_terms
from oracle.devnet.golem.provider import ProviderConfig
from oracle.devnet.golem.yagna import Identity, Yagna
from oracle.settings import local_environment

NETWORK: Final = "hoodi"
DRIVER: Final = "erc20"
PLATFORM: Final = f"{DRIVER}-{NETWORK}-tglm"
SUBNET: Final = "sibyl"
NAMES: Final = ("ada", "boole", "curie", "darwin", "euler", "fermat", "gauss", "hopper")

_USUAL_TERMS: Final = (
    Terms(per_second=0.00002, per_cpu_second=0.0001, speed=0.8),
    Terms(per_second=0.00003, per_cpu_second=0.00015, speed=0.9),
    Terms(per_second=0.00005, per_cpu_second=0.0002, start=0.0001, speed=1.0),
)


@dataclass(frozen=True, slots=True)
class GolemNetwork:
    """A running network, as its requestor sees it."""

    data: Path
    yagna: Yagna
    requestor: Identity
    providers: Mapping[str, tuple[Identity, Kept]]
    settlement_rpc: str | None = None
    settlement_token: str | None = None

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
            "settlement_rpc": self.settlement_rpc,
            "settlement_token": self.settlement_token,
            "identities_file": str(self.yagna.identities_file),
            "providers": [
                {"name": name, "node_id": identity.node_id, "pid": process.pid}
                for name, (identity, process) in self.providers.items()
            ],
        }


@asynccontextmanager
async def run_network(
    data: Path, *, images: Sequence[Path], providers: int, settlement: bool
) -> AsyncIterator[GolemNetwork]:
    """Bring it up below ``data``, and take it down again."""
    data = data.resolve()
    names = NAMES[:providers]
    data.mkdir(parents=True, exist_ok=True)
    await sandbox.probe(data)
    terms_file = _terms(data, names)
    async with AsyncExitStack() as stack:
        folder = data / "yagna"
        extra: dict[str, str] = {"YAGNA_DEV_SKIP_ALLOCATION_VALIDATION": "1"}
        yagna = Yagna(folder, log=data / "logs" / "yagna.log", pid_file=data / "pids" / "yagna", extra=extra)
        stack.push_async_callback(yagna.close)
        identities = await yagna.start(names)
        _write_requestor(data, yagna, identities.requestor)
        running: dict[str, tuple[Identity, Kept]] = {}
        for name in names:
            identity = identities.providers[name]
            process = _provider(data, yagna, name, identity, terms_file)
            stack.push_async_callback(process.close)
            await process.start(within=20)
            running[name] = (identity, process)
        yield GolemNetwork(data, yagna, identities.requestor, running)


def _terms(data: Path, names: Sequence[str]) -> Path:
    """The file of terms, written with the usual ones where a provider has none."""
    file = data / "providers.json"
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
    program.write_text(f'#!/bin/sh\nGSB_URL={bus} exec {python} -m oracle.devnet.golem.gftp "$@"\n')
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
        work=home / "work",
    )
    config.write(home / "config.json")
    return Kept(
        f"the provider {name}",
        [sys.executable, "-m", "oracle.devnet.golem.provider", str(home / "config.json")],
        log=data / "logs" / f"{name}.log",
        pid_file=data / "pids" / name,
        environment={**local_environment(), "YAGNA_APPKEY": identity.app_key},
        folder=home,
    )
