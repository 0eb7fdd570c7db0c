"""Everything on one machine: a chain, an IPFS store, the coordinator with a model published, the oracle, the API."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from oracle.chain.account import AccountSender
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.rpc import Rpc
from oracle.content.ipfs import IpfsContentStore
from oracle.devnet.chain import Anvil, dev_account
from oracle.devnet.child import Child
from oracle.devnet.locked import locked
from oracle.errors import ConfigurationError, SibylError
from oracle.manifests import read_manifest
from oracle.settings import DEPLOYMENT_FILE, Settings, load_local_settings, local_environment, read_deployment

OWNER, OPERATOR, PUBLISHER, REQUESTER = range(4)  # development accounts
GATEWAY = 9  # the one that pays for the API's users
PREPAID = 10**18  # wei that it has for them, at least half of it at each start
PRICE = 10**14  # wei a prediction of the built-in model
PROVIDER_IMAGES = Path(__file__).resolve().parents[2] / "provider_images"
SHIPPED = ("mnist", "mask_rcnn")  # folders of the models whose weights are in the checkout; the first is the default
READY_SECONDS = 60.0
OURS = (sys.executable, "-P", "-m")  # -P: no file of the folder that the user stands in is imported

Progress = Callable[[str], None]


class PartEnded(SibylError):
    """A process of the stack ended by itself."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen on 127.0.0.1; 0 takes a free one. Without a port there is no API."""

    chain: int = 0
    ipfs: int = 0
    api: int | None = None


@dataclass(slots=True)
class Stack:
    """A running stack: its settings, its chain, and its oracle's process."""

    settings: Settings
    chain: Anvil
    oracle: Child
    ipfs: Child | None
    golem: Child | None
    publisher: LocalAccount
    api: Child | None = None
    api_url: str | None = None

    async def failed(self) -> None:
        """Wait until a part ends by itself. Raises PartEnded, which names it."""
        waits: dict[asyncio.Task[object], str] = {
            asyncio.create_task(self.oracle.ended()): "the oracle",
            asyncio.create_task(self.chain.stopped.wait()): "the chain",
        }
        if self.golem is not None:
            waits[asyncio.create_task(self.golem.ended())] = "the Golem network"
        if self.ipfs is not None:
            waits[asyncio.create_task(self.ipfs.ended())] = "the IPFS store"
        if self.api is not None:
            waits[asyncio.create_task(self.api.ended())] = "the API"
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        names = ", ".join(waits[task] for task in done)
        raise PartEnded(f"{names} ended by itself", remedy=f"Read the logs in {self.settings.data_dir / 'logs'}.")


@asynccontextmanager
async def run_stack(
    data_dir: Path,
    *,
    ports: Ports,
    progress: Progress,
    ipfs_api: str | None = None,
    block_time: float | None = None,
    cancel_window: int | None = None,
    backend: str | None = None,
    idle_release: float | None = None,
) -> AsyncIterator[Stack]:
    """Bring everything up below ``data_dir``, in order, and take it down again, in reverse.

    ``backend`` is "golem", "local", or None for the first where this machine can run it and else the second; in a
    folder that was used with the first, None means that one.
    ``idle_release`` in seconds is how long an idle provider is kept.

    ``ipfs_api`` is the multiaddr of a Kubo to use instead of the store that ships with us; ``block_time`` and
    ``cancel_window`` in seconds. A folder that was used before goes on where it stopped, with the cancel window that it
    has. Of the environment only ``settings.TUNING`` counts. Raises MissingTool, PortTaken, ConfigurationError.
    """
    data_dir = data_dir.resolve()
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed(data_dir))
        progress("starting the chain (anvil)")
        chain = Anvil(port=ports.chain, block_time=block_time, state=data_dir / "chain.json")
        stack.push_async_callback(chain.close)
        await chain.start()
        if chain.broken_state is not None:
            progress(f"the chain was cut off in a save and begins anew; what there was is in {chain.broken_state}")

        ipfs: Child | None = None
        addresses: dict[str, Any] = {"ipfs_api": ipfs_api}
        if ipfs_api is None:
            progress("starting the IPFS store")
            ipfs = Child(
                "the IPFS store",
                [
                    *(*OURS, "oracle.devnet.ipfs"),
                    *("--data", str(data_dir / "ipfs")),
                    *("--port", str(ports.ipfs)),
                ],
                log=data_dir / "logs" / "ipfs.log",
                environment=local_environment(),
            )
            stack.push_async_callback(ipfs.close)
            listens = await ipfs.start(within=READY_SECONDS)
            addresses = {"ipfs_api": listens["rpc"], "gateway_url": listens["gateway"]}

        golem, market = await _golem(data_dir, backend, stack, progress)
        if idle_release is not None:
            market["golem_idle_release"] = idle_release
        if ports.api is not None:
            addresses["api_port"] = ports.api
        await _deploy(data_dir, chain, {**addresses, **market}, cancel_window, progress)
        settings = load_local_settings(data_dir)

        workers = "its worker (which loads TensorFlow)" if golem is None else "its requestor"
        progress(f"starting the oracle and {workers}")
        oracle = Child(
            "the oracle",
            [*OURS, "oracle.cli", "oracle", "--data-dir", str(data_dir)],
            log=data_dir / "logs" / "oracle.log",
            environment=local_environment(),
        )
        stack.push_async_callback(oracle.close)
        await oracle.start(within=READY_SECONDS)
        running = Stack(settings, chain, oracle, ipfs, golem, dev_account(PUBLISHER))
        if ports.api is not None:
            progress("starting the API and the page")
            running.api = Child(
                "the API",
                [*OURS, "oracle.cli", "api", "--data-dir", str(data_dir), "--port", str(ports.api)],
                log=data_dir / "logs" / "api.log",
                environment=local_environment(),
            )
            stack.push_async_callback(running.api.close)
            running.api_url = (await running.api.start(within=READY_SECONDS))["api_url"]
        yield running


async def _golem(
    data_dir: Path, backend: str | None, stack: AsyncExitStack, progress: Progress
) -> tuple[Child | None, dict[str, Any]]:
    """The Golem network of this machine and the settings that lead to it; the local backend where it cannot be.

    Raises ConfigurationError where it cannot be, and was asked for or used before.
    """
    local = {"backend": "local"}
    wanted = backend or os.environ.get("SIBYL_BACKEND")
    if wanted == "local":
        return None, local
    # What runs there would wait for answers of a backend that never had its tasks.
    needed = wanted == "golem" or read_deployment(data_dir).get("backend") == "golem"
    try:
        images = await asyncio.to_thread(provider_images, progress)
        progress("starting the Golem network: yagna, three providers, a chain to pay them on")
        golem = Child(
            "the Golem network",
            [*OURS, "oracle.devnet.golem", "--data", str(data_dir / "golem"), "--image", *images],
            log=data_dir / "logs" / "golem.log",
            environment=local_environment(),
        )
        stack.push_async_callback(golem.close)
        ready = await golem.start(within=READY_SECONDS)
    except ConfigurationError as error:
        if needed:
            remedy = f"{error.remedy} Or start with --backend local, which runs the model in a worker process."
            raise ConfigurationError(str(error), remedy=remedy.strip()) from error
        progress(f"no Golem network here: {error}; the model runs in a worker process instead")
        return None, local
    return golem, {
        "backend": "golem",
        "golem_images": str(Path(images[0]).parent),
        **{name: ready[name] for name in ("yagna_api_url", "yagna_appkey_file", "payment_network", "payment_driver")},
        **{name: ready[name] for name in ("subnet", "gftp_dir", "settlement_rpc", "settlement_token")},
    }


def provider_images(progress: Progress) -> list[str]:
    """The descriptions of the provider images of the shipped models, built where they are missing, and of all others
    beside them. The oracle reads that folder, too: what it offers, the network must have.

    Raises ConfigurationError.
    """
    from provider_images.builder import BuilderError, build_image

    try:
        progress("building the provider images (the first time half a minute)")
        shipped = [build_image(folder).descriptor for folder in SHIPPED]
        others = sorted(set(shipped[0].parent.glob("*.json")) - set(shipped))
        return [str(descriptor) for descriptor in (*shipped, *others)]
    except BuilderError as error:
        raise ConfigurationError(f"the provider image cannot be built: {error}", remedy=error.remedy) from error


@contextmanager
def claimed(data_dir: Path) -> Iterator[None]:
    """Make the folder, or see that it is one of ours, and hold it for us alone. Raises ConfigurationError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {data_dir} cannot be made: {error.strerror}", remedy="Choose another --data-dir."
        ) from None
    if (data_dir / "oracle.sqlite3").exists() and not (data_dir / DEPLOYMENT_FILE).exists():
        raise ConfigurationError(
            f"{data_dir} holds the database of another deployment",
            remedy="Choose another --data-dir for a stack of this machine; SIBYL_DATA_DIR may point to a real one.",
        )
    taken = f"another `sibyl up` runs in {data_dir}"
    with locked(data_dir / "up.lock", taken=taken, remedy="Stop it first, or choose another --data-dir."):
        yield


async def _deploy(
    data_dir: Path, chain: Anvil, addresses: Mapping[str, Any], cancel_window: int | None, progress: Progress
) -> None:
    """Deploy and publish once; later starts find the contracts and only note where the servers listen now."""
    file = data_dir / DEPLOYMENT_FILE
    known = read_deployment(data_dir)
    rpc = Rpc(chain.url, timeout=30.0)
    content = IpfsContentStore(str(addresses["ipfs_api"]))
    try:
        coordinator = known.get("coordinator")
        if coordinator is None or await rpc.call("eth_getCode", [coordinator, "latest"]) == "0x":
            if coordinator is not None:
                _set_aside(data_dir, progress)
            known = await _deploy_coordinator(rpc, chain.chain_id, cancel_window or 0, progress)
        elif cancel_window is not None:
            window = await CoordinatorReader(rpc, coordinator, chain.chain_id).cancel_window()
            if window != cancel_window:
                raise ConfigurationError(
                    f"the coordinator in {data_dir} has a cancel window of {window} s, and keeps it",
                    remedy="Start with --fresh to deploy another, or leave --cancel-window out.",
                )
        model_id = await _publish(rpc, chain.chain_id, known["coordinator"], content, progress)
        if "digit_reader" not in known:
            owner = AccountSender(rpc, dev_account(OWNER), chain.chain_id)
            known["digit_reader"] = (await owner.deploy_digit_reader(known["coordinator"], model_id)).address
        await _prepay(rpc, chain.chain_id, known["coordinator"], progress)
        known |= {
            "rpc_url": chain.url,
            "page_rpc_url": chain.url,
            "chain_id": chain.chain_id,
            "default_model": model_id,
            **addresses,
            "confirmations": 1,
            "poll_interval": 0.05,
            "fetch_timeout": 10.0,
            "deadline_margin": 5.0,
            "max_cost_ratio": 1000.0,
            "operator_key_file": str(_write_key(data_dir, "operator", dev_account(OPERATOR))),
            "requester_key_file": str(_write_key(data_dir, "requester", dev_account(REQUESTER))),
            "publisher_key_file": str(_write_key(data_dir, "publisher", dev_account(PUBLISHER))),
            "gateway_key_file": str(_write_key(data_dir, "gateway", dev_account(GATEWAY))),
            # Play money, for whoever comes.
            "gateway_open": True,
            "gateway_open_day": "100",
            "gateway_total_day": "1000",
        }
        _write(file, json.dumps(known, indent=2, sort_keys=True) + "\n")
    finally:
        await content.close()
        await rpc.close()


async def _deploy_coordinator(rpc: Rpc, chain_id: int, cancel_window: int, progress: Progress) -> dict[str, Any]:
    progress("deploying the coordinator")
    owner = AccountSender(rpc, dev_account(OWNER), chain_id)
    operators = [str(dev_account(OPERATOR).address)]
    deployment = await owner.deploy_coordinator(operators=operators, cancel_window=cancel_window)
    return {"coordinator": deployment.address, "start_block": deployment.block_number}


async def _prepay(rpc: Rpc, chain_id: int, coordinator: str, progress: Progress) -> None:
    gateway = AccountSender(rpc, dev_account(GATEWAY), chain_id)
    if await CoordinatorReader(rpc, coordinator, chain_id).balance_of(None, gateway.address) < PREPAID // 2:
        progress("prepaying the gateway's balance, from which those without a wallet are served")
        await gateway.deposit(coordinator, PREPAID)


async def _publish(rpc: Rpc, chain_id: int, coordinator: str, content: IpfsContentStore, progress: Progress) -> int:
    """Pin the shipped models' files, which another store may not have, and publish the manifests that are not yet.

    The number of the default model.
    """
    numbers = []
    for folder in SHIPPED:
        files = shipped_files(folder)
        weights, manifest = await content.add(files)
        stated = read_manifest(files[1])
        if weights != stated.weights_cid:
            raise ConfigurationError(
                f"the weights of {stated.name} have the CID {weights}, its manifest says {stated.weights_cid}",
                remedy="Train it again, or check out the shipped files.",
            )
        known = await CoordinatorReader(rpc, coordinator, chain_id).models()
        number = next((model.model_id for model in known if model.manifest_cid == manifest), None)
        if number is None:
            progress(f"publishing {stated.name}: weights and manifest to IPFS, the manifest's CID on-chain")
            publisher = AccountSender(rpc, dev_account(PUBLISHER), chain_id)
            number = await publisher.publish_model(coordinator, manifest, PRICE)
        numbers.append(number)
    return numbers[0]


def shipped_files(folder: str) -> list[bytes]:
    """Weights and manifest of a model that ships with Sibyl."""
    return [(PROVIDER_IMAGES / folder / name).read_bytes() for name in ("weights.npz", "manifest.json")]


def _set_aside(data_dir: Path, progress: Progress) -> None:
    """The chain that the database followed is gone (a killed chain that had not saved itself): keep it beside."""
    progress("the local chain was lost; its database is set aside as oracle.sqlite3.lost")
    for name in ("oracle.sqlite3", "oracle.sqlite3-wal", "oracle.sqlite3-shm"):
        old = data_dir / name
        if old.exists():
            old.replace(data_dir / name.replace("oracle.sqlite3", "oracle.sqlite3.lost"))


def _write_key(data_dir: Path, role: str, account: LocalAccount) -> Path:
    path = data_dir / "keys" / role
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.parent.chmod(0o700)
    _write(path, "0x" + bytes(account.key).hex() + "\n")
    return path


def _write(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    fresh.replace(path)
