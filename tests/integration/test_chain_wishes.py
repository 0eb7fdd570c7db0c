"""Who may choose a provider for an account: whoever holds its key, or whom its contract lets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from oracle.chain.rpc import Rpc
from oracle.chain.wishes import Wish
from oracle.devnet.chain import Anvil, dev_account
from oracle.domain import Cid

pytestmark = pytest.mark.integration

OWNER, OTHER = dev_account(0), dev_account(1)
WALLET = "0x" + "77" * 20
YES = "0x631626ba7e60e01b5f5260205ff3"  # a contract that answers 0x1626ba7e to every call (ERC-1271)
NO = "0x5f5f5260205ff3"  # one that answers zero
REVERTS = "0x5f5ffd"
WISH = Wish(31337, "0x" + "11" * 20, OWNER.address, Cid(b"\x01\x55\x12\x20" + bytes(32)), "oak", 1_700_000_000)


@pytest.fixture
async def anvil() -> AsyncIterator[Anvil]:
    async with Anvil() as anvil:
        yield anvil


@pytest.fixture
async def rpc(anvil: Anvil) -> AsyncIterator[Rpc]:
    rpc = Rpc(anvil.url)
    yield rpc
    await rpc.close()


async def test_given_a_wish_when_its_account_signed_it_then_it_counts_and_no_other_wish_does(rpc: Rpc) -> None:
    signature = WISH.sign(OWNER)
    assert await WISH.signed(rpc, signature)
    for other in (
        replace(WISH, chain_id=1),
        replace(WISH, coordinator="0x" + "12" * 20),
        replace(WISH, requester=OTHER.address),
        replace(WISH, image_cid=Cid(b"\x01\x55\x12\x20" + b"\1" * 32)),
        replace(WISH, provider="elm"),
        replace(WISH, signed_at=WISH.signed_at + 1),
    ):
        assert not await other.signed(rpc, signature), other


async def test_given_what_is_no_signature_when_looked_at_then_it_counts_for_nothing(rpc: Rpc) -> None:
    for signature in (b"", b"\1" * 64, b"\1" * 65, b"\xff" * 65, b"\0" * 65, b"\1" * 1024):
        assert not await WISH.signed(rpc, signature), signature


async def test_given_a_wallet_that_is_a_contract_when_it_is_asked_then_its_word_counts(anvil: Anvil, rpc: Rpc) -> None:
    for code, counts in ((YES, True), (NO, False), (REVERTS, False), ("0x00", False)):
        await anvil.call("anvil_setCode", WALLET, code)
        assert await replace(WISH, requester=WALLET).signed(rpc, WISH.sign(OTHER)) == counts, code
