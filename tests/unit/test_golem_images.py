"""Which models the descriptions of provider images allow for on Golem."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pipeline_flow as flow
import pytest

from oracle.compute.golem import GolemBackend, GolemTerms, backend, read_images
from oracle.errors import NoOffers
from oracle.manifests import read_manifest
from oracle.store import SqliteRequestStore

pytestmark = pytest.mark.unit

MODEL = read_manifest(flow.manifest())


@pytest.fixture
async def store() -> AsyncIterator[SqliteRequestStore]:
    opened = SqliteRequestStore(":memory:")
    yield opened
    await opened.close()


def on_golem(folder: Path, store: SqliteRequestStore, described: dict[str, Any]) -> GolemBackend:
    """A backend, not started, of one image."""
    described = {"schema": "sibyl/image/1", "family": "mnist", "file": "a.gvmi", "sha3_224": "ab", **described}
    (folder / "image.json").write_text(json.dumps(described))
    terms = GolemTerms("http://127.0.0.1:1", "key", payment_network="hoodi", images=read_images(folder))
    return GolemBackend(folder / "tasks", terms, store.ledger)


@pytest.mark.parametrize("described", [
    {"weights": {}},
    {"weights": {"0" * 64: "/weights.npz"}, "sealed": False},
    {"weights": {MODEL.weights_sha256: "/model.xml"}, "sealed": True},
])  # fmt: skip
async def test_given_an_image_that_runs_a_models_weights_then_providers_are_looked_for(
    described: dict[str, Any], store: SqliteRequestStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_PATIENCE", 0)
    with pytest.raises(NoOffers):
        await on_golem(tmp_path, store, described).quotes(MODEL, 1)


@pytest.mark.parametrize("described", [
    {"weights": {"0" * 64: "/model.xml"}, "sealed": True},
    {"weights": {MODEL.weights_sha256: "/weights.npz"}, "family": "densenet121"},
])  # fmt: skip
async def test_given_an_image_of_other_weights_alone_then_no_provider_is_asked_for_what_none_can_do(
    described: dict[str, Any], store: SqliteRequestStore, tmp_path: Path
) -> None:
    assert await on_golem(tmp_path, store, described).quotes(MODEL, 1) == []
