"""scripts/deploy.py: a coordinator of one's own."""

import base64
import json
import runpy
from pathlib import Path

import pytest
from conftest import make_cid

SCRIPT = Path(__file__).parents[2] / "scripts" / "deploy.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def test_it_deploys_sets_the_operator_and_publishes(script, accounts, tmp_path):
    text = "b" + base64.b32encode(make_cid("manifest")).decode().rstrip("=").lower()
    record = script["deploy"](accounts[0], accounts[1].address, [f"{text}=0.002"], tmp_path)
    assert record["operator"] == accounts[1].address
    assert record["models"] == [{"id": 1, "manifest": text, "price": 2 * 10**15}]
    (written,) = tmp_path.iterdir()
    assert json.loads(written.read_text()) == record


@pytest.mark.parametrize("bad", ["QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPcdG", "my model", "b"])
def test_it_refuses_what_is_no_cid(script, bad):
    with pytest.raises(SystemExit):
        script["manifest_bytes"](bad)
