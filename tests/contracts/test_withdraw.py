"""withdraw: operators and publishers fetch what they earned."""

import brownie
from conftest import PRICE


def test_a_publisher_withdraws_to_any_account(coordinator, payout, stranger, ask, answer):
    answer(ask())
    before = stranger.balance()
    tx = coordinator.withdraw(stranger, {"from": payout})
    assert tx.events["Withdrawn"]["amount"] == PRICE * 3 // 10
    assert stranger.balance() - before == PRICE * 3 // 10
    assert coordinator.creditOf(payout) == 0


def test_nothing_can_be_withdrawn_twice(coordinator, operator, stranger, ask, answer):
    answer(ask())
    coordinator.withdraw(stranger, {"from": operator})
    with brownie.reverts(f"NothingToWithdraw: {operator.address.lower()}"):
        coordinator.withdraw(stranger, {"from": operator})
