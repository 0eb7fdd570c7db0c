"""Publishes models on a deployed coordinator with Brownie.

    scripts/brownie run publish_models main price=PRICE [key=value ...] [dry-run] --network NETWORK

    price=PRICE           price of one prediction, in ether or in whole tokens: 0.0001
    models=MODEL,..       names of built-in models, paths to manifests, or CIDs of manifests; every built-in one unless
                          given
    account=NAME          account of Brownie's keystore that pays and becomes the publisher
    payout=ADDRESS        account that may take what the models earn; the publisher unless given
    token=ADDRESS         ERC-20 that the price is in; ether unless given
    coordinator=ADDRESS   the coordinator; that of build/deployments/<chain id>.json unless given

Manifest and weights must be pinned on an IPFS node under the very CIDs that it shows, or no oracle can serve the model.
A model that this account published there before, in the same token, is left as it is. The owner publishes for nothing,
everybody else for the coordinator's fee. With ``dry-run`` it sends and writes nothing.
"""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal, InvalidOperation
from typing import Any

from brownie import Contract
from brownie.exceptions import ContractNotFound, VirtualMachineError

from scripts.deployments import (
    ETHER,
    ROOT,
    Step,
    announce,
    check_chain,
    estimate,
    find_coordinator,
    load_account,
    parse,
    read_address,
    read_record,
    say,
    write_record,
)

KEYS = ("account", "price", "models", "payout", "token", "coordinator")


def main(*texts: str) -> list[dict[str, Any]]:
    """Entry point of ``brownie run``. The models that were published, in the shape of the record."""
    given = parse(texts, keys=KEYS, words=("dry-run",))
    coordinator = find_coordinator(given["coordinator"])
    account = load_account(given["account"])
    token = ETHER if given["token"] is None else read_address(given["token"], "token")
    payout = read_address(given["payout"] or account.address, "payout")
    if given["price"] is None:
        raise SystemExit("price=PRICE is missing: what one prediction costs, in ether or in whole tokens")
    price = read_price(given["price"], 18 if token == ETHER else read_decimals(token))
    fee = 0 if account == coordinator.owner() else int(coordinator.publishingFee())

    there = published_by(coordinator, account, token)
    models, steps = [], []
    for model in describe(given["models"]):
        if model["bytes"] in there:
            say(f"{model['manifest']} ({model['name']}) is published as model {there[model['bytes']]}")
            continue
        models.append(model)
        arguments = (bytes.fromhex(model["bytes"]), price, token, payout, {"from": account, "value": fee})
        title = f"publish {model['name'] or 'model'} {model['manifest']}"
        steps.append(Step(title, estimate(title, coordinator.publishModel.estimate_gas, *arguments), fee))
    if not models:
        say("nothing to publish")
        return []
    announce(account, steps, dry_run=given["dry-run"])
    if given["dry-run"]:
        return []

    published = []
    for model in models:
        arguments = (bytes.fromhex(model["bytes"]), price, token, payout, {"from": account, "value": fee})
        transaction = coordinator.publishModel(*arguments)
        entry = {
            "id": int(transaction.events["ModelPublished"]["modelId"]),
            "name": model["name"],
            "manifest": model["manifest"],
            "price": str(price),
            "token": token,
        }
        published.append(entry)
        say(f"model {entry['id']} is {model['name'] or model['manifest']}")
        record = read_record(check_chain())
        if record is not None and record["coordinator"] == coordinator.address:
            write_record({**record, "models": [*record["models"], entry]})
    return published


def read_decimals(token: str) -> int:
    """Decimals of an ERC-20."""
    output = [{"name": "", "type": "uint8"}]
    function = {"type": "function", "name": "decimals", "inputs": [], "outputs": output, "stateMutability": "view"}
    try:
        return int(Contract.from_abi("Token", token, [function], persist=False).decimals())
    except (ValueError, AttributeError, VirtualMachineError, ContractNotFound):
        raise SystemExit(f"token: {token} is no ERC-20 that states its decimals") from None


def read_price(text: str, decimals: int) -> int:
    """A price in the smallest part of its token."""
    try:
        price = Decimal(text).scaleb(decimals)
    except InvalidOperation:
        raise SystemExit(f"price: {text!r} is not a number such as 0.0001") from None
    if not price.is_finite() or price < 0 or price != int(price):
        raise SystemExit(f"price: {text!r} is not a positive number with at most {decimals} decimals")
    return int(price)


def describe(models: str | None) -> list[dict[str, Any]]:
    """Name and CID of each model, by the project's own code."""
    python = ROOT / ".venv" / "bin" / "python"
    if not python.exists():
        raise SystemExit("the environment that computes CIDs is missing. Run: make setup")
    done = subprocess.run(
        [python, ROOT / "scripts" / "model_cids.py", *(models.split(",") if models else [])],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip())
    described: list[dict[str, Any]] = json.loads(done.stdout)
    return described


def published_by(coordinator: Any, account: Any, token: str) -> dict[str, int]:
    """Manifest (hex) and id of the active models that this account published in this token."""
    there = {}
    for number in range(1, int(coordinator.modelCount()) + 1):
        model = coordinator.modelOf(number)
        if model["publisher"] == account and model["token"] == token and model["active"]:
            there[bytes(model["manifestCid"]).hex()] = number
    return there
