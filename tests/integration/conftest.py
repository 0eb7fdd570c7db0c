"""What several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.golem_network import GolemNetwork, run_golem_network


@pytest.fixture(scope="session")
def golem_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GolemNetwork]:
    with run_golem_network(tmp_path_factory.mktemp("golem") / "network") as network:
        network.meddle()
        yield network


@pytest.fixture(scope="module")
def keras() -> Iterator[Any]:
    from provider_images.runtime.engines import KerasEngine

    KerasEngine(2)  # the first to import TensorFlow says how many threads it has from then on
    module = pytest.importorskip("keras")
    yield module
    module.backend.clear_session()
