"""Turns the model id of a request into something a backend can run: registry, manifest, weights, all verified."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace

from oracle.domain import Cid, OnChainModel, ServableModel
from oracle.errors import ContentError, ModelUnservable, PermanentFailure, Retryable
from oracle.manifests import MAX_BYTES as MANIFEST_MAX_BYTES
from oracle.manifests import read_manifest
from oracle.ports import ChainReader, Clock, ComputeBackend, ContentStore, Spool

REGISTRY_AGE = 30.0  # seconds a registry entry is believed before it is read again
REFUSAL_AGE = 60.0  # seconds a refusal is remembered, so that a model mended later is picked up
RETRY_AGE = 2.0  # the same for a failure that may pass


@dataclass(frozen=True, slots=True)
class _Known:
    model: OnChainModel | None
    at: float


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: PermanentFailure | Retryable
    until: float


class ModelCatalogue:
    """Resolves models on first use and remembers them by manifest CID; concurrent callers share one resolution.

    What is remembered grows with the registry (4,095 models at most), not with the requests.
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
        weights_limit: int = 1024 * 1024 * 1024,
    ) -> None:
        self._chain, self._content, self._spool, self._backend = chain, content, spool, backend
        self._clock, self._timeout, self._weights_limit = clock, timeout, weights_limit
        self._registry: dict[int, _Known] = {}
        self._servable: dict[Cid, ServableModel] = {}
        self._refused: dict[Cid, _Refusal] = {}
        self._locks: defaultdict[Cid, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def resolve(self, model_id: int) -> ServableModel:
        """The model, its weights on local disk and checked against their sha256.

        Raises ModelUnservable or ManifestInvalid when it can never be run here; Retryable errors when it may be later.
        """
        entry = await self._entry(model_id)
        cid = entry.manifest_cid
        # One lock a manifest: a model that loads slowly holds up nobody who asks for another.
        async with self._locks[cid]:
            known = self._servable.get(cid)
            if known is not None and known.weights.exists():
                return replace(known, model_id=model_id)
            refusal = self._refused.get(cid)
            if refusal is not None and self._clock.now() < refusal.until:
                raise refusal.error
            try:
                model = await self._load(entry)
            except PermanentFailure as error:
                self._refused[cid] = _Refusal(error, self._clock.now() + REFUSAL_AGE)
                raise
            except Retryable as error:
                # Those who waited for the lock must not each wait for the same fetch to fail.
                self._refused[cid] = _Refusal(error, self._clock.now() + RETRY_AGE)
                raise
            self._refused.pop(cid, None)
            self._servable[cid] = model
            return model

    async def _entry(self, model_id: int) -> OnChainModel:
        known = self._registry.get(model_id)
        if known is None or self._clock.now() - known.at > REGISTRY_AGE:
            known = _Known(await self._chain.model(model_id), self._clock.now())
            self._registry[model_id] = known
        if known.model is None:
            raise ModelUnservable(f"the registry holds no model {model_id}")
        return known.model

    async def _load(self, entry: OnChainModel) -> ServableModel:
        manifest = read_manifest(await self._fetch(entry.manifest_cid, MANIFEST_MAX_BYTES, "manifest"))
        able = self._backend.capabilities()
        if manifest.task not in able.tasks or manifest.engine not in able.engines:
            raise ModelUnservable(
                f"{manifest.name} needs task {manifest.task!r} on engine {manifest.engine!r}, "
                f"which the {able.backend} backend does not run"
            )
        if not await self._backend.quotes(manifest, 1):
            raise ModelUnservable(f"no provider of the {able.backend} backend offers to run {manifest.name}")
        path = self._spool.path(manifest.weights_cid)
        weights = path.read_bytes() if path is not None else b""
        if hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
            weights = await self._fetch(manifest.weights_cid, self._weights_limit, "weights")
            if hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
                raise ModelUnservable(f"the weights of {manifest.name} do not have the sha256 that its manifest states")
            path = await self._spool.put(manifest.weights_cid, weights)
        if path is None:
            raise ModelUnservable(f"the manifest of {manifest.name} states the sha256 of nothing")
        return ServableModel(entry.model_id, entry.manifest_cid, manifest, path)

    async def _fetch(self, cid: Cid, limit: int, what: str) -> bytes:
        try:
            return await self._content.fetch(cid, limit=limit, timeout=self._timeout)
        except ContentError as error:
            if isinstance(error, Retryable):
                raise
            raise ModelUnservable(f"the {what} {cid} cannot be read: {error}") from error
