"""The yagna daemon, run for this machine alone: its identities and app keys, its environment, its start and end."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from eth_account import Account

from oracle.devnet.golem.kept import Kept
from oracle.devnet.golem.rest import Rest, RestRefused, RestUnavailable
from oracle.errors import ConfigurationError, MissingTool

READY_SECONDS: Final = 30.0
_HOST = "127.0.0.1"
_BUS = "gsb.sock"
# A socket's path has 107 bytes at most, and a data folder may lie deep; so it is named from where yagna runs.
_OWN_BUS = f"unix:/proc/self/cwd/{_BUS}"
_CLI_SECONDS = 15.0
_CLOSED_PORT = "127.0.0.1:1"  # where nobody listens: what must not be reached


@dataclass(frozen=True, slots=True)
class Identity:
    """One node of the network: its address and the key that makes REST calls in its name."""

    node_id: str
    app_key: str


@dataclass(frozen=True, slots=True)
class Identities:
    """Who is who in a data directory. ``requestor_secret`` is the private key, hex, of the daemon's own identity."""

    requestor_secret: str
    requestor: Identity
    providers: Mapping[str, Identity]


def find_yagna() -> Path:
    """The yagna executable: beside this Python, else on PATH. Raises MissingTool."""
    beside = Path(sys.executable).with_name("yagna")
    if beside.is_file():
        return beside
    found = shutil.which("yagna")
    if found is None:
        raise MissingTool(
            "yagna, the Golem daemon, is not installed (its wheel, golem-node, is for Linux on x86-64)",
            remedy="Run `make setup` on such a machine, or use the local backend.",
        )
    return Path(found)


class Yagna:
    """The daemon of one data ``folder``."""

    def __init__(self, folder: Path, *, log: Path, pid_file: Path) -> None:
        self._folder, self._log, self._pid_file = folder, log, pid_file
        self._extra: Mapping[str, str] = {}
        self._binary = find_yagna()
        self._known = folder / "identities.json"
        self._process: Kept | None = None
        self.api_url = ""

    @property
    def bus_url(self) -> str:
        """Where its service bus listens."""
        return f"unix:{self._folder / _BUS}"

    @property
    def identities_file(self) -> Path:
        """Keys of everybody in the network, readable by the owner alone."""
        return self._known

    def requestor(self) -> Identity:
        """The daemon's own identity, made on first use."""
        return self._read().requestor

    async def start(self, providers: Sequence[str], extra: Mapping[str, str]) -> Identities:
        """Start it with an identity for each provider name; ``extra`` are environment variables of the payment driver.

        Raises ConfigurationError, MissingTool.
        """
        self._extra = extra
        identities = self._read()
        missing = [name for name in providers if name not in identities.providers]
        await self._launch()
        if missing:
            for name in missing:
                identities = await self._add_provider(identities, name)
            # Its network layer takes only those for local whom it knew when it started.
            await self._kept().kill()
            await self._launch()
        return identities

    async def close(self) -> None:
        """End it. Safe to call twice."""
        if self._process is not None:
            await self._process.close()

    def command_environment(self) -> Mapping[str, str]:
        """What the command line of yagna needs to reach this daemon; run it in the data folder."""
        return {"YAGNA_DATADIR": str(self._folder), "GSB_URL": _OWN_BUS, "HOME": str(self._folder)}

    def _kept(self) -> Kept:
        if self._process is None:
            raise ConfigurationError("yagna was not started")
        return self._process

    async def _launch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / _BUS).unlink(missing_ok=True)
        identities = self._read()
        self.api_url = f"http://{_HOST}:{_free_port()}"

        async def ready() -> bool:
            rest = Rest(self.api_url, identities.requestor.app_key)
            try:
                await rest.get("/me")
            except (RestUnavailable, RestRefused):
                return False
            finally:
                await rest.close()
            return True

        self._process = Kept(
            "yagna",
            [str(self._binary), "service", "run", "--disable-metrics-push"],
            log=self._log,
            pid_file=self._pid_file,
            environment=self._environment(identities),
            folder=self._folder,
            ready=ready,
            stop=signal.SIGINT,
        )
        await self._process.start(within=READY_SECONDS)

    def _environment(self, identities: Identities) -> Mapping[str, str]:
        return {
            **self.command_environment(),
            "PATH": os.defpath,
            "RUST_LOG": "info,actix_web::middleware::logger=warn,ya_payment::cycle=warn,ya_relay_client=error",
            "YAGNA_API_URL": self.api_url,
            "YAGNA_LOG_DIR": "",  # what it writes on its output is the log
            "YAGNA_AUTOCONF_ID_SECRET": identities.requestor_secret,
            "YAGNA_AUTOCONF_APPKEY": identities.requestor.app_key,
            "YA_CONSENT_PATH": str(self._folder / "consent.json"),
            # Offline: no relay, no look-up of new versions.
            "YA_NET_RELAY_HOST": _CLOSED_PORT,
            "YA_NET_BIND_URL": f"udp://{_HOST}:0",
            "YA_NET_SESSION_REQUEST_TIMEOUT": "100ms",  # the start waits for it once, 3 s by default
            "HTTPS_PROXY": f"http://{_CLOSED_PORT}",
            **self._extra,
        }

    async def _add_provider(self, identities: Identities, name: str) -> Identities:
        created = json.loads(await self._command("id", "create", "--no-password", name, "--json"))
        node_id = str(created["Ok"]["nodeId"])
        app_key = str(json.loads(await self._command("app-key", "create", name, "--id", name, "--json")))
        providers = {**identities.providers, name: Identity(node_id, app_key)}
        changed = Identities(identities.requestor_secret, identities.requestor, providers)
        self._write(changed)
        return changed

    async def _command(self, *arguments: str) -> str:
        """Raises ConfigurationError when yagna refuses."""
        process = await asyncio.create_subprocess_exec(
            *(str(self._binary), *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.command_environment(),
            cwd=self._folder,
        )
        try:
            async with asyncio.timeout(_CLI_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise ConfigurationError(f"yagna {arguments[0]} did not end within {_CLI_SECONDS:g} s") from None
        if process.returncode:
            words = err.decode(errors="replace").strip()[-300:]
            raise ConfigurationError(f"yagna {arguments[0]} {arguments[1]} failed: {words}")
        return out.decode()

    def _read(self) -> Identities:
        try:
            document = json.loads(self._known.read_text(encoding="utf-8"))
            return Identities(
                document["requestor_secret"],
                Identity(**document["requestor"]),
                {name: Identity(**fields) for name, fields in document["providers"].items()},
            )
        except FileNotFoundError:
            secret = secrets.token_hex(32)
            address = str(Account.from_key(secret).address).lower()
            made = Identities(secret, Identity(address, secrets.token_hex(16)), {})
            self._write(made)
            return made
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{self._known} cannot be used: {error}", remedy=f"Delete {self._folder} to begin anew."
            ) from None

    def _write(self, identities: Identities) -> None:
        self._known.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._known.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(identities), file, indent=2)
        fresh.replace(self._known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
