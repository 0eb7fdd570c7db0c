"""Where the wish for a provider is left: in the folder of this machine's oracle, or with its API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from oracle.chain.account import AccountSender
from oracle.chain.wishes import Wish
from oracle.content.http import ApiRefused, HttpApi
from oracle.domain import Cid
from oracle.errors import ConfigurationError, SibylError
from oracle.settings import Settings
from oracle.status import open_store
from oracle.store import DirectoryWishes

_MOST_PAGES = 20
_SHOWN = 20


class FolderWishes:
    """Wishes for the oracle that runs on this machine with the same data directory."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def wish(self, sender: AccountSender, image: Cid, provider: str) -> None:
        """Leave it in the oracle's folder. Raises SibylError for a provider that the oracle has never seen."""
        store = open_store(self._settings)
        try:
            known = await store.ledger.providers()
        finally:
            await store.close()
        _check(provider, {one.node_id: one.name for one in known})
        await asyncio.to_thread(DirectoryWishes(self._settings.wishes).wish, sender.address, image, provider)


class ApiWishes:
    """Wishes for the oracle behind an API."""

    def __init__(self, api: HttpApi, chain_id: int, coordinator: str) -> None:
        self._api, self._chain_id, self._coordinator = api, chain_id, coordinator

    async def wish(self, sender: AccountSender, image: Cid, provider: str) -> None:
        """Sign it and leave it with the API. Raises SibylError for a provider that the oracle has never seen."""
        _check(provider, await self._known())
        wish = Wish(self._chain_id, self._coordinator, sender.address, image, provider, int(time.time()))
        body = {
            "requester": wish.requester,
            "image_cid": image.text,
            "provider": provider,
            "signed_at": wish.signed_at,
            "signature": "0x" + sender.sign_wish(wish).hex(),
        }
        try:
            await self._api.document("/v1/requests/wish", method="PUT", json_body=body)
        except ApiRefused as error:
            raise SibylError(str(error), remedy=error.remedy or "Ask without naming a provider.") from error

    async def _known(self) -> dict[str, str]:
        known: dict[str, str] = {}
        query: dict[str, str] = {"limit": "100"}
        for _ in range(_MOST_PAGES):
            page = await self._api.document("/v1/providers", query=query)
            items = page.get("items")
            for one in items if isinstance(items, list) else ():
                if isinstance(one, dict):
                    known[str(one.get("id"))] = str(one.get("name"))
            if not isinstance(page.get("next"), str):
                break
            query["cursor"] = page["next"]
        return known


class NoWishes:
    """For a client that knows no oracle: only the chain, and content."""

    async def wish(self, sender: AccountSender, image: Cid, provider: str) -> None:
        """Raises ConfigurationError."""
        del sender, image
        raise ConfigurationError(
            f"there is no oracle here to tell about {provider!a}",
            remedy="Name the oracle's data_dir on its own machine, or the address of its API (api_url).",
        )


def _check(provider: str, known: dict[str, str]) -> None:
    """Refuse a provider that nobody has seen, before anything is paid."""
    if provider not in {*known, *known.values()}:
        names: Iterable[str] = sorted(name for name in known.values() if name.isprintable())
        listed = ", ".join(list(names)[:_SHOWN]) or "nobody"
        raise SibylError(
            f"the oracle has seen no provider {provider!a}", remedy=f"It has seen: {listed}. Or name no provider."
        )
