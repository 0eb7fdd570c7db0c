"""Unit tests touch no network: a socket that is not a local pipe raises."""

from __future__ import annotations

import pytest
from pytest_socket import disable_socket, enable_socket


@pytest.fixture(autouse=True)
def no_network() -> object:
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
