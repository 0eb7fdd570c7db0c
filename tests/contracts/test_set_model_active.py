"""setModelActive: a publisher retires a model and takes it up again."""

from conftest import FULFILLED, PRICE, answered, reverts


def test_a_retired_model_takes_no_requests(coordinator, model, publisher):
    tx = coordinator.setModelActive(model, False, {"from": publisher})
    assert tx.events["ModelActivitySet"]["active"] is False
    with reverts("ModelInactive", model):
        coordinator.quote(model, 0)


def test_requests_already_made_are_still_answered(coordinator, model, publisher, ask, report, status_of):
    request_id = ask()
    coordinator.setModelActive(model, False, {"from": publisher})
    report(answered(request_id))
    assert status_of(request_id) == FULFILLED


def test_it_can_be_taken_up_again(coordinator, model, publisher):
    coordinator.setModelActive(model, False, {"from": publisher})
    coordinator.setModelActive(model, True, {"from": publisher})
    assert coordinator.quote(model, 0) == PRICE


def test_nobody_else_retires_it(coordinator, model, publisher, owner):
    with reverts("NotModelPublisher", owner, publisher):
        coordinator.setModelActive(model, False, {"from": owner})
