"""A model priced in an ERC-20, from the request to the last withdrawal: a whole oracle on a development chain."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from oracle.chain.account import AccountSender
from oracle.chain.rpc import Rpc
from oracle.client import Client, NothingToWithdraw, connect
from oracle.content.ipfs import IpfsContentStore
from oracle.devnet.chain import Anvil
from oracle.devnet.ipfs import DevnetIpfs
from oracle.devnet.pictures import digits
from oracle.devnet.stack import shipped_files
from oracle.domain import Cid, OnChainStatus, RequestSeen
from oracle.service import oracle
from oracle.settings import Settings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PRICE = 250_001  # smallest parts of a token with six decimals
EARNED = 75_000  # the publisher's three tenths of it, rounded down; the rest is the operator's
WORTH = 10**10  # wei for the smallest part


def calldata(signature: str, *arguments: object) -> bytes:
    types = signature[signature.index("(") + 1 : -1].split(",")
    return keccak(signature.encode())[:4] + encode(types, arguments)


@pytest.fixture(scope="module")
def token_code(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Code that creates the mock ERC-20 with six decimals; the oracle ships none."""
    out = tmp_path_factory.mktemp("forge")
    source = "contracts/mocks/PlainToken.sol"
    command = [ROOT / "scripts" / "forge", "build", source, "--out", out, "--cache-path", out / "cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    artifact = json.loads((out / "PlainToken.sol" / "PlainToken.json").read_text())
    return bytes.fromhex(artifact["bytecode"]["object"][2:]) + encode(["uint8"], [6])


@dataclass
class Market:
    """A coordinator with one model in two versions: priced in a token that the operator takes, and in one it does not.

    The requester holds both tokens, and the oracle runs.
    """

    rpc: Rpc
    client: Client
    taken: str
    refused: str
    model: int
    model_in_refused: int

    async def held(self, token: str, account: str) -> int:
        call = {"to": token, "data": "0x" + calldata("balanceOf(address)", account).hex()}
        return int(str(await self.rpc.call("eth_call", [call, "latest"])), 16)

    async def ask(self, model: int, token: str, image: Cid) -> bytes:
        """Allow the price, ask for it, and give the id of the request."""
        person, coordinator = self.client.sender, self.client.reader.address
        await person.transact(token, calldata("approve(address,uint256)", coordinator, PRICE))
        until = await self.client.deadline(600)
        data = calldata("requestWithToken(uint256,bytes,uint256,uint256,uint256)", model, image.value, 0, until, PRICE)
        block = (await person.transact(coordinator, data)).block_number
        (seen,) = await self.client.reader.events(block, block)
        assert isinstance(seen, RequestSeen)
        return seen.request.request_id


@pytest.fixture
async def market(tmp_path: Path, token_code: bytes) -> AsyncIterator[Market]:
    async with contextlib.AsyncExitStack() as stack:
        anvil = await stack.enter_async_context(Anvil())
        ipfs = DevnetIpfs(tmp_path / "ipfs")
        stack.push_async_callback(ipfs.close)
        node = await ipfs.start()
        content = IpfsContentStore(node.rpc)
        stack.push_async_callback(content.close)
        rpc = Rpc(anvil.url)
        stack.push_async_callback(rpc.close)

        owner, operator, publisher, person = (
            AccountSender(rpc, account, anvil.chain_id) for account in anvil.accounts[:4]
        )
        files = shipped_files("mnist")
        _, manifest = await content.add(files)
        deployed = await owner.deploy_coordinator(operators=[operator.address])
        tokens, models = [], []
        for _ in range(2):
            token = (await owner.transact(None, token_code)).contract
            assert token is not None
            await owner.transact(token, calldata("mint(address,uint256)", person.address, 10 * PRICE))
            tokens.append(token)
            models.append(await publisher.publish_model(deployed.address, manifest, PRICE, token=token))

        keys = {
            f"{role}_key": "0x" + bytes(anvil.accounts[index].key).hex()
            for index, role in ((1, "operator"), (2, "publisher"), (3, "requester"))
        }
        settings = Settings(
            data_dir=tmp_path / "oracle",
            rpc_url=anvil.url,
            chain_id=anvil.chain_id,
            coordinator=deployed.address,
            start_block=deployed.block_number,
            ipfs_api=node.rpc,
            gateway_url=node.gateway,
            confirmations=1,
            poll_interval=0.05,
            deadline_margin=5.0,
            token_prices={tokens[0]: str(WORTH)},
            **keys,
        )
        serve = await stack.enter_async_context(oracle(settings))
        serving = asyncio.create_task(serve())
        client = await stack.enter_async_context(connect(settings))
        yield Market(rpc, client, *tokens, *models)
        assert not serving.done(), serving
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def test_given_a_model_priced_in_a_token_when_asked_then_it_answers_and_both_who_earned_withdraw_tokens(
    market: Market,
) -> None:
    client = market.client
    (digit,) = digits(1).items
    (image,) = await client.content.add([digit.png])
    left_alone = await market.ask(market.model_in_refused, market.refused, image)
    request_id = await market.ask(market.model, market.taken, image)
    coordinator, person = client.reader.address, client.sender.address
    assert await market.held(market.taken, person) == 9 * PRICE

    outcome = await client.wait(request_id, timeout=60)
    assert outcome.label == str(digit.value)
    assert outcome.asked.request.payment == PRICE
    assert await market.held(market.taken, coordinator) == PRICE

    operator, paid = await client.withdraw("operator", market.taken)
    assert paid == await market.held(market.taken, operator) == PRICE - EARNED
    publisher, earned = await client.withdraw_earnings("publisher", market.model)
    assert earned == await market.held(market.taken, publisher) == EARNED
    assert await market.held(market.taken, coordinator) == 0
    with pytest.raises(NothingToWithdraw):
        await client.withdraw("operator", market.taken)

    # It was asked first, in a token that the operator has no price for: its deadline will refund it.
    assert (await client.reader.request_of(left_alone)).status is OnChainStatus.PENDING
    assert await client.reader.earnings_of(market.model_in_refused) == 0
