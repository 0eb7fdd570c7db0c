"""What yagna is told about the payment chain, and what it must forget when that chain has lost something."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from pathlib import Path

import pytest

from oracle.devnet.golem.images import ImageStore, ImageUnknown
from oracle.devnet.golem.network import NAMES, _make_private
from oracle.devnet.golem.settlement import CHAIN_ID, driver_environment, forget_payments, remembers_more
from oracle.devnet.golem.yagna import Yagna
from oracle.errors import ConfigurationError

pytestmark = pytest.mark.unit


class ChainDouble:
    url = "http://127.0.0.1:12345"


class SettlementDouble:
    chain = ChainDouble()
    token = "0x" + "5f" * 20


def confirmed(folder: Path, *nonces: int, chain_id: int = CHAIN_ID) -> None:
    with sqlite3.connect(folder / "erc20.sqlite") as database:
        database.execute("CREATE TABLE IF NOT EXISTS tx (chain_id INTEGER, nonce INTEGER, confirm_date TEXT)")
        database.executemany("INSERT INTO tx VALUES (?, ?, 'then')", [(chain_id, nonce) for nonce in nonces])
        database.execute("INSERT INTO tx VALUES (?, 99, NULL)", (chain_id,))
    database.close()


def test_given_a_payment_chain_when_yagna_is_configured_then_it_knows_that_chain_alone(tmp_path: Path) -> None:
    environment = driver_environment(tmp_path, SettlementDouble())  # type: ignore[arg-type]
    config = tomllib.loads((tmp_path / "config-payments.toml").read_text())
    assert list(config["chain"]) == ["hoodi"]
    chain = config["chain"]["hoodi"]
    assert (chain["chain-id"], chain["token"]["address"]) == (560048, SettlementDouble.token)
    assert [endpoint["endpoints"] for endpoint in chain["rpc-endpoints"]] == [ChainDouble.url]
    # With it, only the first of several payees of one daemon would be paid.
    assert "multi-contract" not in chain
    assert "YAGNA_DEV_SKIP_ALLOCATION_VALIDATION" not in environment


def test_given_no_payment_chain_when_yagna_is_configured_then_it_reaches_nobody(tmp_path: Path) -> None:
    environment = driver_environment(tmp_path / "new", None)
    config = tomllib.loads((tmp_path / "new" / "config-payments.toml").read_text())
    assert [one["endpoints"] for one in config["chain"]["hoodi"]["rpc-endpoints"]] == ["http://127.0.0.1:1"]
    assert environment["YAGNA_DEV_SKIP_ALLOCATION_VALIDATION"] == "1"


def test_given_confirmed_payments_when_the_chain_has_them_all_then_nothing_is_forgotten(tmp_path: Path) -> None:
    assert not remembers_more(tmp_path, 0)
    confirmed(tmp_path, 0, 1, 2)
    assert not remembers_more(tmp_path, 3)
    confirmed(tmp_path, 7, chain_id=1)
    assert not remembers_more(tmp_path, 3)


def test_given_confirmed_payments_when_the_chain_lacks_one_then_yagna_remembers_more(tmp_path: Path) -> None:
    confirmed(tmp_path, 0, 1, 2)
    assert remembers_more(tmp_path, 2)
    assert remembers_more(tmp_path, 0)


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41b", "a b", "ä"])
def test_given_a_folder_with_an_odd_name_when_payments_are_looked_at_then_they_are_found(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    confirmed(tmp_path / name, 0, 1, 2)
    assert remembers_more(tmp_path / name, 2)
    monkeypatch.chdir(tmp_path)
    assert remembers_more(Path(name), 2)


def test_given_payments_to_forget_when_forgotten_then_identities_stay(tmp_path: Path) -> None:
    for name in ("erc20.sqlite", "erc20.sqlite-wal", "payment.db", "payment.db-shm", "market.db", "activity.db"):
        (tmp_path / name).touch()
    for name in ("yagna.db", "yagna.db-wal", "identities.json"):
        (tmp_path / name).touch()
    forget_payments(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"yagna.db", "yagna.db-wal", "identities.json"}


def test_given_a_folder_when_a_requestor_is_made_then_its_keys_are_kept_and_are_the_owners_alone(
    tmp_path: Path,
) -> None:
    def yagna() -> Yagna:
        return Yagna(tmp_path / "yagna", log=tmp_path / "log", pid_file=tmp_path / "pid")

    requestor = yagna().requestor()
    assert yagna().requestor() == requestor
    assert len(requestor.node_id) == 42
    assert (tmp_path / "yagna" / "identities.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "yagna" / "identities.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="identities") as caught:
        yagna().requestor()
    assert "begin anew" in caught.value.remedy


def test_given_an_old_folder_that_others_may_read_when_a_network_starts_then_it_is_the_owners_alone(
    tmp_path: Path,
) -> None:
    old, new, shared = tmp_path / "old", tmp_path / "deep" / "new", tmp_path / "shared"
    old.mkdir()
    old.chmod(0o755)
    shared.mkdir()
    shared.chmod(0o1777)
    for data in (old, new):
        _make_private(data)
        assert data.stat().st_mode & 0o7777 == 0o700
    with pytest.raises(ConfigurationError, match="everybody's"):
        _make_private(shared)
    assert shared.stat().st_mode & 0o7777 == 0o1777
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        _make_private(tmp_path / "file")


def test_given_a_store_of_images_when_asked_then_it_finds_by_digest_alone(tmp_path: Path) -> None:
    digest = "ab" * 28
    (tmp_path / digest).mkdir()
    (tmp_path / digest / "image.json").write_text(json.dumps({"volumes": ["/golem/work"]}))
    store = ImageStore(tmp_path)
    found = store.find(f"hash:sha3:{digest}:http://127.0.0.1:1/x.gvmi")
    assert (found.root, list(found.volumes)) == (tmp_path / digest / "root", ["/golem/work"])
    for package in (
        "",
        "hash:sha3",
        f"hash:sha3:{'cd' * 28}:x",
        f"hash:md5:{digest}:x",
        "hash:sha3:../x:y",
        "hash:sha3::x",
    ):
        with pytest.raises(ImageUnknown):
            store.find(package)
    store.keep_only({"other"})
    with pytest.raises(ImageUnknown, match="not in this network"):
        store.find(f"hash:sha3:{digest}:x")


def test_given_the_names_of_providers_when_counted_then_none_is_there_twice() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 3
