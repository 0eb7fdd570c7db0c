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
from oracle.content.http import HttpApi
from oracle.content.ipfs import IpfsContentStore
from oracle.domain import Cid
from oracle.errors import ConfigurationError, PortTaken, SibylError
from oracle.settings import Settings
from oracle.store import SqliteRequestStore

_API_SECONDS = 10.0
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
        chain = _connected(rpc)
        await verify_operator(chain, coordinator_address(settings), account.address)
        ether, earned = await _money(settings, chain, account.address)
        return f"{account.address} may report and holds {_eth(ether)}, with {_eth(earned)} to withdraw"

    async def requester() -> str:
        if settings.requester_key is None and settings.requester_key_file is None:
            return "not set; only needed to ask from this machine"
        return str(account_of("requester", settings).address)

    async def gateway() -> str:
        if settings.gateway_key is None and settings.gateway_key_file is None and not settings.gateway_open:
            return "not set; the API pays for nobody"
        return await check_gateway(settings, _connected(rpc))

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
        await look("gateway key", gateway)
        await look("API", lambda: check_api(settings))
    finally:
        if rpc is not None:
            await rpc.close()
    return results


async def check_gateway(settings: Settings, rpc: Rpc) -> str:
    """Whether the account that pays for the API's users can. Raises ConfigurationError, RpcUnavailable."""
    account = account_of("gateway", settings)
    ether, prepaid = await _money(settings, rpc, account.address)
    whom = "anybody" if settings.gateway_open else "holders of API keys"
    told = f"{account.address} pays for {whom} from {_eth(prepaid)} at the coordinator, with {_eth(ether)} for fees"
    if not prepaid or not ether:
        raise ConfigurationError(
            f"{told}: it cannot pay",
            remedy="Send it ether, and put some of that into its balance with: sibyl keys fund",
        )
    return told


async def check_api(settings: Settings) -> str:
    """Whether the API has a page to serve, and its port is free, or it serves there already, and well.

    Raises PortTaken when another program is there, ConfigurationError, and ApiUnavailable when it says it is not well.
    """
    from oracle.web import listen, page_built

    page = "the page is built" if page_built(settings.page_dir) else "the page is not built (`make page` does so)"
    if settings.api_port == 0:
        return f"takes a free port of {settings.api_host}; {page}"
    try:
        listen(settings.api_host, settings.api_port).close()
    except PortTaken as taken:
        url = await _serving(settings, taken)
        return f"{url} serves, and is well; {page}"
    return f"port {settings.api_port} of {settings.api_host} is free; {page}"


async def _serving(settings: Settings, taken: PortTaken) -> str:
    """The address where this deployment's API is well. Raises ``taken`` where another program listens there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.api_host, settings.api_host)  # noqa: S104 - asked, not bound
    api = HttpApi(f"http://[{host}]:{settings.api_port}" if ":" in host else f"http://{host}:{settings.api_port}")
    try:
        try:
            facts = await api.document("/v1", timeout=_API_SECONDS)
        except SibylError:
            raise taken from None
        if str(facts.get("coordinator")).lower() != coordinator_address(settings).lower():
            raise taken
        await api.document("/v1/health", timeout=_API_SECONDS)
    finally:
        await api.close()
    return api.url


async def _money(settings: Settings, rpc: Rpc, account: str) -> tuple[int, int]:
    """What an account holds, and what its balance at the coordinator is, in wei."""
    ether = await read_number(rpc, "eth_getBalance", account, "latest")
    return ether, await CoordinatorReader(rpc, coordinator_address(settings), 0).balance_of(None, account)


def _eth(wei: int) -> str:
    return f"{wei / 10**18:.6f} ETH"


def _connected(rpc: Rpc | None) -> Rpc:
    if rpc is None:
        raise ConfigurationError("not checked: there is no RPC endpoint", remedy="Mend the chain's check first.")
    return rpc
