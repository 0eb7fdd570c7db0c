"""The models that can be asked, at hand: the registry is read again in the background, manifests once for their CID.

Anyone may publish a model, with a manifest or a token that is slow to answer or never does; nobody who lists models
waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

from oracle.api.ports import ChainView, Content, TokenFacts
from oracle.api.problems import Problem
from oracle.domain import Cid, ModelManifest, OnChainModel
from oracle.errors import ManifestInvalid, PermanentFailure, SibylError
from oracle.manifests import MAX_BYTES, read_manifest
from oracle.telemetry import logger

FRESH = 5.0  # seconds for which the registry's list is not read again
MANIFEST_SECONDS = 5.0  # for one manifest
FIRST_SECONDS = 1.0  # that the first list of all waits for manifests
AGAIN = 60.0  # seconds before a manifest or a token that did not come is tried again
AT_ONCE = 3  # manifests on their way
BUDGET = 64 * 1024 * 1024  # bytes of manifests that are held
COMING = "its manifest is being read"
ABSENT = "its manifest did not come"
_SHORT = 16  # characters of a token's symbol that are shown

_log = logger("api")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model of the registry with its manifest, or why that cannot be read."""

    on_chain: OnChainModel
    manifest: ModelManifest | None
    problem: str = ""
    token: TokenFacts | None = None

    @property
    def name(self) -> str:
        """The manifest's name, or the number."""
        return self.manifest.name if self.manifest else f"model {self.on_chain.model_id}"


class Registry:
    """Models by number, as of a few seconds ago."""

    def __init__(self, chain: ChainView, content: Content) -> None:
        self._chain, self._content = chain, content
        self._models: dict[int, KnownModel] = {}
        self._read_at: float | None = None
        self._reading: asyncio.Task[None] | None = None
        self._manifests: dict[Cid, ModelManifest] = {}
        self._held = 0
        self._failed: dict[Cid, tuple[str, float]] = {}  # why, and until when it is believed
        self._fetching: set[asyncio.Task[None]] = set()
        self._coming: set[Cid | str] = set()
        self._tokens: dict[str, TokenFacts] = {}
        self._silent: dict[str, float] = {}  # tokens that said nothing, and until when they are not asked again
        self._turn, self._token_turn = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(AT_ONCE)
        self.version = 0
        """Counts the changes of what is known."""

    async def models(self) -> Sequence[KnownModel]:
        """Every model, in the order of publication. Waits only for the first list of all. Raises ChainError."""
        await self._look()
        return list(self._models.values())

    async def model(self, number: int) -> KnownModel:
        """One model. Raises Problem 404 when the registry holds none."""
        await self._look()
        known = self._models.get(number)
        if known is None and self._reading is not None:
            await asyncio.shield(self._reading)  # it may have been published a moment ago
            known = self._models.get(number)
        if known is None:
            raise Problem(
                404,
                "unknown-model",
                "No such model",
                f"the registry holds no model {number}",
                remedy="See /v1/models for those that there are.",
            )
        return known

    def at_hand(self, number: int) -> KnownModel | None:
        """What is known of a model now, without waiting; one that is new is looked for in the background."""
        self._refresh()
        return self._models.get(number)

    async def close(self) -> None:
        """Stop looking."""
        tasks = [*self._fetching, *([self._reading] if self._reading else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def warm(self) -> None:
        """Read the registry before anyone asks. What fails is tried again when somebody does."""
        with contextlib.suppress(SibylError):
            await self._look()

    async def _look(self) -> None:
        reading = self._refresh()
        if self._read_at is None and reading is not None:
            await asyncio.shield(reading)
            # Those that are near come at once; a slow one keeps nobody.
            if self._fetching:
                await asyncio.wait(self._fetching, timeout=FIRST_SECONDS)

    def _refresh(self) -> asyncio.Task[None] | None:
        if self._reading is not None and not self._reading.done():
            return self._reading
        if self._read_at is not None and time.monotonic() - self._read_at < FRESH:
            return None
        self._reading = asyncio.create_task(self._read(), name="registry")
        # A failure that nobody waits for is in the log; what was known stays.
        self._reading.add_done_callback(_told)
        return self._reading

    async def _read(self) -> None:
        listed = await self._chain.models()
        now = time.monotonic()
        models = {model.model_id: self._known(model, now) for model in listed}
        self._read_at = now
        self._tell(models)

    def _known(self, model: OnChainModel, now: float) -> KnownModel:
        cid = model.manifest_cid
        manifest = self._manifests.get(cid)
        token = self._tokens.get(model.token) if model.token is not None else None
        if model.token is not None and token is None and self._silent.get(model.token, 0.0) <= now:
            self._start(model.token, self._learn_token(model.token))
        if manifest is not None:
            return KnownModel(model, manifest, "", token)
        why, until = self._failed.get(cid, ("", 0.0))
        if until <= now:
            self._start(cid, self._fetch(cid))
        return KnownModel(model, None, why or COMING, token)

    def _start(self, key: Cid | str, work: Coroutine[None, None, None]) -> None:
        """Have a manifest or a token come, once for all models that name it."""
        if key in self._coming:
            work.close()
            return
        self._coming.add(key)
        task = asyncio.create_task(work, name=f"registry: {key}")
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _fetch(self, cid: Cid) -> None:
        try:
            async with self._turn:
                if self._held >= BUDGET:
                    raise ManifestInvalid("not read: the registry's manifests are more than this API holds")
                data = await self._content.fetch(cid, limit=MAX_BYTES, timeout=MANIFEST_SECONDS)
            self._manifests[cid] = read_manifest(data)
            self._held += len(data)
            self._failed.pop(cid, None)
        except SibylError as error:
            lasting = isinstance(error, PermanentFailure)
            _log.info("manifest %s: %s", cid, error)
            # Only what is wrong with the manifest itself is for everyone; the rest names hosts of this machine.
            self._failed[cid] = (str(error) if lasting else ABSENT, time.monotonic() + (3600.0 if lasting else AGAIN))
        finally:
            self._coming.discard(cid)
        self._look_again(lambda model: model.manifest_cid == cid)

    def _look_again(self, concerned: Callable[[OnChainModel], bool]) -> None:
        now = time.monotonic()
        self._tell(
            {
                number: self._known(known.on_chain, now) if concerned(known.on_chain) else known
                for number, known in self._models.items()
            }
        )

    def _tell(self, models: dict[int, KnownModel]) -> None:
        if models != self._models:
            self._models = models
            self.version += 1

    async def _learn_token(self, address: str) -> None:
        try:
            async with self._token_turn:
                said = await self._chain.token(address)
        except SibylError as error:
            _log.info("token %s: %s", address, error)
            self._silent[address] = time.monotonic() + AGAIN
            return
        finally:
            self._coming.discard(address)
        shown = "".join(character for character in said.symbol if character.isascii() and character.isprintable())
        self._tokens[address] = TokenFacts(shown[:_SHORT].strip() or "token", said.decimals)
        self._look_again(lambda model: model.token == address)


def _told(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.info("the registry was not read: %s", error)
