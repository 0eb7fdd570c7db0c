"""Which model is meant: by number, by a name that one alone bears, or the deployment's own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from oracle.chain.account import money
from oracle.chain.coordinator import CoordinatorReader
from oracle.chain.rpc import Rpc
from oracle.content.http import HttpContentStore
from oracle.content.ipfs import IpfsContentStore
from oracle.domain import ModelManifest, OnChainModel
from oracle.errors import PermanentFailure, Retryable, SibylError
from oracle.manifests import MAX_BYTES as MANIFEST_MAX_BYTES
from oracle.manifests import read_manifest
from oracle.settings import Settings

MANIFEST_SECONDS = 5.0  # for one manifest of the registry, which anyone may have published
REGISTRY_SECONDS = 30.0  # for all of them
_UNREAD = "not read: too many manifests are slow to come"
_MANIFESTS_AT_ONCE = 8
_SHOWN = 8  # models that an error names
_SEE = "See models() (command line: `sibyl models`)."


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of the registry with its manifest, or why that cannot be read."""

    on_chain: OnChainModel
    manifest: ModelManifest | None
    problem: str = ""

    @property
    def name(self) -> str:
        """The manifest's name, or the number."""
        return self.manifest.name if self.manifest else f"model {self.on_chain.model_id}"


class Models:
    """The registry of one deployment, as a requester reads it."""

    def __init__(
        self,
        settings: Settings,
        rpc: Rpc,
        reader: CoordinatorReader,
        content: IpfsContentStore | HttpContentStore,
    ) -> None:
        self.settings, self.rpc, self.reader, self.content = settings, rpc, reader, content

    async def models(self) -> list[ListedModel]:
        """Every model of the registry, in the order of publication."""
        return await self._with_manifests(await self.reader.models())

    async def model(self, choice: str | None = None) -> ListedModel:
        """The model of that number or name; None means the deployment's own.

        Anyone may publish a model of any name. So digits are a number and nothing else, and a name counts when one
        active model alone bears it, or the deployment's own does. Raises SibylError with what there is to choose.
        """
        if choice is None:
            if self.settings.default_model is None:
                raise SibylError(
                    "this deployment names no model of its own",
                    remedy="Choose one of models() by its number (command line: --model NUMBER, from `sibyl models`), "
                    "or set default_model (SIBYL_DEFAULT_MODEL).",
                )
            return await self._numbered(self.settings.default_model)
        if choice.isascii() and choice.isdigit():
            return await self._numbered(int(choice) if len(choice) < 78 else 0)  # a uint256 has at most 78 digits
        return await self._named(choice)

    async def manifest(self, model: OnChainModel, *, timeout: float) -> ModelManifest:
        """A model's manifest, by the CID that the registry holds; ``timeout`` in seconds.

        Raises ManifestInvalid, ContentUnavailable, ContentCorrupt, ContentTooLarge, ContentMalformed.
        """
        return read_manifest(await self.content.fetch(model.manifest_cid, limit=MANIFEST_MAX_BYTES, timeout=timeout))

    async def _numbered(self, number: int) -> ListedModel:
        model = await self.registered(number)
        if not model.active:
            raise SibylError(f"model {number} is paused by its publisher", remedy=f"Choose another one. {_SEE}")
        (listed,) = await self._with_manifests([model])
        return listed

    async def registered(self, number: int) -> OnChainModel:
        """A model of the registry by its number, active or not. Raises SibylError."""
        model = await self.reader.model(number) if number else None
        if model is None:
            raise SibylError(f"the registry holds no model {number}", remedy=_SEE)
        return model

    async def _named(self, name: str) -> ListedModel:
        active = [model for model in await self.reader.models() if model.active]
        trusted = [model for model in active if model.model_id == self.settings.default_model]
        for own in await self._with_manifests(trusted):
            if own.manifest is not None and own.name == name:
                return own
        known = await self._with_manifests(active)
        bearers = [model for model in known if model.manifest is not None and model.name == name]
        if any(model.problem == _UNREAD for model in known):
            raise SibylError(
                f"the registry's manifests are too slow to come to know which models bear the name {name!r}",
                remedy="Choose by number (command line: --model NUMBER).",
            )
        if len(bearers) == 1:
            return bearers[0]
        if bearers:
            listed = "; ".join(
                f"{model.on_chain.model_id} ({money(model.on_chain.price, model.on_chain.token)}, "
                f"paid to {model.on_chain.payout})"
                for model in bearers[:_SHOWN]
            )
            more = f"; and {len(bearers) - _SHOWN} more" if len(bearers) > _SHOWN else ""
            raise SibylError(
                f"{len(bearers)} active models bear the name {name!r}: {listed}{more}",
                remedy="Choose by number, the publisher that you trust (command line: --model NUMBER).",
            )
        names = sorted({model.name for model in known})
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise SibylError(f"there is no active model {name!r}", remedy=f"Choose one of: {shown or 'none'}. {_SEE}")

    async def _with_manifests(self, models: Sequence[OnChainModel]) -> list[ListedModel]:
        turn = asyncio.Semaphore(_MANIFESTS_AT_ONCE)
        until = time.monotonic() + REGISTRY_SECONDS
        seconds = min(MANIFEST_SECONDS, self.settings.fetch_timeout)

        async def listed(model: OnChainModel) -> ListedModel:
            async with turn:
                if time.monotonic() > until:
                    return ListedModel(model, None, _UNREAD)
                try:
                    return ListedModel(model, await self.manifest(model, timeout=seconds))
                except (PermanentFailure, Retryable) as error:
                    return ListedModel(model, None, str(error))

        return list(await asyncio.gather(*(listed(model) for model in models)))
