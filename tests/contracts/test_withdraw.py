"""withdraw, balanceOf: money leaves a balance when its account says so."""

import pytest
from conftest import ETHER, PRICE, TOKEN_PRICE, answered, reverts


@pytest.fixture
def earned(ask, report):
    """The operator earned its share of one request."""
    report(answered(ask()))
    return PRICE * 7 // 10


def test_an_operator_withdraws_to_any_account(coordinator, operator, stranger, earned):
    before = stranger.balance()
    tx = coordinator.withdraw(ETHER, stranger, earned, {"from": operator})
    assert dict(tx.events["Withdrawn"]) == {"token": ETHER, "account": operator, "to": stranger, "amount": earned}
    assert stranger.balance() - before == earned
    assert coordinator.balanceOf(ETHER, operator) == 0


def test_a_part_can_be_taken(coordinator, operator, earned):
    coordinator.withdraw(ETHER, operator, 1, {"from": operator})
    assert coordinator.balanceOf(ETHER, operator) == earned - 1


def test_nothing_can_be_withdrawn_twice(coordinator, operator, earned):
    coordinator.withdraw(ETHER, operator, earned, {"from": operator})
    with reverts("BalanceTooLow", ETHER, operator, 0, earned):
        coordinator.withdraw(ETHER, operator, earned, {"from": operator})


def test_an_operator_who_withdrew_everything_is_still_one(coordinator, operator, earned, ask, report):
    coordinator.withdraw(ETHER, operator, earned, {"from": operator})
    assert coordinator.isOperator(operator)
    report(answered(ask("another")))
    assert coordinator.balanceOf(ETHER, operator) == earned


def test_tokens_go_the_same_way(coordinator, token, holder, stranger):
    token.approve(coordinator, TOKEN_PRICE, {"from": holder})
    coordinator.depositToken(token, TOKEN_PRICE, {"from": holder})
    coordinator.withdraw(token, stranger, TOKEN_PRICE, {"from": holder})
    assert token.balanceOf(stranger) == TOKEN_PRICE
    assert coordinator.balanceOf(token, holder) == 0


def test_money_is_not_sent_to_nobody(coordinator, operator, earned):
    with reverts("ZeroAddress"):
        coordinator.withdraw(ETHER, ETHER, earned, {"from": operator})


def test_a_receiver_that_takes_no_ether_leaves_the_balance_whole(
    EtherRefuser, coordinator, owner, operator, earned
):
    refuser = owner.deploy(EtherRefuser, coordinator)
    with reverts("TransferFailed", refuser, earned):
        coordinator.withdraw(ETHER, refuser, earned, {"from": operator})
    assert coordinator.balanceOf(ETHER, operator) == earned
