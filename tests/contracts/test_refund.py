"""refund: money comes back when nobody answered in time."""

from conftest import ETHER, FULFILLED, PENDING, PRICE, REFUNDED, UNKNOWN, answered, failed, id_in, make_cid, reverts


def test_anyone_can_refund_after_the_deadline(coordinator, person, stranger, deadline, ask, wait_until, status_of):
    request_id = ask()
    before = person.balance()
    wait_until(deadline + 1)
    tx = coordinator.refund(request_id, {"from": stranger})
    assert dict(tx.events["InferenceRefunded"]) == {
        "requestId": "0x" + request_id.hex(), "requester": person, "amount": PRICE,
    }
    assert person.balance() - before == PRICE
    assert status_of(request_id) == REFUNDED


def test_nobody_can_refund_before(coordinator, person, deadline, ask):
    request_id = ask()
    with reverts("NotRefundable", request_id, PENDING, deadline):
        coordinator.refund(request_id, {"from": person})


def test_nothing_is_refunded_twice(coordinator, person, deadline, ask, wait_until):
    request_id = ask()
    wait_until(deadline + 1)
    coordinator.refund(request_id, {"from": person})
    with reverts("NotRefundable", request_id, REFUNDED, deadline):
        coordinator.refund(request_id, {"from": person})


def test_an_answered_request_is_not_refunded(coordinator, person, deadline, ask, report, wait_until):
    request_id = ask()
    report(answered(request_id))
    wait_until(deadline + 1)
    with reverts("NotRefundable", request_id, FULFILLED, 0):
        coordinator.refund(request_id, {"from": person})


def test_an_id_never_seen_holds_no_money(coordinator, person):
    with reverts("NotRefundable", b"\x11" * 32, UNKNOWN, 0):
        coordinator.refund(b"\x11" * 32, {"from": person})


def test_an_answer_after_the_deadline_is_skipped_and_a_failure_is_not(
    coordinator, operator, deadline, ask, report, wait_until
):
    late, failing = ask("late"), ask("failing")
    wait_until(deadline + 1)
    tx = report(answered(late), failed(failing))
    assert tx.events["FulfilmentSkipped"]["status"] == PENDING
    assert tx.events["InferenceFailed"]["requestId"] == "0x" + failing.hex()
    assert coordinator.balanceOf(ETHER, operator) == 0


def test_ether_that_is_not_taken_goes_to_the_balance(
    EtherRefuser, coordinator, model, owner, person, stranger, deadline, wait_until
):
    refuser = owner.deploy(EtherRefuser, coordinator)
    tx = refuser.ask(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE})
    wait_until(deadline + 1)
    coordinator.refund(id_in(tx), {"from": stranger})
    assert coordinator.balanceOf(ETHER, refuser) == PRICE

    before = stranger.balance()
    refuser.withdrawTo(stranger, {"from": person})
    assert stranger.balance() - before == PRICE
