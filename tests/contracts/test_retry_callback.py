"""retryCallback: anyone delivers a callback that failed."""

import brownie
import pytest
from conftest import CALLBACK_FAILED, FULFILLED, answered, id_in, make_answer, make_cid, reverts, terms_in

CALLBACK_GAS = 100_000
RESULT, ANSWER = make_cid("result"), make_answer(7, 9876)


@pytest.fixture
def consumer(RevertingConsumer, coordinator, owner):
    """A contract whose callback reverts until it is calm."""
    return owner.deploy(RevertingConsumer, coordinator)


@pytest.fixture
def asked(coordinator, model, consumer, person, deadline, report):
    """The transaction of a request that was answered, but whose callback failed."""
    payment = coordinator.quote(model, CALLBACK_GAS)
    tx = consumer.ask(model, make_cid("picture"), CALLBACK_GAS, deadline, {"from": person, "value": payment})
    report(answered(id_in(tx)))
    return tx


def test_anyone_delivers_it_later(coordinator, consumer, owner, stranger, asked, status_of):
    consumer.setCalm(True, {"from": owner})
    tx = coordinator.retryCallback(consumer, terms_in(asked), RESULT, ANSWER, {"from": stranger})
    assert "CallbackRetried" in tx.events
    assert consumer.calls() == 1
    assert status_of(id_in(asked)) == FULFILLED


def test_it_is_delivered_once(coordinator, consumer, owner, stranger, asked):
    consumer.setCalm(True, {"from": owner})
    coordinator.retryCallback(consumer, terms_in(asked), RESULT, ANSWER, {"from": stranger})
    with reverts("NotRetriable", id_in(asked), FULFILLED):
        coordinator.retryCallback(consumer, terms_in(asked), RESULT, ANSWER, {"from": stranger})


def test_failing_again_leaves_it_retriable(coordinator, consumer, stranger, asked, status_of):
    with reverts("CallbackReverted", id_in(asked)):
        coordinator.retryCallback(consumer, terms_in(asked), RESULT, ANSWER, {"from": stranger})
    assert status_of(id_in(asked)) == CALLBACK_FAILED


def test_another_answer_is_refused(coordinator, consumer, stranger, asked):
    with reverts("ResultMismatch", id_in(asked)):
        coordinator.retryCallback(consumer, terms_in(asked), RESULT, make_answer(8, 9876), {"from": stranger})


def test_less_gas_than_was_paid_for_is_refused(coordinator, consumer, owner, stranger, asked, status_of):
    consumer.setCalm(True, {"from": owner})
    with brownie.reverts(revert_pattern="InsufficientGas: .*"):
        coordinator.retryCallback(consumer, terms_in(asked), RESULT, ANSWER, {"from": stranger, "gas_limit": 120_000})
    assert status_of(id_in(asked)) == CALLBACK_FAILED
