"""request: a person pays for a prediction."""

import brownie
from conftest import HOUR, PENDING, PRICE, make_answer, make_cid
from eth_abi import encode
from eth_utils import keccak


def test_a_request_holds_its_payment(coordinator, model, person, ask):
    request_id = ask()
    requester, model_id, payment, callback_gas, _, status, failure = coordinator.requestOf(request_id)
    assert (requester, model_id, payment, callback_gas) == (person, model, PRICE, 0)
    assert (status, failure) == (PENDING, 0)
    assert coordinator.balance() == PRICE


def test_the_id_commits_to_everything_that_was_asked(coordinator, model, person, deadline, chain):
    payment = coordinator.quote(model, 12_345)
    tx = coordinator.request(
        model, make_cid("picture"), 12_345, deadline, {"from": person, "value": payment}
    )
    event = tx.events["InferenceRequested"]
    types = ["uint256", "address", "address", "uint256", "uint256", "bytes", "uint256", "uint256", "uint256"]
    values = [
        chain.id, coordinator.address, person.address, event["nonce"], model, make_cid("picture"),
        event["payment"], event["callbackGas"], event["deadline"],
    ]
    assert event["callbackGas"] == 20_000
    assert event["requestId"] == "0x" + keccak(encode(types, values)).hex()


def test_what_was_sent_too_much_comes_back(coordinator, model, person, deadline):
    before = person.balance()
    coordinator.request(model, make_cid("picture"), 0, deadline, {"from": person, "value": "1 ether", "gas_price": 0})
    assert before - person.balance() == PRICE


def test_too_little_is_refused(coordinator, model, person, deadline):
    with brownie.reverts(f"PaymentTooLow: {PRICE - 1}, {PRICE}"):
        coordinator.request(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE - 1})


def test_a_picture_without_a_cid_is_refused(coordinator, model, person, deadline):
    with brownie.reverts(f"InvalidCid: {b'my cat'}"):
        coordinator.request(model, b"my cat", 0, deadline, {"from": person, "value": PRICE})


def test_a_deadline_too_far_is_refused(coordinator, model, person, chain):
    with brownie.reverts():
        coordinator.request(model, make_cid("picture"), 0, chain.time() + 8 * 24 * HOUR, {"from": person, "value": PRICE})


def test_a_pause_stops_requests_and_nothing_else(coordinator, model, owner, person, deadline, ask, answer):
    request_id = ask()
    coordinator.pause({"from": owner})
    with brownie.reverts("EnforcedPause: "):
        coordinator.request(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE})
    answer(request_id)
    assert coordinator.verifyResult(request_id, person, make_cid("result"), make_answer(7, 9876))
