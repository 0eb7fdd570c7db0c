"""Every setting: from the environment (``SIBYL_*``), then the deployment file of ``sibyl up``, then defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, JsonConfigSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from oracle.errors import ConfigurationError

MIB = 1024 * 1024
DEPLOYMENT_FILE = "deployment.json"

Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """All that can be set. Sizes in bytes, times in seconds, fees in gwei; no field is read at import time."""

    model_config = SettingsConfigDict(env_prefix="SIBYL_", extra="ignore", frozen=True)

    data_dir: Path = Field(Path(".sibyl"), description="where the database, the spool and the deployment file live")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_json: bool = False

    rpc_url: str = Field("http://127.0.0.1:8545", description="the chain's JSON-RPC endpoint")
    chain_id: int | None = Field(None, ge=1, description="refuse to run on any other chain")
    coordinator: str | None = Field(None, description="address of the InferenceCoordinator")
    digit_reader: str | None = Field(None, description="address of the example consumer, for the demo")
    start_block: int = Field(0, ge=0, description="the block in which the coordinator was deployed")
    confirmations: int = Field(3, ge=1, le=1000, description="1 means: in a block")
    poll_interval: Seconds = 2.0
    scan_span: int = Field(2000, ge=1)
    rpc_timeout: Seconds = 10.0
    max_fee_gwei: float = Field(200.0, gt=0, description="never offer more than this a gas")
    priority_fee_gwei: float = Field(1.0, ge=0)
    replace_after: Seconds = Field(90.0, description="raise the fees of a report that is not mined by then")
    report_items: int = Field(16, ge=1, le=64, description="fulfilments in one transaction at most")
    reports_in_flight: int = Field(4, ge=1, le=16)

    operator_key: SecretStr | None = Field(None, description="hex private key; prefer operator_key_file")
    operator_key_file: Path | None = Field(None, description="a hex key or an encrypted JSON keystore")
    requester_key: SecretStr | None = None
    requester_key_file: Path | None = None
    key_password_file: Path | None = Field(None, description="password of the JSON keystore")

    ipfs_api: str = Field("/ip4/127.0.0.1/tcp/5001", description="multiaddr of a Kubo RPC API")
    gateway_url: str = Field("http://127.0.0.1:5001", description="where browsers read /ipfs/<cid>")
    fetch_timeout: Seconds = 30.0
    image_max_bytes: int = Field(16 * MIB, ge=1)
    image_max_pixels: int = Field(40_000_000, ge=1)
    image_checkers: int = Field(1, ge=1, le=16, description="child processes that decode pictures")
    intake_concurrency: int = Field(16, ge=1, le=256)

    batch_items: int = Field(16, ge=1, le=16)
    batch_bytes: int = Field(64 * MIB, ge=1, le=64 * MIB)
    batch_linger: float = Field(0.05, ge=0, description="how long an idle backend waits for company that is on its way")
    workers: int = Field(1, ge=1, le=64, description="worker processes of the local backend")
    worker_threads: int = Field(1, ge=1, le=64)
    compute_timeout: Seconds = 120.0
    max_attempts: int = Field(3, ge=1, le=20)
    deadline_margin: Seconds = Field(5.0, description="time kept for posting before a request's deadline")

    @property
    def database(self) -> Path:
        """The oracle's database file."""
        return self.data_dir / "oracle.sqlite3"

    @property
    def spool(self) -> Path:
        """Where verified pictures and weights lie while they are needed."""
        return self.data_dir / "spool"

    @property
    def deployment_file(self) -> Path:
        """The addresses that ``sibyl up`` writes for the other commands."""
        return self.data_dir / DEPLOYMENT_FILE


def load_settings(data_dir: Path | None = None) -> Settings:
    """Settings for a data directory. Raises ConfigurationError that names each bad setting, never its value."""
    try:
        chosen = data_dir or Settings().data_dir
        deployment = chosen / DEPLOYMENT_FILE

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
                return init_settings, env_settings, JsonConfigSettingsSource(settings_cls, json_file=deployment)

        return Deployed(data_dir=chosen)
    except ValidationError as error:
        problems = "; ".join(f"SIBYL_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(
            f"bad settings: {problems}", remedy="Mend the environment variables named, or the deployment file."
        ) from None
    except ValueError as error:
        raise ConfigurationError(
            f"{DEPLOYMENT_FILE} is not readable JSON: {error}",
            remedy="Delete it and run `sibyl up` again, or set SIBYL_DATA_DIR to another folder.",
        ) from None
