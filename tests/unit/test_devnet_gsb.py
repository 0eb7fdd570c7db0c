"""The service bus: frames, payloads, calls and what can go wrong with them."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from pathlib import Path
from typing import Any

import pytest
from bus_double import bus_double
from flatbuffers import flexbuffers
from hypothesis import given
from hypothesis import strategies as st

from oracle.devnet.golem.gsb import (
    MAX_FRAME,
    Bus,
    BusLost,
    MalformedPacket,
    ServiceError,
    decode_fields,
    encode_fields,
    frame,
    pack,
    unframe,
    unpack,
)
from oracle.errors import ConfigurationError

pytestmark = pytest.mark.unit


def test_given_a_known_packet_when_framed_then_the_bytes_are_those_of_protobuf() -> None:
    assert frame(2, {1: "/public/a"}).hex() == "0000000d" + "120b" + "0a09" + b"/public/a".hex()
    assert frame(14, {}).hex() == "00000002" + "7200"


def test_given_zero_and_empty_values_when_encoded_then_they_are_left_out() -> None:
    assert encode_fields({1: 0, 2: "", 3: b"", 4: 1}) == b"\x20\x01"


@given(st.dictionaries(st.integers(1, 500), st.integers(1, 2**63) | st.binary(min_size=1)))
def test_given_any_fields_when_encoded_and_decoded_then_they_are_the_same(fields: dict[int, int | bytes]) -> None:
    assert decode_fields(encode_fields(fields)) == fields


@given(st.binary(max_size=64))
def test_given_any_bytes_when_read_as_a_packet_then_it_is_read_or_refused(data: bytes) -> None:
    for read in (unframe, unpack):
        with contextlib.suppress(MalformedPacket):
            read(data)


@pytest.mark.parametrize("data", [b"", b"\x0a\x05abc", b"\x09", b"\xff" * 11, b"\x08"])
def test_given_a_broken_packet_when_read_then_it_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        unframe(data)


@pytest.mark.parametrize("deflated", [False, True])
def test_given_a_payload_deflated_or_not_when_read_then_the_value_is_there(deflated: bool) -> None:
    value = {"activityId": "a", "timeout": None, "exeScript": [{"deploy": {}}], "usage": [1.5, 2.0], "n": 2**40}
    data = pack(value)
    assert unpack(zlib.compress(data) if deflated else data) == value


def test_given_bytes_when_packed_then_they_stay_bytes() -> None:
    assert flexbuffers.Loads(pack({"content": b"\x00\xff"})) == {"content": b"\x00\xff"}


def test_given_a_bomb_when_read_then_no_more_than_a_frame_is_inflated() -> None:
    with pytest.raises(MalformedPacket):
        unpack(zlib.compress(bytes(MAX_FRAME + 1)))


async def nothing(method: str, body: Any) -> None:
    pass


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41b", "a b"])
async def test_given_a_folder_with_an_odd_name_when_connected_then_the_bus_in_it_is_found(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    async with bus_double(tmp_path / name) as double:
        bus = await Bus.connect(double.url)
        await bus.register("/public/a", nothing)
        assert "/public/a" in double.services
        await bus.close()


async def test_given_a_service_when_called_then_it_gets_the_method_and_its_answer_comes_back(tmp_path: Path) -> None:
    async def echo(method: str, body: Any) -> Any:
        return {"method": method, "body": body}

    async with bus_double(tmp_path) as double:
        bus, caller = await Bus.connect(double.url), await Bus.connect(double.url)
        await bus.register("/public/echo", echo)
        assert await caller.call("/public/echo/Say", {"a": [1]}) == {"method": "Say", "body": {"a": [1]}}
        await bus.unregister("/public/echo")
        with pytest.raises(ServiceError, match="endpoint address not found"):
            await caller.call("/public/echo/Say", {})
        await caller.close()
        await bus.close()


async def test_given_a_service_that_refuses_or_breaks_when_called_then_the_caller_reads_why(tmp_path: Path) -> None:
    async def serve(method: str, body: Any) -> Any:
        if method == "Refuse":
            raise ServiceError("BadRequest", "not so")
        if method == "Expire":
            raise ServiceError("Timeout")
        raise ZeroDivisionError("oh")

    async with bus_double(tmp_path) as double:
        bus = await Bus.connect(double.url)
        await bus.register("/public/x", serve)
        for method, kind, text in (
            ("Refuse", "BadRequest", "not so"),
            ("Expire", "Timeout", ""),
            ("Break", "Service", "ZeroDivisionError: oh"),
        ):
            with pytest.raises(ServiceError) as caught:
                await bus.call(f"/public/x/{method}", {})
            assert (caught.value.kind, caught.value.text) == (kind, text)
        await bus.close()


async def test_given_an_address_that_is_taken_when_registered_then_it_is_refused(tmp_path: Path) -> None:
    async def serve(method: str, body: Any) -> Any:
        return "second"

    async with bus_double(tmp_path) as double:
        first, second = await Bus.connect(double.url), await Bus.connect(double.url)
        await first.register("/public/x", serve)
        with pytest.raises(ServiceError, match="409"):
            await second.register("/public/x", serve)
        await first.close()
        await second.close()


async def test_given_a_service_that_is_silent_when_called_then_the_wait_is_bounded(tmp_path: Path) -> None:
    async def sleep(method: str, body: Any) -> Any:
        await asyncio.sleep(60)

    async with bus_double(tmp_path) as double:
        bus = await Bus.connect(double.url)
        await bus.register("/public/x", sleep)
        with pytest.raises(ServiceError, match="did not answer within"):
            await bus.call("/public/x/Say", {}, timeout=0.05)
        await bus.close()


async def test_given_nobody_beyond_the_network_when_called_then_the_empty_answer_is_an_error(tmp_path: Path) -> None:
    async with bus_double(tmp_path) as double:
        bus = await Bus.connect(double.url)
        with pytest.raises(ServiceError, match="nobody is there"):
            await bus.call(f"/net/0x{'ab' * 20}/gftp/none/GetMetadata", {})
        await bus.close()


async def test_given_a_yagna_that_dies_when_a_call_is_under_way_then_it_and_later_ones_fail(tmp_path: Path) -> None:
    async def sleep(method: str, body: Any) -> Any:
        await asyncio.sleep(60)

    async with bus_double(tmp_path) as double:
        bus = await Bus.connect(double.url)
        await bus.register("/public/x", sleep)
        calling = asyncio.create_task(bus.call("/public/x/Say", {}))
        await asyncio.sleep(0.05)
        await double.stop()
        with pytest.raises(BusLost):
            await calling
        async with asyncio.timeout(1):
            await bus.lost.wait()
        with pytest.raises(BusLost):
            await bus.call("/public/x/Say", {})
        await bus.close()


async def test_given_a_ping_when_it_comes_then_a_pong_goes_back(tmp_path: Path) -> None:
    async with bus_double(tmp_path) as double:
        bus = await Bus.connect(double.url)
        await bus.call("/local/identity/Get", {"byDefault": None})
        double.ping()
        await bus.call("/local/identity/Get", {"byDefault": None})
        assert double.pongs == 1
        await bus.close()


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\x08", b"\x00\x00\x00\x02\x08\x01"])
async def test_given_a_bus_that_talks_nonsense_when_it_does_then_we_hang_up(tmp_path: Path, data: bytes) -> None:
    async with bus_double(tmp_path) as double:
        bus = await Bus.connect(double.url)
        await bus.call("/local/identity/Get", {"byDefault": None})
        double.send_raw(data)
        async with asyncio.timeout(2):
            await bus.lost.wait()
        await bus.close()


async def test_given_a_deep_folder_when_connected_then_the_length_of_the_path_is_no_matter(tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30) / ("name" * 30)
    deep.mkdir(parents=True)
    async with bus_double(tmp_path) as double:
        (tmp_path / "gsb.sock").rename(deep / "gsb.sock")
        bus = await Bus.connect(f"unix:{deep}/gsb.sock")
        assert await bus.call("/local/identity/Get", {"byDefault": None})
        await bus.close()
        del double


async def test_given_nobody_there_or_another_address_when_connected_then_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(BusLost):
        await Bus.connect(f"unix:{tmp_path}/nothing/gsb.sock")
    with pytest.raises(ConfigurationError, match="no address of a service bus"):
        await Bus.connect("http://127.0.0.1:1")
