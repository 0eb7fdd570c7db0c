"""report: an operator settles requests."""

import brownie
from conftest import (
    CALLBACK_FAILED, FAILED, FULFILLED, IMAGE_UNREADABLE, NO_FAILURE, PENDING, PRICE, make_answer, make_cid,
)


def status_of(coordinator, request_id):
    return coordinator.requestOf(request_id)[5]


def test_an_answer_credits_publisher_and_operator(coordinator, payout, operator, ask, answer):
    answer(ask())
    assert coordinator.creditOf(payout) == PRICE * 3 // 10
    assert coordinator.creditOf(operator) == PRICE * 7 // 10


def test_an_answer_can_be_verified_later(coordinator, person, stranger, ask, answer):
    request_id = ask()
    answer(request_id)
    assert coordinator.verifyResult(request_id, person, make_cid("result"), make_answer(7, 9876))
    assert not coordinator.verifyResult(request_id, person, make_cid("result"), make_answer(8, 9876))
    assert not coordinator.verifyResult(request_id, stranger, make_cid("result"), make_answer(7, 9876))


def test_a_failure_gives_the_money_back_with_a_reason(coordinator, person, ask, fail):
    request_id = ask()
    before = person.balance()
    tx = fail(request_id)
    assert tx.events["InferenceFailed"]["reason"] == IMAGE_UNREADABLE
    assert person.balance() - before == PRICE
    assert status_of(coordinator, request_id) == FAILED
    assert coordinator.requestOf(request_id)[6] == IMAGE_UNREADABLE


def test_one_bad_item_leaves_its_neighbours_alone(coordinator, operator, ask):
    first, second = ask("first"), ask("second")
    answer = make_answer(1, 9000)
    items = [
        ("0x" + "11" * 32, NO_FAILURE, make_cid("result"), answer),
        (first, NO_FAILURE, b"no cid", answer),
        (second, NO_FAILURE, make_cid("result"), answer),
        (second, NO_FAILURE, make_cid("result"), answer),
    ]
    tx = coordinator.report(items, {"from": operator})
    assert [event["status"] for event in tx.events["FulfilmentSkipped"]] == [0, PENDING, FULFILLED]
    assert status_of(coordinator, first) == PENDING
    assert status_of(coordinator, second) == FULFILLED


def test_a_stranger_cannot_report(coordinator, stranger, ask):
    item = (ask(), NO_FAILURE, make_cid("result"), make_answer(7, 9876))
    with brownie.reverts(f"NotOperator: {stranger.address.lower()}"):
        coordinator.report([item], {"from": stranger})


def test_an_empty_report_is_refused(coordinator, operator):
    with brownie.reverts("EmptyReport: "):
        coordinator.report([], {"from": operator})


def test_a_failed_callback_is_recorded_and_can_be_retried(
    RevertingConsumer, coordinator, model, owner, person, stranger, deadline, answer
):
    consumer = owner.deploy(RevertingConsumer, coordinator)
    tx = consumer.ask(
        model, make_cid("picture"), 100_000, deadline,
        {"from": person, "value": coordinator.quote(model, 100_000)},
    )
    request_id = tx.events["InferenceRequested"]["requestId"]
    assert "CallbackFailed" in answer(request_id).events
    assert status_of(coordinator, request_id) == CALLBACK_FAILED

    consumer.setCalm(True, {"from": owner})
    coordinator.retryCallback(
        request_id, consumer, make_cid("result"), make_answer(7, 9876), {"from": stranger, "gas_limit": 500_000}
    )
    assert consumer.calls() == 1
    assert status_of(coordinator, request_id) == FULFILLED
