"""Turns the model id of a request into something a backend can run: registry, manifest, weights, all verified."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from oracle.domain import Cid, ModelManifest, OnChainModel, ServableModel
from oracle.errors import ContentError, ContentUnavailable, ModelUnservable, PermanentFailure, Retryable, SibylError
from oracle.manifests import MAX_BYTES as MANIFEST_MAX_BYTES
from oracle.manifests import read_manifest
from oracle.ports import ChainReader, Clock, ComputeBackend, ContentStore, Spool

REGISTRY_AGE = 30.0  # seconds a registry entry is believed before it is read again
REFUSAL_AGE = 60.0  # seconds a refusal is remembered, so that a model mended later is picked up
RETRY_AGE = 2.0  # the same for a failure that may pass
PATIENCE = 5.0  # seconds that callers wait for a model to load before they come again later
SLOWEST = 2 * 1024 * 1024  # bytes of weights a second; slower is given up, unless ``weights_timeout`` allows more


@dataclass(frozen=True, slots=True)
class _Known:
    model: OnChainModel | None
    at: float


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: PermanentFailure | Retryable
    until: float


@dataclass(frozen=True, slots=True)
class _Loading:
    task: asyncio.Task[ServableModel]
    since: float  # monotonic


class ModelCatalogue:
    """Resolves models on first use and remembers them by manifest CID; concurrent callers share one resolution.

    A model loads in the background, so that one which loads slowly holds up nobody for more than a few seconds, those
    who ask for it included. Weights have up to ``weights_limit`` bytes, which go to disk as they come, at least
    ``weights_timeout`` seconds to arrive, and a ``spool`` of their own. What is remembered grows with the registry
    (4,095 models at most), not with the requests.
    """

    def __init__(
        self,
        *,
        chain: ChainReader,
        content: ContentStore,
        spool: Spool,
        backend: ComputeBackend,
        clock: Clock,
        timeout: float,
        weights_limit: int = 2 * 1024**3,
        weights_timeout: float | None = None,
    ) -> None:
        self._chain, self._content, self._spool, self._backend = chain, content, spool, backend
        self._clock, self._timeout, self._weights_limit = clock, timeout, weights_limit
        self._weights_timeout = 10 * timeout if weights_timeout is None else weights_timeout
        self._registry: dict[int, _Known] = {}
        self._tokens: dict[int, str | None] = {}  # a model keeps its token for ever
        self._servable: dict[Cid, ServableModel] = {}
        self._refused: dict[Cid, _Refusal] = {}
        self._loading: dict[Cid, _Loading] = {}
        self._used: set[Cid] = set()  # weights asked for since the last sweep

    async def resolve(self, model_id: int) -> ServableModel:
        """The model, its weights on local disk and checked against their sha256.

        Raises ModelUnservable or ManifestInvalid when it can never be run here; Retryable errors when it may be later.
        """
        entry = await self._entry(model_id)
        cid = entry.manifest_cid
        known = self._servable.get(cid)
        if known is None or not known.weights.exists():
            known = await self._loaded(entry)
        self._used.add(known.manifest.weights_cid)
        return replace(known, model_id=model_id)

    async def token(self, model_id: int) -> str | None:
        """The ERC-20 that a model is priced in; None for ether, and for a model that the registry does not hold.

        Raises RpcUnavailable.
        """
        if model_id not in self._tokens:
            known = await self._look_up(model_id)
            if known is None:
                return None
            self._tokens[model_id] = known.token
        return self._tokens[model_id]

    async def _loaded(self, entry: OnChainModel) -> ServableModel:
        cid = entry.manifest_cid
        loading = self._loading.get(cid)
        if loading is None:
            refusal = self._refused.get(cid)
            # The chain's clock may fall back, and nothing may then be refused for longer than was meant.
            if refusal is not None and 0 < refusal.until - self._clock.now() <= REFUSAL_AGE:
                # A copy: an error that is raised again and again gathers the traces of everybody who met it.
                raise copy.copy(refusal.error) from None
            loading = _Loading(asyncio.create_task(self._load_and_remember(entry)), time.monotonic())
            # Whoever waits for it meets its error; when nobody does any more, it is remembered all the same.
            loading.task.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._loading[cid] = loading
        left = loading.since + PATIENCE - time.monotonic()
        if left > 0:
            await asyncio.wait([loading.task], timeout=left)
        if not loading.task.done():
            raise ContentUnavailable("the model's files are still on their way")
        error = loading.task.exception()
        if isinstance(error, SibylError):
            raise copy.copy(error) from None
        return loading.task.result()

    async def _load_and_remember(self, entry: OnChainModel) -> ServableModel:
        cid = entry.manifest_cid
        try:
            model = await self._load(entry)
        except (PermanentFailure, Retryable) as error:
            # Those who ask next must not each wait for the same fetch to fail.
            age = REFUSAL_AGE if isinstance(error, PermanentFailure) else RETRY_AGE
            self._refused[cid] = _Refusal(copy.copy(error), self._clock.now() + age)
            raise
        finally:
            self._loading.pop(cid, None)
        self._refused.pop(cid, None)
        self._servable[cid] = model
        return model

    async def sweep(self, *, older_than: float) -> None:
        """Remove weights that nobody asked for since the last sweep and that are older than ``older_than`` seconds."""
        used, self._used = self._used, set()
        spent = [cid for cid in await self._spool.cids(older_than=older_than) if cid not in used | self._used]
        self._servable = {k: v for k, v in self._servable.items() if v.manifest.weights_cid not in spent}
        await self._spool.discard(spent)

    async def close(self) -> None:
        """Stop what is loading."""
        tasks = [loading.task for loading in self._loading.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _entry(self, model_id: int) -> OnChainModel:
        model = await self._look_up(model_id)
        if model is None:
            raise ModelUnservable(f"the registry holds no model {model_id}")
        return model

    async def _look_up(self, model_id: int) -> OnChainModel | None:
        known = self._registry.get(model_id)
        if known is None or not 0 <= self._clock.now() - known.at <= REGISTRY_AGE:
            known = _Known(await self._chain.model(model_id), self._clock.now())
            self._registry[model_id] = known
        return known.model

    async def _load(self, entry: OnChainModel) -> ServableModel:
        with _unservable("manifest", entry.manifest_cid):
            data = await self._content.fetch(entry.manifest_cid, limit=MANIFEST_MAX_BYTES, timeout=self._timeout)
        manifest = read_manifest(data)
        able = self._backend.capabilities()
        if manifest.task not in able.tasks or manifest.engine not in able.engines:
            raise ModelUnservable(
                f"{manifest.name} needs task {manifest.task!r} on engine {manifest.engine!r}, "
                f"which the {able.backend} backend does not run"
            )
        if not await self._backend.quotes(manifest, 1):
            raise ModelUnservable(f"no provider of the {able.backend} backend offers to run {manifest.name}")
        size = int(manifest.document["weights"]["bytes"])
        if size > self._weights_limit:
            raise ModelUnservable(
                f"the weights of {manifest.name} have {size} bytes; at most {self._weights_limit} are taken here"
            )
        path = self._spool.path(manifest.weights_cid)
        if path is None or await asyncio.to_thread(_sha256_of, path) != manifest.weights_sha256:
            path = await self._spool.receive(manifest.weights_cid, lambda part: self._bring(manifest, size, part))
        return ServableModel(entry.model_id, entry.manifest_cid, manifest, path)

    async def _bring(self, manifest: ModelManifest, size: int, part: Path) -> None:
        cid, timeout = manifest.weights_cid, max(self._weights_timeout, size / SLOWEST)
        with _unservable("weights", cid):
            await self._content.fetch_file(cid, part, limit=size, timeout=timeout)
        if await asyncio.to_thread(_sha256_of, part) != manifest.weights_sha256:
            raise ModelUnservable(f"the weights of {manifest.name} do not have the sha256 that its manifest states")


@contextmanager
def _unservable(what: str, cid: Cid) -> Iterator[None]:
    """A file that can never be read makes its model one that cannot be served."""
    try:
        yield
    except ContentError as error:
        if isinstance(error, Retryable):
            raise
        raise ModelUnservable(f"the {what} {cid} cannot be read: {error}") from error


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
