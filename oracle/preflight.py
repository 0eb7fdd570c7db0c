"""Pre-flight: every connection and key looked at, each problem with its remedy. Nothing is changed, but that the
empty file ends up pinned on the IPFS node."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from oracle.chain.calls import read_number
from oracle.chain.checks import verify_deployment, verify_operator
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.deployment import account_of, coordinator_address
from oracle.chain.rpc import Rpc
from oracle.compute.backends import golem_terms
from oracle.content.ipfs import IpfsContentStore
from oracle.domain import Cid
from oracle.errors import ConfigurationError, SibylError
from oracle.settings import Settings
from oracle.store import SqliteRequestStore

# Stored and pinned here, then read back: that shows that the node does both. Most Kubos hold it anyway.
_EMPTY_FILE = Cid.parse("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One look: what was looked at, whether it is well, what was found and what to do otherwise."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


async def preflight(settings: Settings) -> list[CheckResult]:
    """All checks, in the order in which the oracle would stumble over them; one failure does not hide the others."""
    rpc: Rpc | None = None
    results: list[CheckResult] = []

    async def look(name: str, work: Callable[[], Awaitable[str]]) -> None:
        try:
            results.append(CheckResult(name, True, await work()))
        except SibylError as error:
            results.append(CheckResult(name, False, str(error), error.remedy))
        except OSError as error:
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            results.append(CheckResult(name, False, what, "Mend the path or its permissions, then check again."))

    async def chain() -> str:
        nonlocal rpc
        rpc = Rpc(settings.rpc_url, timeout=settings.rpc_timeout)
        address = coordinator_address(settings)
        chain_id = await verify_deployment(rpc, address, settings.chain_id)
        reader = CoordinatorReader(rpc, address, chain_id)
        head, window = await reader.head(), await reader.cancel_window()
        cancel = f"requests can be cancelled for {window} s" if window else "requests cannot be cancelled"
        return f"chain {chain_id} at block {head.number}, coordinator {address}; {cancel}"

    async def operator() -> str:
        account = account_of("operator", settings)
        if rpc is None:
            raise ConfigurationError("not checked: there is no RPC endpoint", remedy="Mend the chain's check first.")
        await verify_operator(rpc, coordinator_address(settings), account.address)
        balance = await read_number(rpc, "eth_getBalance", account.address, "latest")
        earned = await CoordinatorReader(rpc, coordinator_address(settings), 0).balance_of(None, account.address)
        return (
            f"{account.address} may report and holds {balance / 10**18:.4f} ETH, "
            f"with {earned / 10**18:.6f} ETH to withdraw"
        )

    async def requester() -> str:
        if settings.requester_key is None and settings.requester_key_file is None:
            return "not set; only needed to ask from this machine"
        return str(account_of("requester", settings).address)

    async def ipfs() -> str:
        content = IpfsContentStore(settings.ipfs_api)
        try:
            await content.add([b""])
            await content.fetch(_EMPTY_FILE, limit=0, timeout=settings.fetch_timeout)
        finally:
            await content.close()
        return f"{settings.ipfs_api} stores and serves (the empty file is pinned there)"

    async def database() -> str:
        folder = settings.data_dir
        if not settings.database.exists():
            parent = folder if folder.exists() else folder.absolute().parent
            if not os.access(parent, os.W_OK):
                raise ConfigurationError(f"{parent} is not writable", remedy="Choose another --data-dir.")
            return f"{settings.database} will be made at the first start"
        store = SqliteRequestStore(settings.database, read_only=True)
        try:
            counts = await store.counts()
        finally:
            await store.close()
        return f"{settings.database} holds {sum(counts.values())} requests"

    async def backend() -> str:
        if settings.backend == "golem":
            from oracle.compute.golem import check_connection

            if settings.gftp_dir is not None:
                os.environ["PATH"] = f"{settings.gftp_dir}{os.pathsep}{os.environ.get('PATH', '')}"
            terms = golem_terms(settings, os.environ)
            identity = await check_connection(terms)
            families = ", ".join(sorted(terms.images))
            return f"yagna at {terms.api_url} as {identity}, paying on {terms.payment_network}; images: {families}"
        if importlib.util.find_spec("tensorflow") is None:
            raise ConfigurationError(
                "TensorFlow is not installed, so the local backend cannot run a model", remedy="Run `make setup`."
            )
        return f"local, {settings.workers} worker(s) of {settings.worker_threads} thread(s)"

    try:
        await look("chain", chain)
        await look("operator key", operator)
        await look("requester key", requester)
        await look("IPFS node", ipfs)
        await look("database", database)
        await look("compute backend", backend)
    finally:
        if rpc is not None:
            await rpc.close()
    return results
