"""A requester that behaves in the simulation and burns its gas in the block, on a real chain."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from oracle.chain.account import AccountSender
from oracle.chain.codec import encode_call
from oracle.chain.coordinator import read_log
from oracle.chain.rpc import Rpc
from oracle.chain.sender import EthereumReportSender
from oracle.devnet.chain import Anvil, dev_account
from oracle.domain import Cid, FailureReason, Fulfilment

pytestmark = pytest.mark.integration

GWEI = 10**9


def gas_burner(coordinator: str) -> bytes:
    """Creation code of a contract that passes calls with data on to the coordinator, and that burns all the gas that
    comes with plain ether while ``tx.gasprice`` is above zero, as it is in a block and is not in an estimate.
    """
    receive_at, burn_at, done_at = 0x30, 0x36, 0x2E
    forward = (
        "3615" + f"60{receive_at:02x}57"  # no data: receive
        + "365f5f37"  # copy the data
        + "5f5f365f3473" + coordinator[2:].lower() + "5af1"  # and pass it on with its value
        + f"60{done_at:02x}57" + "5f5ffd"
    )  # fmt: skip
    code = bytes.fromhex(forward).ljust(done_at, b"\x5b") + bytes.fromhex("5b00")
    code += bytes.fromhex("5b3a" + f"60{burn_at:02x}57" + "00").ljust(burn_at - receive_at, b"\x5b")
    code += bytes.fromhex("5bfe")
    return bytes.fromhex(f"60{len(code):02x}600a5f3960{len(code):02x}5ff3") + code


async def test_given_requesters_that_burn_their_gas_when_their_failures_are_posted_then_the_report_stands() -> None:
    async with Anvil() as chain:
        rpc = Rpc(chain.url)
        try:
            owner = AccountSender(rpc, dev_account(0), chain.chain_id)
            coordinator = (await owner.deploy_coordinator(operators=[str(dev_account(1).address)])).address
            model = await owner.publish_model(coordinator, Cid(b"\x01\x55\x12\x20" + bytes(32)), GWEI)
            attacker = AccountSender(rpc, dev_account(3), chain.chain_id)
            burner = (await attacker.transact(None, gas_burner(coordinator))).contract
            assert burner is not None
            until = int((await rpc.call("eth_getBlockByNumber", ["latest", False]))["timestamp"], 16) + 600
            ids = []
            for number in range(16):
                cid = Cid(b"\x01\x55\x12\x20" + hashlib.sha256(bytes([number])).digest())
                data = encode_call("request", model, cid.value, 0, until)
                mined = await attacker.transact(burner, data, value=GWEI)
                logs = [read_log(raw, coordinator) for raw in mined.logs]
                ids += [log.values[0] for log in logs if log is not None]
            sender = EthereumReportSender(rpc, dev_account(1), coordinator, chain.chain_id)
            items = [Fulfilment(request_id, failure=FailureReason.IMAGE_UNAVAILABLE) for request_id in ids]  # type: ignore[arg-type]
            report = await sender.prepare(items, await sender.next_nonce())
            await sender.broadcast(report)
            for _ in range(200):
                receipt = await sender.receipt(report.transaction_hash)
                if receipt is not None:
                    break
                await asyncio.sleep(0.05)
        finally:
            await rpc.close()
    assert receipt is not None
    assert receipt.succeeded
    assert len(receipt.settled) == 16
    assert receipt.gas_used > 16 * 50_000, "the requesters did not burn what they were given"
