"""Income from requests and payments to providers, together: earned, spent, owed, and the margin of each model."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

from oracle.client import connect
from oracle.errors import ConfigurationError
from oracle.market import Provider, Standing, to_glm
from oracle.settings import Settings
from oracle.status import open_store

BASIS_POINTS = 10_000


async def accounts(settings: Settings) -> dict[str, Any]:
    """The books of this oracle. Amounts in wei (or the smallest part of a model's token), providers' in GLM.

    A margin is what a model earned in ether, less its reports' gas and its providers at ``glm_price``; None where the
    price is not set or the model is priced in a token. Raises ConfigurationError, RpcUnavailable.
    """
    store = open_store(settings)
    try:
        models, providers = await store.books()
    finally:
        await store.close()
    async with connect(settings) as client:
        registry = {model.on_chain.model_id: model for model in await client.models()}
    lines = []
    left = dict(providers.by_model)
    for books in models:
        model = registry.get(books.model_id)
        if model is None:
            raise ConfigurationError(
                f"the database holds requests of model {books.model_id}, which the coordinator does not know",
                remedy="Point SIBYL_RPC_URL and SIBYL_COORDINATOR at the deployment that the database belongs to.",
            )
        share = model.on_chain.share
        earned = sum(payment - payment * share // BASIS_POINTS for payment in books.payments)
        inputs, spent = left.pop(model.on_chain.manifest_cid.text, (0, 0))
        line: dict[str, Any] = {
            "model_id": books.model_id,
            "model": model.name,
            "answered": len(books.payments),
            "computed": inputs,
            "token": model.on_chain.token,
            "earned": earned,
            "gas_wei": books.gas,
            "providers_glm": to_glm(spent),
            "margin_wei": None,
        }
        if model.on_chain.token is None and settings.glm_price is not None:
            line["margin_wei"] = earned - books.gas - int(Decimal(to_glm(spent)) * settings.glm_price)
        lines.append(line)
    other = sum(amount for _, amount in left.values())
    return {
        "models": lines,
        "earned_wei": sum(line["earned"] for line in lines if line["token"] is None),
        "gas_wei": sum(line["gas_wei"] for line in lines),
        "providers_glm": to_glm(providers.accepted),
        "settled_glm": to_glm(providers.accepted - providers.owed),
        "owed_glm": to_glm(providers.owed),
        "other_glm": to_glm(other),
    }


async def provider_list(settings: Settings) -> list[dict[str, Any]]:
    """Every provider that the oracle has seen, the last seen first: price, measured speed, reputation, its reasons."""
    store = open_store(settings)
    try:
        known = await store.ledger.providers()
    finally:
        await store.close()
    now = time.time()
    return [_facts(provider, settings, now) for provider in known]


def _facts(provider: Provider, settings: Settings, now: float) -> dict[str, Any]:
    counted = provider.decayed(now)
    standing = provider.standing
    if provider.node_id in settings.golem_banned:
        standing = Standing.BANNED
    return {
        "node_id": provider.node_id,
        "name": provider.name,
        "price_start_glm": str(provider.price.start),
        "price_second_glm": str(provider.price.second),
        "price_cpu_second_glm": str(provider.price.cpu_second),
        "threads": provider.threads,
        "images_per_second": round(provider.images_per_second, 2) or None,
        "load_seconds": round(provider.load_seconds, 3) or None,
        "avx": provider.avx,
        "reputation": round(provider.reputation(now), 3),
        "good": round(counted.good, 1),
        "failed": round(counted.failed, 1),
        "lied": round(counted.lied, 1),
        "standing": standing.value,
        "blocked": provider.blocked(now),
        "last_seen": provider.last_seen,
    }
