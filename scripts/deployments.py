"""What the Brownie scripts share: their arguments, accounts, the chain's identity, costs, and the record.

The record of a deployment is ``build/deployments/<chain id>.json``, a JSON object, the one place where the scripts, the
oracle and the page read of it:

    chainId        number of the chain
    coordinator    address of the InferenceCoordinator
    startBlock     block that holds it; logs are read from there
    owner          its owner; a hand-over changes it once it is accepted
    operators      accounts that may report at first, in rising order
    quorum         how many of them must sign a report at first
    cancelWindow   seconds in which a request can be cancelled
    models         what was published: [{"id", "name" (or null), "manifest" (CID), "price" (smallest part of the token,
                   as text), "token" (zero address for ether)}]
    abi            ABI of the coordinator
    verification   what a block explorer asks for: {"contract", "compiler", "input" (file beside the record), and
                   "constructorArguments" (hex)}

An account is a name in Brownie's keystore (``account=NAME``), or its key is in the environment:
``SIBYL_OWNER_KEY_FILE`` names a file with a hex key or an encrypted JSON keystore, ``SIBYL_OWNER_KEY`` is the key
itself. ``SIBYL_KEY_PASSWORD_FILE`` names the file with the password of a keystore; without it you are asked for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brownie import ZERO_ADDRESS, Contract, InferenceCoordinator, accounts, chain, network, web3
from brownie._config import CONFIG

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "deployments"
ETHER = ZERO_ADDRESS
GWEI = 10**9


@dataclass(frozen=True)
class Step:
    """A transaction that a script is about to send: gas at most, and wei that go with it."""

    title: str
    gas: int
    value: int = 0


# ---------------------------------------------------------------------------------------------------------------
# Arguments
# ---------------------------------------------------------------------------------------------------------------


def parse(texts: Iterable[str], *, keys: Iterable[str], words: Iterable[str] = ()) -> dict[str, Any]:
    """``key=value`` and bare words as a dictionary: None for a key that was not given, True or False for a word."""
    found: dict[str, Any] = {**dict.fromkeys(keys), **dict.fromkeys(words, False)}
    for text in texts:
        key, separator, value = text.partition("=")
        if separator and value and key in keys and found[key] is None:
            found[key] = value
        elif not separator and key in words:
            found[key] = True
        else:
            known = ", ".join([f"{k}=..." for k in keys] + list(words))
            raise SystemExit(f"{text!r} is not understood, or was given twice. Known are: {known}")
    return found


def read_address(text: str, role: str) -> str:
    """A checksum address, not the zero address."""
    if not web3.is_address(text) or int(text, 16) == 0:
        raise SystemExit(f"{role}: {text!r} is not an address. Give 0x and 40 hex digits.")
    return str(web3.to_checksum_address(text))


def read_number(text: str, role: str) -> int:
    """A whole number, not below zero."""
    if not text.isdecimal():
        raise SystemExit(f"{role}: {text!r} is not a whole number")
    return int(text)


# ---------------------------------------------------------------------------------------------------------------
# Chain and account
# ---------------------------------------------------------------------------------------------------------------


def is_development() -> bool:
    """Whether the chain is one that Brownie started and that ends with it."""
    return bool(CONFIG.network_type == "development")


def check_chain() -> int:
    """The chain id, once it is the one that the network's definition states."""
    actual = int(web3.eth.chain_id)
    expected = CONFIG.active_network.get("chainid")
    if expected is not None and int(expected) != actual:
        raise SystemExit(
            f"network {network.show_active()} has the chain id {expected}, but the RPC endpoint answers {actual}.\n"
            "Set SIBYL_RPC_URL to an endpoint of that network, or name another --network."
        )
    return actual


def load_account(name: str | None) -> Any:
    """The account that signs. Its key is never printed."""
    if name is not None:
        try:
            return accounts.load(name, password=_password())
        except FileNotFoundError:
            raise SystemExit(
                f"the keystore has no account {name!r}. Make or import one: scripts/brownie accounts new {name}"
            ) from None
        except ValueError:
            raise SystemExit(f"the password does not open the account {name!r}") from None
    if is_development():
        return accounts[0]
    file, key = os.environ.get("SIBYL_OWNER_KEY_FILE"), os.environ.get("SIBYL_OWNER_KEY")
    if file:
        try:
            key = Path(file).read_text().strip()
        except OSError as error:
            raise SystemExit(f"SIBYL_OWNER_KEY_FILE cannot be read: {error.strerror}") from None
        if key.startswith("{"):
            try:
                return accounts.load(str(Path(file).resolve()), password=_password())
            except ValueError:
                raise SystemExit("the password does not open the keystore of SIBYL_OWNER_KEY_FILE") from None
    if not key:
        raise SystemExit(
            "no account: give account=NAME of Brownie's keystore (scripts/brownie accounts list shows them),\n"
            "or set SIBYL_OWNER_KEY_FILE to a file with a hex key or an encrypted JSON keystore."
        )
    try:
        return accounts.add(key if key.startswith("0x") else "0x" + key)
    except Exception:  # noqa: BLE001 - whatever it says may hold the key
        raise SystemExit("the owner's key is not 64 hex digits") from None


def _password() -> str | None:
    file = os.environ.get("SIBYL_KEY_PASSWORD_FILE")
    try:
        return Path(file).read_text().rstrip("\r\n") if file else None
    except OSError as error:
        raise SystemExit(f"SIBYL_KEY_PASSWORD_FILE cannot be read: {error.strerror}") from None


def find_coordinator(address: str | None) -> Any:
    """The coordinator at an address, or else that of the record."""
    if address is None:
        record = read_record(check_chain())
        if record is None:
            raise SystemExit(
                f"nothing is recorded for chain {check_chain()}. Deploy first (scripts/brownie run deploy), or give\n"
                "coordinator=ADDRESS."
            )
        address = record["coordinator"]
    address = read_address(address, "coordinator")
    if not web3.eth.get_code(address):
        raise SystemExit(f"there is no contract at {address} on chain {check_chain()}")
    # Not InferenceCoordinator.at: on a live network the compiled Brownie 1.22 trips over its own list of contracts.
    return Contract.from_abi("InferenceCoordinator", address, InferenceCoordinator.abi, persist=False)


# ---------------------------------------------------------------------------------------------------------------
# Cost
# ---------------------------------------------------------------------------------------------------------------


def estimate(title: str, call: Any, *arguments: Any) -> int:
    """Gas that a transaction needs, or the reason why it would revert."""
    settings = CONFIG.active_network["settings"]
    # On a development chain Brownie would name a limit instead of the reason.
    kept, settings["reverting_tx_gas_limit"] = settings["reverting_tx_gas_limit"], False
    try:
        return int(call(*arguments))
    except ValueError as error:
        raise SystemExit(f"{title}: the chain refuses it. {error}") from None
    finally:
        settings["reverting_tx_gas_limit"] = kept


def announce(account: Any, steps: list[Step], *, dry_run: bool) -> None:
    """Shows what is about to be sent, what it costs at most, and the balance, which must be enough."""
    fee = 0 if is_development() else 2 * chain.base_fee + chain.priority_fee
    balance = int(account.balance())
    # Brownie sends a tenth more gas than was estimated.
    cost = sum(step.gas * 11 // 10 * fee + step.value for step in steps)
    say(f"chain    {check_chain()} ({network.show_active()})")
    say(f"account  {account.address}, balance {in_ether(balance)} ether")
    for step in steps:
        sends = f", sends {in_ether(step.value)} ether" if step.value else ""
        say(f"  {step.title}: about {step.gas:,} gas{sends}")
    say(f"cost     at most {in_ether(cost)} ether, at a fee of at most {fee / GWEI:.9g} gwei a gas")
    if balance < cost:
        raise SystemExit(
            f"the balance is {in_ether(cost - balance)} ether too low. Send ether to {account.address} first."
        )
    if dry_run:
        say("dry run: nothing was sent")


def in_ether(wei: int) -> str:
    """Wei as ether, without a long tail."""
    return f"{wei / 10**18:.9g}"


def say(text: str) -> None:
    """Prints a line."""
    print(text, flush=True)  # noqa: T201 - the scripts talk to a person


# ---------------------------------------------------------------------------------------------------------------
# Record
# ---------------------------------------------------------------------------------------------------------------


def record_path(chain_id: int) -> Path:
    """Where the record of a chain is."""
    return FOLDER / f"{chain_id}.json"


def read_record(chain_id: int) -> dict[str, Any] | None:
    """The record of a chain, None where nothing was deployed."""
    path = record_path(chain_id)
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SystemExit(f"{shown(path)} cannot be read: {error}. Mend it, or move it away.") from None
    if not isinstance(record, dict) or "coordinator" not in record:
        raise SystemExit(f"{shown(path)} is no record of a deployment. Move it away.")
    return record


def write_record(record: dict[str, Any]) -> None:
    """Replaces the record of its chain in one step."""
    path = record_path(record["chainId"])
    write(path, json.dumps(record, indent=2) + "\n")
    say(f"written  {shown(path)}")


def write(path: Path, text: str) -> None:
    """Replaces a file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)


def shown(path: Path) -> str:
    """A path as a person reads it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
