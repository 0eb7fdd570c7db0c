"""``sibyl up`` and the commands beside it, as a person uses them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import sqlite3
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import SIBYL, Running, processes_of, run_sibyl, start_up
from PIL import Image

from oracle.devnet.pictures import digits, scene
from oracle.domain import Cid


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "seven.png"
    path.write_bytes(digits(8).items[7].png)
    return path


def test_given_a_picture_when_asked_with_wait_then_the_answer_and_the_result_file_agree_with_the_chain(
    up: Running, seven: Path, tmp_path: Path
) -> None:
    answer = up.json("request", str(seven), "--wait")
    assert answer["state"] == "fulfilled"
    assert answer["labels"][0]["label"] == "7"
    assert answer["verified"] is True

    saved = up.json("result", answer["request"], "--out", str(tmp_path))
    raw = Path(saved["saved"][0]).read_bytes()
    document = json.loads(raw)
    assert document["schema"] == "sibyl/result/1"
    assert document["input"]["cid"] == answer["image"]
    assert document["labels"] == answer["labels"]
    assert {"manifest", "weights_sha256", "name"} <= set(document["model"])
    known = {one["node_id"]: one for one in up.json("providers")}
    assert len(known) == 3
    assert known[document["provider"]["id"]]["reputation"] > 0.5
    assert document["timings"]["batch_inference_seconds"] > 0

    with urllib.request.urlopen(up.facts["gateway_url"] + answer["result"], timeout=10) as page:
        assert page.read() == raw
        assert page.headers["Content-Type"].startswith("application/json")
    with urllib.request.urlopen(up.facts["gateway_url"] + answer["image"], timeout=10) as page:
        assert hashlib.sha256(page.read()).digest() == hashlib.sha256(seven.read_bytes()).digest()
        assert page.headers["Content-Type"] == "image/png"


def test_given_a_scene_when_a_segmentation_is_asked_for_then_its_objects_and_drawings_come_back(
    up: Running, tmp_path: Path
) -> None:
    shown = scene()
    picture = tmp_path / "scene.png"
    picture.write_bytes(shown.png)
    answer = up.json("request", str(picture), "--model", "mask-rcnn-shapes", "--wait", timeout=120)
    assert answer["state"] == "fulfilled"
    assert sorted(one["label"] for one in answer["segments"]) == sorted(shown.things)

    saved = up.json("result", answer["request"], "--out", str(tmp_path))["saved"]
    names = [Path(path).name.partition(".")[2] for path in saved]
    assert names == ["result.json", "mask.png", "overlay.png"]
    for path, name in zip(saved[1:], ("mask", "overlay"), strict=True):
        data = Path(path).read_bytes()
        assert len(data) == answer["files"][name]["bytes"]
        with urllib.request.urlopen(up.facts["gateway_url"] + answer["files"][name]["cid"], timeout=10) as page:
            assert page.read() == data
            assert page.headers["Content-Type"] == "image/png"
    mask = np.asarray(Image.open(saved[1]))
    assert mask.shape == (128, 128)
    assert set(np.unique(mask)) == set(range(len(shown.things) + 1))
    assert "triangle" in up.sibyl("result", answer["request"], "--out", str(tmp_path)).stdout


def test_given_a_named_provider_when_asked_then_it_alone_computes_the_answer(
    up: Running, seven: Path, tmp_path: Path
) -> None:
    curie = next(one for one in up.json("providers") if one["name"] == "curie")
    answer = up.json("request", str(seven), "--wait", "--provider", "curie")
    saved = up.json("result", answer["request"], "--out", str(tmp_path))
    assert json.loads(Path(saved["saved"][0]).read_bytes())["provider"]["id"] == curie["node_id"]


def test_given_a_provider_that_nobody_has_seen_when_asked_then_nothing_is_paid(up: Running, seven: Path) -> None:
    done = up.sibyl("request", str(seven), "--wait", "--provider", "nobody")
    assert done.returncode == 1
    assert "paid" not in done.stdout
    assert "ada, boole, curie" in done.stderr


def test_given_answered_requests_when_the_accounts_are_asked_then_income_stands_beside_what_was_spent(
    up: Running, seven: Path
) -> None:
    up.json("request", str(seven), "--wait")
    books = up.json("accounts")
    (digits_model,) = [line for line in books["models"] if line["model"] == "mnist-cnn"]
    # Seven tenths of a payment are the operator's.
    assert digits_model["earned"] == digits_model["answered"] * 10**14 * 7 // 10
    assert books["earned_wei"] == sum(model["earned"] for model in books["models"])
    assert books["gas_wei"] > 0
    shown = up.sibyl("accounts").stdout
    assert "mnist-cnn" in shown
    assert "SIBYL_GLM_PRICE" in shown


def test_given_an_answered_request_when_its_status_is_asked_then_the_timeline_shows_each_stage(
    up: Running, seven: Path
) -> None:
    answer = up.json("request", str(seven), "--wait")
    for _ in range(100):  # the receipt is confirmed a moment after the answer can be read
        facts = up.json("status", answer["request"])
        if facts["status"] == "fulfilled":
            break
        time.sleep(0.1)
    stages = [move["status"] for move in facts["timeline"]]
    assert stages == ["seen", "confirmed", "ready", "computing", "computed", "posting", "fulfilled"]
    assert up.json("status")["requests"]["fulfilled"] >= 1


def test_given_a_running_stack_when_models_and_check_are_asked_then_all_is_well(up: Running) -> None:
    (model, *_) = up.json("models")
    assert (model["name"], model["task"], model["active"]) == ("mnist-cnn", "classification", True)
    checks = up.json("check")
    assert [item["check"] for item in checks if not item["ok"]] == []
    details = {item["check"]: item["detail"] for item in checks}
    assert "pays for anybody from " in details["gateway key"]
    assert "free port" in details["API"]


def test_given_an_answered_request_when_the_operator_withdraws_then_its_balance_is_paid_out_once(
    up: Running, seven: Path
) -> None:
    assert up.json("request", str(seven), "--wait")["state"] == "fulfilled"
    paid = up.json("withdraw")
    assert paid["withdrawn_wei"] > 0
    assert paid["account"].startswith("0x")
    again = up.json("withdraw")
    assert "no balance" in again["error"]
    done = up.sibyl("withdraw", "--role", "requester")
    assert done.returncode == 1
    assert "no balance" in done.stderr
    assert up.json("request", str(seven), "--wait")["state"] == "fulfilled"  # the oracle rode out the foreign nonce


def test_given_a_machine_that_only_runs_the_oracle_when_checked_then_a_missing_requester_key_is_no_failure(
    up: Running, tmp_path: Path
) -> None:
    deployment = json.loads((up.folder / "deployment.json").read_text())
    del deployment["requester_key_file"]
    (tmp_path / "deployment.json").write_text(json.dumps(deployment))
    done = run_sibyl("check", "--json", "--data-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout
    details = {item["check"]: item["detail"] for item in json.loads(done.stdout)}
    assert "only needed to ask" in details["requester key"]


def test_given_a_price_above_the_limit_when_asked_then_nothing_is_paid_and_the_price_is_named(
    up: Running, seven: Path
) -> None:
    done = up.sibyl("request", str(seven), "--max-price", "0.00001")
    assert done.returncode == 1
    assert "0.0001" in done.stderr
    assert "--max-price" in done.stderr
    assert "request 0x" not in done.stdout
    assert "costs 0.0001" in up.sibyl("request", str(seven), "--model", "1").stdout


def test_given_a_wait_that_ends_too_early_when_json_was_asked_then_the_paid_id_is_in_it_and_can_be_read_later(
    up: Running,
) -> None:
    missing = Cid(b"\x01\x55\x12\x20" + hashlib.sha256(b"nowhere to be found").digest()).text
    done = up.sibyl("request", missing, "--wait", "--timeout", "0.1", "--json")
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert (facts["state"], facts["model_id"]) == ("pending", 1)
    assert facts["error"]
    assert facts["remedy"]
    assert facts["request"] in done.stderr  # noted as soon as it was paid

    process = subprocess.Popen(
        [*SIBYL, "request", missing, "--wait", "--json", "--data-dir", str(up.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "paid: request 0x" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["state"] == "pending"
    assert up.json("status", json.loads(out)["request"])["request"] == json.loads(out)["request"]


def test_given_text_for_people_when_commands_run_then_no_key_is_shown(up: Running, seven: Path) -> None:
    key = (up.folder / "keys" / "operator").read_text().strip().removeprefix("0x")
    shown = "".join(
        done.stdout + done.stderr
        for done in (
            up.sibyl("request", str(seven), "--wait"),
            up.sibyl("status"),
            up.sibyl("models"),
            up.sibyl("check"),
        )
    )
    logs = "".join(path.read_text() for path in (up.folder / "logs").iterdir())
    assert "fulfilled" in shown
    assert key not in shown + logs
    assert (up.folder / "keys" / "operator").stat().st_mode & 0o077 == 0


def test_given_a_port_in_use_when_up_is_started_then_it_names_the_port_and_what_to_do(
    up: Running, tmp_path: Path
) -> None:
    port = up.facts["rpc_url"].rsplit(":", 1)[1]
    done = run_sibyl("up", "--chain-port", port, "--data-dir", str(tmp_path / "second"))
    assert done.returncode == 1
    assert port in done.stderr
    assert "Traceback" not in done.stderr


def test_given_wrong_settings_when_the_oracle_starts_then_each_says_what_is_wrong_and_what_to_do(
    up: Running, tmp_path: Path
) -> None:
    no_contract = "0x" + "12" * 20
    poor = "0x" + "77" * 32
    cases = {
        "SIBYL_CHAIN_ID": ("5", "serves chain 31337"),
        "SIBYL_COORDINATOR": (no_contract, "no contract"),
        "SIBYL_OPERATOR_KEY": (poor, "is not an operator"),
        "SIBYL_RPC_URL": ("http://127.0.0.1:9", "127.0.0.1:9"),
    }
    other = tmp_path / "other"
    other.mkdir()
    (other / "deployment.json").write_text((up.folder / "deployment.json").read_text())
    for name, (value, expected) in cases.items():
        done = run_sibyl("oracle", "--data-dir", str(other), timeout=60, **{name: value})
        assert done.returncode == 1, (name, done.stderr)
        assert expected in done.stderr, (name, done.stderr)
        assert "Traceback" not in done.stderr, (name, done.stderr)
        assert poor[2:] not in done.stderr


def test_given_a_database_of_a_newer_version_when_the_oracle_starts_then_it_refuses_and_leaves_it_alone(
    up: Running, tmp_path: Path
) -> None:
    (tmp_path / "deployment.json").write_text((up.folder / "deployment.json").read_text())
    with (
        contextlib.closing(sqlite3.connect(up.folder / "oracle.sqlite3")) as source,
        contextlib.closing(sqlite3.connect(tmp_path / "oracle.sqlite3")) as copy,
    ):
        source.backup(copy)
        copy.execute("PRAGMA user_version = 999")
    before = (tmp_path / "oracle.sqlite3").read_bytes()
    done = run_sibyl("oracle", "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "upgrade Sibyl" in done.stderr
    assert (tmp_path / "oracle.sqlite3").read_bytes() == before


def test_given_no_deployment_when_a_request_is_made_then_the_remedy_names_the_next_command(
    seven: Path, tmp_path: Path
) -> None:
    done = run_sibyl("request", str(seven), "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "sibyl up" in done.stderr


def test_given_a_key_without_funds_when_it_asks_then_it_is_told_whom_to_fund(up: Running, seven: Path) -> None:
    done = up.sibyl("request", str(seven), SIBYL_REQUESTER_KEY="0x" + "66" * 32)
    assert done.returncode == 1
    assert "funds" in done.stderr or "ether" in done.stderr
    assert "66" * 32 not in done.stderr


def test_given_ctrl_c_when_up_ends_then_nothing_is_left_running_and_a_restart_goes_on(
    seven: Path, tmp_path: Path
) -> None:
    first = start_up(tmp_path / "stack")
    asked = first.json("request", str(seven), "--wait")
    assert first.stop() == 0
    assert processes_of(tmp_path / "stack") == []

    second = start_up(tmp_path / "stack")
    try:
        assert second.facts["coordinator"] == first.facts["coordinator"]
        assert second.json("result", asked["request"], "--out", str(tmp_path))["state"] == "fulfilled"
        assert second.json("request", str(seven), "--wait")["state"] == "fulfilled"
    finally:
        assert second.stop() == 0


def test_given_a_parent_killed_at_once_when_up_dies_then_its_children_die_too(tmp_path: Path) -> None:
    running = start_up(tmp_path / "killed")
    running.stop(signal.SIGKILL)
    until = time.monotonic() + 20
    while processes_of(tmp_path / "killed") and time.monotonic() < until:
        time.sleep(0.2)
    assert processes_of(tmp_path / "killed") == []
