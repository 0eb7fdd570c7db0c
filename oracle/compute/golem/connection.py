"""The way to yagna: start-up checks, and errors that say what to do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

import aiohttp

from oracle.compute.golem.terms import GolemTerms
from oracle.errors import ConfigurationError, MissingTool

_ANSWER_SECONDS = 10.0


async def check_connection(terms: GolemTerms) -> str:
    """The requestor's node id, once yagna answers, takes the key, and ``gftp`` is at hand.

    yapapi's own words for these three are a ClientConnectorError, a JSONDecodeError and a ConnectionResetError.
    Raises ConfigurationError, MissingTool.
    """
    if shutil.which("gftp") is None:
        raise MissingTool(
            "gftp, which carries files to providers, is not on the PATH",
            remedy="Install it (it comes with yagna's release archive) and add its folder to PATH.",
        )
    headers = {"Authorization": f"Bearer {terms.app_key}"}
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(f"{terms.api_url}/me") as answer,
        ):
            if answer.status == 401:
                raise ConfigurationError(
                    f"yagna at {terms.api_url} refuses the app key",
                    remedy="Make one with `yagna app-key create sibyl` and set YAGNA_APPKEY to it.",
                )
            body = await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise ConfigurationError(
            f"yagna does not answer at {terms.api_url}: {type(error).__name__}",
            remedy="Start it with `yagna service run`, or set YAGNA_API_URL to where it listens.",
        ) from None
    identity = body.get("identity") if isinstance(body, Mapping) else None
    if not isinstance(identity, str):
        raise ConfigurationError(
            f"what answers at {terms.api_url} is not yagna", remedy="Set YAGNA_API_URL to where yagna listens."
        )
    return identity


def allocation_refused(terms: GolemTerms, error: Exception) -> ConfigurationError:
    """What to say when yagna reserves no money for us."""
    body = str(getattr(error, "body", "") or error)[:300]
    return ConfigurationError(
        f"yagna reserves no money on {terms.payment_driver}-{terms.payment_network}: {body}",
        remedy=f"Fund the requestor (`yagna payment fund --network {terms.payment_network}`), or lower the budget of a "
        "day, SIBYL_GOLEM_BUDGET_DAY.",
    )
