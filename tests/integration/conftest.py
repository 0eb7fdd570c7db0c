"""What several integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.golem_network import GolemNetwork, run_golem_network


@pytest.fixture(scope="session")
def golem_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GolemNetwork]:
    with run_golem_network(tmp_path_factory.mktemp("golem") / "network") as network:
        network.meddle()
        yield network
