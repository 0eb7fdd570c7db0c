"""Deploys a coordinator with Brownie.

    scripts/brownie run deploy --network NETWORK
    scripts/brownie run deploy main ACCOUNT OPERATOR MANIFEST=PRICE ... --network NETWORK

ACCOUNT is a name in Brownie's keystore (``scripts/brownie accounts new NAME``); it pays, and becomes the owner and the
publisher of the models. OPERATOR is the account of the oracle (default: ACCOUNT). Each MANIFEST is the base32 CID of a
model's manifest, PRICE its price in ether. The addresses are written to ``build/deployments/<chain id>.json``. On the
``development`` network the first unlocked account is taken.
"""

import base64
import json
from decimal import Decimal
from pathlib import Path

from brownie import InferenceCoordinator, accounts, chain, network

ROOT = Path(__file__).resolve().parents[1]


def main(account_name=None, operator=None, *models):
    """Entry point of ``brownie run``."""
    if account_name is None:
        if network.show_active() != "development":
            raise SystemExit("Name an account of the keystore; scripts/brownie accounts list shows them.")
        account = accounts[0]
    else:
        account = accounts.load(account_name)
    deploy(account, operator or account.address, models, ROOT / "build" / "deployments")


def deploy(account, operator, models, folder):
    """Deploys, sets the operator, publishes the models, writes the record and returns it."""
    manifests = [parse_model(text) for text in models]
    coordinator = account.deploy(InferenceCoordinator, account)
    coordinator.setOperator(operator, True, {"from": account})
    record = {
        "chainId": chain.id,
        "coordinator": coordinator.address,
        "block": coordinator.tx.block_number,
        "owner": account.address,
        "operator": operator,
        "models": [],
    }
    for text, manifest, price in manifests:
        tx = coordinator.publishModel(manifest, price, account, {"from": account})
        record["models"].append({"id": tx.events["ModelPublished"]["modelId"], "manifest": text, "price": price})

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{chain.id}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    print(f"coordinator {coordinator.address} on chain {chain.id}, written to {shown}")
    return record


def parse_model(text):
    """``MANIFEST=PRICE`` as the CID's text, its bytes, and the price in wei."""
    cid, separator, price = text.partition("=")
    if not separator:
        raise SystemExit(f"{text!r} is not MANIFEST=PRICE")
    return cid, manifest_bytes(cid), int(Decimal(price) * 10**18)


def manifest_bytes(text):
    """The bytes of a base32 CID of version 1; the contract checks the rest of its form."""
    body = text[1:].upper()
    try:
        value = base64.b32decode(body + "=" * (-len(body) % 8))
    except ValueError:
        value = b""
    if not text.startswith("b") or len(value) != 36:
        raise SystemExit(f"{text!r} is not a base32 CID of version 1 (ipfs cid base32 CID converts others)")
    return value
