"""request: a person pays in ether for a prediction."""

import brownie
import pytest
from conftest import HOUR, PENDING, PRICE, TOKEN_PRICE, id_in, make_cid, reverts


def test_a_request_holds_its_payment(coordinator, model, person, deadline, ask):
    before = coordinator.balance()
    known = coordinator.requestOf(ask())
    assert (known["requester"], known["modelId"], known["payment"]) == (person, model, PRICE)
    assert (known["deadline"], known["status"]) == (deadline, PENDING)
    assert coordinator.balance() - before == PRICE


def test_its_event_says_everything_that_was_asked(coordinator, model, person, deadline, ask_tx):
    nonce = coordinator.nextNonce()
    event = ask_tx("picture", 12_345).events["InferenceRequested"]
    assert (event["modelId"], event["requester"], event["nonce"]) == (model, person, nonce)
    assert bytes(event["imageCid"]) == make_cid("picture")
    assert (event["callbackGas"], event["payment"]) == (20_000, coordinator.quote(model, 20_000))
    assert event["deadline"] == deadline


def test_what_was_sent_too_much_comes_back(coordinator, model, person, deadline):
    before = person.balance()
    coordinator.request(model, make_cid("picture"), 0, deadline, {"from": person, "value": "1 ether"})
    assert before - person.balance() == PRICE


def test_too_little_is_refused(coordinator, model, person, deadline):
    with reverts("PaymentTooLow", PRICE - 1, PRICE):
        coordinator.request(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE - 1})


def test_a_picture_without_a_cid_is_refused(coordinator, model, person, deadline):
    with reverts("InvalidCid", b"my cat"):
        coordinator.request(model, b"my cat", 0, deadline, {"from": person, "value": PRICE})


@pytest.mark.parametrize("seconds", [20, 8 * 24 * HOUR])
def test_a_deadline_too_soon_or_too_far_is_refused(coordinator, model, person, chain, seconds):
    deadline = chain[-1].timestamp + seconds
    with brownie.reverts(revert_pattern=f"DeadlineOutOfRange: {deadline}, .*"):
        coordinator.request(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE})


def test_a_model_priced_in_a_token_is_asked_otherwise(coordinator, token, token_model, person, deadline):
    with reverts("ModelPricedInToken", token_model, token):
        coordinator.request(token_model, make_cid("picture"), 0, deadline, {"from": person, "value": TOKEN_PRICE})


def test_the_same_question_twice_is_two_requests(ask):
    assert ask() != ask()


def test_a_contract_can_ask(RecordingConsumer, coordinator, model, owner, person, deadline):
    consumer = owner.deploy(RecordingConsumer, coordinator)
    tx = consumer.ask(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE})
    assert coordinator.requestOf(id_in(tx))["requester"] == consumer
