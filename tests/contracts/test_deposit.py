"""deposit: a person fills a balance once and asks from it later."""

from conftest import ETHER, PRICE


def test_ether_is_added_to_the_balance(coordinator, person):
    tx = coordinator.deposit({"from": person, "value": PRICE})
    coordinator.deposit({"from": person, "value": PRICE})
    assert dict(tx.events["Deposited"]) == {"token": ETHER, "account": person, "amount": PRICE}
    assert coordinator.balanceOf(ETHER, person) == 2 * PRICE
