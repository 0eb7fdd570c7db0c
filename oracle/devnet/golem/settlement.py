"""The chain that Golem's payments are settled on: an anvil of its own with the payment network's chain id.

Apart from the chain of the coordinator, so that no wallet is ever asked to sign for a public chain id. It keeps its
state between runs; when it has lost some, what yagna remembers of payments is dropped with it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from eth_abi.abi import encode
from eth_hash.auto import keccak

from oracle.chain.codec import artifact, hexed, quantity
from oracle.chain.rpc import Rpc
from oracle.chain.transactions import TransactionSender
from oracle.devnet.chain import Anvil, dev_account
from oracle.errors import ConfigurationError

NETWORK: Final = "hoodi"
DRIVER: Final = "erc20"
PLATFORM: Final = f"{DRIVER}-{NETWORK}-tglm"
CHAIN_ID: Final = 560048  # of hoodi; yagna knows no other number for that name
ETHER: Final = 10**18
WALLET_ETHER: Final = 1 * ETHER
WALLET_GLM: Final = 1000 * ETHER
NOWHERE: Final = "http://127.0.0.1:1"
"""An endpoint where nobody listens."""

_DEPLOYER = 0  # development account; its first transaction makes the token, so the address is always the same
_CONFIG = "config-payments.toml"
_PAYMENT_DATABASES = ("erc20.sqlite", "payment.db", "market.db", "activity.db")

_log = logging.getLogger(__name__)


class Settlement:
    """The chain and the token on it. ``folder`` keeps its state."""

    def __init__(self, folder: Path) -> None:
        self._state = folder / "chain.json"
        self._note = folder / "token.json"
        self.chain = Anvil(chain_id=CHAIN_ID, state=self._state)
        self.token = ""

    async def start(self) -> bool:
        """Launch, with the token deployed; whether the chain is a new one. Raises MissingTool, ChainError."""
        await self.chain.start()
        if self.chain.broken_state is not None:
            _log.warning("the payment chain was cut off in a save; it is kept as %s", self.chain.broken_state)
        rpc = Rpc(self.chain.url)
        try:
            known = self._known_token()
            if known is not None and await rpc.call("eth_getCode", [known, "latest"]) != "0x":
                self.token = known
                return False
            deployer = TransactionSender(rpc, dev_account(_DEPLOYER), CHAIN_ID)
            mined = await deployer.transact(None, artifact("DevnetGlm").bytecode)
        finally:
            await rpc.close()
        if mined.contract is None:
            raise ConfigurationError("the payment chain made no token")
        self.token = mined.contract
        self._note.write_text(json.dumps({"token": self.token}) + "\n", encoding="utf-8")
        return True

    async def close(self) -> None:
        """End the chain; it saves itself."""
        await self.chain.close()

    async def fund(self, account: str, *, glm: int = WALLET_GLM, ether: int = WALLET_ETHER) -> None:
        """Fill an account up to so much of each, in the smallest part. What it has above stays."""
        rpc = Rpc(self.chain.url)
        try:
            deployer = TransactionSender(rpc, dev_account(_DEPLOYER), CHAIN_ID)
            if (missing := ether - quantity(await rpc.call("eth_getBalance", [account, "latest"]))) > 0:
                await deployer.transact(account, b"", value=missing)
            if (missing := glm - await self.balance(account)) > 0:
                await deployer.transact(self.token, _call("mint(address,uint256)", account, missing))
        finally:
            await rpc.close()

    async def balance(self, account: str) -> int:
        """GLM of an account in its smallest part, 10**-18."""
        return await glm_balance(self.chain.url, self.token, account)

    async def nonce(self, account: str) -> int:
        """How many transactions the chain has of an account."""
        return quantity(await self.chain.call("eth_getTransactionCount", account, "latest"))

    def _known_token(self) -> str | None:
        try:
            return str(json.loads(self._note.read_text(encoding="utf-8"))["token"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


async def glm_balance(rpc_url: str, token: str, account: str) -> int:
    """GLM of an account in its smallest part, 10**-18. Raises RpcUnavailable."""
    rpc = Rpc(rpc_url)
    try:
        call = {"to": token, "data": hexed(_call("balanceOf(address)", account))}
        return int(str(await rpc.call("eth_call", [call, "latest"])), 16)
    finally:
        await rpc.close()


def driver_environment(folder: Path, settlement: Settlement | None) -> Mapping[str, str]:
    """Write the payment driver's configuration into yagna's ``folder``; the environment variables that go with it."""
    folder.mkdir(parents=True, exist_ok=True)
    url, token = (settlement.chain.url, settlement.token) if settlement else (NOWHERE, "0x" + "00" * 19 + "01")
    (folder / _CONFIG).write_text(_DRIVER.format(network=NETWORK, chain_id=CHAIN_ID, token=token, url=url))
    # Less than 5 s makes the daemon panic.
    paces = {"PAYMENT_CYCLE_DEFAULT_INTERVAL": "5s", "PAYMENT_CYCLE_DEFAULT_EXTRA_PAY_TIME": "5s"}
    return paces if settlement else {**paces, "YAGNA_DEV_SKIP_ALLOCATION_VALIDATION": "1"}


def remembers_more(folder: Path, nonce: int) -> bool:
    """Whether yagna has seen transactions confirmed that the chain, whose next nonce is ``nonce``, does not have."""
    database = folder / "erc20.sqlite"
    if not database.exists():
        return False
    with contextlib.closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        (last,) = connection.execute(
            "SELECT max(nonce) FROM tx WHERE chain_id = ? AND confirm_date IS NOT NULL", (CHAIN_ID,)
        ).fetchone()
    return last is not None and int(last) >= nonce


def forget_payments(folder: Path) -> None:
    """Drop what yagna remembers of payments, agreements and activities; identities and keys stay."""
    for name in _PAYMENT_DATABASES:
        for file in folder.glob(f"{name}*"):
            file.unlink()


def _call(signature: str, *arguments: object) -> bytes:
    types = signature.partition("(")[2].rstrip(")").split(",")
    return bytes(keccak(signature.encode())[:4]) + encode(types, arguments)


_DRIVER = """\
# Written at every start. It replaces the driver's built-in configuration.
[engine]
process-interval = 1
process-interval-after-send = 1
process-interval-after-error = 2
process-interval-after-no-gas-or-token-start = 2
process-interval-after-no-gas-or-token-max = 10
process-interval-after-no-gas-or-token-increase = 1.5
report-alive-interval = 1
gather-interval = 1
gather-at-start = true
automatic-recover = false
ignore-deadlines = false

# No multi-transfer contract: with one, only the first of several payees of this daemon would settle.
[chain.{network}]
chain-name = "{network}"
chain-id = {chain_id}
currency-symbol = "tETH"
priority-fee = 0.000001
max-fee-per-gas = 20.0
transaction-timeout = 100
token = {{ address = "{token}", symbol = "tGLM" }}
confirmation-blocks = 0

[[chain.{network}.rpc-endpoints]]
names = "local"
endpoints = "{url}"
priority = 0
max-timeout-ms = 5000
verify-interval-secs = 60
allowed-head-behind-secs = -1
"""
