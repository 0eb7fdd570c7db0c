"""PictureName: an NFT of a picture, named after what a classifier sees in it. The name comes with the callback."""

import base64
import json

import pytest
from conftest import ETHER, PRICE, answered, failed, id_in, make_cid, reverts

CAT = make_cid("a cat")
TABBY = 281  # a class index of the model


@pytest.fixture(scope="module")
def names(PictureName, coordinator, model, owner):
    return owner.deploy(PictureName, coordinator, model)


@pytest.fixture
def mint(names, person, deadline):
    """Mints a token for the person and gives the id of its request."""
    return lambda cid=CAT: id_in(names.mint(cid, deadline, {"from": person, "value": names.price()}))


def metadata(names, token_id):
    """What wallets show: the JSON document inside of the token's ``data:`` address."""
    kind, _, document = names.tokenURI(token_id).partition(",")
    assert kind == "data:application/json;base64"
    return json.loads(base64.b64decode(document))


# price, modelId, CALLBACK_GAS


def test_it_costs_a_prediction_and_its_callback(names, model):
    assert names.modelId() == model
    assert names.price() == PRICE + names.CALLBACK_GAS() * 10**9


# mint, lastTokenId, tokenOf


def test_to_mint_is_to_ask(names, coordinator, mint, person):
    request_id = mint()
    assert coordinator.requestOf(request_id)["requester"] == names
    assert (names.lastTokenId(), names.tokenOf(request_id)) == (1, 1)
    assert (names.ownerOf(1), names.balanceOf(person)) == (person, 1)


def test_what_was_sent_too_much_comes_back(names, person, deadline):
    before = person.balance()
    names.mint(CAT, deadline, {"from": person, "value": "1 ether"})
    assert before - person.balance() == names.price()


def test_too_little_is_refused(names, person, deadline):
    price = names.price()
    with reverts("PaymentTooLow", price - 1, price):
        names.mint(CAT, deadline, {"from": person, "value": price - 1})


# nameOf


def test_the_answer_names_the_token(names, mint, report):
    request_id = mint()
    assert names.nameOf(1).dict() == {"named": False, "classIndex": 0, "confidenceBps": 0}
    tx = report(answered(request_id, TABBY))
    assert names.nameOf(1).dict() == {"named": True, "classIndex": TABBY, "confidenceBps": 9876}
    assert tx.events["PictureNamed"]["tokenId"] == tx.events["MetadataUpdate"]["_tokenId"] == 1
    assert names.tokenOf(request_id) == 0  # the request is done with


def test_each_token_gets_its_own_name(names, mint, report):
    first, second = mint(), mint(make_cid("a dog"))
    report(answered(second, 207), answered(first, TABBY))
    assert (names.nameOf(1)["classIndex"], names.nameOf(2)["classIndex"]) == (TABBY, 207)


def test_there_is_no_name_without_a_token(names):
    with reverts("ERC721NonexistentToken", 1):
        names.nameOf(1)


# tokenURI


def test_its_metadata_shows_picture_and_name(names, mint, report):
    request_id = mint()
    picture = f"ipfs://f{CAT.hex()}"
    assert metadata(names, 1) == {"image": picture, "name": "not named yet"}
    report(answered(request_id, TABBY))
    confidence = {"trait_type": "confidence in basis points", "value": 9876}
    assert metadata(names, 1) == {"image": picture, "name": f"class {TABBY}", "attributes": [confidence]}


# reclaim


def test_a_picture_that_nobody_could_look_at_leaves_no_token(names, mint, person, stranger, report):
    before = person.balance()
    request_id = mint()
    report(failed(request_id))
    assert names.reclaim(request_id, {"from": stranger}).events["Transfer"]["to"] == ETHER  # burnt
    assert (person.balance(), names.balanceOf(person)) == (before, 0)
    with reverts("ERC721NonexistentToken", 1):
        names.ownerOf(1)
    mint()
    assert names.lastTokenId() == 2  # a number is not given again


def test_a_named_token_stays(names, mint, person, report):
    request_id = mint()
    report(answered(request_id, TABBY))
    with reverts("UnknownRequest", request_id):
        names.reclaim(request_id, {"from": person})
    assert names.ownerOf(1) == person


# What every ERC-721 token has


def test_it_is_an_ordinary_token(names, mint, person, stranger, holder):
    assert (names.name(), names.symbol()) == ("Named pictures", "NAMED")
    mint(), mint(), mint()
    names.transferFrom(person, stranger, 1, {"from": person})
    names.safeTransferFrom(person, stranger, 2, {"from": person})
    assert names.balanceOf(stranger) == 2
    names.approve(holder, 3, {"from": person})
    assert names.getApproved(3) == holder
    names.transferFrom(person, stranger, 3, {"from": holder})
    names.setApprovalForAll(holder, True, {"from": stranger})
    assert names.isApprovedForAll(stranger, holder)
    names.transferFrom(stranger, person, 1, {"from": holder})
    assert (names.ownerOf(1), names.ownerOf(3)) == (person, stranger)


def test_a_token_of_another_is_not_taken(names, mint, stranger):
    mint()
    with reverts("ERC721InsufficientApproval", stranger, 1):
        names.transferFrom(names.ownerOf(1), stranger, 1, {"from": stranger})


@pytest.mark.parametrize(
    ("interface", "known"),
    [("0x80ac58cd", True), ("0x5b5e139f", True), ("0x49064906", True), ("0x01ffc9a7", True), ("0xffffffff", False)],
    ids=["ERC-721", "its metadata", "names that come later (ERC-4906)", "ERC-165", "none"],
)
def test_it_says_what_it_is(names, interface, known):
    assert names.supportsInterface(interface) is known
