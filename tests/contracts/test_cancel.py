"""cancel, cancelWindow: a requester takes a request back while it cannot have cost anybody anything."""

from conftest import (
    CANCEL_WINDOW, CANCELLED, ETHER, FULFILLED, HOUR, PENDING, PRICE, UNKNOWN, answered, id_in, make_cid,
    reverts, terms_in,
)


def test_the_whole_payment_comes_back(coordinator, person, ask_tx, status_of):
    tx = ask_tx()
    before = person.balance()
    cancelled = coordinator.cancel(terms_in(tx), {"from": person})
    assert cancelled.events["InferenceCancelled"]["amount"] == PRICE
    assert person.balance() - before == PRICE
    assert status_of(id_in(tx)) == CANCELLED


def test_the_window_ends(coordinator, person, ask_tx, wait_until):
    tx = ask_tx()
    end = tx.timestamp + coordinator.cancelWindow()
    assert end == tx.timestamp + CANCEL_WINDOW
    wait_until(end)
    with reverts("NotCancellable", id_in(tx), PENDING, end):
        coordinator.cancel(terms_in(tx), {"from": person})


def test_a_stranger_has_no_such_request(coordinator, person, stranger, ask_tx):
    tx = ask_tx()
    unknown = bytes(coordinator.requestIdOf(stranger, terms_in(tx)))
    with reverts("NotCancellable", unknown, UNKNOWN, tx.timestamp + CANCEL_WINDOW):
        coordinator.cancel(terms_in(tx), {"from": stranger})


def test_a_later_creation_time_does_not_stretch_the_window(coordinator, person, ask_tx):
    *terms, created_at = terms_in(ask_tx())
    forged = (*terms, created_at + HOUR)
    with reverts(
        "NotCancellable", bytes(coordinator.requestIdOf(person, forged)), UNKNOWN,
        created_at + HOUR + CANCEL_WINDOW,
    ):
        coordinator.cancel(forged, {"from": person})


def test_an_answered_request_cannot_be_cancelled(coordinator, person, ask_tx, report):
    tx = ask_tx()
    report(answered(id_in(tx)))
    with reverts("NotCancellable", id_in(tx), FULFILLED, tx.timestamp + CANCEL_WINDOW):
        coordinator.cancel(terms_in(tx), {"from": person})


def test_an_answer_to_a_cancelled_request_is_skipped(coordinator, person, ask_tx, report):
    tx = ask_tx()
    coordinator.cancel(terms_in(tx), {"from": person})
    assert report(answered(id_in(tx))).events["FulfilmentSkipped"]["status"] == CANCELLED


def test_a_contract_cancels_its_own(RecordingConsumer, coordinator, model, owner, person, deadline):
    consumer = owner.deploy(RecordingConsumer, coordinator)
    tx = consumer.ask(model, make_cid("picture"), 0, deadline, {"from": person, "value": PRICE})
    consumer.cancel(terms_in(tx), {"from": person})
    assert consumer.balance() == PRICE


def test_a_coordinator_with_no_window_lets_nobody_cancel(InferenceCoordinator, owner, operator, person, chain):
    coordinator = owner.deploy(InferenceCoordinator, owner, [operator], 1, 0)
    coordinator.publishModel(make_cid("manifest"), 0, ETHER, owner, {"from": owner})
    tx = coordinator.request(1, make_cid("picture"), 0, chain[-1].timestamp + HOUR, {"from": person})
    with reverts("NotCancellable", id_in(tx), PENDING, tx.timestamp):
        coordinator.cancel(terms_in(tx), {"from": person})
