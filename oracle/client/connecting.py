"""How a client comes by its deployment: from settings, from options, or from the API at an address."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict, Unpack

from eth_utils.address import is_same_address
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from oracle.chain.checks import verify_deployment
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.deployment import coordinator_address
from oracle.chain.rpc import Rpc
from oracle.client.asking import Asking, Wishes
from oracle.client.wishes import ApiWishes, FolderWishes, NoWishes
from oracle.content.http import HttpApi, HttpContentStore
from oracle.content.ipfs import IpfsContentStore
from oracle.errors import ConfigurationError, WrongChain
from oracle.settings import Settings, load_settings, named_problems
from oracle.telemetry import logger

_log = logger("client")

_RENAMED = {"key": "requester_key", "key_file": "requester_key_file"}
_FROM_API = ("chain_id", "coordinator", "start_block", "default_model", "rpc_url")


class Options(TypedDict, total=False):
    """What ``connect`` takes beside settings. Times in seconds, fees in gwei."""

    data_dir: Path | str  # the folder of `sibyl up`, or of an oracle on this machine
    api_url: str  # address of Sibyl's API; content then goes through it
    rpc_url: str  # the chain's JSON-RPC endpoint, which says what the chain holds: one that you trust
    chain_id: int
    coordinator: str  # its address
    start_block: int  # the block of its deployment
    default_model: int  # the model asked when none is named
    ipfs_api: str  # multiaddr of a Kubo RPC, where there is no api_url
    key: str  # hex private key of whoever asks
    key_file: Path | str  # a file with one, or an encrypted JSON keystore
    key_password_file: Path | str
    fetch_timeout: float
    rpc_timeout: float
    poll_interval: float
    max_fee_gwei: float


class _Given(Settings):
    """Settings from arguments alone."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


class Client(Asking):
    """A requester's view of one deployment. Every method raises SibylError's leaves, each with a remedy."""


@asynccontextmanager
async def connect(settings: Settings | None = None, **options: Unpack[Options]) -> AsyncIterator[Client]:
    """A client of one deployment.

    Which one: that of ``settings``; else, where ``api_url`` or ``coordinator`` is given and no ``data_dir``, the one
    that the options describe, and then nothing is read from the environment or from files; else what the environment
    and ``data_dir`` say, as for the command line. Options stand above settings.

    With ``api_url``, content goes through that API, each block hashed here, and what the options leave open
    (coordinator, chain, start block, RPC endpoint, default model) is taken from ``GET /v1``; a warning says so of the
    two that trust hangs on. An API that names the coordinator is trusted with WHICH contract is paid: nothing here can
    tell whether it is the one you mean. An API that names the RPC endpoint is trusted with WHAT the chain holds:
    ``verify`` then compares its word with its word. Give ``coordinator`` and ``rpc_url``, an endpoint that you trust,
    and whatever the API says of requests and results is checked against that contract.

    Raises WrongChain, RpcUnavailable, ApiUnavailable, ConfigurationError.
    """
    async with AsyncExitStack() as stack:
        api = HttpApi(options["api_url"]) if "api_url" in options else None
        if api is not None:
            stack.push_async_callback(api.close)
        given = {_RENAMED.get(name, name): value for name, value in options.items() if name != "api_url"}
        isolated = settings is None and "data_dir" not in given and (api is not None or "coordinator" in given)
        if settings is None and not isolated:
            folder = given.get("data_dir")
            settings = load_settings(Path(str(folder)) if folder is not None else None)
        chosen = _merged(settings, given)
        if api is not None:
            chosen = await _completed(chosen, api)

        rpc = Rpc(chosen.rpc_url, timeout=chosen.rpc_timeout)
        stack.push_async_callback(rpc.close)
        address = coordinator_address(chosen)
        chain_id = await verify_deployment(rpc, address, chosen.chain_id)
        content: IpfsContentStore | HttpContentStore
        wishes: Wishes
        if api is not None:
            content, wishes = HttpContentStore(api), ApiWishes(api, chain_id, address)
        else:
            content = IpfsContentStore(chosen.ipfs_api)
            wishes = NoWishes() if isolated else FolderWishes(chosen)
        stack.push_async_callback(content.close)
        reader = CoordinatorReader(rpc, address, chain_id)
        yield Client(chosen, rpc, reader, chain_id, content, wishes)


def _merged(settings: Settings | None, given: Mapping[str, Any]) -> Settings:
    if settings is not None and not given:
        return settings
    base = settings.model_dump(exclude_unset=True) if settings is not None else {}
    unknown = given.keys() - Settings.model_fields.keys()
    if unknown:
        raise ConfigurationError(
            f"there is no option {', '.join(sorted(unknown))}",
            remedy=f"Options are {', '.join(Options.__annotations__)}.",
        )
    with named_problems("options", _option, "Mend the options named."):
        return _Given(**{**base, **given})


def _option(place: tuple[int | str, ...]) -> str:
    names = {new: old for old, new in _RENAMED.items()}
    return ".".join(names.get(str(part), str(part)) for part in place)


async def _completed(settings: Settings, api: HttpApi) -> Settings:
    """Settings with what they leave open as the API says it; an API of another deployment is refused."""
    facts = await api.document("/v1")
    offered = {name: facts[name] for name in _FROM_API if facts.get(name) is not None}
    known = settings.model_fields_set
    coordinator, chain_id = offered.get("coordinator"), offered.get("chain_id")
    if settings.coordinator is not None:
        same = isinstance(coordinator, str) and is_same_address(coordinator, settings.coordinator)
        if not same or (settings.chain_id is not None and chain_id != settings.chain_id):
            raise WrongChain(
                f"{api.url} serves another deployment: coordinator {coordinator!a} on chain {chain_id!a}",
                remedy="Use the API of the deployment that you mean, or mend coordinator and chain_id.",
            )
    elif coordinator is not None:
        _log.warning(
            "%s says which contract is paid: the coordinator %a on chain %a; give coordinator= to be sure",
            *(api.url, coordinator, chain_id),
        )
    if "rpc_url" not in known and "rpc_url" not in offered:
        raise ConfigurationError(
            f"{api.url} names no RPC endpoint of the chain", remedy="Give rpc_url: an endpoint that you trust."
        )
    if "rpc_url" not in known:
        _log.warning(
            "%s says where the chain is read, so verify() checks it against itself; give rpc_url= of an endpoint that "
            "you trust",
            api.url,
        )
    return _merged(settings, {name: value for name, value in offered.items() if name not in known})
