"""Deploys a coordinator with Brownie.

    scripts/brownie run deploy main [key=value ...] [dry-run] [again] --network NETWORK

    account=NAME          account of Brownie's keystore that pays (scripts/deployments.py says how else to give a key)
    owner=ADDRESS         owner of the coordinator; the account unless given
    operators=ADDRESS,..  accounts of the oracles that may report; needed, except on a development chain
    quorum=NUMBER         how many of them must sign a report; 1 unless given
    cancel-window=SECONDS time in which a request can be cancelled, and no oracle begins; 30 unless given

It shows what it will cost, deploys, and writes ``build/deployments/<chain id>.json`` (scripts/deployments.py says what
is in it) and, beside it, ``<chain id>.solc-input.json`` for the verification of the source. With ``dry-run`` it sends
and writes nothing. Where the record names a coordinator that lives on this chain it refuses, unless ``again`` is given;
the old record then moves aside.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from brownie import InferenceCoordinator, project, web3

from scripts.deployments import (
    FOLDER,
    ROOT,
    Step,
    announce,
    check_chain,
    estimate,
    is_development,
    load_account,
    parse,
    read_address,
    read_number,
    read_record,
    record_path,
    say,
    shown,
    write,
    write_record,
)

KEYS = ("account", "owner", "operators", "quorum", "cancel-window")
SOURCE = "contracts/InferenceCoordinator.sol"
_IMPORT = re.compile(r'^import\s[^;]*?"([^"]+)"\s*;', re.MULTILINE)


def main(*texts: str) -> dict[str, Any] | None:
    """Entry point of ``brownie run``. The record that was written, None after a dry run."""
    given = parse(texts, keys=KEYS, words=("dry-run", "again"))
    chain_id = check_chain()
    account = load_account(given["account"])
    owner = read_address(given["owner"] or account.address, "owner")
    operators = read_operators(given["operators"], account)
    quorum = read_number(given["quorum"] or "1", "quorum")
    window = read_number(given["cancel-window"] or "30", "cancel-window")
    check_nothing_is_lost(chain_id, again=given["again"])

    constructor = (owner, operators, quorum, window)
    call_data = InferenceCoordinator.deploy.encode_input(*constructor)
    gas = estimate("deploying", account.estimate_gas, None, 0, None, call_data)
    say(f"owner {owner}, operators {', '.join(operators)}, quorum {quorum}, cancel window {window} s")
    announce(account, [Step("deploy InferenceCoordinator", gas)], dry_run=given["dry-run"])
    if given["dry-run"]:
        return None
    say(f"address  {account.get_deployment_address()}, once it is mined")

    # Not account.deploy: on a live network the compiled Brownie 1.22 trips over its own list of contracts.
    receipt = account.transfer(data=call_data)
    move_aside(chain_id)
    source_input = FOLDER / f"{chain_id}.solc-input.json"
    write(source_input, json.dumps(standard_input(), indent=1) + "\n")
    record = {
        "chainId": chain_id,
        "coordinator": str(receipt.contract_address),
        "startBlock": receipt.block_number,
        "owner": owner,
        "operators": operators,
        "quorum": quorum,
        "cancelWindow": window,
        "models": [],
        "abi": InferenceCoordinator.abi,
        "verification": {
            "contract": f"{SOURCE}:InferenceCoordinator",
            "compiler": f"v{InferenceCoordinator._build['compiler']['version']}",
            "input": source_input.name,
            "constructorArguments": "0x" + call_data[len(InferenceCoordinator.bytecode) :].removeprefix("0x"),
        },
    }
    write_record(record)
    say(f"coordinator {record['coordinator']} in block {record['startBlock']}")
    return record


def read_operators(text: str | None, account: Any) -> list[str]:
    """The operators in the order that the contract wants."""
    if text is None:
        if not is_development():
            raise SystemExit(
                "operators=ADDRESS,... is missing: the accounts of the oracles, whose keys are used for nothing else"
            )
        text = account.address
    operators = {read_address(part.strip(), "operators") for part in text.split(",")}
    return sorted(operators, key=lambda address: int(address, 16))


def check_nothing_is_lost(chain_id: int, *, again: bool) -> None:
    """Refuses to replace the record of a coordinator that is alive."""
    record = read_record(chain_id)
    if record is None or again or is_development():
        return
    if web3.eth.get_code(web3.to_checksum_address(record["coordinator"])):
        raise SystemExit(
            f"{shown(record_path(chain_id))} names the coordinator {record['coordinator']}, which is on this chain.\n"
            "Add the word again to deploy another one; the record of this one then moves aside."
        )


def move_aside(chain_id: int) -> None:
    """Keeps the record of the coordinator before, where it is not of a chain that ended."""
    record = read_record(chain_id)
    if record is not None and not is_development():
        kept = FOLDER / f"{chain_id}.{record['coordinator']}.json"
        record_path(chain_id).rename(kept)
        say(f"kept     {shown(kept)}")


def standard_input() -> dict[str, Any]:
    """The standard JSON that gives exactly the deployed bytes, metadata included, with the compiler of the record."""
    config = project.get_loaded_projects()[0]._compiler_config["solc"]
    remappings = dict(text.split("=") for text in config["remappings"])
    sources: dict[str, dict[str, str]] = {}
    waiting = [SOURCE]
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        content = (ROOT / name).read_text()
        sources[name] = {"content": content}
        waiting += [resolve(imported, name, remappings) for imported in _IMPORT.findall(content)]
    return {
        "language": "Solidity",
        "sources": dict(sorted(sources.items())),
        "settings": {
            "evmVersion": config["evm_version"],
            "optimizer": config["optimizer"],
            "outputSelection": {"*": {"*": ["abi", "evm.bytecode", "evm.deployedBytecode", "metadata"]}},
            "remappings": [f"{prefix}={target}" for prefix, target in remappings.items()],
            "viaIR": config["viaIR"],
        },
    }


def resolve(imported: str, importer: str, remappings: dict[str, str]) -> str:
    """The source that an import names."""
    if imported.startswith("."):
        return posixpath.normpath(posixpath.join(Path(importer).parent.as_posix(), imported))
    for prefix, target in remappings.items():
        if imported.startswith(prefix):
            return target + imported[len(prefix) :]
    return imported
