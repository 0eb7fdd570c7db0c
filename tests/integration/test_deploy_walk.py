"""docs/deploy.md, walked: its commands as they stand, on an anvil that answers as a testnet."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from oracle.devnet.chain import Anvil, dev_account

ROOT = Path(__file__).parents[2]
SEPOLIA = 11155111
OWNER, OPERATOR, NEW_OWNER = dev_account(0), dev_account(1), dev_account(2)
PASSWORD = "correct horse"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),  # the contracts are compiled anew, and each command starts Brownie
    pytest.mark.skipif(
        not (ROOT / ".venv-brownie" / "bin" / "brownie").exists(),
        reason="Brownie's environment is missing: scripts/setup brownie",
    ),
]


def documented_commands() -> list[str]:
    """Every command of the ``sh`` blocks, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
async def sepolia() -> AsyncIterator[Anvil]:
    async with Anvil(chain_id=SEPOLIA) as chain:
        yield chain


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A checkout of its own, so that no record of a real deployment is touched; without the contracts of the tests."""
    # Brownie imports a script by its whole path with dots for slashes: no folder above it may have a dot in its name.
    above = "/var/tmp" if "." in str(tmp_path) else str(tmp_path)
    with tempfile.TemporaryDirectory(prefix="sibyl-walk-", dir=above) as name:
        tree = Path(name)
        _plant(tree)
        yield tree


def _plant(tree: Path) -> None:
    for name in ("scripts", "contracts"):
        ignored = shutil.ignore_patterns("mocks", "examples", "__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    shutil.copy(ROOT / "brownie-config.yaml", tree)
    (tree / "tests" / "contracts").mkdir(parents=True)  # Brownie wants the folder
    # The compiler reads no file whose real place is outside of the tree.
    shutil.copytree(ROOT / "node_modules" / "@openzeppelin", tree / "node_modules" / "@openzeppelin")
    linked = "node_modules/solc", "node_modules/@foundry-rs", "oracle", "provider_images", ".venv", ".venv-brownie"
    for name in linked:
        (tree / name).symlink_to(ROOT / name)


class Walker:
    """Runs commands in the tree, as a person whose environment the page asks for."""

    def __init__(self, tree: Path, rpc_url: str) -> None:
        self.tree = tree
        keys = tree / "keys"
        keys.mkdir()
        (keys / "owner").write_text(OWNER.key.hex())
        (keys / "next").write_text(json.dumps(Account.encrypt(NEW_OWNER.key, PASSWORD, kdf="pbkdf2", iterations=1000)))
        (keys / "password").write_text(PASSWORD + "\n")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("SIBYL_", "BROWNIE_"))}
        self.environment = {
            **plain,
            "SIBYL_RPC_URL": rpc_url,
            "SIBYL_OWNER_KEY_FILE": str(keys / "owner"),
            "SIBYL_KEY_PASSWORD_FILE": str(keys / "password"),
            "OPERATOR": OPERATOR.address,
            "NEW_OWNER": NEW_OWNER.address,
            "NEW_OWNER_KEY_FILE": str(keys / "next"),
        }
        self.shown = ""

    async def run(self, command: str, **environment: str) -> tuple[int, str]:
        """Exit code and all that was printed."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", command,
            cwd=self.tree, env={**self.environment, **environment}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        self.shown += output.decode()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def succeed(self, command: str) -> str:
        """All that was printed."""
        code, output = await self.run(command)
        assert code == 0, f"{command}\n{output}"
        assert "Traceback" not in output, output
        return output

    @property
    def record(self) -> dict[str, Any] | None:
        """The record of the deployment, None before there is one."""
        file = self.tree / "build" / "deployments" / f"{SEPOLIA}.json"
        return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture
def walker(tree: Path, sepolia: Anvil) -> Walker:
    return Walker(tree, sepolia.url)


async def test_given_the_page_when_its_commands_are_run_then_a_coordinator_is_deployed_served_and_handed_over(
    walker: Walker, sepolia: Anvil
) -> None:
    async def head() -> int:
        return int(await sepolia.call("eth_blockNumber"), 16)

    practice, look, deploy, look_at_models, publish, look_at_offer, offer, accept = documented_commands()

    await walker.succeed(practice)
    assert await head() == 0

    shown = await walker.succeed(look)
    assert re.search(r"deploy InferenceCoordinator: about [\d,]+ gas", shown)
    assert re.search(r"cost +at most 0\.\d+ ether", shown)
    assert "balance 10000 ether" in shown
    assert (walker.record, await head()) == (None, 0)

    await walker.succeed(deploy)
    record = walker.record
    assert record is not None
    assert (record["chainId"], record["startBlock"], record["owner"]) == (SEPOLIA, 1, OWNER.address)
    assert (record["operators"], record["quorum"], record["models"]) == ([OPERATOR.address], 1, [])
    assert await sepolia.call("eth_getCode", record["coordinator"], "latest") != "0x"
    assert (walker.tree / "build" / "deployments" / record["verification"]["input"]).is_file()

    await walker.succeed(look_at_models)
    assert walker.record == record
    await walker.succeed(publish)
    assert walker.record is not None
    (model,) = walker.record["models"]
    assert (model["id"], model["name"], model["price"]) == (1, "mnist-cnn", str(10**14))
    await walker.succeed(publish)  # as after an interruption
    assert walker.record["models"] == [model]

    await walker.succeed(look_at_offer)
    assert await head() == 2
    await walker.succeed(offer)
    assert walker.record["owner"] == OWNER.address
    await walker.succeed(accept)
    assert walker.record["owner"] == NEW_OWNER.address

    for key in (OWNER, NEW_OWNER):
        assert key.key.hex().removeprefix("0x") not in walker.shown
    assert PASSWORD not in walker.shown

    for command, environment, complaint in (
        (deploy, {}, "Add the word again to deploy another one"),
        (deploy.replace("sepolia", "hoodi"), {}, "the RPC endpoint answers 11155111"),
        (deploy, {"SIBYL_RPC_URL": ""}, "SIBYL_RPC_URL is not set"),
    ):
        code, shown = await walker.run(command, **environment)
        assert code == 1
        assert complaint in shown
        assert "Traceback" not in shown

    await sepolia.call("anvil_setBalance", OWNER.address, hex(10**12))
    code, shown = await walker.run(deploy.replace(" --network", " again --network"))
    assert code == 1
    assert f"too low. Send ether to {OWNER.address} first." in shown
