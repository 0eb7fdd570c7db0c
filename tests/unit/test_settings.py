"""Settings and keys: environment, then deployment file, then defaults; errors name the setting, never its value."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from eth_account import Account
from pydantic import SecretStr

from oracle.chain.deployment import account_of, coordinator_address
from oracle.chain.keys import load_account
from oracle.errors import ConfigurationError
from oracle.settings import load_settings

pytestmark = pytest.mark.unit

KEY = "0x" + "4c" * 32


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("SIBYL_"):
            monkeypatch.delenv(name)


def test_given_a_deployment_file_and_an_environment_when_loaded_then_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deployment.json").write_text(json.dumps({"rpc_url": "http://127.0.0.1:1", "chain_id": 5}))
    monkeypatch.setenv("SIBYL_CHAIN_ID", "7")
    settings = load_settings(tmp_path)
    assert (settings.rpc_url, settings.chain_id) == ("http://127.0.0.1:1", 7)
    assert settings.database == tmp_path / "oracle.sqlite3"


def test_given_bad_settings_when_loaded_then_each_is_named_and_no_value_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIBYL_CONFIRMATIONS", "0-secret")
    monkeypatch.setenv("SIBYL_WORKERS", "99999")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path)
    assert "SIBYL_CONFIRMATIONS" in str(caught.value)
    assert "SIBYL_WORKERS" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_given_gateways_for_the_page_when_loaded_then_each_is_an_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIBYL_PAGE_GATEWAYS", "https://ipfs.example, http://127.0.0.1:8081/")
    assert load_settings(tmp_path).page_gateways == ("https://ipfs.example", "http://127.0.0.1:8081")


@pytest.mark.parametrize(
    "named", ["*", "https://ipfs.example; script-src *", "https://ipfs.example/ipfs", "ipfs.example"]
)
def test_given_no_origin_as_a_gateway_when_loaded_then_the_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("SIBYL_PAGE_GATEWAYS", named)
    with pytest.raises(ConfigurationError, match="SIBYL_PAGE_GATEWAYS"):
        load_settings(tmp_path)


def test_given_a_broken_deployment_file_when_loaded_then_the_remedy_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "deployment.json").write_text("{")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(tmp_path)
    assert "sibyl up" in caught.value.remedy


@pytest.mark.parametrize("text", [None, "0x12", "not an address"])
def test_given_no_usable_coordinator_when_asked_for_then_the_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is not None:
        monkeypatch.setenv("SIBYL_COORDINATOR", text)
    with pytest.raises(ConfigurationError) as caught:
        coordinator_address(load_settings(tmp_path))
    assert "SIBYL_COORDINATOR" in str(caught.value) + caught.value.remedy


def test_given_a_hex_key_or_an_encrypted_keystore_when_loaded_then_both_give_the_account(tmp_path: Path) -> None:
    address = Account.from_key(KEY).address
    plain, keystore, password = tmp_path / "plain", tmp_path / "keystore.json", tmp_path / "password"
    plain.write_text(KEY + "\n")
    password.write_text("open sesame\n")
    keystore.write_text(json.dumps(Account.encrypt(KEY, "open sesame", kdf="pbkdf2", iterations=2)))
    for file in (plain, keystore):
        assert load_account("operator", key=None, key_file=file, password_file=password).address == address
    assert load_account("operator", key=SecretStr(KEY), key_file=None, password_file=None).address == address


def test_given_unusable_keys_when_loaded_then_the_error_names_the_source_and_repeats_no_secret(tmp_path: Path) -> None:
    broken, keystore, wrong = tmp_path / "broken", tmp_path / "keystore.json", tmp_path / "wrong"
    broken.write_text("4c4c-not-a-key")
    keystore.write_text(json.dumps(Account.encrypt(KEY, "open sesame", kdf="pbkdf2", iterations=2)))
    wrong.write_text("close sesame")
    for file, password in ((broken, None), (keystore, None), (keystore, wrong), (tmp_path / "absent", None)):
        with pytest.raises(ConfigurationError) as caught:
            load_account("operator", key=None, key_file=file, password_file=password)
        assert caught.value.remedy
        for secret in ("4c4c", "sesame"):
            assert secret not in str(caught.value) + caught.value.remedy


def test_given_no_key_when_an_account_is_needed_then_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        account_of("requester", load_settings(tmp_path))
    assert "SIBYL_REQUESTER_KEY_FILE" in caught.value.remedy


def test_given_settings_with_a_key_when_printed_then_it_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIBYL_OPERATOR_KEY", KEY)
    settings = load_settings(tmp_path)
    assert "4c4c" not in repr(settings) + str(settings) + settings.model_dump_json()


# ---------------------------------------------------------------------------------------------------------------
# Files of scripts/deploy.py, prices of tokens
# ---------------------------------------------------------------------------------------------------------------

COORDINATOR = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def contracts_file(folder: Path, **changes: object) -> Path:
    file = folder / "31337.json"
    document = {"chainId": 31337, "coordinator": COORDINATOR, "startBlock": 12, "owner": "0x" + "11" * 20}
    file.write_text(json.dumps(document | changes))
    return file


def test_given_a_file_of_the_deploy_script_when_named_then_it_says_where_the_coordinator_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIBYL_DEPLOYMENT", str(contracts_file(tmp_path)))
    (tmp_path / "deployment.json").write_text(json.dumps({"coordinator": "0x" + "22" * 20, "confirmations": 9}))
    settings = load_settings(tmp_path)
    assert (settings.coordinator, settings.chain_id, settings.start_block) == (COORDINATOR, 31337, 12)
    assert settings.confirmations == 9

    monkeypatch.setenv("SIBYL_START_BLOCK", "7")
    assert load_settings(tmp_path).start_block == 7


@pytest.mark.parametrize(
    ("text", "problem"),
    [("[]", "names no coordinator"), ("{}", "names no coordinator"), ("{", "not JSON"), (None, "cannot be read")],
)
def test_given_a_file_of_another_kind_when_named_as_deployment_then_the_error_says_what_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, problem: str
) -> None:
    file = tmp_path / "other.json"
    if text is not None:
        file.write_text(text)
    monkeypatch.setenv("SIBYL_DEPLOYMENT", str(file))
    with pytest.raises(ConfigurationError, match=problem) as caught:
        load_settings(tmp_path)
    assert "SIBYL_DEPLOYMENT" in str(caught.value)
    assert "build/deployments" in caught.value.remedy


def test_given_prices_of_tokens_when_loaded_then_they_are_exact_and_found_by_any_spelling_of_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    monkeypatch.setenv("SIBYL_TOKEN_PRICES", json.dumps({COORDINATOR.lower(): "1/3", other: 0.25}))
    assert load_settings(tmp_path).token_prices == {COORDINATOR: Fraction(1, 3), other: Fraction(1, 4)}


@pytest.mark.parametrize(
    "text", ["free", "[]", '{"0x12": 1}', *(f'{{"{COORDINATOR}": {p}}}' for p in ("0", '"1/0"', '"x"'))]
)
def test_given_prices_that_are_none_when_loaded_then_the_setting_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SIBYL_TOKEN_PRICES", text)
    with pytest.raises(ConfigurationError, match="SIBYL_TOKEN_PRICES"):
        load_settings(tmp_path)
