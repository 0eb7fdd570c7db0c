"""Which compute backend the settings ask for, and what the market's settings say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from oracle.compute.local import LocalBackend
from oracle.errors import ConfigurationError
from oracle.market import Price, to_amount
from oracle.ports import ProviderLedger
from oracle.settings import Settings

if TYPE_CHECKING:
    from oracle.compute.golem import GolemBackend, GolemTerms

DEFAULT_API_URL = "http://127.0.0.1:7465"


def local_backend(settings: Settings) -> LocalBackend:
    """The backend on this machine."""
    return LocalBackend(
        settings.data_dir / "work",
        compiled=settings.compiled,
        workers=settings.workers,
        threads=settings.worker_threads,
        max_pixels=settings.image_max_pixels,
        run_limit=settings.compute_timeout,
    )


def golem_backend(settings: Settings, ledger: ProviderLedger) -> GolemBackend:
    """The backend on Golem. Raises ConfigurationError when the settings do not say where yagna is, or who we are."""
    from oracle.compute.golem import GolemBackend

    if settings.gftp_dir is not None:
        # yapapi starts gftp by its name.
        os.environ["PATH"] = f"{settings.gftp_dir}{os.pathsep}{os.environ.get('PATH', '')}"
    terms = golem_terms(settings, os.environ)
    return GolemBackend(settings.data_dir / "golem-work", terms, ledger, max_pixels=settings.image_max_pixels)


def golem_terms(settings: Settings, environment: Mapping[str, str]) -> GolemTerms:
    """The market's terms from the settings, and from yagna's own variables where they say nothing.

    Raises ConfigurationError.
    """
    from oracle.compute.golem import GolemTerms, read_images

    network = settings.payment_network or environment.get("YAGNA_PAYMENT_NETWORK")
    if not network:
        raise ConfigurationError(
            "the payment network is not named",
            remedy="Set YAGNA_PAYMENT_NETWORK: `hoodi` for test money, `polygon` for real GLM.",
        )
    return GolemTerms(
        api_url=(settings.yagna_api_url or environment.get("YAGNA_API_URL") or DEFAULT_API_URL).rstrip("/"),
        app_key=_app_key(settings, environment),
        payment_network=network,
        payment_driver=settings.payment_driver or environment.get("YAGNA_PAYMENT_DRIVER") or "erc20",
        subnet=settings.subnet or environment.get("YAGNA_SUBNET") or "public",
        images=read_images(settings.golem_images),
        ceiling=Price(
            settings.golem_max_start,
            settings.golem_max_second,
            settings.golem_max_cpu_second,
        ),
        budget_request=to_amount(settings.golem_budget_request),
        budget_batch=to_amount(settings.golem_budget_batch),
        budget_day=to_amount(settings.golem_budget_day),
        workers=settings.golem_workers,
        idle_release=settings.golem_idle_release,
        run_limit=settings.compute_timeout,
        trusted=frozenset(settings.golem_trusted),
        banned=frozenset(settings.golem_banned),
    )


def _app_key(settings: Settings, environment: Mapping[str, str]) -> str:
    if settings.yagna_appkey is not None:
        return settings.yagna_appkey.get_secret_value()
    if settings.yagna_appkey_file is not None:
        try:
            return settings.yagna_appkey_file.read_text().strip()
        except OSError as error:
            raise ConfigurationError(
                f"the app key file {settings.yagna_appkey_file} cannot be read: {error.strerror}",
                remedy="Mend its path or permissions, or set YAGNA_APPKEY.",
            ) from None
    key = environment.get("YAGNA_APPKEY")
    if not key:
        raise ConfigurationError(
            "yagna's app key is not set",
            remedy="Make one with `yagna app-key create sibyl` and set YAGNA_APPKEY, or SIBYL_YAGNA_APPKEY_FILE.",
        )
    return key
