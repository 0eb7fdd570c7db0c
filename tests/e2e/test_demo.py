"""``sibyl demo``: the main job from one command."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import run_sibyl

KUBO = Path(os.environ.get("KUBO_BINARY", Path(__file__).parents[2] / ".cache" / "kubo" / "ipfs"))


def test_given_a_fresh_folder_when_the_demo_runs_then_every_request_ends_and_the_last_line_says_so() -> None:
    done = run_sibyl("demo", timeout=110)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    summary = json.loads(last)
    assert summary["requests"] == 13
    assert (summary["fulfilled"], summary["refunded"]) == (10, 3)
    assert (summary["lost"], summary["wrong"]) == (0, 0)
    assert summary["gas_request"] > 21_000
    assert summary["gas_fulfil_per_item"] > 10_000
    text = "\n".join(lines)
    assert text.count("✓") == 10
    assert "does not name a whole, readable picture" in text
    assert "nobody here can run this model" in text
    assert "refunded" in text
    assert float(summary["paid_glm"]) > 0
    assert "who were paid" in text


def test_given_the_environment_of_a_real_deployment_when_the_demo_runs_then_it_keeps_to_its_own_chain_and_keys() -> (
    None
):
    environment = {
        "SIBYL_RPC_URL": "http://127.0.0.1:9",
        "SIBYL_CHAIN_ID": "1",
        "SIBYL_COORDINATOR": "0x" + "12" * 20,
        "SIBYL_OPERATOR_KEY": "junk",
        "SIBYL_REQUESTER_KEY": "junk",
        "SIBYL_START_BLOCK": "19000000",
        "SIBYL_CONFIRMATIONS": "12",
    }
    done = run_sibyl("demo", timeout=110, **environment)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["fulfilled"], summary["refunded"], summary["lost"]) == (10, 3, 0)


@pytest.fixture
def kubo(tmp_path: Path) -> Iterator[str]:
    """The multiaddr of a real Kubo, offline, on ports of its own."""
    if not KUBO.exists():
        pytest.skip("no Kubo: build one with `make kubo`, or set KUBO_BINARY")
    environment = {**os.environ, "IPFS_PATH": str(tmp_path / "kubo")}
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        api, gateway = one.getsockname()[1], two.getsockname()[1]
    for command in (
        ["init", "--profile", "test,unixfs-v0-2015"],
        ["config", "Addresses.API", f"/ip4/127.0.0.1/tcp/{api}"],
        ["config", "Addresses.Gateway", f"/ip4/127.0.0.1/tcp/{gateway}"],
    ):
        subprocess.run([str(KUBO), *command], env=environment, check=True, capture_output=True, timeout=60)
    daemon = subprocess.Popen(
        [str(KUBO), "daemon", "--offline"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", api)) == 0:
                break
        time.sleep(0.1)
    yield f"/ip4/127.0.0.1/tcp/{api}"
    daemon.terminate()
    daemon.wait(20)


def test_given_a_real_kubo_when_the_demo_uses_it_by_one_setting_then_it_ends_the_same(kubo: str) -> None:
    done = run_sibyl("demo", timeout=110, SIBYL_IPFS_API=kubo)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["fulfilled"], summary["refunded"], summary["lost"], summary["wrong"]) == (10, 3, 0, 0)
    assert "IPFS store" not in done.stderr


def test_given_no_test_data_beside_the_project_when_the_demo_runs_then_it_asks_about_digits_of_its_own_pen() -> None:
    done = run_sibyl("demo", timeout=110, SIBYL_TEST_DATA="/nowhere")
    assert done.returncode == 0, done.stderr
    assert "Sibyl's own pen" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["wrong"] == 0
