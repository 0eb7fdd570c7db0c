"""The whole API against its own description: whatever comes in, no server error, and every answer as it is documented.

A real server on loopback, with a real chain, content node, database and a gateway that really pays. Event streams,
which do not end, are tested elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from pydantic import SecretStr
from schemathesis.specs.openapi import checks as openapi_checks

from oracle.api.app import create_app
from oracle.api.ports import World as ApiWorld
from oracle.chain.account import AccountSender
from oracle.chain.rpc import Rpc
from oracle.content.unixfs import cid_of
from oracle.devnet.chain import dev_account
from oracle.devnet.stack import shipped_files
from oracle.settings import Settings, load_local_settings
from oracle.web import serving
from tests.benchmarks.api_world import NAMES, World, picture, request_id, world

pytestmark = pytest.mark.integration

REQUESTS = 48
EXAMPLES = 25  # of each operation, beside those that the description itself gives
GATEWAY = 7  # which of the chain's own accounts


def no_server_error(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """No 5xx, but that a CID which nobody holds cannot be read."""
    missing = response.status_code == 504 and response.json()["type"] == "/problems/content-unavailable"
    named = "cid" in case.path_parameters or (isinstance(case.body, dict) and "image_cid" in case.body)
    assert response.status_code < 500 or (missing and named), response.text


CHECKS = [
    no_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.unsupported_method,
    openapi_checks.allow_header_conformance,
    openapi_checks.missing_required_header,
    openapi_checks.negative_data_rejection,
]


@dataclass(frozen=True)
class Served:
    """The API's address and what it serves."""

    url: str
    made: World


class Thread:
    """A server with an event loop of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.served: Served | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="api")
        self._thread.start()
        self._ready.wait(60)

    def close(self) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            self.error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with world(self._folder, REQUESTS, 3600.0) as made:
            payer = dev_account(GATEWAY)
            rpc = Rpc(made.rpc_url)
            try:
                await AccountSender(rpc, payer, 31337).deposit(made.coordinator, 10**18)
            finally:
                await rpc.close()
            chosen = load_local_settings(self._folder).model_copy(
                update={
                    "api_port": 0,
                    "api_rate": 1e9,
                    "api_burst": 10**9,
                    "gateway_key": SecretStr("0x" + bytes(payer.key).hex()),
                    "gateway_open": True,
                    "page_rpc_url": made.rpc_url,
                }
            )
            async with serving(chosen) as (url, _):
                self.served = Served(url, made)
                self._ready.set()
                await self._stop.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    thread = Thread(tmp_path_factory.mktemp("api"))
    try:
        if thread.error is not None:
            raise thread.error
        assert thread.served is not None, "the API did not start"
        yield thread.served
    finally:
        thread.close()


def described() -> dict[str, Any]:
    """The app's own description, with examples that lead to what is really there."""
    nothing: Any = None
    app = create_app(ApiWorld(nothing, nothing, nothing, nothing), Settings.model_construct())
    document: dict[str, Any] = json.loads(json.dumps(app.openapi()))
    known = {
        "request_id": ["0x" + request_id(number).hex() for number in (0, 5, REQUESTS - 1)],
        "cid": [cid_of(picture(number)).text for number in (0, 3)],
        "model_id": [1],
        "model": [1],
        "name": ["labels"],
        "account": ["0x" + "12" * 20],
    }
    pinned = cid_of(picture(0)).text
    bodies = {
        "/v1/requests": {"model": 1, "image_cid": pinned},
        "/v1/requests/wish": {"requester": known["account"][0], "image_cid": pinned, "provider": NAMES[0]},
        "/v1/manifests": json.loads(shipped_files("mnist")[1]),
    }
    for path, operations in document["paths"].items():
        if path in bodies:
            for operation in operations.values():
                if "requestBody" in operation:
                    operation["requestBody"]["content"]["application/json"]["example"] = bodies[path]
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in known:
                    values = known[parameter["name"]]
                    if parameter["schema"].get("type") == "string":
                        values = [str(value) for value in values]
                    parameter["examples"] = {f"known {at}": {"value": value} for at, value in enumerate(values)}
    return document


schema = schemathesis.openapi.from_dict(described()).exclude(path_regex="/events$")
schema.config.generation.update(deterministic=True)


SEEN: defaultdict[str, set[int]] = defaultdict(set)
"""The statuses that each operation was answered with."""


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_given_anything_when_asked_then_there_is_no_server_error_and_the_answer_is_as_documented(
    case: schemathesis.Case, served: Served
) -> None:
    response = case.call_and_validate(base_url=served.url, checks=CHECKS, timeout=20)
    SEEN[case.operation.label].add(response.status_code)


def test_given_all_these_requests_when_counted_then_each_operation_was_answered_well_too() -> None:
    described = {found.ok().label for found in schema.get_all_operations()}
    assert set(SEEN) == described, "it sums up the test above, for every operation: run the whole file"
    refused = {label for label, statuses in SEEN.items() if not any(200 <= one < 300 for one in statuses)}
    # Neither a model's weights nor what was signed a moment ago can stand in a description as an example.
    assert refused <= {"POST /v1/weights", "PUT /v1/requests/wish"}
