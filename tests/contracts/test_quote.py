"""quote: what asking costs now."""

from conftest import ETHER, PRICE, TOKEN_PRICE, reverts

GWEI = 10**9


def test_without_a_callback_it_is_the_models_price(coordinator, model, token_model):
    assert coordinator.quote(model, 0) == PRICE
    assert coordinator.quote(token_model, 0) == TOKEN_PRICE


def test_callback_gas_is_rounded_up_to_ten_thousand_and_costs_a_gwei_each(coordinator, model):
    assert coordinator.quote(model, 1) == PRICE + 10_000 * GWEI
    assert coordinator.quote(model, 10_001) == PRICE + 20_000 * GWEI


def test_a_callback_in_a_token_is_sold_once_the_owner_has_priced_it(coordinator, token, token_model, owner):
    with reverts("CallbackNotSold", token):
        coordinator.quote(token_model, 10_000)
    coordinator.setCallbackPrice(token, 5, {"from": owner})
    assert coordinator.quote(token_model, 20_000) == TOKEN_PRICE + 10 * GWEI


def test_more_callback_gas_than_can_be_granted_is_refused(coordinator, model):
    with reverts("CallbackGasTooHigh", 2_550_001, 2_550_000):
        coordinator.quote(model, 2_550_001)


def test_an_unknown_model_has_no_price(coordinator, model):
    with reverts("UnknownModel", 0):
        coordinator.quote(0, 0)


def test_an_ether_callback_can_be_given_away(coordinator, model, owner):
    coordinator.setCallbackPrice(ETHER, 0, {"from": owner})
    assert coordinator.quote(model, 10_000) == PRICE
