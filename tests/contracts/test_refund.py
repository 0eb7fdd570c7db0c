"""refund: money comes back when nobody answered in time."""

import brownie
from conftest import PENDING, PRICE, REFUNDED, make_answer, make_cid


def test_anyone_can_refund_after_the_deadline(coordinator, person, stranger, ask, pass_deadline):
    request_id = ask()
    before = person.balance()
    pass_deadline()
    tx = coordinator.refund(request_id, {"from": stranger})
    assert tx.events["InferenceRefunded"]["amount"] == PRICE
    assert person.balance() - before == PRICE
    assert coordinator.requestOf(request_id)[5] == REFUNDED


def test_nobody_can_refund_before(coordinator, person, deadline, ask):
    request_id = ask()
    with brownie.reverts(f"NotRefundable: {bytes(request_id)}, {PENDING}, {deadline}"):
        coordinator.refund(request_id, {"from": person})


def test_an_answer_after_the_deadline_is_skipped(coordinator, operator, ask, pass_deadline):
    request_id = ask()
    pass_deadline()
    item = (request_id, 0, make_cid("result"), make_answer(7, 9876))
    tx = coordinator.report([item], {"from": operator})
    assert tx.events["FulfilmentSkipped"]["status"] == PENDING
    assert coordinator.creditOf(operator) == 0


def test_money_that_is_not_taken_becomes_a_credit(
    EtherRefuser, coordinator, model, owner, person, stranger, deadline, pass_deadline
):
    refuser = owner.deploy(EtherRefuser, coordinator)
    tx = refuser.ask(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE})
    pass_deadline()
    coordinator.refund(tx.events["InferenceRequested"]["requestId"], {"from": stranger})
    assert coordinator.creditOf(refuser) == PRICE

    before = stranger.balance()
    refuser.withdrawTo(stranger, {"from": person})
    assert stranger.balance() - before == PRICE
