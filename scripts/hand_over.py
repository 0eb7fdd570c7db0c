"""Hands a coordinator over to another owner with Brownie, in two steps.

    scripts/brownie run hand_over main to=ADDRESS [account=NAME] [coordinator=ADDRESS] [dry-run] --network NETWORK
    scripts/brownie run hand_over accept [account=NAME] [coordinator=ADDRESS] [dry-run] --network NETWORK

The owner runs the first, the new owner the second; until then nothing has changed, and the owner can name somebody
else. A contract that becomes the owner, a multi-signature wallet for instance, calls ``acceptOwnership()`` on the
coordinator itself. The coordinator is that of build/deployments/<chain id>.json unless given. With ``dry-run`` nothing
is sent.
"""

from __future__ import annotations

from scripts.deployments import (
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

KEYS = ("account", "to", "coordinator")


def main(*texts: str) -> None:
    """Entry point of ``brownie run``: the owner names the next one."""
    given = parse(texts, keys=KEYS, words=("dry-run",))
    if given["to"] is None:
        raise SystemExit("to=ADDRESS is missing: the next owner")
    heir = read_address(given["to"], "to")
    coordinator = find_coordinator(given["coordinator"])
    account = load_account(given["account"])
    if coordinator.owner() != account:
        raise SystemExit(f"{account.address} is not the owner of {coordinator.address}; {coordinator.owner()} is")

    gas = estimate("handing over", coordinator.transferOwnership.estimate_gas, heir, {"from": account})
    announce(account, [Step(f"offer {coordinator.address} to {heir}", gas)], dry_run=given["dry-run"])
    if given["dry-run"]:
        return
    coordinator.transferOwnership(heir, {"from": account})
    say(f"{heir} is to accept; until then {account.address} stays the owner. With that account's key:")
    say(f"  scripts/brownie run hand_over accept account=NAME coordinator={coordinator.address} --network NETWORK")


def accept(*texts: str) -> None:
    """Entry point of ``brownie run``: the next owner accepts."""
    given = parse(texts, keys=("account", "coordinator"), words=("dry-run",))
    coordinator = find_coordinator(given["coordinator"])
    account = load_account(given["account"])
    if coordinator.pendingOwner() != account:
        raise SystemExit(
            f"{coordinator.address} was not offered to {account.address}, but to {coordinator.pendingOwner()}.\n"
            f"Its owner, {coordinator.owner()}, offers it with: scripts/brownie run hand_over main to={account.address}"
        )

    gas = estimate("accepting", coordinator.acceptOwnership.estimate_gas, {"from": account})
    announce(account, [Step(f"accept {coordinator.address}", gas)], dry_run=given["dry-run"])
    if given["dry-run"]:
        return
    coordinator.acceptOwnership({"from": account})
    say(f"{account.address} is the owner of {coordinator.address}")
    record = read_record(check_chain())
    if record is not None and record["coordinator"] == coordinator.address:
        write_record({**record, "owner": account.address})
