"""setCallbackPrice, callbackPriceOf: what 10,000 gas of a callback cost, in each token."""

from conftest import ETHER, PRICE, reverts


def test_at_first_it_is_a_gwei_a_gas_and_nothing_is_sold_for_tokens(coordinator, token):
    assert coordinator.callbackPriceOf(ETHER) == 10_000
    assert coordinator.callbackPriceOf(token) == 0


def test_the_owner_changes_it_for_new_requests(coordinator, model, owner, ask):
    request_id = ask("picture", 10_000)
    before = coordinator.requestOf(request_id)["payment"]
    tx = coordinator.setCallbackPrice(ETHER, 20_000, {"from": owner})
    assert dict(tx.events["CallbackPriceSet"]) == {"token": ETHER, "price": 20_000}
    assert coordinator.quote(model, 10_000) == PRICE + 20_000 * 10**9
    assert coordinator.requestOf(request_id)["payment"] == before


def test_each_token_has_its_own(coordinator, token, owner):
    coordinator.setCallbackPrice(token, 7, {"from": owner})
    assert (coordinator.callbackPriceOf(token), coordinator.callbackPriceOf(ETHER)) == (7, 10_000)


def test_a_price_too_high_is_refused(coordinator, owner):
    with reverts("PriceNotRepresentable", 10_000_001):
        coordinator.setCallbackPrice(ETHER, 10_000_001, {"from": owner})


def test_only_the_owner_changes_it(coordinator, stranger):
    with reverts("OwnableUnauthorizedAccount", stranger):
        coordinator.setCallbackPrice(ETHER, 1, {"from": stranger})
