"""Every setting: from the environment (``SIBYL_*``), then the file that ``SIBYL_DEPLOYMENT`` names, then the deployment
file of ``sibyl up``, then defaults.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from eth_utils.address import is_address, to_checksum_address
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from oracle.errors import ConfigurationError

MIB = 1024 * 1024
DEPLOYMENT_FILE = "deployment.json"
PREFIX = "SIBYL_"
PAGE = Path(__file__).resolve().parents[1] / "frontend" / "dist"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{1,5})?"
_ORIGIN = re.compile(rf"https?://{_HOST}")
_ENDPOINT = re.compile(rf"https?://{_HOST}(?:/[!-~]*)?")
_FORM_BYTES = 64 * 1024  # what a form has around its picture

_LOGGING = {"log_level", "log_json"}
_IMAGES = {"drawings", "image_max_bytes", "image_max_pixels", "image_checkers", "intake_concurrency", "intake_bytes"}
_MARKET = {"backend", "redundancy", "known_answers", "golem_workers", "golem_idle_release", "golem_images"}
_WORK = {"batch_items", "batch_bytes", "batch_linger", "workers", "worker_threads", "compute_timeout", "max_attempts"}
_PACE = {"scan_span", "rpc_timeout", "deadline_margin", "replace_after", "report_items", "reports_in_flight"}
_API = {"api_rate", "api_burst", "api_streams", "api_cors", "api_proxies", "page_dir", "page_gateways", "url_private"}
_UPLOADS = {"api_upload_day", "api_upload_total"}
TUNING = frozenset({*_LOGGING, *_IMAGES, *_WORK, *_MARKET, *_PACE, *_API, *_UPLOADS, "test_data"})
"""What a stack of this machine takes from the environment (``test_data`` names the folder with real pictures). Never
where to connect, with which key, or what to pay: those are the stack's own."""

Seconds = Annotated[float, Field(gt=0)]


def _read_prices(value: object) -> Mapping[str, Fraction]:
    if not isinstance(value, Mapping):
        raise ValueError("a JSON object expected: token address to wei")
    prices: dict[str, Fraction] = {}
    for token, price in value.items():
        if not is_address(token):
            raise ValueError("each key is the address of a token")
        try:
            exact = Fraction(str(price))
        except (ValueError, ZeroDivisionError):
            raise ValueError("each price is a decimal or a fraction, such as 0.25 or 1/3") from None
        if exact <= 0:
            raise ValueError("each price is above zero")
        prices[to_checksum_address(token)] = exact
    return prices


def _read_node_ids(value: object) -> object:
    if not isinstance(value, str):
        return value
    ids = tuple(word.strip().lower() for word in value.split(",") if word.strip())
    if any(not is_address(word) for word in ids):
        raise ValueError("node ids expected, separated by commas")
    return ids


def _read_origins(value: object) -> object:
    if not isinstance(value, str):
        return value
    origins = tuple(word.strip().rstrip("/") for word in value.split(",") if word.strip())
    if any(origin != "*" and not _ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("origins such as https://example.org expected, separated by commas, or *")
    return origins


def _read_gateways(value: object) -> object:
    gateways = _read_origins(value)
    if isinstance(gateways, tuple) and "*" in gateways:
        raise ValueError("each gateway is named; * would let the page ask anybody")
    return gateways


def _read_endpoint(value: object) -> object:
    if isinstance(value, str) and not _ENDPOINT.fullmatch(value):
        raise ValueError("an http or https URL expected")
    return value.rstrip("/") if isinstance(value, str) else value


Ether = Annotated[Decimal, Field(ge=0, le=10**9)]
Glm = Annotated[Decimal, Field(ge=0, le=10**21)]
Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_origins)]
Gateways = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_gateways)]
Endpoint = Annotated[str, BeforeValidator(_read_endpoint)]
NodeIds = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_node_ids)]
TokenPrices = Annotated[dict[str, Any], BeforeValidator(_read_prices)]
"""Checksum address of a token -> ``Fraction`` of wei that its smallest part is worth."""


class Settings(BaseSettings):
    """All that can be set. Sizes in bytes, times in seconds, fees in gwei; no field is read at import time."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    data_dir: Path = Field(Path(".sibyl"), description="where the database, the spool and the deployment file live")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_json: bool = False

    deployment: Path | None = Field(None, description="file of scripts/deploy.py: coordinator, chain id, start block")
    rpc_url: str = Field("http://127.0.0.1:8545", description="the chain's JSON-RPC endpoint")
    chain_id: int | None = Field(None, ge=1, description="refuse to run on any other chain")
    coordinator: str | None = Field(None, description="address of the InferenceCoordinator")
    digit_reader: str | None = Field(None, description="address of the example consumer, for the demo")
    default_model: int | None = Field(None, ge=1, description="number of the model asked when none is named")
    start_block: int = Field(0, ge=0, description="the block in which the coordinator was deployed")
    confirmations: int = Field(3, ge=1, le=1000, description="1 means: in a block")
    poll_interval: Seconds = 2.0
    scan_span: int = Field(2000, ge=1)
    rpc_timeout: Seconds = 10.0
    max_fee_gwei: float = Field(200.0, gt=0, description="never offer more than this a gas")
    priority_fee_gwei: float = Field(1.0, ge=0)
    replace_after: Seconds = Field(90.0, description="raise the fees of a transaction that is not mined by then")
    report_items: int = Field(16, ge=1, le=64, description="fulfilments in one transaction at most")
    max_cost_ratio: float = Field(
        3.0, gt=0, description="post a request only while its gas costs at most this many times what it paid"
    )
    token_prices: TokenPrices = Field({}, description="wei that the smallest part of each accepted ERC-20 is worth")
    reports_in_flight: int = Field(4, ge=1, le=16)

    operator_key: SecretStr | None = Field(None, description="hex private key; prefer operator_key_file")
    operator_key_file: Path | None = Field(None, description="a hex key or an encrypted JSON keystore")
    requester_key: SecretStr | None = None
    requester_key_file: Path | None = None
    publisher_key: SecretStr | None = None
    publisher_key_file: Path | None = Field(None, description="the payout account of models published here")
    key_password_file: Path | None = Field(None, description="password of the JSON keystore")

    ipfs_api: str = Field("/ip4/127.0.0.1/tcp/5001", description="multiaddr of a Kubo RPC API")
    gateway_url: str = Field("http://127.0.0.1:5001", description="where browsers read /ipfs/<cid>")
    fetch_timeout: Seconds = 30.0
    image_max_bytes: int = Field(16 * MIB, ge=1, le=64 * MIB, description="a batch carries 64 MiB")
    image_max_pixels: int = Field(40_000_000, ge=1)
    drawings: bool = Field(True, description="pin PNG drawings beside each result")
    image_checkers: int = Field(1, ge=1, le=16, description="child processes that decode pictures")
    intake_concurrency: int = Field(16, ge=1, le=256)
    intake_bytes: int = Field(256 * MIB, ge=1, description="memory for pictures on their way in, at their largest")
    weights_max_bytes: int = Field(2048 * MIB, ge=1, description="models with larger weights are not served")

    batch_items: int = Field(16, ge=1, le=16)
    batch_bytes: int = Field(64 * MIB, ge=1, le=64 * MIB)
    batch_linger: float | None = Field(
        None, ge=0, description="how long an idle backend waits for company that is on its way; else 0.05, on Golem 0.2"
    )
    workers: int = Field(1, ge=1, le=64, description="worker processes of the local backend")
    worker_threads: int = Field(1, ge=1, le=64)
    compute_timeout: Seconds = 120.0
    backend: Literal["local", "golem"] = Field("local", description="where models run")
    redundancy: float = Field(0.1, ge=0, le=1, description="share of Golem tasks that two providers compute")
    known_answers: float = Field(0.1, ge=0, le=1, description="share of Golem tasks with a known answer among them")

    yagna_api_url: str | None = Field(None, description="yagna's REST API; else YAGNA_API_URL")
    yagna_appkey: SecretStr | None = Field(None, description="prefer yagna_appkey_file, or YAGNA_APPKEY")
    yagna_appkey_file: Path | None = None
    payment_network: str | None = Field(None, description="hoodi, polygon ...; else YAGNA_PAYMENT_NETWORK")
    payment_driver: str | None = Field(None, description="else YAGNA_PAYMENT_DRIVER, else erc20")
    subnet: str | None = Field(None, description="else YAGNA_SUBNET, else public")
    gftp_dir: Path | None = Field(None, description="folder of gftp, where it is not on the PATH")
    golem_images: Path = Field(Path("build/images"), description="folder of the descriptions of provider images")
    golem_workers: int = Field(3, ge=1, le=100, description="providers at work at once")
    golem_idle_release: Seconds = Field(120.0, description="an idle provider is kept, and paid, for so long")
    golem_budget_request: Glm = Field(Decimal("0.01"), description="GLM for one request at most")
    golem_budget_batch: Glm = Field(Decimal("0.1"), description="GLM for one batch at most")
    golem_budget_day: Glm = Field(Decimal(10), description="GLM in 24 hours at most")
    golem_max_start: Glm = Field(Decimal("0.1"), description="GLM that a provider may ask for a start")
    golem_max_second: Glm = Field(Decimal("0.001"), description="GLM that a provider may ask for a second")
    golem_max_cpu_second: Glm = Field(
        Decimal("0.002"), description="GLM that a provider may ask for a processor second"
    )
    glm_price: Glm | None = Field(None, description="wei that one GLM is worth, for the margins of sibyl accounts")
    golem_trusted: NodeIds = Field((), description="providers that are never blocked")
    golem_banned: NodeIds = Field((), description="providers that get no work")
    max_attempts: int = Field(3, ge=1, le=20)

    api_host: str = Field("127.0.0.1", description="address that `sibyl api` listens on")
    api_port: int = Field(8080, ge=0, le=65_535, description="0 takes a free one")
    api_url: Endpoint | None = Field(None, description="address of the API as its users reach it")
    page_rpc_url: Endpoint | None = Field(
        None, description="RPC endpoint given to browsers; never rpc_url of itself, which may hold a key"
    )
    page_gateways: Gateways = Field((), description="IPFS gateways that the page may fetch content from, too")
    page_dir: Path = Field(PAGE, description="folder of the built page")
    api_cors: Origins = Field((), description="origins whose pages may use the API; * for all")
    api_rate: float = Field(50.0, gt=0, description="requests a second for one client")
    api_burst: int = Field(200, ge=1, description="requests at once that one client may have saved up")
    api_proxies: int = Field(0, ge=0, le=10, description="trusted proxies that append to X-Forwarded-For")
    api_streams: int = Field(16, ge=1, le=1000, description="event streams for one client")
    api_upload_day: int = Field(
        256 * MIB, ge=1, description="bytes in 24 hours that one client may upload and nobody has asked about yet"
    )
    api_upload_total: int = Field(2048 * MIB, ge=1, description="bytes of uploads that nobody has asked about yet")
    url_private: bool = Field(False, description="fetch pictures from URLs of private networks, too")

    gateway_key: SecretStr | None = Field(None, description="hex private key; prefer gateway_key_file")
    gateway_key_file: Path | None = Field(None, description="the account that pays for the API's users")
    gateway_open: bool = Field(False, description="pay for users without an API key")
    gateway_open_day: Ether = Field(Decimal("0.05"), description="ether in 24 hours for all users without a key")
    gateway_day: Ether = Field(Decimal("0.05"), description="ether in 24 hours for a new API key")
    gateway_total_day: Ether = Field(Decimal("0.5"), description="ether in 24 hours for everybody")
    deadline_margin: float = Field(
        30.0, gt=0, le=3600, description="time kept for posting before a request's deadline; at least two blocks"
    )

    @property
    def linger(self) -> float:
        """Seconds that an idle backend waits for company; on Golem every task has a round trip's overhead."""
        if self.batch_linger is not None:
            return self.batch_linger
        return 0.2 if self.backend == "golem" else 0.05

    @property
    def api_body_bytes(self) -> int:
        """The largest body that the API reads, but for weights: a picture and the form around it."""
        return self.image_max_bytes + _FORM_BYTES

    @property
    def gateway_database(self) -> Path:
        """Where API keys and what was spent for them are written."""
        return self.data_dir / "gateway.sqlite3"

    @property
    def uploads_database(self) -> Path:
        """Where it is written what was uploaded and nobody has asked about yet."""
        return self.data_dir / "uploads.sqlite3"

    @property
    def database(self) -> Path:
        """The oracle's database file."""
        return self.data_dir / "oracle.sqlite3"

    @property
    def wishes(self) -> Path:
        """Where it is noted which provider a requester wants."""
        return self.data_dir / "wishes"

    @property
    def compiled(self) -> Path:
        """Where models lie that were compiled for this machine; nothing is lost with it but the time to do it again."""
        return self.data_dir / "compiled"

    @property
    def spool(self) -> Path:
        """Where verified pictures and weights lie while they are needed."""
        return self.data_dir / "spool"


def load_settings(data_dir: Path | None = None) -> Settings:
    """Settings for a data directory. Raises ConfigurationError that names each bad setting, never its value."""
    with named_problems():
        environment = Settings()
        chosen, named = data_dir or environment.data_dir, environment.deployment
        deployment = {**read_deployment(chosen), **(read_contracts(named) if named else {})}

        class Deployed(Settings):
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
                file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=deployment)

        return Deployed(data_dir=chosen)


def load_local_settings(data_dir: Path) -> Settings:
    """Settings of a stack on this machine: its deployment file, and of the environment ``TUNING`` alone.

    An environment made for another deployment thus cannot lead the stack to its chain or to its keys.
    """
    tuning = {
        name: value
        for variable, value in os.environ.items()
        if (name := variable.lower().removeprefix(PREFIX.lower())) in TUNING and name in Settings.model_fields
    }

    class Local(Settings):
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

    with named_problems():
        values: dict[str, Any] = {**tuning, **read_deployment(data_dir), "data_dir": data_dir}
        return Local(**values)


def local_environment() -> dict[str, str]:
    """The environment of this process for the children of a stack on this machine: no setting in it but ``TUNING``."""
    return {
        variable: value
        for variable, value in os.environ.items()
        if not variable.upper().startswith(PREFIX) or variable.lower().removeprefix(PREFIX.lower()) in TUNING
    }


def read_deployment(data_dir: Path) -> dict[str, Any]:
    """What ``sibyl up`` wrote for the other commands; nothing where it never ran. Raises ConfigurationError."""
    file = data_dir / DEPLOYMENT_FILE
    problem = ""
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise ConfigurationError(
            f"{data_dir} is not a folder", remedy="Give another --data-dir, or set SIBYL_DATA_DIR."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error.strerror}", remedy="Mend its permissions, or choose another --data-dir."
        ) from None
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON: {error}"
    else:
        if isinstance(document, dict):
            return document
        problem = "holds no JSON object"
    raise ConfigurationError(
        f"{file} {problem}", remedy="Delete it and run `sibyl up` again, or set SIBYL_DATA_DIR to another folder."
    )


def read_contracts(file: Path) -> dict[str, Any]:
    """Coordinator, chain id and start block from what ``scripts/deploy.py`` wrote. Raises ConfigurationError."""
    try:
        document = json.loads(file.read_bytes())
        return {
            "coordinator": document["coordinator"],
            "chain_id": document["chainId"],
            "start_block": document["startBlock"],
        }
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        problem = "is not JSON"
    except (KeyError, TypeError):
        problem = "names no coordinator, chainId and startBlock"
    raise ConfigurationError(
        f"SIBYL_DEPLOYMENT: {file} {problem}",
        remedy="Name a file of build/deployments, which scripts/deploy.py writes.",
    )


def _variable(place: tuple[int | str, ...]) -> str:
    """The environment variable of a setting."""
    return PREFIX + "_".join(map(str, place)).upper()


@contextmanager
def named_problems(
    what: str = "settings",
    named: Callable[[tuple[int | str, ...]], str] = _variable,
    remedy: str = "Mend the environment variables named, or the deployment file.",
) -> Iterator[None]:
    """What pydantic finds wrong as a ConfigurationError that names each setting, never its value."""
    try:
        yield
    except ValidationError as error:
        problems = "; ".join(f"{named(one['loc'])}: {one['msg']}" for one in error.errors())
        raise ConfigurationError(f"bad {what}: {problems}", remedy=remedy) from None
    except SettingsError:
        # The one setting that is more than a word or a number.
        raise ConfigurationError(
            "bad settings: SIBYL_TOKEN_PRICES is not JSON",
            remedy='Set it to an object of token addresses and prices in wei, such as {"0x...": "0.25"}.',
        ) from None
