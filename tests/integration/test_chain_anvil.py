"""The development chain's process: it starts, remembers, refuses, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oracle.chain.account import AccountSender, Ask
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.rpc import Rpc
from oracle.devnet.chain import Anvil, ChainStopped, find_anvil
from oracle.devnet.chain_state import prepare_state
from oracle.devnet.golem.settlement import Settlement
from oracle.domain import Cid, RequestSeen
from oracle.errors import ChainError, MissingTool, PortTaken

pytestmark = pytest.mark.integration

IMAGE = Cid(b"\x01\x55\x12\x20" + bytes(32))


async def test_it_answers_on_a_free_port_with_its_accounts_funded() -> None:
    async with Anvil(chain_id=4242) as anvil, Anvil() as other:
        assert anvil.port != other.port
        assert int(await anvil.call("eth_chainId"), 16) == 4242
        for account in anvil.accounts:
            assert int(await anvil.call("eth_getBalance", account.address, "latest"), 16) == 10_000 * 10**18
        assert anvil.accounts[0].address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


async def test_a_state_file_carries_requests_and_logs_over_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "chain.json"
    async with Anvil(state=state) as anvil:
        rpc = Rpc(anvil.url)
        sender = AccountSender(rpc, anvil.accounts[0], anvil.chain_id)
        coordinator = (await sender.deploy_coordinator()).address
        model = await sender.publish_model(coordinator, IMAGE, 10**15)
        asked = await sender.request_inference(coordinator, Ask(model, IMAGE, int(time.time()) + 3600))
        genesis = await anvil.call("eth_getBlockByNumber", "0x0", False)
        await rpc.close()
    async with Anvil(state=state) as anvil:
        rpc = Rpc(anvil.url)
        assert (await anvil.call("eth_getBlockByNumber", "0x0", False))["hash"] == genesis["hash"]
        (event,) = await CoordinatorReader(rpc, coordinator, anvil.chain_id).events(0, asked.block_number)
        assert isinstance(event, RequestSeen)
        assert event.request.request_id == asked.request_id
        await rpc.close()


async def test_many_restarts_leave_the_genesis_block_and_the_balances_as_they_were(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    receiver = "0x" + "11" * 20
    seen = set()
    for restart in range(8):
        async with Anvil(state=state) as anvil:
            seen.add((await anvil.call("eth_getBlockByNumber", "0x0", False))["hash"])
            assert int(await anvil.call("eth_getBalance", receiver, "latest"), 16) == 5 * restart
            assert int(await anvil.call("eth_blockNumber"), 16) == restart
            payment = {"from": anvil.accounts[0].address, "to": receiver, "value": "0x5"}
            paid = await anvil.call("eth_sendTransaction", payment)
            # A genesis block of the same second is the same block; and the payment is mined by then.
            await asyncio.sleep(1.0)
            assert (await anvil.call("eth_getTransactionReceipt", paid))["status"] == "0x1"
    assert len(seen) == 1


async def test_a_clean_state_file_is_not_written_again(tmp_path: Path) -> None:
    state = tmp_path / "chain.json"
    async with Anvil(state=state):
        pass
    before = state.stat()
    assert prepare_state(state) is None
    assert (state.stat().st_ino, state.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert prepare_state(tmp_path / "none") is None


@pytest.mark.parametrize("content", ["half", b"", b"[1]", b"{}", b'{"blocks": [{}]}', b"\xff\x00", b"[" * 100_000])
async def test_a_state_file_that_cannot_be_read_is_set_aside(tmp_path: Path, content: bytes | str) -> None:
    state = tmp_path / "chain.json"
    if isinstance(content, str):
        async with Anvil(state=state):
            pass
        content = state.read_bytes()[: state.stat().st_size // 2]
    state.write_bytes(content)
    async with Anvil(state=state) as anvil:
        assert anvil.broken_state == tmp_path / "chain.json.broken"
        assert anvil.broken_state.read_bytes() == content
        assert int(await anvil.call("eth_blockNumber"), 16) == 0
    async with Anvil(state=state) as anvil:
        assert anvil.broken_state is None


async def test_a_payment_chain_that_was_cut_off_in_a_save_is_a_new_one_with_its_token(tmp_path: Path) -> None:
    for new in (True, False):
        settlement = Settlement(tmp_path)
        assert await settlement.start() is new
        await settlement.close()
    state = tmp_path / "chain.json"
    state.write_bytes(state.read_bytes()[:1000])
    settlement = Settlement(tmp_path)
    try:
        assert await settlement.start()  # so the network has yagna forget its payments
        await settlement.fund("0x" + "11" * 20, glm=7)
        assert await settlement.balance("0x" + "11" * 20) == 7
    finally:
        await settlement.close()


async def test_a_state_file_that_cannot_be_touched_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ChainError, match="cannot be used") as caught:
        await Anvil(state=tmp_path / "file" / "chain.json").start()
    assert caught.value.remedy


async def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)) as caught:
            await Anvil(port=port).start()
    assert "another port" in caught.value.remedy


def test_a_missing_binary_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool) as caught:
        find_anvil(tmp_path)
    assert "npm ci" in caught.value.remedy
    (tmp_path / "anvil").write_text("#!/bin/sh\n")
    (tmp_path / "anvil").chmod(0o755)
    assert find_anvil(tmp_path) == tmp_path / "anvil"


async def test_a_binary_that_cannot_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match="cannot be run"):
        await Anvil(binary=tmp_path / "none").start()


async def test_a_binary_that_ends_at_once_says_with_what_words(tmp_path: Path) -> None:
    broken = tmp_path / "anvil"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    broken.chmod(0o755)
    anvil = Anvil(binary=broken)
    with pytest.raises(ChainStopped, match=r"exit code 3: out of luck"):
        await anvil.start()


async def test_a_chain_that_dies_says_so() -> None:
    anvil = Anvil()
    await anvil.start()
    pid = anvil._process.pid if anvil._process else 0
    os.kill(pid, signal.SIGKILL)
    await asyncio.wait_for(anvil.stopped.wait(), 5)
    with pytest.raises(ChainStopped, match="exit code -9"):
        await anvil.call("eth_chainId")
    await anvil.close()
    await anvil.close()


async def test_closing_is_bounded_even_when_the_process_does_not_listen() -> None:
    anvil = Anvil()
    await anvil.start()
    pid = anvil._process.pid if anvil._process else 0
    os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    await anvil.close()
    assert time.monotonic() - started < 8
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's death signal is Linux's")
def test_it_dies_with_its_parent() -> None:
    program = (
        "import asyncio, os, signal\n"
        "from oracle.devnet.chain import Anvil\n"
        "async def main():\n"
        "    anvil = Anvil()\n"
        "    await anvil.start()\n"
        "    print(anvil._process.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    pid = int(parent.stdout)
    for _ in range(100):
        if not _runs(pid):
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("anvil outlived its parent")


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
