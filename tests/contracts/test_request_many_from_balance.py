"""requestManyFromBalance: several pictures, paid from the balance."""

import pytest
from conftest import ETHER, PRICE, ids_in, make_cid, reverts

PICTURES = [make_cid("first"), make_cid("second")]


@pytest.fixture(autouse=True)
def deposited(coordinator, person):
    coordinator.deposit({"from": person, "value": 3 * PRICE})


def test_the_balance_pays_for_all_of_them(coordinator, model, person, deadline):
    tx = coordinator.requestManyFromBalance(model, PICTURES, 0, deadline, 2 * PRICE, {"from": person})
    assert len(set(ids_in(tx))) == 2
    assert coordinator.balanceOf(ETHER, person) == PRICE


def test_the_maximum_is_that_of_all_together(coordinator, model, person, deadline):
    with reverts("PaymentAboveMaximum", 2 * PRICE, PRICE):
        coordinator.requestManyFromBalance(model, PICTURES, 0, deadline, PRICE, {"from": person})


def test_a_balance_too_low_is_refused(coordinator, model, person, deadline):
    with reverts("BalanceTooLow", ETHER, person, 3 * PRICE, 4 * PRICE):
        coordinator.requestManyFromBalance(model, 2 * PICTURES, 0, deadline, 4 * PRICE, {"from": person})


def test_no_picture_is_no_question(coordinator, model, person, deadline):
    with reverts("NothingAsked"):
        coordinator.requestManyFromBalance(model, [], 0, deadline, PRICE, {"from": person})
