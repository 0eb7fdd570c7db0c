"""The README's lines of Python, run as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from conftest import Running

from oracle.chain.wishes import Wish
from oracle.client import connect_sync
from oracle.content.unixfs import cid_of
from oracle.devnet.chain import dev_account
from oracle.devnet.pictures import digits, scene
from oracle.domain import Cid
from oracle.errors import SibylError
from oracle.settings import read_deployment

README = Path(__file__).parents[2] / "README.md"
ADDRESS = "http://127.0.0.1:8080"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def folder(up: Running, tmp_path: Path) -> Path:
    """What a reader has: the state of `sibyl up`, a picture of a seven, a key."""
    (tmp_path / ".sibyl").symlink_to(up.folder)
    (tmp_path / "seven.png").write_bytes(digits(8).items[7].png)
    shutil.copy(read_deployment(up.folder)["requester_key_file"], tmp_path / "requester.key")
    return tmp_path


def test_given_a_running_stack_when_the_readmes_lines_run_then_they_print_the_answer_and_leave_the_drawings(
    folder: Path,
) -> None:
    here, _ = blocks()
    done = run(here, folder)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"7 (0\.\d+|1\.0)\n", done.stdout), done.stdout
    assert (folder / "labels.png").read_bytes().startswith(b"\x89PNG")
    assert len([line for line in here.splitlines() if line.strip()]) <= 12


def test_given_only_an_api_when_the_readmes_lines_run_elsewhere_then_they_print_the_same(
    up: Running, folder: Path
) -> None:
    _, elsewhere = blocks()
    (folder / ".sibyl").unlink()
    assert ADDRESS in elsewhere
    done = run(elsewhere.replace(ADDRESS, up.facts["api_url"]), folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("7 ")
    assert "which contract is paid" in done.stderr


def test_given_only_an_api_when_a_provider_is_named_then_it_alone_computes_and_an_unknown_one_is_refused(
    up: Running, folder: Path
) -> None:
    facts = read_deployment(up.folder)
    with connect_sync(
        api_url=up.facts["api_url"], coordinator=facts["coordinator"], key_file=folder / "requester.key"
    ) as sibyl:
        providers = {one["name"]: one["node_id"] for one in up.json("providers")}
        (request,) = sibyl.request("mnist-cnn", folder / "seven.png", provider="boole")
        outcome = sibyl.verify(sibyl.wait(request))
        assert outcome.document is not None
        assert outcome.document["provider"]["id"] == providers["boole"]
        assert sibyl.fetch(outcome.drawings["labels"]) == sibyl.files(outcome)["labels"]
        paid = len(sibyl.client.sender.sent)
        requester, now = sibyl.client.sender.address, int(time.time())
        picture = cid_of((folder / "seven.png").read_bytes())
        forged = Wish(31337, facts["coordinator"], requester, picture, "boole", now).sign(dev_account(9))
        body = {"requester": requester, "image_cid": picture.text, "provider": "boole", "signed_at": now}
        answer = httpx.put(
            f"{up.facts['api_url']}/v1/requests/wish", json=body | {"signature": "0x" + forged.hex()}, timeout=20
        )
        assert (answer.status_code, answer.json()["type"]) == (403, "/problems/wish-not-signed")
        with pytest.raises(SibylError, match="seen no provider 'nobody'"):
            sibyl.request("mnist-cnn", folder / "seven.png", provider="nobody")
        assert len(sibyl.client.sender.sent) == paid


def test_given_a_scene_through_the_api_when_a_segmentation_is_asked_then_its_segments_and_drawings_come_whole(
    up: Running, folder: Path
) -> None:
    shown = scene()
    with connect_sync(api_url=up.facts["api_url"], key_file=folder / "requester.key") as sibyl:
        (picture,) = sibyl.upload(shown.png)
        assert isinstance(picture, Cid)
        outcome = sibyl.wait(sibyl.request("mask-rcnn-shapes", picture)[0])
        assert sorted(one.label for one in outcome.segments) == sorted(shown.things)
        assert set(sibyl.files(outcome)) == {"mask", "overlay"}
        for one in outcome.segments:
            top, left, bottom, right = one.box
            assert 0 <= top < bottom <= 128.1
            assert 0 <= left < right <= 128.1
