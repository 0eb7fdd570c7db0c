"""A development chain: anvil as a child process that never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from oracle.chain.rpc import Rpc
from oracle.devnet.chain_state import prepare_state
from oracle.devnet.child import die_with
from oracle.errors import ChainError, MissingTool, PortTaken, RpcUnavailable

DEFAULT_CHAIN_ID = 31337
MNEMONIC = "test test test test test test test test test test test junk"
"""The mnemonic that every development chain knows; its accounts hold play money and nothing else."""

ACCOUNTS = 10
_HOST = "127.0.0.1"
_READY_SECONDS = 20.0
_STOP_SECONDS = 5.0
_SAVE_SECONDS = 30.0  # a long chain takes its time to write itself down
_PORT_ATTEMPTS = 3
_PACKAGES_FOLDER = Path(__file__).parents[2] / "node_modules"


class ChainStopped(ChainError):
    """The development chain's process ended by itself."""


def find_anvil(packages: Path = _PACKAGES_FOLDER) -> Path:
    """The anvil binary: of the npm package in ``packages``, else on PATH. Raises MissingTool."""
    system = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}.get(platform.system(), platform.system())
    machine = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    # The package's own wrapper script would put a Node process between us and anvil.
    packaged = packages / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / "anvil"
    if packaged.is_file():
        return packaged
    found = shutil.which("anvil")
    if found is None:
        raise MissingTool(
            "anvil, the development chain, is not installed", remedy="run npm ci, or put anvil on the PATH"
        )
    return Path(found)


@cache
def dev_account(index: int) -> LocalAccount:
    """One of the well-known development accounts, 0 to 9 (BIP-44 path m/44'/60'/0'/0/index)."""
    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{index}")
    return account


class Anvil:
    """One anvil process on 127.0.0.1.

    ``port`` 0 picks a free one; ``block_time`` in seconds mines on a clock instead of at once; ``state`` is a file that
    is read at the start and written at the end, so that the chain survives a restart; one that cannot be read is set
    aside. Use ``start`` and ``close``, or
    ``async with``.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        chain_id: int = DEFAULT_CHAIN_ID,
        block_time: float | None = None,
        state: Path | None = None,
        binary: Path | None = None,
    ) -> None:
        self._wanted_port = port
        self._port = port
        self.chain_id = chain_id
        self._block_time = block_time
        self._state = state
        self._binary = binary
        self._process: asyncio.subprocess.Process | None = None
        self._rpc: Rpc | None = None
        self._watch: asyncio.Task[None] | None = None
        self._errors = b""
        self.stopped = asyncio.Event()
        """Set once the process has ended, for whatever reason."""
        self.broken_state: Path | None = None
        """Where the start put a state file that could not be read; the chain is then a new one."""

    async def __aenter__(self) -> Anvil:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Its JSON-RPC URL."""
        return f"http://{_HOST}:{self._port}"

    @property
    def accounts(self) -> Sequence[LocalAccount]:
        """The development accounts with their keys, each with 10,000 ether at genesis."""
        return [dev_account(index) for index in range(ACCOUNTS)]

    async def start(self) -> None:
        """Launch and wait until it answers.

        Raises MissingTool, PortTaken, and ChainError when it does not answer within 20 seconds or when its state file
        cannot be touched.
        """
        if self._state is not None:
            try:
                self._state.parent.mkdir(parents=True, exist_ok=True)
                self.broken_state = await asyncio.to_thread(prepare_state, self._state)
            except OSError as error:
                raise ChainError(
                    f"the chain's state {self._state} cannot be used: {error.strerror}",
                    remedy="See to the disk and to who owns that file, then start again.",
                ) from error
        for attempt in range(_PORT_ATTEMPTS):
            try:
                await self._launch()
                return
            except PortTaken:
                # A free port can be taken by someone else before anvil listens on it.
                if self._wanted_port or attempt == _PORT_ATTEMPTS - 1:
                    raise

    async def _launch(self) -> None:
        binary = self._binary or find_anvil()
        self._port = _claim_port(self._wanted_port)
        self._errors = b""
        self.stopped.clear()
        command = [str(binary), "--silent", "--host", _HOST, "--port", str(self._port)]
        command += ["--chain-id", str(self.chain_id), "--accounts", str(ACCOUNTS), "--mnemonic", MNEMONIC]
        if self._block_time is not None:
            command += ["--block-time", f"{self._block_time:g}"]
        if self._state is not None:
            command += ["--state", str(self._state)]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                # A Ctrl-C in the terminal goes to the whole group; the parent decides when the chain ends.
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        except OSError as error:
            raise MissingTool(
                f"anvil at {binary} cannot be run: {error.strerror}", remedy="run npm ci to install it again"
            ) from error
        self._watch = asyncio.create_task(self._watch_process(self._process))
        self._rpc = Rpc(self.url, timeout=30.0)
        try:
            await self._wait_until_ready()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the process, letting it write its state; killed after 5 seconds, or 30 when it has a
        state to write. Bounded, and safe to call twice."""
        if self._rpc is not None:
            await self._rpc.close()
            self._rpc = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(_SAVE_SECONDS if self._state else _STOP_SECONDS):
                    await self.stopped.wait()
            except TimeoutError:
                process.kill()
        if self._watch is not None:
            await self._watch
            self._watch = None

    def check(self) -> None:
        """Raise ChainStopped when the process has ended by itself."""
        if self.stopped.is_set() and self._process is not None:
            raise ChainStopped(
                f"the development chain ended with exit code {self._process.returncode}: {self._last_words()}",
                remedy="start it again; with a state file it goes on where it last saved",
            )

    async def call(self, method: str, *parameters: object) -> Any:
        """A raw JSON-RPC call, not retried. Raises RpcUnavailable, and ChainStopped when anvil has died."""
        self.check()
        if self._rpc is None:
            raise ChainError("the development chain was not started")
        try:
            return await self._rpc.call(method, parameters, retry=False)
        except RpcUnavailable:
            self.check()
            raise

    async def mine(self, blocks: int = 1) -> None:
        """Mine blocks now."""
        await self.call("anvil_mine", hex(blocks))

    async def increase_time(self, seconds: int) -> None:
        """Move the chain's clock forward and mine a block at the new time."""
        await self.call("evm_increaseTime", seconds)
        await self.mine()

    async def set_automine(self, enabled: bool) -> None:
        """Whether each transaction is mined at once."""
        await self.call("evm_setAutomine", enabled)

    async def reorg(self, depth: int, transactions: Sequence[tuple[bytes, int]] = ()) -> None:
        """Replace the last ``depth`` blocks; what they held vanishes.

        ``transactions`` are raw signed ones for the new branch, each with the index of its block, 0 to depth - 1.
        """
        placed = [["0x" + raw.hex(), block] for raw, block in transactions]
        await self.call("anvil_reorg", depth, placed)

    async def _wait_until_ready(self) -> None:
        if self._rpc is None:
            raise ChainError("the development chain was not started")
        waited = 0.0
        while waited < _READY_SECONDS:
            if self.stopped.is_set():
                code = self._process.returncode if self._process else None
                if "in use" in self._last_words():
                    raise _port_taken(self._port)
                raise ChainStopped(f"anvil ended at its start with exit code {code}: {self._last_words()}")
            try:
                await self._rpc.call("eth_chainId", retry=False)
            except RpcUnavailable:
                await asyncio.sleep(0.05)
                waited += 0.05
            else:
                return
        raise ChainError(
            f"anvil did not answer on {self.url} within {_READY_SECONDS:g} s", remedy="see whether the machine is busy"
        )

    async def _watch_process(self, process: asyncio.subprocess.Process) -> None:
        # Reading to the end keeps the pipe from filling up; only the last words matter.
        if process.stderr is not None:
            while chunk := await process.stderr.read(4096):
                self._errors = (self._errors + chunk)[-2000:]
        await process.wait()
        self.stopped.set()

    def _last_words(self) -> str:
        return self._errors.decode(errors="replace").strip() or "it said nothing"


def _claim_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise _port_taken(port) from error
        return int(probe.getsockname()[1])


def _port_taken(port: int) -> PortTaken:
    return PortTaken(
        f"port {port} on {_HOST} is in use, so the development chain cannot listen there",
        remedy="stop what uses it, or choose another port",
    )
