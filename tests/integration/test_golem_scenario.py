"""The double says what the real yagna says: one scenario with yapapi on both, and the two conversations compared."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from golem_scenario import Place, play
from tiny_image import make_image

from oracle.compute.golem import Image
from oracle.devnet.child import Child
from oracle.devnet.golem.double import HostCommands, ProviderDouble, YagnaDouble

pytestmark = pytest.mark.integration

PROVIDERS = ("ada", "boole", "curie")
ACCEPTED = (
    'POST /payment-api/v1/debitNotes/document/accept {"allocationId": "<document>", "totalAmountAccepted": "<amount>"}'
    " -> 200"
)
YAGNA = shutil.which("yagna", path=str(Path(sys.executable).parent))


@asynccontextmanager
async def double(directory: Path) -> AsyncIterator[Place]:
    providers = [ProviderDouble(name, handler=HostCommands()) for name in PROVIDERS]
    async with YagnaDouble(directory, providers) as yagna:
        image = Image("tiny", yagna.image_hash, yagna.image_url)
        yield Place(yagna.api_url, yagna.app_key, yagna.subnet, yagna.payment_driver, yagna.payment_network,
                    str(yagna.gftp_dir), image, PROVIDERS)  # fmt: skip


@asynccontextmanager
async def real_network(directory: Path) -> AsyncIterator[Place]:
    image = await asyncio.to_thread(make_image, directory)
    command = [sys.executable, "-m", "oracle.devnet.golem", "--data", str(directory / "data"), "--no-settlement"]
    command += ["--providers", str(len(PROVIDERS)), "--image", str(image.descriptor)]
    child = Child("the Golem network", command, log=directory / "network.log", environment=os.environ)
    ready = await child.start(within=60)
    try:
        assert [provider["name"] for provider in ready["providers"]] == list(PROVIDERS)
        key = Path(ready["yagna_appkey_file"]).read_text().strip()
        digest = json.loads(image.descriptor.read_text())["sha3_224"]
        yield Place(ready["yagna_api_url"], key, ready["subnet"], ready["payment_driver"], ready["payment_network"],
                    ready["gftp_dir"], Image("tiny", digest, "http://127.0.0.1:1/tiny.gvmi"), PROVIDERS)  # fmt: skip
    finally:
        await child.close()


async def test_the_scenario_on_the_double(tmp_path: Path) -> None:
    async with double(tmp_path / "double") as place:
        told = await play(place)
    assert told.results == [[("one", "ada"), ("two", "ada")], [("three", "boole")]]
    failed = [line for line in told.events["job 1, ada, work"] if line.startswith("CommandExecuted Run")]
    assert failed == [r"CommandExecuted Run False ExeScript command exited with code 3 '' 'broken\n'"]
    assert told.conversation["job 1, ada, activity"][-1] == "DELETE /activity-api/v1/activity/activity -> 200"
    for who in ("job 0, ada", "job 1, ada", "job 1, boole"):
        assert told.events[f"{who}, invoice"] == ["InvoiceReceived", "InvoiceAccepted"]


@pytest.mark.skipif(YAGNA is None, reason="golem-node has no build for this platform")
async def test_the_double_says_what_the_real_yagna_says(tmp_path: Path) -> None:
    async with double(tmp_path / "double") as false, real_network(tmp_path / "real") as true:
        on_double, on_real = await asyncio.gather(play(false), play(true))
    assert on_double.results == on_real.results
    assert on_double.events == on_real.events
    assert on_double.conversation == on_real.conversation
    read = [note for note in (*on_double.debit_notes, *on_real.debit_notes) if note.startswith("GET")]
    assert len(read) == 4  # of each side the event and the note
    assert on_double.debit_notes - {ACCEPTED} == on_real.debit_notes - {ACCEPTED}
