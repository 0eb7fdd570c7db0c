"""publishModel, modelOf, modelCount: anyone brings a model and keeps charge of it."""

from conftest import ETHER, PRICE, TOKEN_PRICE, make_cid, reverts

FEE = 10**16


def test_anyone_publishes_a_model_for_the_fee(coordinator, stranger, payout):
    tx = coordinator.publishModel(make_cid("another"), PRICE, ETHER, payout, {"from": stranger, "value": FEE})
    number = coordinator.modelCount()
    assert tx.events["ModelPublished"]["modelId"] == number
    model = coordinator.modelOf(number)
    assert (model["publisher"], model["payout"], model["token"]) == (stranger, payout, ETHER)
    assert (model["active"], model["price"], model["publisherShare"]) == (True, PRICE, 3000)
    assert bytes(model["manifestCid"]) == make_cid("another")


def test_the_fee_is_the_owners_and_the_excess_comes_back(coordinator, owner, stranger, payout):
    before, owned = stranger.balance(), coordinator.balanceOf(ETHER, owner)
    coordinator.publishModel(make_cid("another"), PRICE, ETHER, payout, {"from": stranger, "value": 3 * FEE})
    assert before - stranger.balance() == FEE
    assert coordinator.balanceOf(ETHER, owner) - owned == FEE


def test_too_low_a_fee_is_refused(coordinator, stranger, payout):
    with reverts("PaymentTooLow", FEE - 1, FEE):
        coordinator.publishModel(make_cid("another"), PRICE, ETHER, payout, {"from": stranger, "value": FEE - 1})


def test_the_owner_publishes_for_nothing(coordinator, owner, payout):
    coordinator.publishModel(make_cid("another"), 0, ETHER, payout, {"from": owner})
    assert coordinator.modelOf(coordinator.modelCount())["price"] == 0


def test_a_model_can_be_priced_in_a_token(coordinator, token, owner, payout):
    coordinator.publishModel(make_cid("another"), TOKEN_PRICE, token, payout, {"from": owner})
    model = coordinator.modelOf(coordinator.modelCount())
    assert (model["token"], model["price"]) == (token, TOKEN_PRICE)


def test_an_account_without_code_is_no_token(coordinator, owner, stranger, payout):
    with reverts("TokenUnsupported", stranger):
        coordinator.publishModel(make_cid("another"), PRICE, stranger, payout, {"from": owner})


def test_a_manifest_without_a_cid_is_refused(coordinator, owner, payout):
    with reverts("InvalidCid", b"my model"):
        coordinator.publishModel(b"my model", PRICE, ETHER, payout, {"from": owner})


def test_a_price_is_whole_gwei(coordinator, owner, payout):
    with reverts("PriceNotRepresentable", PRICE + 1):
        coordinator.publishModel(make_cid("another"), PRICE + 1, ETHER, payout, {"from": owner})


def test_somebody_must_earn(coordinator, owner):
    with reverts("ZeroAddress"):
        coordinator.publishModel(make_cid("another"), PRICE, ETHER, ETHER, {"from": owner})


def test_a_model_that_was_never_published_is_unknown(coordinator):
    with reverts("UnknownModel", 99):
        coordinator.modelOf(99)
