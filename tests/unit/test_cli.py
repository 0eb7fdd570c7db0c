"""The command line's manners: errors with a remedy, JSON where it was asked for, nothing that a terminal would obey."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from oracle import render
from oracle.cli import _next_command
from oracle.devnet.stack import claimed
from oracle.domain import BlockRef, LogPosition, OnChainStatus, RequestSettled
from oracle.settings import load_local_settings, local_environment

pytestmark = pytest.mark.unit


def sibyl(*arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIBYL_")}
    return subprocess.run(
        [sys.executable, "-m", "oracle.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean,
        check=False,
    )


@pytest.mark.parametrize("command", [["up"], ["request", "picture.png"]])
@pytest.mark.parametrize("kind", ["a place where no folder can be", "a file", "a list for a deployment"])
def test_given_a_data_dir_that_is_none_when_a_command_runs_then_it_ends_with_a_remedy_and_no_traceback(
    tmp_path: Path, command: list[str], kind: str
) -> None:
    folder = tmp_path / "state"
    if kind == "a file":
        folder.write_text("no folder")
    elif kind == "a list for a deployment":
        folder.mkdir()
        (folder / "deployment.json").write_text("[1]")
    else:
        folder = Path("/proc/nope")
    ports = ["--chain-port", "0", "--ipfs-port", "0", "--api-port", "0"] if command == ["up"] else []
    done = sibyl(*command, *ports, "--data-dir", str(folder))
    assert done.returncode == 1
    message, remedy = done.stderr.splitlines()[-2:]
    assert message.startswith("error: ")
    assert remedy.startswith("  ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["status"], ["check"]])
def test_given_json_when_a_command_fails_then_the_error_and_its_remedy_are_json_on_standard_output(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "deployment.json").write_text("[1]")
    done = sibyl(*command, "--data-dir", str(tmp_path), "--json")
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["error"]
    assert facts["remedy"]


def test_given_a_database_of_another_deployment_when_up_is_started_on_it_then_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "oracle.sqlite3").write_bytes(b"somebody's")
    done = sibyl("up", "--data-dir", str(tmp_path), "--chain-port", "0", "--ipfs-port", "0", "--api-port", "0")
    assert done.returncode == 1
    assert "another deployment" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["oracle.sqlite3"]


@pytest.mark.parametrize("more", [[], ["--fresh"]])
def test_given_a_stack_that_runs_when_another_is_started_in_its_folder_then_it_is_refused_and_nothing_changes(
    tmp_path: Path, more: list[str]
) -> None:
    deployment = tmp_path / "deployment.json"
    deployment.write_text('{"coordinator": "0x1"}')
    before = deployment.stat()
    with claimed(tmp_path):
        done = sibyl(
            "up", *more, "--data-dir", str(tmp_path), "--chain-port", "0", "--ipfs-port", "0", "--api-port", "0"
        )
    assert done.returncode == 1
    assert "another `sibyl up` runs" in done.stderr
    assert "another --data-dir" in done.stderr
    after = deployment.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert {path.name for path in tmp_path.iterdir()} == {"deployment.json", "up.lock"}


def test_given_an_error_while_a_folder_is_held_when_it_is_over_then_the_folder_is_free_and_the_error_the_same(
    tmp_path: Path,
) -> None:
    with pytest.raises(BlockingIOError), claimed(tmp_path / "new"):
        raise BlockingIOError
    with claimed(tmp_path / "new"):
        pass


@pytest.mark.parametrize("folder", ["plain", "with a space", "it's; $HOME & more", "*"])
def test_given_a_folder_with_an_odd_name_when_the_next_command_is_shown_then_a_shell_reads_that_folder(
    folder: str,
) -> None:
    words = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {_next_command(Path(folder))}"], capture_output=True, text=True, check=True
    )
    assert words.stdout.splitlines() == ["sibyl", "request", "PICTURE", "--wait", "--data-dir", folder]
    assert "--data-dir" not in _next_command(None)


def test_given_help_when_asked_then_defaults_in_words_are_shown() -> None:
    done = sibyl("request", "--help")
    assert "SIBYL_DATA_DIR" in done.stdout
    assert "deployment's own" in done.stdout


@pytest.mark.parametrize("text", ["", "free", "nan", "inf", "-1", "1e99"])
def test_given_no_amount_when_a_price_is_read_then_it_is_a_wrong_argument(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        render.wei(text)
    assert render.wei("0.01") == 10**16


def test_given_labels_that_a_terminal_would_obey_when_shown_then_they_are_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from oracle.client import Outcome

    settled = RequestSettled(
        b"\7" * 32, OnChainStatus.FULFILLED, LogPosition(BlockRef(1, b"\1" * 32, 1), b"\2" * 32, 0)
    )
    labels = [{"index": 0, "label": "\x1b[2Jcat\u202egod\r", "probability": 0.5}]
    render.show(Outcome(None, settled, None, {"labels": labels}))  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "\\x1b[2Jcat\\u202egod\\r" in shown
    assert "\x1b" not in shown


def test_given_an_environment_of_another_deployment_when_a_local_stack_reads_it_then_only_tuning_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deployment.json").write_text(json.dumps({"rpc_url": "http://127.0.0.1:1", "confirmations": 1}))
    for name, value in {
        "SIBYL_RPC_URL": "http://10.0.0.1:8545",
        "SIBYL_COORDINATOR": "0x" + "12" * 20,
        "SIBYL_OPERATOR_KEY": "junk",
        "SIBYL_OPERATOR_KEY_FILE": "/etc/operator.key",
        "sibyl_requester_key": "junk",
        "SIBYL_CONFIRMATIONS": "12",
        "SIBYL_MAX_FEE_GWEI": "9999",
        "SIBYL_WORKERS": "2",
        "SIBYL_LOG_LEVEL": "debug",
        "SIBYL_TEST_DATA": "/data",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_local_settings(tmp_path)
    assert (settings.rpc_url, settings.confirmations, settings.workers) == ("http://127.0.0.1:1", 1, 2)
    assert (settings.coordinator, settings.operator_key, settings.operator_key_file) == (None, None, None)
    assert settings.requester_key is None
    assert settings.data_dir == tmp_path
    passed = {name for name in local_environment() if name.upper().startswith("SIBYL_")}
    assert passed == {"SIBYL_WORKERS", "SIBYL_LOG_LEVEL", "SIBYL_TEST_DATA"}


def test_given_a_model_priced_in_a_token_when_a_limit_is_read_then_it_must_be_given_in_the_tokens_smallest_part() -> (
    None
):
    token = "0x" + "12" * 20
    assert render.limit("250", token) == 250
    assert render.limit(None, None) == 10**16
    for text in (None, "0.01", "-1"):
        with pytest.raises(typer.BadParameter, match="smallest part"):
            render.limit(text, token)
    assert render.amount("payment", 250, token) == {"payment": 250, "token": token}
    assert render.money(250, token) == f"250 of the token {token}"


@pytest.mark.parametrize("arguments", [["deposit", "0"], ["deposit", "much"], ["withdraw", "--token", "0x12"]])
def test_given_a_wrong_amount_or_address_when_money_is_moved_then_it_is_a_wrong_argument(arguments: list[str]) -> None:
    done = sibyl(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_given_a_model_and_a_token_when_withdrawing_then_the_command_says_that_a_model_has_its_own() -> None:
    done = sibyl("withdraw", "--model", "1", "--token", "0x" + "12" * 20)
    assert done.returncode == 2
    assert "its own token" in done.stderr
