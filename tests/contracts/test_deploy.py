"""scripts/deploy.py, publish_models.py, hand_over.py: a coordinator of one's own, on the development chain."""

import json
import subprocess
from pathlib import Path

import pytest
from conftest import ETHER
from eth_account import Account
from scripts import deploy, deployments, hand_over, publish_models

ROOT = Path(__file__).parents[2]
MANIFEST = "bafkreifvt2ykr3dim2u4zgraphdc5pnwc4mxlkco4zgjhii63i5oukx7ue"  # of provider_images/mnist/manifest.json


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where records go in these tests."""
    monkeypatch.setattr(deployments, "FOLDER", tmp_path)
    monkeypatch.setattr(deploy, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def record():
    """What deploying wrote."""
    return deploy.main()


def read(folder, chain):
    return json.loads((folder / f"{chain.id}.json").read_text())


# deploy


def test_it_deploys_and_writes_one_record(InferenceCoordinator, record, folder, chain, owner):
    assert read(folder, chain) == record
    assert (record["owner"], record["operators"], record["quorum"]) == (owner, [owner], 1)
    assert record["startBlock"] == chain.height
    coordinator = InferenceCoordinator.at(record["coordinator"])
    assert coordinator.operators() == record["operators"]
    assert coordinator.cancelWindow() == record["cancelWindow"] == 30
    assert record["abi"] == InferenceCoordinator.abi


def test_operators_are_put_in_order(InferenceCoordinator, signers, stranger):
    record = deploy.main(
        f"operators={signers[2]},{signers[0]},{signers[1]}", "quorum=2", "cancel-window=60", f"owner={stranger}"
    )
    coordinator = InferenceCoordinator.at(record["coordinator"])
    assert coordinator.operators() == record["operators"] == signers
    assert (coordinator.quorum(), coordinator.cancelWindow(), coordinator.owner()) == (2, 60, stranger)


def test_a_dry_run_sends_and_writes_nothing(folder, chain, owner, capsys):
    height, balance = chain.height, owner.balance()
    assert deploy.main("dry-run") is None
    assert (chain.height, owner.balance(), list(folder.iterdir())) == (height, balance, [])
    shown = capsys.readouterr().out
    assert "gas" in shown
    assert "nothing was sent" in shown


def test_the_verification_input_gives_the_very_bytes_that_were_deployed(record, folder, web3):
    text = (folder / record["verification"]["input"]).read_text()
    done = subprocess.run(
        [ROOT / "scripts" / "solc", "--standard-json"], input=text, capture_output=True, text=True, check=True, cwd=ROOT
    )
    source, name = record["verification"]["contract"].split(":")
    creation = json.loads(done.stdout)["contracts"][source][name]["evm"]["bytecode"]["object"]
    (sent,) = web3.eth.get_block(record["startBlock"], full_transactions=True)["transactions"]
    arguments = record["verification"]["constructorArguments"].removeprefix("0x")
    assert sent["input"].hex().removeprefix("0x") == creation + arguments
    assert str(ROOT) not in text


def test_the_compiler_is_named_as_explorers_name_it(record):
    assert record["verification"]["compiler"].startswith("v0.8.30+commit.")


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("operator=0x1", "not understood"),
        ("dry_run", "not understood"),
        ("operators=0x1234", "not an address"),
        (f"owner={ETHER}", "not an address"),
        ("quorum=two", "not a whole number"),
        ("quorum=2", "refuses it"),
    ],
)
def test_a_mistake_is_named_before_anything_is_sent(chain, argument, complaint):
    height = chain.height
    with pytest.raises(SystemExit, match=complaint):
        deploy.main(argument)
    assert chain.height == height


# Keys, as on a live network


@pytest.fixture
def live(monkeypatch):
    """The scripts see a network that is no development chain, and no key in the environment."""
    monkeypatch.setattr(deployments, "is_development", lambda: False)
    monkeypatch.setattr(deploy, "is_development", lambda: False)
    for name in ("SIBYL_OWNER_KEY", "SIBYL_OWNER_KEY_FILE", "SIBYL_KEY_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_a_key_comes_from_a_file_or_from_the_environment(live, holder, tmp_path, monkeypatch):
    monkeypatch.setenv("SIBYL_OWNER_KEY", holder.private_key)
    assert deployments.load_account(None) == holder
    (tmp_path / "key").write_text("b1" * 32 + "\n")
    monkeypatch.setenv("SIBYL_OWNER_KEY_FILE", str(tmp_path / "key"))
    assert deployments.load_account(None) == Account.from_key("b1" * 32).address


def test_an_encrypted_keystore_is_opened_by_its_password(live, tmp_path, monkeypatch):
    keystore = Account.encrypt("b1" * 32, "correct horse", kdf="pbkdf2", iterations=1000)
    (tmp_path / "key").write_text(json.dumps(keystore))
    (tmp_path / "password").write_text("correct horse\n")
    monkeypatch.setenv("SIBYL_OWNER_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("SIBYL_KEY_PASSWORD_FILE", str(tmp_path / "password"))
    assert deployments.load_account(None) == Account.from_key("b1" * 32).address
    (tmp_path / "password").write_text("wrong")
    with pytest.raises(SystemExit, match="does not open the keystore"):
        deployments.load_account(None)


def test_without_a_key_it_says_what_to_set(live):
    with pytest.raises(SystemExit, match="set SIBYL_OWNER_KEY_FILE"):
        deployments.load_account(None)


def test_what_is_no_key_is_refused_and_not_shown(live, monkeypatch):
    monkeypatch.setenv("SIBYL_OWNER_KEY", "0xsecret")
    with pytest.raises(SystemExit) as refused:
        deployments.load_account(None)
    assert "secret" not in str(refused.value)


def test_an_account_that_the_keystore_lacks_is_named(live):
    with pytest.raises(SystemExit, match="accounts new nobody"):
        deployments.load_account("nobody")


def test_on_a_live_network_the_operators_must_be_named(live, monkeypatch, owner):
    monkeypatch.setenv("SIBYL_OWNER_KEY", "b1" * 32)
    with pytest.raises(SystemExit, match="operators=ADDRESS,... is missing"):
        deploy.main()


def test_a_coordinator_that_lives_is_not_forgotten(record, folder, live, monkeypatch):
    monkeypatch.setenv("SIBYL_OWNER_KEY", "b1" * 32)
    with pytest.raises(SystemExit, match="Add the word again"):
        deploy.main(f"operators={record['owner']}")
    deploy.move_aside(record["chainId"])
    (kept,) = folder.glob(f"{record['chainId']}.0x*.json")
    assert json.loads(kept.read_text()) == record


# publish_models


def test_built_in_models_are_published_and_recorded(InferenceCoordinator, record, folder, chain, owner):
    (model,) = publish_models.main("price=0.0001", "models=mnist-cnn")
    assert model == {"id": 1, "name": "mnist-cnn", "manifest": MANIFEST, "price": str(10**14), "token": ETHER}
    assert read(folder, chain)["models"] == [model]
    kept = InferenceCoordinator.at(record["coordinator"]).modelOf(1)
    assert (kept["publisher"], kept["payout"], kept["price"]) == (owner, owner, 10**14)


def test_a_model_is_not_published_twice(record, capsys):
    publish_models.main("price=0.0001", "models=mnist-cnn")
    assert publish_models.main("price=0.0001", "models=mnist-cnn") == []
    assert "is published as model 1" in capsys.readouterr().out


def test_a_manifest_that_is_pinned_elsewhere_is_named_by_its_cid(InferenceCoordinator, record, payout):
    cid = "Qm" + "YwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPcdG"
    publish_models.main("price=0", f"models={cid}", f"payout={payout}")
    kept = InferenceCoordinator.at(record["coordinator"]).modelOf(1)
    assert (len(bytes(kept["manifestCid"])), kept["payout"]) == (34, payout)


def test_a_price_in_a_token_has_its_decimals(PlainToken, InferenceCoordinator, record, owner):
    token = owner.deploy(PlainToken, 6)
    publish_models.main("price=1.5", "models=mnist-cnn", f"token={token}")
    kept = InferenceCoordinator.at(record["coordinator"]).modelOf(1)
    assert (kept["token"], kept["price"]) == (token, 1_500_000)


def test_a_dry_run_publishes_nothing(InferenceCoordinator, record, folder, chain, capsys):
    assert publish_models.main("price=0.0001", "models=mnist-cnn", "dry-run") == []
    assert MANIFEST in capsys.readouterr().out
    assert InferenceCoordinator.at(record["coordinator"]).modelCount() == 0
    assert read(folder, chain)["models"] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("models=mnist-cnn",), "price=PRICE is missing"),
        (("price=cheap",), "not a number"),
        (("price=-1",), "not a positive number"),
        (("price=0.1", "models=nothing"), "no built-in model"),
        (("price=0.0000000001", "models=mnist-cnn"), "refuses it"),
    ],
)
def test_a_bad_model_or_price_is_named(record, arguments, complaint):
    with pytest.raises(SystemExit, match=complaint):
        publish_models.main(*arguments)


def test_without_a_deployment_it_says_what_to_do():
    with pytest.raises(SystemExit, match="Deploy first"):
        publish_models.main("price=0.0001")


# hand_over


def test_the_next_owner_accepts(InferenceCoordinator, record, folder, chain, owner, stranger, monkeypatch, capsys):
    coordinator = InferenceCoordinator.at(record["coordinator"])
    hand_over.main(f"to={stranger}")
    assert (coordinator.owner(), coordinator.pendingOwner()) == (owner, stranger)
    assert "hand_over accept" in capsys.readouterr().out
    monkeypatch.setattr(hand_over, "load_account", lambda name: stranger)
    hand_over.accept()
    assert coordinator.owner() == read(folder, chain)["owner"] == stranger


def test_nobody_else_accepts(record, stranger, operator, monkeypatch):
    hand_over.main(f"to={stranger}")
    monkeypatch.setattr(hand_over, "load_account", lambda name: operator)
    with pytest.raises(SystemExit, match=f"was not offered to {operator}, but to {stranger}"):
        hand_over.accept()


def test_only_the_owner_hands_over(record, stranger, monkeypatch):
    monkeypatch.setattr(hand_over, "load_account", lambda name: stranger)
    with pytest.raises(SystemExit, match="is not the owner"):
        hand_over.main(f"to={stranger}")


def test_a_dry_run_hands_nothing_over(InferenceCoordinator, record, stranger):
    hand_over.main(f"to={stranger}", "dry-run")
    assert InferenceCoordinator.at(record["coordinator"]).pendingOwner() == ETHER
