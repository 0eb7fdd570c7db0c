"""requestFromBalance: a person who deposited once asks without sending money."""

import pytest
from conftest import CANCELLED, ETHER, PRICE, TOKEN_PRICE, id_in, make_cid, reverts, terms_in

PICTURE = make_cid("picture")


@pytest.fixture
def deposited(coordinator, person):
    coordinator.deposit({"from": person, "value": 5 * PRICE})


def test_the_balance_pays(coordinator, model, person, deadline, deposited):
    tx = coordinator.requestFromBalance(model, PICTURE, 0, deadline, PRICE, {"from": person})
    assert coordinator.requestOf(id_in(tx))["payment"] == PRICE
    assert coordinator.balanceOf(ETHER, person) == 4 * PRICE


def test_the_money_goes_back_to_the_balance(coordinator, model, person, deadline, deposited, status_of):
    tx = coordinator.requestFromBalance(model, PICTURE, 0, deadline, PRICE, {"from": person})
    before = person.balance()
    back = coordinator.cancel(terms_in(tx), {"from": person})
    assert status_of(id_in(tx)) == CANCELLED
    assert dict(back.events["Credited"]) == {"token": ETHER, "account": person, "amount": PRICE}
    assert coordinator.balanceOf(ETHER, person) == 5 * PRICE
    assert person.balance() == before


def test_a_balance_too_low_is_refused(coordinator, model, stranger, deadline):
    with reverts("BalanceTooLow", ETHER, stranger, 0, PRICE):
        coordinator.requestFromBalance(model, PICTURE, 0, deadline, PRICE, {"from": stranger})


def test_a_price_above_what_was_agreed_to_is_refused(coordinator, model, publisher, person, deadline, deposited):
    coordinator.setModelPrice(model, 2 * PRICE, {"from": publisher})
    with reverts("PaymentAboveMaximum", 2 * PRICE, PRICE):
        coordinator.requestFromBalance(model, PICTURE, 0, deadline, PRICE, {"from": person})


def test_a_balance_of_tokens_pays_for_a_model_priced_in_them(coordinator, token, token_model, holder, deadline):
    token.approve(coordinator, TOKEN_PRICE, {"from": holder})
    coordinator.depositToken(token, TOKEN_PRICE, {"from": holder})
    coordinator.requestFromBalance(token_model, PICTURE, 0, deadline, TOKEN_PRICE, {"from": holder})
    assert coordinator.balanceOf(token, holder) == 0
