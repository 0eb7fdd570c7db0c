"""What `sibyl check` says of the API: its gateway's money, its page, its port."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from oracle import preflight
from oracle.chain.rpc import Rpc
from oracle.content.http import ApiUnavailable
from oracle.errors import ConfigurationError, PortTaken
from oracle.preflight import check_api, check_gateway
from oracle.settings import Settings

pytestmark = pytest.mark.integration

COORDINATOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
KEY = "0x" + "4c" * 32


class PurseRpc(Rpc):
    """A double of a chain that knows two sums: what the account holds, and what it has at the coordinator."""

    def __init__(self, ether: int, prepaid: int) -> None:
        super().__init__("http://chain.example")
        self.sums = {"eth_getBalance": hex(ether), "eth_call": f"0x{prepaid:064x}"}

    async def call(self, method: str, params: Any = (), *, retry: bool = True) -> Any:
        return self.sums[method]


def settings(folder: Path, **more: Any) -> Settings:
    return Settings(data_dir=folder, page_dir=folder, coordinator=COORDINATOR, **more)


@pytest.mark.parametrize(("is_open", "whom"), [(True, "anybody"), (False, "holders of API keys")])
async def test_given_a_gateway_with_money_when_checked_then_it_says_for_whom_it_pays_and_from_what(
    tmp_path: Path, is_open: bool, whom: str
) -> None:
    told = await check_gateway(settings(tmp_path, gateway_key=KEY, gateway_open=is_open), PurseRpc(10**17, 10**18))
    assert f"pays for {whom} from 1.000000 ETH" in told
    assert "0.100000 ETH for fees" in told


@pytest.mark.parametrize(("ether", "prepaid"), [(0, 10**18), (10**18, 0), (0, 0)])
async def test_given_a_gateway_that_cannot_pay_when_checked_then_the_remedy_says_how_to_fill_it(
    tmp_path: Path, ether: int, prepaid: int
) -> None:
    with pytest.raises(ConfigurationError, match="cannot pay") as caught:
        await check_gateway(settings(tmp_path, gateway_key=KEY), PurseRpc(ether, prepaid))
    assert "sibyl keys fund" in caught.value.remedy


async def test_given_a_gateway_that_is_open_and_has_no_key_when_checked_then_the_setting_is_named(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await check_gateway(settings(tmp_path, gateway_open=True), PurseRpc(1, 1))
    assert "SIBYL_GATEWAY_KEY_FILE" in caught.value.remedy


async def test_given_a_free_port_when_checked_then_it_is_said_so_with_the_page_and_stays_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    for _ in range(2):
        told = await check_api(settings(tmp_path, api_port=port))
        assert told == f"port {port} of 127.0.0.1 is free; the page is not built (`make page` does so)"
    (tmp_path / "index.html").touch()
    assert await check_api(settings(tmp_path, api_port=0)) == "takes a free port of 127.0.0.1; the page is built"


@asynccontextmanager
async def listening(coordinator: str, status: int) -> AsyncIterator[int]:
    """The port of a double of the API."""

    async def config(_: web.Request) -> web.Response:
        return web.json_response({"name": "sibyl", "coordinator": coordinator})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"ok": status == 200}, status=status)

    app = web.Application()
    app.add_routes([web.get("/v1", config), web.get("/v1/health", health)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def test_given_an_api_that_serves_when_checked_then_its_health_decides(tmp_path: Path) -> None:
    async with listening(COORDINATOR.lower(), 200) as port:
        told = await check_api(settings(tmp_path, api_port=port))
        assert told.startswith(f"http://127.0.0.1:{port} serves, and is well; ")
    async with listening(COORDINATOR, 503) as port:
        with pytest.raises(ApiUnavailable, match="health"):
            await check_api(settings(tmp_path, api_port=port))


async def test_given_another_program_or_deployment_at_the_port_when_checked_then_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening("0x" + "11" * 20, 200) as port:
        with pytest.raises(PortTaken) as caught:
            await check_api(settings(tmp_path, api_port=port))
        assert "SIBYL_API_PORT" in caught.value.remedy
    with socket.create_server(("127.0.0.1", 0)) as other:  # it never answers
        port = other.getsockname()[1]
        monkeypatch.setattr(preflight, "_API_SECONDS", 0.2)
        with pytest.raises(PortTaken, match=str(port)):
            await check_api(settings(tmp_path, api_port=port))
