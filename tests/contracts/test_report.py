"""report: one operator settles requests, where the quorum is one."""

import brownie
from conftest import (
    CALLBACK_FAILED, CANCEL_WINDOW, ETHER, FAILED, FULFILLED, IMAGE_UNREADABLE, NO_FAILURE, PENDING, PRICE, UNKNOWN,
    answered, failed, id_in, make_answer, make_cid, reverts,
)


def test_an_answer_pays_the_model_and_the_operator(coordinator, model, operator, ask, report, status_of):
    request_id = ask()
    event = report(answered(request_id)).events["InferenceFulfilled"]
    assert (bytes(event["resultCid"]), bytes(event["answer"])) == (make_cid("result"), make_answer(7, 9876))
    assert status_of(request_id) == FULFILLED
    assert coordinator.earningsOf(model) == PRICE * 3 // 10
    assert coordinator.balanceOf(ETHER, operator) == PRICE * 7 // 10


def test_a_failure_gives_the_money_back_with_a_reason(coordinator, person, ask, report, status_of):
    request_id = ask()
    before = person.balance()
    tx = report(failed(request_id))
    assert tx.events["InferenceFailed"]["reason"] == IMAGE_UNREADABLE
    assert person.balance() - before == PRICE
    assert status_of(request_id) == FAILED


def test_one_bad_item_leaves_its_neighbours_alone(ask, report, status_of):
    first, second, third = ask("first"), ask("second"), ask("third")
    tx = report(
        answered(b"\x11" * 32),
        (first, NO_FAILURE, b"no cid", make_answer(1, 9000)),
        (third, NO_FAILURE, make_cid("result"), bytes(1025)),
        answered(second),
        answered(second),
    )
    assert [event["status"] for event in tx.events["FulfilmentSkipped"]] == [UNKNOWN, PENDING, PENDING, FULFILLED]
    assert [status_of(i) for i in (first, second, third)] == [PENDING, FULFILLED, PENDING]


def test_a_contract_is_called_back_with_the_answer(RecordingConsumer, coordinator, model, owner, deadline, report):
    consumer = owner.deploy(RecordingConsumer, coordinator)
    payment = coordinator.quote(model, 300_000)
    tx = consumer.ask(model, make_cid("picture"), 300_000, deadline, {"from": owner, "value": payment})
    report(answered(id_in(tx)))
    assert (consumer.calls(), bytes(consumer.requestId())) == (1, id_in(tx))
    assert (bytes(consumer.resultCid()), bytes(consumer.answer())) == (make_cid("result"), make_answer(7, 9876))


def test_a_callback_that_fails_is_recorded_and_paid_for(
    RevertingConsumer, coordinator, model, owner, deadline, ask, report, status_of
):
    consumer = owner.deploy(RevertingConsumer, coordinator)
    payment = coordinator.quote(model, 100_000)
    tx = consumer.ask(model, make_cid("picture"), 100_000, deadline, {"from": owner, "value": payment})
    neighbour = ask()
    assert "CallbackFailed" in report(answered(id_in(tx)), answered(neighbour)).events
    assert (status_of(id_in(tx)), status_of(neighbour)) == (CALLBACK_FAILED, FULFILLED)
    assert coordinator.earningsOf(model) == (payment + PRICE) * 3 // 10


def test_a_stranger_cannot_report(coordinator, stranger, ask):
    with reverts("NotOperator", stranger):
        coordinator.report([answered(ask())], {"from": stranger})


def test_alone_is_not_enough_where_two_must_sign(InferenceCoordinator, owner, signers):
    coordinator = owner.deploy(InferenceCoordinator, owner, signers, 2, CANCEL_WINDOW)
    with reverts("QuorumNotMet", 1, 2):
        coordinator.report([answered(b"\x11" * 32)], {"from": signers[0]})


def test_an_empty_report_is_refused(coordinator, operator):
    with reverts("EmptyReport"):
        coordinator.report([], {"from": operator})


def test_too_little_gas_for_a_callback_undoes_the_whole_report(
    RecordingConsumer, coordinator, model, owner, operator, deadline, status_of
):
    consumer = owner.deploy(RecordingConsumer, coordinator)
    payment = coordinator.quote(model, 2_000_000)
    tx = consumer.ask(model, make_cid("picture"), 2_000_000, deadline, {"from": owner, "value": payment})
    with brownie.reverts(revert_pattern="InsufficientGas: .*"):
        coordinator.report([answered(id_in(tx))], {"from": operator, "gas_limit": 500_000})
    assert status_of(id_in(tx)) == PENDING
