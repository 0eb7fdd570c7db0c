"""requestMany: one question about several pictures, paid in ether."""

from conftest import PRICE, TOKEN_PRICE, ids_in, make_cid, reverts

PICTURES = [make_cid("first"), make_cid("second"), make_cid("third")]


def test_each_picture_is_a_request_of_its_own(coordinator, model, person, deadline):
    nonce = coordinator.nextNonce()
    tx = coordinator.requestMany(model, PICTURES, 0, deadline, {"from": person, "value": 3 * PRICE})
    assert [bytes(request_id) for request_id in tx.return_value] == ids_in(tx)
    events = tx.events["InferenceRequested"]
    assert [bytes(event["imageCid"]) for event in events] == PICTURES
    assert [event["nonce"] for event in events] == [nonce, nonce + 1, nonce + 2]
    assert [coordinator.requestOf(i)["payment"] for i in ids_in(tx)] == [PRICE] * 3


def test_what_was_sent_too_much_comes_back(coordinator, model, person, deadline):
    before = person.balance()
    coordinator.requestMany(model, PICTURES, 0, deadline, {"from": person, "value": "1 ether"})
    assert before - person.balance() == 3 * PRICE


def test_it_is_all_or_none(coordinator, model, person, deadline):
    nonce = coordinator.nextNonce()
    with reverts("InvalidCid", b"my cat"):
        coordinator.requestMany(model, [*PICTURES, b"my cat"], 0, deadline, {"from": person, "value": 4 * PRICE})
    assert coordinator.nextNonce() == nonce


def test_the_price_of_one_is_not_enough(coordinator, model, person, deadline):
    with reverts("PaymentTooLow", PRICE, 3 * PRICE):
        coordinator.requestMany(model, PICTURES, 0, deadline, {"from": person, "value": PRICE})


def test_no_picture_is_no_question(coordinator, model, person, deadline):
    with reverts("NothingAsked"):
        coordinator.requestMany(model, [], 0, deadline, {"from": person})


def test_a_model_priced_in_a_token_is_asked_otherwise(coordinator, token, token_model, person, deadline):
    with reverts("ModelPricedInToken", token_model, token):
        coordinator.requestMany(token_model, PICTURES, 0, deadline, {"from": person, "value": 3 * TOKEN_PRICE})
