"""The real yagna and our providers on one machine, asked through the real yapapi."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from eth_abi.abi import encode
from eth_hash.auto import keccak
from tiny_image import make_image

from oracle.chain.rpc import Rpc
from oracle.devnet.child import Child
from oracle.devnet.golem.negotiation import COEFFICIENTS
from oracle.devnet.golem.network import run_network
from oracle.devnet.golem.pricing import Terms, activity_cost, read_terms, write_terms
from oracle.devnet.golem.rest import Rest
from oracle.devnet.golem.settlement import glm_balance
from oracle.devnet.golem.yagna import Yagna, find_yagna
from oracle.errors import ConfigurationError, SibylError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # yapapi leaves its own pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

QUICK_NOTES = Terms(per_second=0.00002, per_cpu_second=0.0001, debit_note_interval=1.0)
READY_SECONDS = 60.0
SETTLED_SECONDS = 25.0


@dataclass
class Network:
    """A network that runs, what it said when it was ready, and the digest of its image."""

    data: Path
    ready: Mapping[str, Any]
    digest: str

    def rest(self, name: str) -> Rest:
        """yagna in the name of a provider, or of the requestor."""
        known = json.loads(Path(self.ready["identities_file"]).read_text())
        identity = known["requestor"] if name == "requestor" else known["providers"][name]
        return Rest(self.ready["yagna_api_url"], identity["app_key"])

    async def get(self, name: str, path: str) -> Any:
        rest = self.rest(name)
        try:
            return await rest.get(path)
        finally:
            await rest.close()

    async def invoices(self, name: str) -> list[dict[str, Any]]:
        return list(await self.get(name, "/payment-api/v1/invoices"))

    def node_id(self, name: str) -> str:
        return next(str(one["node_id"]) for one in self.ready["providers"] if one["name"] == name)

    def pid(self, name: str) -> int:
        return int((self.data / "pids" / name).read_text())

    async def balance(self, name: str) -> int:
        node_id = self.ready["requestor"] if name == "requestor" else self.node_id(name)
        return await glm_balance(self.ready["settlement_rpc"], self.ready["settlement_token"], node_id)


@asynccontextmanager
async def started(data: Path, descriptor: Path, *options: str) -> AsyncIterator[Network]:
    command = [sys.executable, "-m", "oracle.devnet.golem", "--data", str(data), "--image", str(descriptor), *options]
    child = Child("the Golem network", command, log=data / "network.log", environment=os.environ)
    ready = await child.start(within=READY_SECONDS)
    try:
        yield Network(data, ready, json.loads(descriptor.read_text())["sha3_224"])
    finally:
        await child.close()


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image(tmp_path_factory.mktemp("image")).descriptor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory, descriptor: Path) -> AsyncIterator[Network]:
    data = tmp_path_factory.mktemp("network")
    write_terms(data / "providers.json", {"ada": QUICK_NOTES})
    async with started(data, descriptor) as running:
        yield running


@dataclass
class Job:
    """What a task gave, and who did it."""

    provider: str
    output: bytes


Script = Callable[[Any, Any], Awaitable[Any]]


async def run_tasks(
    network: Network,
    number: int,
    command: str,
    *,
    workers: int = 3,
    started: Callable[[str], None] = lambda _: None,
) -> list[Job]:
    """Upload bytes, run a shell command on them, download what it wrote, for so many tasks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
        from yapapi import Golem, Task
        from yapapi.payload import vm

    async def work(context: Any, tasks: Any) -> AsyncIterator[Any]:
        async for task in tasks:
            got: list[bytes] = []

            async def keep(data: bytes, into: list[bytes] = got) -> None:
                into.append(data)

            script = context.new_script(timeout=timedelta(seconds=60))
            script.upload_bytes(content(task.data), "/golem/work/in")
            script.run("/bin/sh", "-c", command)
            script.download_bytes("/golem/work/out", keep)
            started(context.provider_name)
            yield script
            task.accept_result(Job(context.provider_name, got[0]))

    package = vm._VmPackage(
        image_url=f"hash:sha3:{network.digest}:http://127.0.0.1:1/tiny.gvmi",
        constraints=vm._VmConstraints(0.5, 1.0, 1, []),
    )
    environment = {
        "YAGNA_API_URL": network.ready["yagna_api_url"],
        "YAGNA_APPKEY": Path(network.ready["yagna_appkey_file"]).read_text().strip(),
        "PATH": f"{network.ready['gftp_dir']}:{os.environ['PATH']}",
    }
    before = dict(os.environ)
    os.environ.update(environment)
    jobs: list[Job] = []
    try:
        async with Golem(
            budget=1.0,
            subnet_tag=network.ready["subnet"],
            payment_driver=network.ready["payment_driver"],
            payment_network=network.ready["payment_network"],
        ) as golem:
            tasks = [Task(data=index) for index in range(number)]
            done = golem.execute_tasks(work, tasks, payload=package, max_workers=workers, timeout=timedelta(minutes=10))
            jobs.extend([task.result async for task in done])
    finally:
        os.environ.clear()
        os.environ.update(before)
    return jobs


def content(index: int) -> bytes:
    return f"picture {index} ".encode() * 20_000


def digests(jobs: Sequence[Job]) -> set[str]:
    return {job.output.split()[0].decode() for job in jobs}


def expected(number: int) -> set[str]:
    return {sha256(content(index)).hexdigest() for index in range(number)}


async def until(condition: Callable[[], Awaitable[bool]], within: float, what: str) -> None:
    give_up = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < give_up, what
        await asyncio.sleep(0.2)


HASH = "sha256sum /golem/work/in > /golem/work/out"


async def test_given_three_providers_when_tasks_run_then_results_are_right_and_everybody_is_paid(
    network: Network,
) -> None:
    jobs = await run_tasks(network, 6, f"sleep 2; {HASH}")
    assert digests(jobs) == expected(6)
    assert {job.provider for job in jobs} == {"ada", "boole", "curie"}

    terms = read_terms(network.data / "providers.json")
    for name in ("ada", "boole", "curie"):
        await until(partial(settled, network, name), SETTLED_SECONDS, f"{name} was not paid in time")
        (invoice,) = await network.invoices(name)
        amount = Decimal(invoice["amount"])
        assert await network.balance(name) == int(amount * 10**18)
        notes = await network.get(name, "/payment-api/v1/debitNotes")
        notes.sort(key=lambda note: Decimal(note["totalAmountDue"]))
        assert len(notes) > 3 if name == "ada" else len(notes) == 1
        for note in notes:
            cost = activity_cost(terms[name].coefficients, note["usageCounterVector"])
            assert Decimal(note["totalAmountDue"]) == cost > 0
        assert Decimal(notes[-1]["totalAmountDue"]) == amount
        # Accepted debit notes are paid on the way; the invoice brings what is left.
        await assert_paid_once(network, name, invoice)
    paid = sum([await network.balance(name) for name in ("ada", "boole", "curie")])
    assert await network.balance("requestor") == 1000 * 10**18 - paid


async def test_given_a_provider_that_is_killed_in_the_middle_then_no_task_is_lost_and_its_work_is_billed(
    network: Network,
) -> None:
    killed: list[tuple[str, int, list[psutil.Process]]] = []

    def kill_first(name: str) -> None:
        if not killed:
            pid = network.pid(name)
            killed.append((name, pid, []))
            asyncio.get_running_loop().call_later(1.5, kill, name, pid)

    def kill(name: str, pid: int) -> None:
        killed[0][2].extend(psutil.Process(pid).children(recursive=True))
        os.kill(pid, signal.SIGKILL)

    before = {name: len(await network.invoices(name)) for name in ("ada", "boole", "curie")}
    began = time.monotonic()
    jobs = await run_tasks(network, 3, f"sleep 3; {HASH}", started=kill_first)
    took = time.monotonic() - began

    assert digests(jobs) == expected(3)
    assert took < 30, took
    ((name, pid, sandbox),) = killed
    assert sandbox, "nothing ran in a sandbox when it was killed"
    assert not any(process.is_running() for process in sandbox)
    assert network.pid(name) != pid
    invoices = await network.invoices(name)
    assert len(invoices) > before[name]
    assert all(Decimal(invoice["amount"]) > 0 for invoice in invoices)


async def newest_invoice(network: Network, name: str) -> dict[str, Any]:
    return max(await network.invoices(name), key=lambda invoice: str(invoice["timestamp"]))


async def settled(network: Network, name: str) -> bool:
    return bool((await newest_invoice(network, name))["status"] == "SETTLED")


async def assert_paid_once(network: Network, name: str, invoice: Mapping[str, Any]) -> None:
    """What the provider got for an invoice's agreement is its amount; what it got at all is what the chain says."""
    payments = await network.get(name, "/payment-api/v1/payments?timeout=0")
    parts = [part for payment in payments for part in payment["agreementPayments"] + payment["activityPayments"]]
    ours = {invoice["agreementId"], *invoice["activityIds"]}
    paid = [Decimal(part["amount"]) for part in parts if part.get("agreementId", part.get("activityId")) in ours]
    assert sum(paid) == Decimal(invoice["amount"]) > 0
    assert sum(Decimal(payment["amount"]) for payment in payments) * 10**18 == await network.balance(name)


async def test_given_a_daemon_that_is_killed_after_acceptance_when_it_is_back_then_it_pays_once(
    network: Network,
) -> None:
    (job,) = await run_tasks(network, 1, HASH, workers=1)
    assert (await newest_invoice(network, job.provider))["status"] == "ACCEPTED"
    pid = network.pid("yagna")
    os.kill(pid, signal.SIGKILL)

    async def back() -> bool:
        return network.pid("yagna") != pid and await answers(network)

    await until(back, 30, "yagna was not started again")
    await until(lambda: settled(network, job.provider), SETTLED_SECONDS, "the debt was not paid after the restart")
    await assert_paid_once(network, job.provider, await newest_invoice(network, job.provider))


async def answers(network: Network) -> bool:
    try:
        await network.get("requestor", "/me")
    except SibylError:
        return False
    return True


async def test_given_an_empty_wallet_when_it_is_filled_again_then_the_debt_is_paid(network: Network) -> None:
    emptied: list[asyncio.Task[None]] = []
    (job,) = await run_tasks(
        network, 1, HASH, workers=1, started=lambda _: emptied.append(asyncio.create_task(set_wallet(network, 0)))
    )
    await asyncio.gather(*emptied)

    async def noticed() -> bool:
        return "InsufficientToken" in await driver_status(network)

    await until(noticed, 30, "the payment driver did not notice the empty wallet")
    assert (await newest_invoice(network, job.provider))["status"] == "ACCEPTED"

    await set_wallet(network, 10**18)
    await until(lambda: settled(network, job.provider), SETTLED_SECONDS, "the filled wallet paid nothing")
    await assert_paid_once(network, job.provider, await newest_invoice(network, job.provider))
    assert await network.balance("requestor") < 10**18


async def set_wallet(network: Network, amount: int) -> None:
    """Write the requestor's balance into the token's storage: no transaction of its own disturbs the driver."""
    slot = keccak(encode(["address", "uint256"], [network.ready["requestor"], 0]))
    rpc = Rpc(network.ready["settlement_rpc"])
    try:
        word = "0x" + amount.to_bytes(32, "big").hex()
        await rpc.call("anvil_setStorageAt", [network.ready["settlement_token"], "0x" + slot.hex(), word])
    finally:
        await rpc.close()


async def driver_status(network: Network) -> str:
    yagna = Yagna(network.data / "yagna", log=Path(os.devnull), pid_file=Path(os.devnull))
    process = await asyncio.create_subprocess_exec(
        *("yagna", "payment", "driver", "status", "--network", "hoodi", "--json"),
        executable=str(find_yagna()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=yagna.command_environment(),
        cwd=network.data / "yagna",
    )
    out, err = await process.communicate()
    return (out + err).decode()


async def test_given_terms_that_change_when_the_provider_sees_them_then_it_offers_anew(network: Network) -> None:
    file = network.data / "providers.json"
    terms = dict(read_terms(file))
    terms["curie"] = replace(terms["curie"], per_second=0.0007)
    write_terms(file, terms)

    async def offered() -> bool:
        offers = await network.get("curie", "/market-api/v1/offers")
        return [offer["properties"][COEFFICIENTS] for offer in offers] == [list(terms["curie"].coefficients)]

    await until(offered, 10, "the new price is not on the market")


async def test_given_a_network_that_runs_when_another_is_started_in_its_folder_then_it_is_refused(
    network: Network,
) -> None:
    with pytest.raises(ConfigurationError, match="another Golem network runs"):
        async with run_network(network.data):
            pass


async def test_given_an_image_that_is_not_there_when_a_network_is_started_then_the_error_names_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json"):
        async with run_network(tmp_path, images=[tmp_path / "none.json"], settlement=False):
            pass


PARENT = """
import asyncio, os, sys
from pathlib import Path
from oracle.devnet.child import Child

async def main():
    data = Path(sys.argv[1])
    command = [sys.executable, "-m", "oracle.devnet.golem", "--data", sys.argv[1], "--image", sys.argv[2]]
    child = Child("the network", [*command, "--providers", "1"], log=data / "network.log", environment=os.environ)
    ready = await child.start(within=60)
    import json
    print(json.dumps(dict(ready)), flush=True)
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for networks that are killed."""
    return tmp_path_factory.mktemp("spare")


@pytest.mark.parametrize("victim", ["parent", "network"])
async def test_given_a_job_that_runs_when_the_network_or_its_parent_is_killed_then_nothing_is_left_behind(
    spare: Path, descriptor: Path, victim: str
) -> None:
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(spare), str(descriptor)), stdout=asyncio.subprocess.PIPE
    )
    family: list[psutil.Process] = []
    job: asyncio.Task[list[Job]] | None = None
    try:
        assert parent.stdout is not None
        ready = json.loads(await asyncio.wait_for(parent.stdout.readline(), READY_SECONDS))
        child_pid = int(await parent.stdout.readline())
        network = Network(spare, ready, json.loads(descriptor.read_text())["sha3_224"])
        job = asyncio.create_task(run_tasks(network, 1, "sleep 300", workers=1))

        async def in_sandbox() -> bool:
            family[:] = psutil.Process(parent.pid).children(recursive=True)
            return any("sleep" in process.name() for process in family)

        await until(in_sandbox, 30, "the job does not run")
        os.kill(parent.pid if victim == "parent" else child_pid, signal.SIGKILL)
        await until(lambda: all_gone(family), 20, "something outlives the network")
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.wait()
        if job is not None:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


async def all_gone(family: Sequence[psutil.Process]) -> bool:
    def lives(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(map(lives, family))
