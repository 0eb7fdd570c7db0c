"""The scripts that stand between a fresh machine and the two commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A PATH with a shell's tools and neither Node nor Python."""
    for tool in ("bash", "dirname", "env", "sed"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    return str(tmp_path)


@pytest.mark.parametrize(("part", "missing"), [("node", "Node.js is missing"), ("python", "Python 3.11 is missing")])
def test_given_a_machine_without_a_tool_when_set_up_then_it_says_which_and_what_to_do(
    bare_path: str, part: str, missing: str
) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "setup", part],
        env={"PATH": bare_path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert missing in done.stderr
    assert "Install" in done.stderr


def solc(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", ROOT / "scripts" / "solc", *arguments],
        input=text, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT, env=dict(os.environ),
    )  # fmt: skip


def test_given_the_compiler_when_asked_its_version_then_it_is_the_pinned_one() -> None:
    assert solc("--version").stdout.splitlines()[-1].startswith("Version: 0.8.30+commit.")


def standard_json(source: str) -> str:
    return json.dumps(
        {
            "language": "Solidity",
            "sources": {"A.sol": {"content": source}},
            "settings": {"outputSelection": {"*": {"*": ["evm.bytecode.object"]}}},
        }
    )


def test_given_a_contract_when_compiled_through_standard_json_then_only_json_comes_back() -> None:
    done = solc("--standard-json", text=standard_json("pragma solidity 0.8.30; contract A { uint256 public x; }"))
    output = json.loads(done.stdout)
    assert output["contracts"]["A.sol"]["A"]["evm"]["bytecode"]["object"]


def test_given_an_import_outside_the_allowed_roots_when_compiled_then_it_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "Secret.sol"
    secret.write_text("contract Secret {}")
    source = f'pragma solidity 0.8.30; import "{secret}"; contract A {{}}'
    output = json.loads(solc("--standard-json", "--base-path", str(ROOT), text=standard_json(source)).stdout)
    assert any(error["severity"] == "error" for error in output["errors"])
    assert "Secret" not in json.dumps(output.get("contracts", {}))
